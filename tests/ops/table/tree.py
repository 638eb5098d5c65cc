"""Rows of networks over trees and grids. The oracle computes one cell after the other."""

import numpy as np

from .row import Sample, normal, of_primitive

# ---- recursive networks ----------------------------------------------------------------------------------------------


def rnn_tree(leaves, weight, bias, children, *, sizes):
    states = list(leaves)
    for left, right in children:
        joined = np.concatenate([states[left], states[right]])
        states.append(np.tanh(weight @ joined + (0 if bias is None else bias)))
    return np.array(states).reshape(sum(sizes), weight.shape[0])


def trees(rng):
    for children, sizes, size in [
        ([[1, 0], [3, 2]], (3, 1, 1), 2),
        ([[0, 1], [4, 2], [5, 6], [7, 3]], (5, 2, 1, 1), 3),  # two trees
        ([], (2,), 2),
        ([], (0,), 2),
    ]:
        children = np.array(children, int).reshape(-1, 2)
        given = normal(rng, sizes[0], size), normal(rng, size, 2 * size)
        yield Sample((*given, normal(rng, size), children), {"sizes": sizes})
        yield Sample((*given, None, children), {"sizes": sizes})


# ---- LSTMs -----------------------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_graph(gates, weight, sources, slots, *, levels, child_sum=False):
    size = (weight.shape[0] - weight.shape[1]) // 3
    places = weight.shape[1] // size
    h, c = [], []
    for row, own in enumerate(gates):
        fed = [(s, slot % places) for s, slot in zip(sources, slots, strict=True) if slot // places == row]
        joined = np.zeros((places, size))
        for source, place in fed:
            joined[place] += h[source]
        told = own[: 3 * size] + weight[: 3 * size] @ joined.ravel()
        cell = sigmoid(told[:size]) * np.tanh(told[2 * size :])
        for source, place in fed:
            forget = own[3 * size :].reshape(-1, size)[place if len(own) > 4 * size else 0]
            block = weight[(3 + place) * size : (4 + place) * size]
            cell = cell + sigmoid(forget + block @ (h[source] if child_sum else joined.ravel())) * c[source]
        h.append(sigmoid(told[size : 2 * size]) * np.tanh(cell))
        c.append(cell)
    return tuple(np.array(states).reshape(len(gates), size) for states in (h, c))


def graphs(rng):
    tree = ((3, 0), (1, 2), (1, 2))
    two = [0, 1, 3, 2], [6, 7, 8, 9]
    for levels, edges, size, places, forgets, child_sum in [
        (tree, two, 2, 2, 1, False),
        (tree, ([2, 0, 3, 1], [7, 6, 9, 8]), 1, 2, 2, False),
        (tree, ([0, 1, 3, 2], [3, 3, 4, 4]), 2, 1, 1, True),
        (((1, 0), (2, 2), (1, 2)), ([0, 0, 1, 2], [2, 5, 6, 7]), 2, 2, 2, False),  # a grid of 2 × 2
        (((1, 0), (1, 3), (1, 1)), ([0, 0, 0, 0], [2, 2, 3, 5]), 2, 2, 1, False),  # one cell feeds several places
        (((1, 0), (1, 2), (1, 2)), ([0, 0, 0, 1], [1, 1, 2, 2]), 2, 1, 1, True),
        (((2, 0),), ([], []), 2, 1, 1, True),
        (((0, 0),), ([], []), 2, 2, 1, False),
    ]:
        gates = normal(rng, sum(cells for cells, _ in levels), (3 + forgets) * size)
        weight = normal(rng, (3 + places) * size, places * size)
        sources, slots = (np.array(x, int) for x in edges)
        yield Sample((gates, weight, sources, slots), {"levels": levels, "child_sum": child_sum})


ROWS = [of_primitive("rnn_tree", rnn_tree, trees), of_primitive("lstm_graph", lstm_graph, graphs)]
