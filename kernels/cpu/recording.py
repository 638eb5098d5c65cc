"""Work on arrays noted while it is done: what `cr.capture` replays on the CPU (see `program`).

A `Recorded` array stands for a NumPy array while a step is recorded. Whatever is done with it is done at once with the
array itself, and noted on the `Tape`: the function, its arguments, and which recorded arrays came of it. `Recorder`
does the same for the kernels. Nothing is ever refused: what a replay could not repeat, such as a value that Python
looks at, leaves `tape.reason`, and the step goes on as it would have.
"""

from __future__ import annotations

import operator
import threading
import types
from contextlib import contextmanager
from weakref import WeakMethod, WeakValueDictionary

import numpy as np

_tape: Tape | None = None  # the one that is being written
_one_at_a_time = threading.Lock()

_VALUE = "Python looked at the value of a tensor (item(), a condition, print)"
#: functions whose results depend on shapes and dtypes alone, so that they need no replay
_OF_SHAPES = {np.ndim, np.shape, np.size, np.result_type, np.can_cast, np.iscomplexobj, np.isrealobj}
_OF_VALUES = {np.nonzero, np.flatnonzero, np.argwhere, np.unique, np.compress, np.extract, np.bincount}
_SHAPED_BY_VALUES = "the shape of {} depends on values, and may be another each time"


class Ref(int):
    """The number of a recorded value among the arguments and results of a noted call."""


class Call:
    """A call of a function on a tape: arguments and results hold `Ref`s in the places of recorded values."""

    __slots__ = ("function", "args", "kwargs", "out")

    def __init__(self, function, args, kwargs, out):
        self.function, self.args, self.kwargs, self.out = function, args, kwargs, out


_OF_MODULE = (
    "reshape transpose broadcast_to expand_dims moveaxis where asarray array ones zeros empty full arange eye "
    "ones_like zeros_like empty_like"
)
_OF_ARRAYS = "reshape transpose swapaxes squeeze view astype copy ravel diagonal"
_PURE = {getattr, *[getattr(np, name) for name in _OF_MODULE.split()]}
_PURE |= {getattr(np.ndarray, name) for name in _OF_ARRAYS.split()}


def is_pure(call):
    """Whether a call does nothing but give its result."""
    if isinstance(call.function, np.ufunc):
        return len(call.args) <= call.function.nin and "out" not in call.kwargs
    return call.function in _PURE


def refs(x):
    """The numbers of values in arguments or results."""
    if type(x) is Ref:
        yield x
    elif type(x) in (tuple, list):
        for v in x:
            yield from refs(v)
    elif type(x) is dict:
        yield from refs(list(x.values()))


class Tape:
    """What one thread does with arrays, in order; `values` describes every recorded one by its number."""

    def __init__(self):
        self.thread, self.reason, self.paused = threading.get_ident(), "", False
        self.calls: list[Call] = []
        self.values: list[Value] = []
        self.noted: dict[int, None] = {}  # numbers of the arrays that were written to, as the engine was told
        self.held: dict = {}  # references to functions: a replay holds as long as they give the same objects
        self._owners: WeakValueDictionary = WeakValueDictionary()  # id of an array: the recorded one that owns it

    def breaks(self, reason):
        """A replay could not repeat what is done now: the first reason stays."""
        self.reason = self.reason or reason

    def array(self, value, scalar=False):
        """A NumPy array as a recorded one with a number of its own."""
        made = self._owners.get(id(value))
        if made is None or made.number is not None:
            made = Recorded(value, None, self._owner(value))
            if made.base is None:
                self._owners[id(value)] = made
        made.number = len(self.values)
        owner = made.number if made.base is None else made.base.number
        self.values.append(Value(value.shape, value.dtype, value.strides, owner, scalar))
        return made

    def _owner(self, value):
        owner = value
        while type(owner.base) is np.ndarray:
            owner = owner.base
        if owner is value:
            return None
        known = self._owners.get(id(owner))
        if known is None:
            known = self._owners[id(owner)] = Recorded(owner, None, None)
        return known

    def live(self, read):
        """The number `read()`, read anew by each replay."""
        value = self.aside(read)
        self.values.append(Value((), np.dtype(object), (), None, False))  # Python's own, no array
        made = Live(value)
        made.value, made.number = value, len(self.values) - 1
        self.calls.append(Call(read, (), {}, Ref(made.number)))
        return made

    def each_time(self, action):
        """Do `action`, which each replay does again."""
        self.aside(action)
        self.calls.append(Call(action, (), {}, None))

    def aside(self, read):
        """`read()` without a note."""
        before, self.paused = self.paused, True
        try:
            return read()
        finally:
            self.paused = before

    def note_writes(self, arrays):
        """The engine was told that these were written to."""
        for array in arrays if current_tape() is self and not self.paused else ():
            if type(array) is Recorded and array.number is not None:
                self.noted[array.number] = None


class Value:
    """What is known of a recorded array: `owner` is the number of the one whose memory it is, None for a hidden one."""

    __slots__ = ("shape", "dtype", "strides", "owner", "scalar")

    def __init__(self, shape, dtype, strides, owner, scalar):
        self.shape, self.dtype, self.strides, self.owner, self.scalar = shape, dtype, strides, owner, scalar


