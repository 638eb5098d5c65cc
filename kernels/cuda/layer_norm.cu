#include "rows.cuh"

// Layer normalisation: rows (rows, n), a team of threads for each. Sums are of x - the row's first element, so that a
// large mean costs no digits. Floor: forward x read, the result written; backward g and x read, the result written.

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    layer_norm(const T* __restrict__ in, const T* __restrict__ weight, const T* __restrict__ bias, T* __restrict__ out,
               T* __restrict__ mean, T* __restrict__ rstd, index_t rows, index_t n, index_t inner, A eps) {
  __shared__ A room[33];
  EACH_ROW(r) {
    Row<T> x(in + r * n, n), w(weight, n), b(bias, n), result(out + r * n, n);
    x.read();
    const A origin = to_A(in[r * n]);
    A sum = 0, square = 0;
    each_place(n, [&](Place at) { sum += x[at] - origin; });
    const A centre = team_sum(sum, room) / n;
    each_place(n, [&](Place at) {
      const A away = (x[at] - origin) - centre;
      square += away * away;
    });
    const A scale = 1 / sqrt(team_sum(square, room) / n + eps);
    if (FIRST_OF_TEAM) mean[r] = to_T(origin + centre), rstd[r] = to_T(scale);
    if (weight) w.read();
    if (bias) b.read();
    each_place(n, [&](Place at) {
      const A normal = ((x[at] - origin) - centre) * scale;
      result.put(at, (weight ? normal * w[at] : normal) + (bias ? b[at] : A(0)));
    });
    result.write();
  }
}

// parts (teams, 2, n): of the rows team, team + teams, … of each, the sums of g (x - mean) rstd and of g.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    layer_norm_backward(const T* __restrict__ slope, const T* __restrict__ in, const T* __restrict__ weight,
                        T* __restrict__ out, A* __restrict__ parts, const T* __restrict__ mean,
                        const T* __restrict__ rstd, index_t rows, index_t n, index_t inner, index_t teams) {
  __shared__ A room[33];
  const index_t team = (static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x) / TEAM;
  if (team >= teams) return;
  Row<A> along(parts + 2 * team * n, n), whole(parts + (2 * team + 1) * n, n);
  each_place(n, [&](Place at) { along.put(at, 0), whole.put(at, 0); });
  for (index_t r = team; r < rows; r += teams) {
    Row<T> g(slope + r * n, n), x(in + r * n, n), w(weight, n), result(out + r * n, n);
    g.read(), x.read();
    if (weight) w.read();
    const A centre = to_A(mean[r]), scale = to_A(rstd[r]);
    A total = 0, tilt = 0;
    each_place(n, [&](Place at) {
      const A normal = (x[at] - centre) * scale, d = weight ? g[at] * w[at] : g[at];
      along.put(at, along[at] + g[at] * normal), whole.put(at, whole[at] + g[at]);
      total += d, tilt += d * normal;
    });
    total = team_sum(total, room) / n, tilt = team_sum(tilt, room) / n;
    each_place(n, [&](Place at) {
      const A normal = (x[at] - centre) * scale, d = weight ? g[at] * w[at] : g[at];
      result.put(at, (d - total - normal * tilt) * scale);
    });
    result.write();
  }
  along.write(), whole.write();
}
