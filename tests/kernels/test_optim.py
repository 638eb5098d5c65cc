"""Optimiser updates: five steps each against torch.optim's formulas, run by PyTorch where it is installed."""

import ctypes

import numpy as np
import pytest

from chainrule.kernels import cpu
from chainrule.kernels.cpu import optim
from chainrule.kernels.cpu.jit import compiles

COMMON = dict(lr=0.1, weight_decay=0.0, maximize=False)


def states(param, names):
    return {name: np.zeros_like(param) for name in names}


def sgd(param, grad, state, step, *, momentum=0.0, dampening=0.0, nesterov=False, **common):
    options = dict(momentum=momentum, dampening=dampening, nesterov=nesterov, first=step == 1)
    cpu.sgd_(param, grad, state.setdefault("buf", np.zeros_like(param)) if momentum else None, **common, **options)


def adam(param, grad, state, step, *, betas=(0.9, 0.99), amsgrad=False, decoupled=False, **common):
    m, v, vmax = (state.setdefault(name, np.zeros_like(param)) for name in ("m", "v", "vmax"))
    options = dict(beta1=betas[0], beta2=betas[1], eps=1e-8, decoupled=decoupled, step=step)
    cpu.adam_(param, grad, m, v, vmax if amsgrad else None, **common, **options)


def adagrad(param, grad, state, step, *, initial_accumulator_value=0.0, **common):
    acc = state.setdefault("acc", np.full_like(param, initial_accumulator_value))
    cpu.adagrad_(param, grad, acc, eps=1e-10, **common)


def adadelta(param, grad, state, step, *, rho=0.9, **common):
    averages = [state.setdefault(name, np.zeros_like(param)) for name in ("square", "delta")]
    cpu.adadelta_(param, grad, *averages, rho=rho, eps=1e-6, **common)


def rmsprop(param, grad, state, step, *, alpha=0.9, momentum=0.0, centered=False, **common):
    square, buf, mean = (state.setdefault(name, np.zeros_like(param)) for name in ("square", "buf", "mean"))
    arrays = square, buf if momentum else None, mean if centered else None
    cpu.rmsprop_(param, grad, *arrays, alpha=alpha, eps=1e-8, momentum=momentum, **common)


CASES = [  # update, PyTorch's class, options as PyTorch names them
    (sgd, "SGD", {}),
    (sgd, "SGD", dict(weight_decay=0.1, maximize=True)),
    (sgd, "SGD", dict(momentum=0.9)),
    (sgd, "SGD", dict(momentum=0.9, dampening=0.3, weight_decay=0.1)),
    (sgd, "SGD", dict(momentum=0.9, nesterov=True, maximize=True)),
    (adam, "Adam", {}),
    (adam, "Adam", dict(weight_decay=0.1, betas=(0.8, 0.95), maximize=True)),
    (adam, "Adam", dict(amsgrad=True)),
    (adam, "AdamW", dict(weight_decay=0.1)),
    (adam, "AdamW", dict(weight_decay=0.1, amsgrad=True, maximize=True)),
    (adagrad, "Adagrad", {}),
    (adagrad, "Adagrad", dict(weight_decay=0.1, initial_accumulator_value=0.5, maximize=True)),
    (adadelta, "Adadelta", {}),
    (adadelta, "Adadelta", dict(rho=0.7, weight_decay=0.1, maximize=True)),
    (rmsprop, "RMSprop", dict(alpha=0.9)),
    (rmsprop, "RMSprop", dict(alpha=0.9, momentum=0.8, weight_decay=0.1)),
    (rmsprop, "RMSprop", dict(alpha=0.9, centered=True, momentum=0.5, maximize=True)),
]


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 3e-5)])
@pytest.mark.parametrize("update, name, options", CASES, ids=lambda c: c if isinstance(c, str) else "")
def test_five_steps_of_pytorch(update, name, options, dtype, tolerance, torch, rng, path):
    start, grads = rng.normal(size=(3, 4)).astype(dtype), rng.normal(size=(5, 3, 4)).astype(dtype)
    theirs = torch.nn.Parameter(torch.tensor(start))
    defaults = COMMON if name != "AdamW" else COMMON | dict(weight_decay=0.01)
    optimiser = getattr(torch.optim, name)([theirs], **defaults | options, foreach=False)
    for group in optimiser.param_groups:
        group["eps"] = {"Adagrad": 1e-10, "Adadelta": 1e-6}.get(name, 1e-8)
        if name.startswith("Adam") and "betas" not in options:
            group["betas"] = (0.9, 0.99)
    param, state = start.copy(), {}
    options = defaults | options | (dict(decoupled=True) if name == "AdamW" else {})
    for step, grad in enumerate(grads, 1):
        kept = grad.copy()
        update(param, grad, state, step, **options)
        theirs.grad = torch.tensor(grad)
        optimiser.step()
        np.testing.assert_allclose(param, theirs.detach().numpy(), rtol=tolerance, atol=tolerance)
        np.testing.assert_array_equal(grad, kept)


