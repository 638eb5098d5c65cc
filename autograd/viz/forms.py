"""`form_of`: the formulas of one step, in letters for its inputs, as far as they say what it does."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from .program import Step
from .terms import PIECE, decimal

#: what a formula calls its inputs, where it is not by their names
_LETTERS = {
    "matmul_batched": ["X", "Y"],
    "linear_rows": ["x", "W", "b"],
    "linear_act_rows": ["x", "W", "b"],
    "cross_entropy_items": ["x", "t", "w"],
    "where": ["c", "x", "y"],
    "batch_norm_batch": ["x", r"\gamma", r"\beta"],
    "layer_norm_last": ["x", r"\gamma", r"\beta"],
    "group_norm_groups": ["x", r"\gamma", r"\beta"],
    "setitem_copy": ["x", "v"],
    **dict.fromkeys(("take_slices", "gather_along"), ["x", "i"]),
    **dict.fromkeys(("add_slices", "scatter_along"), ["g", "i"]),
}
#: which of its parameters a formula calls by a letter
PARAMS = {
    "clamp_numbers": {"a": "min", "b": "max"},
    "leaky_relu_by": {"a": "negative_slope"},
    "elu_by": {r"\alpha": "alpha"},
    "softplus_by": {r"\beta": "beta"},
}
#: rules in terms of the result, for results that have a symbol
BY_RESULT = {
    "tanh": r"\bar o\,(1 - y^2)",
    "sigmoid": r"\bar o\,y\,(1 - y)",
    "exp": r"\bar o\,y",
    "sqrt": r"\bar o / (2y)",
}
#: keys of primitives whose own rules call the result y
OF_RESULT = ("softmax_along", "log_softmax_along", "amax_over", "amin_over", "linear_act_rows")
#: reductions and losses, whose rules multiply by a number for each row
BY_ROW = ("logsumexp_over", "norm2_over", "var_over", "std_over", "amax_over", "amin_over", "cross_entropy_items")
_ACTIVATIONS = {
    "tanh": (r"\tanh", "(1 - y^2)"),
    "sigmoid": (r"\sigma", r"y \odot (1 - y)"),
    "relu": (r"\operatorname{relu}", "[y > 0]"),
}


class Form(NamedTuple):
    """The formulas of one step, and what their letters stand for; `rules` by input, None where there is no formula."""

    formula: str
    rules: dict
    letters: dict


def form_of(step: Step) -> Form | None:
    """The formulas of the step in letters for its inputs, None where they do not say all of it."""
    key, primitive = step.primitive.key, step.primitive
    names = _LETTERS.get(key, primitive.inputs)
    rules = {i: rule.formula for i in range(len(names)) if (rule := step.rule_for(i)) is not None}
    said = _SPECIAL[key](step, primitive.formula, rules) if key in _SPECIAL else (primitive.formula, rules)
    if said is None or primitive.variadic:
        return None
    formula, rules = said
    for old, new in _known(step).items():
        formula, rules = formula.replace(old, new), {i: rule.replace(old, new) for i, rule in rules.items()}
    formula = present(step, formula)
    for name, given in zip(names, step.inputs, strict=False):
        if given is not None and name not in PIECE.findall(formula):
            return None
    strange = {i for i, rule in rules.items() if set(re.findall(r"\\bar\s*([a-z])", rule)) - {"o", *names} or not rule}
    said_rules = {i: None if i in strange else rule for i, rule in rules.items()}
    return Form(formula, said_rules, {name: i for i, name in enumerate(names)})


def present(step: Step, formula: str) -> str:
    """A formula of the step without the terms of inputs that were left out."""
    names = _LETTERS.get(step.primitive.key, step.primitive.inputs)
    given = 0 if step.primitive.variadic else len(step.inputs)
    for i, name in enumerate(names):
        if given and (i >= given or step.inputs[i] is None):
            formula = formula.replace(f" + {name}", "")
    return formula


def _matmul(step, formula, rules):
    if any(len(x.shape or (0, 0)) != 1 for x in step.inputs):
        return formula, rules
    return r"X^{\mathsf T} Y", {0: r"\bar o\,Y", 1: r"\bar o\,X"}


def _permute(step, formula, rules):
    if len(step.results[0].shape) == 2:
        return formula, rules
    return r"\operatorname{permute}(x)", {0: r"\operatorname{permute}(\bar o)"}


def _normalised(step, formula, rules):
    rules = {i: rule.replace("y", r"\hat x") for i, rule in rules.items()}
    if step.inputs[1] is None:
        formula, rules[0] = _without_gamma(formula), _without_gamma(rules[0])
    return formula, rules


def _activated(step, formula, rules):
    function, slope = _ACTIVATIONS[step.params["activation"]]
    return formula.replace(r"\phi", function), {i: rule.replace(r"\phi'", slope) for i, rule in rules.items()}


def _cross_entropy(step, formula, rules):
    """With the weight and the mean that the loss has; None for smoothed labels."""
    x, target, weight = step.inputs
    if step.params.get("label_smoothing"):
        return None
    by_class = target.dtype is None or target.dtype.kind in "iu"
    weighted = "" if weight is None else "w_t "
    share = _share(step, x, target, weight) if step.params.get("reduction") == "mean" else ""
    total = r"\sum " if step.params.get("reduction") != "none" else ""
    truth = r"\operatorname{onehot}(t)" if by_class else "t"
    logarithm = r"\ln \operatorname{softmax}(x)"
    spoken = rf"{weighted}{logarithm}_t" if by_class else rf"{weighted}t \odot {logarithm}"
    return f"-{share}{total}{spoken}", {0: rf"{share}{weighted}\bar o\,(\operatorname{{softmax}}(x) - {truth})"}


def _share(step, x, target, weight) -> str:
    """One over the number of items that the mean is taken over, or over the sum of their weights."""
    if weight is not None:
        return r"\tfrac{1}{\sum w_t} "
    rows = math.prod(x.shape) // x.shape[-1 if len(x.shape) == 1 else 1]
    known = target.data.array if target.data is not None else None
    if known is not None and known.dtype.kind in "iu":
        rows = int((known != step.params.get("ignore_index")).sum())
    return rf"\tfrac{{1}}{{{rows}}} " if rows > 1 else ""


#: from (step, formula, rules) of the primitive those that say what this step does
_SPECIAL = {
    "softmax_along": lambda *_: (
        r"\operatorname{softmax}(x)",
        {0: r"y \odot (\bar o - \sum \bar o \odot y)"},
    ),
    "log_softmax_along": lambda *_: (r"\ln \operatorname{softmax}(x)", {0: r"\bar o - e^{y} \odot \sum \bar o"}),
    "logsumexp_over": lambda *_: (r"\ln \sum e^{x}", {0: r"\bar o\,\operatorname{softmax}(x)"}),
    "norm2_over": lambda *_: (r"\lVert x \rVert", {0: r"\bar o\,x / \lVert x \rVert"}),
    "sigmoid": lambda step, formula, rules: (formula.partition(" = ")[0], rules),
    "cross_entropy_items": _cross_entropy,
    "matmul_batched": _matmul,
    "permute_view": _permute,
    "batch_norm_batch": _normalised,
    "layer_norm_last": _normalised,
    "group_norm_groups": _normalised,
    "linear_act_rows": _activated,
}


def _without_gamma(formula: str) -> str:
    return re.sub(r"\\gamma( \\odot |\\,)?", "", formula.replace(r"{\gamma}", "{1}"))


def _known(step) -> dict[str, str]:
    """What the formula leaves open and the step's parameters say."""
    key, params = step.primitive.key, step.params
    if key in ("var_over", "std_over"):
        count = str(times_fewer(step) - params.get("correction", 1))
        return {"(n - c)": count, "n - c": count}
    if key == "mean_over":
        return {r"\tfrac1n": rf"\tfrac{{1}}{{{times_fewer(step)}}}"}
    if key == "dropped":
        return {"1 - p": decimal(1 - params["p"])}
    if key.startswith(("getitem", "setitem")):
        text = _index_text(params["index"])
        return {"x[i]": f"x[{text}]", r"\bar o[i]": rf"\bar o[{text}]", r"\text{ at } i": rf"\text{{ at }} [{text}]"}
    return {}


def _index_text(index) -> str:
    parts, letters = [], iter("ijklmn")
    for one in index if isinstance(index, tuple) else (index,):
        if isinstance(one, slice):
            ends = ["" if end is None else str(end) for end in (one.start, one.stop, one.step)]
            parts.append(":".join(ends if ends[2] else ends[:2]))
        elif isinstance(one, int):
            parts.append(str(one))
        else:
            parts.append(r"\cdot" if one is None else r"\dots" if one is ... else next(letters, "n"))
    return ", ".join(parts)


def times_fewer(step) -> int:
    """How many elements went into one of the result's."""
    return math.prod(step.inputs[0].shape) // max(1, math.prod(step.results[0].shape))
