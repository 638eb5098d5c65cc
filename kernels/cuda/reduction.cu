#include "common.cuh"

// Sums in a fixed order without atomics. A long sum is cut into chunks, whose sums are summed by another launch.
// Floor: the input read once.

template <class V> __device__ __forceinline__ Wide warp_total(V x) {
  for (int d = 16; d; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
  return x;
}

// out[row, c] = the sum of chunk c of row `row` of x (rows, n). A warp each, lanes side by side.
template <class From, class To>
__device__ void row_chunks(const From* __restrict__ x, To* __restrict__ out, index_t rows, index_t n, index_t chunk) {
  const index_t chunks = (n + chunk - 1) / chunk, lane = threadIdx.x % 32;
  const index_t warps = static_cast<index_t>(gridDim.x) * blockDim.x / 32;
  for (index_t w = (static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32; w < rows * chunks; w += warps) {
    const index_t row = w / chunks, first = w % chunks * chunk, last = min(n, first + chunk);
    Wide total = 0;
    for (index_t i = first + lane; i < last; i += 32) total += widened(x[row * n + i]);
    total = warp_total(total);
    if (lane == 0) out[w] = Narrow<To>::from(total);
  }
}

// out[o, c, j] = the sum of chunk c of column j of x[o] (outer, m, inner). A thread each, neighbours in j.
template <class From, class To>
__device__ void column_chunks(const From* __restrict__ x, To* __restrict__ out, index_t outer, index_t m, index_t inner,
                              index_t chunk) {
  const index_t chunks = (m + chunk - 1) / chunk;
  EACH(i, outer * chunks * inner) {
    const index_t j = i % inner, c = i / inner % chunks, o = i / (inner * chunks);
    const index_t first = c * chunk, last = min(m, first + chunk);
    Wide total = 0;
    for (index_t r = first; r < last; r++) total += widened(x[(o * m + r) * inner + j]);
    out[i] = Narrow<To>::from(total);
  }
}

#define ROWS(name, From, To)                                                                                        \
  extern "C" __global__ void name(const From* __restrict__ x, To* __restrict__ out, index_t rows, index_t n,       \
                                  index_t chunk) {                                                                 \
    row_chunks(x, out, rows, n, chunk);                                                                            \
  }
#define COLUMNS(name, From, To)                                                                                     \
  extern "C" __global__ void name(const From* __restrict__ x, To* __restrict__ out, index_t outer, index_t m,      \
                                  index_t inner, index_t chunk) {                                                  \
    column_chunks(x, out, outer, m, inner, chunk);                                                                 \
  }

ROWS(rows_to_parts, T, Wide)
ROWS(rows_to_sums, T, T)
ROWS(row_parts_to_parts, Wide, Wide)
ROWS(row_parts_to_sums, Wide, T)
COLUMNS(columns_to_parts, T, Wide)
COLUMNS(columns_to_sums, T, T)
COLUMNS(column_parts_to_parts, Wide, Wide)
COLUMNS(column_parts_to_sums, Wide, T)
