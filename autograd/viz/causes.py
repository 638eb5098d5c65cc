"""Why an operation gave what it gave: tables by operation, read by `why`.

Each entry answers with (cause, what happened, fix), in words for people; the cause is a few words long.
"""

from __future__ import annotations

import numpy as np

from .snapshot import number

# ---- no gradient: where a tensor leaves the graph --------------------------------------------------------------------

_CUTS = {
    "detach": (
        "cut by detach",
        "detach() hands over the values and leaves the history behind, so no gradient comes back through it",
        "drop the detach() (or .data), or keep the detached copy out of the loss",
    ),
    "arg": (
        "cut by {how}",
        "{how} gives positions, which jump instead of changing smoothly: it has no derivative",
        "use what changes smoothly: softmax weights instead of the position, or the loss on the scores themselves",
    ),
    "int": (
        "cut by an integer dtype",
        "{how} rounds to whole numbers, which have no derivative",
        "stay in a floating dtype until the loss, e.g. .float() in place of .long()",
    ),
    "bool": (
        "cut by a truth value",
        "{how} keeps only true or false, which has no derivative",
        "keep the numbers for the loss, and use the truth values only to choose",
    ),
    "python": (
        "cut by {how}()",
        "{how}() gives plain Python numbers, which know no history",
        "keep the tensor for what the loss needs; take {how}() only for what is printed or logged",
    ),
    "copy": (
        "cut by cr.tensor",
        "cr.tensor() copies the values into a new leaf without history",
        "use the tensor itself (cr.stack or cr.cat joins several)",
    ),
}


_WAYS = {
    **dict.fromkeys(("item", "tolist", "float", "int", "bool", "index"), "python"),
    **dict.fromkeys(("argmax", "argmin", "argsort"), "arg"),
    "cr.tensor": "copy",
    "to(bool)": "bool",
    "detach": "detach",
}


def cut_cause(how: str) -> tuple:
    """Why values that left the graph by `how` carry no gradient: to(…) an integer dtype, if by no other way."""
    return tuple(part.format(how=how) for part in _CUTS[_WAYS.get(how, "int")])


def unrecorded_cause(step) -> tuple:
    """Why a step of live inputs recorded nothing."""
    if not step.primitive.recorded:
        return (
            f"cut by {step.name}",
            f"{step.name} has no derivative, so nothing is recorded through it",
            "keep the numbers for the loss, and use the result only to choose, e.g. in cr.where",
        )
    return (
        "cut by no_grad",
        f"{step.name} ran while recording was off (no_grad, inference_mode or set_grad_enabled(False))",
        "compute what the loss needs outside of the no_grad block",
    )


# ---- zero: how a gradient that arrived was lost ----------------------------------------------------------------------


def zero_cause(step, i, say) -> tuple:
    """Why the step passes nothing on to its input `i` of a gradient that arrives; `say(value)` names a value."""
    return _ZERO.get(acting(step), _flat)(step, i, say)


def kills(step, i) -> bool | None:
    """Whether, by its values, the step passes no gradient at all to its input `i`; None where they do not tell."""
    out, name = _array(step.results[0]), acting(step)
    if name in ("multiply", "matmul", "linear", "conv2d"):
        others = [_array(x) for j, x in enumerate(step.inputs[:2]) if j != i]
        return None if not others or others[0] is None else not others[0].any()
    if out is None:
        return None
    if name == "relu":
        return not (out > 0).any()
    if name in ("sigmoid", "tanh"):
        return not (out * (1 - out) if name == "sigmoid" else 1 - out * out).any()
    return None


def acting(step) -> str:
    """The name of the step, or of the activation in a kernel for several operations."""
    inside = step.params.get("activation")
    return inside if isinstance(inside, str) else step.name


def _array(value):
    return value.data.array if value is not None and value.data is not None else None


def units(array) -> tuple:
    """(the array as rows × units, how rows are called): units are channels of pictures, else the last axis."""
    if array.ndim < 2:
        return array.reshape(1, -1), "for the one input"
    axis = 1 if array.ndim > 3 else array.ndim - 1
    rows = np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])
    return rows, f"for all {len(rows)} {'places of all pictures' if array.ndim > 3 else 'inputs of the batch'}"


