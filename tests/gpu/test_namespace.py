"""The GPU's kernels as a whole: the names and arguments of the CPU's, and an entry in the registry for each."""

import inspect

import pytest

from chainrule.kernels import cpu, registry

# What these call is in the registry under its own name.
MADE_OF = {
    "max_pool2d": "max_of_windows",
    "adaptive_max_pool2d": "max_of_windows",
    "avg_pool2d": "mean_of_windows",
    "adaptive_avg_pool2d": "mean_of_windows",
    "avg_pool2d_backward": "mean_of_windows_backward",
    "adaptive_avg_pool2d_backward": "mean_of_windows_backward",
}
# What computes nothing, and need not be on both.
HELPERS = {"aside", "describe", "each_time", "live", "memory_held", "send"}
RECORDING = {"assemble", "current_tape", "hold", "recorded_on", "taken_in", "unrecorded"}  # where CUDA has graphs
# Faster than NumPy's functions of the names; on a GPU CuPy's serve.
OF_NUMPY = {"amax", "amin", "argmax", "argmin", "clip", "concatenate", "copy", "pad", "prod", "stack", "take"}
OF_NUMPY |= {"take_along_axis", "where"} | {name for name, function in vars(cpu).items() if hasattr(function, "ufunc")}
HELPERS |= RECORDING | OF_NUMPY


def own(namespace):
    """The functions of a device's namespace that are not NumPy's or CuPy's."""
    return {
        name: value
        for name, value in vars(namespace).items()
        if inspect.isfunction(value) and value.__module__.startswith(namespace.__name__) and not name.startswith("_")
    }


def test_the_devices_offer_the_same_names(cuda):
    assert set(own(cuda)) - HELPERS == set(own(cpu)) - HELPERS


@pytest.mark.parametrize("name", sorted(set(own(cpu)) - RECORDING - OF_NUMPY))
def test_with_the_same_arguments(cuda, name):
    ours, theirs = ([(p.name, p.kind, p.default) for p in _parameters(n, name)] for n in (cuda, cpu))
    assert ours == theirs


def _parameters(namespace, name):
    """All but the algorithm of a convolution: on a GPU the registry's names choose, for every operation."""
    found = inspect.signature(getattr(namespace, name)).parameters.values()
    return [parameter for parameter in found if parameter.name != "algorithm"]


@pytest.mark.parametrize("name", sorted(set(own(cpu)) - HELPERS))
def test_is_in_the_registry(cuda, name):
    found = registry.implementations(MADE_OF.get(name, name), device="cuda")
    assert found and all(made.dtypes and callable(made.floor) for made in found)
