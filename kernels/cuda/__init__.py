"""What the GPU can do: CuPy's functions under NumPy's names, and the ones that CuPy lacks or does slowly."""

import cupy

from .matmul import add_product, matmul


def __getattr__(name):
    """CuPy's function of that name, kept as this module's own from then on."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(cupy, name)
    return value
