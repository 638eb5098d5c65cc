"""`viz.why` names the fault, the planted line, the path and the fix: one planted fault for each cause."""

import contextlib
import inspect

import numpy as np
import pytest

import chainrule as cr
from chainrule.autograd.viz.scene import in_line

f64 = cr.float64


def leaf(*values):
    return cr.tensor(list(values), dtype=f64, requires_grad=True)


# ---- the planted faults: each returns (what why is asked about, the loss); its planted line ends in "# planted" ------


def not_a_leaf():
    w = cr.ones(3, requires_grad=True) * 0.1  # planted
    loss = (w * w).sum()
    loss.backward()
    return w, loss


def no_path_to_the_loss():
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    hidden = v * 2
    unused = w * 3  # planted
    loss = (hidden * hidden).sum()
    loss.backward()
    assert unused.requires_grad
    return w, loss


def cut_by_detach():
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    hidden = (w * 3).tanh()
    copy = hidden.detach()  # planted
    loss = (copy * v).sum()
    loss.backward()
    return w, loss


def cut_by_no_grad():
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    with cr.no_grad():
        hidden = w * 3  # planted
    loss = (hidden.tanh() * v).sum()
    loss.backward()
    return w, loss


def cut_by_an_integer_dtype():
    w, v = leaf(1.5, 2.5), leaf(3.0, 4.0)
    hidden = w * 3
    whole = hidden.long()  # planted
    loss = (whole * v).sum()
    loss.backward()
    return w, loss


def cut_by_argmax():
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    scores = w * 3
    best = scores.argmax()  # planted
    loss = (v * best.float()).sum()
    loss.backward()
    return w, loss


def backward_not_run():
    w = leaf(1.0, 2.0)
    hidden = w * 3
    loss = (hidden * hidden).sum()  # planted
    return w, loss


def released():
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    hidden = w * w  # planted
    first = hidden.sum()
    first.backward()
    loss = (hidden * v).sum()
    with pytest.raises(RuntimeError):
        loss.backward()
    return v, loss


def dead_relu():
    x = cr.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=f64)
    w = cr.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=f64, requires_grad=True)
    hidden = x @ w - 10
    out = cr.relu(hidden)  # planted
    loss = ((out - 1) ** 2).mean()
    loss.backward()
    return w, loss


def saturated_sigmoid():
    w = cr.tensor([40.0, -900.0], requires_grad=True)
    shifted = w * 2
    p = cr.sigmoid(shifted)  # planted
    loss = ((p - 0.5) ** 2).sum()
    loss.backward()
    return w, loss


def saturated_tanh():
    w = cr.tensor([40.0, -90.0], requires_grad=True)
    shifted = w * 2
    p = shifted.tanh()  # planted
    loss = ((p - 0.5) ** 2).sum()
    loss.backward()
    return w, loss


def a_mask():
    w, x = leaf(1.0, 2.0, 3.0), cr.tensor([-1.0, -2.0, -3.0], dtype=f64)
    mask = (x > 0).to(f64)
    kept = w * mask  # planted
    loss = (kept + w.detach()).sum()
    loss.backward()
    return w, loss


def max_losers():
    small, large = leaf(1.0, 2.0), leaf(3.0, 4.0)
    both = cr.stack([small * 1, large * 1])
    best = both.amax(0)  # planted
    loss = (best * best).sum()
    loss.backward()
    return small, loss


def log_at_its_border():
    w = leaf(0.5, 0.0)
    p = w * 2
    entropy = p * p.log()  # planted
    loss = -entropy.sum()
    loss.backward()
    return loss, loss


def sqrt_at_its_border():
    w = leaf(2.0, 3.0)
    spread = (w * w).mean() - 8
    deviation = cr.sqrt(spread)  # planted
    loss = deviation * 3
    loss.backward()
    return loss, loss


def division_at_its_border():
    w, counts = leaf(2.0, 0.0), cr.tensor([4.0, 0.0], dtype=f64)
    shifted = w * 3
    mean = shifted / counts  # planted
    loss = mean.sum()
    loss.backward()
    return loss, loss


def where_with_nan_in_the_branch_not_taken():
    w = leaf(4.0, 0.0)
    root = cr.sqrt(w)  # planted
    safe = cr.where(w > 0, root, 0.0)
    loss = safe.sum()
    loss.backward()
    return w, loss


def zero_times_infinity():
    w, weights = leaf(0.0, 1.0), cr.tensor([np.inf, 1.0], dtype=f64)
    hidden = w * 2
    weighted = hidden * weights  # planted
    loss = weighted.sum()
    loss.backward()
    return loss, loss


def exploding():
    h = start = leaf(0.1, 0.2)
    w = cr.tensor([[3.0, 0.0], [0.0, 2.0]], dtype=f64)
    for _ in range(12):
        h = w @ h  # planted
    loss = h.sum()
    loss.backward()
    return start, loss


