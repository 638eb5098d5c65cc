"""Losses: PyTorch's names and arguments. reduction: "mean", "sum" or "none"."""

from __future__ import annotations

import math

import numpy as np

from ...kernels import for_array
from ..primitive import primitive
from ..state import state
from ..tensor import is_floating, may_look, result
from .convert import operand
from .elementwise import absolute, exp, log, maximum, sigmoid, sign, softplus, where
from .reductions import log_softmax, mean, sum
from .shape import reshape, unsqueeze


def _reduced(loss, reduction, count=None):
    _check_reduction(reduction)
    if reduction == "none":
        return loss
    if reduction == "sum":
        return sum(loss)
    return mean(loss) if count is None else sum(loss) / count


def _check_reduction(reduction):
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"received reduction={reduction!r}; it can be 'mean', 'sum' or 'none'")


def _alike(who, input, target):
    target = operand(target)
    if input.shape != target.shape:
        raise ValueError(
            f"{who}: the input has shape {input.shape} and the target {target.shape}; they must be equal, lest "
            "the loss "
            "broadcast unseen; reshape one of them"
        )
    return target


@primitive(elementwise=True, floating=True, direct=True, formula=r"(x - y)^2", flops=2)
def squared_error(k, x, y):
    """The square of the difference, of each pair of elements."""
    return k.squared_error(x, y)


@squared_error.vjp("x", formula=r"2\bar o\,(x - y)")
def squared_error_dx(g, x, y):
    return g * ((x - y) * 2)


@squared_error.vjp("y", formula=r"-2\bar o\,(x - y)")
def squared_error_dy(g, x, y):
    return g * ((y - x) * 2)


@squared_error.fused_vjp("x", "y")
def squared_error_fused(k, g, x, y, *, live):
    return _opposite(k.squared_error_backward(g, x, y), live)


def _opposite(d, live):
    """The gradients of a function of x - y."""
    return d if live[0] else None, -d if live[1] else None


def mse_loss(input, target, reduction: str = "mean"):
    """The squared error (x − y)² of each element.

    >>> cr.mse_loss(cr.tensor([1.0, 3.0]), cr.tensor([0.0, 0.0])).item()
    5.0
    """
    return _reduced(squared_error(input, _alike("mse_loss", input, target)), reduction)


def l1_loss(input, target, reduction: str = "mean"):
    """The absolute error |x − y| of each element.

    >>> cr.l1_loss(cr.tensor([1.0, -3.0]), cr.tensor([0.0, 0.0])).item()
    2.0
    """
    return _reduced(absolute(input - _alike("l1_loss", input, target)), reduction)


@primitive(
    name="smooth_l1", elementwise=True, floating=True,
    formula=r"|x - y| < \beta\;?\;\tfrac{1}{2\beta}(x - y)^2 : |x - y| - \tfrac\beta2", flops=5,
)  # fmt: skip
def smooth_l1_items(k, x, y, *, beta):
    return k.smooth_l1(x, y, beta=beta)


@smooth_l1_items.vjp("x", formula=r"|x - y| < \beta\;?\;\bar o\,(x - y) / \beta : \bar o\,\operatorname{sign}(x - y)")
def smooth_l1_items_dx(g, x, y, *, beta):
    d = x - y
    return g * where(absolute(d) < beta, d * (1 / beta), sign(d))


@smooth_l1_items.vjp("y", formula=r"|x - y| < \beta\;?\;\bar o\,(y - x) / \beta : \bar o\,\operatorname{sign}(y - x)")
def smooth_l1_items_dy(g, x, y, *, beta):
    return smooth_l1_items_dx(g, y, x, beta=beta)


@smooth_l1_items.fused_vjp("x", "y")
def smooth_l1_items_fused(k, g, x, y, *, beta, live):
    return _opposite(k.smooth_l1_backward(g, x, y, beta=beta), live)


def smooth_l1_loss(input, target, reduction: str = "mean", beta: float = 1.0):
    """(x − y)²/(2β) where |x − y| < β, else |x − y| − β/2 (Girshick 2015).

    >>> cr.smooth_l1_loss(cr.tensor([0.5, 3.0]), cr.tensor([0.0, 0.0])).item()
    1.3125
    """
    target = _alike("smooth_l1_loss", input, target)
    if beta == 0:
        return _reduced(absolute(input - target), reduction)
    return _reduced(smooth_l1_items(input, target, beta=beta), reduction)


