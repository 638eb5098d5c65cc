"""Rows of recurrent networks over packed sequences. The oracle runs each sequence alone."""

import numpy as np
import oracles

from .row import Sample, normal, of_primitive, public, uniform

#: (sequences at each step, input, units, reverse, which biases): equal lengths and others, one step, no input, no unit
CASES = [
    ((2, 2), 3, 2, False, (True, True)),
    ((3, 1, 1), 2, 2, False, (False, False)),
    ((3, 2, 2), 1, 2, True, (True, True)),
    ((2,), 2, 3, False, (True, False)),
    ((1, 1), 1, 1, True, (False, True)),
    ((2, 1), 0, 2, False, (True, True)),
    ((2, 1), 2, 0, True, (True, True)),
]


def weights(rng, gates, inputs, units, biases):
    shapes = (gates * units, inputs), (gates * units, units)
    return *(normal(rng, *shape) for shape in shapes), *(normal(rng, gates * units) if b else None for b in biases)


def rnns(rng):
    for sizes, inputs, units, reverse, biases in CASES:
        h0, x = normal(rng, sizes[0], units), normal(rng, sum(sizes), inputs)
        params = {"batch_sizes": sizes, "reverse": reverse, "nonlinearity": "tanh"}
        yield Sample((h0, x, *weights(rng, 1, inputs, units, biases)), params)
    one = [normal(rng, 1, 1) for _ in range(4)]
    yield Sample((*one, None, None), {"batch_sizes": (1,), "reverse": False, "nonlinearity": "tanh"})
    yield from rectified(rng)


def rectified(rng):
    """Units that are on and off, and far from between."""
    for sizes, reverse in (((2, 1, 1), False), ((2, 2), True), ((2,), False)):
        signs, positive = np.array([[1.0], [-1.0], [1.0]]), lambda *shape: uniform(rng, shape, 0.3, 1.0)
        given = positive(sizes[0], 3), positive(sum(sizes), 2), signs * positive(3, 2), signs * positive(3, 3)
        params = {"batch_sizes": sizes, "reverse": reverse, "nonlinearity": "relu"}
        yield Sample((*given, None, signs[:, 0] * positive(3)), params)


def lstms(rng):
    for number, (sizes, inputs, units, reverse, biases) in enumerate(CASES):
        h0, x, c0 = normal(rng, sizes[0], units), normal(rng, sum(sizes), inputs), normal(rng, sizes[0], units)
        kinds = ((False, False), (True, False), (True, True)) if number < 3 else ((number < 5, True),)
        for peephole, previous in kinds:
            given = h0, x, c0, *weights(rng, 4, inputs, units, biases), normal(rng, 3, units) if peephole else None
            yield Sample(given, {"batch_sizes": sizes, "reverse": reverse, "previous": previous})


def grus(rng):
    for sizes, inputs, units, reverse, biases in CASES:
        h0, x = normal(rng, sizes[0], units), normal(rng, sum(sizes), inputs)
        yield Sample((h0, x, *weights(rng, 3, inputs, units, biases)), {"batch_sizes": sizes, "reverse": reverse})


def plain(make, **params):
    """The first samples, with what a caller may leave out left out."""

    def few(rng):
        for sample in list(make(rng))[:2]:
            yield Sample(sample.inputs, {"batch_sizes": sample.params["batch_sizes"], **params})

    return few


def before(rng):
    for sample in grus(rng):
        yield Sample(sample.inputs, {**sample.params, "reset_after": False})


ROWS = [
    of_primitive("rnn_rows", oracles.rnn_sequence, rnns),
    of_primitive("lstm_rows", oracles.lstm_sequence, lstms),
    of_primitive("gru_rows", oracles.gru_sequence, grus),
    public("rnn_sequence", oracles.rnn_sequence, plain(rnns)),
    public("lstm_sequence", oracles.lstm_sequence, plain(lstms)),
    public("gru_sequence", oracles.gru_sequence, plain(grus)),
    public("gru_sequence", oracles.gru_sequence, before, label="reset before"),
]
