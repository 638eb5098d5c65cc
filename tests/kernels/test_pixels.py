"""Convolutions by pixels (small images) and of 1×1 in blocks, on both paths, against the columns in float64."""

import os

import numpy as np
import pytest

from chainrule.kernels.cpu import columns, convolution, pixels, pointwise
from chainrule.kernels.cpu.epilogue import Plain


def check(algorithm, n, c, o, size, kernel, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), *, rng):
    """Forward and both adjoints, in both dtypes, within the rounding of sums of as many terms; nothing else written."""
    x, w, b = (rng.normal(size=shape) for shape in ((n, c, *size), (o, c, *kernel), (o,)))
    plan = columns.plan_of(x.shape, w.shape, stride, padding, dilation, 1, 8)
    g = rng.normal(size=(n, o, *plan.out_size))
    exact = np.empty_like(g)
    columns.forward(plan, x, w, b, Plain(exact))
    adjoints = columns.input(plan, g, w), columns.weight(plan, g, x)
    for dtype, bound in (("f4", 3e-6), ("f8", 1e-14)):
        xs, ws, bs, gs = (array.astype(dtype) for array in (x, w, b, g))
        plan = columns.plan_of(x.shape, w.shape, stride, padding, dilation, 1, xs.itemsize)
        out = np.full((n + 2, *g.shape[1:]), np.nan, dtype)  # an image before and one behind, to be left alone
        by = convolution.ALGORITHMS[algorithm]
        by.forward(plan, xs, ws, bs, Plain(out[1:-1]))
        assert np.isnan(out[0]).all() and np.isnan(out[-1]).all()
        got = out[1:-1], by.input(plan, gs, ws), by.weight(plan, gs, xs)
        for value, true in zip(got, (exact, *adjoints), strict=True):
            assert value.dtype == dtype
            assert np.abs(value - true).max() <= bound * max(np.abs(true).max(), 1)


@pytest.mark.parametrize(
    "n, c, o, size, kernel, options",
    [
        (17, 33, 70, (4, 4), (3, 3), dict(padding=((1, 1), (1, 1)))),  # no multiples of vectors, tiles, groups of tiles
        (3, 5, 3, (5, 4), (5, 4), {}),  # one result, few of everything
        (16, 8, 9, (6, 7), (3, 2), dict(stride=(2, 3), padding=((1, 0), (0, 2)), dilation=(2, 1))),
        (2, 4, 4, (5, 5), (1, 1), dict(stride=(3, 3))),  # pixels that no tap meets
        (1, 300, 8, (2, 2), (3, 3), dict(padding=((1, 1), (1, 1)))),  # more channels than stay near
    ],
)
def test_pixels(n, c, o, size, kernel, options, rng, path, threads):
    for count in (1, 3):
        threads(count)
        check("pixels", n, c, o, size, kernel, **options, rng=rng)


@pytest.mark.parametrize(
    "n, c, o, size", [(3, 17, 19, (5, 5)), (1, 64, 9, (7, 70)), (2, 3, 40, (1, 1)), (5, 33, 16, (37, 40))]
)
@pytest.mark.parametrize("near", [1, 1 << 20])
def test_pointwise(n, c, o, size, near, rng, path, threads, monkeypatch):
    monkeypatch.setattr(pointwise, "_NEAR_BYTES", near)
    for count in (1, 3):
        threads(count)
        check("pointwise", n, c, o, size, (1, 1), rng=rng)


