#include "common.cuh"

// Sums into chosen places without atomics: each place adds what is meant for it, in the order of the sources.

// out[b, r, j] = the sum of src[b, i, j] over the i with index[i] == r; src (before, n, after), out (before, size, after).
// A warp looks through the index for one r and adds 32 COLUMNS columns. Work: size · n comparisons, from cache.
#define COLUMNS 4
extern "C" __global__ void add_by_search(const T* __restrict__ src, const long long* __restrict__ index,
                                         T* __restrict__ out, index_t before, index_t n, index_t size, index_t after) {
  const index_t lane = threadIdx.x % 32, warps = static_cast<index_t>(gridDim.x) * blockDim.x / 32;
  const index_t groups = (after + 32 * COLUMNS - 1) / (32 * COLUMNS);
  for (index_t w = (static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32; w < before * size * groups;
       w += warps) {
    const index_t first = w % groups * 32 * COLUMNS + lane, r = w / groups % size, b = w / groups / size;
    A total[COLUMNS] = {};
    for (index_t start = 0; start < n; start += 32) {
      const index_t i = start + lane;
      unsigned found = __ballot_sync(0xffffffffu, i < n && index[i] == r);
      while (found) {
        const index_t k = start + __ffs(found) - 1;
        found &= found - 1;
        for (int c = 0; c < COLUMNS; c++)
          if (first + 32 * c < after) total[c] += to_A(src[(b * n + k) * after + first + 32 * c]);
      }
    }
    for (int c = 0; c < COLUMNS; c++)
      if (first + 32 * c < after) out[(b * size + r) * after + first + 32 * c] = to_T(total[c]);
  }
}

// The same with the sources sorted: those of r are order[starts[r]] … order[starts[r + 1] - 1]. Floor: src and out once.
extern "C" __global__ void add_segments(const T* __restrict__ src, const long long* __restrict__ order,
                                        const long long* __restrict__ starts, T* __restrict__ out, index_t before,
                                        index_t n, index_t size, index_t after) {
  EACH(i, before * size * after) {
    const index_t j = i % after, r = i / after % size, b = i / after / size;
    A total = 0;
    for (long long k = starts[r]; k < starts[r + 1]; k++)
      total += to_A(src[(b * n + static_cast<index_t>(order[k])) * after + j]);
    out[i] = to_T(total);
  }
}

// out[o, r, j] = the sum of src[o, i, j] over the i with index[o, i, j] == r; src, index (outer, n, inner), out (outer,
// size, inner). A thread per place looks through its line: work outer · size · inner · n, neighbours read neighbours.
extern "C" __global__ void add_along(const T* __restrict__ src, const long long* __restrict__ index,
                                     T* __restrict__ out, index_t outer, index_t n, index_t size, index_t inner) {
  EACH(i, outer * size * inner) {
    const index_t j = i % inner, r = i / inner % size, o = i / inner / size;
    A total = 0;
    for (index_t k = 0; k < n; k++) {
      const index_t at = (o * n + k) * inner + j;
      if (index[at] == r) total += to_A(src[at]);
    }
    out[i] = to_T(total);
  }
}
