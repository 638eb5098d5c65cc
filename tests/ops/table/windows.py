"""Rows of convolution and pooling, against the plain loops."""

import chainrule as cr

from .. import loops
from .row import Sample, distinct, normal, of_primitive, product, public


def pair(value):
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def geometry(stride=1, padding=0, dilation=1, groups=1):
    """The metadata of the convolution primitives, padding by ((top, bottom), (left, right))."""
    pads = (
        padding
        if isinstance(padding[0] if isinstance(padding, tuple) else 0, tuple)
        else tuple((p, p) for p in pair(padding))
    )
    return {"stride": pair(stride), "padding": pads, "dilation": pair(dilation), "groups": groups}


#: (input, weight, geometry); a stride that leaves a rest, kernels of even size, uneven borders, groups, depth-wise
CONVOLUTIONS = [
    ((2, 1, 4, 4), (2, 1, 3, 3), geometry()),
    ((1, 2, 5, 4), (2, 2, 2, 3), geometry(stride=2, padding=1)),
    ((1, 2, 6, 5), (2, 2, 2, 2), geometry(stride=(3, 2), padding=(0, 1), dilation=(2, 1))),
    ((1, 1, 4, 5), (1, 1, 2, 4), geometry(padding=((0, 1), (1, 2)))),
    ((2, 4, 3, 3), (4, 2, 2, 2), geometry(groups=2)),
    ((1, 3, 4, 4), (3, 1, 3, 3), geometry(padding=1, groups=3)),
    ((1, 2, 4, 4), (4, 1, 2, 2), geometry(stride=2, groups=2)),
    ((2, 2, 3, 3), (3, 2, 1, 1), geometry()),
    ((1, 1, 5, 5), (1, 1, 5, 5), geometry()),
    ((1, 1, 1, 7), (2, 1, 1, 3), geometry(stride=(1, 2), padding=(0, 2), dilation=(1, 2))),
    ((0, 2, 3, 3), (2, 2, 2, 2), geometry()),
    ((1, 1, 6, 6), (1, 1, 2, 2), geometry(stride=4)),
]


def sizes(x, w, g):
    return loops.conv_size(x[2:], w[2:], g["stride"], g["padding"], g["dilation"])


def forwards(rng):
    for x, w, g in CONVOLUTIONS:
        yield Sample((normal(rng, *x), normal(rng, *w), normal(rng, w[0])), g)
        yield Sample((normal(rng, *x), normal(rng, *w), None), g)


def input_adjoints(rng):
    for x, w, g in CONVOLUTIONS:
        yield Sample((normal(rng, x[0], w[0], *sizes(x, w, g)), normal(rng, *w)), {"input_size": x[2:], **g})


def weight_adjoints(rng):
    for x, w, g in CONVOLUTIONS:
        yield Sample((normal(rng, x[0], w[0], *sizes(x, w, g)), normal(rng, *x)), {"kernel_size": w[2:], **g})


