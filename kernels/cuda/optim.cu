#include "common.cuh"

// Optimiser updates in place over a list of parameters in one launch: each block takes CHUNK elements of one of them,
// 16 bytes of each of its arrays at a time where all are aligned, then a scalar tail.
// Hyper-parameters come in double. Floor: gradients read, states read and written once.

#define MANY 64
#define SLOTS 4

// optim.py's _LISTS: the addresses of each parameter's states (null where there is none) and gradient, its size, and the
// first of its blocks. 3328 of the 4096 bytes that a launch can pass by value: nothing is copied to the GPU beforehand.
struct Lists {
  T* states[SLOTS][MANY];
  const T* grad[MANY];
  long long size[MANY];
  int first_block[MANY];
};

constexpr int CHUNK = 1024 * Pack::size;

template <int WIDTH> struct alignas(WIDTH * sizeof(T)) Piece { T item[WIDTH]; };

// f(s, g) changes s[0 … SLOTS - 1] at the gradient g, in elements first … last - 1. What is a null pointer is 0 before
// and lost after.
template <int WIDTH, class F>
__device__ __forceinline__ void update_pieces(T* const (&states)[SLOTS], const T* grad, int first, int last, F f) {
  typedef Piece<WIDTH> P;
  for (int i = first + static_cast<int>(threadIdx.x) * WIDTH; i < last; i += blockDim.x * WIDTH) {
    P held[SLOTS] = {};
    const P g = *reinterpret_cast<const P*>(grad + i);
#pragma unroll
    for (int s = 0; s < SLOTS; s++)
      if (states[s]) held[s] = *reinterpret_cast<const P*>(states[s] + i);
#pragma unroll
    for (int k = 0; k < WIDTH; k++) {
      A now[SLOTS];
#pragma unroll
      for (int s = 0; s < SLOTS; s++) now[s] = to_A(held[s].item[k]);
      f(now, to_A(g.item[k]));
#pragma unroll
      for (int s = 0; s < SLOTS; s++) held[s].item[k] = to_T(now[s]);
    }
#pragma unroll
    for (int s = 0; s < SLOTS; s++)
      if (states[s]) *reinterpret_cast<P*>(states[s] + i) = held[s];
  }
}

// The elements of this block: `count` from `start` of parameter `which`.
struct Part {
  int which, count;
  long long start;
};

__device__ __forceinline__ Part part_of(const Lists& lists) {
  int which = 0;
#pragma unroll
  for (int k = 1; k < MANY; k++) which += static_cast<int>(blockIdx.x) >= lists.first_block[k];
  const long long start = static_cast<long long>(blockIdx.x - lists.first_block[which]) * CHUNK;
  const long long left = lists.size[which] - start;
  return {which, static_cast<int>(left < CHUNK ? left : CHUNK), start};
}

template <class F> __device__ __forceinline__ void update(const Lists& lists, F f) {
  const auto [which, count, start] = part_of(lists);
  const T* grad = lists.grad[which] + start;
  T* states[SLOTS];
  bool wide = aligned(grad);
#pragma unroll
  for (int s = 0; s < SLOTS; s++) {
    states[s] = lists.states[s][which] ? lists.states[s][which] + start : nullptr;
    wide = wide && aligned(states[s]);
  }
  const int packed = wide ? count / Pack::size * Pack::size : 0;
  update_pieces<Pack::size>(states, grad, 0, packed, f);
  update_pieces<1>(states, grad, packed, count, f);
}

// y, of which a share is taken: 0 for none of it, since 0 times an infinity is NaN.
__device__ __forceinline__ A used(A y, A share) { return share != 0 ? y : share; }

// The gradient to follow.
__device__ __forceinline__ A direction(A sign, A g, A decay, A param) { return sign * g + decay * used(param, decay); }

extern "C" __global__ void sgd(Lists lists, double lr_given, const double* lr_at, double sign, double decay,
                               double momentum, double take, index_t nesterov, index_t first) {
  const A lr = number(lr_given, lr_at), turn = sign, pull = decay, keep = momentum, add = take;
  update(lists, [=](A* s, A g) {
    const A d = direction(turn, g, pull, s[0]);
    s[1] = (first ? A(0) : keep * s[1]) + add * d;
    s[0] -= lr * (nesterov ? d + keep * s[1] : s[1]);
  });
}