@pytest.mark.parametrize("shape, kernel", [((9, 16, 64, 64), 1), ((9, 16, 61, 67), 1), ((9, 16, 64, 60), 3)])
def test_results_past_the_caches(shape, kernel, rng):
    """More than 8 MiB, in rows that are multiples of 16 bytes and not, at addresses that are and are not."""
    x, w = rng.normal(size=shape).astype("f4"), rng.normal(size=(64, 16, kernel, kernel)).astype("f4")
    pad = kernel // 2
    plan = columns.plan_of(shape, w.shape, (1, 1), ((pad, pad),) * 2, (1, 1), 1, 4)
    out = np.empty((9, 64, *plan.out_size), "f4")
    assert out.nbytes > 8 << 20
    columns.forward(plan, x, w, None, Plain(out))
    for skip in (0, 1):
        room = np.empty(out.size + 1, "f4")[skip : out.size + skip].reshape(out.shape)
        convolution.ALGORITHMS["pointwise" if kernel == 1 else "winograd"].forward(plan, x, w, None, Plain(room))
        np.testing.assert_allclose(room, out, rtol=0, atol=2e-5 * np.abs(out).max())


@pytest.mark.parametrize("algorithm", ["pixels", "pointwise"])
def test_bits_repeat_and_all_but_weights_do_not_depend_on_threads(algorithm, rng, threads):
    kernel = 3 if algorithm == "pixels" else 1
    x, w = rng.normal(size=(20, 40, 6, 6)).astype("f4"), rng.normal(size=(40, 40, kernel, kernel)).astype("f4")
    plan = columns.plan_of(x.shape, w.shape, (1, 1), ((kernel // 2,) * 2,) * 2, (1, 1), 1, 4)
    found, weights = set(), set()
    for count in (1, 2, 3):
        threads(count)
        for _ in range(3):
            out, by = np.empty(x.shape, "f4"), convolution.ALGORITHMS[algorithm]
            by.forward(plan, x, w, None, Plain(out))
            found.add((out.tobytes(), by.input(plan, x, w).tobytes()))
            weights.add((count, by.weight(plan, x, x).tobytes()))
    assert len(found) == 1 and len(weights) == 3
    assert algorithm == "pointwise" or len({bits for _, bits in weights}) == 1  # each weight is one thread's


def test_who_meets_whom():
    """Three results of three taps at stride 2 over four pixels, one more before: result 2 r − 1 + tap."""
    plan = columns.plan_of((1, 1, 1, 4), (1, 1, 1, 3), (1, 2), ((0, 0), (1, 1)), (1, 1), 1, 4)
    met = [(0, 1, 0), (0, 2, 1), (1, 0, 1), (1, 1, 2), (1, 2, 3)]
    assert sorted(map(tuple, pixels._meets(plan).tolist())) == met
    runs = pixels._runs(pixels._meets(plan)[:, [1, 0, 2]])
    assert sorted(map(tuple, runs.tolist())) == [(0, 1, 1, 1), (1, 0, 0, 1), (1, 1, 2, 1), (2, 0, 1, 1), (2, 1, 3, 1)]


def test_runs_join_what_advances_together():
    meets = np.array([(5, 0, 3), (5, 1, 4), (5, 2, 5), (5, 3, 7), (6, 4, 8)])
    assert pixels._runs(meets).tolist() == [[5, 0, 3, 3], [5, 3, 7, 1], [6, 4, 8, 1]]


NARROW = """
import numpy as np, test_pixels, test_winograd
rng, one = np.random.default_rng(0), ((1, 1), (1, 1))
test_pixels.check("pixels", 17, 33, 70, (4, 4), (3, 3), padding=one, rng=rng)
test_pixels.check("pointwise", 2, 33, 40, (25, 31), (1, 1), rng=rng)
test_pixels.check("batch", 5, 33, 40, (9, 11), (3, 3), padding=one, stride=(2, 2), rng=rng)
test_pixels.check("direct", 2, 33, 40, (19, 31), (3, 3), padding=one, stride=(2, 2), rng=rng)
for form in test_winograd.F43, test_winograd.F25:
    test_winograd.check(form, rng, 7, 16, 17, (14, 9), one)
print("right")
"""


def test_machines_with_shorter_vectors(narrow):
    narrow(NARROW, os.path.dirname(__file__))
