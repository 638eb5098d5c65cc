"""Derivatives by finite differences, from what a program recorded: the check that stands beside an analytic gradient.

The recorded steps are run again in float64, from the program's leaves and constants, with one element moved a little
each way; what the graph did not record (masks, detached values) stays as it was, as it does for the gradient.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from ...kernels import to_device
from .program import Program, Value
from .snapshot import Snapshot

FEW = 4  # elements up to which each one is checked; of more, the one with the largest gradient
STEP = 1e-5


class Difference(NamedTuple):
    """A derivative with respect to one element, by central differences; `kink` where the two sides differ."""

    entry: tuple[int, ...]
    numeric: float
    analytic: float
    agree: bool
    kink: bool


class Numeric:
    """Finite differences of a walked program.

    >>> from chainrule.autograd.viz.program import Program
    >>> from chainrule.autograd.viz.numeric import Numeric
    >>> x = cr.tensor(3.0, requires_grad=True)
    >>> p = Program(x * x); p.walk()
    >>> [d] = Numeric(p).check(p.steps[0].inputs[0])
    >>> round(d.numeric, 6), d.analytic, d.agree
    (6.0, 6.0, True)
    """

    def __init__(self, program: Program):
        self.program = program
        self.known: dict[Value, np.ndarray] = {}  # every value again, in float64
        self.missing: dict[Value, str] = {}  # a value that cannot be had: why
        self._place = {step: i for i, step in enumerate(program.steps)}
        for value in program.values:
            if value.maker not in self._place or not value.maker.recorded:
                self._take(value)
        for step in program.steps:
            if step.recorded:
                self._run(step)
        self.seeds = {value: self._seed(value) for value in dict.fromkeys(program.results) if value.maker is not None}

    def checks(self, seconds: float) -> dict[Value, list[Difference] | str]:
        """For every value with a gradient its differences, or why there are none; leaves first, for so many seconds."""
        wanted = [v for v in self.program.values if v.live and v.gradient is not None]
        wanted.sort(key=lambda value: (value.maker is not None, -self._place.get(value.maker, 0)))
        end = time.perf_counter() + seconds
        late = f"Not checked: the {seconds:g} s given to finite differences were spent before."
        return {value: self.check(value) if time.perf_counter() < end else late for value in wanted}

    def check(self, value: Value) -> list[Difference] | str:
        """The differences at up to FEW elements, else at the one with the largest gradient; or why there are none."""
        analytic = value.gradient.array
        if analytic is None:
            return f"Not possible: of the {value.gradient.size:,} elements of the gradient only figures were kept."
        if analytic.dtype.kind != "f" or value.dtype is None:
            return "Not possible: the gradient is not of real numbers."
        steps = self._downstream(value)
        blocked = next((self.missing[x] for s in steps for x in (*s.inputs, *s.results) if x in self.missing), None)
        blocked = blocked or self.missing.get(value)
        if blocked:
            return f"Not possible: {blocked}"
        if not np.isfinite(analytic).all():
            return "Not possible: the gradient is not finite."
        flat = np.arange(analytic.size) if analytic.size <= FEW else [int(np.abs(analytic).argmax())]
        scale = float(np.abs(analytic).max(initial=0))
        slack = 1e-7 + 16 * float(np.finfo(analytic.dtype).eps) * self._passed_on(steps)
        indices = [tuple(int(i) for i in np.unravel_index(at, analytic.shape)) for at in flat]
        return [self._difference(value, i, float(analytic[i]), scale, slack, steps) for i in indices]

    def _passed_on(self, steps) -> float:
        """The size of the gradients of which this one is made, and so of their rounding, where they cancel."""
        found = [x.gradient for step in steps for x in step.results if x.gradient is not None]
        return max((max(abs(g.min), abs(g.max)) * min(g.size, 4096) ** 0.5 for g in found if g.size), default=0.0)

    def _difference(self, value, index, analytic, scale, slack, steps) -> Difference:
        loose = max(1e-3, 30 * float(np.finfo(value.gradient.array.dtype).eps))
        close = lambda a, b: abs(a - b) <= loose * max(abs(a), abs(b)) + loose * 1e-2 * scale + slack
        for step in (STEP, STEP / 100):  # the shorter one where the longer one leads across a kink
            h = step * max(1.0, abs(float(self.known[value][index])))
            up, here, down = (self._objective(value, index, move, steps) for move in (h, 0.0, -h))
            numeric, right, left = (up - down) / (2 * h), (up - here) / h, (here - down) / h
            if close(numeric, analytic):
                return Difference(index, numeric, analytic, True, False)
        return Difference(index, numeric, analytic, False, not close(right, left))

    def _objective(self, value, index, move, steps) -> float:
        """The results that the value has an influence on, weighted by their seeds, with one element moved."""
        moved = self.known[value].copy()
        moved[index] += move
        again = {value: moved}
        for step in steps:
            again.update(zip(step.results, self._apply(step, again), strict=True))
        return float(sum((again[x] * seed).sum() for x, seed in self.seeds.items() if x in again))

    def _downstream(self, value) -> list:
        """The recorded steps that the value has an influence on, in order."""
        found, waiting = set(), [value]
        while waiting:
            for step, _ in self.program.users[waiting.pop()]:
                if step.recorded and step not in found:
                    found.add(step)
                    waiting += step.results
        return sorted(found, key=self._place.__getitem__)

    # ---- running again -----------------------------------------------------------------------------------------------

    def _take(self, value) -> None:
        array = value.data.array if value.data is not None else None
        if array is None:
            array = _unchanged(value)
        if array is None:
            size = f"of shape {value.shape} " if value.shape is not None else ""
            self.missing[value] = f"the values of an input {size}were not kept."
        else:
            self.known[value] = _wide(array)

    def _run(self, step) -> None:
        """Give the step's results, if it runs again and gives what it gave."""
        why = next((self.missing[x] for x in step.inputs if x in self.missing), None)
        if why is None and any(callable(p) for name, p in step.params.items() if name != "report"):
            why = f"{step.name} cannot be run again."
        if why is None:
            try:
                results = self._apply(step, {})
                size = max((_largest(self.known[x]) for x in step.inputs if x is not None), default=0.0)
                same = all(_same(a, x, size) for a, x in zip(results, step.results, strict=True))
                why = None if same else f"{step.name} does not give the same values when it is run again."
            except (ValueError, TypeError, IndexError) as error:
                why = f"{step.name} cannot be run again in float64 ({error})."
        for i, value in enumerate(step.results):
            if why is None:
                self.known[value] = results[i]
            else:
                self.missing[value] = why

    def _apply(self, step, again) -> list:
        given = [None if x is None else again.get(x, self.known.get(x)) for x in step.inputs]
        params = {name: np.dtype(np.float64) if _is_float(p) else p for name, p in step.params.items()}
        params.update({"report": None} if "report" in params else {})  # running statistics stay as they are
        with np.errstate(all="ignore"):
            out = step.primitive._raw(given, params)
        return [np.asarray(o) for o in (out if isinstance(out, (tuple, list)) else [out])]

    def _seed(self, value) -> np.ndarray:
        """The weights of a result in what is differentiated: what the backward pass began with."""
        if value.gradient is not None and value.gradient.array is not None and not self.program.users[value]:
            return _wide(value.gradient.array)
        return np.ones(value.shape)


def _wide(array) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind in "fV" else array


def _is_float(param) -> bool:
    return isinstance(param, np.dtype) and param.kind in "fV"


def _largest(array) -> float:
    return float(np.abs(array[np.isfinite(array)]).max(initial=0)) if array.dtype.kind in "fiu" else 0.0


def _same(array, value, size) -> bool:
    """Whether the array is what the value was, as far as that is known; made of numbers as large as `size`."""
    if value.data is None or value.dtype is None:
        return True
    was = value.data
    loose = 1e-3 if was.dtype.kind != "f" or was.dtype.itemsize >= 4 else 3e-2
    if was.array is not None:
        return np.allclose(array, was.array, loose, loose * 1e-2 * max(_largest(was.array), size, 1e-6), equal_nan=True)
    return bool(np.isclose(Snapshot(array).norm, was.norm, loose))


def _unchanged(value) -> np.ndarray | None:
    """The array of a large leaf, if it holds what it held."""
    if value.leaf is None or value.data is None:
        return None
    array = to_device(value.leaf.array, "cpu")
    now = Snapshot(array)
    figures = [(s.shape, s.min, s.max, s.norm) for s in (now, value.data)]
    return array if figures[0] == figures[1] else None