def huber_loss(input, target, reduction: str = "mean", delta: float = 1.0):
    """½(x − y)² where |x − y| ≤ δ, else δ(|x − y| − δ/2) (Huber 1964).

    >>> cr.huber_loss(cr.tensor([0.5, 3.0]), cr.tensor([0.0, 0.0])).item()
    1.3125
    """
    return smooth_l1_loss(input, target, reduction, delta) * delta


# ---- classification --------------------------------------------------------------------------------------------------


@primitive(
    name="cross_entropy",
    scratch=True,
    constant=("target", "weight"),
    formula=r"-w_t \ln \operatorname{softmax}(x)_t",
    flops=lambda logits, *rest, out, **how: 14 * math.prod(logits),
)
def cross_entropy_items(k, logits, target, weight=None, *, with_gradient, **how):
    """The loss of each item, or of all by `reduction`; the scratch is [the gradient of the logits], or nothing.

    with_gradient: write the gradient for an incoming one of 1 while the logits are at hand. Without a reduction each
    item has an incoming one of its own, and in float16 the share 1 / N could vanish before a loss scale multiplies it:
    then the gradient is computed later, from the logits.
    """
    ahead = with_gradient and how["reduction"] != "none" and logits.dtype != np.float16
    loss, gradient = k.cross_entropy(logits, target, weight, **how, with_gradient=ahead)
    return loss, [gradient] if ahead else []


@cross_entropy_items.vjp("logits", formula=r"w_t\,\bar o\,(\operatorname{softmax}(x) - \operatorname{onehot}(t))")
def cross_entropy_items_dlogits(g, logits, target, weight, *, ignore_index, label_smoothing, reduction, **_):
    probability = exp(log_softmax(logits, 1))
    k = for_array(target)
    classes = k.arange(logits.shape[1]).reshape(1, -1, *(1,) * (logits.ndim - 2))
    counted = k.expand_dims(target != ignore_index, 1)
    hit = k.expand_dims(target, 1) == classes
    share = k.ones(logits.shape[1], logits.dtype) if weight is None else weight
    share = share.reshape(classes.shape)
    if reduction == "mean":
        g = g / (hit * share * counted).sum(dtype=logits.dtype)
    smooth = logits.dtype.type(label_smoothing)
    wanted = (hit * share * (1 - smooth) + share * (smooth / logits.shape[1])) * counted
    wanted = wanted.astype(logits.dtype)
    total = wanted.sum(axis=1, keepdims=True)
    slope = unsqueeze(g, 1) if reduction == "none" else g
    return where(counted, slope * (probability * total - wanted), 0)


@cross_entropy_items.fused_vjp("logits")
def cross_entropy_items_fused(k, g, logits, target, weight, scratch, *, with_gradient, **how):
    if scratch:  # the first backward pass takes the gradient away, and may change it; a second computes its own
        return k.multiply_(scratch.pop(), g).astype(logits.dtype, copy=False)
    return k.cross_entropy_backward(g, logits, target, weight, **how)


def _classes_first(who, input):
    """(N, C, …) from (C,) or (N, C, …)."""
    if not input.ndim:
        raise ValueError(f"{who}: received a 0-d input; it must be (C,) or (N, C, …)")
    return reshape(input, (1, -1)) if input.ndim == 1 else input


def cross_entropy(
    input, target, weight=None, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
):
    """−ln softmax(x)_t: the negative log-probability of the target class, from unnormalised scores (logits).

    Shapes: input (C,) or (N, C, …); target class numbers (), (N, …), or probabilities of the input's shape. weight (C,)
    scales the classes, and "mean" divides by the sum of the targets' weights; targets equal to ignore_index count
    nothing; label_smoothing ε mixes the target with ε/C everywhere.

    Errors: ValueError for shapes that do not match, IndexError for a class outside [0, C).

    >>> cr.cross_entropy(cr.zeros(2, 4), cr.tensor([1, 3])).item()
    1.3862943649291992
    """
    target = operand(target)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: received label_smoothing={label_smoothing}; it lies in [0, 1]")
    scores = _classes_first("cross_entropy", input)
    weight = _class_weight("cross_entropy", weight, scores)
    if is_floating(target.dtype):
        return _cross_entropy_soft(input, scores, target, weight, reduction, label_smoothing)
    _check_reduction(reduction)
    target = _class_target("cross_entropy", input, scores, target)
    if scores.device != "cpu":  # on the CPU the kernel looks
        _check_classes("cross_entropy", input, scores, target, ignore_index)
    loss = cross_entropy_items(
        scores,
        target,
        weight,
        ignore_index=int(ignore_index),
        label_smoothing=float(label_smoothing),
        reduction=reduction,
        with_gradient=scores._live and state.get().record,
    )
    return reshape(loss, ()) if input.ndim == 1 and reduction == "none" else loss


