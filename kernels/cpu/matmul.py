"""Matrix products, large ones shared by the workers."""

from functools import cache, lru_cache

import numpy as np

from . import panels, vector, workers
from .epilogue import ACTIVATIONS, act_backward, activate, activated_lines, plus, slopes_and_sums
from .jit import compiles, inline, jit, variant
from .layout import compact, floats, half_by_single, whole_rows
from .panels import at_line
from .reduction import sum as sum_over
from .scratch import LINE
from .vector import address, turn

_BLAS_ALONE = 1 << 13  # multiplications up to which OpenBLAS never starts threads, of any kind of product
_GEMM_ALONE = 1 << 18  # the same of two matrices, but by the other's transpose (syrk), whose result is square
_FEW = 4  # rows whose product a loop adds in less time than BLAS makes an array of it
_WORTH_SHARING = 1 << 21  # multiplications of a slice that outlast handing it to a worker
_ROWS, _COLUMNS = 8, 16  # of products by our own tiles, the fewest
_LEAST = 1 << 20  # multiplications of such products
_DEEP, _ROOM = 512, 1 << 19  # terms of a block at most, and bytes of it: half of the second nearest cache
_LEAST_AFFINE = 1 << 16  # where a bias is to be added, or two products share what is around them
_EACH = 32  # rows of a thread, at least, that outweigh copying all of the other operand
_TILED = frozenset(map(np.dtype, (np.float32, np.float64)))
_BESIDE = 1  # from a number to the next of a row; of a known one, LLVM makes shuffles where a tile loads numbers
_GRAIN = 1 << 17  # multiplications that outlast handing a slice to a worker that waits
_LEAST_BATCH = 1 << 21  # multiplications of a batch by our own tiles
_MOST_BATCH, _TERMS = 1 << 28, 4096  # of one of its matrices, and terms of a sum, at most


def matmul(a, b):
    """Matrix product by np.matmul's rules for every rank."""
    fits = a.ndim == b.ndim == 2 and 1 < len(b) == a.shape[1] and a.dtype is b.dtype and a.itemsize != 2
    if fits and a.size * b.shape[1] <= _BLAS_ALONE:
        return a.dot(b)  # half the time of np.matmul
    return _matmul_of_any(a, b)


def _matmul(a, b):
    if b.ndim > 1 and b.shape[-2] == 1 and a.ndim > 1 and a.shape[-1] == 1:
        return np.multiply(a, b, order="C")  # a column times a row: 3 times as fast as by BLAS
    work = b.size * a.shape[-2] if b.ndim > a.ndim > 1 else a.size * (b.shape[-1] if b.ndim > 1 else 1)
    if work <= _GEMM_ALONE:
        fits = a.ndim == b.ndim == 2 and a.shape[1] == len(b)
        if fits and (work <= _BLAS_ALONE or 1 < len(a) != b.shape[1] > 1):
            return a.dot(b)
        if work <= _BLAS_ALONE:
            return np.asarray(np.matmul(a, b))
    if _by_tiles(a, b, work):
        return _tiled(a, b, None)
    if work >= _LEAST_BATCH and _by_batches(a, b):
        return _batched(a, b)
    if work < 2 * _WORTH_SHARING or min(a.ndim, b.ndim) < 2:
        with workers.one_blas_thread:
            return np.asarray(np.matmul(a, b))
    return _shared(a, b, work)


_matmul_of_any = half_by_single(_matmul)


# ---- by tiles of our own: OpenBLAS copies both operands, and its threads wait for each other -------------------------


def _by_tiles(a, b, work):
    """Whether a product is one of those for which our tiles are the faster ones."""
    fits = a.ndim == b.ndim == 2 and len(a) >= _ROWS and a.shape[1] == len(b) and b.shape[1] >= _COLUMNS
    return fits and work >= _LEAST and _of_tiles(a, b)


def _of_tiles(x, y, z=None):
    """Whether tiles are compiled for the one dtype of the arrays."""
    dtype = x.dtype
    return dtype is y.dtype and (z is None or dtype is z.dtype) and dtype in _TILED and compiles()


