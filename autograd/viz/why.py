"""`why`: a sentence on a gradient that is None, zero, NaN, infinite, exploding or vanishing.

Everything is read off a `Program`: the graph below a loss, or better a recording, which also knows the steps that no
graph keeps. The cause of a cut is found forwards from the tensor (absent.py), that of a NaN at the first step whose
inputs were legal, that of a zero at the step where a gradient arrived and none left (faulty.py).
"""

from __future__ import annotations

import sys

from ..graph import user_frame
from ..tensor import Tensor
from .absent import no_gradient, not_run, used_up
from .faulty import bad_gradient, bad_leaf, bad_value, scaled, sparse_gradient, zero_gradient
from .record import Recorder, record
from .scene import Explanation, Scene, is_bad
from .snapshot import Snapshot, number

SPARSE = 0.9  # share of zeros from which a gradient is called zero in part


def why(t: Tensor, loss: Tensor | None = None, recording: Recorder | None = None) -> Explanation:
    """Why the gradient of `t` is None, zero, NaN, infinite, exploding or vanishing, or why `t` itself is NaN.

    `t` is a leaf, a result on the way, or the loss: then every leaf below it is looked at and the worst case told.
    Computed under `with cr.viz.record():`, backward included, everything is known; without a recording pass the `loss`,
    and its graph says what it still holds. `recording` is what `record()` gave; the last one is asked by itself.

    Exploding is a norm above 1e3, vanishing one below 1e-5.

    Errors: TypeError for what is no tensor.

    >>> with cr.viz.record():
    ...     x = cr.tensor([-2.0, -1.0], requires_grad=True)
    ...     loss = cr.relu(x).sum()
    ...     loss.backward()
    >>> found = cr.viz.why(x)
    >>> found.cause, found.path
    ('dead ReLU', ['x', 'relu ✗', 'sum', 'loss'])
    >>> print(found.told)
    x.grad is zero: dead ReLU. 2 of 2 (100%) of its units are dead: for the one input their input is 0 or less ...
    """
    for name, one in (("t", t), ("loss", loss)):
        if not isinstance(one, Tensor) and not (name == "loss" and one is None):
            raise TypeError(
                f"why: received {type(one).__name__} as {name}; pass a tensor: a parameter, a result or the loss"
            )
    recording = recording.watch if isinstance(recording, record) else recording
    if not (recording is None or isinstance(recording, Recorder)):
        raise TypeError(f"why: received {type(recording).__name__} as recording; pass what `with record() as …` gave")
    scene = Scene(t, loss, recording, user_frame(sys._getframe(1)))
    if scene.value is not None and scene.is_loss:
        return _of_loss(scene)
    return _of_tensor(scene)


def _of_loss(scene) -> Explanation:
    """The worst of what there is to say about a loss and the leaves below it."""
    if is_bad(scene.value.data):
        return bad_value(scene, scene.value, f"{scene.name} is")
    loss = scene.name
    leaves = [v for v in scene.program.values if v.leaf is not None and v.live and v in scene.before]
    if not scene.passed:
        missing = used_up if scene.refused else not_run
        return scene.explain("none", *missing(scene, scene.name))
    told = []
    for value in leaves:
        scene.value, scene.name = value, scene.label(value)
        scene.t = value.leaf
        if value.gradient is not None:
            told.append(_of_gradient(scene, value.gradient))
        elif scene.recorder is not None and not scene.way():  # cut off on the way
            told.append(no_gradient(scene))
    order = ["nan", "inf", "none", "zero", "exploding", "vanishing", "fine"]
    told.sort(key=lambda one: order.index(one.kind))
    if not told or told[0].kind == "fine":
        norms = [value.gradient.norm for value in leaves if value.gradient is not None]
        return scene.explain("fine", "", f"{loss} is fine: {_in_proportion(norms)}.", "")
    others = sum(one.kind != "fine" for one in told) - 1
    if others:
        told[0].told += f" ({others} more of {len(told)} leaves {'has' if others == 1 else 'have'} such a fault)"
    return told[0]


def _in_proportion(norms) -> str:
    if len(norms) == 1:
        return f"the gradient of its one leaf is finite (norm {number(norms[0])})"
    span = f" (norms {number(min(norms))} … {number(max(norms))})" if norms else ""
    return f"the gradients of its {len(norms)} leaves are finite and in proportion{span}"


def _of_tensor(scene) -> Explanation:
    t = scene.t
    own = Snapshot(t.array)
    if is_bad(own):
        made = scene.value is not None and is_bad(scene.value.data)
        return bad_value(scene, scene.value, f"{scene.name} is") if made else bad_leaf(scene, own)
    gradient = Snapshot(t.grad.array) if t.grad is not None else None
    seen = gradient
    if seen is None and not t.is_leaf and scene.value is not None:
        seen = scene.value.gradient
    if seen is not None:
        found = _of_gradient(scene, seen)
        if gradient is not None or found.kind != "fine":
            return found
    return no_gradient(scene)


def _of_gradient(scene, gradient) -> Explanation:
    """About a gradient that is known."""
    if is_bad(gradient):
        return bad_gradient(scene, gradient)
    if gradient.size and gradient.zeros == 1:
        return zero_gradient(scene)
    if gradient.size > 1 and gradient.zeros >= SPARSE:
        found = sparse_gradient(scene, f"{scene.name}.grad is zero in {gradient.zeros:.0%} of its elements")
        if found:
            return found
    return scaled(scene, gradient)
