// The part of cuBLAS and cuBLASLt that kernels/cuda/blas.py calls, as plain loops on host memory, under NVIDIA's
// signatures: what the Python side passes (widths, order, layouts) is what is tested.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

namespace {

enum { R_32F = 0, R_64F = 1, R_16F = 2, R_16BF = 14 };
enum { OK = 0, NOT_INITIALIZED = 1, INVALID = 7, MISALIGNED = 13 };

// 16 bits by their definition (a sign, an exponent, and 10 or 7 bits), so that NVIDIA's headers are not needed.
struct Format { int bits, least, most; };  // of the fraction; exponents of the smallest and largest normal number
const Format HALF = {10, -14, 15}, BRAIN = {7, -126, 127};

double widened(uint16_t x, Format f) {
  const int exponent = (x & 0x7fff) >> f.bits, fraction = x & ((1 << f.bits) - 1);
  const double sign = x & 0x8000 ? -1 : 1;
  if (exponent == f.most - f.least + 2) return fraction ? NAN : sign * INFINITY;
  if (!exponent) return sign * std::ldexp(fraction, f.least - f.bits);
  return sign * std::ldexp(fraction + (1 << f.bits), exponent - 1 + f.least - f.bits);
}

uint16_t narrowed(double x, Format f) {
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0, infinite = (f.most - f.least + 2) << f.bits;
  if (std::isnan(x)) return infinite | 1 << (f.bits - 1);
  const int exponent = x && std::isfinite(x) ? std::max(std::ilogb(x), f.least) : f.least;
  const double scaled = std::nearbyint(std::ldexp(std::fabs(x), f.bits - exponent));  // to even
  const double bits = std::ldexp(exponent - f.least, f.bits) + scaled;  // a carry raises the exponent by itself
  return sign | (bits < infinite ? uint16_t(bits) : infinite);
}

double read(const void* p, int type, int64_t i) {
  switch (type) {
    case R_32F: return static_cast<const float*>(p)[i];
    case R_64F: return static_cast<const double*>(p)[i];
    default: return widened(static_cast<const uint16_t*>(p)[i], type == R_16F ? HALF : BRAIN);
  }
}

void write(void* p, int type, int64_t i, double v) {
  switch (type) {
    case R_32F: static_cast<float*>(p)[i] = static_cast<float>(v); break;
    case R_64F: static_cast<double*>(p)[i] = v; break;
    default: static_cast<uint16_t*>(p)[i] = narrowed(static_cast<float>(v), type == R_16F ? HALF : BRAIN);
  }
}

int64_t size_of(int type) { return type == R_64F ? 8 : type == R_32F ? 4 : 2; }
const void* at(const void* p, int type, int64_t i) { return static_cast<const char*>(p) + i * size_of(type); }
double scalar(const void* p, int compute) {
  return compute == 70 ? *static_cast<const double*>(p) : *static_cast<const float*>(p);
}
bool known(int type, int compute) {
  if (type == R_64F) return compute == 70;
  return (type == R_32F && (compute == 68 || compute == 77)) || ((type == R_16F || type == R_16BF) && compute == 68);
}

// D = epilogue(alpha op(A) op(B) + beta C) by columns; bias (or null) has an element per row.
void product(int ta, int tb, int m, int n, int k, double alpha, const void* A, int lda, const void* B, int ldb,
             double beta, void* C, int ldc, int type, const void* bias, bool relu) {
  for (int j = 0; j < n; j++)
    for (int i = 0; i < m; i++) {
      double sum = 0;
      for (int l = 0; l < k; l++)
        sum += read(A, type, ta ? int64_t(i) * lda + l : int64_t(l) * lda + i) *
               read(B, type, tb ? int64_t(l) * ldb + j : int64_t(j) * ldb + l);
      int64_t place = int64_t(j) * ldc + i;
      double value = alpha * sum + (beta == 0 ? 0 : beta * read(C, type, place));
      if (bias) value += read(bias, type, i);
      write(C, type, place, relu && value < 0 ? 0 : value);
    }
}

struct Handle { uint32_t alive = 0xC0B1A5; void* stream = nullptr; void* workspace = nullptr; size_t size = 0; };
struct Operation { int compute, scale, ta = 0, tb = 0, epilogue = 1; const void* bias = nullptr; };
struct Layout { int type; uint64_t rows, columns; int64_t ld; };
struct Preference { uint32_t alignment[4] = {256, 256, 256, 256}; };  // of A, B, C, D
struct Found { uint64_t algorithm[8]; size_t workspace; int32_t status; float waves; int32_t reserved[4]; };

// Calls noted while a graph is captured, to be made again when it is replayed.
bool recording = false;
std::vector<std::function<void()>> calls;

void run(std::function<void()> call) {
  call();
  if (recording) calls.push_back(call);
}

}  // namespace

