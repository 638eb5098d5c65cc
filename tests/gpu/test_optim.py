"""Optimiser updates on the GPU against the CPU's in float64, three steps long."""

import numpy as np
import pytest

from chainrule.kernels import cpu

ADAM = dict(lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.1, decoupled=False, maximize=False, step=0)
SGD = dict(lr=0.1, momentum=0.9, dampening=0.5, weight_decay=0.1, nesterov=False, maximize=False, first=False)
RMS = dict(lr=0.1, alpha=0.9, eps=1e-8, weight_decay=0.1, momentum=0.0, maximize=False)
# (function, which of its states there are, settings)
CASES = [
    ("sgd_", [0], {**SGD, "momentum": 0}),
    ("sgd_", [1], SGD),
    ("sgd_", [1], {**SGD, "dampening": 0, "nesterov": True, "maximize": True}),
    ("adam_", [1, 1, 0], ADAM),
    ("adam_", [1, 1, 1], {**ADAM, "decoupled": True, "maximize": True}),
    ("adagrad_", [1], dict(lr=0.1, eps=1e-10, weight_decay=0.1, maximize=False)),
    ("adadelta_", [1, 1], dict(lr=0.5, rho=0.9, eps=1e-6, weight_decay=0.1, maximize=True)),
    ("rmsprop_", [1, 0, 0], RMS),
    ("rmsprop_", [1, 1, 1], {**RMS, "momentum": 0.5}),
]
TOLERANCE = {"f8": 1e-13, "f4": 1e-5, "f2": 2e-2}


def three_steps(kernels, name, arrays, settings):
    for t in (1, 2, 3):
        now = {"step": t, "first": t == 1}
        getattr(kernels, name)(*arrays, **{k: now.get(k, v) for k, v in settings.items()})


