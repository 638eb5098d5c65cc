"""Finding the operation that made the first NaN or infinity."""

from __future__ import annotations

import numpy as np

from ..kernels import is_array, to_device
from .display import save_failure, tape
from .graph import user_line
from .primitive import as_ndarray, described
from .state import state
from .tensor import Tensor, is_floating
from .watch import Watch, watching


class AnomalyError(RuntimeError):
    """The first NaN or infinity under `detect_anomaly`.

    >>> try:
    ...     with cr.detect_anomaly():
    ...         cr.tensor([1.0, -1.0]).sqrt()
    ... except cr.AnomalyError as error:
    ...     print(str(error).partition(";")[0])
    detect_anomaly: the result of sqrt holds the first NaN, at index (1,)
    """


class _Finite(Watch):
    """Raises at the first value that is not finite."""

    def made(self, primitive, node, arrays, out):
        for value in out if isinstance(out, tuple) else (out,):
            if not is_finite(value):
                given = "; received " + ", ".join(described(a) for a in arrays if a is not None)
                cause = "; an input held one already" if not all(map(is_finite, arrays)) else ""
                _complain(f"the result of {primitive.name}", node, value, given + cause)

    def gave(self, node, i, gradient, fitted):
        gradient = gradient.array if isinstance(gradient, Tensor) else gradient
        if not is_finite(gradient):
            _complain(f"the gradient that flows out of {node.name}", node, gradient, "")


def _complain(told, node, value, given):
    value = to_device(as_ndarray(value), "cpu")
    bad = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
    kind = "NaN" if np.isnan(value[bad]) else "Inf"
    path = f" in module {node.path}" if node is not None and node.path else ""
    line = user_line() if node is None else node.line
    raise AnomalyError(
        f"detect_anomaly: {told}{path} holds the first {kind}, at index {bad}; recorded at {line}{given}"
    )


def is_finite(value) -> bool:
    """Whether no element is NaN or infinite; what is no array of floats is finite."""
    if not (is_array(value) or isinstance(value, np.floating)):
        return True
    return not is_floating(value.dtype) or bool(np.isfinite(value).all())


class detect_anomaly(watching):
    """Check every result and gradient inside the block; the first NaN or Inf raises `AnomalyError`.

    The error names the operation, the module path and the source line, in forward or in backward. Costs time only
    inside the block.

    draw: a file (.svg, .png, .pdf, .dot). When an operation or a backward pass inside the block raises, whatever the
    error, the graph that led there is drawn into it, with the failing operation in red; the error says so in a note.

    >>> with cr.detect_anomaly():
    ...     cr.log(cr.tensor([0.0], requires_grad=True))
    Traceback (most recent call last):
    ...
    chainrule.autograd.anomaly.AnomalyError: detect_anomaly: the result of log holds the first Inf, at index (0,); ...
    """

    def __init__(self, draw=None):
        super().__init__(_Finite())
        self.draw = draw

    def __enter__(self):
        if self.draw is None:
            return super().__enter__()
        with_tape = (*state.get().watch, tape(), self.watch)  # the tape first: it keeps the result that is refused
        current = state.get()
        state.set(current.replace(watch=with_tape, entered=(self, current)))
        return self.watch

    def __exit__(self, kind, error, trace):
        if self.draw is not None and error is not None:
            note = save_failure(state.get().watch[-2], error, self.draw)
            if note:
                error.add_note(note)
        return super().__exit__(kind, error, trace)

    def _again(self):
        return detect_anomaly(self.draw)