def vanishing():
    h = start = leaf(3.0, -3.0)
    for _ in range(12):
        scaled = h * 3
        h = scaled.tanh()  # planted
    loss = h.sum()
    loss.backward()
    return start, loss


#: fault: (kind, cause, part of the sentence, part of the fix, the path)
FAULTS = {
    not_a_leaf: ("none", "not a leaf", "w is the result of multiply", "w.retain_grad()", "w"),
    no_path_to_the_loss: (
        *("none", "no path to the loss", "What is computed from it ends at multiply, which loss does not use"),
        *("use unused in the computation of loss", "w → multiply → unused → ✗ → loss"),
    ),
    cut_by_detach: (
        *("none", "cut by detach", "leaves the history behind", "drop the detach()"),
        "w → multiply → tanh → hidden → detach ✗ → loss",
    ),
    cut_by_no_grad: (
        *("none", "cut by no_grad", "multiply ran while recording was off", "outside of the no_grad block"),
        "w → multiply ✗ → loss",
    ),
    cut_by_an_integer_dtype: (
        *("none", "cut by an integer dtype", "to(int64) rounds to whole numbers", "stay in a floating dtype"),
        "w → multiply → hidden → to(int64) ✗ → loss",
    ),
    cut_by_argmax: (
        *("none", "cut by argmax", "argmax gives positions", "softmax weights"),
        "w → multiply → scores → argmax ✗ → loss",
    ),
    backward_not_run: (
        *("none", "backward not run", "w leads to loss", "call loss.backward()"),
        "w → multiply → multiply → sum → loss",
    ),
    released: (
        *("none", "released", "stopped at multiply, whose values were released by the backward pass at"),
        *("retain_graph=True", "w → multiply → sum → loss"),
    ),
    dead_relu: (
        *("zero", "dead ReLU", "2 of 2 (100%) of its units are dead: for all 2 inputs of the batch their input is 0 "),
        *("leaky_relu", "w → matmul → subtract → relu ✗ → subtract → power → mean → loss"),
    ),
    saturated_sigmoid: (
        *("zero", "saturated sigmoid", "100% of its results lie within 0.01 of 0 or 1, at inputs of [80, -1800]"),
        *("smaller weights", "w → multiply → sigmoid ✗ → subtract → power → sum → loss"),
    ),
    saturated_tanh: (
        *("zero", "saturated tanh", "100% of its results lie within 0.01 of −1 or 1, at inputs of [80, -180]"),
        *("smaller weights", "w → multiply → tanh ✗ → subtract → power → sum → loss"),
    ),
    a_mask: (
        *("zero", "a mask", "multiplied by the mask mask, 3 of 3 (100%) of whose elements are 0"),
        *("check how mask is computed", "w → multiply ✗ → add → sum → loss"),
    ),
    max_losers: (
        *("zero", "max's losers", "amax passes the gradient only to the largest element", "logsumexp"),
        "w → multiply → stack → amax ✗ → multiply → sum → loss",
    ),
    log_at_its_border: (
        *("nan", "log at its border", "at index (1,), log of 0 (the logarithm ends at 0", "clamp(min=1e-12)"),
        "p → log ✗ → multiply → sum → negative → loss",
    ),
    sqrt_at_its_border: (
        *("nan", "sqrt at its border", "sqrt of -1.5", "clamp(min=0)", "spread → sqrt ✗ → multiply → loss"),
    ),
    division_at_its_border: (
        *("nan", "division by 0", "at index (1,), 0 divided by 0", "y + 1e-8", "shifted → divide ✗ → sum → loss"),
    ),
    where_with_nan_in_the_branch_not_taken: (
        *("nan", "where with NaN in the branch not taken", "hidden by where (cr.where(w > 0, root, 0.0))"),
        *("cr.where(ok, sqrt(cr.where(ok, x, 1.0)), other)", "w → sqrt ✗ → where → sum → loss"),
    ),
    zero_times_infinity: (
        *("nan", "0 · ∞", "at index (0,), 0 times inf has no value", "instead of multiplying by 0"),
        "hidden → multiply ✗ → sum → loss",
    ),
    exploding: (
        *("exploding", "repeated matmul enlarges it", "grows the most at matmul: by the factor 3.758e5, by 2.915 at "),
        "clip gradients",
        "w → matmul ✗ → matmul × 11 → sum → loss",
    ),
    vanishing: (
        *("vanishing", "repeated saturated tanh", "at each of its 12 uses; 100% of its results lie within 0.01 of an "),
        "near 0",
        "w → multiply → tanh ✗ → multiply → tanh → multiply → … → multiply → tanh → multiply → tanh → sum → loss",
    ),
}


