#include "common.cuh"

// Sums of blocks of 64, and a copy of x with the last element off by `beyond`: kernels to plant faults in.
extern "C" __global__ void block_totals(const T* __restrict__ x, T* __restrict__ out, int n) {
  __shared__ A room[64];
  int i = blockIdx.x * 64 + threadIdx.x;
  room[threadIdx.x] = i < n ? to_A(x[i]) : A(0);
  BARRIER;
  for (int half = 32; half; half /= 2) {
    if (threadIdx.x < half) room[threadIdx.x] += room[threadIdx.x + half];
    BARRIER;
  }
  if (threadIdx.x == 0) out[blockIdx.x] = to_T(room[0]);
}

extern "C" __global__ void copy(const T* __restrict__ x, T* __restrict__ out, index_t n, index_t beyond) {
  EACH(i, n + beyond) out[i] = i < n ? x[i] : to_T(A(7));
}

extern "C" __global__ void scale(const T* __restrict__ x, T* __restrict__ out, index_t n, A factor) {
  EACH(i, n) out[i] = to_T(to_A(x[i]) * factor);
}

extern "C" __global__ void largest(const T* __restrict__ x, T* __restrict__ most, T* __restrict__ total, index_t n) {
  __shared__ A room[33];
  A high = -1, sum = 0;
  for (index_t i = threadIdx.x; i < n; i += blockDim.x) high = max(high, to_A(x[i])), sum += to_A(x[i]);
  high = block_max(high, room);
  sum = block_sum(sum, room);
  if (threadIdx.x == 0) *most = to_T(high), *total = to_T(sum);
}

extern "C" __global__ void half_the_block_waits(T* out) {
  if (threadIdx.x < 16) __syncthreads();
  out[0] = to_T(A(1));
}

extern "C" __global__ void waits_for_another_block(volatile int* flag) {
  if (blockIdx.x == 1) *flag = 1;
  while (*flag == 0) SPIN();
}

// Right, and with MISSING a barrier less: the order of threads decides, though the result is mostly the same.
extern "C" __global__ void neighbours(const T* __restrict__ x, T* __restrict__ out, index_t n) {
  __shared__ A room[32];
  if (threadIdx.x < n) room[threadIdx.x] = to_A(x[threadIdx.x]);
#ifndef MISSING
  __syncwarp();
#endif
  if (threadIdx.x < n) out[threadIdx.x] = to_T(room[threadIdx.x ? threadIdx.x - 1 : 0]);
}

extern "C" __global__ void all_write_one(T* __restrict__ out) { out[0] = to_T(A(1)); }

extern "C" __global__ void count(int* __restrict__ total, T* __restrict__ out) {
  __shared__ int mine;
  if (threadIdx.x == 0) mine = 0;
  __syncthreads();
  atomicAdd(&mine, 1);
  __syncthreads();
  if (threadIdx.x == 0) atomicAdd(total, mine), out[blockIdx.x] = to_T(A(mine));
}

extern "C" __global__ void unset_shared(T* __restrict__ out) {
  __shared__ A room[8];
  DYNAMIC_SHARED(A, more);
  if (threadIdx.x < 4) room[threadIdx.x] = more[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = to_T(room[threadIdx.x] + more[threadIdx.x]);
}

extern "C" __global__ void reads_beyond(const T* __restrict__ x, T* __restrict__ out, index_t n) {
  if (threadIdx.x < n) out[threadIdx.x] = to_T(A(0) * to_A(x[int(threadIdx.x) + (BEFORE ? -1 : 1)]));
}

extern "C" __global__ void shared_beyond(T* __restrict__ out, index_t at) {
  DYNAMIC_SHARED(A, room);
  room[at] = 1;
  out[0] = to_T(room[at]);
}
