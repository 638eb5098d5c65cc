#include "common.cuh"
#include "activation.cuh"

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

// FILTERS filters from `first` on as (channels kh kw, FILTERS); with `turned`, those of the adjoint: w (channels, count,
// kh, kw) is read backwards. The threads of a row of the block write.
__device__ __forceinline__ void load(A* filters, const T* __restrict__ w, index_t first, index_t count,
                                     index_t channels, index_t taps, int turned) {
  const index_t all = channels * taps;
  for (index_t e = threadIdx.x; e < all * FILTERS; e += blockDim.x) {
    const index_t o = first + e % FILTERS, t = e / FILTERS, c = t / taps, tap = t % taps;
    const index_t at = turned ? (c * count + o) * taps + taps - 1 - tap : o * all + t;
    filters[e] = o < count ? to_A(w[at]) : A(0);
  }
}

// The cross-correlation plus bias at the places whose windows begin at the corners.
template <int COUNT>
__device__ __forceinline__ void correlate(A (&sums)[COUNT][FILTERS], const index_t (&corner)[COUNT], const A* weights,
                                          const A* padded, const T* __restrict__ bias, index_t first, index_t count,
                                          index_t channels, index_t ph, index_t pw, index_t kh, index_t kw, index_t dh,
                                          index_t dw) {
  for (int s = 0; s < COUNT; s++)
    for (int f = 0; f < FILTERS; f++) sums[s][f] = bias && first + f < count ? to_A(bias[first + f]) : A(0);
  for (index_t c = 0; c < channels; c++)
    for (index_t i = 0; i < kh; i++)
      for (index_t j = 0; j < kw; j++, weights += FILTERS) {
        const A* under = padded + (c * ph + i * dh) * pw + j * dw;
        for (int s = 0; s < COUNT; s++) {
          const A v = under[corner[s]];
          for (int f = 0; f < FILTERS; f++) sums[s][f] += v * weights[f];
        }
      }
}

// The cross-correlation plus bias, through an activation. A block takes one image and FILTERS filters, a thread PLACES
// places.
extern "C" __global__ void forward(const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ bias,
                                   T* __restrict__ out, GEOMETRY, int turned, int kind) {
  DYNAMIC_SHARED(A, filters);  // (channels kh kw, FILTERS), then the padded image
  const index_t all = channels * kh * kw, groups = (count + FILTERS - 1) / FILTERS;
  const index_t image = blockIdx.x / groups, first = blockIdx.x % groups * FILTERS;
  A* padded = filters + all * FILTERS;
  load(filters, w, first, count, channels, kh * kw, turned);
  pad(padded, x + image * channels * height * width, channels, height, width, ph, pw, top, left);
  __syncthreads();
  for (index_t start = threadIdx.x; start < oh * ow; start += PLACES * blockDim.x) {
    A sums[PLACES][FILTERS];
    index_t corner[PLACES];
    for (int s = 0; s < PLACES; s++) {
      const index_t p = start + s * blockDim.x < oh * ow ? start + s * blockDim.x : start;
      corner[s] = p / ow * sh * pw + p % ow * sw;
    }
    correlate(sums, corner, filters, padded, bias, first, count, channels, ph, pw, kh, kw, dh, dw);
    for (int s = 0; s < PLACES; s++)
      if (start + s * blockDim.x < oh * ow)
        for (int f = 0; f < FILTERS; f++)
          if (first + f < count)
            out[(image * count + first + f) * oh * ow + start + s * blockDim.x] = to_T(activated(kind, sums[s][f]));
  }
}

// The same through a pooling over windows 2 x 2 side by side: the largest, whose number goes to `places`, or, where
// `places` is null, the mean, and the activation's result to `whole` (images, count, oh, ow); a rest that fills no
// window is left out. out (images, count, oh / 2, ow / 2). A thread takes a window; threadIdx.y has FILTERS filters each.
extern "C" __global__ void forward_pooled(const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ bias,
                                          T* __restrict__ out, unsigned char* __restrict__ places,
                                          T* __restrict__ whole, GEOMETRY, int kind) {
  DYNAMIC_SHARED(A, filters);  // (blockDim.y, channels kh kw, FILTERS), then the padded image
  const index_t all = channels * kh * kw, of_block = FILTERS * blockDim.y, groups = (count + of_block - 1) / of_block;
  const index_t image = blockIdx.x / groups, first = blockIdx.x % groups * of_block + threadIdx.y * FILTERS;
  A* padded = filters + all * of_block;
  A* weights = filters + threadIdx.y * all * FILTERS;
  load(weights, w, first, count, channels, kh * kw, 0);
  pad(padded, x + image * channels * height * width, channels, height, width, ph, pw, top, left);
  __syncthreads();
  const index_t across = ow / 2, windows = oh / 2 * across;
  for (index_t p = threadIdx.x; p < windows; p += blockDim.x) {
    const index_t row = p / across * 2, column = p % across * 2;
    A sums[4][FILTERS];
    index_t corner[4];
    for (int s = 0; s < 4; s++) corner[s] = (row + s / 2) * sh * pw + (column + s % 2) * sw;
    correlate(sums, corner, weights, padded, bias, first, count, channels, ph, pw, kh, kw, dh, dw);
    for (int f = 0; f < FILTERS; f++) {
      if (first + f >= count) continue;
      const index_t plane = image * count + first + f;
      if (places) {
        A best = sums[0][f];
        int place = 0;
        for (int s = 1; s < 4; s++)
          if (sums[s][f] > best || (sums[s][f] != sums[s][f] && best == best)) best = sums[s][f], place = s;
        out[plane * windows + p] = to_T(activated(kind, best));
        places[plane * windows + p] = static_cast<unsigned char>(place);
      } else {
        A total = 0;
        for (int s = 0; s < 4; s++) {
          const T value = to_T(activated(kind, sums[s][f]));
          whole[(plane * oh + row + s / 2) * ow + column + s % 2] = value;
          total += to_A(value);
        }
        out[plane * windows + p] = to_T(total / 4);
      }
    }
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
