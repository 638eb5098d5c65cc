"""Shapes, indices and geometry drawn by Hypothesis, against NumPy and the plain loops; failures shrink."""

import math

import numpy as np
from hypothesis import assume, given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from ops import loops
from ops.table.linalg import empty_aware, matmul

import chainrule as cr

some = settings(max_examples=100)
numbers = lambda shape: np.random.default_rng(math.prod(shape) + 1).standard_normal(shape)
sizes = lambda low, high: st.tuples(st.integers(low, high), st.integers(low, high))


def agrees(function, arrays, expected, tolerance=1e-10):
    """Value, and first and second derivatives where there are elements."""
    out = function(*[cr.tensor(a) for a in arrays])
    assert out.shape == expected.shape
    np.testing.assert_allclose(out.numpy(), expected, rtol=tolerance, atol=tolerance)
    if out.numel() and all(a.size for a in arrays):
        cr.check_grads(function, [cr.tensor(a) for a in arrays], order=2)


# ---- convolution and pooling -----------------------------------------------------------------------------------------


@st.composite
def geometries(draw):
    groups = draw(st.integers(1, 2))
    kernel, stride, dilation = draw(sizes(1, 3)), draw(sizes(1, 3)), draw(sizes(1, 2))
    padding = tuple(draw(st.tuples(st.integers(0, 2), st.integers(0, 2))) for _ in range(2))
    reach = [d * (k - 1) + 1 - sum(p) for k, d, p in zip(kernel, dilation, padding, strict=True)]
    plane = tuple(draw(st.integers(max(r, 1), max(r, 1) + 4)) for r in reach)
    x = (draw(st.integers(0, 2)), groups * draw(st.integers(1, 2)), *plane)
    w = (groups * draw(st.integers(1, 2)), x[1] // groups, *kernel)
    return x, w, {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


@some
@given(geometries())
def test_convolution(drawn):
    x, w, geometry = drawn
    arrays = [numbers(x), numbers(w), numbers(w[:1])]
    agrees(lambda x, w, b: cr.conv2d(x, w, b, **geometry), arrays, loops.conv(*arrays, **geometry))


@some
@given(geometries(), st.data())
def test_transposed_convolution(drawn, data):
    """Every output_padding below the stride or the dilation, as PyTorch allows."""
    x, w, geometry = drawn
    stride, dilation, groups = (geometry[k] for k in ("stride", "dilation", "groups"))
    padding = tuple(p[0] for p in geometry["padding"])
    more = tuple(data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    w = (x[1], w[0] // groups, *w[2:])
    size = [
        (n - 1) * s - 2 * p + d * (k - 1) + m + 1
        for n, s, p, d, k, m in zip(x[2:], stride, padding, dilation, w[2:], more, strict=True)
    ]
    assume(min(size) > 0)
    arrays = [numbers(x), numbers(w)]
    pads = tuple((p, p) for p in padding)
    expected = loops.conv_input(*arrays, input_size=size, stride=stride, padding=pads, dilation=dilation, groups=groups)
    agrees(lambda x, w: cr.conv_transpose2d(x, w, None, stride, padding, more, groups, dilation), arrays, expected)


@st.composite
def windows(draw):
    kernel, stride = draw(sizes(1, 4)), draw(sizes(1, 3))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    plane = tuple(draw(st.integers(max(k - 2 * p, 1), 7)) for k, p in zip(kernel, padding, strict=True))
    return (draw(st.integers(1, 2)), 1, *plane), {"kernel_size": kernel, "stride": stride, "padding": padding}


@some
@given(windows(), st.booleans(), st.booleans(), st.sampled_from([None, 3]))
def test_average_pooling(drawn, ceil_mode, count_include_pad, divisor):
    shape, window = drawn
    options = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad, "divisor_override": divisor}
    x = numbers(shape)
    pads = {**window, "padding": [(p, p) for p in window["padding"]]}
    agrees(lambda x: cr.avg_pool2d(x, **window, **options), [x], loops.avg_pool(x, **pads, **options))


@some
@given(windows(), st.booleans(), sizes(1, 2))
def test_maximum_pooling(drawn, ceil_mode, dilation):
    shape, window = drawn
    reach = [
        d * (k - 1) + 1 - 2 * p for k, d, p in zip(window["kernel_size"], dilation, window["padding"], strict=True)
    ]
    assume(all(r <= n for r, n in zip(reach, shape[2:], strict=True)))
    x = numbers(shape)
    pads = {**window, "padding": [(p, p) for p in window["padding"]], "dilation": dilation, "ceil_mode": ceil_mode}
    assume(
        all(
            places
            for _, places, _ in loops.windows(
                shape[2:], *(pads[k] for k in ("kernel_size", "stride", "padding")), dilation, ceil_mode
            )
        )
    )
    values, indices = loops.max_pool(x, **pads)
    got = cr.max_pool2d(cr.tensor(x), **window, dilation=dilation, ceil_mode=ceil_mode, return_indices=True)
    assert got[1].tolist() == indices.tolist()
    agrees(lambda x: cr.max_pool2d(x, **window, dilation=dilation, ceil_mode=ceil_mode), [x], values)


@some
@given(sizes(1, 7), sizes(1, 5))
def test_adaptive_pooling(plane, size):
    x = numbers((2, 1, *plane))
    agrees(lambda x: cr.adaptive_avg_pool2d(x, size), [x], loops.adaptive_avg(x, output_size=size))
    agrees(lambda x: cr.adaptive_max_pool2d(x, size), [x], loops.adaptive_max(x, output_size=size)[0])


# ---- indices ---------------------------------------------------------------------------------------------------------

SHAPE = (3, 4, 2)


@some
@given(hnp.basic_indices(SHAPE, allow_newaxis=True, allow_ellipsis=True))
def test_basic_indices(index):
    x = numbers(SHAPE)
    agrees(lambda x: x[index], [x], np.asarray(x[index]))


@some
@given(
    hnp.integer_array_indices(SHAPE, result_shape=hnp.array_shapes(min_dims=1, max_dims=2, max_side=3)),
    st.integers(1, 3),
)
def test_integer_array_indices(index, used):
    index = tuple(index[:used])
    x = numbers(SHAPE)
    agrees(lambda x: x[index], [x], x[index])
    agrees(lambda x: x[tuple(cr.tensor(i) for i in index)], [x], x[index])


@some
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=1, max_dims=3).map(lambda s: SHAPE[: len(s)])))
def test_masks(mask):
    x = numbers(SHAPE)
    agrees(lambda x: x[cr.tensor(mask)], [x], x[mask])


