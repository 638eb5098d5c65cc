"""Every operation of the table, captured on the CPU: the bits of eager calls, or a reason that is listed here."""

import numpy as np
import pytest
from ops import generic
from ops.table import TABLE, outputs

import chainrule as cr

_LOOKS = "Python looked at the value of a tensor"
_NUMPY = "a tensor was made of NumPy's numbers inside"  # the rows index with NumPy's arrays
_SHAPED = "depends on values"
REASONS = {
    "prod_last": _LOOKS,
    "prod": _LOOKS,
    "lstm_graph": _LOOKS,
    "getitem_copy": _NUMPY,
    "index_add": _NUMPY,
    "scatter_add": _NUMPY,
    "scatter": _NUMPY,
    "scatter (number)": _NUMPY,
    "masked_select": _SHAPED,
    "nonzero": _SHAPED,
}
#: rows that make a generator of random numbers inside, which each eager call would begin anew
SEEDED = ("dropout", "feature_dropout")

pytestmark = pytest.mark.usefixtures("cpu_by_default")


@pytest.mark.parametrize("row", [row for row in TABLE if row.name not in SEEDED], ids=lambda row: row.name)
@pytest.mark.filterwarnings("ignore:step runs as it is")
def test_a_replay_gives_the_bits_of_an_eager_call(row, rng):
    sample = next((sample for sample in row.make(rng) if sample.varied), None)
    if sample is None:
        pytest.skip("it has no floating inputs")
    fixed = [None if x is None else cr.tensor(x) for x in sample.inputs]

    def step(given, seeds):
        known = dict(zip(sample.varied, given, strict=True))
        out = outputs(row.apply([known.get(i, x) for i, x in enumerate(fixed)], sample.params))
        slopes = cr.autograd.grad(generic.live(out), given, seeds, materialize_grads=True) if seeds else ()
        return [*out, *slopes]

    def leaves(share):
        arrays = [sample.inputs[i] for i in sample.varied]
        return [cr.tensor((x * share).astype(x.dtype), requires_grad=True) for x in arrays]

    seeds = generic.cotangents(rng, tuple(step(leaves(1), ())))
    captured = cr.capture(step)
    for share in (1, 1, 1 - 1e-3, 1 - 2e-3):
        given = leaves(share)
        for a, b in zip(step(given, seeds), captured(given, seeds), strict=True):
            assert a.dtype == b.dtype and a.shape == b.shape
            np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
    assert captured.reason.find(REASONS.get(row.name, "")) >= 0 and bool(captured.reason) == (row.name in REASONS)
