#include "common.cuh"

// Sequences and filters with the channels last: rows (images, length, channels), filters (count, k, channels), so that a
// window of k positions is `size` = k channels neighbours. places (images, count) says where each filter's window starts;
// one outside 0 .. last gives NaN and takes part in no sum.

// Whether value v at i comes before `best` at `at`: the largest, NaN above all, the first of equals.
__device__ __forceinline__ bool precedes(A v, index_t i, A best, index_t at) {
  const bool v_nan = v != v, best_nan = best != best;
  if (v_nan || best_nan) return v_nan && (!best_nan || i < at);
  return v > best || (v == best && i < at);
}

// The largest over i < windows of the sums of taps (images, length, k, count) along their diagonals [i + j, j], plus bias.
// A block of 32 x 8 takes 32 filters of an image; each threadIdx.y every eighth window. Floor: e |taps| bytes.
extern "C" __global__ void largest(const T* __restrict__ taps, const T* __restrict__ bias, T* __restrict__ out,
                                   long long* __restrict__ places, index_t length, index_t k, index_t count) {
  __shared__ A values[8][32];
  __shared__ index_t starts[8][32];
  const index_t groups = (count + 31) / 32, image = blockIdx.x / groups;
  const index_t filter = blockIdx.x % groups * 32 + threadIdx.x, windows = length - k + 1;
  A best = -INFINITE;
  index_t at = windows;
  if (filter < count)
    for (index_t i = threadIdx.y; i < windows; i += 8) {
      A v = 0;
      for (index_t j = 0; j < k; j++) v += to_A(taps[((image * length + i + j) * k + j) * count + filter]);
      if (precedes(v, i, best, at)) best = v, at = i;
    }
  values[threadIdx.y][threadIdx.x] = best;
  starts[threadIdx.y][threadIdx.x] = at;
  __syncthreads();
  if (threadIdx.y || filter >= count) return;
  for (int other = 1; other < 8; other++) {
    const A v = values[other][threadIdx.x];
    const index_t i = starts[other][threadIdx.x];
    if (precedes(v, i, best, at)) best = v, at = i;
  }
  out[image * count + filter] = to_T(bias ? best + to_A(bias[filter]) : best);
  places[image * count + filter] = at;
}

// out[n, o] = the product of filter o with its window: a warp each. Floor: e size (images count + count) bytes.
extern "C" __global__ void products(const T* __restrict__ rows, const T* __restrict__ filters,
                                    const long long* __restrict__ places, T* __restrict__ out, index_t images,
                                    index_t length, index_t channels, index_t count, index_t size) {
  const index_t lane = threadIdx.x % 32, warps = static_cast<index_t>(gridDim.x) * blockDim.x / 32;
  const index_t last = length - size / channels;
  for (index_t i = (static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32; i < images * count; i += warps) {
    const bool inside = places[i] >= 0 && places[i] <= last;
    const T* window = rows + (i / count * length + (inside ? static_cast<index_t>(places[i]) : 0)) * channels;
    const T* taps = filters + i % count * size;
    A total = 0;
    for (index_t q = lane; q < size; q += 32) total += to_A(window[q]) * to_A(taps[q]);
    total = warp_sum(total);
    if (lane == 0) out[i] = to_T(inside ? total : NOT_A_NUMBER);
  }
}

// out[n, l] = the sum of g[n, o] filters[o, l - places[n, o]] over the filters whose window covers l, in their order. A
// block takes one position, its threads the channels: all agree on which filters. Floor: e |out| bytes.
extern "C" __global__ void add_filters(const T* __restrict__ g, const T* __restrict__ filters,
                                       const long long* __restrict__ places, T* __restrict__ out, index_t length,
                                       index_t channels, index_t count, index_t size) {
  const index_t image = blockIdx.x / length, l = blockIdx.x % length, last = length - size / channels;
  for (index_t c = threadIdx.x; c < channels; c += blockDim.x) {
    A total = 0;
    for (index_t o = 0; o < count; o++) {
      const long long place = places[image * count + o], within = (l - place) * channels;
      const A scale = to_A(g[image * count + o]);
      if (place >= 0 && place <= last && within >= 0 && within < size && scale != 0)
        total += scale * to_A(filters[o * size + static_cast<index_t>(within) + c]);
    }
    out[static_cast<index_t>(blockIdx.x) * channels + c] = to_T(total);
  }
}

// out[o] = the sum of g[n, o] and the window that places[n, o] starts, over the images in their order: a thread for each
// element of a filter. Floor: e |g| size bytes.
extern "C" __global__ void add_windows(const T* __restrict__ g, const T* __restrict__ rows,
                                       const long long* __restrict__ places, T* __restrict__ out, index_t images,
                                       index_t length, index_t channels, index_t count, index_t size) {
  const index_t last = length - size / channels;
  EACH(i, count * size) {
    const index_t o = i / size, q = i % size;
    A total = 0;
    for (index_t n = 0; n < images; n++) {
      const long long place = places[n * count + o];
      const A scale = to_A(g[n * count + o]);
      if (place >= 0 && place <= last && scale != 0)
        total += scale * to_A(rows[(n * length + static_cast<index_t>(place)) * channels + q]);
    }
    out[i] = to_T(total);
  }
}
