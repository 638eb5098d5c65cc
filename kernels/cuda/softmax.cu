#include "rows.cuh"

// Softmax and its relations along the middle axis of x (outer, n, inner): row r = (o, i) has the elements
// x[(o n + j) inner + i]. Where inner > 1 a thread works on a row, and neighbours read
// neighbours. Each row is read twice, the second time from cache. Floor: the inputs read and the results written once.

#define START(r) ((r) / inner * n * inner + (r) % inner)

// The largest element of a row and the sum of exp(x - largest), NaN where the largest is infinite.
struct Peak { A top, sum; };

__device__ Peak peak_of(const T* __restrict__ x, index_t start, index_t n, index_t inner, A* room) {
  Peak own = {-INFINITE, 0};
  EACH_ELEMENT(j) {
    const A v = to_A(x[start + j * inner]);
    if (v > own.top) {
      own.sum = own.sum * exp(own.top - v) + 1;
      own.top = v;
    } else if (v != -INFINITE) {
      own.sum += exp(v - own.top);
    }
  }
  const A top = team_max(own.top, room);
  const A sum = team_sum(own.top == top ? own.sum : own.sum * exp(own.top - top), room);
  return {top, top == INFINITE || top == -INFINITE ? top - top : sum};
}

extern "C" __global__ void softmax(const T* __restrict__ x, T* __restrict__ out, index_t rows, index_t n, index_t inner) {
  __shared__ A room[33];
  EACH_ROW(r) {
    const index_t start = START(r);
    const Peak peak = peak_of(x, start, n, inner, room);
    const A scale = 1 / peak.sum;
    EACH_ELEMENT(j) out[start + j * inner] = to_T(exp(to_A(x[start + j * inner]) - peak.top) * scale);
  }
}

extern "C" __global__ void log_softmax(const T* __restrict__ x, T* __restrict__ out, index_t rows, index_t n,
                                       index_t inner) {
  __shared__ A room[33];
  EACH_ROW(r) {
    const index_t start = START(r);
    const Peak peak = peak_of(x, start, n, inner, room);
    const A shift = log(peak.sum);
    EACH_ELEMENT(j) out[start + j * inner] = to_T((to_A(x[start + j * inner]) - peak.top) - shift);
  }
}

extern "C" __global__ void logsumexp(const T* __restrict__ x, T* __restrict__ out, index_t rows, index_t n,
                                     index_t inner) {
  __shared__ A room[33];
  EACH_ROW(r) {
    const Peak peak = peak_of(x, START(r), n, inner, room);
    const bool infinite = peak.top - peak.top != 0;
    if (FIRST_OF_TEAM) out[r] = to_T(infinite ? peak.top : peak.top + log(peak.sum));
  }
}

extern "C" __global__ void softmax_backward(const T* __restrict__ g, const T* __restrict__ p, T* __restrict__ out,
                                            index_t rows, index_t n, index_t inner) {
  __shared__ A room[33];
  EACH_ROW(r) {
    const index_t start = START(r);
    A total = 0;
    EACH_ELEMENT(j) total += to_A(g[start + j * inner]) * to_A(p[start + j * inner]);
    total = team_sum(total, room);
    EACH_ELEMENT(j) {
      const index_t k = start + j * inner;
      out[k] = to_T((to_A(g[k]) - total) * to_A(p[k]));
    }
  }
}

extern "C" __global__ void log_softmax_backward(const T* __restrict__ g, const T* __restrict__ p, T* __restrict__ out,
                                                index_t rows, index_t n, index_t inner) {
  __shared__ A room[33];
  EACH_ROW(r) {
    const index_t start = START(r);
    A total = 0;
    EACH_ELEMENT(j) total += to_A(g[start + j * inner]);
    total = team_sum(total, room);
    EACH_ELEMENT(j) {
      const index_t k = start + j * inner;
      out[k] = to_T(to_A(g[k]) - exp(to_A(p[k])) * total);
    }
  }
}

// loss[r] = -(1 - e) w[t] p[t] - e / n sum_c w[c] p[c] with p = log softmax(x), which is written too; 0 at ignored rows,
// NaN where the target is no class. w may be null: ones.
extern "C" __global__ void cross_entropy(const T* __restrict__ x, const long long* __restrict__ target,
                                         const T* __restrict__ weight, T* __restrict__ loss, T* __restrict__ p,
                                         index_t rows, index_t n, index_t inner, long long ignored, A smoothing) {
  __shared__ A room[33];
  EACH_ROW(r) {
    const index_t start = START(r);
    const Peak peak = peak_of(x, start, n, inner, room);
    const A shift = log(peak.sum);
    A everywhere = 0;
    EACH_ELEMENT(j) {
      const A v = (to_A(x[start + j * inner]) - peak.top) - shift;
      p[start + j * inner] = to_T(v);
      everywhere += (weight ? to_A(weight[j]) : A(1)) * v;
    }
    if (smoothing > 0) everywhere = team_sum(everywhere, room);
    if (FIRST_OF_TEAM) {
      const long long t = target[r];
      const bool known = t >= 0 && t < n;
      const A v = known ? (to_A(x[start + t * inner]) - peak.top) - shift : NOT_A_NUMBER;
      const A w = weight && known ? to_A(weight[t]) : A(1);
      const A smooth = smoothing > 0 ? smoothing / n * everywhere : A(0);
      loss[r] = to_T(t == ignored ? A(0) : -(1 - smoothing) * w * v - smooth);
    }
  }
}

// The gradient of the logits from that of each row's loss: exp(p) (g sum_c k[c]) - g k with k the weights of the loss.
extern "C" __global__ void cross_entropy_backward(const T* __restrict__ g, const T* __restrict__ p,
                                                  const long long* __restrict__ target, const T* __restrict__ weight,
                                                  T* __restrict__ out, index_t rows, index_t n, index_t inner,
                                                  long long ignored, A smoothing) {
  __shared__ A room[33];
  A whole = smoothing;
  if (weight && smoothing > 0) {
    A own = 0;
    EACH_ELEMENT(j) own += to_A(weight[j]);
    whole = smoothing / n * team_sum(own, room);
  }
  EACH_ROW(r) {
    const index_t start = START(r);
    const long long t = target[r];
    const bool known = t >= 0 && t < n;
    const A slope = to_A(g[r]), on_target = slope * (1 - smoothing) * (weight && known ? to_A(weight[t]) : A(1));
    const A total = slope * whole + on_target, every = slope * smoothing / n;
    EACH_ELEMENT(j) {
      const index_t k = start + j * inner;
      const A d = exp(to_A(p[k])) * total - every * (weight ? to_A(weight[j]) : A(1)) - (j == t ? on_target : A(0));
      out[k] = to_T(t == ignored ? A(0) : d);
    }
  }
}