def planted(fault):
    lines, first = inspect.getsourcelines(fault)
    return next(first + n for n, line in enumerate(lines) if line.rstrip().endswith("# planted"))


def asked(fault, recorded=True, give_loss=False):
    """What `why` says of a fault, run under a recording or not; NumPy's own warnings are kept quiet."""
    cr.viz.record.last = None
    with np.errstate(all="ignore"), cr.viz.record() if recorded else contextlib.nullcontext():
        w, loss = fault()
    with np.errstate(all="ignore"):
        if w is loss:
            del w
            return cr.viz.why(loss)
        return cr.viz.why(w, loss) if give_loss else cr.viz.why(w)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_planted_line_is_named(fault):
    found = asked(fault)
    kind, cause, told, fix, path = FAULTS[fault]
    assert (found.place.file, found.place.line) == (__file__, planted(fault))
    assert (found.kind, found.cause) == (kind, cause)
    assert told in found.told and fix in found.fix
    assert (found.step is None) == fault.__name__.startswith(("cut_by_d", "cut_by_a"))
    assert in_line(found.path) == path


# ---- further faults, whose line and cause are named too --------------------------------------------------------------


def python_number():
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    total = (w * 3).sum()
    plain = total.item()  # planted
    loss = (v * plain).sum()
    loss.backward()
    return w, loss


def python_float():
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    plain = float(w[0])  # planted
    loss = (v * plain).sum()
    loss.backward()
    return w, loss


def written_under_no_grad():
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    buffer = cr.zeros(2, dtype=f64)
    with cr.no_grad():
        buffer[...] = w * 3  # planted
    loss = (v * buffer).sum()
    loss.backward()
    return w, loss


def in_inference_mode():
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    with cr.inference_mode():
        hidden = w * 3  # planted
    loss = (v * hidden).sum()
    loss.backward()
    return w, loss


def copied_by_tensor():
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    hidden = w * 3
    again = cr.tensor(hidden)  # planted
    loss = (again * v).sum()
    loss.backward()
    return w, loss


def truth_value():
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    over = w > 1.5  # planted
    loss = (over.to(f64) * v).sum()
    loss.backward()
    return w, loss


def stepped_under_no_grad():
    w = leaf(1.0, 2.0)
    (w * w).sum().backward()
    with cr.no_grad():
        w = w - 0.1 * w.grad  # planted
    return w, None


def the_detached_itself():
    v = leaf(1.0, 2.0)
    w = (v * 2).detach()  # planted
    loss = (w * v).sum()
    loss.backward()
    return w, loss


def requires_none():
    w, v = cr.ones(2), cr.ones(2, requires_grad=True)
    loss = (w * v).sum()  # planted
    loss.backward()
    return w, loss


def integers():
    w, v = cr.tensor([1, 2]), leaf(1.0, 2.0)
    loss = (w * v).sum()  # planted
    loss.backward()
    return w, loss


def never_used():
    w, v = leaf(1.0, 2.0), leaf(1.0, 2.0)
    loss = (v * v).sum()  # planted
    loss.backward()
    return w, loss


def zeroed_too_early():
    w = leaf(1.0, 2.0)
    optimizer = cr.optim.SGD([w], lr=0.1)
    loss = (w * w).sum()
    loss.backward()  # planted
    optimizer.zero_grad()
    return w, loss


def other_inputs():
    w, v = leaf(1.0, 2.0), leaf(1.0, 2.0)
    loss = (w * v).sum()
    loss.backward(inputs=[v])  # planted
    return w, loss


def backward_stopped():
    w = leaf(1.0, 2.0)
    hidden = w * 2
    squared = hidden * hidden  # planted
    loss = squared.sum()
    with cr.no_grad():
        hidden[0] = 5.0
    with pytest.raises(RuntimeError):
        loss.backward()
    return w, loss


def mask_of_where():
    w, x = leaf(1.0, 2.0), cr.tensor([-1.0, -1.0], dtype=f64)
    chosen = cr.where(x > 0, w * 2, x)  # planted
    loss = chosen.sum()
    loss.backward()
    return w, loss


def mask_of_dropout():
    w = leaf(1.0, 2.0)
    cr.manual_seed(0)
    kept = cr.dropout(w * 2, 0.999)  # planted
    loss = kept.sum()
    loss.backward()
    return w, loss


def clamped():
    w = leaf(5.0, -7.0)
    bounded = (w * 2).clamp(-1, 1)  # planted
    loss = (bounded * 3).sum()
    loss.backward()
    return w, loss


def stairs():
    w = leaf(1.2, 2.7)
    steps = (w * 2).round()  # planted
    loss = (steps * 3).sum()
    loss.backward()
    return w, loss


