#include "common.cuh"
#include "activation.cuh"

// Elementwise functions of up to three dense arrays: 16 bytes at a time where both ends are aligned, a scalar tail.
// Floor: each array read or written once, by 4096 threads or more.

template <class F> __device__ void map_one(const T* __restrict__ x, T* __restrict__ out, index_t n, F f) {
  const index_t packs = aligned(x) && aligned(out) ? n / Pack::size : 0;
  EACH(i, packs) {
    Pack a = reinterpret_cast<const Pack*>(x)[i];
    for (int k = 0; k < Pack::size; k++) a.item[k] = to_T(f(to_A(a.item[k])));
    reinterpret_cast<Pack*>(out)[i] = a;
  }
  EACH(j, n - packs * Pack::size) {
    const index_t i = packs * Pack::size + j;
    out[i] = to_T(f(to_A(x[i])));
  }
}

template <class F>
__device__ void map_two(const T* __restrict__ x, const T* __restrict__ y, T* __restrict__ out, index_t n, F f) {
  const index_t packs = aligned(x) && aligned(y) && aligned(out) ? n / Pack::size : 0;
  EACH(i, packs) {
    Pack a = reinterpret_cast<const Pack*>(x)[i], b = reinterpret_cast<const Pack*>(y)[i];
    for (int k = 0; k < Pack::size; k++) a.item[k] = to_T(f(to_A(a.item[k]), to_A(b.item[k])));
    reinterpret_cast<Pack*>(out)[i] = a;
  }
  EACH(j, n - packs * Pack::size) {
    const index_t i = packs * Pack::size + j;
    out[i] = to_T(f(to_A(x[i]), to_A(y[i])));
  }
}

template <class F>
__device__ void map_three(const T* __restrict__ x, const T* __restrict__ y, const T* __restrict__ z,
                          T* __restrict__ out, index_t n, F f) {
  const index_t packs = aligned(x) && aligned(y) && aligned(z) && aligned(out) ? n / Pack::size : 0;
  EACH(i, packs) {
    Pack a = reinterpret_cast<const Pack*>(x)[i], b = reinterpret_cast<const Pack*>(y)[i];
    const Pack c = reinterpret_cast<const Pack*>(z)[i];
    for (int k = 0; k < Pack::size; k++) a.item[k] = to_T(f(to_A(a.item[k]), to_A(b.item[k]), to_A(c.item[k])));
    reinterpret_cast<Pack*>(out)[i] = a;
  }
  EACH(j, n - packs * Pack::size) {
    const index_t i = packs * Pack::size + j;
    out[i] = to_T(f(to_A(x[i]), to_A(y[i]), to_A(z[i])));
  }
}

#define ONE(name, formula)                                                                                     \
  extern "C" __global__ void name##_of(const T* __restrict__ x, T* __restrict__ out, index_t n, A p, A q) {    \
    map_one(x, out, n, [=](A x) -> A { return formula; });                                                     \
  }
#define TWO(name, formula)                                                                                      \
  extern "C" __global__ void name##_of(const T* __restrict__ g, const T* __restrict__ x, T* __restrict__ out,  \
                                       index_t n, A p, A q) {                                                   \
    map_two(g, x, out, n, [=](A g, A x) -> A { return formula; });                                              \
  }
#define THREE(name, formula)                                                                                    \
  extern "C" __global__ void name##_of(const T* __restrict__ g, const T* __restrict__ x, const T* __restrict__ y, \
                                       T* __restrict__ out, index_t n, A p, A q) {                              \
    map_three(g, x, y, out, n, [=](A g, A x, A y) -> A { return formula; });                                    \
  }

__device__ __forceinline__ A softplus(A x) { return fmax(x, A(0)) + log1p(exp(-fabs(x))); }
__device__ __forceinline__ A normal_below(A x) { return A(0.5) * (1 + erf(x * A(0.70710678118654752440))); }
__device__ __forceinline__ A below(A x) { return x > 0 ? A(0) : x; }
__device__ __forceinline__ A sign(A x) { return x > 0 ? A(1) : x < 0 ? A(-1) : x; }
__device__ __forceinline__ A silu_slope(A x, A s) { return s * (1 + x * (1 - s)); }
__device__ __forceinline__ A smooth_l1(A d, A beta) {
  return fabs(d) < beta ? d * d * (A(0.5) / beta) : fabs(d) - A(0.5) * beta;
}
__device__ __forceinline__ A normal_density(A x) { return exp(A(-0.5) * x * x) * A(0.39894228040143267794); }

ONE(erf, erf(x))
ONE(sigmoid, logistic(x))
ONE(logsigmoid, fmin(x, A(0)) - log1p(exp(-fabs(x))))
ONE(softplus, x * p > q ? x : softplus(x * p) / p)
ONE(silu, x * logistic(x))
ONE(gelu, x * normal_below(x))
TWO(relu_backward, x > 0 ? g : A(0))
TWO(tanh_backward, g * (1 - x * x))
TWO(sigmoid_backward, g * (x * (1 - x)))
TWO(gelu_backward, g * (normal_below(x) + x * normal_density(x)))
ONE(relu, x <= 0 ? A(0) : x)
ONE(leaky_relu, x > 0 ? x : x * p)
ONE(elu, x < 0 ? expm1(x) * p : x)
ONE(rsqrt, 1 / sqrt(x))
TWO(absolute_backward, g * sign(x))
TWO(rsqrt_backward, g * (x * x * (x * A(-0.5))))
TWO(leaky_relu_backward, x > 0 ? g : g * p)
TWO(clip_backward, x >= p && x <= q ? g : A(0))
TWO(elu_backward, x > 0 ? g : g * (exp(below(x)) * p))
TWO(logsigmoid_backward, g * logistic(-x))
TWO(softplus_backward, x * p > q ? g : g * logistic(x * p))
TWO(silu_backward, g * silu_slope(x, logistic(x)))
TWO(squared_error, (g - x) * (g - x))
TWO(smooth_l1, smooth_l1(g - x, p))
TWO(binary_cross_entropy, (1 - x) * g + softplus(-g))
THREE(squared_error_backward, g * ((x - y) * 2))
THREE(smooth_l1_backward, g * (fabs(x - y) < p ? (x - y) / p : sign(x - y)))
THREE(binary_cross_entropy_backward, g * (logistic(x) - y))
