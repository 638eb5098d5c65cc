"""Convolutions of large filters in Fourier's space: a product for each frequency stands for the sum over the taps.

The image is cut into tiles of h × w numbers that overlap by the filter's reach less one (overlap-save, as cuDNN's
"FFT tiling"). Then k × k taps cost about 2 h w multiplications for a tile's (h − k + 1) (w − k + 1) results, where the
sum over the taps has k² for each. Tiles are so small that the transforms are products with matrices of cosines and
sines, along the rows and then along the columns: BLAS is faster at them than any FFT. Numbers are real throughout, the
real and the imaginary part being rows of their own. The adjoint of the filters runs the same matrices backwards.

In float32 the results differ from exact ones by up to about 2e-6 of the largest, in float64 by 4e-15, as those of the
sum over taps do.

Layout: F = w / 2 + 1 frequencies along the rows, h along the columns; T tiles. After the rows' transform x is
(F, 2 h, C T), and the filters are (F, 2 kh, O C). The rest is done for one of the F at a time, so that its filters
(h, 2 O, 2 C) are never out of the cache: V (h, 2 C, T), M = U V (h, 2 O, T).
"""

from functools import lru_cache
from itertools import product
from math import prod
from typing import NamedTuple

import numpy as np

from . import workers

_SIDES = (8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 56, 64)  # of tiles
_ROOM_BYTES = 16 << 20  # of the tiles of a part of the batch, halfway
_BUILT = 8  # multiplications that take as long as writing one of U's numbers
_FEWER = 4  # times fewer than the sum over taps has, at least: below, columns are as fast


def suits(plan):
    """Whether a convolution's plan is for this.

    Against columns, two threads, forward / adjoint of the input / of the weight: 3.8, 3.7 and 4.5 times as fast at 8
    images 64 x 28 x 28 with 64 filters 11 x 11; 1.8 to 2.2 times with 7 x 7; 1.2, 0.9 and 1.2 at 16 images 32 x 32 x 32
    with 64 filters 5 x 5; but 0.7, 0.5 and 0.6 at 8 images 16 x 28 x 28 with 32 filters 5 x 5.
    """
    if plan.k < 25 * plan.c:
        return False
    tiles = _tiles(plan)
    return _FEWER * tiles.cost(tiles.size) <= plan.n * prod(plan.out_size) * plan.o * plan.k


