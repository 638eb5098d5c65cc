"""What a device can do: arrays in, arrays out.  `for_array(x)` finds the namespace of the device that holds x."""

import importlib
import sys

import numpy as np

from . import cpu
from .registry import using

_recording = cpu.Recorder(cpu)  # the same kernels for what is recorded by `cr.capture`
_namespaces = {np.ndarray: cpu, cpu.Recorded: _recording}


def for_array(x):
    """The kernels of the device that holds array `x`, found by the array's exact type.

    >>> cr.autograd.for_array(np.zeros(2)).__name__
    'chainrule.kernels.cpu'
    """
    try:
        return _namespaces[type(x)]
    except KeyError:
        return _first_of_its_kind(x)


def _first_of_its_kind(x):
    if is_array(x):
        namespace = for_device("cuda") if type(x) is sys.modules["cupy"].ndarray else cpu
        _namespaces[type(x)] = namespace
        return namespace
    raise TypeError(
        f"no kernels for an array of type {type(x).__module__}.{type(x).__qualname__}: chainrule computes on "
        "numpy.ndarray and cupy.ndarray; convert it with np.asarray first"
    )


def is_array(x) -> bool:
    """Whether `x` is an array that one of the devices holds.

    >>> cr.kernels.is_array(np.zeros(2)), cr.kernels.is_array([0.0, 0.0])
    (True, False)
    """
    if type(x) in _namespaces:
        return True
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(x, getattr(cupy, "ndarray", ()))


def for_device(device: str):
    """The kernels of a device by its name, 'cpu' or 'cuda'; RuntimeError says what 'cuda' lacks.

    >>> cr.kernels.for_device("cpu").__name__
    'chainrule.kernels.cpu'
    """
    if device == "cpu":
        return _recording if cpu.current_tape() else cpu
    missing = missing_for_cuda()
    if missing:
        raise RuntimeError(f"device='cuda': {missing}")
    return importlib.import_module(".cuda", __name__)


def missing_for_cuda() -> str:
    """What device 'cuda' lacks here and how to get it, '' where it is there."""
    try:
        import cupy
    except ImportError as error:
        return (
            f"CuPy cannot be imported ({error}); install it with pip install 'chainrule[cuda13]' (or [cuda12] for an "
            "older driver), or pass device='cpu'"
        )
    if not cupy.is_available():
        return (
            f"CuPy {cupy.__version__} finds no NVIDIA GPU with a working driver; see `nvidia-smi`, or pass device='cpu'"
        )
    return ""


def device_of(array) -> str:
    """The name of the device that holds `array`.

    >>> cr.kernels.device_of(np.zeros(2))
    'cpu'
    """
    return "cpu" if for_array(array) in (cpu, _recording) else "cuda"


def to_device(array, device: str):
    """`array` on the device named: itself if it is there already, else a copy."""
    if device_of(array) == device:
        return array
    return array.get() if device == "cpu" else for_device(device).asarray(array)
