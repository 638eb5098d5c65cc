"""The checks that every row of the table of ops passes. Each takes a row and a random generator."""

from __future__ import annotations

import contextlib
import itertools

import numpy as np
import pytest

import chainrule as cr
from chainrule.kernels import for_array as kernels

from .table import outputs


@contextlib.contextmanager
def told(row, sample):
    """Failures name the row and the sample."""
    try:
        yield
    except Exception as error:
        error.add_note(f"{row.name}: {sample}")
        raise


def drawn(row, rng):
    """Each sample and the context under which its failures name it."""
    for sample in row.make(rng):
        yield sample, told(row, sample)


def close(got, expected, tolerance, what=""):
    got = host(got) if isinstance(got, cr.Tensor) else got
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance, err_msg=what)


def host(t):
    """The values of a tensor on any device."""
    return t.detach().cpu().numpy()


def live(out):
    return [y for y in outputs(out) if y.requires_grad]


def floating(out):
    return [y for y in outputs(out) if y.is_floating_point()]


def cotangents(rng, out):
    return [cr.tensor(np.asarray(rng.standard_normal(y.shape)).astype(y.dtype)) for y in live(out)]


def gradients(call, leaves, seeds, **options):
    """The gradients of one call, zeros for what it does not depend on."""
    out = live(call(*leaves))
    return cr.autograd.grad(out, leaves, seeds, materialize_grads=True, **options) if out else ()


# ---- values ----------------------------------------------------------------------------------------------------------


def forward(row, rng):
    """Value, shape and dtype against the oracle, in float64."""
    for sample, context in drawn(row, rng):
        with context:
            got = outputs(row.call(sample)(*row.leaves(sample)))
            expected = row.expected(sample)
            assert len(got) == len(expected)
            for y, value in zip(got, expected, strict=True):
                assert y.device == cr.get_default_device() and cr.kernels.is_array(y.array)
                assert y.dtype == value.dtype
                close(y, value, row.tolerance)


def lower_precision(row, rng, dtype, loose):
    """Value against the oracle of the rounded inputs; results and gradients keep the dtype."""
    for sample, context in drawn(row, rng):
        with context:
            low = sample.cast(dtype)
            leaves = row.leaves(low)
            out = row.call(low)(*leaves)
            for y, value in zip(outputs(out), row.expected(low.cast(np.float64)), strict=True):
                assert y.dtype == (dtype if value.dtype.kind == "f" else value.dtype)
                close(host(y).astype(value.dtype), value, loose)
            if not live(out):
                continue
            seeds = cotangents(rng, out)
            for got, exact in zip(
                gradients(row.call(low), leaves, seeds),
                gradients(row.call(sample), row.leaves(low.cast(np.float64)), [s.double() for s in seeds]),
                strict=True,
            ):
                assert got.dtype == dtype
                scale = 1 + np.abs(host(exact)).max(initial=0)
                close(host(got).astype(np.float64) / scale, host(exact) / scale, loose)


def float32(row, rng):
    lower_precision(row, rng, np.float32, row.loose)


def float16(row, rng):
    lower_precision(row, rng, np.float16, 0.03)


def bfloat16(row, rng):
    low = pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes").bfloat16
    lower_precision(row, rng, np.dtype(low), 0.05)


# ---- derivatives -----------------------------------------------------------------------------------------------------


def derivative(row, rng):
    """First and second derivatives against differences. The mean of nothing and the like (NaN, infinity) have none.

    The results are bent, y + y²/10, so that g depends on the inputs: a rule must be differentiable in g too.
    """
    for sample, context in drawn(row, rng):
        with context:
            if smooth(row, sample):
                cr.check_grads(bent(row.call(sample)), row.leaves(sample), order=2, seed=int(rng.integers(1 << 30)))


def third_derivative(row, rng):
    """The same to third order for the first two samples that have elements."""
    chosen = [s for s in row.make(rng) if smooth(row, s) and all(value.size for value in row.expected(s))]
    for sample in chosen[:2]:
        with told(row, sample):
            cr.check_grads(bent(row.call(sample)), row.leaves(sample), order=3)


