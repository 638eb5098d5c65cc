"""Why a gradient is None: the tensor is no leaf, does not lead to the loss, or backward has not come."""

from __future__ import annotations

import re

from ..tensor import is_floating, keeps_grad
from .causes import cut_cause, unrecorded_cause
from .scene import MORE, Explanation
from .snapshot import number
from .source import place_of


def no_gradient(scene) -> Explanation:
    """Why the tensor's `.grad` is None."""
    t = scene.t
    known = scene.value.gradient if scene.value is not None else None
    if t.grad_fn is not None and (known is not None or not keeps_grad(t)):
        return _not_a_leaf(scene, known)
    if not t.requires_grad:
        return _dead_tensor(scene)
    if scene.program is None:
        return _unknown_way(scene)
    way = scene.way() if scene.value is not None else []
    return _unreached(scene, way) if way else _no_way(scene)


def _not_a_leaf(scene, known) -> Explanation:
    name, node = scene.name, scene.t.grad_fn
    step = scene.value.maker if scene.value is not None else None
    norm = f" Its gradient was seen: norm {number(known.norm)}." if known is not None else ""
    told = f"{name}.grad is None: not a leaf. {name} is the result of {node.name}, and backward keeps gradients of "
    told += f"leaves only.{norm}"
    fix = f"call {name}.retain_grad() before backward; or, if {name} is meant to be trained, make it a leaf: "
    fix += f"{name} = (…).detach().requires_grad_()"
    return scene.explain("none", "not a leaf", told, fix, step, [name], None if step else place_of(node))


def _dead_tensor(scene) -> Explanation:
    """Of a tensor that requires no gradient."""
    t, name, value = scene.t, scene.name, scene.value
    start = f"{name}.grad is None: "
    found = _cut_before(scene) if value is not None else None
    if found:
        (cause, told, fix), source, how, step, place = found
        if step is not None and step.place.name == name and re.search(rf"\b{name}\b", step.place.expression):
            fix += f"; to change a parameter in place there, write {name} -= … or {name}[...] = …"
        path = [scene.label(source), f"{how} ✗", name]
        return scene.explain("none", cause, f"{start}{cause}. {told}.", fix, step, path, place)
    if not is_floating(t.dtype):
        cause = "an integer dtype"
        place = value.cut_at if value is not None else None
        told = f"{start}{cause}. A tensor of {t.dtype} changes in jumps and has no derivative."
        fix = f"make it floating: {name}.float().requires_grad_(), or cr.tensor([…], dtype=cr.float32)"
    else:
        cause, place = "requires no gradient", None
        told = f"{start}it does not require one (requires_grad is False), so nothing about it was recorded."
        fix = f"call {name}.requires_grad_() before computing with it, or create it with requires_grad=True"
        fix += "" if scene.recorder else f"; if it was computed, {MORE}"
    used = scene.program.users.get(value) if scene.program is not None else None
    step = used[0][0] if used and place is None else None
    if value in scene.cuts and place is step is None:
        place = scene.cuts[value][0].cut_at
    return scene.explain("none", cause, told, fix, step, [name, step.name] if step else [name], place)


def _cut_before(scene) -> tuple | None:
    """(why, of what value, how, step, place) the tensor's history was cut from what requires a gradient, the last."""
    cuts = []
    for value in scene.history([scene.value]):
        if value.cut is not None and value.source.live:
            cuts.append((value.key, (cut_cause(value.cut), value.source, value.cut, None, value.cut_at)))
        step = value.maker
        if step is not None and not step.recorded:
            source = next((x for x in step.inputs if x is not None and x.live), None)
            if source is not None:
                cuts.append((value.key, (unrecorded_cause(step), source, step.name, step, None)))
    return max(cuts, key=lambda cut: cut[0])[1] if cuts else None


def _unknown_way(scene) -> Explanation:
    told = f"{scene.name}.grad is None: no backward pass has reached it. A leaf does not know what was computed from "
    told += "it, so more cannot be said from the tensor alone."
    return scene.explain("none", "", told, f"pass the loss, cr.viz.why({scene.name}, loss); or {MORE}")


def _unreached(scene, way) -> Explanation:
    """There is a way to the loss, but the gradient is None."""
    name, recorder = scene.name, scene.recorder
    path, start = scene.names(way), f"{scene.name}.grad is None: "
    if recorder is not None and recorder.passes:
        last = recorder.passes[-1]
        if last.failed and last.at is not None:
            return _stopped(scene, last, way)
        if scene.value.gradient is not None:
            norm = number(scene.value.gradient.norm)
            told = f"cleared. A gradient of norm {norm} was seen, and .grad was set back to None (zero_grad) or never "
            told += "written (cr.autograd.grad)."
            fix = "read .grad between backward() and zero_grad()"
            return scene.explain("none", "cleared", start + told, fix, None, path, last.place)
        if all(step.pulse is not None for step in way):
            told = "backward ran for other inputs (backward(inputs=…) or cr.autograd.grad)."
            fix = f"name {name} among the inputs, or leave inputs= out"
            return scene.explain("none", "other inputs", start + told, fix, None, path, last.place)
    if scene.refused:
        return scene.explain("none", *used_up(scene, name), path=path)
    return scene.explain("none", *not_run(scene, name), path=path)


