// Watches every access of a kernel to memory: -fsanitize=thread makes g++ call a function before each one, and these are
// those functions. Seen are reads and writes beyond an array, and races: two threads at one place, one of them writing,
// with no barrier between, whatever the schedule. Atomics and volatile accesses are left out.
// A place of static shared memory that is read before the block has written to it is poisoned first.
#pragma once

#include <cstdio>


namespace host {

struct Access {
  uint32_t run = 0;  // of the thread's block, 0 for none: blocks and launches have their own
  uint32_t thread = 0, block_barriers = 0, warp_barriers = 0;
};

struct Place { Access writer, reader, other_reader; };

// Memory that kernels may touch, `unit` bytes at a time.
struct Region {
  char *begin, *end;
  size_t unit;
  int argument;  // counted from 1; 0: dynamic shared memory; -1: static shared memory
  Place* places;
};

static Region* regions = nullptr;
static int region_count = 0, last_region = 0;
static char message[400];

// Notes what is wrong: an access beyond the region, or in a race with `other`.
UNWATCHED inline void complain(const Region& r, const char* p, bool writes, const Fiber& me, const Access* other = nullptr,
                               const char* did = "") {
  if (machine.error) return;
  char place[80], why[120] = "beyond its end";
  if (r.argument > 0)
    std::snprintf(place, sizeof place, "element %ld of argument %d", long(p - r.begin) / long(r.unit), r.argument);
  else
    std::snprintf(place, sizeof place, "byte %ld of %s shared memory", long(p - r.begin), r.argument ? "static" : "dynamic");
  if (other)
    std::snprintf(why, sizeof why, "which thread %u%s %s, and no barrier lies between: a race", other->thread,
                  other->run == me.run ? "" : " of another block", did);
  std::snprintf(message, sizeof message, "thread %u of block (%u, %u, %u) %s %s, %s", me.number, me.block.x, me.block.y,
                me.block.z, writes ? "writes" : "reads", place, why);
  machine.error = message;
}

// Whether what `a` did is not sure to have happened before what `me` does.
UNWATCHED inline bool unordered(const Access& a, const Fiber& me, bool shared) {
  if (!a.run || (a.run == me.run && a.thread == me.number)) return false;
  if (a.run != me.run) return !shared && !machine.together;
  if (a.block_barriers != me.block_barriers) return false;
  return a.thread / 32 != me.number / 32 || a.warp_barriers == me.warp_barriers;
}

UNWATCHED inline Region* region_of(const char* p) {
  if (!region_count) return nullptr;
  const Region& last = regions[last_region];
  if (p >= last.begin && p < last.end) return &regions[last_region];
  Region* beyond = nullptr;
  for (int i = 0; i < region_count; i++) {
    Region& r = regions[i];
    if (p >= r.begin && p < r.end) return last_region = i, &r;
    if (r.argument >= 0 && p >= r.begin - FENCE && p < r.end + FENCE) beyond = &r;
  }
  return beyond;
}

UNWATCHED inline void touch(void* address, size_t size, bool writes, bool atomic = false) {
  char* p = static_cast<char*>(address);
  const Fiber* me = machine.current;
  Region* r = me ? region_of(p) : nullptr;
  if (!r) return;
  if (p < r->begin || p + size > r->end) return complain(*r, p, writes, *me);
  const bool shared = r->argument <= 0;
  const Access now = {me->run, me->number, me->block_barriers, me->warp_barriers};
  for (size_t i = (p - r->begin) / r->unit; i <= (p + size - 1 - r->begin) / r->unit; i++) {
    Place& place = r->places[i];
    if (shared && !writes && place.writer.run != me->run) r->begin[i] = char(0xff);
    if (!atomic && unordered(place.writer, *me, shared)) complain(*r, p, writes, *me, &place.writer, "wrote");
    if (writes) {
      for (const Access* a : {&place.reader, &place.other_reader})
        if (!atomic && unordered(*a, *me, shared)) complain(*r, p, writes, *me, a, "read");
      place.writer = now;
    } else {
      if (place.reader.thread != me->number || place.reader.run != me->run) place.other_reader = place.reader;
      place.reader = now;
    }
  }
}

}  // namespace host

extern "C" {
#define WATCHED(size)                                                                             \
  UNWATCHED void __tsan_read##size(void* p) { host::touch(p, size, false); }                      \
  UNWATCHED void __tsan_write##size(void* p) { host::touch(p, size, true); }                      \
  UNWATCHED void __tsan_unaligned_read##size(void* p) { host::touch(p, size, false); }            \
  UNWATCHED void __tsan_unaligned_write##size(void* p) { host::touch(p, size, true); }            \
  UNWATCHED void __tsan_volatile_read##size(void*) {}                                             \
  UNWATCHED void __tsan_volatile_write##size(void*) {}                                            \
  UNWATCHED void __tsan_unaligned_volatile_read##size(void*) {}                                   \
  UNWATCHED void __tsan_unaligned_volatile_write##size(void*) {}
WATCHED(1) WATCHED(2) WATCHED(4) WATCHED(8) WATCHED(16)
UNWATCHED void __tsan_read_range(void* p, size_t size) { host::touch(p, size, false); }
UNWATCHED void __tsan_write_range(void* p, size_t size) { host::touch(p, size, true); }
UNWATCHED void __tsan_vptr_update(void*, void*) {}
UNWATCHED void __tsan_vptr_read(void*) {}
UNWATCHED void __tsan_func_entry(void*) {}
UNWATCHED void __tsan_func_exit() {}
UNWATCHED void __tsan_init() {}
extern char __bss_start[], _end[];
}

namespace host {

// The array that was passed as an argument: where it starts, its bytes, those of an element.
struct Span { char* begin; size_t size; size_t unit; int argument; };

UNWATCHED inline void add_region(char* begin, size_t size, size_t unit, int argument) {
  if (!size) return;
  for (int i = 0; i < region_count; i++)
    if (regions[i].begin == begin) return;
  auto* places = static_cast<Place*>(std::calloc(size / unit + 1, sizeof(Place)));
  regions[region_count++] = {begin, begin + size, unit, argument, places};
}

// The arrays, the blocks' dynamic shared memory, and what kernels declare __shared__: static data besides `machine`.
UNWATCHED inline void watch(const Span* spans, int n, char* shared, size_t size) {
  regions = static_cast<Region*>(std::calloc(n + 3, sizeof(Region)));
  for (int i = 0; i < n; i++) add_region(spans[i].begin, spans[i].size, spans[i].unit, spans[i].argument);
  add_region(shared, size, 1, 0);
  char *low = reinterpret_cast<char*>(&machine), *high = low + sizeof machine;
  add_region(__bss_start, low - __bss_start, 1, -1);
  add_region(high, _end - high, 1, -1);
}

UNWATCHED inline void unwatch() {
  for (int i = 0; i < region_count; i++) std::free(regions[i].places);
  std::free(regions);
  region_count = last_region = 0;
}

}  // namespace host
