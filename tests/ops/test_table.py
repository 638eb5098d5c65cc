"""Every generic check of every row of the table of ops."""

import inspect
from functools import partial

import pytest
from ops import generic
from ops.table import TABLE

import chainrule as cr
from chainrule.autograd import REGISTRY

HOUSE = {name: p for name, p in REGISTRY.items() if p.__module__.startswith("chainrule.autograd.ops.")}
CHECKS = ["forward", "float32", "float16", "derivative", "fused", "partial", "aliased", "layouts", "unshared"]
UNSHAPED = {"rsqrt"}


def differentiable(row):
    return "derivative" not in row.without


def rows(check, among=TABLE):
    """The rows to which a check applies; those that state a reason against it are skipped with that reason."""
    for row in among:
        reason = row.without.get(check)
        yield pytest.param(row, id=row.name, marks=[pytest.mark.skip(reason=reason)] if reason else [])


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_row(row, check, rng):
    if check in row.without:
        (generic.no_derivative if check == "derivative" else applies_not)(row, rng)
    else:
        getattr(generic, check)(row, rng)


def applies_not(row, rng):
    pytest.skip("")


@pytest.mark.parametrize("row", [row for row in TABLE if row.arity], ids=lambda row: row.name)
def test_broadcasting(row, rng):
    generic.broadcasting(row, rng)


@pytest.mark.parametrize("row", [row for row in TABLE if row.primitive], ids=lambda row: row.name)
def test_description(row, rng):
    generic.described(row, rng)
