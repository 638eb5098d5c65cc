"""Rows of reading and writing by index. The oracle is a plain loop over the places read or written."""

import numpy as np

import chainrule as cr

from .row import Sample, distinct, of_primitive, public


def places(index, shape):
    """For each element that x[index] reads, its place in x; in the result's shape."""
    flat = np.arange(int(np.prod(shape))).reshape(shape)[index]
    return [np.unravel_index(i, shape) for i in np.ravel(flat)], np.shape(flat)


def read(x, index):
    where, shape = places(index, x.shape)
    return np.array([x[place] for place in where], x.dtype).reshape(shape)


def added(g, index, shape):
    out = np.zeros(shape)
    for place, value in zip(places(index, shape)[0], np.ravel(g), strict=True):
        out[place] += value
    return out


def written(x, value, index):
    where, shape = places(index, x.shape)
    out = x.copy()
    for place, v in zip(where, np.broadcast_to(value, shape).ravel(), strict=True):
        out[place] = v
    return out


INTS, MASK, PAIR = (
    np.array([2, 0, 2]),
    np.array([[True, False, True], [False, False, True], [True] * 3]),
    np.array([[0, 2], [1, 1]]),
)
BASIC = [
    (1,),
    (-1,),
    (slice(None), 0),
    (slice(None, None, 2),),
    (slice(None, None, -1), slice(0, 1)),
    (slice(1, 1),),
    (Ellipsis, 1),
    (None, slice(1, None), Ellipsis, None),
    (1, 2, 0),
    (),
    (0, slice(2, None, -2)),
]
ADVANCED = [
    (INTS,),
    (np.array([-1, -3]),),
    (slice(None), INTS),
    (INTS, INTS),
    (INTS, slice(None), np.array([0, 1, 0])),
    (slice(None), INTS, None),
    (PAIR,),
    (PAIR, 1),
    (PAIR, INTS[:2]),
    (Ellipsis, np.array([1, 1, 0])),
    (MASK,),
    (np.array([True, False, True]),),
    (np.array([True, False, True]), slice(None), 1),
    (np.array([], np.int64),),
    (np.zeros((3, 3), bool),),
    (1, INTS, None, Ellipsis),
    (True,),
]
SHAPE = (3, 3, 2)


def reading(indices):
    def make(rng):
        for index in indices:
            yield Sample((distinct(rng, *SHAPE),), {"index": index})

    return make


def adding(rng):
    for index in BASIC + ADVANCED:
        yield Sample((distinct(rng, *places(index, SHAPE)[1]),), {"index": index, "shape": SHAPE})
    yield Sample((distinct(rng, 0, 2),), {"index": (np.array([], np.int64),), "shape": (3, 2)})


def writing(rng):
    for index in BASIC + [i for i in ADVANCED if not repeats(i)]:
        shape = places(index, SHAPE)[1]
        yield Sample((distinct(rng, *SHAPE), distinct(rng, *shape)), {"index": index})
        yield Sample((distinct(rng, *SHAPE), distinct(rng, *shape[1:])), {"index": index})
        yield Sample((distinct(rng, *SHAPE), distinct(rng)), {"index": index})


def repeats(index):
    where = places(index, SHAPE)[0]
    return len(set(where)) < len(where)


# ---- along one dimension ---------------------------------------------------------------------------------------------


def gather(x, index, dim):
    out = np.empty(index.shape, x.dtype)
    for place in np.ndindex(*index.shape):
        out[place] = x[(*place[:dim], index[place], *place[dim + 1 :])]
    return out


def scatter(g, index, dim, shape=None, onto=None, add=True):
    out = np.zeros(shape) if onto is None else onto.copy()
    for place in np.ndindex(*index.shape):
        target = (*place[:dim], index[place], *place[dim + 1 :])
        value = g[place] if np.ndim(g) else g
        out[target] = out[target] + value if add else value
    return out


def slices(x, index, dim):
    return np.stack([np.take(x, i, dim) for i in index], dim) if len(index) else np.take(x, [], dim)


def add_slices(g, index, dim, size):
    out = np.zeros((*g.shape[:dim], size, *g.shape[dim + 1 :]))
    for k, i in enumerate(index):
        out[(slice(None),) * dim + (i,)] += g[(slice(None),) * dim + (k,)]
    return out


def index_add(x, source, dim, index, alpha=1):
    return x + alpha * add_slices(source, index, dim, x.shape[dim])


def slicing(rng):
    for dim, size in [(0, 3), (1, 3), (2, 2)]:
        for index in (rng.integers(0, size, 4), np.array([size - 1]), np.array([], np.int64)):
            yield Sample((distinct(rng, *SHAPE), index), {"dim": dim})
    yield Sample((distinct(rng, 4), np.array([3, 3, 0])), {"dim": 0})