def current_tape() -> Tape | None:
    """The tape that this thread writes."""
    tape = _tape
    return tape if tape is not None and tape.thread == threading.get_ident() else None


@contextmanager
def recorded_on(tape):
    """Note on `tape` what this thread does inside the block; gives False, and notes nothing, while another one does."""
    global _tape
    if not _one_at_a_time.acquire(blocking=False):
        yield False
        return
    try:
        _tape = tape
        yield True
    finally:
        _tape = None
        _one_at_a_time.release()


# ---- calls -----------------------------------------------------------------------------------------------------------


def call(function, args, kwargs):
    """function(*args, **kwargs) on the arrays themselves; in the thread that records, noted, its results recorded."""
    tape = current_tape()
    if tape is None or tape.paused:
        return function(*unrecorded(args), **unrecorded(kwargs))
    if function in _OF_VALUES or (function is np.where and len(args) == 1):
        tape.breaks(_SHAPED_BY_VALUES.format(f"np.{function.__name__}"))
    real = unrecorded(args)
    out = function(*real, **unrecorded(kwargs))
    if function in _OF_SHAPES or isinstance(out, (np.dtype, type)):
        return out
    known: dict = {}
    _find(args, known)
    _find(kwargs, known)
    out, pattern = _recorded(tape, out, known)
    made = Call(function, _refs(args), _refs(kwargs), pattern)
    if not tape.reason and not (pattern is None and is_pure(made)):  # it gave back what it was given
        tape.calls.append(made)
    return out


def unrecorded(x):
    """`x` with arrays and numbers in the places of recorded ones."""
    kind = type(x)
    if kind is Recorded or kind is Live:
        return x.value
    if kind is tuple or kind is list:
        return kind([unrecorded(v) for v in x])
    if kind is dict:
        return {name: unrecorded(v) for name, v in x.items()}
    if kind is slice:
        return slice(unrecorded(x.start), unrecorded(x.stop), unrecorded(x.step))
    return x


def _refs(x):
    """`x` with numbers in the places of recorded values."""
    kind = type(x)
    if kind is np.ndarray or (kind is Recorded and x.number is None):
        _break("an array was used that the recording has not seen made; pass it as a tensor among the arguments")
        return x
    if kind is Recorded or kind is Live:
        return Ref(x.number)
    if kind is tuple or kind is list:
        return kind([_refs(v) for v in x])
    if kind is dict:
        return {name: _refs(v) for name, v in x.items()}
    if kind is slice and Recorded in map(type, (x.start, x.stop, x.step)):
        _break(_VALUE)
    return x


def _find(x, known):
    """Collect the recorded arrays of `x` by the ids of what they stand for."""
    kind = type(x)
    if kind is Recorded:
        known.setdefault(id(x.value), x)
    elif kind is tuple or kind is list:
        for v in x:
            _find(v, known)
    elif kind is dict:
        _find(list(x.values()), known)


def _recorded(tape, out, known):
    """A function's result with recorded arrays for arrays, and the pattern of their numbers."""
    if isinstance(out, (np.ndarray, np.generic)):
        if id(out) in known:
            return known[id(out)], None
        scalar = isinstance(out, np.generic)
        made = tape.array(np.asarray(out), scalar)
        return made, Ref(made.number)
    if out is None:
        return None, None
    if isinstance(out, (tuple, list)):
        pairs = [_recorded(tape, v, known) for v in out]
        make = type(out)._make if hasattr(out, "_make") else type(out)
        return make([v for v, _ in pairs]), tuple([pattern for _, pattern in pairs])
    tape.breaks(_VALUE if isinstance(out, (bool, int, float, complex, str)) else f"a {type(out).__name__} came of it")
    return out, None


# ---- arrays ----------------------------------------------------------------------------------------------------------


class Recorded:
    """An array of the CPU whose uses are noted: it stands for `value`; base: whose memory it looks at, or None."""

    __slots__ = ("value", "number", "base", "__weakref__")
    __hash__ = None  # type: ignore[assignment]
    __array_priority__ = 100

    def __init__(self, value, number, base):
        self.value, self.number, self.base = value, number, base

    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(f"a recorded array has no {name}")
        found = getattr(self.value, name)
        if isinstance(found, np.ndarray):
            return call(getattr, (self, name), {})
        if callable(found):
            return lambda *args, **kwargs: call(getattr(np.ndarray, name), (self, *args), kwargs)
        if name in ("ctypes", "data", "flat"):
            _break(f"its memory was reached by .{name}")
        return found

    def __len__(self):
        return len(self.value)

    def __iter__(self):
        return (self[i] for i in range(len(self.value)))

    def __getitem__(self, index):
        for part in index if type(index) is tuple else (index,):
            if isinstance(part, (Recorded, np.ndarray)) and part.dtype == bool:
                _break(_SHAPED_BY_VALUES.format("x[mask]"))
        return call(operator.getitem, (self, index), {})

    def __setitem__(self, index, value):
        call(operator.setitem, (self, index, value), {})

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return call(ufunc if method == "__call__" else getattr(ufunc, method), inputs, kwargs)

    def __array_function__(self, function, kinds, args, kwargs):
        return call(function, args, kwargs)

    def __array__(self, dtype=None, copy=None):
        _break("NumPy took the array out of a tensor")
        return np.array(self.value, dtype=dtype) if copy else np.asarray(self.value, dtype=dtype)

    def __repr__(self):
        _break(_VALUE)
        return repr(self.value)

    def __format__(self, spec):
        _break(_VALUE)
        return format(self.value, spec)

    def __reduce__(self):
        _break("a tensor was copied or stored")
        return self.value.__reduce__()

    def __deepcopy__(self, memo):
        return self.copy()

    def __dlpack__(self, **options):
        _break("a tensor was given to another library")
        return self.value.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.value.__dlpack_device__()


