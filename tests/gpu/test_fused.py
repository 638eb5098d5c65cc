"""Layers in a row as one operation on the GPU, against plain loops of each one after the other."""

import numpy as np
import oracles
import pytest

import chainrule as cr

PLAIN = dict(stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1)
CASES = {  # x, w, what differs from PLAIN, pool
    "one filter": ((2, 1, 6, 6), (1, 1, 3, 3), {}, ("max", 2, 2)),
    "nine filters": ((3, 2, 9, 8), (9, 2, 3, 3), dict(padding=((1, 1), (1, 1))), ("max", 2, 2)),
    "a rest": ((2, 2, 8, 7), (5, 2, 2, 3), {}, ("avg", 2, 2)),
    "many places": ((1, 1, 36, 38), (6, 1, 5, 5), {}, ("avg", 2, 2)),
    "strided": ((2, 2, 9, 9), (3, 2, 2, 2), dict(stride=(2, 1)), ("max", 2, 2)),
    "other windows": ((2, 2, 9, 8), (3, 2, 3, 3), {}, ("max", 3, 2)),
    "other means": ((2, 2, 9, 8), (3, 2, 3, 3), dict(dilation=(2, 1)), ("avg", 2, 3)),
    "no pooling": ((2, 3, 5, 6), (9, 3, 3, 2), {}, None),
    "one by one": ((3, 4, 5, 3), (5, 4, 1, 1), {}, None),
    "one by one, pooled": ((3, 4, 4, 4), (5, 4, 1, 1), {}, ("avg", 2, 2)),
    "groups": ((2, 4, 6, 6), (6, 2, 3, 3), dict(groups=2), ("max", 2, 2)),
    "one window": ((4, 3, 2, 2), (5, 3, 2, 2), {}, None),
}
TOLERANCE = {"float64": 1e-12, "float32": 2e-5, "float16": 1e-2}
CURVES = {"relu": lambda z: np.where(z > 0, z, 0), "tanh": np.tanh, "sigmoid": lambda z: 1 / (1 + np.exp(-z))}
SLOPES = {"relu": lambda y: y > 0, "tanh": lambda y: 1 - y * y, "sigmoid": lambda y: y * (1 - y)}


def tiles(z, kh, kw):
    """z (N, O, H, W) as (N, O, oh, ow, kh, kw)."""
    n, o, oh, ow = *z.shape[:2], z.shape[2] // kh, z.shape[3] // kw
    return z[:, :, : oh * kh, : ow * kw].reshape(n, o, oh, kh, ow, kw).swapaxes(3, 4)


def pooled(y, pool):
    if pool is None:
        return y
    return tiles(y, *pool[1:]).max((4, 5)) if pool[0] == "max" else tiles(y, *pool[1:]).mean((4, 5))


def unpooled(g, y, pool):
    """The adjoint of `pooled` at y."""
    if pool is None:
        return g
    into, out = np.zeros(y.shape), pooled(y, pool)
    for n, o, i, j in np.ndindex(*g.shape):
        rows, columns = (slice(at * k, at * k + k) for at, k in ((i, pool[1]), (j, pool[2])))
        window = y[n, o, rows, columns]
        if pool[0] == "max":
            first = np.argwhere(window == out[n, o, i, j])[0]
            into[n, o, i * pool[1] + first[0], j * pool[2] + first[1]] = g[n, o, i, j]
        else:
            into[n, o, rows, columns] = g[n, o, i, j] / window.size
    return into