def slice_adding(rng):
    for dim, size in [(0, 3), (1, 3), (2, 2)]:
        for count in (4, 1, 0):
            shape = [count if d == dim else n for d, n in enumerate(SHAPE)]
            yield Sample((distinct(rng, *shape), rng.integers(0, size, count)), {"dim": dim, "size": size})


def indexed(rng, dim, shape, wanted):
    return rng.integers(0, shape[dim], wanted)


ALONG = [
    (0, (3, 4), (5, 4)),
    (1, (3, 4), (3, 2)),
    (1, (3, 4), (2, 6)),
    (0, (3,), (4,)),
    (0, (3, 2), (0, 2)),
    (2, SHAPE, (2, 3, 4)),
]


def gathering(rng):
    for dim, shape, wanted in ALONG:
        yield Sample((distinct(rng, *shape), indexed(rng, dim, shape, wanted)), {"dim": dim})


def scattering(rng):
    for dim, shape, wanted in ALONG:
        yield Sample((distinct(rng, *wanted), indexed(rng, dim, shape, wanted)), {"dim": dim, "shape": shape})


def scatter_adding(rng):
    for dim, shape, wanted in ALONG:
        larger = tuple(n + 1 for n in wanted)
        for source in (wanted, larger):
            yield Sample(
                (distinct(rng, *shape), distinct(rng, *source)), {"dim": dim, "index": indexed(rng, dim, shape, wanted)}
            )


def once(rng, dim, shape, wanted):
    """Indices without repeats along dim."""
    count = min(wanted[dim], shape[dim])
    wanted = tuple(count if d == dim else n for d, n in enumerate(wanted))
    index = np.empty(wanted, np.int64)
    lines = np.moveaxis(index, dim, -1)
    for place in np.ndindex(*lines.shape[:-1]):
        lines[place] = rng.permutation(shape[dim])[:count]
    return index


def scatter_writing(rng):
    for dim, shape, wanted in ALONG:
        index = once(rng, dim, shape, wanted)
        yield Sample((distinct(rng, *shape), distinct(rng, *index.shape)), {"dim": dim, "index": index})


def scatter_number(rng):
    for dim, shape, wanted in ALONG:
        yield Sample((distinct(rng, *shape),), {"dim": dim, "index": once(rng, dim, shape, wanted), "value": 2.5})


# ---- masks, triangles, diagonals -------------------------------------------------------------------------------------


def triangle(keep):
    def oracle(x, diagonal=0):
        out = x.copy()
        for place in np.ndindex(*x.shape):
            if not keep(place[-1] - place[-2], diagonal):
                out[place] = 0
        return out

    return oracle


lower, upper = triangle(lambda d, k: d <= k), triangle(lambda d, k: d >= k)


def triangles(rng):
    for shape in [(3, 3), (2, 3), (3, 2), (2, 2, 3), (0, 2), (2, 0)]:
        for k in (0, 1, -1, 5):
            yield Sample((distinct(rng, *shape),), {"diagonal": k})


def diagonals(rng):
    for shape, params in [
        ((3, 4), {}),
        ((3, 4), {"offset": 2}),
        ((3, 4), {"offset": -1}),
        ((3, 4), {"offset": 9}),
        ((2, 3, 3), {"dim1": 1, "dim2": 2}),
        ((2, 3, 3), {"offset": 1, "dim1": -1, "dim2": 0}),
        ((0, 3), {}),
    ]:
        yield Sample((distinct(rng, *shape),), params)


def vectors(rng):
    for shape in [(3,), (3, 4), (0,), (1,)]:
        for k in (0, 1, -2):
            yield Sample((distinct(rng, *shape),), {"diagonal": k})


def masks(rng):
    for shape, mask in [((2, 3), (2, 3)), ((2, 3), (3,)), ((3,), (2, 1)), ((), (3,)), ((0, 2), (0, 2))]:
        yield Sample((distinct(rng, *shape), np.asarray(rng.random(mask) < 0.5)))


def masked(x, mask):
    x, mask = np.broadcast_arrays(x, mask)
    return np.array([v for v, on in zip(x.flat, mask.flat, strict=True) if on], float)


def looked_up(rng):
    for shape in [(5,), (2, 3), (), (0,), (2, 0)]:
        yield Sample((rng.integers(0, 4, shape), distinct(rng, 4, 3)))


def embedding(index, weight):
    return np.array([weight[i] for i in index.ravel()]).reshape(*index.shape, weight.shape[1])


def classes(rng):
    for shape in [(4,), (2, 3), (), (0,)]:
        yield Sample((rng.integers(0, 3, shape),), {"num_classes": 3})
    yield Sample((np.array([2, 0]),), {})


