// Runs CUDA C++ kernels on the CPU: one fiber per CUDA thread, on x86-64, with g++ and no driver.
//
// A scheduler resumes the fibers of a block until each waits or has returned. Threads give way at barriers and warp
// operations alone, so between two of them the order of threads is the scheduler's choice, and a race is a choice that
// changes the result. There are four orders: forward, reverse, shuffled, and hesitant (shuffled, and each thread is
// passed over every now and then). Shared memory is poisoned with NaN before each block; watch.h sees races that change
// nothing too. Not seen here: weak memory between blocks, bank conflicts, speed.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#ifdef HALF_HEADERS
#include <vector_types.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#undef __global__
#undef __device__
#undef __host__
#undef __forceinline__
#undef __noinline__
#undef __launch_bounds__
#undef __align__
#undef __constant__
#undef __shared__
#undef __grid_constant__
#else
struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) int4 { int x, y, z, w; };
#endif

#define ON_HOST 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __constant__ static
#define __grid_constant__
#define __shared__ static  // blocks run one after the other; in cooperative launches only dynamic shared memory will do
#define UNWATCHED __attribute__((no_sanitize_thread))

namespace host {

enum Mode : uint8_t { READY, SPINNING, AT_WARP, AT_BLOCK, AT_GRID, RETURNED };
enum Order { FORWARD, REVERSE, SHUFFLED, HESITANT };

struct Fiber {
  void* stack_pointer = nullptr;
  char* stack = nullptr;
  Mode mode = RETURNED;
  uint3 thread, block;
  unsigned number;        // within the block
  uint32_t run;           // the block's, counted over all launches
  uint32_t block_barriers, warp_barriers;  // passed so far
  char* shared;           // the block's dynamic shared memory
  uint64_t exchanged = 0; // what a shuffle passes on
};

struct Machine {
  uint3 thread, block;
  dim3 block_size, grid_size;
  char* shared = nullptr;
  void* scheduler = nullptr;
  Fiber* current = nullptr;
  void (*kernel)(void*) = nullptr;
  void* arguments = nullptr;
  std::vector<Fiber> fibers;
  std::vector<char> shared_bytes;
  char* shared_start = nullptr;  // of the first block's
  Order order = FORWARD;
  bool together = false;  // a cooperative launch: all blocks run at once
  uint32_t runs = 0;
  uint64_t random = 88172645463325252ull;
  const char* error = nullptr;
};

static Machine machine;
static const size_t STACK = 64 * 1024, FENCE = 256;

// Saves the callee-saved registers on the present stack, its pointer in *save, and goes on with the stack `to`.
extern "C" void host_switch(void** save, void* to);
#if defined(__x86_64__)
static const int SAVED = 6;
asm(".text\n.globl host_switch\n.hidden host_switch\n.type host_switch,@function\nhost_switch:\n"
    " push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
    " mov %rsp,(%rdi)\n mov %rsi,%rsp\n"
    " pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret\n");
#else
#error "the CUDA stand-in switches fibers on x86-64 alone so far"
#endif

}  // namespace host

#include "watch.h"