def check(cuda, cupy, rng, name, activation, dtype, last=False):
    """Forward and adjoint; with `last`, images that have the channels last in memory."""
    x_shape, w_shape, differs, pool = CASES[name]
    sizes, tolerance = PLAIN | differs, dict(rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * 10)
    x, w, b = (rng.normal(size=shape).astype(dtype) for shape in (x_shape, w_shape, w_shape[:1]))
    given = cupy.asarray(x)
    if last:
        given = cupy.asarray(np.ascontiguousarray(x.transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2)
    for bias in (b, None):
        result = CURVES[activation](oracles.conv2d(x.astype("f8"), w.astype("f8"), bias, **sizes))
        on = None if bias is None else cupy.asarray(bias)
        out, saved = cuda.conv2d_act_pool(given, cupy.asarray(w), on, **sizes, activation=activation, pool=pool)
        assert out.dtype == dtype
        np.testing.assert_allclose(out.get(), pooled(result, pool), **tolerance)
        g = rng.normal(size=out.shape).astype(dtype)
        size = dict(activation=activation, pool=pool, size=result.shape[2:])
        got = cuda.act_pool_backward(cupy.asarray(g), out, saved, **size)
        assert got.dtype == dtype
        expected = unpooled(g, result, pool) * SLOPES[activation](result)
        np.testing.assert_allclose(got.get(), expected, **tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation", CURVES)
@pytest.mark.parametrize("name", CASES)
def test_against_loops(cuda, cupy, rng, name, activation, dtype):
    if dtype == "float16" and CASES[name][3] and CASES[name][3][0] == "max":
        pytest.skip("rounded to 16 bits, two values may be the largest: see test_of_equals_the_first")
    check(cuda, cupy, rng, name, activation, dtype)


@pytest.mark.parametrize("name", CASES)
def test_every_order_of_threads(cuda, cupy, rng, order, name):
    check(cuda, cupy, rng, name, "tanh", "float32")


@pytest.mark.parametrize("name", CASES)
def test_channels_last(cuda, cupy, rng, name):
    check(cuda, cupy, rng, name, "sigmoid", "float32", last=True)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(2, 2), (3, 2)])
def test_of_equals_the_first_and_nan_wins(cuda, cupy, dtype, shape):
    x = np.zeros((1, 1, 6, 6), dtype)
    x[0, 0, 3, 3] = np.nan
    one = cupy.ones((1, 1, 1, 1), dtype)
    for given in (one, cupy.ones((1, 1, 2, 2), dtype)):  # by products, and direct
        pool = "max", *shape
        out, saved = cuda.conv2d_act_pool(cupy.asarray(x), given, None, **PLAIN, activation="relu", pool=pool)
        values = pooled(np.where(oracles.conv2d(x, given.get(), None, **PLAIN) >= 0, 0, np.nan), pool)
        np.testing.assert_array_equal(out.get(), values)
        assert not saved.get()[~np.isnan(values)].any()


@pytest.mark.parametrize("m, n", [(1, 1), (5, 3), (70, 17), (1024, 8), (1025, 3), (0, 4), (4, 0)])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation", CURVES)
def test_products(cuda, cupy, rng, m, n, dtype, activation):
    x, w, b = (rng.normal(size=shape).astype(dtype) for shape in ((m, 6), (n, 6), (n,)))
    tolerance = dict(rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * 10)
    for bias in (b, None):
        result = CURVES[activation](x.astype("f8") @ w.T + (0 if bias is None else bias))
        on = None if bias is None else cupy.asarray(bias)
        out = cuda.affine_act(cupy.asarray(x), cupy.asarray(w), on, activation=activation)
        assert out.dtype == dtype
        np.testing.assert_allclose(out.get(), result, **tolerance)
    g = rng.normal(size=(m, n)).astype(dtype)
    for biased in (True, False):
        before, sums = cuda.act_backward(cupy.asarray(g), out, activation=activation, bias=biased)
        expected = g * SLOPES[activation](out.get().astype("f8"))
        np.testing.assert_allclose(before.get(), expected, **tolerance)
        if biased:
            np.testing.assert_allclose(sums.get(), expected.sum(0), rtol=tolerance["rtol"], atol=tolerance["atol"] * 10)
        else:
            assert sums is None


@pytest.mark.parametrize("activation", CURVES)
def test_nan_stays_nan(cuda, cupy, activation):
    """NVIDIA does not say what the ReLU of cuBLASLt makes of it."""
    x = cupy.asarray(np.array([[1, np.nan], [2, 3]], "f4"))
    out = cuda.affine_act(x, cupy.ones((3, 2), "f4"), cupy.zeros(3, "f4"), activation=activation).get()
    assert np.isnan(out[0]).all() and not np.isnan(out[1]).any()


