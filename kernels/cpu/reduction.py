"""Sums that stay right however many numbers there are and whatever axis they lie on."""

import numpy as np

from .layout import half_by_single


@half_by_single
def sum(x, axis=None, keepdims=False):
    """Sum over axis (an int, a tuple, or None for all), accumulated in float64; floats keep their dtype."""
    if x.dtype != np.float32:
        return np.asarray(np.add.reduce(x, axis, keepdims=keepdims))
    return np.asarray(np.add.reduce(x, axis, dtype=np.float64, keepdims=keepdims)).astype(np.float32)