def smooth(row, sample):
    return sample.varied and all(np.isfinite(value).all() for value in row.expected(sample))


def bent(call):
    return lambda *xs: [y * (y * 0.1 + 1) for y in floating(call(*xs))]


def no_derivative(row, rng):
    """What has no derivative records nothing."""
    for sample, context in drawn(row, rng):
        with context:
            assert not live(row.call(sample)(*row.leaves(sample)))


def fused(row, rng):
    """`backward`, `grad` and `grad` with create_graph (the composed rules) give the same gradients.

    Also of three calls with the same inputs: from the second gradient on, rules may add to what has arrived.
    """
    for sample, context in drawn(row, rng):
        with context:
            for times in (1, 3):
                once, leaves = row.call(sample), row.leaves(sample)
                call = lambda *xs, once=once, times=times: [y for _ in range(times) for y in outputs(once(*xs))]
                out = call(*leaves)
                if not live(out):
                    continue
                seeds = cotangents(rng, out)
                composed = gradients(call, leaves, seeds, create_graph=True)
                raw = gradients(call, leaves, seeds)
                cr.autograd.backward(live(out), seeds)
                for leaf, one, two in zip(leaves, raw, composed, strict=True):
                    close(one, host(two), 1e-10)
                    close(leaf.grad if leaf.grad is not None else leaf.detach() * 0, host(two), 1e-10)


def partial(row, rng):
    """The gradient of one input alone is what it is among all."""
    for sample, context in drawn(row, rng):
        with context:
            at = sample.varied
            call, leaves = row.call(sample), row.leaves(sample)
            out = call(*leaves)
            if len(at) < 2 or not live(out):
                continue
            seeds = cotangents(rng, out)
            for i, expected in enumerate(gradients(call, leaves, seeds)):
                alone = [leaf if j == i else leaf.detach() for j, leaf in enumerate(leaves)]
                result = outputs(call(*alone))
                own = [s for s, y in zip(seeds, floating(result), strict=True) if y.requires_grad]
                (got,) = cr.autograd.grad(live(result), [leaves[i]], own, materialize_grads=True)
                close(got, host(expected), 1e-10)


def aliased(row, rng):
    """One tensor in the place of two gets the sum of the gradients of two with its values."""
    for sample, context in drawn(row, rng):
        with context:
            at = sample.varied
            shapes = {sample.inputs[i].shape for i in at}
            if len(at) < 2 or len(shapes) > 1:
                continue
            call, x = row.call(sample), row.leaves(sample)[0]
            copies = [cr.tensor(host(x), requires_grad=True) for _ in at]
            out = call(*copies)
            if not live(out):
                continue
            seeds = cotangents(rng, out)
            expected = sum(host(g) for g in gradients(call, copies, seeds))
            same = lambda x, call=call, at=at: call(*[x for _ in at])
            for create_graph in (False, True):
                (got,) = gradients(same, [x], seeds, create_graph=create_graph)
                close(got, expected, 1e-10)


# ---- memory ----------------------------------------------------------------------------------------------------------


def fortran(array):
    return kernels(array).array(array, order="F")


def strided(array):
    """Every second element of a larger array."""
    wide = kernels(array).full([2 * n for n in array.shape], 7, array.dtype)
    view = wide[(*(slice(None, None, 2) for _ in array.shape), ...)]
    view[...] = array
    return view


def negative(array):
    """A view with negative strides."""
    back = tuple(slice(None, None, -1) for _ in array.shape)
    return kernels(array).ascontiguousarray(array[back])[back] if array.ndim else array


def offset(array):
    """Data that does not begin at the start of its memory."""
    k = kernels(array)
    return k.concatenate([k.zeros(3, array.dtype), array.ravel()])[3:].reshape(array.shape)


def read_only(array):
    """As NumPy's arrays can be."""
    array = array.copy()
    if cr.get_default_device() == "cpu":
        array.flags.writeable = False
    return array


def big_endian(array):
    return array.astype(array.dtype.newbyteorder(">")) if cr.get_default_device() == "cpu" else array


LAYOUTS = [fortran, strided, negative, offset, read_only, big_endian]