def _break(reason):
    tape = current_tape()
    if tape is not None and not tape.paused:
        tape.breaks(reason)


def _read_as(convert):
    def method(self):
        _break(_VALUE)
        return convert(self.value)

    return method


_ARRAYS = (Recorded, np.ndarray, np.generic, bool, int, float, complex)


def _binary(function, swapped=False):
    def method(self, other):
        if not isinstance(other, _ARRAYS):
            return NotImplemented
        return call(function, (other, self) if swapped else (self, other), {})

    return method


def _in_place(function):
    def method(self, other):
        out = call(function, (self, other), {})
        return self if out is self.value else out  # of a thread that does not record, the array itself

    return method


_OPERATORS = {
    **{name: getattr(operator, name) for name in "floordiv mod pow matmul lshift rshift".split()},
    **{name: getattr(operator, f"{name}_") for name in ("and", "or")},
    **dict(add=np.add, sub=np.subtract, mul=np.multiply, truediv=np.true_divide, xor=operator.xor),
}
_COMPARISONS = dict(
    lt=np.less, le=np.less_equal, gt=np.greater, ge=np.greater_equal, eq=np.equal, ne=np.not_equal
)
for _name, _function in _OPERATORS.items():
    setattr(Recorded, f"__{_name}__", _binary(_function))
    setattr(Recorded, f"__r{_name}__", _binary(_function, swapped=True))
    setattr(Recorded, f"__i{_name}__", _in_place(getattr(operator, f"i{_name}")))
for _name, _function in _COMPARISONS.items():
    setattr(Recorded, f"__{_name}__", _binary(_function))
for _name, _function in dict(neg=np.negative, pos=np.positive, abs=np.absolute, invert=np.invert).items():
    setattr(Recorded, f"__{_name}__", lambda self, _function=_function: call(_function, (self,), {}))
for _name, _convert in dict(bool=bool, int=int, float=float, complex=complex, index=operator.index).items():
    setattr(Recorded, f"__{_name}__", _read_as(_convert))


class Live(float):
    """A number that each replay reads anew; kernels are given its present `value`."""


def _arithmetic(name):
    def method(self, *others):
        _break("Python computed with a number that changes from step to step")
        return getattr(float, name)(self, *others)

    return method


for _name in "add sub mul truediv floordiv mod pow radd rsub rmul rtruediv rpow neg abs bool int".split():
    setattr(Live, f"__{_name}__", _arithmetic(f"__{_name}__"))


# ---- kernels ---------------------------------------------------------------------------------------------------------


class Recorder:
    """The functions of a module with their calls noted."""

    def __init__(self, module):
        self._module = module
        self.__name__ = module.__name__

    def __getattr__(self, name):
        found = getattr(self._module, name)
        if isinstance(found, types.ModuleType):
            found = Recorder(found)
        elif callable(found) and not isinstance(found, type):
            found = _Function(getattr(found, "ufunc", found))
        setattr(self, name, found)
        return found

    def current_tape(self):
        """See `current_tape`."""
        return current_tape()

    def taken_in(self, data):
        """See `kernels.cpu.taken_in`: replays would never look at the data again."""
        _break("a tensor was made of NumPy's numbers inside; pass it as an argument")
        return call(np.asarray, (data,), {})

    def live(self, read):
        """See `kernels.cpu.live`."""
        tape = current_tape()
        return read() if tape is None or tape.paused else tape.live(read)

    def each_time(self, action):
        """See `kernels.cpu.each_time`."""
        tape = current_tape()
        if tape is None or tape.paused:
            action()
        else:
            tape.each_time(action)

    def hold(self, read):
        """See `kernels.cpu.hold`."""
        tape = current_tape()
        if tape is not None:
            tape.held[WeakMethod(read) if isinstance(read, types.MethodType) else lambda: read] = None

    def aside(self, read):
        """See `kernels.cpu.aside`."""
        tape = current_tape()
        return read() if tape is None else tape.aside(read)


class _Function:
    """A function, or a ufunc with its methods."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *args, **kwargs):
        return call(self.function, args, kwargs)

    def __getattr__(self, name):
        return _Function(getattr(self.function, name))
