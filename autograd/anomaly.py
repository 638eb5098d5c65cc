"""Finding the operation that made the first NaN or infinity."""

from __future__ import annotations

from .state import StateContext


class detect_anomaly(StateContext):
    """Check every result and gradient inside the block; the first NaN or Inf raises `AnomalyError`.

    The error names the operation, the module path and the source line, in forward or in backward. Costs time only
    inside the block.

    >>> with cr.detect_anomaly():
    ...     cr.log(cr.tensor([0.0], requires_grad=True))
    Traceback (most recent call last):
    ...
    chainrule.autograd.primitive.AnomalyError: detect_anomaly: the result of log holds the first Inf, at index (0,); ...
    """

    changes = {"anomaly": True}
