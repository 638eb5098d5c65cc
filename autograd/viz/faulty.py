"""Why a gradient (or value) is zero, NaN, infinite, exploding or vanishing."""

from __future__ import annotations

import math

import numpy as np

from ..graph import writes
from .causes import (
    NEAR,
    PASSING,
    ROUTING,
    SUSPECTS,
    acting,
    bad_cause,
    bad_slope_cause,
    branch_cause,
    kills,
    saturation,
    zero_cause,
)
from .program import Step
from .scene import MORE, WORDS, Explanation, amount, is_bad, kind_of
from .snapshot import number

EXPLODED, VANISHED = 1e3, 1e-5  # norms of a gradient beyond which it is called exploding or vanishing
LOST = 0.3  # share of its elements in which a step must lose the gradient to be named for it


# ---- zero ------------------------------------------------------------------------------------------------------------


def zero_gradient(scene) -> Explanation:
    """Of a gradient that is zero in every element."""
    start = f"{scene.name}.grad is zero"
    if not _pulsed(scene):
        return _zero_by_value(scene, start)
    killers = [found for step in scene.between() for found in _kills(scene, step)]
    meeting = _cancelled(scene)
    if killers and (not meeting or meeting[-1].pulse.order < max(step.pulse.order for step, _ in killers)):
        step, i = min(killers, key=lambda pair: pair[0].pulse.order)
        cause, told, fix = zero_cause(step, i, scene.label)
        more = len({one for one, _ in killers}) - 1
        also = f" (so it is on {more} other way{'s' if more > 1 else ''})" if more else ""
        path = scene.names(_through(scene, step), step)
        return scene.explain("zero", cause, f"{start}: {cause}. {_sentence(told, step)}{also}.", fix, step, path)
    if meeting:
        step = meeting[0]
        by = _and(one.name for one in meeting)
        told = f"{start}: the contributions cancel. The gradients that come back by {by} add up to 0."
        fix = "nothing is wrong if the value has no influence, as in x - x, or stands at a minimum"
        return scene.explain("zero", "contributions cancel", told, fix, step, scene.names(_through(scene, step), step))
    found = sparse_gradient(scene, start)
    if found:
        return found
    target = scene.targets[0]
    told = f"{start}: what arrived at {scene.label(target)} was 0 already."
    return scene.explain("zero", "zero from the start", told, "look at the gradient given to backward()", target.maker)


def _zero_by_value(scene, start) -> Explanation:
    """Where backward was not seen: the step whose values let no gradient through, else those that can do it."""
    steps = scene.between() if scene.value else []
    uses = [(step, i) for step in steps for i, x in enumerate(step.inputs) if x in scene.after() and x.live]
    for step, i in reversed(uses):
        if kills(step, i):
            cause, told, fix = zero_cause(step, i, scene.label)
            path = scene.names(_through(scene, step), step)
            return scene.explain("zero", cause, f"{start}: {cause}. {_sentence(told, step)}.", fix, step, path)
    able = [step for step, i in uses if kills(step, i) is None and acting(step) in SUSPECTS["zero"]]
    return _suspected(scene, "zero", start, steps, able)


def _sentence(text, step) -> str:
    """The text with a capital, unless it begins with the name of an operation."""
    return text if text.startswith(step.name) else text[:1].upper() + text[1:]


def _and(words) -> str:
    words = list(dict.fromkeys(words))
    return ", ".join(words[:-1]) + f" and {words[-1]}" if len(words) > 1 else words[0]


def _pulsed(scene) -> bool:
    return scene.value is not None and any(s.pulse is not None for s in scene.between())


def _kills(scene, step) -> list:
    """(step, input) where a gradient arrived and none of it left."""
    if step.pulse is None or step.name in PASSING or all(_is_zero(one) for one in step.pulse.arrived):
        return []
    live = [gift for gift in step.pulse.gifts if gift.value in scene.after()]
    return [(step, gift.i) for gift in live if _is_zero(gift.fitted) and _is_zero(gift.raw)]


def _is_zero(snapshot) -> bool:
    return not (snapshot.nans or snapshot.infs) and (not snapshot.size or snapshot.zeros == 1)