def not_run(scene, name) -> tuple:
    """(cause, sentence, fix, step) where no backward pass was seen."""
    loss = scene.label(scene.targets[0])
    start = f"{name}.grad is None: backward not run. {name} leads"
    if scene.value in scene.targets:
        start = f"the leaves of {name} are without gradients: backward not run. They lead"
    return (
        "backward not run",
        f"{start} to {loss}, but no backward pass has come back from there.",
        f"call {loss}.backward() before reading gradients",
        scene.targets[0].maker,
    )


def used_up(scene, name) -> tuple:
    """(cause, sentence, fix, step) where backward cannot run: the graph was released, or values were changed."""
    step = next((s for s in scene.steps if s.recorded and (s.node is None or s.node.kept is None)), None)
    if step is None:
        told = f"{name}.grad is None: backward not run, and it could not: {scene.refused}."
        return "backward not run", told, "mend that error first", scene.targets[0].maker
    return (
        "released",
        f"{name}.grad is None: released. A backward pass has already used this graph and released what it kept (first "
        f"at {step.name}); either .grad was set back to None since, or the pass stopped with an error on the way.",
        f"pass retain_graph=True to the first backward(), or compute the shared part again; {MORE}",
        step,
    )


def _stopped(scene, last, way) -> Explanation:
    """The last backward pass ended with an error."""
    step, name = last.at, scene.name
    if step.node is not None and step.node.kept is None:
        used = lambda one: not scene.history(one.outputs).isdisjoint(step.results)
        earlier = next((one for one in scene.recorder.passes[:-1] if used(one)), None)
        when = f" by the backward pass at {earlier.place}" if earlier else ""
        cause = "released"
        told = f"released. Backward from {last.place} stopped at {step.name}, whose values were released{when}."
        fix = "pass retain_graph=True to the first backward(), add the losses and call backward() once, or compute the "
        fix += "shared part again"
    else:
        cause = "backward stopped"
        told = f"backward stopped with an error at {step.name}, before {name} was reached."
        fix = "mend that error first"
    path = scene.names(way, step if step in way else None)
    return scene.explain("none", cause, f"{name}.grad is None: {told}", fix, step, path)


def _no_way(scene) -> Explanation:
    """No recorded way leads from the tensor to the loss: look where it was cut."""
    name = scene.name
    loss = scene.label(scene.targets[0]) if scene.targets else "the loss"
    start = f"{name}.grad is None: "
    maker = scene.targets[0].maker if scene.targets else None
    if scene.recorder is not None and scene.value is None:
        told = f"{start}no path to {loss}. Nothing in the recording uses it."
        fix = f"use {name} in the computation of {loss}, and record that"
        return scene.explain("none", "no path to the loss", told, fix, maker, [name, "✗", loss])
    if scene.recorder is None:
        told = f"{start}no path to {loss}. In the recorded graph of {loss}, {name} does not occur: it was not used, or "
        told += "it was cut off (detach, no_grad, an integer dtype, argmax)."
        return scene.explain("none", "no path to the loss", told, MORE, maker, [name, "✗", loss])
    reason, path, to_loss = _first_break(scene)
    if reason is None:
        last = path[-1] if path else None
        end = f"What is computed from it ends at {last.name}, which {loss} does not use" if last else "Nothing uses it"
        told = f"{start}no path to {loss}. {end}."
        fix = f"use {scene.label(last.results[0]) if last else name} in the computation of {loss}"
        step = last or maker
        return scene.explain("none", "no path to the loss", told, fix, step, [*scene.names(path), "✗", loss])
    (cause, told, fix), step, place, how = reason
    words = [*scene.names(path), f"{how} ✗", *([loss] if to_loss else [])]
    more = "" if to_loss else f" No way from there to {loss} was seen."
    return scene.explain("none", cause, f"{start}{cause}. {told}.{more}", fix, step, words, place)


def _first_break(scene) -> tuple:
    """(why and where the first way from the tensor was cut, the steps before, whether it went on to the loss)."""
    parents: dict = {scene.value: None}
    broken: dict = {scene.value: None}  # value: (reason, the value where it happened)
    waiting, dead_ends, ends = [scene.value], [], []
    for value in waiting:
        news = []
        for step, _ in scene.program.users.get(value, ()):
            reason = broken[value]
            if reason is None and not step.recorded:
                reason = ((unrecorded_cause(step), step, None, step.name), value)
                ends.append(reason)
            news += [(one, step, reason) for one in step.results]
        for cut in scene.cuts.get(value, ()):
            reason = broken[value]
            if reason is None:
                reason = ((cut_cause(cut.cut), None, cut.cut_at, cut.cut), value)
                ends.append(reason)
            news.append((cut, None, reason))
        if not news and broken[value] is None:
            dead_ends.append(value)
        for one, step, reason in news:
            if one not in parents:
                parents[one], broken[one] = (value, step), reason
                waiting.append(one)
    through = [broken[v] for v in waiting if v in scene.before and broken[v]]
    for reason in (*through, *ends):
        steps = [step for step in scene.back(reason[1], parents) if step is not None]
        return reason[0], steps, reason in through
    end = max(dead_ends, key=lambda v: v.maker.seq if v.maker else 0, default=scene.value)
    return None, scene.back(end, parents), False