def _tiled(a, b, bias, activation=""):
    """a @ b, plus bias or None, through the activation.

    The threads share the rows of the result, so that a gradient of weights is written where the update reads it; or its
    columns, where many of b must be turned and each is to be turned once.
    """
    (rows, terms), n, dtype = a.shape, b.shape[1], a.dtype
    (a, across_a), (b, turned) = _either_way(a), _either_way(b)
    count, grain, begin, *sizes = _tiling(rows, terms, n, dtype, turned, activation, workers.get_num_threads())
    out = np.empty((rows, n), dtype)
    if bias is not None:
        begin = begin.copy()
        begin[:n] = bias
    a_row, a_step = (1, a.shape[1]) if across_a else (a.shape[1], 1)
    _product_by_tiles()(count, a, a_row, a_step, b, turned, begin, out, *sizes, grain=grain)
    return out


@lru_cache(256)
def _tiling(rows, terms, n, dtype, turned, activation, threads):
    """(rows or columns that the threads share, grain of them, no bias, the sizes that end the arguments)."""
    lanes = vector.lanes(dtype)
    by_rows = (not turned or n <= lanes * panels.widest()) and rows >= _EACH * threads
    count = rows if by_rows else n
    grain = max(1, _GRAIN * count // (rows * terms * n))
    return count, grain, _nothing(n, dtype), lanes, by_rows, ACTIVATIONS.index(activation), _blocks(terms, dtype)


def _blocks(terms, dtype):
    """(terms of a sum, of them in a block as evenly as may be, columns of a block in whole panels)."""
    deep = -(-terms // -(-terms // _DEEP))
    panel = vector.lanes(dtype) * panels.widest()
    return terms, deep, max(1, _ROOM // (deep * panel * dtype.itemsize)) * panel


def _either_way(x):
    """An array whose rows begin with those of a matrix, which may be turned there: that, and whether it is."""
    for rows, turned in ((x, False), (x.T, True)):
        if (wider := whole_rows(rows)) is not None:
            return wider, turned
    return compact(x), False


@cache
def _places(terms, lanes):
    """Where each row of a panel begins, for each number of vectors side by side."""
    return np.multiply.outer(np.arange(panels.widest() + 1) * lanes, np.arange(terms))


wide = thin = narrow = most = widest = None  # the tiles of this machine (`_own_tiles`)


@inline
def _abreast(columns, few, widest):
    """Vectors side by side of the next panel, where so many columns are left: the last panels are the wide ones."""
    left = -(-columns // few)
    return 1 if left == 1 else widest - (left % widest > 0)


def _product(a, a_row, a_step, b, turned, begin, out, few, by_rows, activation, blocks, first, last):
    """Rows, or columns, first … last of the result, from a whole tile to a whole tile.

    A block of b, `deep` terms of `broad` columns, is packed in panels, which all rows of a meet in turn.
    """
    (rows, n), (terms, deep, broad), zero, unit = out.shape, blocks, np.zeros(1, out.dtype), most if by_rows else few
    first, last = -(-first // unit) * unit, -(-last // unit) * unit
    top, bottom, left, right = (first, min(last, rows), 0, n) if by_rows else (0, rows, first, min(last, n))
    one, size, apart = zero[0], out.itemsize, b.shape[1]
    across = -(-max(0, right - left) // few) * few
    panel = at_line(deep, min(broad, across), zero).reshape(-1)
    packed = address(panel)
    while left < right:
        stop = min(left + broad, right)
        for k in range(0, terms, deep):
            some = min(deep, terms - k)
            j = left
            while j < stop:
                across, at = _abreast(stop - j, few, widest) * few, (j - left) * deep
                columns = min(across, stop - j)
                if columns < across:
                    panel[at : at + some * across] = 0  # what lies there by chance may be numbers too small to be fast
                if turned:
                    turn(one, b, j, columns, k, some, panel, at, across, few)
                else:
                    source = address(b) + (k * apart + j) * size
                    plus(one, (some, columns, source, apart, packed + at * size, across, address(zero)))
                j += across
            more = k + deep < terms
            near = address(b) + ((k + deep) * apart + left if more else stop) * size
            lines = 0 if turned or not (more or stop < right) else ((stop - left) * size + LINE) // LINE
            for i in range(top, bottom, most):
                used, w, j = min(most, bottom - i), address(a) + (i * a_row + k * a_step) * size, left
                while j < stop:
                    abreast = _abreast(stop - j, few, widest)
                    c, h = address(out) + (i * n + j) * size, packed + (j - left) * deep * size
                    start, start_row = (c, n) if k > 0 else (address(begin) + j * size, 0)
                    columns, row = min(abreast * few, stop - j), apart if lines > 0 else 0
                    it = used, w, a_row, a_step, h, some, c, n, columns, start, start_row, near, row
                    if abreast == widest:
                        wide(one, it)
                    elif abreast == 1:
                        narrow(one, it)
                    else:
                        thin(one, it)
                    if lines > 0:
                        lines, near = lines - 1, near + LINE
                    j += abreast * few
        if activation:
            c = address(out) + (top * n + left) * size
            activated_lines(one, bottom - top, stop - left, c, n, c, n, address(zero), activation)
        left = stop


def _with_tiles(name):
    """`_product` with the tiles of this machine."""
    return variant(_product, name, narrow=panels.block(panels.most(), 1), **_own_tiles(panels.block))


def _own_tiles(tile):
    rows, vectors = panels.most(), panels.widest()
    return dict(wide=tile(rows, vectors), thin=tile(rows, vectors - 1), most=rows, widest=vectors)


@cache
def _product_by_tiles():
    return workers.shared(None)(_with_tiles("product"))


# ---- batches: the threads share the matrices, each of which is read where it lies ------------------------------------


def _by_batches(a, b):
    """Whether the operands are batches of matrices for which our tiles are the faster ones."""
    if a.ndim + b.ndim < 5 or min(a.ndim, b.ndim) < 2:
        return False
    (rows, terms), n = a.shape[-2:], b.shape[-1]
    fits = rows >= _ROWS and terms == b.shape[-2] <= _TERMS and rows * terms * n <= _MOST_BATCH
    return fits and _of_tiles(a, b) and n > vector.lanes(a.dtype)


def _batched(a, b):
    """a @ b for matrices that may begin anywhere in memory."""
    (rows, terms), n, dtype = a.shape[-2:], b.shape[-1], a.dtype
    (a, at_a, a_row, turned_a), (b, at_b, b_row, turned) = _lying(a), _lying(b)
    batch = at_a.shape
    if batch != at_b.shape:
        at_a, at_b = np.array(np.broadcast_arrays(at_a, at_b))
        batch = at_a.shape
    out = np.empty((at_a.size, rows, n), dtype)
    steps = (1, a_row) if turned_a else (a_row, 1)
    count, grain, *known = _batch_tiling(rows, terms, n, b_row, dtype)
    numbers = a, *steps, at_a.reshape(-1), b, b_row, turned, at_b.reshape(-1)
    _batch_by_tiles()(count * len(out), *numbers, out, *known, grain=grain)
    return out.reshape(*batch, rows, n)


def _lying(x):
    """Matrices as (memory, where each begins there, from row to row, whether they lie turned), copied if scattered."""
    found = _place(x.shape, x.strides, x.itemsize) if x.flags.behaved else None
    if found is None:
        x = compact(x)
        found = _place(x.shape, x.strides, x.itemsize)
    end, *found = found
    whole = x.mT if found[-1] else x
    memory = whole.reshape(-1) if whole.flags.carray else np.lib.stride_tricks.as_strided(x, (end,), (x.itemsize,))
    return memory, *found


@lru_cache(64)
def _place(shape, strides, size):
    """(where the last row ends, where each matrix begins, from row to row, whether turned), of numbers; None if not."""
    (count, n), (row, step), turned = shape[-2:], strides[-2:], strides[-1] != size
    if turned:
        count, n, row, step = n, count, step, row
    at = np.zeros((), np.int64)
    for length, stride in zip(shape[:-2], strides):
        at = np.add.outer(at, np.arange(length) * stride)
    if step != size or row < n * size or row % size or (at % size).any() or at.min() < 0:
        return None
    at, row = np.asarray(at // size), row // size
    return int(at.max()) + count * row, at, row, turned


@lru_cache(256)
def _batch_tiling(rows, terms, n, b_row, dtype):
    """(tiles of rows of a product, grain of them, nothing to add, places, rows of b, the numbers of a vector)."""
    lanes, high = vector.lanes(dtype), panels.most()
    grain = max(1, _GRAIN // (high * terms * n))
    return -(-rows // high), grain, _nothing(n, dtype), _places(terms, lanes), np.arange(terms) * b_row, lanes


def _batch_product(a, a_row, a_step, at_a, b, b_row, turned, at_b, out, begin, places, lines, few, first, last):
    """Tiles first … last of the products' rows; of b what is turned, and what fills no panel, is copied into one."""
    (rows, n), terms, zero, high = out.shape[1:], places.shape[1], np.zeros(1, out.dtype), -(-out.shape[1] // most)
    one, size, panel = zero[0], out.itemsize, at_line(terms, widest * few, zero)
    packed, depth = address(panel), n if turned else terms
    panel[...] = 0  # what lies there by chance may be numbers too small to be fast
    for i in range(first // high, -(-last // high)):
        top, bottom = max(0, first - i * high) * most, min(rows, (last - i * high) * most)
        left, into = address(a) + at_a[i] * size, address(out[i])
        right = b[at_b[i] : at_b[i] + depth * b_row].reshape(depth, b_row)
        j = 0
        while j < n:
            vectors = -(-(n - j) // few)
            abreast = widest - (vectors % widest > 0)  # the last ones are then wide
            across = abreast * few
            h, at, columns = packed, address(places[abreast]), min(across, n - j)
            if turned:
                turn(one, right, j, columns, 0, terms, panel.reshape(-1), 0, across, few)
            elif columns < across:
                plus(one, (terms, columns, address(right) + j * size, b_row, packed, across, address(zero)))
            else:
                h, at = address(right) + j * size, address(lines)
            for r in range(top, bottom, most):
                c, start = into + (r * n + j) * size, address(begin) + j * size
                it = min(most, bottom - r), left + r * a_row * size, a_row, a_step, h, at, terms, c, n, columns, start
                if abreast == widest:
                    wide(one, it)
                else:
                    thin(one, it)
            j += across


@cache
def _batch_by_tiles():
    return workers.shared(None)(variant(_batch_product, "batch", **_own_tiles(panels.tile)))


def _shared(a, b, work):
    """Slices of the batch where there is one, else of the longer side of the result."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows, columns = a.shape[-2], b.shape[-1]
    if a.shape[-1] != b.shape[-2]:
        return np.matmul(a, b)  # raises, naming the shapes
    out = np.empty((*batch, rows, columns), np.result_type(a, b))
    if batch and batch[0] > 1:
        a, b = (np.broadcast_to(x, batch[:1] + x.shape[1:]) if x.ndim == out.ndim else x[None] for x in (a, b))
        return _run(work, batch[0], lambda i: np.matmul(_cut(a, i), _cut(b, i), out=out[i]), out)
    return _by_sides(a, b, work, out)


def _by_sides(a, b, work, out, finish=lambda part, columns: None):
    """a @ b into out by slices of its longer side, each handed to finish(slice of the result, its columns)."""

    def of_rows(i):
        finish(np.matmul(a[..., i, :], b, out=out[..., i, :]), slice(None))

    def of_columns(i):
        finish(np.matmul(a, b[..., i], out=out[..., i]), i)

    rows, columns = out.shape[-2:]
    return _run(work, rows, of_rows, out) if rows >= columns else _run(work, columns, of_columns, out)


def _cut(x, part):
    return x if len(x) == 1 else x[part]


def _run(work, n, product, out):
    workers.run(lambda start, stop: product(slice(start, stop)), n, grain=max(1, _WORTH_SHARING * n // work))
    return out


def affine(x, weight, bias):
    """x weightᵀ + bias, for a matrix x (M, K), weight (N, K) and bias (N,) or None."""
    return (_affine if _of_tiles(x, weight, bias) else _affine_half)(x, weight, bias)


def affine_act(x, weight, bias, *, activation):
    """`affine`, then "relu", "tanh" or "sigmoid"."""
    if _of_tiles(x, weight, bias):
        return _affine(x, weight, bias, activation)
    return _affine_act_half(x, weight, bias, activation=activation)


@half_by_single
def _affine_act_half(x, weight, bias, *, activation):
    return _affine(*floats(x, weight, bias), activation)


def _affine(x, weight, bias, activation=""):
    work, terms = x.size * len(weight), weight.shape[1]
    fits = len(x) >= _ROWS and x.shape[1] == terms and work >= _LEAST_AFFINE
    if fits and _of_tiles(x, weight, bias):
        return _tiled(x, weight.T, bias, activation)

    def finish(part, columns):
        if bias is not None:
            part += bias[columns]
        if activation:
            activate(part, activation)

    if work >= 2 * _WORTH_SHARING and x.shape[1] == weight.shape[1]:
        return _by_sides(x, weight.T, work, np.empty((len(x), len(weight)), np.result_type(x, weight)), finish)
    out = _matmul(x, weight.T)
    finish(out, slice(None))
    return out


_affine_half = half_by_single(_affine)


def affine_backward(g, x, weight, *, live):
    """The adjoint of `affine`: (g weight, gᵀ x, Σ g) for matrices g (M, N) and x (M, K); None where `live` says so."""
    return (_affine_backward if _of_tiles(g, x, weight) else _affine_backward_half)(g, x, weight, live=live)


def _affine_backward(g, x, weight, *, live):
    of_x, of_weight, of_bias = live
    (rows, n), columns = g.shape, weight.shape[1]
    small = _LEAST_AFFINE <= rows * n * columns < _LEAST and rows >= _ROWS and columns >= _COLUMNS
    if small and of_weight and _of_tiles(g, x, weight):
        return _affine_backward_small(compact(g), compact(x), compact(weight), of_x, of_bias)
    return (
        _matmul(g, weight) if of_x else None,
        _matmul(g.T, x) if of_weight else None,
        (g[0] if rows == 1 else sum_over(g, 0)) if of_bias else None,
    )


_affine_backward_half = half_by_single(_affine_backward)


def _affine_backward_small(g, x, weight, of_x, of_bias):
    """All of it by one loop whose columns the threads share."""
    (rows, n), columns, dtype = g.shape, weight.shape[1], g.dtype
    dx = np.empty((rows if of_x else 0, columns), dtype)
    dweight, dbias = np.empty((n, columns), dtype), np.empty(n if of_bias else 0, dtype)
    grain, *known = _adjoint_tiling(rows, n, columns, dtype)
    _adjoint_by_tiles()(columns, g, x, weight, dx, dweight, dbias, *known, grain=grain)
    return dx if of_x else None, dweight, dbias if of_bias else None


@lru_cache(256)
def _adjoint_tiling(rows, n, columns, dtype):
    """(grain of columns, nothing to add, the blocks of both products, the sizes that end the arguments)"""
    grain = max(1, _GRAIN // (2 * rows * n))
    return grain, _nothing(columns, dtype), _blocks(n, dtype), _blocks(rows, dtype), vector.lanes(dtype), _BESIDE


@cache
def _nothing(columns, dtype):
    """What is added to each row where there is no bias."""
    return np.zeros(columns + panels.widest() * vector.lanes(dtype), dtype)


product = None  # `_product` with its tiles (`_adjoint_by_tiles`)


def _adjoint(g, x, weight, dx, dweight, dbias, nothing, blocks_n, blocks_rows, few, beside, first, last):
    """Columns first … last of the gradients of x and of the weight."""
    for of_weight in (False, True):  # one place that calls it, as it is long
        a_row, a_step = (beside, g.shape[1]) if of_weight else (g.shape[1], beside)
        b, blocks, out = (x, blocks_rows, dweight) if of_weight else (weight, blocks_n, dx)
        if len(out):
            product(g, a_row, a_step, b, False, nothing, out, few, False, 0, blocks, first, last)
    if first == 0:
        totals = np.zeros(len(dbias))
        for i in range(len(g)):
            for j in range(len(dbias)):
                totals[j] += g[i, j]
        dbias[:] = totals


@cache
def _adjoint_by_tiles():
    own = dict(product=inline(_with_tiles("product_of_adjoint")))
    return workers.shared(None)(variant(_adjoint, "adjoint", **own))


def affine_act_backward(g, x, weight, out, *, activation, live):
    """The adjoint of `affine_act` from its result `out`, else as `affine_backward`."""
    adjoint = _affine_act_backward if _of_tiles(g, x, out) else _affine_act_backward_half
    return adjoint(g, x, weight, out, activation=activation, live=live)


def _affine_act_backward(g, x, weight, out, *, activation, live):
    of_x, of_weight, of_bias = live
    n, columns = weight.shape
    fits = n >= _ROWS and columns >= _COLUMNS and g.size * columns >= _LEAST_AFFINE
    if fits and of_weight and _of_tiles(g, x, out):
        before, dweight, dbias = _act_adjoint_by_tiles(compact(g), compact(x), compact(out), activation)
    else:
        before, dbias = act_backward(g, out, activation=activation, bias=of_bias)
        dweight = _matmul(before.T, x) if of_weight else None
    return _matmul(before, weight) if of_x else None, dweight, dbias if of_bias else None


_affine_act_backward_half = half_by_single(_affine_act_backward)


def _act_adjoint_by_tiles(g, x, out, activation):
    """The gradient before the activation, and those of the weight and of the bias: each thread does some rows of them.

    A row of the weight's gradient needs no more of the first than its own column.
    """
    (rows, n), columns, dtype = g.shape, x.shape[1], g.dtype
    before, dweight, sums = np.empty((rows, n), dtype), np.empty((n, columns), dtype), np.zeros(n)
    grain, *known = _act_adjoint_tiling(rows, columns, dtype)
    numbers = g, x, out, ACTIVATIONS.index(activation), before, sums, dweight, *known, _BESIDE
    _act_adjoint_loop()(n, *numbers, grain=grain)
    return before, dweight, sums.astype(dtype)


@lru_cache(256)
def _act_adjoint_tiling(rows, columns, dtype):
    """(grain of rows, nothing to add, the product's blocks, lanes)"""
    grain = max(_EACH, _GRAIN // (rows * columns))
    return grain, _nothing(columns, dtype), _blocks(rows, dtype), vector.lanes(dtype)


def _act_adjoint(g, x, out, activation, before, sums, dweight, nothing, blocks, few, beside, first, last):
    """Rows first … last of the gradients of the weight and of the bias, from a whole tile to a whole tile."""
    first, last = -(-first // most) * most, min(-(-last // most) * most, g.shape[1])
    slopes_and_sums(g, out, activation, before, sums, first, last)
    product(before, beside, g.shape[1], x, False, nothing, dweight, few, True, 0, blocks, first, last)


@cache
def _act_adjoint_loop():
    own = dict(product=inline(_with_tiles("product_of_act_adjoint")), most=panels.most())
    return workers.shared(None)(variant(_act_adjoint, "act_adjoint", **own))


def add_product(into, x, y):
    """into += xᵀ y, for matrices x and y of equally many rows."""
    dtype = into.dtype
    if len(x) <= _FEW and into.flags.c_contiguous and dtype.itemsize > 2:
        _add_product(into, compact(x, dtype), compact(y, dtype))
    else:
        into += matmul(x.T, y)


def _add_product_numpy(into, x, y):
    into += np.matmul(x.T, y)


@jit(_add_product_numpy)
def _add_product(into, x, y):
    for i in range(len(into)):
        row = into[i]
        for k in range(len(x)):
            factor, other = x[k, i], y[k]
            for j in range(len(row)):
                row[j] += factor * other[j]