def _cancelled(scene) -> list:
    """The steps whose contributions to one value add up to zero."""
    by_value: dict = {}
    for step in reversed(scene.between()):
        for gift in step.pulse.gifts if step.pulse else ():
            by_value.setdefault(gift.value, []).append((step, gift))
    for given in by_value.values():
        if not _is_zero(given[0][1].fitted) and _is_zero(given[-1][1].total):
            return [step for step, gift in given if not _is_zero(gift.fitted)]
        if any(_is_zero(gift.fitted) and not _is_zero(gift.raw) for _, gift in given):
            return [step for step, gift in given if _is_zero(gift.fitted)]
    return []


def _through(scene, culprit) -> list[Step]:
    """A way from the tensor to the loss that passes through the step `culprit`."""
    parents: dict = {scene.value: None}
    waiting = [scene.value]
    for value in waiting:
        for step, one in scene.flows(value):
            if one not in parents and one in scene.before:
                parents[one] = (value, step)
                waiting.append(one)
                if step is culprit:
                    return [*scene.back(one, parents), *scene.way(one)]
    return scene.way()


def sparse_gradient(scene, start) -> Explanation | None:
    """Of a gradient that was lost bit by bit: the step that lost the most of it."""
    losses = []
    for step in scene.between():
        for gift in step.pulse.gifts if step.pulse else ():
            if gift.value in scene.after() and gift.raw.size:
                losses.append((gift.raw.zeros - step.pulse.arrived[0].zeros, -step.pulse.order, step, gift.i))
    lost, _, step, i = max(losses, key=lambda one: one[:2], default=(0, 0, None, 0))
    if lost < LOST:
        return None
    cause, told, fix = zero_cause(step, i, scene.label)
    path = scene.names(_through(scene, step), step)
    return scene.explain("zero", cause, f"{start}: {cause}. {_sentence(told, step)}.", fix, step, path)


# ---- NaN and infinity ------------------------------------------------------------------------------------------------


def bad_value(scene, value, start) -> Explanation:
    """The first step on the way to `value`, in forward order, whose inputs were legal and whose result was not."""
    kind = kind_of(value.data)
    start = f"{start} {WORDS[kind]}{amount(value.data)}"
    chain = _bad_chain(value)
    legal = [s for s in chain if not any(is_bad(x.data) for x in s.inputs if x is not None)]
    if any(x is not None and x.data is None for s in legal for x in s.inputs):
        before = scene.history([value])
        steps = [s for s in scene.steps if not before.isdisjoint(s.results)]
        return _suspected(scene, kind, start, steps)
    born = legal or [s for s in chain if _turns_nan(s)]
    if not born:
        return _bad_origin(scene, value, chain, start, kind)
    step = min(born, key=lambda s: s.seq)
    result = next(r for r in step.results if is_bad(r.data))
    cause, told, fix = bad_cause(step, result.data)
    turned = next((s for s in chain if _turns_nan(s) and s.seq > step.seq), None) if not result.data.nans else None
    then = f" It became NaN in {turned.name} at {turned.place}." if turned else ""
    text = f"{start}: {cause}. The first operation whose inputs were legal and whose result was not is {step.name}: "
    text += f"{told}.{then}"
    inside = next((scene.label(x) for x in step.inputs if x is not None and x.live), "")
    way = [s for s in chain if s.seq >= step.seq]
    path = scene.names(way, step, inside or step.name)
    return scene.explain(kind, cause, text, fix, step, path)


def _bad_chain(value) -> list[Step]:
    """The steps with bad results through which the badness of `value` came, oldest first."""
    found: dict[Step, None] = {}
    waiting = [value]
    while waiting:
        value = waiting.pop()
        while value.maker is None and value.source is not None:
            value = value.source
        if value.maker is None or value.maker in found:
            continue
        found[value.maker] = None
        waiting += [x for x in value.maker.inputs if x is not None and is_bad(x.data)]
    return sorted(found, key=lambda step: step.seq)


def _turns_nan(step) -> bool:
    """Whether the step makes NaN of inputs without one."""
    return any(r.data is not None and r.data.nans for r in step.results) and not any(
        x is not None and x.data is not None and x.data.nans for x in step.inputs
    )


def _bad_origin(scene, value, chain, start, kind) -> Explanation:
    """The NaN came in with a value that no step of the program made."""
    step = chain[0] if chain else None
    origin = next((x for x in step.inputs if x is not None and is_bad(x.data)), value) if step else value
    name = scene.label(origin)
    told = f"{start}: it came in with {name}, which holds {WORDS[kind_of(origin.data)]} itself{amount(origin.data)}."
    fix = "look at the data: clean or mask what is missing before it enters"
    if origin.leaf is not None and origin.live:
        written = writes.since(origin.leaf.array, 0)
        told += f" It was last written to at {written}." if written else ""
        fix = "look at the update that wrote it: a smaller learning rate, clipped gradients, detect_anomaly"
    path = scene.names(chain, step, name) if step else [name]
    return scene.explain(kind, f"{WORDS[kind_of(origin.data)]} in the data", told, fix, step, path)