extern "C" {

void host_record(int on) { recording = on; }
int host_calls() { return calls.size(); }
void host_replay(int i) { calls[i](); }

int cublasCreate_v2(Handle** handle) { *handle = new Handle; return OK; }
int cublasSetStream_v2(Handle* h, void* stream) {
  h->stream = stream;
  h->workspace = nullptr;  // as cuBLAS does
  return OK;
}
int cublasSetWorkspace_v2(Handle* h, void* p, size_t size) {
  h->workspace = p;
  h->size = size;
  return OK;
}

int cublasGemmStridedBatchedEx(Handle* h, int ta, int tb, int m, int n, int k, const void* alpha, const void* A,
                               int a_type, int lda, long long a_apart, const void* B, int b_type, int ldb,
                               long long b_apart, const void* beta, void* C, int c_type, int ldc, long long c_apart,
                               int count, int compute, int algorithm) {
  if (!h || h->alive != 0xC0B1A5 || !h->workspace || h->size < (4u << 20)) return NOT_INITIALIZED;
  if (a_type != b_type || a_type != c_type || !known(a_type, compute) || algorithm != -1) return INVALID;
  if (m < 0 || n < 0 || k < 0 || lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m || lda < 1 || ldb < 1) return INVALID;
  const double one = scalar(alpha, compute), other = scalar(beta, compute);
  run([=] {
    for (int i = 0; i < count; i++)
      product(ta, tb, m, n, k, one, at(A, a_type, i * a_apart), lda, at(B, a_type, i * b_apart), ldb, other,
              const_cast<void*>(at(C, a_type, i * c_apart)), ldc, a_type, nullptr, false);
  });
  return OK;
}

int cublasLtCreate(Handle** handle) { return cublasCreate_v2(handle); }
int cublasLtMatmulDescCreate(Operation** made, int compute, int scale) {
  *made = new Operation{compute, scale};
  return OK;
}
int cublasLtMatmulDescSetAttribute(Operation* op, int attribute, const void* value, size_t size) {
  if (size != (attribute == 8 ? 8 : 4)) return INVALID;
  switch (attribute) {
    case 3: std::memcpy(&op->ta, value, 4); return OK;
    case 4: std::memcpy(&op->tb, value, 4); return OK;
    case 7: std::memcpy(&op->epilogue, value, 4); return OK;
    case 8: std::memcpy(&op->bias, value, 8); return OK;
    default: return INVALID;
  }
}
int cublasLtMatrixLayoutCreate(Layout** made, int type, uint64_t rows, uint64_t columns, int64_t ld) {
  *made = new Layout{type, rows, columns, ld};
  return OK;
}
int cublasLtMatmulPreferenceCreate(Preference** made) { *made = new Preference; return OK; }
int cublasLtMatmulPreferenceSetAttribute(Preference* preference, int attribute, const void* value, size_t size) {
  if (attribute == 1 && size == 8) return OK;
  if (attribute < 5 || attribute > 8 || size != 4) return INVALID;
  std::memcpy(&preference->alignment[attribute - 5], value, 4);
  return OK;
}
int cublasLtMatmulAlgoGetHeuristic(Handle* h, Operation*, Layout*, Layout*, Layout*, Layout*, Preference* wanted, int count,
                                   Found* found, int* returned) {
  if (!h || h->alive != 0xC0B1A5 || count != 1) return INVALID;
  *found = Found{};
  found->algorithm[0] = 0xA190;
  for (int i = 0; i < 4; i++) found->algorithm[1 + i] = wanted->alignment[i];
  *returned = 1;
  return OK;
}
int cublasLtMatmul(Handle* h, Operation* op, const void* alpha, const void* A, Layout* a, const void* B, Layout* b,
                   const void* beta, const void* C, Layout* c, void* D, Layout* d, const uint64_t* algorithm,
                   void* workspace, size_t size, void* stream) {
  if (!h || h->alive != 0xC0B1A5 || algorithm[0] != 0xA190 || !workspace || size < (4u << 20)) return NOT_INITIALIZED;
  if (C != D || c != d || !known(a->type, op->compute) || op->scale != (a->type == R_64F ? R_64F : R_32F)) return INVALID;
  const void* operands[] = {A, B, C, D};
  for (int i = 0; i < 4; i++)
    if (reinterpret_cast<uintptr_t>(operands[i]) % algorithm[1 + i]) return MISALIGNED;  // a GPU would crash
  if (op->epilogue & 4 && reinterpret_cast<uintptr_t>(op->bias) % 16) return MISALIGNED;
  int m = d->rows, n = d->columns, k = op->ta ? a->rows : a->columns;
  uint64_t a_rows = op->ta ? a->columns : a->rows, b_rows = op->tb ? b->columns : b->rows;
  if (a_rows != uint64_t(m) || b_rows != uint64_t(k) || (op->tb ? b->rows : b->columns) != uint64_t(n)) return INVALID;
  bool biased = op->epilogue & 4, relu = op->epilogue & 2;
  if (biased && !op->bias) return INVALID;
  const double one = scalar(alpha, op->compute), other = scalar(beta, op->compute);
  const Operation now = *op;
  const Layout left = *a, right = *b, into = *d;
  run([=] {
    product(now.ta, now.tb, m, n, k, one, A, left.ld, B, right.ld, other, D, into.ld, left.type,
            biased ? now.bias : nullptr, relu);
  });
  return OK;
}

}