def _class_weight(who, weight, scores):
    if weight is None:
        return None
    weight = operand(weight)
    if weight.shape != (scores.shape[1],):
        raise ValueError(
            f"{who}: the weight has shape {weight.shape}; it must be ({scores.shape[1]},), one for each class"
        )
    return weight.detach().to(scores.dtype)


def _class_target(who, input, scores, target):
    wanted = scores.shape[:1] + scores.shape[2:]
    if target.shape != (wanted if input.ndim > 1 else ()):
        raise ValueError(
            f"{who}: the input has shape {input.shape}, so class numbers must have shape "
            f"{wanted if input.ndim > 1 else ()}, and probabilities that of the input; received {target.shape}"
        )
    if target.dtype.kind == "b":
        raise TypeError(f"{who}: received a bool target; class numbers are integers; convert it with .long()")
    return target if target.shape == wanted else result(target.array.reshape(wanted))


def _check_classes(who, input, scores, target, ignore_index):
    array = target.array
    known = array[array != ignore_index] if may_look(array) else array[:0]
    if known.size and (known.min() < 0 or known.max() >= scores.shape[1]):
        worst = int(known.min()) if known.min() < 0 else int(known.max())
        raise IndexError(
            f"{who}: target class {worst} is outside the {scores.shape[1]} classes of the input of shape "
            f"{input.shape}; "
            f"classes go from 0 to {scores.shape[1] - 1}"
        )


def _weight_of(target, weight, ignore_index, dtype):
    """What a mean divides by: the number, or the total weight, of the targets that count; a tensor on a GPU."""
    counted = target != ignore_index
    if weight is not None:
        counted = np.where(counted, weight.array[np.where(counted, target, 0)], 0)
    total = counted.sum(dtype=np.float64)
    if isinstance(total, np.generic):
        return float(total) if total or weight is not None else float("nan")
    return result(total.astype(dtype))


def _cross_entropy_soft(input, scores, target, weight, reduction, label_smoothing):
    if target.shape != input.shape:
        raise ValueError(
            f"cross_entropy: probabilities of shape {target.shape} were given for an input of shape "
            f"{input.shape}; they must "
            "be equal; class numbers are integers"
        )
    target = reshape(target, scores.shape)
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / scores.shape[1]
    terms = log_softmax(scores, 1) * target
    if weight is not None:
        terms = terms * reshape(weight, (1, -1) + (1,) * (scores.ndim - 2))
    loss = -sum(terms, 1)
    loss = reshape(loss, ()) if input.ndim == 1 and reduction == "none" else loss
    return _reduced(loss, reduction, loss.numel() if reduction == "mean" else None)


def nll_loss(input, target, weight=None, ignore_index: int = -100, reduction: str = "mean"):
    """−x_t: the negative of the target class's entry, for inputs that are log-probabilities. Shapes as `cross_entropy`.

    >>> cr.nll_loss(cr.log_softmax(cr.zeros(2, 4), 1), cr.tensor([1, 3])).item()
    1.3862943649291992
    """
    from .indexing import gather

    target = operand(target)
    scores = _classes_first("nll_loss", input)
    weight = _class_weight("nll_loss", weight, scores)
    target = _class_target("nll_loss", input, scores, target)
    _check_classes("nll_loss", input, scores, target, ignore_index)
    counted = target.array != ignore_index
    place = np.where(counted, target.array, 0)
    loss = -reshape(gather(scores, 1, result(np.expand_dims(place, 1))), place.shape)
    if weight is not None:
        loss = loss * result(weight.array[place])
    loss = where(result(counted), loss, 0)
    loss = reshape(loss, ()) if input.ndim == 1 and reduction == "none" else loss
    return _reduced(loss, reduction, _weight_of(target.array, weight, ignore_index, scores.dtype))