def bad_leaf(scene, own) -> Explanation:
    """Of a tensor that is not finite and that no operation made: as data, or by an update with a bad gradient."""
    written = writes.since(scene.t.array, 0)
    start = f"{scene.name} is {WORDS[kind_of(own)]}{amount(own)}"
    gradient = scene.value.gradient if scene.value is not None else None
    if written and is_bad(gradient):
        found = bad_gradient(scene, gradient)
        found.told = f"{start} since the update at {written}: {found.told}"
        return found
    told = f"{start}: it holds that itself, no recorded operation made it."
    told += f" It was last written to at {written}." if written else ""
    fix = "look at the data, or at the update that wrote it: a smaller learning rate, clipped gradients"
    return scene.explain(kind_of(own), f"{WORDS[kind_of(own)]} in the data", told, fix)


def bad_gradient(scene, gradient) -> Explanation:
    """Of a gradient with NaN or infinity: from the forward, else the first step of backward that made it."""
    kind = kind_of(gradient)
    start = f"{scene.name}.grad is {WORDS[kind]}{amount(gradient)}"
    for target in scene.targets:
        if is_bad(target.data):
            return bad_value(scene, target, f"{start}, for {scene.label(target)} is")
    if scene.value is None or not _pulsed(scene):
        return _suspected(scene, kind, start, scene.between() if scene.value else [])
    steps = sorted((s for s in scene.between() if s.pulse), key=lambda s: s.pulse.order)
    for step in steps:
        gift = next((g for g in step.pulse.gifts if is_bad(g.fitted) and g.value in scene.after()), None)
        if gift is not None and not any(is_bad(one) for one in step.pulse.arrived):
            inner = bad_slope_cause(step, gift.i, step.pulse.arrived[0], gift.raw if is_bad(gift.raw) else gift.fitted)
            choice = _hiding(scene, step, gift.raw)
            if choice is not None:
                inner = branch_cause(step, choice, inner)
            cause, told, fix = inner
            way = _through(scene, step)
            text = f"{start}: {cause}. The forward is finite; in backward {told}."
            return scene.explain(kind, cause, text, fix, step, scene.names(way, step))
    if any(is_bad(one) for s in steps[:1] for one in s.pulse.arrived):
        told = f"{start}: the gradient passed to backward() held it already."
        return scene.explain(kind, "bad from the start", told, "look at the gradient passed to backward()", steps[0])
    if is_bad(scene.value.gradient):
        told = f"{start}: infinite gradients of opposite signs meet there; ∞ − ∞ has no value."
        fix = "keep the gradients finite: clip them, or scale the loss"
        return scene.explain(kind, "∞ − ∞ in backward", told, fix, steps[-1])
    told = f"{start}: the last pass was finite; an earlier one left it in .grad, to which backward adds."
    return scene.explain(kind, "left by an earlier pass", told, "call zero_grad() before backward()")


def _hiding(scene, step, gradient) -> Step | None:
    """The `where` after the step that does not take what the step made, at a place where the gradient is bad."""
    bad = None if gradient.array is None else ~np.isfinite(gradient.array)
    waiting, seen = list(step.results), set()
    while waiting:
        value = waiting.pop()
        for user, i in scene.program.users.get(value, ()):
            if user.name == "where" and i > 0:
                condition = user.inputs[0].data.array if user.inputs[0].data is not None else None
                if condition is None or _hides(condition if i == 2 else ~condition, bad):
                    return user
            if user.primitive.elementwise and user not in seen:
                seen.add(user)
                waiting += user.results
    return None


def _hides(hidden, bad) -> bool:
    """Whether a branch is `hidden` where it is `bad`; anywhere, if it is not known where that is."""
    return bool((hidden & bad if bad is not None and bad.shape == hidden.shape else hidden).any())


# ---- exploding and vanishing -----------------------------------------------------------------------------------------


