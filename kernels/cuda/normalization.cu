#include "rows.cuh"

// Batch and layer normalisation. Statistics are those of (x - the first element), added in double (float for 16 bits):
// one reading of x gives mean and variance without cancellation.
// Floor: forward x read, the result written; backward g and x read, the result written.
#ifdef HALF_HEADERS
typedef float Wide;
#else
typedef double Wide;
#endif

__device__ __forceinline__ Wide warp_total(Wide x) {
  for (int d = 16; d; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
  return x;
}
__device__ Wide team_total(Wide x, Wide* room) {
  if (TEAM == 1) return x;
  x = warp_total(x);
  if (TEAM == 32) return x;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (lane == 0) room[warp] = x;
  __syncthreads();
  x = warp_total(lane < static_cast<int>(blockDim.x) / 32 ? room[lane] : Wide(0));
  __syncthreads();
  return x;
}

// ---- layers: rows (rows, n) -----------------------------------------------------------------------------------------

extern "C" __global__ void layer_norm(const T* __restrict__ x, const T* __restrict__ weight, const T* __restrict__ bias,
                                      T* __restrict__ out, T* __restrict__ mean, T* __restrict__ rstd, index_t rows,
                                      index_t n, A eps) {
  __shared__ Wide room[32];
  EACH_ROW(r) {
    const T* row = x + r * n;
    const Wide origin = widened(row[0]);
    Wide sum = 0, square = 0;
    EACH_ELEMENT(j) {
      const Wide v = widened(row[j]) - origin;
      sum += v, square += v * v;
    }
    sum = team_total(sum, room) / n, square = team_total(square, room) / n;
    const Wide variance = square - sum * sum;
    const A centre = origin + sum, scale = 1 / sqrt((variance < 0 ? Wide(0) : variance) + Wide(eps));
    if (FIRST_OF_TEAM) mean[r] = to_T(centre), rstd[r] = to_T(scale);
    EACH_ELEMENT(j) {
      const A v = (to_A(row[j]) - centre) * scale * (weight ? to_A(weight[j]) : A(1));
      out[r * n + j] = to_T(v + (bias ? to_A(bias[j]) : A(0)));
    }
  }
}

extern "C" __global__ void layer_norm_backward(const T* __restrict__ g, const T* __restrict__ x,
                                               const T* __restrict__ weight, const T* __restrict__ mean,
                                               const T* __restrict__ rstd, T* __restrict__ gx, index_t rows,
                                               index_t n) {
  __shared__ Wide room[32];
  EACH_ROW(r) {
    const A centre = to_A(mean[r]), scale = to_A(rstd[r]);
    Wide total = 0, along = 0;
    EACH_ELEMENT(j) {
      const A slope = to_A(g[r * n + j]) * (weight ? to_A(weight[j]) : A(1));
      total += slope, along += slope * ((to_A(x[r * n + j]) - centre) * scale);
    }
    const A shift = team_total(total, room) / n, tilt = team_total(along, room) / n;
    EACH_ELEMENT(j) {
      const A slope = to_A(g[r * n + j]) * (weight ? to_A(weight[j]) : A(1));
      gx[r * n + j] = to_T((slope - shift - (to_A(x[r * n + j]) - centre) * scale * tilt) * scale);
    }
  }
}

// parts (chunks, 2, n): of each chunk of rows, the sums of g (x - mean) rstd and of g. A thread per column and chunk.
extern "C" __global__ void layer_norm_parts(const T* __restrict__ g, const T* __restrict__ x,
                                            const T* __restrict__ mean, const T* __restrict__ rstd,
                                            Wide* __restrict__ parts, index_t rows, index_t n, index_t chunk) {
  const index_t chunks = (rows + chunk - 1) / chunk;
  EACH(i, chunks * n) {
    const index_t j = i % n, k = i / n;
    Wide along = 0, total = 0;
    for (index_t r = k * chunk; r < min(rows, (k + 1) * chunk); r++) {
      const A slope = to_A(g[r * n + j]);
      along += slope * ((to_A(x[r * n + j]) - to_A(mean[r])) * to_A(rstd[r])), total += slope;
    }
    parts[(2 * k) * n + j] = along, parts[(2 * k + 1) * n + j] = total;
  }
}

// ---- batches: channels of x (batch, channels, plane) ------------------------------------------------------------------

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
