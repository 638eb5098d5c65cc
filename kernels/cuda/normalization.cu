#include "common.cuh"

// Batch normalisation of x (batch, channels, plane). Statistics are those of (x - the first element), added in double
// (float for 16 bits): one reading of x gives mean and variance without cancellation.
// Floor: forward x read twice (once where it stays in the cache), the result written; backward g and x twice.
#ifdef HALF_HEADERS
typedef float Wide;
#else
typedef double Wide;
#endif

__device__ __forceinline__ Wide warp_total(Wide x) {
  for (int d = 16; d; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
  return x;
}

// parts (channels, chunks, 2): of each chunk of a channel, the sums of x - origin and its square, or (with g) of g and
// g (x - mean). A warp each. Chunks are of a channel's batch · plane elements.
extern "C" __global__ void batch_norm_parts(const T* __restrict__ g, const T* __restrict__ x,
                                            const T* __restrict__ mean, Wide* __restrict__ parts, index_t batch,
                                            index_t channels, index_t plane, index_t chunk) {
  const index_t count = batch * plane, chunks = (count + chunk - 1) / chunk, lane = threadIdx.x % 32;
  const index_t warps = static_cast<index_t>(gridDim.x) * blockDim.x / 32;
  for (index_t w = (static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32; w < channels * chunks; w += warps) {
    const index_t c = w / chunks, first = w % chunks * chunk, last = min(count, first + chunk);
    const Wide origin = widened(g ? mean[c] : x[c * plane]);
    Wide one = 0, two = 0;
    for (index_t i = first + lane; i < last; i += 32) {
      const index_t at = (i / plane * channels + c) * plane + i % plane;
      const Wide v = widened(x[at]) - origin, slope = g ? Wide(widened(g[at])) : v;
      one += slope, two += slope * v;
    }
    one = warp_total(one), two = warp_total(two);
    if (lane == 0) parts[2 * w] = one, parts[2 * w + 1] = two;
  }
}

extern "C" __global__ void batch_norm_finish(const T* __restrict__ x, const Wide* __restrict__ parts,
                                             T* __restrict__ mean, T* __restrict__ var, T* __restrict__ rstd,
                                             index_t channels, index_t plane, index_t chunks, A count, A eps) {
  EACH(c, channels) {
    Wide sum = 0, square = 0;
    for (index_t k = 0; k < chunks; k++) sum += parts[2 * (c * chunks + k)], square += parts[2 * (c * chunks + k) + 1];
    sum /= count, square /= count;
    const Wide variance = square - sum * sum, positive = variance < 0 ? Wide(0) : variance;
    mean[c] = to_T(widened(x[c * plane]) + sum), var[c] = to_T(positive), rstd[c] = to_T(1 / sqrt(positive + Wide(eps)));
  }
}

extern "C" __global__ void batch_norm(const T* __restrict__ x, const T* __restrict__ weight, const T* __restrict__ bias,
                                      const T* __restrict__ mean, const T* __restrict__ rstd, T* __restrict__ out,
                                      index_t n, index_t channels, index_t plane) {
  EACH(i, n) {
    const index_t c = i / plane % channels;
    const A scale = to_A(rstd[c]) * (weight ? to_A(weight[c]) : A(1));
    out[i] = to_T((to_A(x[i]) - to_A(mean[c])) * scale + (bias ? to_A(bias[c]) : A(0)));
  }
}

extern "C" __global__ void batch_norm_gradients(const Wide* __restrict__ parts, const T* __restrict__ rstd,
                                                T* __restrict__ gweight, T* __restrict__ gbias, index_t channels,
                                                index_t chunks) {
  EACH(c, channels) {
    Wide total = 0, along = 0;
    for (index_t k = 0; k < chunks; k++) total += parts[2 * (c * chunks + k)], along += parts[2 * (c * chunks + k) + 1];
    gweight[c] = to_T(along * widened(rstd[c])), gbias[c] = to_T(total);
  }
}

extern "C" __global__ void batch_norm_backward(const T* __restrict__ g, const T* __restrict__ x,
                                               const T* __restrict__ weight, const T* __restrict__ mean,
                                               const T* __restrict__ rstd, const T* __restrict__ gweight,
                                               const T* __restrict__ gbias, T* __restrict__ gx, index_t n,
                                               index_t channels, index_t plane, A count) {
  EACH(i, n) {
    const index_t c = i / plane % channels;
    const A scale = to_A(rstd[c]), normal = (to_A(x[i]) - to_A(mean[c])) * scale;
    const A slope = to_A(g[i]) - (to_A(gbias[c]) + normal * to_A(gweight[c])) / count;
    gx[i] = to_T(slope * scale * (weight ? to_A(weight[c]) : A(1)));
  }
}