def weights_of_zero():
    w, out = leaf(1.0, 2.0), cr.zeros(2, dtype=f64, requires_grad=True)
    hidden = (w * 2).tanh()
    y = hidden @ out  # planted
    loss = y * 3
    loss.backward()
    return w, loss


def losers_of_max_over_a_dimension():
    w = leaf(1.0, 2.0)
    both = cr.stack([w * 1, w.detach() + 5])
    best, _ = both.max(0)  # planted
    loss = (best * best).sum()
    loss.backward()
    return w, loss


def losers_of_max_pooling():
    w = cr.tensor([[1.0, 2.0]], dtype=f64, requires_grad=True)
    picture = cr.cat([w * 2, cr.tensor([[9.0, 8.0]], dtype=f64)]).reshape(1, 1, 2, 2)
    pooled = cr.max_pool2d(picture, 2)  # planted
    loss = pooled.sum()
    loss.backward()
    return w, loss


def most_rows_of_an_embedding():
    w = cr.ones(50, 4, dtype=f64, requires_grad=True)
    rows = cr.embedding(cr.tensor([3, 7]), w)  # planted
    loss = (rows * rows).sum()
    loss.backward()
    return w, loss


def overwritten():
    w = leaf(1.0, 2.0)
    hidden = w * 3
    hidden[:] = 5.0  # planted
    loss = (hidden * hidden).sum() + (w.detach() * 2).sum()
    loss.backward()
    return w, loss


def underflow():
    w = cr.tensor([1.0], dtype=cr.float16, requires_grad=True)
    small = w * 1e-4  # planted
    smaller = small * 1e-4
    loss = (smaller + 1).sum() * 1e-3
    loss.backward()
    return w, loss


def contributions_that_cancel():
    w = leaf(1.0, 2.0)
    up = w * 3
    nothing = up - w * 3  # planted
    loss = (nothing + 1).sum()
    loss.backward()
    return w, loss


def gradient_of_zeros():
    w = leaf(1.0, 2.0)
    loss = w * 3  # planted
    loss.backward(cr.zeros(2, dtype=f64))
    return w, loss


def a_minimum():
    w = leaf(1.0, 2.0)
    loss = ((w - cr.tensor([1.0, 2.0], dtype=f64)) ** 2).sum()  # planted
    loss.backward()
    return w, loss


def overflow():
    w = leaf(1.0, 1000.0)
    large = cr.exp(w)  # planted
    loss = large.sum()
    loss.backward()
    return loss, loss


def root_of_a_power():
    w = leaf(1.0, -2.0)
    root = w**0.5  # planted
    loss = root.sum()
    loss.backward()
    return loss, loss


def row_of_nothing_but_masked():
    w = cr.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=f64, requires_grad=True)
    mask = cr.tensor([[True, False], [True, True]])
    scores = w.masked_fill(mask, -np.inf)
    weights = scores.softmax(-1)  # planted
    loss = weights.sum()
    loss.backward()
    return loss, loss


def infinities_that_meet():
    w = leaf(1.0, 2.0)
    up, down = w * np.inf, w * np.inf
    loss = (up - down).sum()  # planted
    loss.backward()
    return loss, loss


def missing_data():
    w, x = leaf(1.0, 2.0), cr.tensor([1.0, np.nan], dtype=f64)
    hidden = w * x  # planted
    loss = hidden.sum()
    loss.backward()
    return loss, loss


def slope_of_a_root():
    w = leaf(4.0, 0.0)
    root = cr.sqrt(w * 2)  # planted
    loss = root.sum()
    loss.backward()
    return w, loss


def root_in_the_branch_not_taken():
    w = leaf(4.0, -1.0)
    safe = cr.where(w > 0, w.sqrt(), 0.0)  # planted
    loss = safe.sum()
    loss.backward()
    return w, loss


def gradient_that_overflows():
    w = leaf(1e-200)
    small = w * 1e-200
    large = small * 1e200
    loss = (large * 1e200 * 1e200).sum()  # planted
    loss.backward()
    return w, loss


def log_in_the_branch_not_taken():
    w = leaf(2.0, 0.0)
    loss = cr.where(w > 0, w.log(), w * 2).sum()  # planted
    loss.backward()
    return w, loss


def nan_of_the_loss_reaches_the_leaf():
    w = leaf(2.0, 0.0)
    logs = w.log()  # planted
    loss = (logs * w).sum()
    loss.backward()
    return w, loss


def exploding_in_one_place():
    w = leaf(1.0, 2.0)
    scaled = w * 1e7  # planted
    loss = (scaled + 1).sum()
    loss.backward()
    return w, loss


def vanishing_in_one_place():
    w = leaf(1.0, 2.0)
    scaled = w * 1e-7  # planted
    loss = (scaled + 1).sum()
    loss.backward()
    return w, loss


