"""Optimiser updates in place, one pass over memory each; torch.optim's formulas.

Every array may be a list of arrays, one per parameter. Loops see flat arrays; the threads share the elements of all
parameters as if those lay one behind the other, so that neither many small nor a few large ones leave a thread idle.
"""

from functools import cache, lru_cache, wraps
from itertools import accumulate, chain

import numpy as np

from . import workers
from .jit import compiles, inline, variant
from .layout import compact
from .scratch import LINE
from .vector import Emitted, address

_GRAIN = 10_000  # elements that outlast handing a slice to a worker
_PIECE = 1 << 14  # numbers whose squares have a sum of their own, whoever adds them
_LOOPED = (np.dtype(np.float32), np.dtype(np.float64))


def _lists(update):
    """Decorate an update of lists of arrays so that it takes arrays too."""

    @wraps(update)
    def wrapped(param, *arrays, **settings):
        if isinstance(param, list):
            return update(param, *arrays, **settings)
        return update([param], *[None if array is None else [array] for array in arrays], **settings)

    return wrapped


@_lists
def sgd_(param, grad, buf, *, lr, momentum, dampening, weight_decay, nesterov, maximize, first):
    """d = ±grad + weight_decay param; buf = momentum buf + (1 - dampening) d (d itself at `first`); param -= lr step.

    The step is buf, or d + momentum buf with `nesterov`, or d without momentum, where buf may be None.
    """
    sign, take = (-1.0 if maximize else 1.0), 1.0 if first else 1.0 - dampening
    if momentum == 0:
        _in_place(_sgd_plain, (param,), grad, (sign, weight_decay, lr))
    else:
        for one in buf if first else ():
            one[...] = 0
        now, later = (1.0, momentum) if nesterov else (0.0, 1.0)
        _in_place(_sgd_momentum, (param, buf), grad, (sign, weight_decay, momentum, take, now * lr, later * lr))


@_lists
def adam_(param, grad, m, v, vmax, *, lr, beta1, beta2, eps, weight_decay, decoupled, maximize, step):
    """m, v: running means of grad and grad²; param -= lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).

    `decoupled` shrinks param by lr weight_decay first (AdamW), otherwise weight_decay param joins grad.  With vmax
    (AMSGrad) the largest v so far divides.  step = t counts from 1.
    """
    sign, shrink, decay = (-1.0 if maximize else 1.0), 1.0, weight_decay
    if decoupled:
        shrink, decay = 1.0 - lr * weight_decay, 0.0
    rate, root = lr / (1 - beta1**step), 1 / np.sqrt(1 - beta2**step)
    scalars = sign, shrink, decay, 1 - beta1, beta2, 1 - beta2, rate, root, eps
    if vmax is None:
        _in_place(_adam, (param, m, v), grad, scalars)
    else:
        _in_place(_amsgrad, (param, m, v, vmax), grad, scalars)


@_lists
def adagrad_(param, grad, acc, *, lr, eps, weight_decay, maximize):
    """acc += grad²; param -= lr grad / (sqrt(acc) + eps)."""
    _in_place(_adagrad, (param, acc), grad, (-1.0 if maximize else 1.0, weight_decay, lr, eps))


@_lists
def adadelta_(param, grad, square_avg, acc_delta, *, lr, rho, eps, weight_decay, maximize):
    """delta = sqrt(acc_delta + eps) / sqrt(square_avg + eps) grad; param -= lr delta; both averages decay by rho."""
    scalars = (-1.0 if maximize else 1.0), weight_decay, rho, 1 - rho, eps, lr
    _in_place(_adadelta, (param, square_avg, acc_delta), grad, scalars)


@_lists
def rmsprop_(param, grad, square_avg, buf, grad_avg, *, lr, alpha, eps, weight_decay, momentum, maximize):
    """param -= lr grad / (sqrt(square_avg - grad_avg²) + eps), through a momentum buffer where momentum > 0.

    buf is None without momentum, grad_avg is None unless centred.
    """
    sign = -1.0 if maximize else 1.0
    scalars = sign, weight_decay, alpha, 1 - alpha, eps
    delta = [np.empty_like(p) for p in param]
    if grad_avg is None:
        _in_place(_rms, (param, square_avg, delta), grad, scalars)
    else:
        _in_place(_rms_centred, (param, square_avg, grad_avg, delta), grad, scalars)
    if buf is None or momentum == 0:
        _in_place(_sgd_plain, (param,), delta, (1.0, 0.0, lr))
    else:
        _in_place(_sgd_momentum, (param, buf), delta, (1.0, 0.0, momentum, 1.0, 0.0, lr))