def scaled(scene, gradient) -> Explanation:
    """Of a finite gradient that is not zero: whether its norm is out of proportion, and where it grew or shrank."""
    norm = gradient.norm
    kind = "exploding" if norm > EXPLODED else "vanishing" if norm < VANISHED else "fine"
    pairs = scene.longest() if scene.value is not None and scene.program is not None else []
    way = [step for _, step in pairs]
    norms = _norms(scene, way)
    if kind == "fine":
        told = f"{scene.name}.grad is fine: finite, norm {number(norm)}."
        return scene.explain("fine", "", told, "", None, scene.names(way), None, norms)
    start = f"{scene.name}.grad is {kind}: its norm is {number(norm)}"
    if not way:
        return scene.explain(kind, "", f"{start}. Where it came from was not seen.", MORE)
    steps, factor = _steepest(pairs, kind)
    step, times = steps[0], len(steps)
    each = f", by {number(factor ** (1 / times))} at each of its {times} uses" if times > 1 else ""
    word = "grows" if kind == "exploding" else "shrinks"
    cause, more, fix = _scale_cause(steps, kind)
    told = f"{start}. It {word} the most at {step.name}: by the factor {number(factor)}{each}{more}."
    return scene.explain(kind, cause, told, fix, step, scene.names(way, step), None, norms)


def _gain(step, value) -> float:
    """The norm of what the step gave to the value, over the norm that arrived."""
    came = sum(one.norm**2 for one in step.pulse.arrived) ** 0.5
    gave = next((gift.fitted.norm for gift in step.pulse.gifts if gift.value is value), 0.0)
    return gave / came if came and step.name not in ROUTING else 1.0


def _steepest(pairs, kind) -> tuple:
    """(steps, product of their factors) of the line that changed the norm the most along the way."""
    lines: dict = {}
    for value, step in pairs:
        lines.setdefault((step.place.file, step.place.line, step.name), []).append((step, _gain(step, value)))
    product = lambda uses: math.prod(gain for _, gain in uses)
    worst = (max if kind == "exploding" else min)(lines.values(), key=product)
    return [step for step, _ in worst], product(worst)


def _scale_cause(steps, kind) -> tuple:
    """(cause, what to add to the sentence, fix) for the uses `steps` of one line."""
    step, again = steps[0], "repeated " if len(steps) > 1 else ""
    shares = [share for share in map(saturation, steps) if share is not None]
    share = sum(shares) / len(shares) if shares else None
    if kind == "vanishing" and share:
        return (
            f"{again}saturated {step.name}" if share > 0.5 else f"{again}small slopes of {step.name}",
            f"; {share:.0%} of its results lie within {NEAR} of an end",
            "keep its inputs near 0 (Xavier initialisation, normalisation); use relu, residual connections, or LSTM "
            "and GRU for long sequences",
        )
    if kind == "vanishing":
        return (
            f"{again}{step.name} shrinks it",
            "",
            "larger weights (cr.nn.init), normalisation, residual connections, LSTM or GRU for long sequences, or a "
            "loss that is not scaled down",
        )
    return (
        f"{again}{step.name} enlarges it",
        "",
        "clip gradients (cr.nn.utils.clip_grad_norm_), smaller or orthogonal weights (cr.nn.init), normalisation, or a "
        "smaller scale of the loss and the data",
    )


def _norms(scene, way) -> list:
    """(where, norm of the gradient) from the loss back to the tensor, one row for each module call or step."""
    rows: list[tuple] = []
    last = None
    for step in reversed([step for step in way if not step.primitive.view]):
        call = scene.program.call_of[step]
        if call.path and call is last:
            rows.pop()
        rows.append((call.path or step.name, sum(one.norm**2 for one in step.pulse.arrived) ** 0.5))
        last = call
    if way and scene.value.gradient is not None:
        rows.append((scene.name, scene.value.gradient.norm))
    return rows


# ---- without a recording ---------------------------------------------------------------------------------------------


def _suspected(scene, kind, start, steps, able=None) -> Explanation:
    """The values are gone: name the operations among `steps` that can do it, or those that are `able` to."""
    able = [step for step in steps if step.name in SUSPECTS["bad"]] if able is None else able
    gone = "The values of the graph were released by backward, or not seen"
    if not able:
        return scene.explain(kind, "", f"{start}. {gone}.", MORE if steps else f"pass the loss; or {MORE}")
    named = "; ".join(f"{s.name} ({s.place.file}:{s.place.line})" for s in able[:4])
    told = f"{start}. {gone}; on the way it can happen at: {named}."
    step = able[0]
    path = scene.names([step, *scene.way(step.results[0])], step, scene.label(step.inputs[0]))
    return scene.explain(kind, f"perhaps {step.name}", told, MORE, step, path)
