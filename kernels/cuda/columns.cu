#include "common.cuh"

// Patches of images with the channels last. x (images, height, width, channels); columns (groups, positions, K) with
// positions = images rows ow and K = kh kw channels / groups: the patch under each output, ready for one matrix product.
// UNIT is what a thread moves at a time: Pack (16 bytes) where channels / groups is a multiple of it, else T.

#define PATCHES                                                                                                \
  index_t positions, index_t rows, index_t ow, index_t first, index_t height, index_t width, index_t channels, \
      index_t groups, index_t kh, index_t kw, index_t sh, index_t sw, index_t top, index_t left, index_t dh, index_t dw

static constexpr index_t SPAN = sizeof(UNIT) / sizeof(T);

struct Totals {
  A item[SPAN];
};

__device__ __forceinline__ const T* elements(const UNIT& unit) { return reinterpret_cast<const T*>(&unit); }

// Whether `at` = t / stride is a whole number in 0 .. count - 1.
__device__ __forceinline__ bool divides(index_t t, index_t stride, index_t count, index_t& at) {
  at = stride == 1 ? t : t / stride;
  return t >= 0 && at * stride == t && at < count;
}

// Patches of the output's rows first .. first + rows of each image. A block takes one row of outputs, threadIdx.x the
// units of a patch (so that a warp writes neighbours), threadIdx.y the outputs: nothing is divided in the inner loop.
// Floor: e (|x| + |columns|) bytes.
extern "C" __global__ void im2col(const T* __restrict__ x, T* __restrict__ columns, PATCHES) {
  const index_t depth = channels / groups / SPAN, patch = kh * kw * depth;
  const index_t image = blockIdx.x / rows, row = blockIdx.x % rows;
  for (index_t u = threadIdx.x; u < groups * patch; u += blockDim.x) {
    const index_t group = u / patch, within = u % patch, tap = within / depth;
    const index_t y = (first + row) * sh - top + tap / kw * dh, z = tap % kw * dw - left;
    const UNIT* source = reinterpret_cast<const UNIT*>(x) + group * depth + within % depth;
    UNIT* target = reinterpret_cast<UNIT*>(columns) + (group * positions + blockIdx.x * ow) * patch + within;
    const bool inside = y >= 0 && y < height;
    for (index_t q = threadIdx.y; q < ow; q += blockDim.y) {
      const index_t at = q * sw + z;
      UNIT unit = {};
      if (inside && at >= 0 && at < width) unit = source[((image * height + y) * width + at) * (groups * depth)];
      target[q * patch] = unit;
    }
  }
}

// The adjoint: each element of rows start .. start + lines of out (images, height, width, channels) gathers what the
// patches hold for it, in a fixed order; rows before `seen` hold a sum already and are added to. A block takes one row
// of inputs, threadIdx.x the channels, threadIdx.y the columns. Floor: e (|columns| + |out|) bytes.
extern "C" __global__ void col2im(const T* __restrict__ columns, T* __restrict__ out, PATCHES, index_t start,
                                  index_t lines, index_t seen) {
  const index_t depth = channels / groups / SPAN, patch = kh * kw * depth;
  const index_t image = blockIdx.x / lines, y = start + blockIdx.x % lines;
  for (index_t u = threadIdx.x; u < groups * depth; u += blockDim.x) {
    const UNIT* source = reinterpret_cast<const UNIT*>(columns) + (u / depth * positions + image * rows * ow) * patch;
    UNIT* target = reinterpret_cast<UNIT*>(out) + (image * height + y) * width * (groups * depth) + u;
    for (index_t z = threadIdx.y; z < width; z += blockDim.y) {
      UNIT* place = target + z * (groups * depth);
      Totals total = {};
      if (y < seen)
        for (index_t k = 0; k < SPAN; k++) total.item[k] = to_A(elements(*place)[k]);
      for (index_t i = 0; i < kh; i++) {
        index_t r, q;
        if (!divides(y + top - i * dh - first * sh, sh, rows, r)) continue;
        for (index_t j = 0; j < kw; j++) {
          if (!divides(z + left - j * dw, sw, ow, q)) continue;
          const UNIT unit = source[(r * ow + q) * patch + (i * kw + j) * depth + u % depth];
          for (index_t k = 0; k < SPAN; k++) total.item[k] += to_A(elements(unit)[k]);
        }
      }
      UNIT sum;
      for (index_t k = 0; k < SPAN; k++) reinterpret_cast<T*>(&sum)[k] = to_T(total.item[k]);
      *place = sum;
    }
  }
}
