"""Plain-loop oracles in NumPy: slow, obvious, and sharing nothing with the kernels that they judge."""

import math

import numpy as np


def _pad(x, padding, value=0.0):
    (top, bottom), (left, right) = padding
    n, c, h, w = x.shape
    out = np.full((n, c, top + h + bottom, left + w + right), value, x.dtype)
    out[:, :, top : top + h, left : left + w] = x
    return out


def _taps(x_shape, w_shape, stride, padding, dilation, groups):
    """Every product of a convolution as indices (n, o, r, q) of the output, (o, c, i, j) of w, (n, c', y, z) of x."""
    (n_images, channels, height, width), (n_out, per_group, kh, kw) = x_shape, w_shape
    (top, bottom), (left, right) = padding
    rows = (height + top + bottom - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    columns = (width + left + right - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    assert channels == per_group * groups
    products = []
    for n in range(n_images):
        for o in range(n_out):
            group = o // (n_out // groups)
            for r in range(rows):
                for q in range(columns):
                    for c in range(per_group):
                        for i in range(kh):
                            for j in range(kw):
                                y = r * stride[0] - top + i * dilation[0]
                                z = q * stride[1] - left + j * dilation[1]
                                if 0 <= y < height and 0 <= z < width:
                                    products.append(((n, o, r, q), (o, c, i, j), (n, group * per_group + c, y, z)))
    return (n_images, n_out, rows, columns), products


def conv2d(x, w, b=None, *, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    shape, products = _taps(x.shape, w.shape, stride, padding, dilation, groups)
    out = np.zeros(shape, np.float64)
    for at_out, at_w, at_x in products:
        out[at_out] += float(w[at_w]) * float(x[at_x])
    if b is not None:
        for o in range(shape[1]):
            out[:, o] += b[o]
    return out


def conv2d_input(g, w, *, input_size, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    x_shape = (g.shape[0], w.shape[1] * groups, *input_size)
    shape, products = _taps(x_shape, w.shape, stride, padding, dilation, groups)
    assert g.shape == shape
    out = np.zeros(x_shape, np.float64)
    for at_out, at_w, at_x in products:
        out[at_x] += float(w[at_w]) * float(g[at_out])
    return out


def conv2d_weight(g, x, *, kernel_size, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    w_shape = (g.shape[1], x.shape[1] // groups, *kernel_size)
    shape, products = _taps(x.shape, w_shape, stride, padding, dilation, groups)
    assert g.shape == shape
    out = np.zeros(w_shape, np.float64)
    for at_out, at_w, at_x in products:
        out[at_w] += float(x[at_x]) * float(g[at_out])
    return out


def _pool_size(size, kernel, stride, before, after, dilation, ceil_mode):
    """Count windows one by one: each must fit, or with ceil_mode at least start inside input or padding before it."""
    count = 0
    while True:
        start = count * stride
        fits = start + dilation * (kernel - 1) + 1 <= size + before + after
        reaches = start - stride + dilation * (kernel - 1) + 1 < size + before + after
        if not fits and not (ceil_mode and count > 0 and reaches and start < size + before):
            return count
        count += 1


def max_pool2d(x, *, kernel_size, stride, padding=((0, 0), (0, 0)), dilation=(1, 1), ceil_mode=False):
    """The largest of each window (the last NaN if there is one, else the first largest) and its place in the plane."""
    n_images, channels, height, width = x.shape
    rows, columns = (
        _pool_size(x.shape[2 + a], kernel_size[a], stride[a], *padding[a], dilation[a], ceil_mode) for a in (0, 1)
    )
    out = np.zeros((n_images, channels, rows, columns), x.dtype)
    indices = np.zeros(out.shape, np.int64)
    for n, c, r, q in np.ndindex(out.shape):
        best = place = None
        for i in range(kernel_size[0]):
            for j in range(kernel_size[1]):
                y = r * stride[0] - padding[0][0] + i * dilation[0]
                z = q * stride[1] - padding[1][0] + j * dilation[1]
                if 0 <= y < height and 0 <= z < width:
                    value = x[n, c, y, z]
                    if best is None or value > best or math.isnan(value):
                        best, place = value, y * width + z
        out[n, c, r, q], indices[n, c, r, q] = best, place
    return out, indices


def avg_pool2d(
    x, *, kernel_size, stride, padding=((0, 0), (0, 0)), ceil_mode=False, count_include_pad=True, divisor_override=None
):
    n_images, channels, height, width = x.shape
    rows, columns = (_pool_size(x.shape[2 + a], kernel_size[a], stride[a], *padding[a], 1, ceil_mode) for a in (0, 1))
    out = np.zeros((n_images, channels, rows, columns), np.float64)
    for n, c, r, q in np.ndindex(out.shape):
        total, inside, padded = 0.0, 0, 0
        for i in range(kernel_size[0]):
            for j in range(kernel_size[1]):
                y, z = r * stride[0] - padding[0][0] + i, q * stride[1] - padding[1][0] + j
                if y < height + padding[0][1] and z < width + padding[1][1]:
                    padded += 1
                if 0 <= y < height and 0 <= z < width:
                    total, inside = total + float(x[n, c, y, z]), inside + 1
        out[n, c, r, q] = total / (divisor_override or (padded if count_include_pad else inside))
    return out


def adaptive_windows(size, count):
    """[(start, stop)] with start = floor(i size / count), stop = ceil((i + 1) size / count)."""
    return [(math.floor(i * size / count), math.ceil((i + 1) * size / count)) for i in range(count)]


def adaptive_avg_pool2d(x, *, output_size):
    out = np.zeros((*x.shape[:2], *output_size), np.float64)
    for r, (a, b) in enumerate(adaptive_windows(x.shape[2], output_size[0])):
        for q, (c, d) in enumerate(adaptive_windows(x.shape[3], output_size[1])):
            out[:, :, r, q] = x[:, :, a:b, c:d].astype(np.float64).mean((2, 3))
    return out


def adaptive_max_pool2d(x, *, output_size):
    out, indices = np.zeros((*x.shape[:2], *output_size), x.dtype), np.zeros((*x.shape[:2], *output_size), np.int64)
    for r, (a, b) in enumerate(adaptive_windows(x.shape[2], output_size[0])):
        for q, (c, d) in enumerate(adaptive_windows(x.shape[3], output_size[1])):
            for n, k in np.ndindex(x.shape[:2]):
                window = x[n, k, a:b, c:d]
                i, j = np.unravel_index(int(np.argmax(window)), window.shape)
                out[n, k, r, q], indices[n, k, r, q] = window[i, j], (a + i) * x.shape[3] + c + j
    return out, indices


def adjoint(linear, shape, g):
    """The adjoint of a linear function at g, column by column: entry i is <linear(e_i), g>."""
    out = np.zeros(shape, np.float64)
    for at in np.ndindex(*shape):
        unit = np.zeros(shape, np.float64)
        unit[at] = 1.0
        out[at] = (linear(unit) * g).sum()
    return out


def derivative(f, x, g, step=1e-6):
    """The gradient of <f(x), g> at x (float64), by central differences one element at a time."""
    out = np.zeros(x.shape, np.float64)
    for at in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[at] += step
        down[at] -= step
        out[at] = ((f(up) - f(down)) * g).sum() / (2 * step)
    return out


def batch_norm(x, weight=None, bias=None, *, eps=1e-5):
    """(out, mean, biased variance, 1 / sqrt(variance + eps)), each channel by itself in float64."""
    x = x.astype(np.float64)
    out, channels = np.zeros(x.shape), x.shape[1]
    mean, var = np.zeros(channels), np.zeros(channels)
    for c in range(channels):
        values = [float(v) for v in x[:, c].reshape(-1)]
        mean[c] = math.fsum(values) / len(values)
        var[c] = math.fsum((v - mean[c]) ** 2 for v in values) / len(values)
        out[:, c] = (x[:, c] - mean[c]) / math.sqrt(var[c] + eps)
        out[:, c] = out[:, c] * (1 if weight is None else weight[c]) + (0 if bias is None else bias[c])
    return out, mean, var, 1 / np.sqrt(var + eps)


def group_norm(x, weight=None, bias=None, *, groups, eps=1e-5):
    """(out, mean, 1 / sqrt(variance + eps)), each group of an item's channels by itself in float64."""
    out, mean, _, rstd = batch_norm(x.reshape(1, len(x) * groups, -1), eps=eps)
    own = lambda values: values.reshape(-1, *[1] * (x.ndim - 2))
    out = out.reshape(x.shape) * (1 if weight is None else own(weight)) + (0 if bias is None else own(bias))
    return out, mean, rstd


def layer_norm(x, weight=None, bias=None, *, axes=1, eps=1e-5):
    """(out, mean, 1 / sqrt(variance + eps)), each row of the last `axes` axes by itself in float64."""
    x = x.astype(np.float64)
    out, kept = np.zeros(x.shape), x.shape[: x.ndim - axes]
    mean, rstd = np.zeros(kept), np.zeros(kept)
    for at in np.ndindex(*kept):
        values = [float(v) for v in x[at].reshape(-1)]
        mean[at] = math.fsum(values) / len(values)
        rstd[at] = 1 / math.sqrt(math.fsum((v - mean[at]) ** 2 for v in values) / len(values) + eps)
        out[at] = (x[at] - mean[at]) * rstd[at] * (1 if weight is None else weight) + (0 if bias is None else bias)
    return out, mean, rstd


def cross_entropy(logits, target, weight=None, ignore_index=-100, label_smoothing=0.0):
    """The loss of each item: -sum over classes of w[c] q[c] log p[c], q the smoothed target; 0 where ignored."""
    classes = logits.shape[1]
    weight = np.ones(classes) if weight is None else weight
    out = np.zeros(target.shape)
    for at in np.ndindex(*target.shape):
        if target[at] == ignore_index:
            continue
        scores = [float(v) for v in logits[(at[0], slice(None), *at[1:])]]
        top = max(scores)
        log_total = top + math.log(math.fsum(math.exp(s - top) for s in scores))
        for c in range(classes):
            q = label_smoothing / classes + (1 - label_smoothing) * (c == target[at])
            out[at] -= float(weight[c]) * q * (scores[c] - log_total)
    return out


# ---- recurrent networks over packed rows, one sequence after the other -----------------------------------------------


def _scan(step, x, states, batch_sizes, reverse):
    """Each sequence's rows through step(row, *states) -> states: the first states by row, the last ones by sequence."""
    out, last = np.zeros((len(x), states[0].shape[1])), [np.array(s, np.float64) for s in states]
    for b in range(batch_sizes[0]):
        rows = [sum(batch_sizes[:t]) + b for t, n in enumerate(batch_sizes) if b < n]
        own = [s[b] for s in last]
        for row in reversed(rows) if reverse else rows:
            own = step(x[row].astype(np.float64), *own)
            out[row] = own[0]
        for s, value in zip(last, own, strict=True):
            s[b] = value
    return (out, *last)


def _affine(w, x, b):
    return w @ x if b is None else w @ x + b


def _sigmoid(x):
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def rnn_sequence(h0, x, w_ih, w_hh, b_ih=None, b_hh=None, *, batch_sizes, reverse=False, nonlinearity="tanh"):
    def step(x, h):
        a = _affine(w_ih, x, b_ih) + _affine(w_hh, h, b_hh)
        return [np.tanh(a) if nonlinearity == "tanh" else np.where(a < 0, 0.0, a)]

    return _scan(step, x, [h0], batch_sizes, reverse)


def lstm_sequence(
    h0, x, c0, w_ih, w_hh, b_ih=None, b_hh=None, peephole=None, *, batch_sizes, reverse=False, previous=False
):
    p_i, p_f, p_o = np.zeros((3, h0.shape[1])) if peephole is None else peephole

    def step(x, h, c):
        a_i, a_f, a_g, a_o = np.split(_affine(w_ih, x, b_ih) + _affine(w_hh, h, b_hh), 4)
        new = _sigmoid(a_f + p_f * c) * c + _sigmoid(a_i + p_i * c) * np.tanh(a_g)
        return _sigmoid(a_o + p_o * (c if previous else new)) * np.tanh(new), new

    return _scan(step, x, [h0, c0], batch_sizes, reverse)


def gru_sequence(h0, x, w_ih, w_hh, b_ih=None, b_hh=None, *, batch_sizes, reverse=False, reset_after=True):
    size = h0.shape[1]
    b = np.zeros(3 * size) if b_hh is None else b_hh

    def step(x, h):
        x_r, x_z, x_n = np.split(_affine(w_ih, x, b_ih), 3)
        r = _sigmoid(x_r + w_hh[:size] @ h + b[:size])
        z = _sigmoid(x_z + w_hh[size : 2 * size] @ h + b[size : 2 * size])
        w, b_n = w_hh[2 * size :], b[2 * size :]
        n = np.tanh(x_n + (r * (w @ h + b_n) if reset_after else w @ (r * h) + b_n))
        return [(1 - z) * n + z * h]

    return _scan(step, x, [h0], batch_sizes, reverse)


def philox(n, draw):
    """The first n words of Philox4x32-10 with the counters (0, draw), (1, draw), … and the key 0."""
    words, low = [], 0xFFFFFFFF
    for place in range(-(-n // 4)):
        c = [place & low, place >> 32, draw & low, draw >> 32]
        k = [0, 0]
        for _ in range(10):
            a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
            c = [(b >> 32) ^ c[1] ^ k[0], b & low, (a >> 32) ^ c[3] ^ k[1], a & low]
            k = [(k[0] + 0x9E3779B9) & low, (k[1] + 0xBB67AE85) & low]
        words += c
    return np.array(words[:n], np.int64)