def gradient_norm(grads):
    """sqrt(sum of all squares) of a list of arrays, added in float64: float32 (or 64), 0-d."""
    if grads and compiles() and _plain([grads]):
        total = _sum_of_squares(grads)
    else:
        with workers.one_blas_thread:
            total = sum(float(np.vdot(g, g)) for g in (np.asarray(g, np.float64) for g in grads))
    return np.array(np.sqrt(total), np.float64 if any(g.dtype.type is np.float64 for g in grads) else np.float32)


def clip_(grads, norm, most):
    """grads *= min(1, most / (norm + 1e-6)), in place; all NaN where norm is."""
    share = most / (float(norm) + 1e-6)
    if share >= 1 or not grads:
        return
    if _plain([grads]):
        _scaled([grads], (grads[0].dtype.type(share),))
    else:
        for g in grads:
            g *= g.dtype.type(share)


def _plain(rows):
    """Whether all arrays are such as the loops take, and of one dtype."""
    dtype = rows[0][0].dtype
    return dtype in _LOOPED and all([x.dtype is dtype and x.flags.carray for row in rows for x in row])


def _in_place(loop, states, grads, numbers):
    """loop(*states, grad, *numbers) over the flat arrays: written whatever their layout and dtype."""
    if not grads:
        return
    rows = [*states, grads]
    if _plain(rows):
        loop(rows, _typed(grads[0].dtype, numbers))
        return
    dtypes = {x.dtype for x in states[0]}
    for dtype in dtypes:
        of_it = rows if len(dtypes) == 1 else [[x for x, p in zip(row, rows[0]) if p.dtype == dtype] for row in rows]
        native = np.dtype(dtype.type)  # in the order of this machine's bytes
        dtype = native if native in _LOOPED else _LOOPED[0]
        ready = [[x if x.dtype is dtype and x.flags.carray else compact(x, dtype) for x in row] for row in of_it]
        loop(ready, _typed(dtype, numbers))
        for state, worked in zip(of_it[:-1], ready):
            for into, x in zip(state, worked):
                if x is not into:
                    into[...] = x


@lru_cache(16)
def _typed(dtype, numbers):
    return tuple([dtype.type(number) for number in numbers])


def _updating(twin):
    """Decorate a loop of arrays and numbers over the elements first to last; twin(*slices, *numbers) has its effect."""
    return lambda function: _Update(function, twin)


class _Update:
    """A loop over the elements of all parameters, called with a list of arrays for each state and for the gradient."""

    def __init__(self, function, twin):
        self.twin, count = twin, twin.__code__.co_varnames.index("grad") + 1
        own = dict(update=inline(function), arrays_at=Emitted(lambda: _write_arrays_at(count)))
        self.loop = workers.shared(None)(variant(_over_all, function.__name__, **own))

    def __call__(self, rows, numbers):
        sizes = [x.size for x in rows[0]]
        if compiles():
            *begins, n = accumulate(sizes, initial=0)
            self.loop(n, np.array([*map(id, chain(*rows)), *begins, n]), len(sizes), numbers, grain=_GRAIN)
            return
        for arrays, size in zip(zip(*rows, strict=True), sizes, strict=True):
            flat = [x.reshape(-1) for x in arrays]
            workers.run(lambda a, b: self.twin(*[x[a:b] for x in flat], *numbers), size, grain=_GRAIN)  # noqa: B023


update = arrays_at = None  # of each loop its own


