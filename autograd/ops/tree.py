"""Networks whose cells form trees and grids, computed level by level.

Cells are rows in order of their levels: those of level 0 have no predecessors, a cell of a higher level has all of its
predecessors below it. So the cells of one level, of all trees or grids at once, are computed together. The functions
ending in `_composed` are the definitions, in differentiable terms; derivatives beyond the first go through them.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate, pairwise

import numpy as np

from ..primitive import primitive
from ..tensor import may_look
from .elementwise import sigmoid, tanh
from .indexing import add_slices
from .linalg import linear
from .recurrent import pulled
from .shape import cat, reshape, split


def _slices(sizes) -> list[slice]:
    """Consecutive slices of the sizes given."""
    return [slice(start, stop) for start, stop in pairwise([0, *accumulate(sizes)])]


# ---- recursive networks ----------------------------------------------------------------------------------------------


def rnn_tree_composed(leaves, weight, bias, children, *, sizes):
    """States are appended level by level: tanh(W [left; right] + b)."""
    states, first = leaves, sizes[0]
    for parents in _slices(sizes)[1:]:
        known = states[children[parents.start - first : parents.stop - first]]
        states = cat([states, tanh(linear(reshape(known, (-1, weight.shape[1])), weight, bias))])
    return states


def _rnn_tree_flops(leaves, weight, bias, children, *, out, sizes):
    return 2 * children[0] * weight[0] * weight[1]


@primitive(constant=("children",), formula=r"\tanh(W [p_l; p_r] + b)", flops=_rnn_tree_flops)
def rnn_tree(k, leaves, weight, bias, children, *, sizes):
    """The states of a recursive network over binary trees: leaves as given, of a parent tanh(W [left; right] + b).

    Shapes: leaves (L, H), weight (H, 2H), bias (H,) or None, children (P, 2): the rows of each parent's two children;
    sizes: the number of nodes of each level, L first → (L + P, H), leaves first. No node is a child twice.

    Errors: ValueError for sizes that do not fit, children that are not below their parents, or a child of two parents.

    Source: Socher et al. 2011, "Parsing natural scenes and natural language with recursive neural networks".

    >>> leaves, children = cr.eye(2), np.array([[0, 1]])
    >>> cr.autograd.rnn_tree(leaves, cr.ones(2, 4), None, children, sizes=(2, 1)).shape
    (3, 2)
    """
    _check_binary(k, leaves, weight, bias, children, sizes)
    turned, pair, used = k.transpose(weight), weight.shape[1], children.reshape(-1)
    states = k.empty((sum(sizes), leaves.shape[1]), leaves.dtype)
    states[: sizes[0]] = leaves
    for start, stop in pairwise(accumulate(sizes)):
        known = states.take(used[2 * (start - sizes[0]) : 2 * (stop - sizes[0])], 0)  # half the time of states[used]
        z = k.matmul(known.reshape(-1, pair), turned)
        if bias is not None:
            z += bias
        k.tanh(z, out=states[start:stop])
    return states


@rnn_tree.vjp("leaves", "weight", "bias", formula=r"\textstyle\sum_{nodes} \bar p (1 - p^2) [p_l; p_r]^{\mathsf T}")
def rnn_tree_rule(g, leaves, weight, bias, children, *, sizes):
    return pulled(rnn_tree_composed, (g,), (leaves, weight, bias), {"children": children, "sizes": sizes})


@rnn_tree.fused_vjp("leaves", "weight", "bias")
def rnn_tree_fused(k, g, weight, bias, children, out, *, sizes):
    first, used, inner = sizes[0], children.reshape(-1), out[sizes[0] :]
    slope, dz = 1 - inner * inner, k.empty(inner.shape, g.dtype)
    # What flows to the children, and 0 to the roots; whose child a node is says where it takes its part from.
    back, place = k.zeros((len(used) + 1, g.shape[1]), g.dtype), k.full(len(out), len(used))
    place[used] = k.arange(len(used))
    for start, stop in reversed(list(pairwise(accumulate(sizes)))):
        at = k.add(g[start:stop], back.take(place[start:stop], 0), out=dz[start - first : stop - first])
        at *= slope[start - first : stop - first]
        back[2 * (start - first) : 2 * (stop - first)] = k.matmul(at, weight).reshape(-1, g.shape[1])
    known = out.take(used, 0).reshape(len(children), weight.shape[1])
    dleaves = g[:first] + back.take(place[:first], 0)
    return dleaves, k.matmul(k.transpose(dz), known), None if bias is None else k.sum(dz, 0)


def _check_binary(k, leaves, weight, bias, children, sizes):
    size, parents = leaves.shape[-1], sum(sizes[1:])
    shapes = [x if x is None else x.shape for x in (leaves, weight, bias, children)]
    if shapes != [(sizes[0], size), (size, 2 * size), bias if bias is None else (size,), (parents, 2)]:
        raise ValueError(
            f"rnn_tree: received leaves, weight, bias and children of shapes {shapes} for sizes={sizes}; they must be "
            "(L, H), (H, 2H), (H,) or None, and (P, 2), L being the first of the sizes and P the sum of the others"
        )
    if not may_look(children):
        return
    _check_below("rnn_tree", k, children.reshape(-1), sizes, [2 * n for n in sizes[1:]])
    if children.size and int(k.bincount(children.reshape(-1)).max()) > 1:
        raise ValueError("rnn_tree: a node is the child of two parents; in a tree each node has one at most")


def _check_below(who, k, sources, sizes, edges):
    """Every edge comes from below the level that it leads to."""
    lowest = k.asarray(_starts(tuple(sizes), tuple(edges)))
    if sources.size and (int(sources.min()) < 0 or bool((sources >= lowest).any())):
        raise ValueError(
            f"{who}: a predecessor's row lies at or above the level that it feeds, or below 0; order the cells by level"
        )


@lru_cache(64)
def _starts(sizes, edges):
    """Of each edge, where the level begins that it leads to."""
    return np.repeat([0, *accumulate(sizes)][1:-1], edges)


# ---- LSTMs over trees and grids --------------------------------------------------------------------------------------


def _sizes_of(gates, weight) -> tuple[int, int, int]:
    """H, the places for predecessors N, and how many forget gates a cell's own input feeds (1 or N)."""
    size = max((weight.shape[0] - weight.shape[1]) // 3, 1)
    return size, weight.shape[1] // size, gates.shape[1] // size - 3


def _joined(k, known, place, rows, places):
    """The predecessors of each row side by side, those in one place added up: (rows, places · H)."""
    return k.index_add((rows * places, known.shape[1]), 0, place, known).reshape(rows, places * known.shape[1])


def lstm_graph_composed(gates, weight, sources, slots, *, levels, child_sum=False):
    """States are appended level by level; what arrives in one place of a cell is added up."""
    size, places, forgets = _sizes_of(gates, weight)
    to_input, to_forget = weight[: 3 * size], weight[3 * size :]
    h, c = gates[:0, :size], gates[:0, :size]
    for cells, edges in zip(*map(_slices, zip(*levels, strict=True)), strict=True):
        rows = cells.stop - cells.start
        gate, kept = gates[cells, : 3 * size], 0
        if edges.stop > edges.start:
            place = slots[edges] - cells.start * places
            known = h[sources[edges]]
            joined = reshape(add_slices(known, place, dim=0, size=rows * places), (rows, places * size))
            gate = gate + linear(joined, to_input)
            own = reshape(gates[cells, 3 * size :], (rows * forgets, size))[place * forgets // places]
            told = linear(known, to_forget) if child_sum else reshape(linear(joined, to_forget), (-1, size))[place]
            kept = add_slices(sigmoid(own + told) * c[sources[edges]], place // places, dim=0, size=rows)
        i, o, u = split(gate, size, 1)
        new = sigmoid(i) * tanh(u) + kept
        h, c = cat([h, sigmoid(o) * tanh(new)]), cat([c, new])
    return h, c


def _lstm_graph_flops(gates, weight, sources, slots, *, out, levels, child_sum=False):
    return 2 * gates[0] * weight[0] * weight[1]


@primitive(
    outputs=2,
    scratch=True,
    constant=("sources", "slots"),
    formula=r"c = i \odot u + \textstyle\sum_k f_k \odot c_k,\; h = o \odot \tanh c",
    flops=_lstm_graph_flops,
)
def lstm_graph(k, gates, weight, sources, slots, *, levels, child_sum=False):
    """The states of an LSTM whose cells have several predecessors each, in up to N places: trees, grids.

    With the states h_k, c_k of the predecessors, [i; o; u; f] = gates + W [h_1; …; h_N] (0 where a place is empty),
    c = σ(i) ⊙ tanh(u) + Σ_k σ(f_k) ⊙ c_k and h = σ(o) ⊙ tanh(c). `child_sum`: N is 1, the cell sees Σ_k h_k, but each
    forget gate its own h_k alone.

    Shapes: gates (M, 4H), one f for all places, or (M, (3 + N)H); weight ((3 + N)H, N·H); of each edge, in the order
    of levels, sources (E,): the predecessor's row, and slots (E,): the row that it feeds times N plus the place;
    levels: (cells, edges) of each → h and c (M, H).

    Errors: ValueError for shapes that do not fit, or an edge that does not come from below.

    Source: Tai, Socher & Manning 2015; Graves, Fernández & Schmidhuber 2007 for grids.

    >>> sources, slots = np.array([0, 1]), np.array([4, 5])  # cells 0 and 1 feed the two places of cell 2
    >>> h, c = cr.autograd.lstm_graph(cr.ones(3, 8), cr.ones(10, 4), sources, slots, levels=((2, 0), (1, 2)))
    >>> h.shape, c.shape
    ((3, 2), (3, 2))
    """
    _check_graph(k, gates, weight, sources, slots, levels)
    size, places, forgets = _sizes_of(gates, weight)
    to_input, to_forget = k.transpose(weight[: 3 * size]), k.transpose(weight[3 * size :])
    gate, forget = k.array(gates[:, : 3 * size], copy=True), k.empty((len(sources), size), gates.dtype)
    h, c = (k.empty((len(gates), size), gates.dtype) for _ in range(2))
    for cells, edges in zip(*map(_slices, zip(*levels, strict=True)), strict=True):
        rows, kept = cells.stop - cells.start, 0
        if edges.stop > edges.start:
            place = slots[edges] - cells.start * places
            known = k.take(h, sources[edges], axis=0)
            joined = _joined(k, known, place, rows, places)
            gate[cells] += k.matmul(joined, to_input)
            own = gates[cells, 3 * size :].reshape(rows * forgets, size)[place * forgets // places]
            told = k.matmul(known, to_forget) if child_sum else k.matmul(joined, to_forget).reshape(-1, size)[place]
            forget[edges] = k.sigmoid(own + told)
            kept = _joined(k, forget[edges] * k.take(c, sources[edges], axis=0), place // places, rows, 1)
        gate[cells, : 2 * size] = k.sigmoid(gate[cells, : 2 * size])
        gate[cells, 2 * size :] = k.tanh(gate[cells, 2 * size :])
        i, o, u = (gate[cells, n * size : (n + 1) * size] for n in range(3))
        c[cells] = i * u + kept
        h[cells] = o * k.tanh(c[cells])
    return (h, c), (gate, forget)


@lstm_graph.vjp("gates", "weight", formula=r"\textstyle\sum_{cells} \bar z\,[h_1; \dots; h_N]^{\mathsf T}")
def lstm_graph_rule(g, gates, weight, sources, slots, *, levels, child_sum=False):
    params = {"sources": sources, "slots": slots, "levels": levels, "child_sum": child_sum}
    return pulled(lstm_graph_composed, g, (gates, weight), params)


@lstm_graph.fused_vjp("gates", "weight")
def lstm_graph_fused(k, g, gates, weight, sources, slots, out, scratch, *, levels, child_sum=False):
    (h, c), (gate, forget) = out, scratch
    size, places, forgets = _sizes_of(gates, weight)
    to_input, to_forget = weight[: 3 * size], weight[3 * size :]
    dh, dc = (k.array(x, copy=True) for x in g)
    dgates, dforget = k.zeros(gates.shape, gates.dtype), k.empty_like(forget)
    back_h, back_c = k.empty_like(forget), k.empty_like(forget)  # what flows back along each edge
    for cells, edges, users in reversed(_spans(k, levels, sources)):
        rows = cells.stop - cells.start
        if users.size:
            at = sources[users] - cells.start
            dh[cells] += _joined(k, back_h[users], at, rows, 1)
            dc[cells] += _joined(k, back_c[users], at, rows, 1)
        i, o, u = (gate[cells, n * size : (n + 1) * size] for n in range(3))
        bent = k.tanh(c[cells])
        dc[cells] += dh[cells] * o * (1 - bent * bent)
        dgates[cells, :size] = dc[cells] * u * i * (1 - i)
        dgates[cells, size : 2 * size] = dh[cells] * bent * o * (1 - o)
        dgates[cells, 2 * size : 3 * size] = dc[cells] * i * (1 - u * u)
        if edges.stop > edges.start:
            place, f = slots[edges] - cells.start * places, forget[edges]
            back_c[edges] = k.take(dc[cells], place // places, axis=0) * f
            dforget[edges] = df = back_c[edges] * (1 - f) * k.take(c, sources[edges], axis=0)
            own = k.index_add((rows * forgets, size), 0, place * forgets // places, df)
            dgates[cells, 3 * size :] = own.reshape(rows, forgets * size)
            told = k.matmul(dgates[cells, : 3 * size], to_input)
            if not child_sum:
                told += k.matmul(_joined(k, df, place, rows, places), to_forget)
            back_h[edges] = told.reshape(-1, size)[place]
            if child_sum:
                back_h[edges] += k.matmul(df, to_forget)
    return dgates, _lstm_graph_dweight(k, dgates, dforget, k.take(h, sources, axis=0), weight, slots, levels, child_sum)


def _lstm_graph_dweight(k, dgates, dforget, known, weight, slots, levels, child_sum):
    """One product over all cells for the gates that see all predecessors, one for the forget gates."""
    size, places, _ = _sizes_of(dgates, weight)
    first = levels[0][0]  # level 0 is fed by nothing
    fed = lambda x: _joined(k, x, slots - first * places, len(dgates) - first, places)
    joined = fed(known)
    to_input = k.matmul(k.transpose(dgates[first:, : 3 * size]), joined)
    to_forget = (dforget, known) if child_sum else (fed(dforget), joined)
    return k.concatenate([to_input, k.matmul(k.transpose(to_forget[0]), to_forget[1])])


def _spans(k, levels, sources):
    """Of each level the slices of its cells and edges, and the numbers of the edges that leave it."""
    cells, edges = (_slices(sizes) for sizes in zip(*levels, strict=True))
    order = k.argsort(sources, kind="stable")
    starts = k.searchsorted(sources[order], k.asarray([s.start for s in cells])).tolist()
    return [(*both, order[a:b]) for *both, (a, b) in zip(cells, edges, pairwise([*starts, len(order)]), strict=True)]


def _check_graph(k, gates, weight, sources, slots, levels):
    size, places, forgets = _sizes_of(gates, weight)
    cells, edges = (tuple(counts) for counts in zip(*levels, strict=True))
    shapes = (gates.shape, weight.shape, sources.shape, slots.shape)
    fitting = ((sum(cells), (3 + forgets) * size), ((3 + places) * size, places * size), (sum(edges),), (sum(edges),))
    if shapes != fitting or forgets not in (1, places) or places < 1 or edges[0]:
        raise ValueError(
            f"lstm_graph: received gates, weight, sources and slots of shapes {shapes} for {sum(cells)} cells and "
            f"{sum(edges)} edges, {edges[0]} of them into level 0; they must be (M, 4H) or (M, (3 + N)H), "
            "((3 + N)H, N H), (E,) and (E,), with no edges into level 0"
        )
    if not may_look(sources):
        return
    _check_below("lstm_graph", k, sources, cells, edges[1:])
    into = k.asarray(np.repeat(np.arange(len(cells)), edges))
    if not bool((k.searchsorted(k.asarray(list(accumulate(cells))), slots // places, side="right") == into).all()):
        raise ValueError("lstm_graph: a slot lies in a cell of another level than its edge; order the edges by level")


rnn_tree.composed, lstm_graph.composed = rnn_tree_composed, lstm_graph_composed
