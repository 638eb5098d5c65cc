#include "common.cuh"

// Pooling over planes (planes, H, W). threadIdx.x and its block's width run along a line of the result, threadIdx.y and
// the grid over the lines of all planes, so that one division serves a line. The windows of an axis are given by int arrays of starts and stops; `reach` gives,
// for each row of the plane, the first and the end of the windows that may cover it. Backward gathers: each element of
// the input adds what its windows have for it, in their order. Floor: the input read and the result written once.

// The largest element of each window and its flat place; the first of equals wins, NaN wins over numbers.
extern "C" __global__ void max_of_windows(const T* __restrict__ x, T* __restrict__ out, long long* __restrict__ places,
                                          const int* __restrict__ rows, const int* __restrict__ columns, index_t planes,
                                          int height, int width, int oh, int ow, int row_step, int column_step) {
  EACH_LINE(line, planes * oh) {
    const int r = line % oh, begin = rows[r], end = rows[oh + r];
    const T* plane = x + line / oh * height * width;
    EACH_COLUMN(c, ow) {
      const int left = columns[c], right = columns[ow + c];
      int best = begin * width + left;
      A top = to_A(plane[best]);
      for (int y = begin; y < end; y += row_step)
        for (int at = y * width + left; at < y * width + right; at += column_step) {
          const A v = to_A(plane[at]);
          if (v > top || (v != v && top == top)) top = v, best = at;
        }
      out[line * ow + c] = plane[best];
      places[line * ow + c] = best;
    }
  }
}

// The windows' sums, each divided by divisor, or by row_count[r] column_count[c] where divisor is 0.
extern "C" __global__ void mean_of_windows(const T* __restrict__ x, T* __restrict__ out, const int* __restrict__ rows,
                                           const int* __restrict__ columns, const int* __restrict__ row_count,
                                           const int* __restrict__ column_count, index_t planes, int height, int width,
                                           int oh, int ow, A divisor) {
  EACH_LINE(line, planes * oh) {
    const int r = line % oh;
    const T* plane = x + line / oh * height * width;
    EACH_COLUMN(c, ow) {
      A total = 0;
      for (int y = rows[r]; y < rows[oh + r]; y++)
        for (int at = y * width + columns[c]; at < y * width + columns[ow + c]; at++) total += to_A(plane[at]);
      out[line * ow + c] = to_T(total / (divisor != 0 ? divisor : A(row_count[r]) * A(column_count[c])));
    }
  }
}

extern "C" __global__ void mean_of_windows_backward(const T* __restrict__ g, T* __restrict__ out,
                                                    const int* __restrict__ row_reach,
                                                    const int* __restrict__ column_reach,
                                                    const int* __restrict__ row_count,
                                                    const int* __restrict__ column_count, index_t planes, int height,
                                                    int width, int oh, int ow, A divisor) {
  EACH_LINE(line, planes * height) {
    const int y = line % height;
    const T* plane = g + line / height * oh * ow;
    EACH_COLUMN(x, width) {
      A total = 0;
      for (int r = row_reach[y]; r < row_reach[height + y]; r++)
        for (int c = column_reach[x]; c < column_reach[width + x]; c++)
          total += to_A(plane[r * ow + c]) / (divisor != 0 ? divisor : A(row_count[r]) * A(column_count[c]));
      out[line * width + x] = to_T(total);
    }
  }
}

// g summed at the places that the windows chose.
extern "C" __global__ void scatter_windows(const T* __restrict__ g, const long long* __restrict__ places,
                                           T* __restrict__ out, const int* __restrict__ row_reach,
                                           const int* __restrict__ column_reach, index_t planes, int height, int width,
                                           int oh, int ow) {
  EACH_LINE(line, planes * height) {
    const int y = line % height;
    const index_t plane = line / height * oh * ow;
    EACH_COLUMN(x, width) {
      A total = 0;
      for (int r = row_reach[y]; r < row_reach[height + y]; r++)
        for (int c = column_reach[x]; c < column_reach[width + x]; c++)
          if (places[plane + r * ow + c] == y * width + x) total += to_A(g[plane + r * ow + c]);
      out[line * width + x] = to_T(total);
    }
  }
}

extern "C" __global__ void gather_planes(const T* __restrict__ x, const long long* __restrict__ places,
                                         T* __restrict__ out, index_t n, index_t chosen, index_t plane) {
  EACH(i, n) out[i] = x[i / chosen * plane + static_cast<index_t>(places[i])];
}