@pytest.mark.parametrize("m, n", [(70, 17), (5, 3)])
def test_sums_in_every_order_of_threads(cuda, cupy, rng, order, m, n):
    g, out = (rng.normal(size=(m, n)).astype("f4") for _ in range(2))
    before, sums = cuda.act_backward(cupy.asarray(g), cupy.asarray(out), activation="tanh", bias=True)
    np.testing.assert_allclose(sums.get(), before.get().sum(0), rtol=1e-4, atol=1e-4)


FAULTS = {  # the kernel file, its text, what is put there
    "no barrier before the products": ("direct", "__syncthreads();\n  const index_t across", "const index_t across"),
    "a filter too many": ("direct", "if (first + f >= count) continue;", ""),
    "another's filters": ("direct", "filters + threadIdx.y * all * FILTERS", "filters"),
    "a place beside the largest": ("epilogue", "place = y * kw + z", "place = y * kw"),
    "a window beyond the last": ("epilogue", "r < oh && c < ow ?", "true ?"),
    "the rest not cleared": ("epilogue", "r < oh && c < ow && places", "places"),
    "no barrier in the sum": ("epilogue", "    __syncthreads();\n", ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_seen(cuda, cupy, rng, plant, fault):
    plant(*FAULTS[fault])
    with pytest.raises((AssertionError, RuntimeError)):
        for name in ("nine filters", "a rest", "other windows", "other means"):
            check(cuda, cupy, rng, name, "tanh", "float32")
        test_products(cuda, cupy, rng, 70, 17, "float32", "tanh")


def test_bfloat16(cuda, cupy, rng):
    bfloat16 = pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes").bfloat16
    for name in ("a rest", "other means", "one by one"):
        x_shape, w_shape, differs, pool = CASES[name]
        x, w = (rng.integers(-2, 3, shape).astype(bfloat16) for shape in (x_shape, w_shape))
        sizes = PLAIN | differs
        given = cupy.asarray(x), cupy.asarray(w), None
        out, saved = cuda.conv2d_act_pool(*given, **sizes, activation="relu", pool=pool)
        result = CURVES["relu"](oracles.conv2d(x.astype("f8"), w.astype("f8"), None, **sizes))
        assert out.dtype == bfloat16
        np.testing.assert_allclose(out.get().astype("f8"), pooled(result, pool), rtol=1e-2)
        size = dict(activation="relu", pool=pool, size=result.shape[2:])
        got = cuda.act_pool_backward(cupy.ones(out.shape, bfloat16), out, saved, **size)
        expected = unpooled(np.ones(out.shape), result, pool) * (result > 0)
        np.testing.assert_allclose(got.get().astype("f8"), expected, rtol=1e-2)


@pytest.mark.parametrize("pool", [cr.nn.AvgPool2d, cr.nn.MaxPool2d])
@pytest.mark.parametrize("activation", [cr.nn.Tanh, cr.nn.ReLU])
def test_lenet_is_computed_by_them(rng, pool, activation):
    net = cr.nn.models.LeNet5(activation=activation, pool=pool).to("cuda")
    images = cr.tensor(rng.normal(size=(2, 1, 32, 32)), dtype=cr.float32).to("cuda")
    out, names = net(images), []
    node = out.grad_fn
    while node is not None and isinstance(node, cr.autograd.Node):
        names.append(node.name)
        node = node.next_functions[0]
    assert names == ["linear", "linear_act", "reshape", *["conv2d_act_pool"] * 3]
    handles = [m.register_forward_hook(lambda *_: None) for m in net.children()]
    np.testing.assert_allclose(out.detach().cpu().numpy(), net(images).detach().cpu().numpy(), rtol=1e-4, atol=1e-5)
    for handle in handles:
        handle.remove()