def test_adam_by_hand(path):
    param, grad, m, v = np.array([1.0]), np.array([0.5]), np.zeros(1), np.zeros(1)
    options = dict(lr=0.1, beta1=0.9, beta2=0.999, eps=0.0, weight_decay=0.0, decoupled=False, maximize=False)
    cpu.adam_(param, grad, m, v, None, step=1, **options)
    assert m[0] == pytest.approx(0.05) and v[0] == pytest.approx(0.00025)
    assert param[0] == pytest.approx(0.9)  # the first step is lr long whatever the gradient


@pytest.mark.parametrize(
    "lay", [lambda x: x.T, lambda x: x[::-1], lambda x: np.repeat(x, 2, 0)[::2], np.asfortranarray]
)
def test_written_whatever_the_layout(lay, rng, path):
    plain, grad = rng.normal(size=(4, 4)), rng.normal(size=(4, 4))
    strange, buf = lay(plain.copy()), lay(np.zeros((4, 4)))
    expected = strange - 0.1 * grad
    options = dict(momentum=0.9, dampening=0.0, nesterov=False, first=True)
    cpu.sgd_(strange, grad, buf, **COMMON, **options)
    np.testing.assert_allclose(strange, expected)
    np.testing.assert_allclose(buf, grad)


@pytest.mark.parametrize("first", [0.0, 1.0])
def test_the_largest_of_nan_is_nan(first, path):
    param, grad, (m, v, largest) = np.ones(20), np.full(20, np.nan), np.full((3, 20), first)
    options = dict(lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.0, decoupled=False, maximize=False)
    cpu.adam_(param, grad, m, v, largest, step=1, **options)
    assert np.isnan([param, m, v, largest]).all()


PLAIN = [case for case in CASES if not (case[2] | COMMON | case[2])["weight_decay"]]


@pytest.mark.parametrize("what", ["param", "grad"])
@pytest.mark.parametrize("update, name, options", PLAIN, ids=lambda c: c if isinstance(c, str) else "")
def test_infinities_and_nan_as_in_pytorch(update, name, options, what, torch, path):
    """Without weight decay an infinite parameter stays so, and an infinite gradient goes as far as its formula says."""
    arrays = dict(param=np.linspace(-1, 1, 40), grad=np.linspace(2, 1, 40))
    arrays[what][[3, 20, 33]] = np.inf, -np.inf, np.nan
    theirs = torch.nn.Parameter(torch.tensor(arrays["param"]))
    optimiser = getattr(torch.optim, name)([theirs], **COMMON | options, foreach=False)
    theirs.grad = torch.tensor(arrays["grad"])
    state = {}
    for step in (1, 2):
        with np.errstate(invalid="ignore"):  # inf / inf, by NumPy's twins
            update(arrays["param"], arrays["grad"], state, step, **COMMON | options)
        optimiser.step()
        expected = theirs.detach().numpy()
        assert np.array_equal(np.isfinite(arrays["param"]), np.isfinite(expected))
        odd = ~np.isfinite(expected)
        np.testing.assert_array_equal(arrays["param"][odd], expected[odd])