@some
@given(st.data())
def test_writes_by_index(data):
    index = data.draw(hnp.basic_indices(SHAPE))
    x = numbers(SHAPE)
    value = numbers(np.shape(x[index]))
    expected = x.copy()
    expected[index] = value
    agrees(lambda x, v: cr.with_item(x, index, v), [x, value], expected)


@some
@given(st.data())
def test_gather_and_scatter(data):
    dim = data.draw(st.integers(0, 2))
    shape = tuple(data.draw(st.integers(0, n if d != dim else 5)) for d, n in enumerate(SHAPE))
    index = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(-SHAPE[dim], SHAPE[dim] - 1)))
    x = numbers(SHAPE)
    trimmed = x[tuple(slice(None) if d == dim else slice(n) for d, n in enumerate(shape))]
    agrees(lambda x: cr.gather(x, dim, cr.tensor(index)), [x], np.take_along_axis(trimmed, index, dim))
    expected, source = x.copy(), numbers(shape)
    for place in np.ndindex(*shape):
        expected[(*place[:dim], index[place], *place[dim + 1 :])] += source[place]
    agrees(lambda x, s: cr.scatter_add(x, dim, cr.tensor(index), s), [x, source], expected)


# ---- shapes ----------------------------------------------------------------------------------------------------------


@some
@given(hnp.mutually_broadcastable_shapes(num_shapes=3, min_side=0, max_side=3, max_dims=3))
def test_broadcasting_of_three(shapes):
    arrays = [numbers(s) for s in shapes.input_shapes]
    agrees(lambda a, b, c: a * b + c, arrays, np.asarray(arrays[0] * arrays[1] + arrays[2]))


@some
@given(hnp.mutually_broadcastable_shapes(signature="(n,k),(k,m)->(n,m)", max_side=3, min_side=0, max_dims=2))
def test_matmul(shapes):
    x, y = (numbers(s) for s in shapes.input_shapes)
    agrees(cr.matmul, [x, y], matmul(x, y))


@some
@given(st.data())
def test_einsum(data):
    """Any labels, repeated within operands and between them, summed or kept."""
    extent = {c: data.draw(st.integers(0 if c == "d" else 1, 3)) for c in "abcd"}
    labels = [data.draw(st.text("abcd", max_size=3)) for _ in range(data.draw(st.integers(1, 3)))]
    present = sorted(set("".join(labels)))
    out = "".join(data.draw(st.permutations(present))[: data.draw(st.integers(0, len(present)))])
    arrays = [numbers(tuple(extent[c] for c in name)) for name in labels]
    equation = ",".join(labels) + "->" + out
    expected = empty_aware(equation, *arrays)
    expected = expected.reshape([extent[c] for c in out])
    agrees(lambda *xs: cr.einsum(equation, *xs), arrays, expected)


@some
@given(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3), st.data())
def test_movements(shape, data):
    x = numbers(shape)
    order = tuple(data.draw(st.permutations(range(len(shape)))))
    agrees(lambda x: cr.permute(x, order), [x], x.transpose(order))
    agrees(
        lambda x: cr.reshape(cr.permute(x, order), -1) if x.numel() else x,
        [x],
        x.transpose(order).reshape(-1) if x.size else x,
    )
    if shape:
        dim = data.draw(st.integers(-len(shape), len(shape) - 1))
        shift = data.draw(st.integers(-4, 4))
        agrees(lambda x: cr.roll(x, shift, dim), [x], np.roll(x, shift, dim))
        agrees(lambda x: cr.flip(x, dim), [x], np.flip(x, dim))
        agrees(lambda x: cr.cumsum(x, dim), [x], np.cumsum(x, dim))
        agrees(lambda x: cr.cat([x, x * 2], dim), [x], np.concatenate([x, x * 2], dim))
        agrees(lambda x: cr.stack([x, x * 2], dim), [x], np.stack([x, x * 2], dim))
        dims = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)) if all(shape) else {0}
        if all(shape):
            agrees(lambda x: x.sum(tuple(dims)), [x], x.sum(tuple(dims)))
            agrees(lambda x: x.amax(tuple(dims)), [x], x.max(tuple(dims)))
            agrees(lambda x: x.prod(tuple(dims)), [x], x.prod(tuple(dims)))
            agrees(lambda x: cr.logsumexp(x, tuple(dims)), [x], np.log(np.exp(x).sum(tuple(dims))))
