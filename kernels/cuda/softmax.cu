#include "rows.cuh"

// Softmax and its relations along the middle axis of x (outer, n, inner), a team of threads for each row.
// Floor: the inputs read and the results written once.

// Half precision cannot tell this from the exact one: an error of |x| 2^-24 of it.
__device__ __forceinline__ A exponential(A x) { return sizeof(T) == 2 ? exp2f(x * 1.44269504f) : exp(x); }

// The largest element of a row and the sum of exp(x - largest): NaN where the largest is infinite.
struct Peak { A top, sum; };

__device__ __forceinline__ Peak peak_of(const Row<T>& x, A* room) {
  A top = -INFINITE, sum = 0;
  each_place(x.n, [&](Place at) { top = x[at] > top || x[at] != x[at] ? x[at] : top; });
  top = team_max(top, room);
  each_place(x.n, [&](Place at) { sum += exponential(x[at] - top); });
  return {top, team_sum(sum, room)};
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) softmax(const T* __restrict__ in, T* __restrict__ out,
                                                              index_t rows, index_t n, index_t inner) {
  __shared__ A room[33];
  EACH_ROW(r) {
    Row<T> x(in + START(r), n, inner), result(out + START(r), n, inner);
    x.read();
    const Peak peak = peak_of(x, room);
    const A scale = 1 / peak.sum;
    each_place(n, [&](Place at) { result.put(at, exponential(x[at] - peak.top) * scale); });
    result.write();
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) log_softmax(const T* __restrict__ in, T* __restrict__ out,
                                                                  index_t rows, index_t n, index_t inner) {
  __shared__ A room[33];
  EACH_ROW(r) {
    Row<T> x(in + START(r), n, inner), result(out + START(r), n, inner);
    x.read();
    const Peak peak = peak_of(x, room);
    const A shift = log(peak.sum);
    each_place(n, [&](Place at) { result.put(at, (x[at] - peak.top) - shift); });
    result.write();
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) logsumexp(const T* __restrict__ in, T* __restrict__ out,
                                                                index_t rows, index_t n, index_t inner) {
  __shared__ A room[33];
  EACH_ROW(r) {
    Row<T> x(in + START(r), n, inner);
    x.read();
    const Peak peak = peak_of(x, room);
    const bool infinite = peak.top - peak.top != 0;
    if (FIRST_OF_TEAM) out[r] = to_T(infinite ? peak.top : peak.top + log(peak.sum));
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) softmax_backward(const T* __restrict__ slope,
                                                                       const T* __restrict__ probability,
                                                                       T* __restrict__ out, index_t rows, index_t n,
                                                                       index_t inner) {
  __shared__ A room[33];
  EACH_ROW(r) {
    Row<T> g(slope + START(r), n, inner), p(probability + START(r), n, inner), result(out + START(r), n, inner);
    g.read(), p.read();
    A total = 0;
    each_place(n, [&](Place at) { total += g[at] * p[at]; });
    total = team_sum(total, room);
    each_place(n, [&](Place at) { result.put(at, (g[at] - total) * p[at]); });
    result.write();
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) log_softmax_backward(const T* __restrict__ slope,
                                                                           const T* __restrict__ log_probability,
                                                                           T* __restrict__ out, index_t rows,
                                                                           index_t n, index_t inner) {
  __shared__ A room[33];
  EACH_ROW(r) {
    Row<T> g(slope + START(r), n, inner), p(log_probability + START(r), n, inner), result(out + START(r), n, inner);
    g.read(), p.read();
    A total = 0;
    each_place(n, [&](Place at) { total += g[at]; });
    total = team_sum(total, room);
    each_place(n, [&](Place at) { result.put(at, g[at] - exponential(p[at]) * total); });
    result.write();
  }
}

// The weight of a class: 1 without weights.
__device__ __forceinline__ A weight_of(const T* weight, long long j) { return weight ? to_A(weight[j]) : A(1); }

// loss[r] = -(1 - e) w[t] p[t] - e / n sum_c w[c] p[c] with p = log softmax(x), which is written too; 0 at ignored rows,
// NaN where the target is no class.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    cross_entropy(const T* __restrict__ in, T* __restrict__ out, const long long* __restrict__ target,
                  const T* __restrict__ weight, T* __restrict__ loss, index_t rows, index_t n, index_t inner,
                  long long ignored, A smoothing) {
  __shared__ A room[33];
  EACH_ROW(r) {
    Row<T> x(in + START(r), n, inner), p(out + START(r), n, inner);
    x.read();
    const Peak peak = peak_of(x, room);
    const A shift = log(peak.sum);
    A everywhere = 0;
    each_place(n, [&](Place at) {
      const A v = (x[at] - peak.top) - shift;
      p.put(at, v);
      if (smoothing > 0) everywhere += weight_of(weight, at.j) * v;
    });
    p.write();
    if (smoothing > 0) everywhere = team_sum(everywhere, room);
    if (FIRST_OF_TEAM) {
      const long long t = target[r];
      const bool known = t >= 0 && t < n;
      const A v = known ? (to_A(in[START(r) + t * inner]) - peak.top) - shift : NOT_A_NUMBER;
      const A w = known ? weight_of(weight, t) : A(1);
      loss[r] = to_T(t == ignored ? A(0) : -(1 - smoothing) * w * v - smoothing / n * everywhere);
    }
  }
}

// The gradient of the logits from that of each row's loss: exp(p) (g sum_c k[c]) - g k with k the weights of the loss.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    cross_entropy_backward(const T* __restrict__ log_probability, T* __restrict__ out, const T* __restrict__ slopes,
                           const long long* __restrict__ target, const T* __restrict__ weight, index_t rows, index_t n,
                           index_t inner, long long ignored, A smoothing) {
  __shared__ A room[33];
  A whole = smoothing;
  if (weight && smoothing > 0) {
    A own = 0;
    each_place(n, [&](Place at) { own += to_A(weight[at.j]); });
    whole = smoothing / n * team_sum(own, room);
  }
  EACH_ROW(r) {
    Row<T> p(log_probability + START(r), n, inner), result(out + START(r), n, inner);
    p.read();
    const long long t = target[r];
    const A slope = to_A(slopes[r]), every = slope * smoothing / n;
    const A on_target = slope * (1 - smoothing) * (t >= 0 && t < n ? weight_of(weight, t) : A(1));
    const A total = slope * whole + on_target;
    each_place(n, [&](Place at) {
      A d = exponential(p[at]) * total - (at.j == t ? on_target : A(0));
      if (smoothing > 0) d -= every * weight_of(weight, at.j);
      result.put(at, t == ignored ? A(0) : d);
    });
    result.write();
  }
}