namespace host {

UNWATCHED inline void wait(Mode mode) {
  Fiber* fiber = machine.current;
  fiber->mode = mode;
  host_switch(&fiber->stack_pointer, machine.scheduler);
}

UNWATCHED inline void body() {
  machine.kernel(machine.arguments);
  Fiber* fiber = machine.current;
  fiber->mode = RETURNED;
  host_switch(&fiber->stack_pointer, machine.scheduler);
  __builtin_unreachable();
}

UNWATCHED inline void prepare(Fiber& fiber) {
  if (!fiber.stack)
    fiber.stack = static_cast<char*>(
        mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  void** top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(fiber.stack + STACK) & ~uintptr_t(15));
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(body);
  for (int i = 0; i < SAVED; i++) *--top = nullptr;
  fiber.stack_pointer = top;
  fiber.mode = READY;
}

UNWATCHED inline void resume(Fiber& fiber) {
  fiber.mode = READY;
  machine.current = &fiber;
  machine.thread = fiber.thread;
  machine.block = fiber.block;
  machine.shared = fiber.shared;
  host_switch(&machine.scheduler, fiber.stack_pointer);
}

UNWATCHED inline uint64_t random_number() {
  uint64_t& r = machine.random;
  r ^= r << 13;
  r ^= r >> 7;
  r ^= r << 17;
  return r;
}

// The order in which n things are visited: an affine permutation where it is shuffled.
struct Visit {
  unsigned n, factor = 1, offset = 0;
  UNWATCHED explicit Visit(unsigned n) : n(n) {
    if (machine.order < SHUFFLED || n < 2) return;
    offset = random_number() % n;
    do factor = 1 + random_number() % n;
    while (std::gcd(factor, n) != 1);
  }
  UNWATCHED unsigned operator[](unsigned i) const {
    if (machine.order == FORWARD) return i;
    if (machine.order == REVERSE) return n - 1 - i;
    return (uint64_t(i) * factor + offset) % n;
  }
};

UNWATCHED inline bool fail(const char* why) {
  machine.error = why;
  return false;
}

struct Tally { unsigned warp = 0, block = 0, grid = 0, spinning = 0, returned = 0; };

UNWATCHED inline Tally count(const Fiber* fibers, unsigned n) {
  Tally t;
  for (unsigned i = 0; i < n; i++) {
    Mode m = fibers[i].mode;
    t.warp += m == AT_WARP, t.block += m == AT_BLOCK, t.grid += m == AT_GRID;
    t.spinning += m == SPINNING, t.returned += m == RETURNED;
  }
  return t;
}

UNWATCHED inline void release(Fiber* fibers, unsigned n, Mode mode) {
  for (unsigned i = 0; i < n; i++) {
    if (fibers[i].mode != mode) continue;
    fibers[i].mode = READY;
    (mode == AT_WARP ? fibers[i].warp_barriers : fibers[i].block_barriers)++;
  }
}

// Runs a warp until none of its threads can go on by itself. Whether something moved is noted in `moved`.
UNWATCHED inline bool run_warp(Fiber* warp, unsigned n, bool& moved) {
  for (;;) {
    Visit lanes(n);
    for (unsigned i = 0; i < n; i++) {
      Fiber& fiber = warp[lanes[i]];
      bool spinning = fiber.mode == SPINNING;
      if (fiber.mode != READY && !spinning) continue;
      if (machine.order == HESITANT && random_number() % 4 == 0) {
        moved |= !spinning;
        continue;
      }
      resume(fiber);
      moved |= !spinning || fiber.mode != SPINNING;
    }
    Tally t = count(warp, n);
    if (t.warp && (t.block || t.grid))
      return fail("divergent barrier: part of a warp waits at __syncthreads while the rest waits at a warp operation");
    if (!t.warp || t.warp + t.returned < n) return true;
    release(warp, n, AT_WARP);
  }
}

// Runs `count_of_blocks` blocks from `first` on together: one for an ordinary launch, the grid for a cooperative one.
UNWATCHED inline bool run(unsigned first, unsigned count_of_blocks, size_t shared) {
  const dim3 b = machine.block_size, g = machine.grid_size;
  const unsigned n = b.x * b.y * b.z, warps = (n + 31) / 32;
  const size_t total = size_t(n) * count_of_blocks;
  if (machine.fibers.size() < total) machine.fibers.resize(total);
  std::memset(machine.shared_start, 0xff, shared * count_of_blocks);
  for (unsigned k = 0; k < count_of_blocks; k++) {
    unsigned block = first + k;
    machine.runs++;
    for (unsigned i = 0; i < n; i++) {
      Fiber& fiber = machine.fibers[size_t(k) * n + i];
      fiber.number = i;
      fiber.thread = {i % b.x, i / b.x % b.y, i / (b.x * b.y)};
      fiber.block = {block % g.x, block / g.x % g.y, block / (g.x * g.y)};
      fiber.run = machine.runs;
      fiber.block_barriers = fiber.warp_barriers = 0;
      fiber.shared = machine.shared_start + shared * k;
      prepare(fiber);
    }
  }
  for (size_t idle = 0; idle <= 10000;) {
    bool moved = false;
    size_t returned = 0, at_grid = 0;
    Visit order_of_blocks(count_of_blocks);
    for (unsigned k = 0; k < count_of_blocks; k++) {
      Fiber* fibers = &machine.fibers[size_t(order_of_blocks[k]) * n];
      Visit order_of_warps(warps);
      for (unsigned w = 0; w < warps; w++) {
        unsigned low = order_of_warps[w] * 32;
        if (!run_warp(fibers + low, std::min(32u, n - low), moved)) return false;
      }
      Tally t = count(fibers, n);
      if (t.block && t.block + t.returned == n) {
        if (t.returned) return fail("divergent barrier: some threads returned while others wait at __syncthreads");
        release(fibers, n, AT_BLOCK);
        moved = true;
      }
      returned += t.returned;
      at_grid += t.grid;
    }
    if (returned == total) return true;
    if (at_grid && at_grid + returned == total) {
      release(machine.fibers.data(), total, AT_GRID);
      moved = true;
    }
    idle = moved ? 0 : idle + 1;
  }
  return fail("deadlock: every thread that has not returned waits or spins");
}

// Room for the dynamic shared memory of some blocks, between fences; gives the bytes of one block's.
UNWATCHED inline size_t make_room(size_t shared, unsigned blocks) {
  shared = (shared + 127) / 128 * 128;
  machine.shared_bytes.resize(std::max(machine.shared_bytes.size(), shared * blocks + 2 * FENCE + 128));
  uintptr_t start = reinterpret_cast<uintptr_t>(machine.shared_bytes.data()) + FENCE + 127;
  machine.shared_start = reinterpret_cast<char*>(start & ~uintptr_t(127));
  return shared;
}

// What cuLaunchKernel takes: the grid's three sizes and the block's, and the arrays that are watched.
struct Launch {
  unsigned grid[3], block[3];
  size_t shared;
  int order, together, arrays;
  const Span* spans;
};

template <class F>
UNWATCHED int launch(const Launch& l, F kernel) {
  machine.block_size = {l.block[0], l.block[1], l.block[2]};
  machine.grid_size = {l.grid[0], l.grid[1], l.grid[2]};
  machine.order = static_cast<Order>(l.order);
  machine.together = l.together;
  machine.error = nullptr;
  machine.kernel = [](void* f) { (*static_cast<F*>(f))(); };
  machine.arguments = &kernel;
  const unsigned blocks = l.grid[0] * l.grid[1] * l.grid[2], at_once = l.together ? blocks : 1;
  const size_t room = make_room(l.shared, at_once);
  watch(l.spans, l.arrays, machine.shared_start, l.together ? room * blocks : l.shared);
  Visit turn(blocks / at_once);
  for (unsigned i = 0; i < blocks / at_once && !machine.error; i++) run(turn[i], at_once, room);
  unwatch();
  machine.current = nullptr;
  return machine.error != nullptr;
}

template <class... P, size_t... I>
int launch_kernel(void (*kernel)(P...), const Launch& l, void** arguments, std::index_sequence<I...>) {
  return launch(l, [=] { kernel(*reinterpret_cast<std::remove_reference_t<P>*>(arguments[I])...); });
}

template <class... P>
int launch_kernel(void (*kernel)(P...), const Launch& l, void** arguments) {
  return launch_kernel(kernel, l, arguments, std::index_sequence_for<P...>{});
}

// What a kernel takes, so that the caller can compare: bytes of each parameter, negative for pointers, +100 for floats.
template <class... P>
int widths(void (*)(P...), int* out) {
  int all[] = {(std::is_pointer<P>::value ? -int(sizeof(P)) : int(sizeof(P)) + 100 * std::is_floating_point<P>::value)...,
               0};
  std::copy(all, all + sizeof...(P), out);
  return sizeof...(P);
}

template <class V>
V exchange(V value, unsigned source, bool valid) {
  static_assert(sizeof(V) <= 8, "a shuffle passes 8 bytes at most");
  Fiber* me = machine.current;
  std::memcpy(&me->exchanged, &value, sizeof(V));
  wait(AT_WARP);
  V received = value;
  if (valid) std::memcpy(&received, &(me - me->number % 32 + source)->exchanged, sizeof(V));
  wait(AT_WARP);
  return received;
}

inline unsigned lane() { return machine.current->number % 32; }

}  // namespace host