#: fault: (kind, cause, part of the sentence)
MORE_FAULTS = {
    python_number: ("none", "cut by item()", "plain Python numbers, which know no history. No way from there to loss"),
    python_float: ("none", "cut by float()", "float() gives plain Python numbers"),
    written_under_no_grad: ("none", "cut by no_grad", "multiply ran while recording was off"),
    in_inference_mode: ("none", "cut by no_grad", "inference_mode"),
    copied_by_tensor: ("none", "cut by cr.tensor", "copies the values into a new leaf"),
    truth_value: ("none", "cut by greater", "greater has no derivative"),
    stepped_under_no_grad: ("none", "cut by no_grad", "subtract ran while recording was off"),
    the_detached_itself: ("none", "cut by detach", "leaves the history behind"),
    requires_none: ("none", "requires no gradient", "requires_grad is False"),
    integers: ("none", "an integer dtype", "A tensor of int64 changes in jumps"),
    never_used: ("none", "no path to the loss", "Nothing in the recording uses it"),
    zeroed_too_early: ("none", "cleared", "A gradient of norm 4.472 was seen, and .grad was set back to None"),
    other_inputs: ("none", "other inputs", "backward ran for other inputs"),
    backward_stopped: ("none", "backward stopped", "stopped with an error at multiply, before w was reached"),
    mask_of_where: ("zero", "a mask", "the condition chooses the other branch for 2 of 2 (100%) elements"),
    mask_of_dropout: ("zero", "a mask", "dropout (p = 0.999) put out every element"),
    clamped: ("zero", "outside clamp's bounds", "lies outside [-1, 1] (inputs: [10, -14])"),
    stairs: ("zero", "a step function", "round is flat between its jumps"),
    weights_of_zero: ("zero", "multiplied by zeros", "multiplied by a leaf of shape (2,), all of which is 0"),
    losers_of_max_over_a_dimension: ("zero", "max's losers", "Max passes the gradient only to the largest"),
    losers_of_max_pooling: ("zero", "max's losers", "max_pool2d passes the gradient only to the largest element"),
    most_rows_of_an_embedding: ("zero", "not selected", "zero in 96% of its elements"),
    overwritten: ("zero", "overwritten", "Other values were written over every element"),
    underflow: ("zero", "underflow", "too small for float16"),
    contributions_that_cancel: ("zero", "contributions cancel", "add up to 0"),
    gradient_of_zeros: ("zero", "zero from the start", "what arrived at loss was 0 already"),
    a_minimum: ("zero", "the slope of power is 0", "is 0 at these values"),
    overflow: ("inf", "exp overflows", "at index (1,), exp of 1000 is larger than the largest number of float64"),
    root_of_a_power: ("nan", "power at its border", "-2 to the power 0.5 has no real value"),
    row_of_nothing_but_masked: ("nan", "a row of nothing but −∞", "softmax of a row in which every score is −∞"),
    infinities_that_meet: ("nan", "∞ − ∞", "at index (0,), subtract of inf and inf has no value"),
    missing_data: ("nan", "NaN in the data", "it came in with x, which holds NaN itself in 1 of 2 elements"),
    slope_of_a_root: ("inf", "infinite slope of sqrt", "at index (1,), the slope of sqrt at 0 is infinite"),
    root_in_the_branch_not_taken: (
        *("nan", "where with NaN in the branch not taken", "at index (1,), sqrt of -1 is NaN, and so is its slope"),
    ),
    gradient_that_overflows: ("inf", "the gradient of multiply overflows", "larger than the largest float64"),
    log_in_the_branch_not_taken: (
        *("nan", "where with NaN in the branch not taken", "a gradient of 0 meets the infinite slope of log at 0"),
    ),
    nan_of_the_loss_reaches_the_leaf: ("nan", "log at its border", "w.grad is NaN in 1 of 2 elements, for loss is NaN"),
    exploding_in_one_place: ("exploding", "multiply enlarges it", "its norm is 1.414e7. It grows the most at multiply"),
    vanishing_in_one_place: ("vanishing", "multiply shrinks it", "It shrinks the most at multiply: by the factor 1e-7"),
}


@pytest.mark.parametrize("fault", MORE_FAULTS, ids=lambda fault: fault.__name__)
def test_further_faults_are_named(fault):
    found = asked(fault)
    kind, cause, told = MORE_FAULTS[fault]
    assert (found.place.file, found.place.line) == (__file__, planted(fault))
    assert (found.kind, found.cause) == (kind, cause)
    assert told in found.told


# ---- without a recording ---------------------------------------------------------------------------------------------

RECORDING_TELLS_MORE = "compute it under `with cr.viz.record():` (backward too), and why can name the line"