def test_half_precision_is_computed_in_single(path):
    param, grad = np.ones(3, np.float16), np.full(3, 1e-4, np.float16)
    m, v = np.zeros(3, np.float16), np.zeros(3, np.float16)
    options = dict(lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, decoupled=False, maximize=False)
    cpu.adam_(param, grad, m, v, None, step=1, **options)
    np.testing.assert_allclose(param, 0.9, rtol=2e-3)


@pytest.mark.parametrize("kind", ["f8", "f4", "f2"])
def test_the_other_byte_order_is_computed_in_its_own_precision(kind, rng, path):
    arrays, options = rng.uniform(1, 2, (4, 30)), dict(beta1=0.9, beta2=0.99, eps=1e-8, decoupled=False, step=2)
    native, swapped = ([list(arrays.astype(order + kind)) for _ in range(2)] for order in "=>")
    for p, g in (native, swapped):
        cpu.adam_(p[0], g[1], p[2], p[3], None, **COMMON | options)
        cpu.clip_(g[:1], cpu.gradient_norm(g[:1]), 1.0)
    for got, expected in zip(sum(swapped, []), sum(native, []), strict=True):
        assert got.dtype == ">" + kind
        np.testing.assert_allclose(got, expected, rtol=4 * np.finfo(kind).eps)
    assert cpu.gradient_norm(swapped[0]).dtype == cpu.gradient_norm(native[0]).dtype


def test_a_first_step_ignores_what_the_buffer_held(path):
    param, buf = np.zeros(2), np.full(2, np.nan)
    options = dict(momentum=0.9, dampening=0.5, nesterov=False, first=True)
    cpu.sgd_(param, np.ones(2), buf, **COMMON, **options)
    assert buf.tolist() == [1, 1] and param.tolist() == [-0.1, -0.1]


def test_empty_and_zero_dimensional(path):
    options = dict(momentum=0.0, dampening=0.0, nesterov=False, first=True)
    cpu.sgd_(np.zeros((0, 3)), np.zeros((0, 3)), None, **COMMON, **options)
    scalar = np.array(1.0)
    cpu.sgd_(scalar, np.array(2.0), None, **COMMON, **options)
    assert scalar == pytest.approx(0.8)


@pytest.mark.parametrize("count", [1, 3])
def test_many_parameters_move_as_each_alone(path, count, rng, threads, monkeypatch):
    """In one loop over all, whose slices end anywhere: of all shapes, layouts and dtypes, empty ones among them."""
    monkeypatch.setattr(optim, "_GRAIN", 7)
    threads(count)
    kinds = ("float32", "float64", "float16")
    shapes = ((3, 5), (), (0, 2), (40,), (1,), (6, 7)) * 3
    arrays = [rng.normal(size=shape).astype(kinds[i % 3]) for i, shape in enumerate(shapes)]
    arrays[5] = np.asfortranarray(arrays[5])
    arrays[11] = arrays[11].repeat(2, 0)[::2]
    options = COMMON | dict(beta1=0.9, beta2=0.99, eps=1e-8, decoupled=False, step=3, weight_decay=0.1)
    every = [[a.copy("K") for a in arrays] for _ in range(4)]
    every[0][11], every[2][5] = arrays[11].repeat(2, 0)[::2], np.ascontiguousarray(every[2][5])
    alone = [[np.array(a) for a in row] for row in every]
    for row in (every[3], alone[3]):
        for v in row:
            np.abs(v, out=v)
    cpu.adam_(*every, None, **options)
    for one in zip(*alone, strict=True):
        cpu.adam_(*one, None, **options)
    for got, expected in zip(every, alone, strict=True):
        for x, y in zip(got, expected, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-6 if x.dtype != np.float16 else 1e-3)


@pytest.mark.skipif(not compiles(), reason="compiled loops alone look there")
def test_the_elements_of_an_array_are_where_its_header_ends(rng):
    for x in (rng.normal(size=(3, 4)), np.zeros(0), np.float32(3) * np.ones(())[None], rng.normal(size=20)[7:]):
        x = np.asarray(x)
        assert ctypes.c_size_t.from_address(id(x) + optim._HEADER).value == x.ctypes.data