#define threadIdx host::machine.thread
#define blockIdx host::machine.block
#define blockDim host::machine.block_size
#define gridDim host::machine.grid_size
#define warpSize 32
#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(host::machine.shared)
#define SPIN() host::wait(host::SPINNING)

inline void __syncthreads() { host::wait(host::AT_BLOCK); }
inline void __syncwarp(unsigned = ~0u) { host::wait(host::AT_WARP); }
inline void sync_grid() { host::wait(host::AT_GRID); }
inline void __threadfence() {}
inline void __threadfence_block() {}

template <class V> V __shfl_xor_sync(unsigned, V v, int mask, int width = 32) {
  unsigned me = host::lane(), other = me ^ mask;
  return host::exchange(v, other, other / width == me / width);
}
template <class V> V __shfl_down_sync(unsigned, V v, unsigned d, int width = 32) {
  unsigned me = host::lane();
  return host::exchange(v, me + d, me % width + d < unsigned(width));
}
template <class V> V __shfl_up_sync(unsigned, V v, unsigned d, int width = 32) {
  unsigned me = host::lane();
  return host::exchange(v, me - d, me % width >= d);
}
template <class V> V __shfl_sync(unsigned, V v, int source, int width = 32) {
  return host::exchange(v, host::lane() / width * width + source % width, true);
}
inline unsigned __ballot_sync(unsigned, int vote) {
  unsigned all = 0;
  for (int i = 0; i < 32; i++) all |= unsigned(__shfl_sync(~0u, int(vote != 0), i)) << i;
  return all;
}
template <class V, class F> UNWATCHED V at_once(V* p, F change) {
  host::touch(p, sizeof(V), false, true);
  V old = *p;
  host::touch(p, sizeof(V), true, true);
  *p = change(old);
  return old;
}
template <class V> V atomicAdd(V* p, V v) { return at_once(p, [=](V old) { return old + v; }); }
template <class V> V atomicMax(V* p, V v) { return at_once(p, [=](V old) { return v > old ? v : old; }); }
template <class V> V atomicMin(V* p, V v) { return at_once(p, [=](V old) { return v < old ? v : old; }); }
template <class V> V atomicExch(V* p, V v) { return at_once(p, [=](V) { return v; }); }
template <class V> V atomicCAS(V* p, V seen, V v) { return at_once(p, [=](V old) { return old == seen ? v : old; }); }
template <class V> V __ldg(const V* p) { return *p; }
inline int __ffs(unsigned x) { return __builtin_ffs(int(x)); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __int_as_float(int i) { float f; std::memcpy(&f, &i, 4); return f; }
inline int __float_as_int(float f) { int i; std::memcpy(&i, &f, 4); return i; }
using std::abs, std::ceil, std::cos, std::erf, std::erfc, std::exp, std::expm1, std::fabs, std::floor, std::fmax, std::fmin;
using std::isfinite, std::isinf, std::isnan, std::log, std::log1p, std::max, std::min, std::pow, std::round, std::sin;
using std::sqrt, std::tanh;
