// What every kernel file starts with. Files are compiled once per dtype, with these types set by runtime.py:
//   T        the elements': float, double, __half, __nv_bfloat16
//   A        that of sums and formulas: double for double, else float
//   index_t  int, or long long where an array has 2^31 elements or more
#pragma once

#ifndef ON_HOST
#define DYNAMIC_SHARED(type, name)              \
  extern __shared__ __align__(16) char shared_bytes[]; \
  type* name = reinterpret_cast<type*>(shared_bytes)
#define SPIN()
#endif

// What long sums are added in: float32 in double, for a GPU reads far fewer numbers than it can add.
#ifdef HALF_HEADERS
typedef float Wide;
#else
typedef double Wide;
#endif

__device__ __forceinline__ float widened(float x) { return x; }
__device__ __forceinline__ double widened(double x) { return x; }
#ifdef HALF_HEADERS
__device__ __forceinline__ float widened(__half x) { return __half2float(x); }
__device__ __forceinline__ float widened(__nv_bfloat16 x) { return __bfloat162float(x); }
#endif

__device__ __forceinline__ A to_A(T x) { return widened(x); }

template <class To> struct Narrow {
  template <class From> static __device__ __forceinline__ To from(From x) { return static_cast<To>(x); }
};
#ifdef HALF_HEADERS
template <> struct Narrow<__half> {
  static __device__ __forceinline__ __half from(float x) { return __float2half_rn(x); }
};
template <> struct Narrow<__nv_bfloat16> {
  static __device__ __forceinline__ __nv_bfloat16 from(float x) { return __float2bfloat16_rn(x); }
};
#endif

#define INFINITE static_cast<A>(__int_as_float(0x7f800000))
#define NOT_A_NUMBER static_cast<A>(__int_as_float(0x7fffffff))

__device__ __forceinline__ T to_T(A x) { return Narrow<T>::from(x); }

// A grid-stride loop: threads of all blocks take i, i + the number of threads, …, below n.
#define EACH(i, n)                                                                        \
  for (index_t i = static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < (n); \
       i += static_cast<index_t>(gridDim.x) * blockDim.x)

// The lines of all planes, over threadIdx.y and the grid, and the columns of one, over threadIdx.x.
#define EACH_LINE(line, n)                                                                               \
  for (index_t line = static_cast<index_t>(blockIdx.x) * blockDim.y + threadIdx.y; line < (n); \
       line += static_cast<index_t>(gridDim.x) * blockDim.y)
#define EACH_COLUMN(c, n) for (int c = threadIdx.x; c < (n); c += blockDim.x)

// 16 bytes of elements, moved by one instruction.
struct __align__(16) Pack {
  static constexpr int size = 16 / sizeof(T);
  T item[size];
};

__device__ __forceinline__ bool aligned(const void* p) { return (reinterpret_cast<unsigned long long>(p) & 15) == 0; }

// A number given by the host, or by the device where a captured graph must see it change.
__device__ __forceinline__ double number(double given, const double* at) { return at ? *at : given; }

// Reductions of a warp and of a block, in a fixed order; every thread of the block must call them.
__device__ __forceinline__ A warp_sum(A x) {
  for (int d = 16; d; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
  return x;
}

__device__ __forceinline__ A warp_max(A x) {
  for (int d = 16; d; d /= 2) {
    A y = __shfl_xor_sync(0xffffffffu, x, d);
    x = (x > y || x != x) ? x : y;
  }
  return x;
}

// The sum over the block, given to every thread; `room` has 33 elements of shared memory, for these functions alone.
__device__ __forceinline__ A block_sum(A x, A* room) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = (blockDim.x + 31) / 32;
  x = warp_sum(x);
  if (lane == 0) room[warp] = x;
  __syncthreads();
  if (warp == 0) {
    A total = warp_sum(lane < warps ? room[lane] : A(0));
    if (lane == 0) room[32] = total;
  }
  __syncthreads();
  return room[32];
}

__device__ __forceinline__ A block_max(A x, A* room) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = (blockDim.x + 31) / 32;
  x = warp_max(x);
  if (lane == 0) room[warp] = x;
  __syncthreads();
  if (warp == 0) {
    A most = warp_max(lane < warps ? room[lane] : room[0]);
    if (lane == 0) room[32] = most;
  }
  __syncthreads();
  return room[32];
}
