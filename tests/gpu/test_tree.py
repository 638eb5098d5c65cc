"""Networks of trees and grids on the GPU: against the CPU's, and while a step is captured."""

import numpy as np
import pytest

import chainrule as cr

CHILDREN, LEVELS = np.array([[0, 1], [2, 3], [4, 5]]), ((3, 0), (2, 3), (1, 2))
SOURCES, SLOTS = np.array([0, 1, 2, 3, 4]), np.array([6, 7, 8, 10, 11])  # N = 2: cells 3 and 4, then 5


def tree(device, leaves, weight, bias):
    return (cr.autograd.rnn_tree(leaves, weight, bias, cr.tensor(CHILDREN, device=device), sizes=(4, 2, 1)),)


def graph(device, gates, weight):
    edges = (cr.tensor(a, device=device) for a in (SOURCES, SLOTS))
    return cr.autograd.lstm_graph(gates, weight, *edges, levels=LEVELS)


FORMS = {"rnn_tree": (tree, [(4, 33), (33, 66), (33,)]), "lstm_graph": (graph, [(6, 12), (15, 6)])}


def results(network, device, arrays):
    """Values and gradients."""
    inputs = [cr.tensor(a, requires_grad=True, device=device) for a in arrays]
    outputs = network(device, *inputs)
    sum((y * y).sum() for y in outputs).backward()
    return [x.detach().cpu().numpy() for x in (*outputs, *(x.grad for x in inputs))]


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 2e-5)])
@pytest.mark.parametrize("name", FORMS)
def test_against_the_cpu(cuda, rng, name, dtype, tolerance):
    network, shapes = FORMS[name]
    arrays = [rng.standard_normal(shape) / 4 for shape in shapes]
    expected = results(network, "cpu", arrays)
    for got, want in zip(results(network, "cuda", [a.astype(dtype) for a in arrays]), expected, strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


@pytest.mark.filterwarnings("ignore:step runs without a CUDA graph")
@pytest.mark.parametrize("name", FORMS)
def test_in_a_captured_step(cuda, rng, name):
    """rnn_tree is captured; the backward of lstm_graph asks where each level's edges begin, so it stays eager."""
    network, shapes = FORMS[name]
    inputs = [cr.tensor(rng.standard_normal(shape) / 4, device="cuda") for shape in shapes]
    fixed = tuple(cr.tensor(a, device="cuda") for a in (CHILDREN, SOURCES, SLOTS))

    def step(*values):
        own = [x.detach().requires_grad_() for x in values]
        if name == "rnn_tree":
            outputs = (cr.autograd.rnn_tree(*own, fixed[0], sizes=(4, 2, 1)),)
        else:
            outputs = cr.autograd.lstm_graph(*own, *fixed[1:], levels=LEVELS)
        loss = sum((y * y).sum() for y in outputs)
        loss.backward()
        return loss, *(x.grad for x in own)

    captured = cr.capture(step)
    expected = [x.detach().cpu().numpy() for x in step(*inputs)]
    for _ in range(4):
        for got, want in zip(captured(*inputs), expected, strict=True):
            np.testing.assert_array_equal(got.detach().cpu().numpy(), want)
    assert (captured.reason == "") == (name == "rnn_tree"), captured.reason
