"""Rows of products. The oracle writes the sum of products out, index by index."""

import itertools
from string import ascii_letters

import numpy as np

import chainrule as cr

from .row import Sample, normal, of_primitive, public


def summed(equation, *xs):
    """Einstein's summation as one loop over all labels; the labels of the result first."""
    left, out = equation.split("->")
    labels = left.split(",")
    sizes = {c: n for name, x in zip(labels, xs, strict=True) for c, n in zip(name, x.shape, strict=True) if n != 1}
    letters = sorted(set("".join(labels)))
    result = np.zeros([sizes.get(c, 1) for c in out])
    for values in itertools.product(*[range(sizes.get(c, 1)) for c in letters]):
        at = dict(zip(letters, values, strict=True))
        term = 1.0
        for name, x in zip(labels, xs, strict=True):
            term *= x[tuple(at[c] if n > 1 else 0 for c, n in zip(name, x.shape, strict=True))]
        result[tuple(at[c] for c in out)] += term
    return result


def empty_aware(equation, *xs):
    """`summed`, for which a label of size 0 makes every sum empty."""
    left, out = equation.split("->")
    sizes = {
        c: n for name, x in zip(left.split(","), xs, strict=True) for c, n in zip(name, x.shape, strict=True) if n != 1
    }
    return np.zeros([sizes.get(c, 1) for c in out]) if 0 in sizes.values() else summed(equation, *xs)


def matmul(x, y):
    lead = ascii_letters[: max(x.ndim, y.ndim, 2) - 2]
    rows = (lead[len(lead) - x.ndim + 2 :] + "X" if x.ndim > 1 else "") + "Z"
    columns = lead[len(lead) - y.ndim + 2 :] + "ZY" if y.ndim > 1 else "Z"
    out = lead + ("X" if x.ndim > 1 else "") + ("Y" if y.ndim > 1 else "")
    return empty_aware(f"{rows},{columns}->{out}", x, y)


def pairs(*shapes):
    return lambda rng: [Sample(tuple(normal(rng, *s) for s in given)) for given in shapes]


def einsums(table):
    return lambda rng: [
        Sample(tuple(normal(rng, *s) for s in shapes), {"equation": e, "full": full}) for e, full, shapes in table
    ]


MATRICES = [((2, 3), (3, 4)), ((3, 3), (3, 3)), ((1, 1), (1, 1)), ((2, 0), (0, 3)), ((0, 3), (3, 2))]
BATCHES = [
    ((5, 2, 3), (5, 3, 2)),
    ((2, 3), (4, 3, 2)),
    ((4, 1, 2, 3), (2, 3, 2)),
    ((0, 2, 3), (0, 3, 2)),
    ((2, 1, 2, 2), (1, 3, 2, 2)),
]
RANKS = [
    ((3,), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3,)),
    ((3,), (2, 3, 2)),
    ((2, 2, 3), (3,)),
    ((2, 2, 3), (3, 2)),
    ((2, 2, 2, 3), (3, 1)),
    ((0,), (0,)),
    ((0, 2, 3), (3, 2)),
    ((2, 0, 3), (3, 2)),
]

#: notation, the same written in full, shapes
NOTATIONS = [
    ("ij,jk->ik", "ij,jk->ik", [(2, 3), (3, 4)]),
    ("ij,jk", "ij,jk->ik", [(2, 3), (3, 4)]),
    ("ba", "ba->ab", [(2, 3)]),
    ("ij->", "ij->", [(2, 3)]),
    ("ij->j", "ij->j", [(2, 3)]),
    ("ij->ji", "ij->ji", [(2, 3)]),
    ("ii->", "ii->", [(3, 3)]),
    ("ii", "ii->", [(3, 3)]),
    ("ii->i", "ii->i", [(3, 3)]),
    ("iij->ij", "iij->ij", [(3, 3, 2)]),
    ("iii->i", "iii->i", [(2, 2, 2)]),
    ("ij,ij->", "ij,ij->", [(2, 3), (2, 3)]),
    ("i,j->ij", "i,j->ij", [(2,), (3,)]),
    ("i,j->", "i,j->", [(2,), (3,)]),
    ("ij,k->i", "ij,k->i", [(2, 3), (4,)]),
    ("bij,bjk->bik", "bij,bjk->bik", [(2, 2, 3), (2, 3, 2)]),
    ("...ij,...jk->...ik", "bij,bjk->bik", [(2, 2, 3), (2, 3, 2)]),
    ("...ij,jk->...ik", "abij,jk->abik", [(2, 1, 2, 3), (3, 2)]),
    ("...i,...i", "abi,bi->ab", [(2, 3, 2), (3, 2)]),
    ("i...->...", "iab->ab", [(2, 3, 2)]),
    ("ij,jk,kl->il", "ij,jk,kl->il", [(2, 3), (3, 2), (2, 2)]),
    ("bn,anm,bm->ba", "bn,anm,bm->ba", [(2, 3), (2, 3, 2), (2, 2)]),
    ("ij, jk -> ik", "ij,jk->ik", [(1, 3), (3, 1)]),
    ("ij,jk->ik", "ij,jk->ik", [(2, 1), (3, 4)]),
    ("ij,jk->ik", "ij,jk->ik", [(2, 0), (0, 4)]),
    (",ij->ij", ",ij->ij", [(), (2, 3)]),
    ("->", "->", [()]),
]
PLAIN = [
    n
    for n in NOTATIONS
    if n[0] == n[1]
    and not any(len(set(name)) < len(name) for name in n[0].partition("->")[0].split(","))
    and n[2] != [(2, 1), (3, 4)]
]