def layouts(row, rng):
    """The layout of the inputs changes neither value nor gradient."""
    made = list(row.make(rng))
    for number, sample in enumerate(made):
        with told(row, sample):
            out = row.apply(tensors(sample, None), sample.params)
            seeds = cotangents(rng, out)
            plain = tensors(sample, None)
            chosen = LAYOUTS if len(made) < 6 else LAYOUTS[number % 6 :: 3]
            for layout in chosen:
                laid = tensors(sample, layout)
                got = row.apply(laid, sample.params)
                for y, value in zip(outputs(got), outputs(out), strict=True):
                    assert y.dtype == value.dtype and y.dtype.isnative, layout.__name__
                    close(y, host(value), 1e-12, layout.__name__)
                if seeds:
                    expected = varied_gradients(row, sample, plain, seeds)
                    for one, two in zip(varied_gradients(row, sample, laid, seeds), expected, strict=True):
                        close(one, host(two), 1e-10, layout.__name__)


def tensors(sample, layout):
    """The sample's inputs as tensors in a layout; the varied ones require gradients."""
    made = []
    for i, x in enumerate(sample.inputs):
        t = None if x is None else cr.tensor(x)
        if t is not None and layout:
            t = cr.as_tensor(layout(t.array))
        made.append(t.requires_grad_() if i in sample.varied else t)
    return made


def varied_gradients(row, sample, given, seeds):
    leaves = [given[i] for i in sample.varied]
    return cr.autograd.grad(live(row.apply(given, sample.params)), leaves, seeds, materialize_grads=True)


def inside(row, rng):
    """In the middle of a graph, gradients arrive in any layout and leave as they do alone."""
    for sample, context in drawn(row, rng):
        with context:
            call, leaves = row.call(sample), row.leaves(sample)
            out = live(call(*leaves))
            if not out:
                continue
            seeds = cotangents(rng, out)
            expected = gradients(call, leaves, seeds)
            for layout in (*LAYOUTS[:3], read_only):
                laid = [cr.as_tensor(layout(s.array)) for s in seeds]
                for got, value in zip(gradients(call, leaves, laid), expected, strict=True):
                    close(got, host(value), 1e-10, layout.__name__)
            scaled = lambda *xs, call=call: [y * 0.5 for y in live(call(*[x * 2 for x in xs]))]
            halves = [cr.tensor(host(x) / 2, requires_grad=True) for x in leaves]
            for got, value in zip(gradients(scaled, halves, seeds), expected, strict=True):
                close(got, host(value), 1e-10, "between two products")
            spread = [cr.tensor(1.5, dtype=cr.float64).expand(y.shape) for y in out]
            dense = [cr.tensor(s.array.copy()) for s in spread]
            for one, two in zip(gradients(call, leaves, spread), gradients(call, leaves, dense), strict=True):
                close(one, host(two), 1e-10, "a spread cotangent")


def unshared(row, rng):
    """No gradient shares memory with another, an input, a result or the user's cotangent; nothing given is changed."""
    for sample, context in drawn(row, rng):
        with context:
            before = [None if x is None else x.copy() for x in sample.inputs]
            given = [None if x is None else cr.as_tensor(x) for x in sample.inputs]
            leaves = [given[i].requires_grad_() for i in sample.varied]
            out = row.apply(given, sample.params)
            seeds = cotangents(rng, out)
            kept = [host(s).copy() for s in seeds]
            results = [host(y).copy() for y in outputs(out)]
            made = []
            if seeds:
                cr.autograd.backward(live(out), seeds, retain_graph=True)
                made = [leaf.grad.array for leaf in leaves if leaf.grad is not None]
                functional = cr.autograd.grad(live(out), leaves, seeds, allow_unused=True)
                made += [g.array for g in functional if g is not None]
            others = [t.array for t in [*(t for t in given if t is not None), *seeds, *outputs(out)]]
            for one, two in [*itertools.combinations(made, 2), *itertools.product(made, others)]:
                assert not kernels(one).shares_memory(one, two)
            for x, y in zip(given, before, strict=True):
                assert x is None or np.array_equal(host(x), y, equal_nan=y.dtype.kind == "f"), "an input was changed"
            for s, k in zip(seeds, kept, strict=True):
                assert np.array_equal(host(s), k), "the cotangent was changed"
            for y, k in zip(outputs(out), results, strict=True):
                assert np.array_equal(host(y), k, equal_nan=k.dtype.kind == "f"), "a result was changed by backward"