def test_two_hundred_runs_bit_equal(rng, threads, monkeypatch):
    monkeypatch.setattr(optim, "_GRAIN", 10)
    threads(4)
    start, grad, runs = rng.normal(size=100).astype("float32"), rng.normal(size=100).astype("float32"), set()
    for _ in range(200):
        param, state = start.copy(), {}
        adam(param, grad, state, 1, **COMMON)
        runs.add(param.tobytes())
    assert len(runs) == 1


@pytest.mark.parametrize("update, name, options", CASES, ids=lambda c: c if isinstance(c, str) else "")
def test_the_bits_are_the_same_wherever_the_arrays_lie(update, name, options, rng, path):
    """The elements before a line of the cache, and after the last vector, are computed by other instructions."""
    start, grad, results = *rng.normal(size=(2, 203)).astype("float32"), set()
    for begin in range(17):
        param, state = np.empty(240, np.float32)[begin : begin + 203], {}
        param[...] = start
        for step in (1, 2):
            update(param, grad, state, step, **COMMON | options)
        results.add(param.tobytes())
    assert len(results) == 1


def test_lists_of_parameters_move_one_by_one(rng):
    params, grads, bufs = ([rng.standard_normal(s) for s in ((3, 2), (1,), (0,), (5,))] for _ in range(3))
    options = dict(COMMON, momentum=0.9, dampening=0.0, nesterov=False, first=False)
    expected = [p.copy() for p in params]
    for p, g, b in zip(expected, grads, bufs, strict=True):
        cpu.sgd_(p, g, b.copy(), **options)
    cpu.sgd_(params, grads, bufs, **options)
    assert all(np.array_equal(p, q) for p, q in zip(params, expected, strict=True))
    cpu.sgd_(params, grads, None, **{**options, "momentum": 0})
    assert all(np.allclose(p, q - 0.1 * g, rtol=1e-14) for p, q, g in zip(params, expected, grads, strict=True))


@pytest.mark.parametrize("dtypes, kind", [(["f4"], "f4"), (["f2"], "f4"), (["f4", "f8"], "f8")])
def test_norm_of_all_gradients_and_clipping(rng, dtypes, kind, path):
    grads = [(300 * rng.standard_normal(s)).astype(d) for s in ((7, 5), (1,), (0,), (200,)) for d in dtypes]
    exact = np.sqrt(sum((g.astype("f8") ** 2).sum() for g in grads))
    norm, before = cpu.gradient_norm(grads), [g.copy() for g in grads]
    assert norm.shape == () and norm.dtype == kind and float(norm) == pytest.approx(exact, rel=1e-7)
    cpu.clip_(grads, norm, 2 * exact)
    assert all(np.array_equal(g, b) for g, b in zip(grads, before, strict=True))
    cpu.clip_(grads, norm, exact / 4)
    for g, b in zip(grads, before, strict=True):
        np.testing.assert_allclose(g, b / 4, rtol=2e-3 if g.dtype == "f2" else 1e-6)
    cpu.clip_(grads, np.float32(np.nan), 1.0)
    assert all(np.isnan(g).all() for g in grads)


def test_the_norm_of_large_gradients_has_the_same_bits_whatever_the_number_of_threads(rng, threads, path):
    """Of pieces that end where an array does, before it, and of none."""
    piece = optim._PIECE
    grads = [rng.standard_normal(n).astype("f4") for n in (piece, 0, 3 * piece + 1, 7, 2 * piece - 1)]
    exact = np.sqrt(sum((g.astype("f8") ** 2).sum() for g in grads))
    norms = []
    for count in (1, 2, 3):
        threads(count)
        norms.append(cpu.gradient_norm(grads))
    assert float(norms[0]) == pytest.approx(exact, rel=1e-7) and len(set(map(float, norms))) == 1
    turned = [g.reshape(1, -1)[:, ::-1] for g in grads]  # which no loop takes
    assert float(cpu.gradient_norm(turned)) == pytest.approx(exact, rel=1e-7)


def test_no_parameters_are_no_work(path):
    assert cpu.gradient_norm([]) == 0 and cpu.clip_([], 2.0, 1.0) is None
    cpu.sgd_(
        [], [], None, lr=0.1, momentum=0, dampening=0, weight_decay=0, nesterov=False, maximize=False, first=True
    )