def linear(x, w, b=None):
    out = np.zeros((*x.shape[:-1], w.shape[0]))
    for place in np.ndindex(*out.shape):
        out[place] = sum(x[place[:-1]] * w[place[-1]]) + (0 if b is None else b[place[-1]])
    return out


def bilinear(x, y, w, b=None):
    out = np.zeros((*x.shape[:-1], w.shape[0]))
    for place in np.ndindex(*out.shape):
        out[place] = x[place[:-1]] @ w[place[-1]] @ y[place[:-1]] + (0 if b is None else b[place[-1]])
    return out


def forms(*leads):
    def make(rng):
        for lead in leads:
            x, y, w = normal(rng, *lead, 3), normal(rng, *lead, 4), normal(rng, 2, 3, 4)
            yield Sample((x, y, w, normal(rng, 2)))
            yield Sample((x, y, w, None))
        yield Sample((normal(rng, 2, 0), normal(rng, 2, 4), normal(rng, 3, 0, 4), normal(rng, 3)))

    return make


def lines(*leads):
    def make(rng):
        for lead in leads:
            x, w, b = normal(rng, *lead, 3), normal(rng, 2, 3), normal(rng, 2)
            yield Sample((x, w, b))
            yield Sample((x, w, None))
        yield Sample((normal(rng, 2, 0), normal(rng, 3, 0), normal(rng, 3)))

    return make


def tensordot(x, y, dims=2):
    return np.tensordot(x, y, dims)


ROWS = [
    of_primitive("matmul_batched", matmul, pairs(*MATRICES, *BATCHES)),
    of_primitive("linear_rows", linear, lines((4,), (1,), (2, 3), (), (0,))),
    of_primitive(
        "einsum_plain",
        lambda *xs, subscripts: empty_aware(subscripts, *xs),
        lambda rng: [Sample(tuple(normal(rng, *s) for s in shapes), {"subscripts": e}) for e, _, shapes in PLAIN],
    ),
    public("matmul", matmul, pairs(*MATRICES, *BATCHES, *RANKS)),
    public("mm", matmul, pairs(*MATRICES)),
    public("bmm", matmul, pairs(BATCHES[0], BATCHES[3])),
    public("mv", matmul, pairs(((2, 3), (3,)), ((2, 0), (0,)))),
    public("dot", matmul, pairs(((3,), (3,)), ((0,), (0,)))),
    public("outer", lambda x, y: summed("i,j->ij", x, y), pairs(((2,), (3,)), ((1,), (1,)))),
    public("linear", linear, lines((4,), (2, 3), (), (0,), (2, 0))),
    public("bilinear", bilinear, forms((4,), (2, 3), (), (0,))),
    public(
        "trace", lambda x: summed("ii->", x[: min(x.shape), : min(x.shape)]), pairs(((3, 3),), ((2, 4),), ((1, 1),))
    ),
    public(
        "tensordot",
        tensordot,
        lambda rng: [
            Sample((normal(rng, 2, 3, 4), normal(rng, 3, 4, 2))),
            Sample((normal(rng, 2, 3), normal(rng, 3, 2)), {"dims": 1}),
            Sample((normal(rng, 2), normal(rng, 3)), {"dims": 0}),
            Sample((normal(rng, 2, 3, 4), normal(rng, 4, 2)), {"dims": ([0, -1], [1, 0])}),
            Sample((normal(rng, 2, 0), normal(rng, 0, 3)), {"dims": 1}),
        ],
    ),
    public(
        "einsum",
        lambda *xs, equation, full: empty_aware(full, *xs),
        einsums(NOTATIONS),
        function=lambda *xs, equation, full: cr.einsum(equation, *xs),
    ),
]