def one_hot(x, num_classes=3):
    return np.array([[float(v == c) for c in range(num_classes)] for v in x.ravel()], int).reshape(
        *x.shape, num_classes
    )


def nonzero(x, as_tuple=False):
    found = [place for place in np.ndindex(*x.shape) if x[place]]
    found = np.array(found, int).reshape(len(found), x.ndim)
    return tuple(found.T) if as_tuple else found


def sparse(rng):
    for params in ({}, {"as_tuple": True}):
        yield Sample((rng.integers(0, 2, (3, 4)) * 1.5,), params)
        yield Sample((np.asarray(rng.random((2, 2, 2)) < 0.5),), params)


def assigned(x, value, index):
    """x[index] = value on a tensor that an operation made."""
    y = x * 1
    y[index] = value
    return y


ROWS = [
    of_primitive("getitem_view", read, reading(BASIC)),
    of_primitive("getitem_copy", read, reading(ADVANCED)),
    of_primitive("spread_at", added, adding),
    of_primitive("setitem_copy", written, writing),
    of_primitive("take_slices", slices, slicing),
    of_primitive("add_slices", add_slices, slice_adding),
    of_primitive("gather_along", gather, gathering),
    of_primitive("scatter_along", scatter, scattering),
    of_primitive("tril_from", lower, triangles),
    of_primitive("triu_from", upper, triangles),
    public("getitem", read, reading(BASIC + ADVANCED)),
    public(
        "getitem",
        lambda x, index: x[np.array(index)],
        lambda rng: [
            Sample((distinct(rng, 3, 2),), {"index": i}) for i in ([1, 0, 1], [[0], [2]], [True, False, True])
        ],
        label="tensor index",
        function=lambda x, index: x[cr.tensor(index)],
    ),
    public("with_item", written, writing, function=lambda x, value, index: cr.with_item(x, index, value)),
    public(
        "setitem",
        written,
        writing,
        function=assigned,
    ),
    public("index_select", slices, slicing, function=lambda x, index, dim: cr.index_select(x, dim, index)),
    public(
        "index_add",
        index_add,
        lambda rng: [
            Sample((distinct(rng, 3, 2), distinct(rng, 4, 2)), {"dim": 0, "index": np.array([0, 2, 0, 0])}),
            Sample((distinct(rng, 3, 2), distinct(rng, 3, 3)), {"dim": 1, "index": np.array([1, 1, 0]), "alpha": -0.5}),
            Sample((distinct(rng, 3), distinct(rng, 0)), {"dim": 0, "index": np.array([], np.int64)}),
        ],
        function=lambda x, source, dim, index, alpha=1: cr.index_add(x, dim, cr.tensor(index), source, alpha=alpha),
    ),
    public("gather", gather, gathering, function=lambda x, index, dim: cr.gather(x, dim, index)),
    public(
        "take_along_dim",
        lambda x, index, dim: np.take_along_axis(x, index, dim),
        lambda rng: [
            Sample((distinct(rng, 3, 4), rng.integers(0, 4, (3, 2))), {"dim": 1}),
            Sample((distinct(rng, 3, 4), rng.integers(0, 3, (2, 1))), {"dim": 0}),
            Sample((distinct(rng, 1, 4), rng.integers(0, 4, (3, 2))), {"dim": -1}),
        ],
        function=lambda x, index, dim: cr.take_along_dim(x, index, dim),
    ),
    public(
        "scatter_add",
        lambda x, src, dim, index: scatter(src, index, dim, onto=x),
        scatter_adding,
        function=lambda x, src, dim, index: cr.scatter_add(x, dim, cr.tensor(index), src),
    ),
    public(
        "scatter",
        lambda x, src, dim, index: scatter(src, index, dim, onto=x, add=False),
        scatter_writing,
        function=lambda x, src, dim, index: cr.scatter(x, dim, cr.tensor(index), src),
    ),
    public(
        "scatter",
        lambda x, dim, index, value: scatter(value, index, dim, onto=x, add=False),
        scatter_number,
        label="number",
        function=lambda x, dim, index, value: cr.scatter(x, dim, cr.tensor(index), value),
    ),
    public("masked_select", masked, masks),
    public("tril", lower, triangles),
    public("triu", upper, triangles),
    public("diagonal", lambda x, offset=0, dim1=0, dim2=1: np.diagonal(x, offset, dim1, dim2), diagonals),
    public("diag", lambda x, diagonal=0: np.diag(x, diagonal), vectors),
    public("embedding", embedding, looked_up),
    public("one_hot", one_hot, classes),
    public("nonzero", nonzero, sparse),
]