def kl_div(input, target, reduction: str = "mean", log_target: bool = False):
    """t (ln t − x), the divergence of probabilities t from those whose logarithms x are; 0 where t is.

    reduction: "batchmean" too, the sum over the number of items, which is the divergence by definition; "mean" divides
    by the number of elements, as in PyTorch. log_target: the target holds logarithms.

    >>> cr.kl_div(cr.log_softmax(cr.zeros(1, 2), 1), cr.tensor([[1.0, 0.0]]), reduction="batchmean").item()
    0.6931471824645996
    """
    target = _alike("kl_div", input, target)
    if log_target:
        loss = exp(target) * (target - input)
    else:
        there = target.detach() > 0
        loss = where(there, target * log(where(there, target, 1)), 0) - target * input
    if reduction == "batchmean":
        return sum(loss) / input.shape[0]
    return _reduced(loss, reduction)


# ---- binary ----------------------------------------------------------------------------------------------------------


@primitive(elementwise=True, floating=True, formula=r"\max(\ln x, -100)", flops=8)
def bounded_log(k, x):
    with np.errstate(divide="ignore"):
        return k.maximum(k.log(x), -100)


@bounded_log.vjp("x", formula=r"\bar o / \max(x, 10^{-12})")
def bounded_log_dx(g, x):
    """Large but finite at 0: a probability that underflowed can still be corrected."""
    return g / maximum(x, float(np.finfo(np.float16).tiny) if x.dtype == np.float16 else 1e-12)


def binary_cross_entropy(input, target, weight=None, reduction: str = "mean"):
    """−(t ln p + (1 − t) ln(1 − p)) of probabilities p; the logarithms are not taken below −100, as in PyTorch.

    >>> cr.binary_cross_entropy(cr.tensor([0.5]), cr.tensor([1.0])).item()
    0.6931471824645996
    """
    target = _alike("binary_cross_entropy", input, target)
    if may_look(input.array) and input.array.size and not (input.array.min() >= 0 and input.array.max() <= 1):
        raise ValueError(
            f"binary_cross_entropy: the input holds {input.array.min()} to {input.array.max()}; probabilities "
            "lie in [0, 1]; "
            "use binary_cross_entropy_with_logits for scores"
        )
    loss = -(target * bounded_log(input) + (1 - target) * bounded_log(1 - input))
    return _reduced(loss if weight is None else loss * weight, reduction)


@primitive(
    name="binary_cross_entropy", elementwise=True, floating=True, formula=r"(1 - t) x + \ln(1 + e^{-x})", flops=20
)
def binary_cross_entropy_items(k, x, t):
    return k.binary_cross_entropy(x, t)


@binary_cross_entropy_items.vjp("x", formula=r"\bar o\,(\sigma(x) - t)")
def binary_cross_entropy_items_dx(g, x, t):
    return g * (sigmoid(x) - t)


@binary_cross_entropy_items.vjp("t", formula=r"-\bar o\,x")
def binary_cross_entropy_items_dt(g, x):
    return -g * x


@binary_cross_entropy_items.fused_vjp("x", "t")
def binary_cross_entropy_items_fused(k, g, x, t, *, live):
    return k.binary_cross_entropy_backward(g, x, t) if live[0] else None, -g * x if live[1] else None


def binary_cross_entropy_with_logits(input, target, weight=None, reduction: str = "mean", pos_weight=None):
    """Binary cross-entropy of σ(x), without overflow: (1 − t)x + (1 + (w⁺ − 1)t) ln(1 + e^{−x}).

    >>> cr.binary_cross_entropy_with_logits(cr.tensor([0.0]), cr.tensor([1.0])).item()
    0.6931471824645996
    """
    target = _alike("binary_cross_entropy_with_logits", input, target)
    if pos_weight is None:
        loss = binary_cross_entropy_items(input, target)
    else:
        loss = (1 - target) * input + (1 + (pos_weight - 1) * target) * softplus(-input, threshold=float("inf"))
    return _reduced(loss if weight is None else loss * weight, reduction)