def _share(part, whole) -> str:
    return f"{part} of {whole} ({part / max(whole, 1):.0%})"


def _dead(step, i, say):
    out, x = _array(step.results[0]), step.inputs[0]
    if out is None:
        told = "every unit that the gradient reached has an input of 0 or less, where relu's slope is 0"
    else:
        rows, whom = units(out)
        dead = int((rows <= 0).all(axis=0).sum())
        peak = f" (the largest is {number(x.data.max)})" if x.data is not None and step.name == "relu" else ""
        told = f"{_share(dead, rows.shape[1])} of its units are dead: {whom} their input is 0 or less{peak}, "
        told += "where relu's slope is 0"
    return (
        "dead ReLU",
        told,
        "move the inputs back above 0: a smaller learning rate, a bias near 0, He initialisation "
        "(cr.nn.init.kaiming_normal_); or leaky_relu, whose slope is never 0",
    )


_ENDS = {
    "sigmoid": ("0 or 1", lambda y: np.minimum(y, 1 - y)),
    "tanh": ("−1 or 1", lambda y: 1 - np.abs(y)),
    "softmax": ("0 or 1", lambda y: np.minimum(y, 1 - y)),
    "erf": ("−1 or 1", lambda y: 1 - np.abs(y)),
}
NEAR = 0.01  # of its end, a sigmoid or tanh counts as saturated


def saturation(step) -> float | None:
    """The share of a sigmoid's or tanh's results that lie near its ends; None for other operations."""
    out = _array(step.results[0])
    if acting(step) not in _ENDS or out is None or not out.size:
        return None
    return float((_ENDS[acting(step)][1](out.astype(np.float64)) < NEAR).mean())


def _saturated(step, i, say):
    share, x, name = saturation(step), step.inputs[0], acting(step)
    among = f", at inputs of {x.data.text}" if x.data is not None and step.name == name else ""
    share = "its results lie" if share is None else f"{share:.0%} of its results lie"
    return (
        f"saturated {name}",
        f"{share} within {NEAR} of {_ENDS[name][0]}{among}, where the slope is 0 to this precision",
        f"make the inputs of {name} smaller: scale the data, start from smaller weights (Xavier initialisation), "
        "normalise before it; or use an activation that does not flatten",
    )


def _masked(step, i, say):
    other = step.inputs[1 - i]
    mask = _array(other)
    if other is not None and (mask is None or (np.asarray(mask) == 0).any()):
        zeros = "" if mask is None else f", {_share(int((mask == 0).sum()), mask.size)} of whose elements are 0"
        if other.live:
            return (
                "multiplied by zeros",
                f"the gradient is multiplied by {say(other)}{zeros}",
                f"start {say(other)} at values other than 0 (cr.nn.init has the usual ones)",
            )
        if mask is not None and (mask.size == 1 or ((mask != 0) & (mask != 1)).any()):  # data, no mask
            return (
                "multiplied by zeros",
                f"the gradient is multiplied by {say(other)}, {'which is 0' if mask.size == 1 else zeros[2:]}",
                f"check how {say(other)} is computed: where it is 0, nothing is learnt",
            )
        return (
            "a mask",
            f"the gradient is multiplied by the mask {say(other)}{zeros}",
            f"check how {say(other)} is computed: what it hides learns nothing",
        )
    return _underflow(step)


def _underflow(step):
    return (
        "underflow",
        f"the product of two small numbers is too small for {step.results[0].dtype}",
        "compute in float32 or float64, or scale the loss (cr.autograd.GradScaler under autocast)",
    )


def _product(step, i, say):
    others = [x for j, x in enumerate(step.inputs[:2]) if j != i and x is not None]
    zero = next((x for x in others if x.data is not None and x.data.size and x.data.min == x.data.max == 0), None)
    if zero is None:
        return _flat(step, i, say)
    return (
        "multiplied by zeros",
        f"the gradient is multiplied by {say(zero)}, all of which is 0",
        f"start {say(zero)} at values other than 0 (cr.nn.init has the usual ones)"
        if zero.live
        else f"check how {say(zero)} is computed",
    )


