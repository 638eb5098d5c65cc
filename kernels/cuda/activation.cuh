// The activations that may follow a product, by number, and their slopes at their results.
#pragma once

__device__ __forceinline__ A logistic(A x) {
  const A e = exp(-fabs(x));
  return (x >= 0 ? A(1) : e) / (1 + e);
}

enum { NO_ACTIVATION, RELU, TANH, SIGMOID };

__device__ __forceinline__ A activated(int kind, A x) {
  if (kind == RELU) return x < 0 ? A(0) : x;
  if (kind == TANH) return tanh(x);
  return kind == SIGMOID ? logistic(x) : x;
}

__device__ __forceinline__ A slope(int kind, A y) {
  if (kind == RELU) return y > 0 ? A(1) : A(0);
  if (kind == TANH) return 1 - y * y;
  return y * (1 - y);
}
