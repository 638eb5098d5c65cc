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

// Loss and gradient in one reading of the logits: either may be a null pointer.
// losses[r] = -(1 - e) w[t] p[t] - e / n sum_c w[c] p[c] with p = log softmax(x); 0 at ignored rows, NaN where the target
// is no class. sums[block]: the block's losses added. out: exp(p) (g sum_c k[c]) - g k with k the weights of the loss and
// g = slopes[r step] (1 without slopes), divided by what `parts` add up to where there are any.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    cross_entropy(const T* __restrict__ in, T* __restrict__ out, const long long* __restrict__ target,
                  const T* __restrict__ weight, T* __restrict__ losses, A* __restrict__ sums,
                  const T* __restrict__ slopes, const A* __restrict__ parts, index_t rows, index_t n, index_t inner,
                  index_t step, index_t count, long long ignored, A smoothing) {
  __shared__ A room[33];
  A share = 1, whole = smoothing, sum = 0;
  if (parts) share = 1 / block_sum(threadIdx.x < count ? parts[threadIdx.x] : A(0), room);
  if (out && weight && smoothing > 0) {
    A own = 0;
    each_place(n, [&](Place at) { own += to_A(weight[at.j]); });
    whole = smoothing / n * team_sum(own, room);
  }
  EACH_ROW(r) {
    Row<T> x(in + START(r), n, inner);
    x.read();
    const Peak peak = peak_of(x, room);
    const long long t = target[r];
    const bool known = t >= 0 && t < n, counted = t != ignored;
    const A own = known ? weight_of(weight, t) : A(1);
    if (losses || sums) {
      const A shift = log(peak.sum);
      A everywhere = 0;
      if (smoothing > 0) {
        each_place(n, [&](Place at) { everywhere += weight_of(weight, at.j) * ((x[at] - peak.top) - shift); });
        everywhere = team_sum(everywhere, room);
      }
      if (FIRST_OF_TEAM) {
        const A v = known ? (to_A(in[START(r) + t * inner]) - peak.top) - shift : NOT_A_NUMBER;
        const A loss = counted ? -(1 - smoothing) * own * v - smoothing / n * everywhere : A(0);
        if (losses) losses[r] = to_T(loss);
        sum += loss;
      }
    }
    if (out) {
      Row<T> result(out + START(r), n, inner);
      const A slope = share * (slopes ? to_A(slopes[r * step]) : A(1)), every = slope * smoothing / n;
      const A on_target = slope * (1 - smoothing) * own, scale = (slope * whole + on_target) / peak.sum;
      each_place(n, [&](Place at) {
        A d = exponential(x[at] - peak.top) * scale - (at.j == t ? on_target : A(0));
        if (smoothing > 0) d -= every * weight_of(weight, at.j);
        result.put(at, counted ? d : A(0));
      });
      result.write();
    }
  }
  if (sums) {
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
  }
}