#: fault: part of the sentence when the loss is given and nothing was recorded
UNRECORDED = {
    not_a_leaf: "not a leaf",
    no_path_to_the_loss: "no path to loss. In the recorded graph of loss, w does not occur",
    cut_by_detach: "it was cut off (detach, no_grad, an integer dtype, argmax)",
    backward_not_run: "backward not run",
    released: "either .grad was set back to None since, or the pass stopped with an error",
    saturated_sigmoid: "100% of its results lie within 0.01 of 0 or 1",
    saturated_tanh: "100% of its results lie within 0.01 of −1 or 1",
    max_losers: "on the way it can happen at: amax (",
    log_at_its_border: "log at its border",  # leaves and numbers are enough to compute the values again
    division_at_its_border: "loss is NaN. The values of the graph were released by backward, or not seen; on the way "
    "it can happen at: divide (",
    dead_relu: "on the way it can happen at: relu (",
    where_with_nan_in_the_branch_not_taken: "it can happen at: sqrt (",
    exploding: "its norm is 5.315e5. Where it came from was not seen",
    python_number: "no path to loss",
    weights_of_zero: "multiplied by a leaf of shape (2,), all of which is 0",
    mask_of_dropout: "were released by backward, or not seen; on the way it can happen at: dropout (",
}


@pytest.mark.parametrize("fault", UNRECORDED, ids=lambda fault: fault.__name__)
def test_without_a_recording_it_says_what_it_can_and_that_one_would_tell_more(fault):
    found = asked(fault, recorded=False, give_loss=True)
    assert UNRECORDED[fault] in found.told
    partly = "not seen" in found.told or "does not occur" in found.told or fault in (released, cut_by_detach)
    assert partly == found.fix.endswith(RECORDING_TELLS_MORE)
    if "does not occur" not in found.told and found.place is not None:
        assert found.place.line == planted(fault)


def test_a_leaf_alone_knows_nothing_of_what_was_computed_from_it():
    found = asked(cut_by_detach, recorded=False)
    assert found.told.startswith("w.grad is None: no backward pass has reached it. A leaf does not know")
    assert found.fix == f"pass the loss, cr.viz.why(w, loss); or {RECORDING_TELLS_MORE}"
    found = asked(dead_relu, recorded=False)
    assert found.fix == f"pass the loss; or {RECORDING_TELLS_MORE}" and found.place is None


def test_a_graph_that_is_still_there_tells_as_much_as_a_recording():
    w = leaf(1.0, -2.0)
    loss = cr.relu(w - 10).sum()
    loss.backward(retain_graph=True)
    found = cr.viz.why(w, loss)
    assert (found.kind, found.cause) == ("zero", "dead ReLU") and found.place.expression == "cr.relu(w - 10)"
    with np.errstate(all="ignore"):
        broken = (w.log() * 2).sum()
    found = cr.viz.why(broken)
    assert found.cause == "log at its border" and "at index (1,), log of -2" in found.told


def test_a_graph_that_backward_would_refuse():
    w = leaf(1.0, 2.0)
    hidden = w * 2
    loss = (hidden * hidden).sum()
    with cr.no_grad():
        hidden[0] = 5.0
    found = cr.viz.why(w, loss)
    assert found.told.startswith("w.grad is None: backward not run, and it could not: multiply: ")
    assert "changed in place" in found.told and found.place.expression == "(hidden * hidden).sum()"


def test_a_kernel_for_several_operations_is_explained_by_its_activation():
    net = cr.nn.Sequential(cr.nn.Linear(2, 3), cr.nn.ReLU(), cr.nn.Linear(3, 1))
    with cr.no_grad():
        net[0].bias[...] = -100.0
    loss = net(cr.ones(4, 2)).sum()
    loss.backward(retain_graph=True)
    found = cr.viz.why(net[0].weight, loss)
    assert found.cause == "dead ReLU" and "3 of 3 (100%) of its units are dead" in found.told


# ---- results on the way, and the loss itself -------------------------------------------------------------------------


def test_a_result_on_the_way_is_explained_by_its_gradient():
    with cr.viz.record():
        w = leaf(-1.0, -2.0)
        hidden = w * 3
        loss = cr.relu(hidden).sum()
        loss.backward()
    assert cr.viz.why(hidden).told.startswith("hidden.grad is zero: dead ReLU")
    with cr.viz.record():
        hidden = w * 3
        (hidden * 2).sum().backward()
    found = cr.viz.why(hidden)
    assert found.cause == "not a leaf" and "Its gradient was seen: norm 2.828" in found.told


def test_a_result_that_keeps_its_gradient_is_searched_for_cuts():
    with cr.viz.record():
        w = leaf(1.0, 2.0)
        hidden = w * 3
        hidden.retain_grad()
        loss = (hidden.detach() * w).sum()
        loss.backward()
    assert cr.viz.why(hidden).cause == "cut by detach"


