#include "common.cuh"

// What is round the kernel `cross_entropy` of softmax.cu when it reduces: the divisor before, the sum and the scale after.

// parts[block]: the weight of the targets that count, of those the block looked at. Floor: the targets read.
extern "C" __global__ void count(const long long* __restrict__ target, const T* __restrict__ weight,
                                 A* __restrict__ parts, index_t rows, index_t n, long long ignored) {
  __shared__ A room[33];
  A sum = 0;
  EACH(r, rows) {
    const long long t = target[r];
    if (t != ignored) sum += weight && t >= 0 && t < n ? to_A(weight[t]) : A(1);
  }
  sum = block_sum(sum, room);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// out = what all blocks' losses add up to, divided by the sum of `parts` where there are any. One block.
extern "C" __global__ void total(const A* __restrict__ sums, const A* __restrict__ parts, T* __restrict__ out,
                                 index_t blocks, index_t count) {
  __shared__ A room[33];
  A sum = 0;
  EACH(i, blocks) sum += sums[i];
  sum = block_sum(sum, room);
  if (parts) sum /= block_sum(threadIdx.x < count ? parts[threadIdx.x] : A(0), room);
  if (threadIdx.x == 0) out[0] = to_T(sum);
}

// x *= factor, in place. Floor: the factor read where it is 1, as in most training steps; else x read and written.
extern "C" __global__ void multiply(T* __restrict__ x, const T* __restrict__ factor, index_t n) {
  const A f = to_A(*factor);
  if (f == 1) return;
  const index_t packs = aligned(x) ? n / Pack::size : 0, rest = packs * Pack::size;
  EACH(i, packs) {
    Pack p = reinterpret_cast<Pack*>(x)[i];
#pragma unroll
    for (int k = 0; k < Pack::size; k++) p.item[k] = to_T(to_A(p.item[k]) * f);
    reinterpret_cast<Pack*>(x)[i] = p;
  }
  EACH(i, n - rest) x[rest + i] = to_T(to_A(x[rest + i]) * f);
}
