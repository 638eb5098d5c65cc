"""Rows of operations that move elements. The oracle is NumPy's function of the textbook name, or an index formula."""

import numpy as np

import chainrule as cr

from .row import of_primitive, public, samples


def several(function):
    """A function of a list as a function of its items."""
    return lambda *xs, **given: function(list(xs), **given)


def cut(x, starts, dim):
    """x split before the indices `starts`."""
    return np.split(x, starts, axis=dim)


def split(x, size, dim=0):
    n = x.shape[dim]
    starts = np.cumsum(size)[:-1] if isinstance(size, (list, tuple)) else range(size, n, size)
    return cut(x, list(starts), dim)


def chunk(x, chunks, dim=0):
    return split(x, max(-(-x.shape[dim] // chunks), 1), dim)


def placed(x, pad, mode="constant", value=0.0):
    """Each element of the padded array looked up at the place that it copies."""
    pairs = [(0, 0)] * (x.ndim - len(pad) // 2) + [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    out = np.empty([n + b + a for n, (b, a) in zip(x.shape, pairs, strict=True)], x.dtype)
    for place in np.ndindex(*out.shape):
        source = [source_of(p - b, n, mode) for p, (b, _), n in zip(place, pairs, x.shape, strict=True)]
        out[place] = value if None in source else x[tuple(source)]
    return out


def source_of(i, n, mode):
    if mode == "constant":
        return i if 0 <= i < n else None
    if mode == "replicate":
        return min(max(i, 0), n - 1)
    if mode == "circular":
        return i % n
    return -i if i < 0 else 2 * (n - 1) - i if i >= n else i


def adjoint_of_broadcast(x, shape):
    out = np.zeros(shape)
    lead = x.ndim - len(shape)
    for place in np.ndindex(*x.shape):
        out[tuple(0 if n == 1 else p for p, n in zip(place[lead:], shape, strict=True))] += x[place]
    return out


def joined(xs, dim):
    out = np.empty([sum(x.shape[dim] for x in xs) if d == dim else n for d, n in enumerate(xs[0].shape)])
    start = 0
    for x in xs:
        out[(slice(None),) * dim + (slice(start, start + x.shape[dim]),)] = x
        start += x.shape[dim]
    return out


X, Y, POINT, EMPTY = (2, 3, 2), (4,), (), (0, 3)
WIDTHS = [(1, 2), (0, 1), (1, 0, 2, 1), (1, 1, 0, 2, 1, 0)]
BORDERS = [(1, 2), (2, 1, 1, 0), (0, 0, 1, 1)]

ROWS = [
    of_primitive(
        "sum_to",
        lambda x, shape: adjoint_of_broadcast(x, shape),
        samples(
            *[((X,), {"shape": s}) for s in [(3, 2), (2,), (1, 3, 1), (2, 1, 2), (1,), (), X]],
            (((4, 0, 3),), {"shape": (1, 3)}),
            (((0, 3),), {"shape": (3,)}),
            (((),), {"shape": ()}),
        ),
    ),
    of_primitive(
        "broadcast_view",
        lambda x, shape: np.ones(shape) * x,
        samples(
            (((0, 1),), {"shape": (0, 3)}),
            (((3, 1),), {"shape": (2, 3, 2)}),
            (((),), {"shape": (2, 2)}),
            (((1, 2),), {"shape": (0, 2)}),
            (((2,),), {"shape": (2,)}),
        ),
    ),
    of_primitive(
        "reshape_view",
        lambda x, shape: np.array(x.ravel().tolist()).reshape(shape),
        samples(
            ((X,), {"shape": (3, 4)}),
            ((POINT,), {"shape": (1, 1)}),
            ((EMPTY,), {"shape": (3, 0)}),
            (((1,),), {"shape": ()}),
        ),
    ),
    of_primitive(
        "permute_view",
        lambda x, dims: np.einsum(x, list(range(x.ndim)), list(dims)),
        samples(
            ((X,), {"dims": (2, 0, 1)}),
            ((X,), {"dims": (1, 2, 0)}),
            ((POINT,), {"dims": ()}),
            ((EMPTY,), {"dims": (1, 0)}),
        ),
    ),
    of_primitive(
        "flip_view",
        lambda x, dims: x[tuple(slice(None, None, -1) if d in dims else slice(None) for d in range(x.ndim))],
        samples(
            ((X,), {"dims": (0, 2)}), ((X,), {"dims": (1,)}), ((POINT,), {"dims": ()}), ((EMPTY,), {"dims": (0, 1)})
        ),
    ),
    of_primitive(
        "concatenate",
        lambda *xs, dim: joined(xs, dim),
        samples(
            (((2, 3), (1, 3), (2, 3)), {"dim": 0}),
            (((2, 3), (2, 1)), {"dim": 1}),
            (((0, 2), (2, 2)), {"dim": 0}),
            (((2,),), {"dim": 0}),
        ),
    ),
    of_primitive(
        "split_view",
        lambda x, sections, dim: cut(x, np.cumsum(sections)[:-1], dim),
        samples(
            (((5, 2),), {"sections": (2, 0, 3), "dim": 0}),
            (((2, 3, 2),), {"sections": (1, 2), "dim": 1}),
            (((0, 3),), {"sections": (0, 0), "dim": 0}),
            (((2, 2),), {"sections": (2,), "dim": 1}),
        ),
    ),
    of_primitive(
        "stack_along",
        lambda *xs, dim: np.moveaxis(np.array(xs), 0, dim),
        samples(
            (((2, 3), (2, 3), (2, 3)), {"dim": 1}),
            (((2, 3), (2, 3)), {"dim": 2}),
            (((), ()), {"dim": 0}),
            (((0,), (0,)), {"dim": 0}),
        ),
    ),
    of_primitive(
        "unbind_view",
        lambda x, dim: [np.take(x, i, dim) for i in range(x.shape[dim])],
        samples(((X,), {"dim": 1}), ((X,), {"dim": 2}), ((Y,), {"dim": 0}), (((2, 0),), {"dim": 0})),
    ),
    of_primitive(
        "pad_constant",
        lambda x, widths, value: placed(x, [w for pair in reversed(widths) for w in pair], value=value),
        samples(
            (((2, 3),), {"widths": ((1, 0), (0, 2)), "value": -1.5}),
            ((POINT,), {"widths": (), "value": 0.0}),
            ((EMPTY,), {"widths": ((1, 1), (0, 1)), "value": 2.0}),
        ),
    ),
    public(
        "broadcast_to",
        lambda x, shape: np.ones(shape) * x,
        samples((((3, 1),), {"shape": (2, 3, 2)}), ((POINT,), {"shape": (0,)})),
    ),
    public(
        "expand",
        lambda x, sizes: np.ones(sizes) * x,
        samples((((3, 1),), {"sizes": (2, 3, 2)}), ((POINT,), {"sizes": (2, 2)})),
        function=lambda x, sizes: cr.expand(x, *sizes),
    ),
    public(
        "expand",
        lambda x: np.ones((2, 3, 2)) * x,
        samples((((3, 1),), {})),
        label="-1",
        function=lambda x: cr.expand(x, 2, -1, 2),
    ),
    public("broadcast_tensors", lambda *xs: np.broadcast_arrays(*xs), samples((((2, 1), (3,), ()), {}))),
    public(
        "reshape",
        lambda x, shape: np.reshape(x, shape),
        samples(
            *[((X,), {"shape": s}) for s in [(3, 4), (-1,), (2, -1)]],
            ((POINT,), {"shape": (1,)}),
            ((EMPTY,), {"shape": (0, 7)}),
        ),
        function=lambda x, shape: cr.reshape(x, shape),
    ),
    public(
        "flatten",
        lambda x, **d: np.reshape(x, {(): (12,), (1,): (2, 6), (0, 1): (6, 2)}[tuple(d.values())]),
        samples(((X,), {}), ((X,), {"start_dim": 1}), ((X,), {"start_dim": 0, "end_dim": 1})),
    ),
    public(
        "unflatten", lambda x, dim, sizes: x.reshape(2, 3, 2, 2), samples((((2, 6, 2),), {"dim": 1, "sizes": (3, 2)}))
    ),
    public(
        "permute",
        lambda x, dims: np.transpose(x, dims),
        samples(((X,), {"dims": (2, 0, 1)}), ((X,), {"dims": (-1, 0, 1)}), ((POINT,), {"dims": ()})),
        function=lambda x, dims: cr.permute(x, *dims) if dims else cr.permute(x, ()),
    ),
    public(
        "transpose",
        lambda x, dim0, dim1: np.swapaxes(x, dim0, dim1),
        samples(((X,), {"dim0": 0, "dim1": 2}), ((X,), {"dim0": -1, "dim1": 1})),
    ),
    public("transpose", lambda x: x.T, samples(((X,), {}), ((POINT,), {})), label="all"),
    public("swapaxes", lambda x, dim0, dim1: np.swapaxes(x, dim0, dim1), samples(((X,), {"dim0": 0, "dim1": 1}))),
    public(
        "movedim",
        np.moveaxis,
        samples(((X,), {"source": 0, "destination": -1}), ((X,), {"source": (0, 1), "destination": (2, 0)})),
    ),
    public("moveaxis", np.moveaxis, samples(((X,), {"source": 2, "destination": 0}))),
    public("t", np.transpose, samples((((2, 3),), {}), ((Y,), {}), ((POINT,), {}))),
    public(
        "squeeze",
        lambda x, **d: np.squeeze(x, d.get("dim") if d.get("dim") != 1 else None),
        samples(
            (((1, 3, 1),), {}),
            (((1, 3, 1),), {"dim": 0}),
            (((1, 3, 1),), {"dim": (0, 2)}),
            (((1, 1),), {"dim": ()}),
            (((2, 3),), {"dim": 1}),
            ((POINT,), {}),
        ),
    ),
    public(
        "unsqueeze",
        lambda x, dim: np.expand_dims(x, dim),
        samples(*[(((2, 3),), {"dim": d}) for d in (0, 1, -1)], ((POINT,), {"dim": 0}), ((EMPTY,), {"dim": 2})),
    ),
    public("expand_dims", lambda x, axis: np.expand_dims(x, axis), samples((((2, 3),), {"axis": 1}))),
    public(
        "cat",
        lambda *xs, dim=0: np.concatenate(xs, dim),
        samples((((2, 3), (1, 3)), {}), (((2, 3), (2, 1), (2, 2)), {"dim": -1}), (((0, 3), (2, 3)), {}), (((2,),), {})),
        function=several(cr.cat),
    ),
    public(
        "stack",
        lambda *xs, dim=0: np.stack(xs, dim),
        samples(*[(((2, 3), (2, 3)), {"dim": d}) for d in (0, 1, 2, -1)], (((), (), ()), {}), (((0,), (0,)), {})),
        function=several(cr.stack),
    ),
    public(
        "split",
        split,
        samples(
            (((5, 2),), {"size": 2}), (((2, 5),), {"size": [1, 0, 4], "dim": 1}), (((2, 4),), {"size": 4, "dim": -1})
        ),
        function=lambda x, size, dim=0: cr.split(x, size, dim),
    ),
    public(
        "chunk",
        chunk,
        samples((((5, 2),), {"chunks": 3}), (((2, 5),), {"chunks": 2, "dim": 1}), (((2, 2),), {"chunks": 5})),
    ),
    public(
        "unbind",
        lambda x, dim=0: [np.take(x, i, dim) for i in range(x.shape[dim])],
        samples(((X,), {}), ((X,), {"dim": 1}), ((X,), {"dim": -1})),
    ),
    public(
        "narrow",
        lambda x, dim, start, length: np.take(x, range(start, start + length), dim),
        samples(((X,), {"dim": 1, "start": 1, "length": 2}), ((X,), {"dim": 0, "start": 1, "length": 0})),
    ),
    public(
        "flip",
        lambda x, dims: np.flip(x, dims),
        samples(((X,), {"dims": (0, -1)}), ((X,), {"dims": (1,)}), ((EMPTY,), {"dims": (0,)})),
        function=lambda x, dims: cr.flip(x, dims),
    ),
    public(
        "roll",
        lambda x, shifts, dims=None: np.roll(x, shifts, dims),
        samples(
            ((X,), {"shifts": 1}),
            ((X,), {"shifts": (1, -2), "dims": (0, 1)}),
            ((X,), {"shifts": 5, "dims": 2}),
            ((EMPTY,), {"shifts": 2, "dims": 0}),
        ),
    ),
    public(
        "repeat",
        lambda x, repeats: np.tile(x, repeats),
        samples(
            (((2, 3),), {"repeats": (2, 2)}),
            (((2, 3),), {"repeats": (2, 1, 3)}),
            (((2,),), {"repeats": (0,)}),
            ((POINT,), {"repeats": (3,)}),
        ),
        function=lambda x, repeats: x.repeat(*repeats),
    ),
    public(
        "tile",
        lambda x, dims: np.tile(x, dims),
        samples((((2, 3),), {"dims": (2,)}), (((2,),), {"dims": (2, 3)})),
        function=lambda x, dims: cr.tile(x, *dims),
    ),
    public(
        "repeat_interleave",
        lambda x, repeats, dim=None: np.repeat(x, repeats, dim),
        samples(
            (((2, 3),), {"repeats": 2}),
            (((2, 3),), {"repeats": 3, "dim": 0}),
            (((2, 3),), {"repeats": 2, "dim": -1}),
            (((2,),), {"repeats": 0}),
            (((2, 3),), {"repeats": [2, 0, 1], "dim": 1}),
            (((2, 2),), {"repeats": np.array([1, 2, 0, 3])}),
        ),
    ),
    public(
        "pad",
        placed,
        samples(
            *[((X,), {"pad": w, "value": 0.5}) for w in WIDTHS],
            ((Y,), {"pad": (-1, 2)}),
            (((2, 4),), {"pad": (-1, -1, 1, 0)}),
            ((EMPTY,), {"pad": (1, 1, 1, 1)}),
        ),
        label="constant",
    ),
    *[
        public(
            "pad",
            placed,
            samples(
                *[(((1, 3, 4),), {"pad": w, "mode": mode}) for w in BORDERS], ((Y,), {"pad": (2, 1), "mode": mode})
            ),
            label=mode,
        )
        for mode in ("reflect", "replicate", "circular")
    ],
    public(
        "sum_to", lambda x, shape: adjoint_of_broadcast(x, shape), samples(((X,), {"shape": (1, 2)})), label="public"
    ),
]
