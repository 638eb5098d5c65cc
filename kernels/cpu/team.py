"""Loops whose range the worker threads share without Python: a slice begins within a microsecond.

`workers.run` hands its workers Python functions, and each of them needs Python's lock before it can begin: slices of
less than 0.1 ms were over before a second thread had begun (two of 36 us took 74 us together, of 118 us 150 to 230). So
while a worker lingers it also looks at a board, where compiled code writes a job: the address of a loop and of its
arguments. Whoever sees it takes slices one by one, the caller too; it closes the job, waits until nobody is inside, and
goes on. A thread that comes late joins as long as slices are left.
"""

import numpy as np

from .jit import inline, jit, variant
from .vector import Emitted, address, give_way

# The board: one number in each line of the caches.
_APART = 8
_JOB, _INSIDE, _NEXT, _FAILED, _OWNER, _THERE = (8 * _APART * i for i in range(6))  # addresses, in bytes
_FUNCTION, _CONTEXT, _SIZE, _PARTS, _HELPERS = (8 * _APART * 6 + 8 * i for i in range(5))
_NUMBERS = 8 * _APART
_PATIENCE = 2000  # looks before a waiting thread offers its core to others


def board():
    """Where jobs are written, while there is none."""
    return np.zeros(_NUMBERS, np.int64)


def waiting(board):
    """How many workers look at it."""
    return board[_THERE // 8]


def conductor(loop, name):
    """The function (board, helpers, parts, size, arguments) that has `loop` done by all; how many slices failed.

    It is to be compiled; size is that of the range, of which loop(*arguments, first, last) does a part.
    """
    return variant(_conduct, f"_conduct_{name}", loop=loop)


def _atomic(which):
    """`load(address)`, `add(address, value)` -> the value before, `swap(address, value)` -> the value before."""

    def write():
        from llvmlite import ir
        from numba import types
        from numba.core.typing import signature
        from numba.extending import intrinsic

        whole = ir.IntType(64)

        def generate(target, builder, signature, arguments):
            place = builder.inttoptr(arguments[0], whole.as_pointer())
            if which == "load":
                return builder.load_atomic(place, "seq_cst", 8)
            return builder.atomic_rmw(which, place, arguments[1], "seq_cst")

        @intrinsic
        def one(context, address):
            return signature(types.intp, types.intp), generate

        @intrinsic
        def two(context, address, value):
            return signature(types.intp, types.intp, types.intp), generate

        return one if which == "load" else two

    return Emitted(write)


_load, _add, _swap = _atomic("load"), _atomic("add"), _atomic("xchg")


def _write_packed():
    """The instruction `packed(loop, arguments)`: addresses of a function f(context, first, last) and of its context."""
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.core.typing import signature
    from numba.extending import intrinsic

    whole = ir.IntType(64)

    @intrinsic
    def packed(typing, loop, arguments):
        kinds = (*arguments.types, types.intp, types.intp)
        typing.resolve_function_type(loop, kinds, {})  # compiles it

        def generate(context, builder, signature, values):
            compiled = loop.dispatcher.overloads[kinds]
            context.active_code_library.add_linking_library(compiled.library)
            callee = context.declare_function(builder.module, compiled.fndesc)
            name = f"slice_of_{compiled.fndesc.mangled_name}"
            stub = ir.Function(builder.module, ir.FunctionType(whole, [whole] * 3), name)
            stub.linkage = "internal"
            inner = ir.IRBuilder(stub.append_basic_block())
            given = inner.load(inner.inttoptr(stub.args[0], values[1].type.as_pointer()))
            given = [inner.extract_value(given, i) for i in range(len(arguments.types))]
            for i, kind in enumerate(arguments.types):
                if isinstance(kind, types.Array):  # without an owner: counting references, threads wait for each other
                    given[i] = inner.insert_value(given[i], ir.Constant(given[i].type.elements[0], None), 0)
            status, _ = context.call_conv.call_function(
                inner, callee, compiled.fndesc.restype, compiled.fndesc.argtypes, [*given, *stub.args[1:]]
            )
            inner.ret(inner.zext(status.is_error, whole))
            place = cgutils.alloca_once_value(builder, values[1])
            pair = [builder.ptrtoint(x, whole) for x in (stub, place)]
            return context.make_tuple(builder, signature.return_type, pair)

        return signature(types.UniTuple(types.intp, 2), loop, arguments), generate

    return packed


def _write_call():
    """The instruction `call(function, context, first, last)` for the addresses that `packed` gives."""
    from llvmlite import ir
    from numba import types
    from numba.core.typing import signature
    from numba.extending import intrinsic

    whole = ir.IntType(64)

    @intrinsic
    def call(context, function, place, first, last):
        def generate(target, builder, signature, arguments):
            kind = ir.FunctionType(whole, [whole] * 3)
            return builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])

        return signature(types.intp, *[types.intp] * 4), generate

    return call


_packed, _call = Emitted(_write_packed), Emitted(_write_call)


@inline
def _take(at, function, context, size, parts):
    """Do slices until none is left to take."""
    while True:
        i = _add(at + _NEXT, 1)
        if i >= parts:
            return
        if _call(function, context, size * i // parts, size * (i + 1) // parts):
            _add(at + _FAILED, 1)


def _conduct(board, helpers, parts, size, arguments):
    at = address(board)
    function, context = _packed(loop, arguments)  # noqa: F821 (each variant has its own)
    if parts == 1 or _swap(at + _OWNER, 1):  # another thread of the caller's program has the board
        failed = 0
        for i in range(parts):
            failed += _call(function, context, size * i // parts, size * (i + 1) // parts)
        return failed
    numbers = board[_FUNCTION // 8 :]
    numbers[0], numbers[1], numbers[2], numbers[3], numbers[4] = function, context, size, parts, helpers
    _swap(at + _NEXT, 0)
    _swap(at + _FAILED, 0)
    board[1] += 1  # the number of the job, never 0
    _swap(at + _JOB, board[1])
    _take(at, function, context, size, parts)
    _swap(at + _JOB, 0)
    look = 0
    while _load(at + _INSIDE):
        look += 1
        if look > _PATIENCE:
            give_way()
    failed = _load(at + _FAILED)
    _swap(at + _OWNER, 0)
    return failed


@jit(lambda *_: False)
def attend(board, events, seen, looks, settle, spare):
    """Wait without Python's lock until events[0] is no longer `seen`, and do slices of jobs meanwhile.

    Says whether that was so within so many looks since the last slice. `settle`, `spare`: see `workers._linger`.
    """
    at, last, look = address(board), 0, 0
    _add(at + _THERE, 1)
    while look < looks and events[0] == seen:
        job = _load(at + _JOB)
        if job != 0 and job != last:
            last = job
            if _add(at + _INSIDE, 1) < board[_HELPERS // 8] and _load(at + _JOB) == job:
                numbers = board[_FUNCTION // 8 :]
                _take(at, numbers[0], numbers[1], numbers[2], numbers[3])
                look = 0
            _add(at + _INSIDE, -1)
        events[spare] = look
        look += 1
    _add(at + _THERE, -1)
    if events[0] == seen:
        return False
    for pause in range(settle):
        events[spare] = pause + events[0]
    return True
