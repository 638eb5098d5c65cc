"""Convolution and pooling as plain loops over every product and every window."""

import itertools
import math

import numpy as np


def conv_size(size, kernel, stride, padding, dilation):
    return tuple(
        (n + sum(p) - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    )


def taps(x_shape, w_shape, size, stride, padding, dilation, groups):
    """(place in out, place in x, place in w) of every product of a cross-correlation to `size`, for any axes."""
    per = w_shape[0] // groups
    for n, o, c in itertools.product(range(x_shape[0]), range(w_shape[0]), range(w_shape[1])):
        channel = o // per * w_shape[1] + c
        for at, tap in itertools.product(np.ndindex(*size), np.ndindex(*w_shape[2:])):
            place = tuple(
                i * s - p[0] + k * d for i, s, p, k, d in zip(at, stride, padding, tap, dilation, strict=True)
            )
            if all(0 <= p < m for p, m in zip(place, x_shape[2:], strict=True)):
                yield (n, o, *at), (n, channel, *place), (o, c, *tap)


def conv(x, w, b=None, *, stride, padding, dilation, groups):
    size = conv_size(x.shape[2:], w.shape[2:], stride, padding, dilation)
    out = np.zeros((x.shape[0], w.shape[0], *size))
    for o, i, k in taps(x.shape, w.shape, size, stride, padding, dilation, groups):
        out[o] += x[i] * w[k]
    return out if b is None else out + b.reshape(-1, *[1] * (x.ndim - 2))


def conv_input(g, w, *, input_size, stride, padding, dilation, groups):
    """The adjoint with respect to the input."""
    out = np.zeros((g.shape[0], w.shape[1] * groups, *input_size))
    for o, i, k in taps(out.shape, w.shape, g.shape[2:], stride, padding, dilation, groups):
        out[i] += g[o] * w[k]
    return out


def conv_weight(g, x, *, kernel_size, stride, padding, dilation, groups):
    """The adjoint with respect to the weight."""
    out = np.zeros((g.shape[1], x.shape[1] // groups, *kernel_size))
    for o, i, k in taps(x.shape, out.shape, g.shape[2:], stride, padding, dilation, groups):
        out[k] += g[o] * x[i]
    return out


# ---- pooling ---------------------------------------------------------------------------------------------------------


def pool_size(n, k, s, p, d=1, ceil_mode=False):
    """One axis of a pooled plane: in ceil_mode a last window that starts inside the input or its left border counts."""
    span = n + sum(p) - d * (k - 1) - 1
    size = (-(-span // s) if ceil_mode else span // s) + 1
    return size - (ceil_mode and (size - 1) * s >= n + p[0])


def windows(plane, kernel_size, stride, padding, dilation=(1, 1), ceil_mode=False):
    """(place in the result, places of the window inside the plane, elements of the window, padding included)."""
    axes = list(zip(plane, kernel_size, stride, padding, dilation, strict=True))
    for at in np.ndindex(*[pool_size(*axis, ceil_mode) for axis in axes]):
        starts = [i * s - p[0] for i, (_, _, s, p, _) in zip(at, axes, strict=True)]
        lines = [[a + j * d for j in range(k)] for a, (_, k, _, _, d) in zip(starts, axes, strict=True)]
        inside = [[v for v in line if 0 <= v < n] for line, (n, *_) in zip(lines, axes, strict=True)]
        counted = [sum(v < n + p[1] for v in line) for line, (n, _, _, p, _) in zip(lines, axes, strict=True)]
        yield at, list(itertools.product(*inside)), math.prod(counted)


def regions(plane, output_size):
    """(place in the result, its places) of adaptive pooling."""
    for at in np.ndindex(*output_size):
        lines = [range(i * n // o, -(-(i + 1) * n // o)) for i, n, o in zip(at, plane, output_size, strict=True)]
        yield at, list(itertools.product(*lines))


def largest(x, found, size):
    """(values, flat indices) of the first largest of each window."""
    values, indices = np.empty((*x.shape[:2], *size)), np.empty((*x.shape[:2], *size), int)
    for at, places in found:
        for n in np.ndindex(*x.shape[:2]):
            best = max(places, key=lambda p: x[n + p])
            values[n + at], indices[n + at] = x[n + best], np.ravel_multi_index(best, x.shape[2:])
    return values, indices


def max_pool(x, *, kernel_size, stride, padding, dilation, ceil_mode):
    found = list(windows(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode))
    return largest(x, [(at, places) for at, places, _ in found], sizes(at for at, *_ in found))


def adaptive_max(x, *, output_size):
    return largest(x, list(regions(x.shape[2:], output_size)), output_size)


def sizes(places):
    return tuple(1 + np.max(list(places), axis=0))


def divided(found, count_include_pad, divisor_override):
    return [
        (at, places, divisor_override or (counted if count_include_pad else len(places)))
        for at, places, counted in found
    ]


def avg_pool(x, *, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    found = divided(
        windows(x.shape[2:], kernel_size, stride, padding, ceil_mode=ceil_mode), count_include_pad, divisor_override
    )
    out = np.zeros((*x.shape[:2], *sizes(at for at, *_ in found)))
    for n in np.ndindex(*x.shape[:2]):
        for at, places, count in found:
            out[n + at] = math.fsum(x[n + p] for p in places) / count
    return out


def avg_spread(g, *, input_size, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    out = np.zeros((*g.shape[:2], *input_size))
    for at, places, count in divided(
        windows(input_size, kernel_size, stride, padding, ceil_mode=ceil_mode), count_include_pad, divisor_override
    ):
        for n, p in itertools.product(np.ndindex(*g.shape[:2]), places):
            out[n + p] += g[n + at] / count
    return out


def adaptive_avg(x, *, output_size):
    out = np.zeros((*x.shape[:2], *output_size))
    for at, places in regions(x.shape[2:], output_size):
        for n in np.ndindex(*x.shape[:2]):
            out[n + at] = math.fsum(x[n + p] for p in places) / len(places)
    return out


def adaptive_spread(g, *, input_size):
    out = np.zeros((*g.shape[:2], *input_size))
    for at, places in regions(input_size, g.shape[2:]):
        for n, p in itertools.product(np.ndindex(*g.shape[:2]), places):
            out[n + p] += g[n + at] / len(places)
    return out


def gather_planes(x, indices):
    out = np.empty(indices.shape)
    for place in np.ndindex(*indices.shape):
        out[place] = x[place[:2] + np.unravel_index(indices[place], x.shape[2:])]
    return out


def scatter_planes(g, indices, *, plane):
    out = np.zeros((*g.shape[:2], *plane))
    for place in np.ndindex(*indices.shape):
        out[place[:2] + np.unravel_index(indices[place], plane)] += g[place]
    return out


# ---- the largest of a convolution ------------------------------------------------------------------------------------


def conv1d_max(x, w, b=None):
    """(value, first place) of the largest of each filter along each sequence."""
    maps = conv(x, w, b, stride=(1,), padding=((0, 0),), dilation=(1,), groups=1)
    return maps.max(2), maps.argmax(2)


def chosen(places, w_shape):
    """(place in the result, in w, in x) of every product of filters with the windows at `places`."""
    for n, o in np.ndindex(*places.shape):
        for c, j in np.ndindex(*w_shape[1:]):
            yield (n, o), (o, c, j), (n, c, places[n, o] + j)


def windows_product(x, w, places):
    out = np.zeros(places.shape)
    for at, tap, place in chosen(places, w.shape):
        out[at] += w[tap] * x[place]
    return out


def windows_input(g, w, places, *, length):
    out = np.zeros((len(g), w.shape[1], length))
    for at, tap, place in chosen(places, w.shape):
        out[place] += g[at] * w[tap]
    return out


def windows_weight(g, x, places, *, width):
    out = np.zeros((g.shape[1], x.shape[1], width))
    for at, tap, place in chosen(places, out.shape):
        out[tap] += g[at] * x[place]
    return out
