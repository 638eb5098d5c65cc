#include "common.cuh"

// out (count, columns, rows) = each matrix of x (count, rows, columns) transposed, by tiles of 32 x 32 in shared memory,
// so that reading and writing both go along rows; a tile's rows are 33 long: no two threads of a warp share a bank.
// A block of 32 x 8 threads takes one tile. Floor: 2 e |x| bytes.
extern "C" __global__ void transposed(const T* __restrict__ x, T* __restrict__ out, index_t rows, index_t columns,
                                      index_t across, index_t down) {
  __align__(16) __shared__ char room[32 * 33 * sizeof(T)];
  T* tile = reinterpret_cast<T*>(room);
  const index_t matrix = blockIdx.x / (across * down) * rows * columns;
  const index_t left = blockIdx.x % across * 32, top = blockIdx.x / across % down * 32;
  const index_t lane = threadIdx.x;
  for (index_t i = threadIdx.y; i < 32; i += 8)
    if (top + i < rows && left + lane < columns)
      tile[i * 33 + lane] = x[matrix + (top + i) * columns + left + lane];
  __syncthreads();
  for (index_t i = threadIdx.y; i < 32; i += 8)
    if (left + i < columns && top + lane < rows)
      out[matrix + (left + i) * rows + top + lane] = tile[lane * 33 + i];
}