def _not_taken(step, i, say):
    condition = _array(step.inputs[0])
    taken = ""
    if condition is not None:
        hidden = int((condition if i == 2 else ~condition).sum())
        taken = f": the condition chooses the other branch for {_share(hidden, condition.size)} elements"
    return (
        "a mask",
        f"where passes the gradient only to the branch it takes{taken}",
        f"check the condition {say(step.inputs[0])}: what it hides learns nothing",
    )


def _dropped(step, i, say):
    p = f" (p = {number(step.params['p'])})" if "p" in step.params else ""
    return "a mask", f"dropout{p} put out every element that the gradient reached", "use a smaller p, or larger layers"


def _losers(step, i, say):
    return _lost(step.name)


def _lost(name):
    return (
        "max's losers",
        f"{name} passes the gradient only to the {'smallest' if 'min' in name else 'largest'} element of each choice; "
        "every element here lost, and has no influence on the result",
        "nothing is wrong if that is meant; else let every element count: logsumexp, mean or softmax weights",
    )


def _chosen(step, i, say):
    index = step.inputs[1] if len(step.inputs) > 1 else None
    while index is not None and index.cut is None and index.maker is not None:
        index = index.maker.inputs[0]
    if index is not None and index.cut and index.cut.startswith("arg"):
        return _lost(index.cut.removeprefix("arg"))
    return (
        "not selected",
        f"{step.name} took other elements, so these have no influence on the result",
        "check the index; elements that are never taken never learn",
    )


def _overwritten(step, i, say):
    if i > 0:
        return _chosen(step, i, say)
    return (
        "overwritten",
        "other values were written over every element that the gradient would reach",
        "write into a part of the tensor, or compute a new one, e.g. by cr.where",
    )


def _clamped(step, i, say):
    low, high = step.params.get("min"), step.params.get("max")
    x = step.inputs[0]
    among = f" (inputs: {x.data.text})" if x.data is not None else ""
    return (
        "outside clamp's bounds",
        f"every input that the gradient reached lies outside [{low}, {high}]{among}, where clamp's slope is 0",
        "widen the bounds, or bring the values inside",
    )


def _stairs(step, i, say):
    return (
        "a step function",
        f"{step.name} is flat between its jumps: its derivative is 0 everywhere",
        f"leave {step.name} out of the loss, or let the gradient pass it: x + ({step.name}(x) - x).detach()",
    )


def _flat(step, i, say):
    formula = next((rule.formula for rule in (step.rule_for(i),) if rule), "")
    return (
        f"the slope of {step.name} is 0",
        f"the derivative of {step.name}{f' ({formula})' if formula else ''} is 0 at these values",
        "look at the values on the way: a minimum, or a flat piece of the function",
    )


_ZERO = {
    "relu": _dead,
    **dict.fromkeys(_ENDS, _saturated),
    "multiply": _masked,
    **dict.fromkeys(("matmul", "linear", "conv2d", "einsum"), _product),
    "where": _not_taken,
    "dropout": _dropped,
    **dict.fromkeys(("amax", "amin", "maximum", "minimum", "max_pool2d", "adaptive_max_pool2d", "conv1d_max"), _losers),
    **dict.fromkeys(("gather", "getitem", "index_select", "split", "unbind", "tril", "triu"), _chosen),
    "setitem": _overwritten,
    "clamp": _clamped,
    **dict.fromkeys(("sign", "floor", "ceil", "round", "trunc"), _stairs),
}
#: operations that hand the whole gradient on, part by part: none of it is lost there
PASSING = frozenset(("stack", "cat", "pad", "reshape", "permute", "flip", "expand", "split", "unbind"))
#: operations that pick or join parts, whose gradients' norms are those of other parts too
ROUTING = PASSING | {"getitem", "gather", "index_select", "setitem", "where", "scatter_add", "index_add", "spread_at"}
SUSPECTS = {"zero": frozenset(_ZERO) - {"multiply", "matmul", "linear", "conv2d", "einsum", "getitem", "split"}}


# ---- NaN and infinity ------------------------------------------------------------------------------------------------