# ---- broadcasting ----------------------------------------------------------------------------------------------------


def drawn_shapes(rng, arity):
    """Shapes that broadcast: dimensions dropped, set to 1 or, sometimes, all 0."""
    full = [int(n) for n in rng.integers(1, 4, rng.integers(0, 4))]
    if full and rng.random() < 0.25:
        full[rng.integers(len(full))] = 0
    shapes = []
    for _ in range(arity):
        shape = [n if rng.random() < 0.65 else 1 for n in full]
        shapes.append(tuple(shape[rng.integers(len(full) + 1) :]) if rng.random() < 0.5 else tuple(shape))
    return shapes


FIXED_SHAPES = [
    ((), ()),
    ((3,), ()),
    ((), (2, 3)),
    ((1,), ()),
    ((2, 1), (1, 3)),
    ((0,), (1,)),
    ((0, 3), (1, 3)),
    ((1, 1), ()),
    ((2, 0), (0,)),
]


def broadcasting(row, rng, draws=12):
    """Gradients are those of the expanded inputs, summed back to each input's shape by plain addition."""
    params = list(row.make(rng))[0].params
    fixed = [(*pair, ()) if row.arity == 3 else pair for pair in FIXED_SHAPES] if row.arity > 1 else []
    for shapes in [*fixed, *(drawn_shapes(rng, row.arity) for _ in range(draws))]:
        arrays = row.draw(rng, shapes)
        call = lambda *xs: row.apply(xs, params)
        whole = np.broadcast_shapes(*shapes)
        narrow = [cr.tensor(a) for a in arrays]
        wide = [cr.tensor(np.broadcast_to(a, whole)) for a in arrays]
        at = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
        for i in at:
            narrow[i].requires_grad_(), wide[i].requires_grad_()
        out, expected = call(*narrow), call(*wide)
        close(out, host(expected), 0, f"shapes {shapes}")
        close(out, row.oracle(*arrays, **params), row.tolerance, f"shapes {shapes}")
        if not out.requires_grad:
            continue
        seed = cotangents(rng, out)
        wide_gradients = cr.autograd.grad([expected], [wide[i] for i in at], seed)
        for create_graph in (False, True):
            got = cr.autograd.grad([call(*narrow)], [narrow[i] for i in at], seed, create_graph=create_graph)
            for i, g, spread in zip(at, got, wide_gradients, strict=True):
                close(g, summed_to(host(spread), shapes[i]), 1e-10, f"shapes {shapes}, input {i}")
        if min(a.size for a in arrays):
            cr.check_grads(call, [cr.tensor(a) for a in arrays], order=2)


def summed_to(array, shape):
    out = np.zeros(shape)
    lead = array.ndim - len(shape)
    for place in np.ndindex(*array.shape):
        out[tuple(0 if n == 1 else p for p, n in zip(place[lead:], shape, strict=True))] += array[place]
    return out


# ---- what a primitive says about itself ------------------------------------------------------------------------------


def described(row, rng):
    """Formula, derivative's formula and a cost for every sample; each rule's inputs occur in some sample."""
    primitive, seen = row.function, set()
    assert primitive.formula
    assert all(rule.formula for rule in primitive.rules), "a derivative rule without a formula"
    for sample, context in drawn(row, rng):
        with context:
            out = outputs(row.call(sample)(*row.leaves(sample)))
            shapes = [None if x is None else x.shape for x in sample.inputs]
            cost = primitive.cost(shapes, [y.shape for y in out], **sample.params)
            assert np.isfinite(cost.flops) and cost.flops >= 0 and np.isfinite(cost.bytes) and cost.bytes >= 0
            seen.update([0] if primitive.variadic else sample.varied)
    assert {i for rule in primitive.rules for i in rule.wrt} <= seen, "a rule whose input no sample varies"
