"""The one place that deals with Numba: loops compiled on their first call, each beside a NumPy twin.

A loop is decorated with `@jit(twin)`; twin takes the same arguments and has the same effects.  The twin serves where
Numba is missing or CHAINRULE_NUMBA=0.  Callers pass C-contiguous writeable arrays only (see `layout.compact`), so that
every loop is compiled for few signatures.
"""

import importlib.util
import os
from functools import cache, cached_property, update_wrapper


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
        if has_numba() if wanted is None else wanted:
            return self.compiled(*arguments)
        return self.twin(*arguments)

    @cached_property
    def compiled(self):
        import numba

        options = dict(nogil=True, error_model="numpy", fastmath=self.fastmath)
        try:
            return numba.njit(cache=True, **options)(self.function)
        except RuntimeError:  # no folder for the cache can be written
            return numba.njit(**options)(self.function)


def jit(twin, *, reassociate=False):
    """Decorate a loop for Numba, with `twin` to serve without it.

    `reassociate` lets sums be taken in any order, which vectorises them; NaN and infinity keep their meaning.
    """
    fastmath = {"reassoc", "contract"} if reassociate else {"contract"}
    return lambda function: Loop(function, twin, fastmath)