extern "C" __global__ void adam(Lists lists, double lr_given, const double* lr_at, double step_given,
                                const double* step_at, double sign, double beta1, double beta2, double eps,
                                double weight_decay, index_t decoupled) {
  __shared__ A rates[3];
  if (threadIdx.x == 0) {  // powers in double: slow on most GPUs, so once a block
    const double lr = number(lr_given, lr_at), step = number(step_given, step_at);
    rates[0] = decoupled ? 1 - lr * weight_decay : 1;
    rates[1] = lr / (1 - pow(beta1, step));
    rates[2] = 1 / sqrt(1 - pow(beta2, step));
  }
  __syncthreads();
  const A shrink = rates[0], rate = rates[1], root = rates[2], turn = sign, pull = decoupled ? 0 : weight_decay;
  const A take1 = 1 - beta1, keep2 = beta2, take2 = 1 - beta2, least = eps;
  update(lists, [=](A* s, A g) {
    const A d = direction(turn, g, pull, s[0]);
    s[1] += take1 * (d - s[1]);
    s[2] = keep2 * s[2] + take2 * d * d;
    s[3] = s[3] > s[2] ? s[3] : s[2];
    s[0] = shrink * s[0] - rate * s[1] / (sqrt(s[3]) * root + least);
  });
}

extern "C" __global__ void adagrad(Lists lists, double lr_given, const double* lr_at, double sign, double decay,
                                   double eps) {
  const A lr = number(lr_given, lr_at), turn = sign, pull = decay, least = eps;
  update(lists, [=](A* s, A g) {
    const A d = direction(turn, g, pull, s[0]);
    s[1] += d * d;
    s[0] -= lr * d / (sqrt(s[1]) + least);
  });
}

extern "C" __global__ void adadelta(Lists lists, double lr_given, const double* lr_at, double sign, double decay,
                                    double rho, double eps) {
  const A lr = number(lr_given, lr_at), turn = sign, pull = decay, keep = rho, take = 1 - rho, more = eps;
  update(lists, [=](A* s, A g) {
    const A d = direction(turn, g, pull, s[0]);
    s[1] = keep * s[1] + take * d * d;
    const A delta = sqrt(s[2] + more) / sqrt(s[1] + more) * d;
    s[2] = keep * s[2] + take * delta * delta;
    s[0] -= lr * delta;
  });
}

extern "C" __global__ void rmsprop(Lists lists, double lr_given, const double* lr_at, double sign, double decay,
                                   double momentum, double alpha, double eps) {
  const A lr = number(lr_given, lr_at), turn = sign, pull = decay, carry = momentum, least = eps;
  const A keep = alpha, take = 1 - alpha;
  const bool centred = lists.states[3][0];
  update(lists, [=](A* s, A g) {
    const A d = direction(turn, g, pull, s[0]);
    s[1] = keep * s[1] + take * d * d;
    if (centred) s[3] += take * (d - s[3]);
    s[2] = carry * s[2] + d / (sqrt(s[1] - s[3] * s[3]) + least);
    s[0] -= lr * s[2];
  });
}

// ---- the norm of all gradients ---------------------------------------------------------------------------------------

extern "C" __global__ void clip(Lists lists, const double* norm, double most) {
  const double share = most / (*norm + 1e-6);
  const A scale = share > 1 ? 1 : share;
  update(lists, [=](A* s, A g) { s[0] = g * scale; });
}

// The sum over a block of 256 threads, in a fixed order, for thread 0.
__device__ double total_of_block(double x) {
  __shared__ double room[256];
  room[threadIdx.x] = x;
  for (int half = 128; half; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) room[threadIdx.x] += room[threadIdx.x + half];
  }
  return threadIdx.x == 0 ? room[0] : 0;
}

// parts[block] = the sum of the squares of the block's elements.
extern "C" __global__ void squares(Lists lists, double* __restrict__ parts) {
  const auto [which, count, start] = part_of(lists);
  const T* grad = lists.grad[which] + start;
  const int packs = aligned(grad) ? count / Pack::size : 0;
  double total = 0;
  for (int i = threadIdx.x; i < packs; i += blockDim.x) {
    const Pack p = reinterpret_cast<const Pack*>(grad)[i];
#pragma unroll
    for (int k = 0; k < Pack::size; k++) total += static_cast<double>(to_A(p.item[k])) * to_A(p.item[k]);
  }
  for (int i = packs * Pack::size + threadIdx.x; i < count; i += blockDim.x)
    total += static_cast<double>(to_A(grad[i])) * to_A(grad[i]);
  total = total_of_block(total);
  if (threadIdx.x == 0) parts[blockIdx.x] = total;
}

extern "C" __global__ void root_of_sum(const double* __restrict__ parts, T* __restrict__ out, index_t n) {
  double total = 0;
  for (index_t i = threadIdx.x; i < n; i += blockDim.x) total += parts[i];
  total = total_of_block(total);
  if (threadIdx.x == 0) *out = to_T(sqrt(total));
}
