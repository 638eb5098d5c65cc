"""Parameter: a tensor that its module trains."""

from __future__ import annotations

from ..autograd import Tensor
