#include "common.cuh"

// Batch normalisation of x (batch, channels, plane). A block of 256 threads takes a chunk of LANES channels: of one, whose
// neighbouring elements neighbouring threads read, or of 32 where a plane is one element and the neighbours are channels.
// With WIDE a piece is 16 bytes of a plane, otherwise an element; counts are of pieces.
// Floor: forward x read twice (once where it stays in the cache), the result written; backward g and x twice.
constexpr int WIDTH = WIDE ? Pack::size : 1, STEP = 256 / LANES;

// Sums are of (x - the channel's first element), in double (float for 16 bits): one reading gives mean and variance.
struct Two { Wide one, two; };
struct alignas(WIDTH * sizeof(T)) Piece { T item[WIDTH]; };

__device__ __forceinline__ index_t own_channel() { return static_cast<index_t>(blockIdx.x) * LANES + threadIdx.x % LANES; }

// Whether the thread is the one that writes down what its channel has in common.
__device__ __forceinline__ bool is_first_of(index_t channels) {
  return blockIdx.y == 0 && threadIdx.x < LANES && own_channel() < channels;
}

// f(where) for this thread's pieces among those of its chunk.
template <class F>
__device__ __forceinline__ void each_piece(index_t count, index_t channels, index_t plane, index_t chunk, F f) {
  const index_t c = own_channel(), first = static_cast<index_t>(blockIdx.y) * chunk;
  const index_t last = c < channels ? min(count, first + chunk) : first, images = STEP / plane, along = STEP % plane;
  index_t k = first + threadIdx.x / LANES, n = k / plane, j = k % plane;
  for (; k < last; k += STEP) {
    f((n * channels + c) * plane + j);
    n += images, j += along;
    if (j >= plane) n++, j -= plane;
  }
}

// parts (channels, chunks) of the block's channels: the sums over its threads, in a fixed order.
__device__ void note(Two x, Two* parts, index_t channels) {
  __shared__ Wide room[2][256];
  const int t = threadIdx.x;
  room[0][t] = x.one, room[1][t] = x.two;
  for (int half = 128; half >= LANES; half /= 2) {
    __syncthreads();
    if (t < half) room[0][t] += room[0][t + half], room[1][t] += room[1][t + half];
  }
  if (t < LANES && own_channel() < channels) parts[own_channel() * gridDim.y + blockIdx.y] = {room[0][t], room[1][t]};
}

__device__ Two whole(const Two* parts, index_t c) {
  Two sum = {0, 0};
  for (index_t k = c * gridDim.y; k < (c + 1) * gridDim.y; k++) sum.one += parts[k].one, sum.two += parts[k].two;
  return sum;
}

__device__ __forceinline__ A or_one(const T* weight, index_t c) { return weight ? to_A(weight[c]) : A(1); }

extern "C" __global__ void moments(const T* __restrict__ x, Two* __restrict__ parts, index_t count, index_t channels,
                                   index_t plane, index_t chunk) {
  const index_t c = min(own_channel(), channels - 1);
  const Wide origin = widened(x[c * plane * WIDTH]);
  Two sum = {0, 0};
  each_piece(count, channels, plane, chunk, [&](index_t at) {
    const Piece p = reinterpret_cast<const Piece*>(x)[at];
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
      const Wide v = widened(p.item[i]) - origin;
      sum.one += v, sum.two += v * v;
    }
  });
  note(sum, parts, channels);
}

extern "C" __global__ void batch_norm(const T* __restrict__ x, const T* __restrict__ weight, const T* __restrict__ bias,
                                      const Two* __restrict__ parts, T* __restrict__ mean, T* __restrict__ var,
                                      T* __restrict__ rstd, T* __restrict__ out, index_t count, index_t channels,
                                      index_t plane, index_t chunk, double eps) {
  const index_t c = min(own_channel(), channels - 1);
  const Two sum = whole(parts, c);
  const Wide elements = static_cast<Wide>(count) * WIDTH, shift = sum.one / elements;
  const Wide spread = sum.two / elements - shift * shift, square = spread < 0 ? Wide(0) : spread;
  const A origin = widened(x[c * plane * WIDTH]), centre = shift, root = 1 / sqrt(square + static_cast<Wide>(eps));
  if (is_first_of(channels)) mean[c] = to_T(origin + shift), var[c] = to_T(square), rstd[c] = to_T(root);
  const A scale = root * or_one(weight, c), added = bias ? to_A(bias[c]) : A(0);
  each_piece(count, channels, plane, chunk, [&](index_t at) {
    Piece p = reinterpret_cast<const Piece*>(x)[at];
#pragma unroll
    for (int i = 0; i < WIDTH; i++) p.item[i] = to_T(((to_A(p.item[i]) - origin) - centre) * scale + added);
    reinterpret_cast<Piece*>(out)[at] = p;
  });
}

extern "C" __global__ void slopes(const T* __restrict__ g, const T* __restrict__ x, const T* __restrict__ mean,
                                  Two* __restrict__ parts, index_t count, index_t channels, index_t plane,
                                  index_t chunk) {
  const Wide centre = widened(mean[min(own_channel(), channels - 1)]);
  Two sum = {0, 0};
  each_piece(count, channels, plane, chunk, [&](index_t at) {
    const Piece d = reinterpret_cast<const Piece*>(g)[at], p = reinterpret_cast<const Piece*>(x)[at];
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
      const Wide slope = widened(d.item[i]);
      sum.one += slope, sum.two += slope * (widened(p.item[i]) - centre);
    }
  });
  note(sum, parts, channels);
}

extern "C" __global__ void batch_norm_backward(const T* __restrict__ g, const T* __restrict__ x,
                                               const T* __restrict__ weight, const T* __restrict__ mean,
                                               const T* __restrict__ rstd, const Two* __restrict__ parts,
                                               T* __restrict__ gweight, T* __restrict__ gbias, T* __restrict__ gx,
                                               index_t count, index_t channels, index_t plane, index_t chunk) {
  const index_t c = min(own_channel(), channels - 1);
  const Two sum = whole(parts, c);
  const Wide elements = static_cast<Wide>(count) * WIDTH, root = widened(rstd[c]);
  if (is_first_of(channels)) gweight[c] = to_T(sum.two * root), gbias[c] = to_T(sum.one);
  const A centre = to_A(mean[c]), shift = sum.one / elements, tilt = sum.two * root * root / elements;
  const A scale = root * or_one(weight, c);
  each_piece(count, channels, plane, chunk, [&](index_t at) {
    Piece d = reinterpret_cast<const Piece*>(g)[at];
    const Piece p = reinterpret_cast<const Piece*>(x)[at];
#pragma unroll
    for (int i = 0; i < WIDTH; i++)
      d.item[i] = to_T((to_A(d.item[i]) - shift - (to_A(p.item[i]) - centre) * tilt) * scale);
    reinterpret_cast<Piece*>(gx)[at] = d;
  });
}