def test_a_loss_that_requires_no_gradient():
    with cr.viz.record():
        w = leaf(1.0, 2.0)
        hidden = w * 3
        copy = hidden.detach()
        loss = (copy * copy).sum()
    found = cr.viz.why(loss)
    assert (found.cause, found.place.expression) == ("cut by detach", "hidden.detach()")
    assert found.path == ["hidden", "detach ✗", "loss"]


def test_of_a_loss_the_worst_leaf_is_told():
    with cr.viz.record():
        a, b, c = leaf(1.0), leaf(-1.0), leaf(0.0)
        loss = (a * 1e9 + cr.relu(b) + cr.sqrt(c)).sum()
        loss.backward()
    found = cr.viz.why(loss)
    assert found.told.startswith("c.grad is infinite: infinite slope of sqrt")
    assert found.told.endswith("(2 more of 3 leaves have such a fault)")


def test_a_loss_from_which_a_leaf_was_cut_off_is_not_fine():
    kept, cut, more = leaf(1.0), leaf(2.0), leaf(3.0)
    with cr.viz.record():
        hidden = (cut * more).detach()
        loss = (kept * hidden).sum()
        loss.backward()
    found = cr.viz.why(loss)
    assert (found.kind, found.cause) == ("none", "cut by detach")
    assert found.told.startswith("cut.grad is None") and found.told.endswith("(1 more of 3 leaves has such a fault)")


def test_one_leaf_that_is_fine_is_told_in_the_singular():
    w = leaf(3.0)
    with cr.viz.record():
        loss = w * w
        loss.backward()
    assert cr.viz.why(loss).told == "loss is fine: the gradient of its one leaf is finite (norm 6)."


def test_data_of_zeros_are_no_mask():
    w, v = leaf(3.0), leaf(*range(10))
    x, data = cr.tensor(0.0), cr.tensor([5.0] + [0.0] * 9)
    with cr.viz.record():
        loss = w * x + (v * data).sum()
        loss.backward()
    assert cr.viz.why(w).told == "w.grad is zero: multiplied by zeros. The gradient is multiplied by x, which is 0."
    assert "multiplied by data, 9 of 10 (90%) of whose elements are 0" in cr.viz.why(v).told


def test_what_is_fine_is_called_fine():
    cr.manual_seed(0)
    net, x = cr.nn.models.LeNet5(), cr.randn(2, 1, 32, 32)
    with cr.viz.record():
        loss = cr.cross_entropy(net(x), cr.tensor([1, 2]))
        loss.backward()
    found = cr.viz.why(loss)
    assert found.kind == "fine" and "loss is fine: the gradients of its 10 leaves are finite" in found.told
    found = cr.viz.why(net.c1.weight)
    assert found.told == f"c1.weight.grad is fine: finite, norm {np.linalg.norm(net.c1.weight.grad.numpy()):.4g}."
    assert [where for where, _ in found.norms][:3] == ["cross_entropy", "LeNet5.output", "LeNet5.act6"]
    assert found.norms[-1] == ("c1.weight", pytest.approx(np.linalg.norm(net.c1.weight.grad.numpy())))


def test_the_module_is_named():
    net = cr.nn.Sequential({"body": cr.nn.Linear(2, 3), "act": cr.nn.ReLU(), "head": cr.nn.Linear(3, 1)})
    with cr.no_grad():
        net.body.bias[...] = -100.0
    with cr.viz.record():
        loss = net(cr.ones(4, 2)).sum()
        loss.backward()
    found = cr.viz.why(net.body.weight)
    assert found.within == "Sequential.act" and found.place.expression == "net(cr.ones(4, 2))"
    assert "), in module Sequential.act\n" not in str(found) and ", in module Sequential.act\n" in str(found)


def test_vanishing_through_time_is_shown_step_by_step():
    cr.manual_seed(0)
    rnn, first = cr.nn.RNN(2, 4), cr.randn(1, 1, 2, requires_grad=True)
    rest = cr.randn(30, 1, 2)
    with cr.viz.record():
        loss = rnn(cr.cat([first, rest]))[0][-1].sum()
        loss.backward()
    found = cr.viz.why(first)
    assert found.kind == "vanishing" and found.cause.startswith("repeated") and found.within.startswith("RNN")
    steps = [norm for where, norm in found.norms if where == "RNN.step"]
    assert len(steps) >= 30 and steps[0] > 1e3 * steps[-1]


def test_only_the_last_pass_counts_for_a_gradient_that_was_added_up():
    w = leaf(0.0)
    with np.errstate(all="ignore"), cr.viz.record():
        cr.sqrt(w).sum().backward()
        (w * 2).sum().backward()
    found = cr.viz.why(w)
    assert found.cause == "left by an earlier pass" and "zero_grad()" in found.fix


