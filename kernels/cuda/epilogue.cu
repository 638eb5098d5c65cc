#include "common.cuh"
#include "activation.cuh"

// What follows a product: an activation and a pooling over windows (kh, kw) side by side, (oh, ow) of them to a plane
// (H, W); a rest that fills no window is left out. Floor: each array read or written once.

// x through the activation, in place.
extern "C" __global__ void activate(T* x, index_t n, int kind) {
  const index_t packs = aligned(x) ? n / Pack::size : 0;
  EACH(i, packs) {
    Pack a = reinterpret_cast<Pack*>(x)[i];
    for (int k = 0; k < Pack::size; k++) a.item[k] = to_T(activated(kind, to_A(a.item[k])));
    reinterpret_cast<Pack*>(x)[i] = a;
  }
  EACH(j, n - packs * Pack::size) {
    const index_t i = packs * Pack::size + j;
    x[i] = to_T(activated(kind, to_A(x[i])));
  }
}

// The largest of each window, then the activation, and its number in the window: of equals the first, NaN wins.
extern "C" __global__ void largest(const T* __restrict__ x, T* __restrict__ out, unsigned char* __restrict__ places,
                                   index_t planes, int height, int width, int oh, int ow, int kh, int kw, int kind) {
  EACH_LINE(line, planes * oh) {
    const T* rows = x + (line / oh * height + line % oh * kh) * width;
    EACH_COLUMN(c, ow) {
      A best = to_A(rows[c * kw]);
      int place = 0;
      for (int y = 0; y < kh; y++)
        for (int z = 0; z < kw; z++) {
          const A v = to_A(rows[y * width + c * kw + z]);
          if (v > best || (v != v && best == best)) best = v, place = y * kw + z;
        }
      out[line * ow + c] = to_T(activated(kind, best));
      places[line * ow + c] = static_cast<unsigned char>(place);
    }
  }
}

// x through the activation, in place, and the means of the windows.
extern "C" __global__ void mean(T* x, T* __restrict__ out, index_t planes, int height, int width, int oh, int ow,
                                int kh, int kw, int kind) {
  EACH_LINE(line, planes * oh) {
    T* rows = x + (line / oh * height + line % oh * kh) * width;
    EACH_COLUMN(c, ow) {
      A total = 0;
      for (int y = 0; y < kh; y++)
        for (int z = 0; z < kw; z++) {
          T& element = rows[y * width + c * kw + z];
          element = to_T(activated(kind, to_A(element)));
          total += to_A(element);
        }
      out[line * ow + c] = to_T(total / (kh * kw));
    }
  }
}

// The adjoint of `largest`: g times the slope at out, at the places of the largest, and 0 elsewhere.
extern "C" __global__ void to_largest(const T* __restrict__ g, const T* __restrict__ out,
                                      const unsigned char* __restrict__ places, T* __restrict__ into, index_t planes,
                                      int height, int width, int oh, int ow, int kh, int kw, int kind) {
  EACH_LINE(line, planes * height) {
    const int y = line % height, r = y / kh;
    const index_t window = (line / height * oh + r) * ow;
    EACH_COLUMN(x, width) {
      const int c = x / kw;
      const bool here = r < oh && c < ow && places[window + c] == y % kh * kw + x % kw;
      into[line * width + x] = to_T(here ? to_A(g[window + c]) * slope(kind, to_A(out[window + c])) : A(0));
    }
  }
}

// The adjoint of `mean`: each window's share of g times the slope at the activation's result.
extern "C" __global__ void to_all(const T* __restrict__ g, const T* __restrict__ result, T* __restrict__ into,
                                  index_t planes, int height, int width, int oh, int ow, int kh, int kw, int kind) {
  EACH_LINE(line, planes * height) {
    const int r = line % height / kh;
    const index_t window = (line / height * oh + r) * ow;
    EACH_COLUMN(x, width) {
      const int c = x / kw;
      const index_t at = line * width + x;
      into[at] = to_T(r < oh && c < ow ? to_A(g[window + c]) / (kh * kw) * slope(kind, to_A(result[at])) : A(0));
    }
  }
}

#define ACROSS 8  // columns of a block: 32 bytes in float32, which memory moves at a time
#define DOWN 64

// The adjoint of an activation, of matrices (m, n), and its sums over the rows. A block takes ACROSS columns.
extern "C" __global__ void rows(const T* __restrict__ g, const T* __restrict__ out, T* __restrict__ into,
                                T* __restrict__ sums, index_t m, index_t n, int kind) {
  __shared__ Wide room[DOWN * ACROSS];
  const index_t column = static_cast<index_t>(blockIdx.x) * ACROSS + threadIdx.x;
  Wide total = 0;
  if (column < n)
    for (index_t row = threadIdx.y; row < m; row += DOWN) {
      const T value = to_T(to_A(g[row * n + column]) * slope(kind, to_A(out[row * n + column])));
      into[row * n + column] = value;
      total += to_A(value);
    }
  room[threadIdx.y * ACROSS + threadIdx.x] = total;
  for (int half = DOWN / 2; half; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half) room[threadIdx.y * ACROSS + threadIdx.x] += room[(threadIdx.y + half) * ACROSS + threadIdx.x];
  }
  if (threadIdx.y == 0 && column < n) sums[column] = to_T(static_cast<A>(room[threadIdx.x]));
}
