// Rows of x (outer, n, inner): outer · inner of them, row r = (o, i) having the elements x[(o n + j) inner + i].
// rows.py says which macros a file that includes this is compiled with:
//   TEAM  threads that work on a row: 1 (neighbours have neighbouring rows), a warp, or the whole block
//   WIDE  whether a thread moves 16 bytes at once: n is a multiple of so many elements, and rows lie aligned
//   HELD  pieces (of 16 bytes, or of one element) of a row that a thread keeps in registers: memory is read once.
//         0: none; each use of an element reads it again, from cache while it lasts
// A thread meets the same places in every row, in the same order.
#pragma once
#include "common.cuh"

constexpr int THREADS = TEAM > 256 ? TEAM : 256;
#define FIRST_OF_TEAM (threadIdx.x % TEAM == 0)
#define START(r) ((r) / inner * n * inner + (r) % inner)
#define EACH_ROW(r)                                                                                 \
  for (index_t r = (static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x) / TEAM; r < rows; \
       r += static_cast<index_t>(gridDim.x) * blockDim.x / TEAM)

constexpr int WIDTH = WIDE ? Pack::size : 1;

// Element j of a row: number `item` of the thread's piece `piece`.
struct Place {
  index_t j;
  int piece, item;
};

template <class F> __device__ __forceinline__ void each_place(index_t n, F f) {
#if HELD
#pragma unroll
  for (int piece = 0; piece < HELD; piece++) {
    const index_t first = static_cast<index_t>(piece * TEAM + threadIdx.x % TEAM) * WIDTH;
    if (first < n) {
#pragma unroll
      for (int item = 0; item < WIDTH; item++) f(Place{first + item, piece, item});
    }
  }
#else
  for (index_t j = threadIdx.x % TEAM; j < n; j += TEAM) f(Place{j, 0, 0});
#endif
}

// A row of elements of type E (T, or A for sums), `inner` elements apart: `read` before use, `write` after `put`.
template <class E> struct Row {
  E* memory;
  index_t n, inner;
#if HELD
  struct alignas(WIDTH * sizeof(E) < 16 ? WIDTH * sizeof(E) : 16) Piece { E item[WIDTH]; };
  Piece held[HELD];
#endif

  __device__ __forceinline__ Row(const E* memory, index_t n, index_t inner = 1)
      : memory(const_cast<E*>(memory)), n(n), inner(inner) {}

  __device__ __forceinline__ void read() {
#if HELD
#pragma unroll
    for (int piece = 0; piece < HELD; piece++) {
      const index_t i = piece * TEAM + threadIdx.x % TEAM;
      if (i * WIDTH < n) held[piece] = reinterpret_cast<const Piece*>(memory)[i];
    }
#endif
  }

  __device__ __forceinline__ void write() {
#if HELD
#pragma unroll
    for (int piece = 0; piece < HELD; piece++) {
      const index_t i = piece * TEAM + threadIdx.x % TEAM;
      if (i * WIDTH < n) reinterpret_cast<Piece*>(memory)[i] = held[piece];
    }
#endif
  }

  __device__ __forceinline__ A operator[](Place at) const {
#if HELD
    return widened(held[at.piece].item[at.item]);
#else
    return widened(memory[at.j * inner]);
#endif
  }

  __device__ __forceinline__ void put(Place at, A value) {
#if HELD
    held[at.piece].item[at.item] = Narrow<E>::from(value);
#else
    memory[at.j * inner] = Narrow<E>::from(value);
#endif
  }
};

// What a team's threads find together, in a fixed order: all of them must call these. `room`: 33 elements of shared memory.
__device__ __forceinline__ A team_sum(A x, A* room) {
  return TEAM == 1 ? x : TEAM == 32 ? warp_sum(x) : block_sum(x, room);
}
__device__ __forceinline__ A team_max(A x, A* room) {
  return TEAM == 1 ? x : TEAM == 32 ? warp_max(x) : block_max(x, room);
}