def where_bad(step, out) -> tuple:
    """(index, inputs) at the first element of the array `out` that is not finite, NaN before infinity.

    The inputs are numbers where the operation is elementwise and they are known, else None.
    """
    odd = np.isnan(out) if np.isnan(out).any() else ~np.isfinite(out)
    index = tuple(int(n) for n in np.argwhere(odd)[0])
    values: list = []
    for x in step.inputs:
        array = _array(x)
        if array is None or not step.primitive.elementwise:
            values.append(None)
            continue
        try:
            values.append(np.broadcast_to(array, out.shape)[index].item())
        except ValueError:  # the gradient of a broadcast input, which has its shape
            values.append(None)
    return index, values


def bad_cause(step, seen) -> tuple:
    """Why the step's result, of which the snapshot is `seen`, is NaN or infinite."""
    index, values = where_bad(step, seen.array) if seen.array is not None else ((), [None] * len(step.inputs))
    at = f"at index {index}, " if index else ""
    cause, told, fix = _BAD.get(step.name, _overflow)(step, values, seen)
    return cause, at + told, fix


def _logarithm(step, values, seen):
    x, border = values[0], "−1" if step.name == "log1p" else "0"
    return (
        f"{step.name} at its border",
        f"{step.name} of {f'{border} or less' if x is None else number(x)} (the logarithm ends at {border}: it is −∞ "
        "there and NaN below)",
        "keep the argument above it: x.clamp(min=1e-12); of probabilities take log_softmax, logsigmoid or a loss "
        "that takes the scores (cross_entropy)",
    )


def _root(step, values, seen):
    return (
        "sqrt at its border",
        f"sqrt of {'a negative number' if values[0] is None else number(values[0])} (there is no real root below 0)",
        "keep the argument at 0 or above: x.clamp(min=0); a variance is best taken by cr.var, which is never negative",
    )


def _division(step, values, seen):
    top, below = (1.0, values[0]) if step.name == "reciprocal" else values[:2]
    if below not in (None, 0):
        return _overflow(step, values, seen)
    return (
        "division by 0",
        f"{'a number' if top is None else number(top)} divided by 0",
        "keep the divisor away from 0: y + 1e-8, or y.clamp(min=1e-8)",
    )


def _times(step, values, seen):
    if None not in values and 0 in values and any(np.isinf(v) for v in values):
        return (
            "0 · ∞",
            f"{number(values[0])} times {number(values[1])} has no value",
            "keep the infinity away: choose by cr.where instead of multiplying by 0, or bound the large factor",
        )
    return _overflow(step, values, seen)


def _difference(step, values, seen):
    if None not in values and all(np.isinf(v) for v in values):
        return (
            "∞ − ∞",
            f"{step.name} of {number(values[0])} and {number(values[1])} has no value",
            "keep the infinities away from each other: use large finite numbers, or logsumexp and logaddexp",
        )
    return _overflow(step, values, seen)


def _power(step, values, seen):
    x, y = values
    if x is not None and y is not None and (x < 0 or (x == 0 and y < 0)):
        return (
            "power at its border",
            f"{number(x)} to the power {number(y)}"
            + (" is a division by 0" if x == 0 else " has no real value: the exponent is no whole number"),
            "keep the base above 0: x.clamp(min=1e-8), or x.abs()",
        )
    return _overflow(step, values, seen)


def _domain(step, values, seen):
    x = values[0]
    return (
        f"{step.name} at its border",
        f"{step.name} of {number(x) if x is not None else 'a number outside its domain'}",
        "keep the argument inside the domain by clamp, a little away from its ends",
    )


def _softmax(step, values, seen):
    return (
        "a row of nothing but −∞",
        f"{step.name} of a row in which every score is −∞ (all masked) or one is +∞ has no value",
        "leave one place of each row unmasked, or mask by a large negative number such as −1e9",
    )


