"""What a device can do: arrays in, arrays out.  `for_array(x)` finds the namespace of the device that holds x."""

import numpy as np

from . import cpu

_namespaces = {np.ndarray: cpu}


def for_array(x):
    """The kernels of the device that holds array `x`, found by the array's exact type.

    >>> cr.autograd.for_array(np.zeros(2)).__name__
    'chainrule.kernels.cpu'
    """
    try:
        return _namespaces[type(x)]
    except KeyError:
        known = ", ".join(f"{kind.__module__}.{kind.__name__}" for kind in _namespaces)
        raise TypeError(
            f"no kernels for an array of type {type(x).__module__}.{type(x).__qualname__}: "
            f"chainrule computes on {known}; convert it with np.asarray first"
        ) from None
