"""Parameter: a tensor that its module trains."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor, tensor


class Parameter(Tensor):
    """A tensor that requires a gradient and is registered by the `Module` that it is assigned to.

    A tensor is taken without a copy and leaves its graph; arrays and lists are copied.

    >>> cr.nn.Parameter(cr.ones(2))
    Parameter containing:
    tensor([1., 1.], requires_grad=True)
    """

    def __init__(self, data: Any = (), requires_grad: bool = True):
        super().__init__(data if isinstance(data, Tensor) else tensor(data), requires_grad=requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"
