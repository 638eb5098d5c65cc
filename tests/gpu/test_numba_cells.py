"""The LSTM's cell in Python, through whole sequences, against the CPU's."""

import numpy as np
import pytest

from chainrule.kernels import cpu

TOLERANCE = {"float64": 1e-6, "float32": 1e-5}  # the simulator keeps float32's constants in float32


def both(k, on, arrays, seeds, how):
    """Results and gradients of a namespace."""
    h0, x, c0, w_ih, w_hh, b_ih, b_hh = map(on, arrays)
    *states, record = k.recurrent_sequence(h0, x, c0, w_ih, w_hh, b_ih, b_hh, None, **how, keep=True)
    given = (*map(on, seeds), states[0], record, h0, x, w_ih, w_hh, None)
    return [*states, *k.recurrent_sequence_backward(*given, **how)[:-1]]


@pytest.mark.parametrize("sizes, units", [((1,), 1), ((3, 3, 1), 5), ((2, 1), 130)], ids=str)
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_lstm(cuda, cupy, rng, by_numba, sizes, units, biased, dtype):
    batch, count = sizes[0], sum(sizes)
    shapes = [
        (batch, units),
        (count, 2),
        (batch, units),
        (4 * units, 2),
        (4 * units, units),
        (4 * units,),
        (4 * units,),
    ]
    arrays = [rng.standard_normal(shape) / 2 for shape in shapes]
    arrays[4] /= units**0.5
    if not biased:
        arrays[5:] = None, None
    seeds = [rng.standard_normal(shape) for shape in ((count, units), (batch, units), (batch, units))]
    how = {"kind": "lstm", "batch_sizes": sizes, "reverse": False}
    expected = both(cpu, lambda a: a, arrays, seeds, how)
    got = both(cuda, lambda a: None if a is None else cupy.asarray(a.astype(dtype)), arrays, seeds, how)
    assert by_numba == ["lstm_cell"] * len(sizes) + ["lstm_cell_backward"] * len(sizes)
    for a, b in zip(got, expected, strict=True):
        assert (a.dtype, a.shape) == (dtype, b.shape)
        scale = 1 + np.abs(b).max()
        np.testing.assert_allclose(a.get() / scale, b / scale, rtol=0, atol=TOLERANCE[dtype])


def test_sixteen_bits_and_other_cells_stay_with_cuda(cuda, cupy, by_numba):
    for kind, gates, dtype in (("lstm", 4, np.float16), ("gru", 3, np.float32)):
        state, x, weight = cupy.ones((1, 2), dtype), cupy.ones((1, 2), dtype), cupy.ones((2 * gates, 2), dtype)
        how = {"kind": kind, "batch_sizes": (1,), "reverse": False, "keep": True}
        cuda.recurrent_sequence(state, x, state, weight, weight, None, None, None, **how)
    assert not by_numba
