"""The one place that deals with Numba: loops compiled on their first call, each beside a NumPy twin.

A loop is decorated with `@jit(twin)`; twin takes the same arguments and has the same effects.  The twin serves where
Numba is missing or CHAINRULE_NUMBA=0.  Callers pass C-contiguous writeable arrays only (see `layout.compact`), so that
every loop is compiled for few signatures.
"""

import importlib
import importlib.util
import os
import threading
from functools import cache, cached_property, partial, update_wrapper
from hashlib import blake2b
from pathlib import Path
from pickle import UnpicklingError
from types import FunctionType

from .progress import Compiling

_loading = threading.Lock()  # threads may meet their first loops at the same time


@cache
def has_numba():
    """Whether Numba is installed and CHAINRULE_NUMBA does not forbid it."""
    return os.environ.get("CHAINRULE_NUMBA", "1") != "0" and importlib.util.find_spec("numba") is not None


def numba():
    """Numba, told to report what it compiles, and not to import SciPy only to see that it is there.

    SciPy would be 0.3 s of a program's first step.
    """
    with _loading:
        return _loaded()


@cache
def _loaded():
    import numba
    from numba.core import event
    from numba.np import linalg

    event.Listener.register(Compiling)
    event.register("numba:compile", Compiling())
    look, linalg.ensure_blas = linalg.ensure_blas, _have_scipy
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        linalg.ensure_blas = look
    return numba


def _have_scipy():
    if importlib.util.find_spec("scipy") is None:
        raise ImportError("SciPy is not installed")


def compiles():
    """Whether loops are compiled: wherever Numba is, unless a test says otherwise."""
    return has_numba() if Loop.use_numba is None else Loop.use_numba


class Loop:
    """A Numba loop and its NumPy twin behind one call."""

    use_numba = None  # None: wherever Numba is; tests set True or False

    def __init__(self, function, twin, fastmath):
        update_wrapper(self, function)
        self.function, self.twin, self.fastmath = function, twin, fastmath

    def __call__(self, *arguments):
        if not compiles():
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
        njit = numba().njit  # before any other part of Numba is imported
        options = dict(nogil=True, error_model="numpy", fastmath=self.fastmath, pipeline_class=_compiler())
        return njit(cache=cache, **options)(_with_compiled_inlines(self.function))


@cache
def _compiler():
    """Numba's, but a loop calls its own copies of the formulas that LLVM did not inline.

    Numba leaves them weak: a process takes the first of one name that it meets, be it the formula alone, compiled for
    this loop a moment ago, or another loop's copy. Each was optimised with what is around it, and rounds accordingly:
    the run that compiles would differ from the next.
    """
    from llvmlite.binding import Linkage
    from numba.core import codegen, compiler

    class Library(codegen.JITCodeLibrary):
        def _finalize_final_module(self):
            for function in self._final_module.functions:
                if function.linkage == Linkage.linkonce_odr:
                    function.linkage = Linkage.internal
            super()._finalize_final_module()

    class Compiler(compiler.Compiler):
        def define_pipelines(self):
            self.state.library = Library(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
            self.state.library.enable_object_caching()
            return super().define_pipelines()

    return Compiler


def jit(twin, *, reassociate=False):
    """Decorate a loop for Numba, with `twin` to serve without it.

    `reassociate` lets sums be taken in any order, which vectorises them; NaN and infinity keep their meaning.
    """
    return lambda function: Loop(function, twin, _freedom(reassociate))


def _freedom(reassociate):
    return {"reassoc", "contract"} if reassociate else {"contract"}


def inline(function, *, reassociate=False):
    """Mark a formula that loops may call."""
    function.inline, function.fastmath = True, _freedom(reassociate)
    return function


def variant(function, name, **names):
    """A copy of a loop's function under another name, in which `names` stand for globals."""
    copy = FunctionType(function.__code__, function.__globals__ | names, name, function.__defaults__)
    copy.__module__, copy.__qualname__, copy.__doc__ = function.__module__, name, function.__doc__
    return copy


def _with_compiled_inlines(function):
    """`function` with the formulas that it calls by their names compiled.

    Numba's cache compares the time of the function's own file only; the name tells the formulas' files apart.
    """
    formulas = _formulas(function)
    if not formulas:
        return function
    text = b"".join(map(_text, sorted(_sources(function))))
    name = f"{function.__qualname__}_{blake2b(text, digest_size=6).hexdigest()}"
    return variant(function, name, **{own: _compiled_inline(formula) for own, formula in formulas.items()})


def _formulas(function):
    known = {name: function.__globals__.get(name) for name in function.__code__.co_names}
    return {name: value for name, value in known.items() if getattr(value, "inline", False)}


def _sources(part):
    """The files in which a formula is written, and those of its `parts`: functions, partial ones, tuples of them."""
    own, parts = set(), getattr(part, "parts", part if isinstance(part, tuple) else ())
    if isinstance(part, partial):
        parts = part.func, *part.args
    elif isinstance(part, FunctionType):
        own, parts = {part.__code__.co_filename}, _formulas(part).values()
    return own.union(*map(_sources, parts))


@cache
def _text(file):
    try:
        return Path(file).read_bytes()
    except OSError:  # no file, and so no cache either
        return b""


@cache
def _compiled_inline(value):
    if hasattr(value, "compiled"):
        return value.compiled
    fastmath = getattr(value, "fastmath", {"contract"})
    return numba().njit(error_model="numpy", fastmath=fastmath)(_with_compiled_inlines(value))
