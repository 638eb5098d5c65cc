#include "common.cuh"

// The numbers that a captured step reads anew at each replay.
extern "C" __global__ void set_numbers(double* __restrict__ out, int count, double a, double b, double c, double d) {
  const double given[] = {a, b, c, d};
  for (int i = 0; i < count; i++) out[i] = given[i];
}
