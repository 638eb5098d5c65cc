#include "common.cuh"

// Convolution of few channels without columns. A block holds a padded image (channels, ph, pw) in shared memory, and a
// thread the sums of FILTERS filters, so that an element read serves FILTERS products. x (images, channels, height,
// width), w (count, channels, kh, kw), out (images, count, oh, ow); element (0, 0) of x lies at (top, left) of the padded
// image. Floor of each: e (|x| + |out|) bytes, 2 |out| channels kh kw FLOPs.

#define GEOMETRY                                                                                            \
  index_t channels, index_t height, index_t width, index_t ph, index_t pw, index_t count, index_t kh, index_t kw, \
      index_t oh, index_t ow, index_t sh, index_t sw, index_t top, index_t left, index_t dh, index_t dw

#define PLACES 2  // that a thread works at

// The image padded with zeros; every thread of the block writes a part.
__device__ __forceinline__ void pad(A* padded, const T* __restrict__ image, index_t channels, index_t height,
                                    index_t width, index_t ph, index_t pw, index_t top, index_t left) {
  const index_t thread = threadIdx.y * blockDim.x + threadIdx.x, threads = blockDim.x * blockDim.y;
  for (index_t e = thread; e < channels * ph * pw; e += threads) {
    const index_t z = e % pw - left, y = e / pw % ph - top, c = e / pw / ph;
    const bool inside = y >= 0 && y < height && z >= 0 && z < width;
    padded[e] = inside ? to_A(image[(c * height + y) * width + z]) : A(0);
  }
}

// The cross-correlation plus bias; with `turned`, that of the adjoint: w (channels, count, kh, kw) is read backwards.
// A block takes one image and FILTERS filters, a thread PLACES places.
extern "C" __global__ void forward(const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ bias,
                                   T* __restrict__ out, GEOMETRY, int turned) {
  DYNAMIC_SHARED(A, filters);  // (channels kh kw, FILTERS), then the padded image
  const index_t taps = kh * kw, all = channels * taps, groups = (count + FILTERS - 1) / FILTERS;
  const index_t image = blockIdx.x / groups, first = blockIdx.x % groups * FILTERS;
  A* padded = filters + all * FILTERS;
  for (index_t e = threadIdx.x; e < all * FILTERS; e += blockDim.x) {
    const index_t o = first + e % FILTERS, t = e / FILTERS, c = t / taps, tap = t % taps;
    const index_t at = turned ? (c * count + o) * taps + taps - 1 - tap : o * all + t;
    filters[e] = o < count ? to_A(w[at]) : A(0);
  }
  pad(padded, x + image * channels * height * width, channels, height, width, ph, pw, top, left);
  __syncthreads();
  for (index_t start = threadIdx.x; start < oh * ow; start += PLACES * blockDim.x) {
    A sums[PLACES][FILTERS];
    index_t corner[PLACES];
    for (int s = 0; s < PLACES; s++) {
      const index_t p = start + s * blockDim.x < oh * ow ? start + s * blockDim.x : start;
      corner[s] = p / ow * sh * pw + p % ow * sw;
      for (int f = 0; f < FILTERS; f++) sums[s][f] = bias && first + f < count ? to_A(bias[first + f]) : A(0);
    }
    const A* weights = filters;
    for (index_t c = 0; c < channels; c++)
      for (index_t i = 0; i < kh; i++)
        for (index_t j = 0; j < kw; j++, weights += FILTERS) {
          const A* under = padded + (c * ph + i * dh) * pw + j * dw;
          for (int s = 0; s < PLACES; s++) {
            const A v = under[corner[s]];
            for (int f = 0; f < FILTERS; f++) sums[s][f] += v * weights[f];
          }
        }
    for (int s = 0; s < PLACES; s++)
      if (start + s * blockDim.x < oh * ow)
        for (int f = 0; f < FILTERS; f++)
          if (first + f < count)
            out[(image * count + first + f) * oh * ow + start + s * blockDim.x] = to_T(sums[s][f]);
  }
}

// Shares of the adjoint with respect to w: shares (blocks, parts, count, channels kh kw), to be summed over the first two.
// A block takes FILTERS filters and every blocks-th image; threadIdx.x a tap of the filters, threadIdx.y a part of the
// places, each (parts)-th.
extern "C" __global__ void weight(const T* __restrict__ x, const T* __restrict__ g, A* __restrict__ shares, GEOMETRY,
                                  index_t images, index_t blocks) {
  DYNAMIC_SHARED(A, cotangents);  // (oh ow, FILTERS), then the padded image
  const index_t places = oh * ow, all = channels * kh * kw, groups = (count + FILTERS - 1) / FILTERS;
  const index_t block = blockIdx.x / groups, first = blockIdx.x % groups * FILTERS;
  const index_t tap = threadIdx.x, thread = threadIdx.y * blockDim.x + threadIdx.x, threads = blockDim.x * blockDim.y;
  A* padded = cotangents + places * FILTERS;
  const A* under = padded + (tap / kw / kh * ph + tap / kw % kh * dh) * pw + tap % kw * dw;
  A sums[FILTERS] = {};
  for (index_t image = block; image < images; image += blocks) {
    for (index_t e = thread; e < places * FILTERS; e += threads) {
      const index_t o = first + e / places, p = e % places;
      cotangents[p * FILTERS + e / places] = o < count ? to_A(g[(image * count + o) * places + p]) : A(0);
    }
    pad(padded, x + image * channels * height * width, channels, height, width, ph, pw, top, left);
    __syncthreads();
    for (index_t p = threadIdx.y; p < places; p += blockDim.y) {
      const A v = under[p / ow * sh * pw + p % ow * sw];
      for (int f = 0; f < FILTERS; f++) sums[f] += v * cotangents[p * FILTERS + f];
    }
    __syncthreads();
  }
  for (int f = 0; f < FILTERS; f++)
    if (first + f < count) shares[((block * blockDim.y + threadIdx.y) * count + first + f) * all + tap] = sums[f];
}
