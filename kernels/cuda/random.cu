#include "common.cuh"

// Random bits by Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"): four
// words are a function of a counter (and of a key, 0 here), so that each thread makes its own, and the same ones again.
struct Words { unsigned word[4]; };

__device__ __forceinline__ Words philox(unsigned long long low, unsigned long long high) {
  unsigned c0 = low, c1 = low >> 32, c2 = high, c3 = high >> 32, k0 = 0, k1 = 0;
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const unsigned long long a = 0xD2511F53ull * c0, b = 0xCD9E8D57ull * c2;
    c0 = static_cast<unsigned>(b >> 32) ^ c1 ^ k0;
    c1 = static_cast<unsigned>(b);
    c2 = static_cast<unsigned>(a >> 32) ^ c3 ^ k1;
    c3 = static_cast<unsigned>(a);
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

// out = x · scale where the element's word is at least `least`, else 0. Elements 4 k … 4 k + 3 take the words of the
// counter (k, draw). A thread each, 16 bytes (8 of 16 bits, twice 16 in double) at a time.
// Floor: x read, out written; no mask.
struct alignas(sizeof(T) > 4 ? 16 : 4 * sizeof(T)) Four { T item[4]; };

extern "C" __global__ void dropout(const T* __restrict__ x, T* __restrict__ out, index_t n, double draw,
                                   const double* __restrict__ draw_at, unsigned least, A scale) {
  const unsigned long long high = number(draw, draw_at);
  const bool wide = aligned(x) && aligned(out);
  EACH(k, (n + 3) / 4) {
    const Words bits = philox(k, high);
    if (wide && 4 * k + 4 <= n) {
      Four v = reinterpret_cast<const Four*>(x)[k];
#pragma unroll
      for (int i = 0; i < 4; i++) v.item[i] = bits.word[i] >= least ? to_T(to_A(v.item[i]) * scale) : to_T(A(0));
      reinterpret_cast<Four*>(out)[k] = v;
    } else {
      for (int i = 0; i < 4 && 4 * k + i < n; i++)
        out[4 * k + i] = bits.word[i] >= least ? to_T(to_A(x[4 * k + i]) * scale) : to_T(A(0));
    }
  }
}