def _over_all(table, count, numbers, first, last):
    """The update of elements first … last of `count` parameters; the table ends with where each begins among them.

    The few before a line of the cache begins have a turn of their own, lest every vector lie across two lines.
    """
    begins = table[len(table) - count - 1 :]
    for k in range(count):
        begin, end = begins[k], begins[k + 1]
        if first < end and last > begin:
            arrays = arrays_at(numbers[0], address(table) + 8 * k, 8 * count, end - begin)
            start, stop = max(first, begin) - begin, min(last, end) - begin
            size = arrays[0].itemsize
            line = min(stop, start + -(address(arrays[0]) + start * size) % LINE // size)
            for part in ((start, line), (line, stop)):
                update(*(arrays + numbers + part))


_HEADER = object.__basicsize__  # bytes of an array, by NumPy's C interface, before the address of its elements


def _write_arrays_at(count):
    """The instruction `arrays_at(one, place, apart, n)`: `count` flat arrays of n elements like `one`.

    Where their Python objects are is written at `place` and every `apart` bytes from there on: asking each for the
    address of its elements takes Python a microsecond.
    """
    from llvmlite import ir
    from numba import types
    from numba.core.typing import signature
    from numba.extending import intrinsic
    from numba.np.arrayobj import make_array, populate_array

    whole = ir.IntType(64)

    @intrinsic
    def arrays_at(typing, one, place, apart, n):
        kind = types.Array(one, 1, "C")

        def generate(context, builder, signature, given):
            _one, place, apart, n = given
            load = lambda at: builder.load(builder.inttoptr(at, whole.as_pointer()))
            arrays, bytes_each = [], context.get_constant(types.intp, one.bitwidth // 8)
            for i in range(count):
                source = load(builder.add(place, builder.mul(apart, ir.Constant(whole, i))))
                elements = load(builder.add(source, ir.Constant(whole, _HEADER)))
                array = make_array(kind)(context, builder)
                pointer = builder.inttoptr(elements, array.data.type)
                populate_array(array, data=pointer, shape=[n], strides=[bytes_each], itemsize=bytes_each, meminfo=None)
                arrays.append(array._getvalue())
            return context.make_tuple(builder, signature.return_type, arrays)

        return signature(types.UniTuple(kind, count), one, *[types.intp] * 3), generate

    return arrays_at


@inline
def used(y, share):
    """y, of which a share is taken: 0 for none of it, since 0 times an infinity is NaN."""
    return y if share != 0 else share


@inline
def direction(sign, grad, decay, param):
    """The gradient to follow: always of two products, so that they are rounded alike in vectors and one by one."""
    return sign * grad + decay * used(param, decay)


def _scaled_numpy(grad, share):
    grad *= share


@_updating(_scaled_numpy)
def _scaled(grad, share, first, last):
    grad = grad[first:last]
    for i in range(len(grad)):
        grad[i] *= share


def _sum_of_squares(grads):
    sizes = [g.size for g in grads]
    *begins, n = accumulate([-(-size // _PIECE) for size in sizes], initial=0)
    table, sums = np.array([*map(id, grads), *begins, n, *sizes]), np.empty(n)
    _squares()(n, table, len(sizes), grads[0].dtype.type(1), sums, grain=1)
    return float(sums.sum())


@cache
def _squares():
    own = dict(squares=inline(_sum_piece, reassociate=True), arrays_at=Emitted(lambda: _write_arrays_at(1)))
    return workers.shared(None)(variant(_pieces_of_all, "pieces_of_all", **own))


def _sum_piece(x):
    total = 0.0
    for i in range(len(x)):
        total += np.float64(x[i]) * np.float64(x[i])
    return total


squares = None  # `_sum_piece` (`_squares`)


def _pieces_of_all(table, count, one, sums, first, last):
    """The sums of squares of the pieces first … last; the table ends with where each array's begin, and the sizes."""
    begins, sizes = table[count : 2 * count + 1], table[2 * count + 1 :]
    for k in range(count):
        begin, end = begins[k], begins[k + 1]
        if first < end and last > begin:
            (x,) = arrays_at(one, address(table) + 8 * k, 8 * count, sizes[k])
            for piece in range(max(first, begin), min(last, end)):
                start = (piece - begin) * _PIECE
                sums[piece] = squares(x[start : start + _PIECE])


def _sgd_plain_numpy(param, grad, sign, decay, lr):
    param -= lr * direction(sign, grad, decay, param)


@_updating(_sgd_plain_numpy)
def _sgd_plain(param, grad, sign, decay, lr, first, last):
    part = slice(first, last)
    param, grad = param[part], grad[part]
    for i in range(len(param)):
        param[i] -= lr * direction(sign, grad[i], decay, param[i])


def _sgd_momentum_numpy(param, buf, grad, sign, decay, keep, take, now, later):
    d = direction(sign, grad, decay, param)
    buf[...] = keep * buf + take * d
    param -= now * used(d, now) + later * buf


@_updating(_sgd_momentum_numpy)
def _sgd_momentum(param, buf, grad, sign, decay, keep, take, now, later, first, last):
    part = slice(first, last)
    param, buf, grad = param[part], buf[part], grad[part]
    for i in range(len(param)):
        d = direction(sign, grad[i], decay, param[i])
        moved = keep * buf[i] + take * d
        buf[i] = moved
        param[i] -= now * used(d, now) + later * moved


def _adam_numpy(param, m, v, grad, sign, shrink, decay, take1, keep2, take2, rate, root, eps):
    grad = direction(sign, grad, decay, param)
    m += take1 * (grad - m)
    v[...] = keep2 * v + take2 * grad * grad
    param[...] = shrink * param - rate * m / (np.sqrt(v) * root + eps)


@_updating(_adam_numpy)
def _adam(param, m, v, grad, sign, shrink, decay, take1, keep2, take2, rate, root, eps, first, last):
    part = slice(first, last)
    param, m, v, grad = param[part], m[part], v[part], grad[part]
    for i in range(len(param)):
        d = direction(sign, grad[i], decay, param[i])
        mean = m[i] + take1 * (d - m[i])
        square = keep2 * v[i] + take2 * d * d
        m[i], v[i] = mean, square
        param[i] = shrink * param[i] - rate * mean / (np.sqrt(square) * root + eps)


def _amsgrad_numpy(param, m, v, vmax, grad, sign, shrink, decay, take1, keep2, take2, rate, root, eps):
    grad = direction(sign, grad, decay, param)
    m += take1 * (grad - m)
    v[...] = keep2 * v + take2 * grad * grad
    np.maximum(vmax, v, out=vmax)
    param[...] = shrink * param - rate * m / (np.sqrt(vmax) * root + eps)


@_updating(_amsgrad_numpy)
def _amsgrad(param, m, v, vmax, grad, sign, shrink, decay, take1, keep2, take2, rate, root, eps, first, last):
    part = slice(first, last)
    param, m, v, vmax, grad = param[part], m[part], v[part], vmax[part], grad[part]
    for i in range(len(param)):
        d = direction(sign, grad[i], decay, param[i])
        mean = m[i] + take1 * (d - m[i])
        square = keep2 * v[i] + take2 * d * d
        largest = vmax[i] if vmax[i] > square else square  # NaN too
        m[i], v[i], vmax[i] = mean, square, largest
        param[i] = shrink * param[i] - rate * mean / (np.sqrt(largest) * root + eps)


def _adagrad_numpy(param, acc, grad, sign, decay, lr, eps):
    grad = direction(sign, grad, decay, param)
    acc += grad * grad
    param -= lr * grad / (np.sqrt(acc) + eps)


@_updating(_adagrad_numpy)
def _adagrad(param, acc, grad, sign, decay, lr, eps, first, last):
    part = slice(first, last)
    param, acc, grad = param[part], acc[part], grad[part]
    for i in range(len(param)):
        d = direction(sign, grad[i], decay, param[i])
        total = acc[i] + d * d
        acc[i] = total
        param[i] -= lr * d / (np.sqrt(total) + eps)


def _adadelta_numpy(param, square_avg, acc_delta, grad, sign, decay, keep, take, eps, lr):
    grad = direction(sign, grad, decay, param)
    square_avg[...] = keep * square_avg + take * grad * grad
    delta = np.sqrt(acc_delta + eps) / np.sqrt(square_avg + eps) * grad
    acc_delta[...] = keep * acc_delta + take * delta * delta
    param -= lr * delta


@_updating(_adadelta_numpy)
def _adadelta(param, square_avg, acc_delta, grad, sign, decay, keep, take, eps, lr, first, last):
    part = slice(first, last)
    param, square_avg, acc_delta, grad = param[part], square_avg[part], acc_delta[part], grad[part]
    for i in range(len(param)):
        d = direction(sign, grad[i], decay, param[i])
        square = keep * square_avg[i] + take * d * d
        delta = np.sqrt(acc_delta[i] + eps) / np.sqrt(square + eps) * d
        square_avg[i] = square
        acc_delta[i] = keep * acc_delta[i] + take * delta * delta
        param[i] -= lr * delta


def _rms_numpy(param, square_avg, delta, grad, sign, decay, keep, take, eps):
    grad = direction(sign, grad, decay, param)
    square_avg[...] = keep * square_avg + take * grad * grad
    delta[...] = grad / (np.sqrt(square_avg) + eps)


@_updating(_rms_numpy)
def _rms(param, square_avg, delta, grad, sign, decay, keep, take, eps, first, last):
    part = slice(first, last)
    param, square_avg, delta, grad = param[part], square_avg[part], delta[part], grad[part]
    for i in range(len(param)):
        d = direction(sign, grad[i], decay, param[i])
        square = keep * square_avg[i] + take * d * d
        square_avg[i] = square
        delta[i] = d / (np.sqrt(square) + eps)


def _rms_centred_numpy(param, square_avg, grad_avg, delta, grad, sign, decay, keep, take, eps):
    grad = direction(sign, grad, decay, param)
    square_avg[...] = keep * square_avg + take * grad * grad
    grad_avg += take * (grad - grad_avg)
    delta[...] = grad / (np.sqrt(square_avg - grad_avg * grad_avg) + eps)


@_updating(_rms_centred_numpy)
def _rms_centred(param, square_avg, grad_avg, delta, grad, sign, decay, keep, take, eps, first, last):
    part = slice(first, last)
    param, square_avg, grad_avg, delta, grad = param[part], square_avg[part], grad_avg[part], delta[part], grad[part]
    for i in range(len(param)):
        d = direction(sign, grad[i], decay, param[i])
        square = keep * square_avg[i] + take * d * d
        mean = grad_avg[i] + take * (d - grad_avg[i])
        square_avg[i], grad_avg[i] = square, mean
        delta[i] = d / (np.sqrt(square - mean * mean) + eps)