def forward(plan, x, w, b, out):
    """Write x ⋆ w + b, for b (O,) or None, to `out`."""
    tiles, (o, c) = _tiles(plan), w.shape[:2]
    mats = tiles.matrices(x.dtype)
    filters = _rows_there(mats.rows_taps, w.transpose(2, 0, 1, 3))
    for part in tiles.parts():
        seen = tiles.rows_there(mats.rows, x[part], tiles.size, plan.corner)
        halfway = np.empty((len(filters), 2 * tiles.step[0], o * seen.shape[2] // c), x.dtype)

        def task(start, stop, seen=seen, halfway=halfway):
            for f in range(start, stop):
                v = np.matmul(mats.there, seen[f]).reshape(tiles.size[0], 2 * c, -1)
                m = np.matmul(_matrix(mats, filters[f], o, c), v)
                np.matmul(mats.back, m.reshape(2 * tiles.size[0], -1), out=halfway[f])

        workers.run(task, len(filters), turns=2)
        tiles.rows_back(mats.rows_back, halfway, b, out[part])


def weight(plan, g, x):
    """The adjoint of the filters: g (N, O, oh, ow), x (N, C, H, W) -> (O, C, kh, kw)."""
    tiles, (o, c) = _tiles(plan), plan.w_shape[:2]
    mats = tiles.matrices(x.dtype)
    taps, back = (np.ascontiguousarray(matrix.T) for matrix in (mats.taps, mats.back))
    total = np.zeros((len(mats.rows) // 2, len(taps), o * c), x.dtype)
    for part in tiles.parts():
        seen = tiles.rows_there(mats.rows, x[part], tiles.size, plan.corner)
        results = tiles.rows_there(mats.rows_back.T, g[part], tiles.step, (0, 0))

        def task(start, stop, seen=seen, results=results):
            for f in range(start, stop):
                v = np.matmul(mats.there, seen[f]).reshape(tiles.size[0], 2 * c, -1)
                m = np.matmul(back, results[f]).reshape(tiles.size[0], 2 * o, -1)
                blocks = np.matmul(m, v.swapaxes(1, 2)).reshape(-1, 2, o, 2, c)
                folded = np.empty((tiles.size[0], 2, o, c), x.dtype)
                np.add(blocks[:, 0, :, 0], blocks[:, 1, :, 1], out=folded[:, 0])
                np.subtract(blocks[:, 1, :, 0], blocks[:, 0, :, 1], out=folded[:, 1])
                total[f] += np.matmul(taps, folded.reshape(2 * tiles.size[0], -1))

        workers.run(task, len(total), turns=2)
    return _rows_back(mats.rows_taps.T, total.reshape(2 * len(total), -1, o, c)).transpose(1, 2, 0, 3).copy()


def _matrix(mats, halfway, o, c):
    """U of one frequency of the rows (h, 2 O, 2 C), from the filters halfway (2 kh, O C)."""
    spectrum = np.matmul(mats.taps, halfway).reshape(-1, 2, o, c)
    out = np.empty((len(spectrum), 2, o, 2, c), halfway.dtype)
    out[:, 0, :, 0] = out[:, 1, :, 1] = spectrum[:, 0]
    out[:, 1, :, 0] = spectrum[:, 1]
    np.negative(spectrum[:, 1], out=out[:, 0, :, 1])
    return out.reshape(-1, 2 * o, 2 * c)


def _rows_there(rows, numbers):
    """Transform numbers (h, A, B, w) along w by `rows` (2 F, w): (F, 2 h, A B). The workers share A."""
    height, a, b, width = numbers.shape
    out = np.empty((len(rows), height, a, b), numbers.dtype)

    def task(start, stop):
        some = np.matmul(rows, numbers[:, start:stop].reshape(-1, width).T)
        out[:, :, start:stop] = some.reshape(len(rows), height, -1, b)

    workers.run(task, a)
    return out.reshape(len(rows) // 2, 2 * height, a * b)


def _rows_back(rows, halfway):
    """The other way: (2 F, h, A, B) -> (h, A, B, w) by `rows` (w, 2 F)."""
    height, a, b = halfway.shape[1:]
    with workers.one_blas_thread:
        return np.matmul(halfway.reshape(len(halfway), -1).T, rows.T).reshape(height, a, b, -1)


class _Tiles:
    """How a convolution is cut into tiles of `size`, which give `step` results each."""

    def __init__(self, plan):
        self.plan = plan
        self.reach = [d * (k - 1) + 1 for d, k in zip(plan.dilation, plan.kernel, strict=True)]
        self.size = min(product(*map(_sides, self.reach, plan.out_size)), key=self.cost)
        self.step, self.grid = self._steps(self.size)
        height, f, image = self.size[0], self.size[1] // 2 + 1, self.grid[0] * self.grid[1]
        numbers = 2 * f * image * (height * plan.c + self.step[0] * plan.o)
        self.images = max(1, _ROOM_BYTES // (numbers * plan.itemsize))

    def _steps(self, size):
        """(results of a tile, how many tiles), each along both axes."""
        step = tuple(side - r + 1 for side, r in zip(size, self.reach, strict=True))
        return step, tuple(-(-results // s) for results, s in zip(self.plan.out_size, step, strict=True))

    def cost(self, size):
        """Multiplications, and what else takes as long, with tiles of this size."""
        plan, (height, width), (tall, wide) = self.plan, size, self.plan.kernel
        (down, across), grid = self._steps(size)
        f = width // 2 + 1
        there = 2 * f * height * (width + 2 * height)
        back = 2 * f * down * (across + 2 * height)
        filters = 2 * f * tall * (wide + 2 * height) + 4 * f * height * _BUILT
        tile = 4 * f * height * plan.c * plan.o + plan.c * there + plan.o * back
        return plan.n * grid[0] * grid[1] * tile + plan.c * plan.o * filters

    def matrices(self, dtype):
        """Those of this size of tiles."""
        return _matrices(self.size, tuple(self.plan.kernel), tuple(self.plan.dilation), self.step, dtype)

    def parts(self):
        """The batch in parts."""
        return [slice(first, first + self.images) for first in range(0, self.plan.n, self.images)]

    def _places(self, images):
        """(which of the tiles of so many images, their first row and column of results) for each place in an image."""
        for i, (row, column) in enumerate(product(*map(range, self.grid))):
            yield slice(i * images, (i + 1) * images), row * self.step[0], column * self.step[1]

    def rows_there(self, rows, images, size, corner):
        """The tiles of images (N, A, H, W) that begin with `corner` rows and columns of 0, their rows transformed."""
        (height, width), (n, a, *whole) = size, images.shape
        out = np.zeros((height, a, n * self.grid[0] * self.grid[1], width), images.dtype)

        def task(start, stop):
            for part, y, x in self._places(n):
                down, into_down = _overlap(y - corner[0], height, whole[0])
                across, into_across = _overlap(x - corner[1], width, whole[1])
                seen = images[:, start:stop, down, across].transpose(2, 1, 0, 3)
                out[into_down, start:stop, part, into_across] = seen

        workers.run(task, a)
        return _rows_there(rows, out)

    def rows_back(self, rows, halfway, b, out):
        """Write what is halfway (F, 2 h, O T), plus b or None, to its places in images."""
        n, o, *_ = out.shape
        halfway = halfway.reshape(2 * len(halfway), self.step[0], o, -1)

        def task(start, stop):
            results = _rows_back(rows, halfway[:, :, start:stop])
            if b is not None:
                results += b[start:stop, None, None]
            for part, y, x in self._places(n):
                into = out[:, start:stop, y : y + self.step[0], x : x + self.step[1]]
                into[...] = results[: into.shape[2], :, part, : into.shape[3]].transpose(2, 1, 0, 3)

        workers.run(task, o)


_tiles = lru_cache(1024)(_Tiles)


def _overlap(start, length, size):
    """Of start..start + length, what lies in 0..size: there, and in the length."""
    low = min(max(0, start), size)
    high = max(low, min(start + length, size))
    return slice(low, high), slice(low - start, high - start)


def _sides(reach, results):
    """Sizes of tiles to choose from: no larger than what one tile needs."""
    whole = results + reach - 1
    largest = min(whole + whole % 2, max(_SIDES[-1], 4 * reach))
    return [side for side in _SIDES if 2 * reach - 1 <= side < largest] + [largest]


class _Matrices(NamedTuple):
    """What transforms: along the columns of tiles, of filters and back, and along their rows."""

    there: np.ndarray
    taps: np.ndarray
    back: np.ndarray
    rows: np.ndarray
    rows_taps: np.ndarray
    rows_back: np.ndarray


@lru_cache(1024)
def _matrices(size, kernel, dilation, step, dtype):
    (height, width), (tall, wide) = size, kernel
    down, across = np.arange(height), np.arange(width // 2 + 1)
    twice = np.where((across == 0) | (2 * across == width), 1, 2)[:, None]  # the frequencies that are left out

    def waves(frequencies, places, n, sign):
        return np.exp(sign * 2j * np.pi / n * (np.outer(frequencies, places) % n))

    matrices = (
        _complex(waves(down, down, height, -1)),
        _complex(waves(down, dilation[0] * np.arange(tall), height, 1)),
        _complex(waves(down, np.arange(step[0]), height, -1) / height).T,
        _parts(waves(across, np.arange(width), width, -1)),
        _parts(waves(across, dilation[1] * np.arange(wide), width, 1)),
        _parts(twice * waves(across, np.arange(step[1]), width, -1) / width).T,
    )
    return _Matrices(*(np.ascontiguousarray(matrix, dtype) for matrix in matrices))


def _complex(matrix):
    """A complex matrix (f, p) as a real one: rows (f, part), columns (part, p)."""
    parts = np.array([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]])
    return parts.transpose(2, 0, 1, 3).reshape(2 * len(matrix), -1)


def _parts(matrix):
    """A complex matrix (f, p) as real rows (f, part)."""
    return np.stack([matrix.real, matrix.imag], 1).reshape(2 * len(matrix), -1)