def _overflow(step, values, seen):
    given = [x for x in step.inputs if x is not None and x.data is not None]
    bad = [x for x in given if x.data.nans or x.data.infs]
    known = ", ".join(number(v) for v in values if v is not None) or " and ".join(x.data.text for x in given[:2])
    if bad:
        return (
            "infinities that meet",
            f"{step.name} of {known} has no value: infinities cancel or meet 0 in it",
            "keep the inputs finite: look at where the infinity comes from",
        )
    dtype = step.results[0].dtype
    if any(not x.data.size for x in given):
        return "nothing to average", f"{step.name} of an empty tensor", "skip empty batches"
    if seen.nans:
        return f"{step.name} has no value there", f"{step.name} of {known}", "keep the inputs inside its domain"
    limit = f", {number(float(np.finfo(dtype).max))}" if dtype is not None and dtype.kind == "f" else ""
    return (
        f"{step.name} overflows",
        f"{step.name} of {known} is larger than the largest number of {dtype}{limit}",
        "keep the inputs small (normalise, clip), or use a form that does not overflow: logsumexp, log_softmax, "
        "logsigmoid; float64 reaches farther",
    )


_BAD = {
    **dict.fromkeys(("log", "log2", "log10", "log1p"), _logarithm),
    "sqrt": _root,
    **dict.fromkeys(("divide", "reciprocal"), _division),
    "multiply": _times,
    **dict.fromkeys(("add", "subtract"), _difference),
    "power": _power,
    **dict.fromkeys(("arcsin", "arccos", "arccosh", "arctanh"), _domain),
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
}
SUSPECTS["bad"] = frozenset(_BAD) - {"add", "subtract", "multiply"} | {"exp", "exp2", "expm1", "where", "std", "norm"}


def bad_slope_cause(step, i, arrived, gift) -> tuple:
    """Why the gradient that the step gave to its input `i` is not finite, though what arrived was."""
    index, values = where_bad(step, gift.array) if gift.array is not None else ((), [None] * len(step.inputs))
    at, name = f"at index {index}, " if index else "", step.name
    came, made = (_element(known, index, gift.shape) for known in (arrived, step.results[0].data))
    x = "the end of its domain" if values[i] is None else number(values[i])
    if made is not None and np.isnan(made):
        told = f"{at}{name} of {x} is NaN, and so is its slope: 0 · NaN is NaN"
        return f"{name} at its border", told, _SLOPES.get(name, "keep the argument inside the domain")
    if came == 0:
        told = f"{at}a gradient of 0 meets the infinite slope of {name} at {x}: 0 · ∞ is NaN"
        return "0 · ∞ in backward", told, _SLOPES.get(name, "keep the argument away from that point")
    if name in _STEEP and (values[i] is None or abs(values[i]) in _STEEP[name]):
        told = f"{at}the slope of {name} at {x} is infinite"
        return f"infinite slope of {name}", told, _SLOPES.get(name, "keep the argument away from that point")
    told = f"{at}the derivative of {name} is not finite: the product is larger than the largest {gift.dtype}"
    return f"the gradient of {name} overflows", told, "scale down what it is computed from, or clip gradients"


def _element(snapshot, index, shape):
    """The value at the index, None if it is not known or the snapshot's shape is another one."""
    array = snapshot.array if snapshot is not None else None
    return array[index].item() if array is not None and array.shape == shape else None


#: operation: the arguments (without sign) at which its slope is infinite
_STEEP = {
    **dict.fromkeys(("log", "log2", "log10", "sqrt", "power", "reciprocal", "divide"), (0,)),
    **dict.fromkeys(("log1p", "arcsin", "arccos", "arctanh", "arccosh"), (1,)),
}
_SLOPES = {
    "sqrt": "add a little inside the root: cr.sqrt(x + 1e-12)",
    "power": "add a little to the base: (x + 1e-12) ** p",
    "divide": "keep the divisor away from 0: y + 1e-8",
    "log": "keep the argument above 0: x.clamp(min=1e-12)",
}


def branch_cause(step, choice, inner) -> tuple:
    """`inner` (a cause) happened in a branch that the where `choice` does not take."""
    return (
        "where with NaN in the branch not taken",
        f"{inner[1]}; the value is hidden by where ({choice.place.expression}), the slope is not",
        "guard the argument as well: "
        f"cr.where(ok, {step.name}(cr.where(ok, x, 1.0)), other), so that {step.name} never sees the bad x",
    )
