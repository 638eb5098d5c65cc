// Rows shared by teams of TEAM threads: one thread, a warp, or a block of 256, by the length of a row.
#pragma once
#include "common.cuh"

#define EACH_ROW(r)                                                                                 \
  for (index_t r = (static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x) / TEAM; r < rows; \
       r += static_cast<index_t>(gridDim.x) * blockDim.x / TEAM)
#define EACH_ELEMENT(j) for (index_t j = threadIdx.x % TEAM; j < n; j += TEAM)
#define FIRST_OF_TEAM (threadIdx.x % TEAM == 0)

// Every thread of a team must call them; `room` has 33 elements of shared memory.
__device__ __forceinline__ A team_sum(A x, A* room) {
  return TEAM == 1 ? x : TEAM == 32 ? warp_sum(x) : block_sum(x, room);
}
__device__ __forceinline__ A team_max(A x, A* room) {
  return TEAM == 1 ? x : TEAM == 32 ? warp_max(x) : block_max(x, room);
}
