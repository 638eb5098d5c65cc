"""What one step of a recurrent cell computes, forward and backward, written once for every device.

`m` is the mathematics of the device: sigmoid, tanh, relu and positive; the values may be numbers, arrays or vectors of
a compiler. Forward takes the gates' parts from the input, x, and from the state, r, what the unit remembers for itself
(`local`: the LSTM's c, the GRU's h), the biases b and the peepholes p; it returns what backward needs, `local` and h.
Backward takes the gradients d of h and of `local` and that record; it returns those of the gates, of `local`, and the
terms of those of the peepholes.
"""

from typing import NamedTuple


class Cell(NamedTuple):
    """A cell: how many gates, biases, peepholes, recorded values and gradients a unit has, and its formulas.

    Of the gradients, the first belong to the input's parts of the gates named by `order`, the last, as many, to the
    state's parts of all gates in their own order.
    """

    gates: int
    biases: int
    peepholes: int
    record: int
    gradients: int
    order: tuple
    forward: object
    backward: object


def _rnn(function, slope):
    def forward(m, x, r, local, b, p):
        h = function(m, x[0] + r[0] + b[0])
        return (h,), local, h

    def backward(m, d, local, record, p):
        (h,) = record
        return (d * slope(m, h),), local, ()

    return Cell(1, 1, 0, 1, 1, (0,), forward, backward)


def _lstm(peephole):
    def forward(m, x, r, c, b, p):
        i, f, g, o = [x[n] + r[n] + b[n] for n in range(4)]
        if peephole:
            i, f = i + p[0] * c, f + p[1] * c
        i, f, g = m.sigmoid(i), m.sigmoid(f), m.tanh(g)
        new = f * c + i * g
        if peephole:
            o = o + p[2] * (new if peephole == "current" else c)
        o = m.sigmoid(o)
        return (i, f, g, o, c), new, o * m.tanh(new)

    def backward(m, d, dc, record, p):
        i, f, g, o, c = record
        new = f * c + i * g
        bent = m.tanh(new)
        do = d * bent * (o * (1 - o))
        dc = dc + d * o * (1 - bent * bent)
        if peephole == "current":
            dc = dc + do * p[2]
        di, df, dg = dc * g * (i * (1 - i)), dc * c * (f * (1 - f)), dc * i * (1 - g * g)
        dc = dc * f
        if peephole:
            dc = dc + di * p[0] + df * p[1]
        if peephole == "previous":
            dc = dc + do * p[2]
        seen = (di * c, df * c, do * (new if peephole == "current" else c)) if peephole else ()
        return (di, df, dg, do), dc, seen

    return Cell(4, 4, 3 if peephole else 0, 5, 4, (0, 1, 2, 3), forward, backward)


def _gru_forward(m, x, r, h, b, p):
    reset, update = m.sigmoid(x[0] + r[0] + b[0]), m.sigmoid(x[1] + r[1] + b[1])
    pulled = r[2] + b[3]
    new = m.tanh(x[2] + b[2] + reset * pulled)
    after = new + update * (h - new)
    return (reset, update, new, pulled, h), after, after


def _gru_backward(m, d, local, record, p):
    reset, update, new, pulled, h = record
    d = d + local
    dn = d * (1 - update) * (1 - new * new)
    dz = d * (h - new) * (update * (1 - update))
    dr = dn * pulled * (reset * (1 - reset))
    return (dn, dr, dz, dn * reset), d * update, ()


CELLS = {
    "rnn_tanh": _rnn(lambda m, x: m.tanh(x), lambda m, h: 1 - h * h),
    "rnn_relu": _rnn(lambda m, x: m.relu(x), lambda m, h: m.positive(h)),
    "lstm": _lstm(None),
    "lstm_current": _lstm("current"),
    "lstm_previous": _lstm("previous"),
    "gru": Cell(3, 4, 0, 5, 4, (2, 0, 1), _gru_forward, _gru_backward),
}