def padded(padding, kernel, dilation):
    if padding == "valid":
        return tuple((0, 0) for _ in kernel)
    if padding == "same":  # what is left over goes behind, as in PyTorch
        return tuple((d * (k - 1) // 2, d * (k - 1) - d * (k - 1) // 2) for k, d in zip(kernel, dilation, strict=True))
    padding = padding if isinstance(padding, tuple) else (padding,) * len(kernel)
    return tuple(p if isinstance(p, tuple) else (p, p) for p in padding)


def full(value, axes):
    return value if isinstance(value, tuple) else (value,) * axes


def conv(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    """The public form, for one or two axes, with or without a batch."""
    axes = w.ndim - 2
    if x.ndim == w.ndim - 1:
        return conv(x[None], w, b, stride, padding, dilation, groups)[0]
    dilation = full(dilation, axes)
    pads = padded(padding, w.shape[2:], dilation)
    return loops.conv(x, w, b, stride=full(stride, axes), padding=pads, dilation=dilation, groups=groups)


def conv_transpose(x, w, b=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    axes = w.ndim - 2
    if x.ndim == w.ndim - 1:
        return conv_transpose(x[None], w, b, stride, padding, output_padding, groups, dilation)[0]
    stride, padding, more, dilation = (full(v, axes) for v in (stride, padding, output_padding, dilation))
    size = [
        (n - 1) * s - 2 * p + d * (k - 1) + m + 1
        for n, s, p, d, k, m in zip(x.shape[2:], stride, padding, dilation, w.shape[2:], more, strict=True)
    ]
    pads = tuple((p, p) for p in padding)
    out = loops.conv_input(x, w, input_size=size, stride=stride, padding=pads, dilation=dilation, groups=groups)
    return out if b is None else out + b.reshape(-1, *[1] * axes)


def layers(*given, transposed=False):
    """Samples with and without bias."""

    def make(rng):
        for x, w, params in given:
            channels = w[1] * params.get("groups", 1) if transposed else w[0]
            yield Sample((normal(rng, *x), normal(rng, *w), normal(rng, channels)), params)
            yield Sample((normal(rng, *x), normal(rng, *w), None), params)

    return make


CONV2D = layers(
    ((1, 2, 4, 5), (2, 2, 3, 2), {}),
    ((2, 4, 4), (2, 1, 3, 2), {"padding": "same", "groups": 2}),
    ((1, 1, 5, 4), (1, 1, 4, 2), {"padding": "same", "dilation": 2}),
    ((1, 1, 5, 4), (1, 1, 2, 2), {"padding": "valid", "stride": 2}),
    ((1, 1, 5, 4), (1, 1, 2, 3), {"padding": (1, 2), "stride": (2, 1), "dilation": (1, 2)}),
    ((1, 1, 3, 3), (1, 1, 2, 2), {"padding": ((1, 0), (0, 2))}),
    ((1, 2, 4, 4), (4, 1, 3, 3), {"padding": 1, "groups": 2}),
)
CONV1D = layers(
    ((2, 2, 6), (3, 2, 3), {}),
    ((2, 6), (3, 2, 2), {"stride": 2, "padding": 1}),
    ((1, 2, 7), (2, 1, 3), {"padding": "same", "groups": 2, "dilation": 2}),
    ((1, 1, 6), (1, 1, 4), {"padding": "same"}),
    ((1, 1, 6), (1, 1, 2), {"padding": "valid", "stride": (3,)}),
)
TRANSPOSED2D = layers(
    ((1, 2, 3, 2), (2, 3, 2, 3), {}),
    ((1, 2, 3, 2), (2, 1, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    ((2, 3, 3), (2, 1, 2, 2), {"groups": 2, "dilation": 2}),
    ((1, 1, 2, 2), (1, 1, 2, 3), {"padding": (1, 2), "dilation": 3, "output_padding": (2, 1)}),
    ((1, 1, 2, 3), (1, 2, 2, 2), {"stride": (3, 1), "padding": (0, 1), "output_padding": (2, 0)}),
    transposed=True,
)
TRANSPOSED1D = layers(
    ((2, 2, 4), (2, 3, 3), {}),
    ((2, 4), (2, 1, 3), {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}),
    ((1, 1, 3), (1, 1, 2), {"dilation": 3}),
    transposed=True,
)

# ---- the largest of a convolution ------------------------------------------------------------------------------------

#: (input, weight)
FILTERS = [((2, 3, 6), (4, 3, 3)), ((1, 1, 4), (2, 1, 4)), ((3, 2, 5), (1, 2, 1)), ((0, 2, 4), (3, 2, 2))]


def peaks(rng):
    for x, w in FILTERS:
        yield Sample((normal(rng, *x), normal(rng, *w), normal(rng, w[0])))
        yield Sample((normal(rng, *x), normal(rng, *w), None))


def placed(rng):
    """Sizes, and places (N, O) of windows, several of them the same."""
    for x, w in FILTERS:
        yield x, w, rng.integers(0, x[2] - w[2] + 1, (x[0], w[0]))


def window_products(rng):
    for x, w, places in placed(rng):
        yield Sample((normal(rng, *x), normal(rng, *w), places))


def window_inputs(rng):
    for x, w, places in placed(rng):
        yield Sample((normal(rng, *places.shape), normal(rng, *w), places), {"length": x[2]})


def window_weights(rng):
    for x, w, places in placed(rng):
        yield Sample((normal(rng, *places.shape), normal(rng, *x), places), {"width": w[2]})


# ---- pooling ---------------------------------------------------------------------------------------------------------


def window(kernel, stride=None, padding=0):
    padding = tuple((p, p) for p in pair(padding))
    return {"kernel_size": pair(kernel), "stride": pair(kernel if stride is None else stride), "padding": padding}


PLANES = [
    ((2, 2, 4, 4), window(2)),
    ((1, 2, 5, 6), window((3, 2), (2, 3), 1)),
    ((1, 1, 5, 5), window(3, 2)),
    ((1, 1, 4, 3), window((2, 3), 1, (1, 0))),
]


def max_windows(rng):
    for shape, given in PLANES:
        for ceil_mode in (False, True):
            yield Sample((distinct(rng, *shape),), {**given, "dilation": (1, 1), "ceil_mode": ceil_mode})
    yield Sample((distinct(rng, 1, 1, 6, 5),), {**window(2, 1, 1), "dilation": (2, 3), "ceil_mode": False})
    yield Sample((distinct(rng, 0, 2, 4, 4),), {**window(2), "dilation": (1, 1), "ceil_mode": False})


AVERAGES = product(ceil_mode=[False, True], count_include_pad=[False, True], divisor_override=[None, 3])


def avg_windows(rng):
    for given in AVERAGES:
        for shape, shared in PLANES:
            yield Sample((normal(rng, *shape),), {**shared, **given})
    yield Sample((normal(rng, 0, 1, 4, 4),), {**window(2), **AVERAGES[0]})


def avg_spreads(rng):
    for sample in avg_windows(rng):
        (x,), given = sample.inputs, sample.params
        plane, (kernel, stride, padding) = x.shape[2:], (given[k] for k in ("kernel_size", "stride", "padding"))
        size = [
            loops.pool_size(n, k, s, p, 1, given["ceil_mode"])
            for n, k, s, p in zip(plane, kernel, stride, padding, strict=True)
        ]
        yield Sample((normal(rng, *x.shape[:2], *size),), {"input_size": plane, **given})


ADAPTIVE = [
    ((2, 1, 4, 4), (2, 2)),
    ((1, 2, 5, 7), (3, 2)),
    ((1, 1, 3, 2), (5, 4)),
    ((1, 1, 4, 3), (1, 1)),
    ((0, 1, 4, 4), (2, 2)),
]


def adaptive(rng):
    for shape, size in ADAPTIVE:
        yield Sample((distinct(rng, *shape),), {"output_size": size})


def adaptive_spreads(rng):
    for shape, size in ADAPTIVE:
        yield Sample((normal(rng, *shape[:2], *size),), {"input_size": shape[2:]})


def planes(rng):
    for shape, size in [((2, 1, 3, 4), (2, 2)), ((1, 2, 2, 2), (3, 3)), ((0, 1, 2, 2), (1, 1))]:
        yield Sample((normal(rng, *shape), rng.integers(0, shape[2] * shape[3], (*shape[:2], *size))))


def spread_planes(rng):
    for sample in planes(rng):
        x, indices = sample.inputs
        yield Sample((normal(rng, *indices.shape), indices), {"plane": x.shape[2:]})


def flat(function, axes):
    """The public form of a pool, for one or two axes, with or without a batch, from the loop over planes."""

    def oracle(x, **given):
        batch = x if x.ndim == axes + 2 else x[None]
        tall = batch if axes == 2 else batch[:, :, None]
        found = function(tall, **{k: v if k in SHARED else spread(v, axes, k) for k, v in given.items()})
        results = [r if axes == 2 else r[:, :, 0] for r in (found if isinstance(found, tuple) else (found,))]
        results = [r if x.ndim == axes + 2 else r[0] for r in results]
        return results if len(results) > 1 else results[0]

    return oracle


SHARED = {"ceil_mode", "count_include_pad", "divisor_override", "return_indices"}


def spread(value, axes, key):
    """A size given for one axis as that of a plane of height 1."""
    value = value if isinstance(value, tuple) else (value,) * axes
    return value if axes == 2 else ((0 if key == "padding" else 1), *value)


def max_oracle(x, *, kernel_size, stride=None, padding=(0, 0), dilation=(1, 1), ceil_mode=False, return_indices=False):
    found = loops.max_pool(
        x,
        kernel_size=kernel_size,
        stride=stride or kernel_size,
        padding=[(p, p) for p in padding],
        dilation=dilation,
        ceil_mode=ceil_mode,
    )
    return found if return_indices else found[0]


def avg_oracle(
    x, *, kernel_size, stride=None, padding=(0, 0), ceil_mode=False, count_include_pad=True, divisor_override=None
):
    return loops.avg_pool(
        x,
        kernel_size=kernel_size,
        stride=stride or kernel_size,
        padding=[(p, p) for p in padding],
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
    )


def adaptive_max_oracle(x, *, output_size, return_indices=False):
    found = loops.adaptive_max(x, output_size=sized(output_size, x))
    return found if return_indices else found[0]


def sized(output_size, x):
    return tuple(n if o is None else o for o, n in zip(output_size, x.shape[2:], strict=True))


def pooled(*given):
    return lambda rng: [Sample((distinct(rng, *shape),), params) for shape, params in given]


MAX2D = pooled(
    ((1, 2, 4, 4), {"kernel_size": 2}),
    ((2, 5, 6), {"kernel_size": (3, 2), "stride": (2, 1), "padding": 1}),
    ((1, 1, 5, 5), {"kernel_size": 2, "ceil_mode": True, "return_indices": True}),
    ((1, 1, 6, 6), {"kernel_size": 2, "dilation": (2, 3), "stride": 1}),
)
MAX1D = pooled(
    ((1, 2, 6), {"kernel_size": 2}),
    ((2, 7), {"kernel_size": 3, "stride": 2, "padding": 1, "return_indices": True}),
    ((1, 1, 8), {"kernel_size": 2, "dilation": 3, "ceil_mode": True, "stride": 2}),
)
AVG2D = pooled(
    ((1, 2, 4, 4), {"kernel_size": 2}),
    ((2, 5, 6), {"kernel_size": (3, 2), "stride": (2, 1), "padding": 1}),
    ((1, 1, 5, 5), {"kernel_size": 2, "ceil_mode": True, "divisor_override": 7}),
    ((1, 1, 5, 5), {"kernel_size": 3, "ceil_mode": True, "padding": 1, "count_include_pad": False}),
)
AVG1D = pooled(
    ((1, 2, 6), {"kernel_size": 2}),
    ((2, 7), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ((1, 1, 6), {"kernel_size": 4, "ceil_mode": True, "padding": 2, "count_include_pad": False, "stride": 3}),
)
ADAPT2D = pooled(
    ((1, 2, 4, 5), {"output_size": 2}), ((2, 5, 3), {"output_size": (3, 2)}), ((1, 1, 4, 5), {"output_size": (None, 2)})
)
ADAPT1D = pooled(((1, 2, 6), {"output_size": 4}), ((2, 5), {"output_size": 2}))

ROWS = [
    of_primitive("conv2d_pairs", loops.conv, forwards),
    of_primitive("conv2d_input", loops.conv_input, input_adjoints),
    of_primitive("conv2d_weight", loops.conv_weight, weight_adjoints),
    public("conv2d", conv, CONV2D),
    public("conv1d", conv, CONV1D),
    public("conv_transpose2d", conv_transpose, TRANSPOSED2D),
    public("conv_transpose1d", conv_transpose, TRANSPOSED1D),
    of_primitive("conv1d_peaks", loops.conv1d_max, peaks),
    of_primitive("windows_product", loops.windows_product, window_products),
    of_primitive("windows_input", loops.windows_input, window_inputs),
    of_primitive("windows_weight", loops.windows_weight, window_weights),
    public("conv1d_max", lambda *arrays: loops.conv1d_max(*arrays)[0], peaks),
    of_primitive("max_pool_windows", loops.max_pool, max_windows),
    of_primitive("avg_pool_windows", loops.avg_pool, avg_windows),
    of_primitive("avg_pool_spread", loops.avg_spread, avg_spreads),
    of_primitive("adaptive_max_regions", loops.adaptive_max, adaptive),
    of_primitive("adaptive_avg_regions", loops.adaptive_avg, adaptive),
    of_primitive("adaptive_avg_spread", loops.adaptive_spread, adaptive_spreads),
    of_primitive("gather_planes", loops.gather_planes, planes),
    of_primitive("scatter_planes", loops.scatter_planes, spread_planes),
    public("max_pool2d", flat(max_oracle, 2), MAX2D),
    public("max_pool1d", flat(max_oracle, 1), MAX1D),
    public("avg_pool2d", flat(avg_oracle, 2), AVG2D),
    public("avg_pool1d", flat(avg_oracle, 1), AVG1D),
    public(
        "adaptive_avg_pool2d",
        flat(lambda x, output_size: loops.adaptive_avg(x, output_size=sized(output_size, x)), 2),
        ADAPT2D,
    ),
    public(
        "adaptive_avg_pool1d", flat(lambda x, output_size: loops.adaptive_avg(x, output_size=output_size), 1), ADAPT1D
    ),
    public("adaptive_max_pool2d", flat(adaptive_max_oracle, 2), ADAPT2D),
    public("adaptive_max_pool1d", flat(adaptive_max_oracle, 1), ADAPT1D),
    public(
        "adaptive_max_pool2d",
        flat(lambda x, output_size: loops.adaptive_max(x, output_size=output_size), 2),
        pooled(((1, 2, 4, 5), {"output_size": (2, 3)})),
        label="indices",
        function=lambda x, output_size: cr.adaptive_max_pool2d(x, output_size, return_indices=True),
    ),
]