@pytest.mark.parametrize("name, there, settings", CASES)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(), (3,), (0,), (257,), (33, 8)], ids=str)
def test_against_the_cpu(cuda, cupy, rng, name, there, settings, dtype, shape):
    arrays = [rng.uniform(0.5, 1, shape).astype(dtype) for _ in range(2)]
    arrays += [np.zeros(shape, dtype) if one else None for one in there]
    wide = [None if a is None else a.astype("f8") for a in arrays]
    on = [None if a is None else cupy.asarray(a) for a in arrays]
    three_steps(cpu, name, wide, settings)
    three_steps(cuda, name, on, settings)
    for got, expected in zip(on, wide, strict=True):
        if got is not None:
            assert got.dtype == dtype
            np.testing.assert_allclose(got.get(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("what", [0, 1], ids=["param", "grad"])
@pytest.mark.parametrize("name, there, settings", CASES)
def test_infinities_and_nan_as_on_the_cpu(cuda, cupy, name, there, settings, what):
    """Without weight decay an infinite parameter stays so: a share of 0 is left out, for 0 times an infinity is NaN."""
    arrays = [np.linspace(-1, 1, 40), np.linspace(2, 1, 40), *[np.zeros(40) if one else None for one in there]]
    arrays[what][[3, 20, 33]] = np.inf, -np.inf, np.nan
    on = [None if a is None else cupy.asarray(a) for a in arrays]
    with np.errstate(invalid="ignore"):  # inf / inf, by NumPy's twins
        three_steps(cpu, name, arrays, settings | {"weight_decay": 0.0})
    three_steps(cuda, name, on, settings | {"weight_decay": 0.0})
    for got, expected in zip(on, arrays, strict=True):
        if got is not None:
            np.testing.assert_allclose(got.get(), expected, rtol=1e-13, atol=1e-13)
    assert what or np.isinf(arrays[0][[3, 20]]).all()


def test_schedule_orders(cuda, cupy, rng, order):
    param, grad, m, v = (rng.uniform(0.5, 1, 1000).astype("f4") for _ in range(4))
    on = [cupy.asarray(a) for a in (param, grad, m, v)]
    cpu.adam_(param, grad, m, v, None, **{**ADAM, "step": 3})
    cuda.adam_(*on, None, **{**ADAM, "step": 3})
    np.testing.assert_allclose(on[0].get(), param, rtol=1e-5)


def test_rate_and_step_on_the_gpu(cuda, cupy, rng):
    param, grad, m, v = (rng.uniform(0.5, 1, 9) for _ in range(4))
    on = [cupy.asarray(a) for a in (param, grad, m, v)]
    cpu.adam_(param, grad, m, v, None, **{**ADAM, "lr": 0.25, "step": 7})
    cuda.adam_(*on, None, **{**ADAM, "lr": cupy.full((), 0.25), "step": cupy.full((), 7.0, "f4")})
    np.testing.assert_allclose(on[0].get(), param, rtol=1e-14)
    cuda.sgd_(on[0], on[1], None, **{**SGD, "momentum": 0, "weight_decay": 0, "lr": cupy.full((), 0.5)})
    np.testing.assert_allclose(on[0].get(), param - 0.5 * grad, rtol=1e-14)


def test_any_layout_and_alignment(cuda, cupy, rng):
    whole, grad = rng.standard_normal((6, 5)), rng.standard_normal((6, 5))
    for cut in (lambda a: a.T, lambda a: a[1:], lambda a: a[:, ::2], lambda a: a.reshape(-1)[1:]):
        on = cupy.asarray(whole)
        cuda.adagrad_(
            cut(on), cut(cupy.asarray(grad)), cupy.zeros(cut(on).shape), lr=0.1, eps=0.0, weight_decay=0, maximize=False
        )
        expected = whole.copy()
        cut(expected)[...] -= 0.1 * np.sign(cut(grad))
        np.testing.assert_allclose(on.get(), expected, rtol=1e-12)


@pytest.mark.parametrize("name, there, settings", CASES[2:5])
def test_lists_of_parameters(cuda, cupy, rng, order, name, there, settings):
    sizes = [(5,), (0, 3), (), (7, 11), (9000,)] + [(3,)] * 70
    dtypes = ["f4"] * 40 + ["f8"] * 35
    lists = [
        [rng.uniform(0.5, 1, s).astype(d) for s, d in zip(sizes, dtypes, strict=True)] for _ in range(2 + len(there))
    ]
    lists[2:] = [x if one else None for x, one in zip(lists[2:], there, strict=True)]
    on = [None if x is None else [cupy.asarray(a) for a in x] for x in lists]
    three_steps(cuda, name, on, settings)
    three_steps(cpu, name, lists, settings)
    for got, expected in zip(on, lists, strict=True):
        for one, wanted in zip(got or [], expected or [], strict=True):
            assert one.dtype == wanted.dtype
            np.testing.assert_allclose(one.get(), wanted, rtol=2e-5, atol=1e-5)


def test_first_does_not_read_the_buffer(cuda, cupy):
    param, buf = cupy.ones(5), cupy.full(5, np.nan)
    cuda.sgd_(param, cupy.ones(5), buf, **{**SGD, "weight_decay": 0, "first": True})
    assert buf.get().tolist() == [1] * 5


SIZES = [(5,), (), (0,), (33, 7), (9000,), *[(3,)] * 70]


def test_norm_of_all_gradients(cuda, cupy, rng, order):
    for dtypes, kind in ((["f4"], "f4"), (["f4", "f8", "f2"], "f8"), (["f2"], "f4")):
        grads = [rng.standard_normal(s).astype(dtypes[i % len(dtypes)]) for i, s in enumerate(SIZES)]
        norm = cuda.gradient_norm([cupy.asarray(g) for g in grads])
        assert norm.dtype == kind and norm.shape == () and cpu.gradient_norm(grads).dtype == kind
        exact = np.sqrt(sum((g.astype("f8") ** 2).sum() for g in grads))
        assert float(norm) == pytest.approx(exact, rel=1e-7)
        assert float(cpu.gradient_norm(grads)) == pytest.approx(exact, rel=1e-7)
    assert float(cuda.gradient_norm([cupy.full(2, 3e30, "f4")])) == pytest.approx(2**0.5 * 3e30, rel=1e-6)


@pytest.mark.parametrize("most, share", [(100.0, 1.0), (2.5, 0.5), (0.0, 0.0)])
def test_clip(cuda, cupy, rng, most, share):
    for dtype, tolerance in (("f4", 1e-6), ("f2", 1e-3), ("f8", 1e-6)):
        grads = [rng.standard_normal(s).astype(dtype) for s in SIZES]
        on = [cupy.asarray(g) for g in grads]
        expected = [g * share for g in grads]
        cuda.clip_(on, cupy.full((), 5.0, "f4"), most)
        cpu.clip_(grads, np.float32(5), most)
        for got, twin, wanted in zip(on, grads, expected, strict=True):
            np.testing.assert_allclose(got.get(), wanted, rtol=tolerance)
            np.testing.assert_allclose(twin, wanted, rtol=tolerance)


def test_a_norm_that_is_not_a_number_spoils_every_gradient(cuda, cupy):
    grads = [cupy.asarray(np.array([1.0, np.nan])), cupy.ones(3)]
    cuda.clip_(grads, cuda.gradient_norm(grads), 1.0)
    assert all(np.isnan(g.get()).all() for g in grads)
