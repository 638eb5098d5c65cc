"""The one place that deals with Numba: loops compiled on their first call, each beside a NumPy twin.

A loop is decorated with `@jit(twin)`; twin takes the same arguments and has the same effects.  The twin serves where
Numba is missing or CHAINRULE_NUMBA=0.  Callers pass C-contiguous writeable arrays only (see `layout.compact`), so that
every loop is compiled for few signatures.
"""

import importlib.util
import os
from functools import cache, cached_property, update_wrapper
from pickle import UnpicklingError
from types import FunctionType


@cache
def has_numba():
    """Whether Numba is installed and CHAINRULE_NUMBA does not forbid it."""
    return os.environ.get("CHAINRULE_NUMBA", "1") != "0" and importlib.util.find_spec("numba") is not None


class Loop:
    """A Numba loop and its NumPy twin behind one call."""

    use_numba = None  # None: wherever Numba is; tests set True or False

    def __init__(self, function, twin, fastmath):
        update_wrapper(self, function)
        self.function, self.twin, self.fastmath = function, twin, fastmath

    def __call__(self, *arguments):
        wanted = Loop.use_numba
        if not (has_numba() if wanted is None else wanted):
            return self.twin(*arguments)
        try:
            return self.compiled(*arguments)
        except (OSError, EOFError, UnpicklingError):  # a full disk or a damaged file; the loop has not begun
            self.compiled = self._compile(cache=False)
            return self.compiled(*arguments)

    @cached_property
    def compiled(self):
        """Numba's version of the loop, which compiles itself for the types of its first call."""
        try:
            return self._compile(cache=True)
        except RuntimeError:  # no folder for the cache can be written
            return self._compile(cache=False)

    def _compile(self, cache):
        import numba

        options = dict(nogil=True, error_model="numpy", fastmath=self.fastmath)
        return numba.njit(cache=cache, **options)(_with_compiled_inlines(self.function))


def jit(twin, *, reassociate=False):
    """Decorate a loop for Numba, with `twin` to serve without it.

    `reassociate` lets sums be taken in any order, which vectorises them; NaN and infinity keep their meaning.
    """
    fastmath = {"reassoc", "contract"} if reassociate else {"contract"}
    return lambda function: Loop(function, twin, fastmath)


def inline(function):
    """Mark a scalar formula that loops may call; Numba's cache of a loop does not see it change in another file."""
    function.inline = True
    return function


def variant(function, name, **names):
    """A copy of a loop's function under another name, in which `names` stand for globals."""
    copy = FunctionType(function.__code__, function.__globals__ | names, name)
    copy.__module__, copy.__qualname__, copy.__doc__ = function.__module__, name, function.__doc__
    return copy


def _with_compiled_inlines(function):
    """`function` with the formulas that it calls by their names compiled."""
    known = {name: function.__globals__.get(name) for name in function.__code__.co_names}
    formulas = {name: _compiled_inline(value) for name, value in known.items() if getattr(value, "inline", False)}
    return variant(function, function.__qualname__, **formulas) if formulas else function


@cache
def _compiled_inline(value):
    import numba

    if hasattr(value, "compiled"):
        return value.compiled
    return numba.njit(error_model="numpy", fastmath={"contract"})(_with_compiled_inlines(value))