def test_infinite_gradients_that_meet():
    w = leaf(0.0)
    with np.errstate(all="ignore"), cr.viz.record():
        hidden = w * 1
        (cr.sqrt(hidden) - cr.sqrt(hidden)).sum().backward()
    assert cr.viz.why(w).kind == "nan"


def test_a_leaf_that_is_nan_itself_says_who_wrote_it():
    w = cr.nn.Parameter(cr.ones(2))
    w.grad = cr.tensor([1.0, np.inf])
    optimizer = cr.optim.SGD([w], lr=0.1)
    optimizer.step()
    line = inspect.currentframe().f_lineno - 1
    found = cr.viz.why(w)
    assert found.told.startswith("w is infinite in 1 of 2 elements: it holds that itself")
    assert f"It was last written to at {__file__}:{line}" in found.told
    with cr.viz.record():
        loss = (w * 2).sum()
    assert f"w, which holds infinite itself in 1 of 2 elements. It was last written to at {__file__}:{line}" in (
        cr.viz.why(loss).told
    )


def test_a_parameter_that_an_update_broke_is_traced_to_its_gradient():
    w = cr.nn.Parameter(cr.tensor([1.0, 0.0]))
    optimizer = cr.optim.SGD([w], lr=0.1)
    with np.errstate(all="ignore"), cr.viz.record():
        loss = cr.sqrt(w).sum()
        loss.backward()
        optimizer.step()
    line = inspect.currentframe().f_lineno - 1
    found = cr.viz.why(w)
    assert found.told.startswith(f"w is infinite in 1 of 2 elements since the update at {__file__}:{line}")
    assert found.cause == "infinite slope of sqrt" and found.place.expression == "cr.sqrt(w)"


def test_a_recording_may_be_named_and_the_block_it_runs_in_is_asked_first():
    with cr.viz.record() as recording:
        w = leaf(-1.0)
        loss = cr.relu(w).sum()
        loss.backward()
        assert cr.viz.why(w).cause == "dead ReLU"
    with cr.viz.record():
        cr.ones(2) * 2
    assert cr.viz.why(w, recording=recording).cause == "dead ReLU"


def test_a_backward_pass_recorded_alone_is_enough():
    w = leaf(-1.0, -2.0)
    loss = cr.relu(w * 2).sum()
    with cr.viz.record():
        loss.backward()
    assert cr.viz.why(w).cause == "dead ReLU"


def test_figures_stand_in_for_large_arrays():
    w = cr.tensor(np.linspace(-1, 1, 20_000), requires_grad=True)
    with np.errstate(all="ignore"), cr.viz.record():
        loss = w.log().sum()
        loss.backward()
    found = cr.viz.why(loss)
    assert found.cause == "log at its border" and "log of 0 or less" in found.told
    v = cr.tensor(np.linspace(-1, 1, 20_000), requires_grad=True)
    with cr.viz.record():
        loss = cr.relu(v - 5).sum()
        loss.backward()
    found = cr.viz.why(v)
    assert found.cause == "dead ReLU" and "Every unit that the gradient reached" in found.told


def test_why_changes_nothing():
    w = leaf(1.0, 2.0)
    loss = (w * w).sum()
    cr.viz.why(w, loss)
    cr.viz.why(loss)
    assert w.grad is None
    loss.backward()
    assert w.grad.tolist() == [2.0, 4.0]


def test_what_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match="why: received float as t; pass a tensor: a parameter, a result or the loss"):
        cr.viz.why(3.0)
    with pytest.raises(TypeError, match="why: received str as loss; pass a tensor"):
        cr.viz.why(cr.ones(1), "loss")


def test_the_text_has_line_path_norms_and_fix():
    with cr.viz.record():
        w = leaf(1.0)
        loss = (w * 1e7).sum()
        loss.backward()
    line = inspect.currentframe().f_lineno - 2
    name = inspect.currentframe().f_code.co_name
    assert str(cr.viz.why(w)).splitlines()[1:-1] == [
        f"  line   {__file__}:{line}, in {name}",
        "         w * 1e7",
        "  path   w → multiply ✗ → sum → loss",
        "  norms  sum       1",
        "         multiply  1",
        "         w         1e7",
    ]


def test_a_recording_is_what_record_gave_or_was():
    block = cr.viz.record()
    with block as recording:
        x = cr.tensor([-1.0], requires_grad=True)
        cr.relu(x).sum().backward()
    with cr.viz.record():
        pass
    assert cr.viz.why(x, recording=recording).cause == cr.viz.why(x, recording=block).cause == "dead ReLU"
    with pytest.raises(TypeError, match="why: received int as recording; pass what `with record\\(\\) as …` gave"):
        cr.viz.why(x, recording=3)
