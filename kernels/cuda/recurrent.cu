#include "common.cuh"

// One step of a recurrent cell for n sequences of `size` units, whose rows begin at `first` in the packed arrays. A
// thread computes UNITS neighbouring units of one sequence, from loads and stores of 16 bytes (8 of 16-bit numbers);
// neighbouring threads have neighbouring units. Numbers that are carried from step to step by units, `local`, are in A.
//
// FORWARD and BACKWARD set what the formulas of kernels/cell.py give for one unit; recurrent.py has them written out.
// GATES, PEEPHOLES, RECORD: how many values a unit has. GRADIENTS: how many it gets, in the order in which they are
// stored. PULLED: whether the product with the state lies apart. CARRIES: whether a unit has numbers of its own.
//
// Floor of the LSTM, e being an element's bytes and a those of A, for each unit:
//   forward: 10 e + 2 a bytes (read the gates and c; write the record, c and h), about 30 FLOPs,
//   backward: 11 e + 2 a bytes (read the record, both gradients of h, that of c; write the gates' and c's), about 40.

template <class E> struct alignas(sizeof(E) * UNITS) Group { E item[UNITS]; };

template <class E> __device__ __forceinline__ Group<E> loaded(const E* from) {
  return *reinterpret_cast<const Group<E>*>(from);
}
template <class E> __device__ __forceinline__ void store(const Group<E>& group, E* to) {
  *reinterpret_cast<Group<E>*>(to) = group;
}
__device__ __forceinline__ Group<T> loaded_or_zeros(const T* from, index_t offset) {
  if (from) return loaded(from + offset);
  Group<T> zeros;
  for (int v = 0; v < UNITS; v++) zeros.item[v] = to_T(0);
  return zeros;
}

// record (N, values, size): its first GATES values hold the input's parts of the gates (and the state's, unless they are
// `pulled`, (n, GATES, size)); with `keep` all are overwritten by what backward needs. local (B, size): from the step
// before, overwritten. Biases, peephole: null where there are none.
extern "C" __global__ void forward(T* __restrict__ record, const T* __restrict__ pulled, const T* __restrict__ b_ih,
                                   const T* __restrict__ b_hh, const T* __restrict__ peephole, A* __restrict__ local,
                                   T* __restrict__ out, index_t first, index_t n, index_t size, index_t values,
                                   index_t keep) {
  const index_t groups = size / UNITS;
  EACH(k, n * groups) {
    const index_t b = k / groups, unit = k % groups * UNITS, at = b * size + unit;
    T* own = record + (first + b) * values * size + unit;
    Group<T> from_x[GATES], from_h[GATES], bias_x[GATES], bias_h[GATES], peep[PEEPHOLES + 1], kept[RECORD], states;
    Group<A> carried;
    for (int g = 0; g < GATES; g++) {
      from_x[g] = loaded(own + g * size);
      if (PULLED) from_h[g] = loaded(pulled + (b * GATES + g) * size + unit);
      bias_x[g] = loaded_or_zeros(b_ih, g * size + unit);
      bias_h[g] = loaded_or_zeros(b_hh, g * size + unit);
    }
    for (int j = 0; j < PEEPHOLES; j++) peep[j] = loaded(peephole + j * size + unit);
    if (CARRIES) carried = loaded(local + at);
    for (int v = 0; v < UNITS; v++) {
      A x[GATES], r[GATES], p[PEEPHOLES + 1], saved[RECORD], c, after, h;
      for (int g = 0; g < GATES; g++) {
        const A bias = to_A(bias_h[g].item[v]);
        x[g] = to_A(from_x[g].item[v]) + to_A(bias_x[g].item[v]);
        if (PULLED) r[g] = to_A(from_h[g].item[v]) + bias;
        else x[g] += bias;
      }
      for (int j = 0; j < PEEPHOLES; j++) p[j] = to_A(peep[j].item[v]);
      if (CARRIES) c = carried.item[v];
      FORWARD
      if (CARRIES) carried.item[v] = after;
      for (int j = 0; j < RECORD; j++) kept[j].item[v] = to_T(saved[j]);
      states.item[v] = to_T(h);
    }
    if (keep)
      for (int j = 0; j < RECORD; j++) store(kept[j], own + j * size);
    if (CARRIES) store(carried, local + at);
    store(states, out + (first + b) * size + unit);
  }
}

// g (N, size): the gradients of out. dh, dlocal (B, size): those that came back from the step after; dlocal is
// overwritten. grads (N, GRADIENTS, size): what the gates and the peepholes get.
extern "C" __global__ void backward(const T* __restrict__ g, const T* __restrict__ dh, A* __restrict__ dlocal,
                                    const T* __restrict__ record, const T* __restrict__ peephole,
                                    T* __restrict__ grads, index_t first, index_t n, index_t size) {
  const index_t groups = size / UNITS;
  EACH(k, n * groups) {
    const index_t b = k / groups, unit = k % groups * UNITS, at = b * size + unit, row = first + b;
    Group<T> kept[RECORD], peep[PEEPHOLES + 1], slopes[GRADIENTS];
    const Group<T> own = loaded(g + row * size + unit), back = loaded(dh + at);
    Group<A> carried;
    for (int j = 0; j < RECORD; j++) kept[j] = loaded(record + (row * RECORD + j) * size + unit);
    for (int j = 0; j < PEEPHOLES; j++) peep[j] = loaded(peephole + j * size + unit);
    if (CARRIES) carried = loaded(dlocal + at);
    for (int v = 0; v < UNITS; v++) {
      A saved[RECORD], p[PEEPHOLES + 1], slope[GRADIENTS], dc, before;
      const A d = to_A(own.item[v]) + to_A(back.item[v]);
      for (int j = 0; j < RECORD; j++) saved[j] = to_A(kept[j].item[v]);
      for (int j = 0; j < PEEPHOLES; j++) p[j] = to_A(peep[j].item[v]);
      if (CARRIES) dc = carried.item[v];
      BACKWARD
      if (CARRIES) carried.item[v] = before;
      for (int j = 0; j < GRADIENTS; j++) slopes[j].item[v] = to_T(slope[j]);
    }
    for (int j = 0; j < GRADIENTS; j++) store(slopes[j], grads + (row * GRADIENTS + j) * size + unit);
    if (CARRIES) store(carried, dlocal + at);
  }
}
