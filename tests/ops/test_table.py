"""Every generic check of every row of the table of ops."""

import numpy as np
import pytest
from ops import generic
from ops.table import TABLE

from chainrule import autograd
from chainrule.autograd import REGISTRY

#: ours; a user's (or another test's) primitives need no row
HOUSE = {name for name, p in REGISTRY.items() if p.__module__.startswith("chainrule.autograd.ops.")}
PUBLIC = {
    name
    for name, f in vars(autograd).items()
    if callable(f) and getattr(f, "__module__", "").startswith("chainrule.autograd.ops.")
}
CHECKS = [
    "forward",
    "float32",
    "float16",
    "bfloat16",
    "derivative",
    "third_derivative",
    "fused",
    "partial",
    "aliased",
    "inside",
    "layouts",
    "unshared",
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_row(row, check, rng):
    if "derivative" in check and "derivative" in row.without:
        generic.no_derivative(row, rng)
    elif check in row.without:
        pytest.skip(row.without[check])
    else:
        getattr(generic, check)(row, rng)


@pytest.mark.parametrize("row", [row for row in TABLE if row.arity], ids=lambda row: row.name)
def test_broadcasting(row, rng):
    generic.broadcasting(row, rng)


@pytest.mark.parametrize("row", [row for row in TABLE if row.primitive], ids=lambda row: row.name)
def test_description(row, rng):
    generic.described(row, rng)


# ---- the table itself ------------------------------------------------------------------------------------------------


def test_every_primitive_has_a_row_and_every_row_its_function():
    rows = {row.name for row in TABLE if row.primitive}
    assert rows >= HOUSE, f"primitives without a row: add them to tests/ops/table: {sorted(HOUSE - rows)}"
    assert rows <= HOUSE, f"rows without a primitive: {sorted(rows - HOUSE)}"
    shown = {row.of for row in TABLE}
    aliases = {"absolute": "abs"}
    missing = {name for name in PUBLIC if aliases.get(name, name) not in shown}
    assert not missing, f"public functions without a row: {sorted(missing)}"


def test_names_are_unique_and_reasons_are_given():
    assert len({row.name for row in TABLE}) == len(TABLE)
    for row in TABLE:
        assert set(row.without) <= set(CHECKS) and all(len(reason) > 15 for reason in row.without.values()), row.name


def test_a_row_without_derivative_is_that_of_a_primitive_without_rules():
    for row in TABLE:
        if row.primitive:
            assert row.function.differentiable == ("derivative" not in row.without) or row.name.startswith("bitwise"), (
                row.name
            )


#: why no sample of a row is 0-d
NO_POINT = {
    "prod_last": "works along the last dimension; prod of a number is that number",
    "cumsum_along softmax_along log_softmax_along": "work along a dimension; the public forms take 0-d tensors",
    "std_over": "no deviation of one number; of a biased one the derivative is at its kink: tests/ops/test_kinks.py",
    "amax_over amin_over norm2_over": "the public forms have 0-d samples",
    "concatenate split_view unbind_view": "nothing to join or cut along",
    "getitem_view getitem_copy setitem_copy": "the indices of the samples are those of three dimensions",
    "take_slices add_slices gather_along scatter_along spread_at": "work along a dimension",
    "tril_from triu_from matmul_batched linear_rows linear_act_rows rnn_tree lstm_graph": "operands are matrices",
    "rnn_rows lstm_rows gru_rows": "operands are matrices",
    "gather_planes scatter_planes batch_norm_batch layer_norm_last group_norm_groups": "operands have dimensions",
    "cross_entropy_items": "operands have dimensions",
    "windows_product windows_input windows_weight": "operands are sequences and filters",
}
#: why no sample of a row is empty
NO_ELEMENTS = {
    "norm2_over": "the norm of nothing is 0, its derivative at a kink: tests/ops/test_kinks.py",
    "getitem_view getitem_copy setitem_copy": "slices of length 0 are among the indices",
    "einsum_plain": "einsum has them",
    "batch_norm_batch": "statistics of nothing are refused",
}


def test_every_primitive_meets_nothing_and_a_single_number(rng):
    for row in (row for row in TABLE if row.primitive):
        made = [x for sample in row.make(rng) for x in sample.inputs if x is not None]
        if not any(x.ndim == 0 for x in made) and not any(
            word in row.name for word in ("pool", "region", "conv", "adaptive")
        ):
            assert any(row.name in names.split() for names in NO_POINT), f"{row.name} has no 0-d sample and no reason"
        if not any(x.size == 0 for x in made):
            assert any(row.name in names.split() for names in NO_ELEMENTS), (
                f"{row.name} has no empty sample and no reason"
            )


def test_samples_are_drawn_from_the_generator_alone():
    for row in TABLE:
        one, two = (list(row.make(np.random.default_rng(7))) for _ in range(2))
        for a, b in zip(one, two, strict=True):
            for x, y in zip(a.inputs, b.inputs, strict=True):
                assert x is y is None or np.array_equal(x, y, equal_nan=x.dtype.kind == "f"), row.name
