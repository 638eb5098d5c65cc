"""Runs of elementwise operations as one loop: a machine whose instructions work on a block of elements each.

Fused by compiling each run, a chain of 1000 operations would wait for LLVM for seconds; instead one loop is compiled
once, on its first use on this machine, that reads the operations as it goes. Its registers are rows of elements that
stay in the nearest cache. Only what IEEE 754 rounds in one way is an instruction, so that the bits are NumPy's.
"""

from functools import cache
from math import prod
from typing import Any

import numpy as np

from . import vector, workers
from .jit import compiles
from .panels import at_line
from .recording import Call, Ref, is_pure, refs
from .vector import address

_NEAR = 1 << 14  # bytes of registers that stay in the nearest cache beside what they are loaded from
_WIDEST, _LEAST = 2048, 128  # elements of a register
_OPERATIONS = 20  # of a run on few elements: NumPy's calls take 0.3 us each, the loop's begins after 6
_FEW, _LARGE = 3, 1 << 17  # operations that do, if they times the elements are so many
_GRAIN = 1 << 17  # elements times operations that outlast handing them to a worker
_HELD = 1 << 16  # bytes of a result that the machine keeps from call to call

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_COMPARISONS = {
    np.less: ("<", True), np.less_equal: ("<=", True), np.greater: (">", True), np.greater_equal: (">=", True),
    np.equal: ("==", True), np.not_equal: ("!=", False),
}  # fmt: skip


def _compared(how, ordered):
    def emit(o, x, y, _):
        known = o.builder.fcmp_ordered if ordered else o.builder.fcmp_unordered
        return o.builder.select(known(how, x, y), _all(o, 1.0), _all(o, 0.0))

    return emit


def _all(o, value):
    return o.ir.Constant(o.vector, [value] * o.count)


def _of_llvm(name):
    return lambda o, x, *_: o.builder.call(o.function(name, o.vector, [o.vector]), [x])


def _chosen(o, x, y, z):
    return o.builder.select(o.builder.fcmp_unordered("!=", x, _all(o, 0.0)), y, z)


#: NumPy's function -> the vectors' instruction; comparisons give 1 and 0, as which NumPy would count them
_EMITTED: dict[Any, Any] = {
    np.add: lambda o, x, y, _: o.builder.fadd(x, y),
    np.subtract: lambda o, x, y, _: o.builder.fsub(x, y),
    np.multiply: lambda o, x, y, _: o.builder.fmul(x, y),
    np.divide: lambda o, x, y, _: o.builder.fdiv(x, y),
    np.negative: lambda o, x, *_: o.builder.fneg(x),
    np.square: lambda o, x, *_: o.builder.fmul(x, x),
    np.reciprocal: lambda o, x, *_: o.builder.fdiv(_all(o, 1.0), x),
    np.absolute: _of_llvm("fabs"),
    np.sqrt: _of_llvm("sqrt"),
    np.where: _chosen,
    **{function: _compared(*how) for function, how in _COMPARISONS.items()},
}
_CODES = {function: code for code, function in enumerate(_EMITTED, 3)}
_LOAD, _SPREAD, _STORE = range(3)


# ---- which calls -----------------------------------------------------------------------------------------------------


def fused(calls, values, outputs):
    """The calls with runs of elementwise ones in the places of their parts."""
    if not compiles():
        return calls
    kinds = [_kind(call, values) for call in calls]
    while True:
        groups = _grouped(calls, kinds, values)
        outside = _outside(calls, groups, outputs)
        seen = [at for group in groups for at in group if kinds[at] and _is_mask(calls[at].out, values)]
        seen = [at for at in seen if calls[at].out in outside]
        if not seen:
            break
        for at in seen:  # what others read as bool is no work for registers of floats
            kinds[at] = None
    made = []
    for group in groups:
        run = [calls[at] for at in group]
        made += [_as_call(run, values, outside, outputs)] if _is_worth_it(run, values) else run
    return made


def _kind(call, values):
    """(shape, dtype) of an elementwise call that the machine can do, else None."""
    if call.function not in _CODES or call.kwargs or type(call.out) is not Ref:
        return None
    out, arrays = values[call.out], [values[x] for x in call.args if type(x) is Ref]
    dtype = next((v.dtype for v in arrays if v.dtype in _FLOATS), None)
    compares = call.function in _COMPARISONS
    if dtype is None or len(call.args) != getattr(call.function, "nin", 3) or 0 in out.shape:
        return None
    fits = all(type(x) is Ref or type(x) in (int, float, dtype.type) for x in call.args)
    fits = fits and out.dtype == (bool if compares else dtype) and _is_dense(out)
    for v in arrays:
        if v.dtype == bool:
            fits = fits and v.shape == out.shape and not compares
        else:
            fits = fits and v.dtype == dtype and v.shape in (out.shape, ()) and _is_dense(v)
    return (out.shape, dtype) if fits else None


def _is_dense(value):
    """Whether the elements lie in C order without gaps."""
    apart = value.dtype.itemsize
    for n, stride in zip(value.shape[::-1], value.strides[::-1], strict=True):
        if n > 1 and stride != apart:
            return False
        apart *= n
    return True


def _is_mask(n, values):
    return values[n].dtype == bool


def _used(call):
    return {*refs(call.args), *refs(call.kwargs)}


def _grouped(calls, kinds, values):
    """Numbers of calls in an order that does the same, in lists: each a run of elementwise ones, or one other call."""
    groups: list[list[int]] = [[]]
    kind, made = None, set()
    for at, call in enumerate(calls):
        used = _used(call)
        masks = {n for n in used if kinds[at] and _is_mask(n, values)}
        if kinds[at] and kinds[at] == kind and masks <= made:
            groups[-1].append(at)
            made.add(call.out)
        elif not kinds[at] and is_pure(call) and made.isdisjoint(used):
            groups.insert(-1, [at])
        elif kinds[at] and not masks:
            groups.append([at])
            kind, made = kinds[at], {call.out}
        else:
            groups += [[at], []]
            kind, made = None, set()
    return [group for group in groups if group]


def _outside(calls, groups, outputs):
    """The values that are used outside the groups that make them."""
    home = {n: i for i, group in enumerate(groups) for at in group for n in refs(calls[at].out)}
    used = {n for i, group in enumerate(groups) for at in group for n in _used(calls[at]) if home.get(n) != i}
    return used.union(outputs)


def _is_worth_it(run, values):
    """Whether the machine takes less time for a run than NumPy."""
    if any(call.function not in _CODES for call in run) or type(run[0].out) is not Ref:
        return False
    size = prod(values[run[0].out].shape)
    return len(run) >= _OPERATIONS or (len(run) >= _FEW and len(run) * size >= _LARGE)


# ---- a run as instructions -------------------------------------------------------------------------------------------


def _as_call(run, values, outside, outputs):
    """One call that does the run's work."""
    owners = {values[n].owner for n in outputs}
    out = [call.out for call in run if call.out in outside]
    made = {call.out for call in run}
    inputs = list(dict.fromkeys(x for call in run for x in call.args if type(x) is Ref and x not in made))
    numbers = {_place(x): x for call in run for x in call.args if type(x) is not Ref}
    places = {x: i for i, x in enumerate([*numbers, *inputs, *out])}
    shape, dtype = values[run[0].out].shape, next(values[x].dtype for x in inputs if values[x].dtype in _FLOATS)
    code, registers = _instructions(run, values, places, out)
    held = [n not in owners and prod(shape) * dtype.itemsize <= _HELD for n in out]
    work = Fused(shape, dtype, code, list(numbers.values()), registers, len(inputs), held)
    return Call(work, tuple(inputs), {}, tuple(out))


def _place(x):
    """What tells an operand from others: a number by its text, for 0.0 == -0.0."""
    return x if type(x) is Ref else repr(x)


def _instructions(run, values, places, out):
    """Rows of (code, register or place of the result, and of the operands), and how many registers they need."""
    last = {_place(x): at for at, call in enumerate(run) for x in call.args}
    code, free, at_register, count = [], [], {}, 0

    def taken(x):
        nonlocal count
        if not free:
            free.append(count)
            count += 1
        at_register[x] = free.pop()
        return at_register[x]

    for at, call in enumerate(run):
        operands = [_place(x) for x in call.args]
        for x in operands:
            if x not in at_register:
                whole = type(x) is Ref and values[x].shape == values[call.out].shape
                code.append((_LOAD if whole else _SPREAD, taken(x), places[x], 0, 0))
        given = [at_register[x] for x in operands]
        for x in dict.fromkeys(operands):
            if last[x] == at:
                free.append(at_register.pop(x))
        into = taken(call.out)
        code.append((_CODES[call.function], into, *given, *[0] * (3 - len(given))))
        if call.out in out:
            code.append((_STORE, places[call.out], into, 0, 0))
        if call.out not in last:
            free.append(at_register.pop(call.out))
    return np.array(code, np.intp), count


class Fused:
    """A run of elementwise operations on arrays of one shape and dtype: arrays in, arrays out, all C-contiguous."""

    def __init__(self, shape, dtype, code, numbers, registers, inputs, held):
        self.shape, self.dtype, self.code, self.size = shape, dtype, code, prod(shape)
        self.numbers = np.array(numbers, dtype)  # each in a place of its own, from where it is spread
        self.held = [np.empty(shape, dtype) if hold else None for hold in held]
        first = self.numbers.ctypes.data
        own = [first + i * dtype.itemsize for i in range(len(numbers))]
        kept = [0 if one is None else one.ctypes.data for one in self.held]
        self.slots, self.first = np.array([*own, *[0] * inputs, *kept], np.intp), len(numbers)
        lanes = vector.lanes(dtype)
        wide = min(_WIDEST, max(_LEAST, _NEAR // (registers * dtype.itemsize)), -(-self.size // lanes) * lanes)
        self.sizes = self.size, registers, max(lanes, wide // lanes * lanes), lanes
        self.blocks = -(-self.size // self.sizes[2])
        self.grain = max(1, _GRAIN // (len(code) * self.sizes[2]))

    def __call__(self, *inputs):
        slots, at = self.slots, self.first
        for array in inputs:
            slots[at] = array.ctypes.data
            at += 1
        made = []
        for one in self.held:
            if one is None:
                one = np.empty(self.shape, self.dtype)
                slots[at] = one.ctypes.data
            made.append(one)
            at += 1
        _machine()(self.blocks, self.code, slots, self.numbers[:0], *self.sizes, grain=self.grain)
        return made


# ---- the machine -----------------------------------------------------------------------------------------------------


def _over_block(emitted):
    """The instruction (n, into, x, y, z): an operation on n elements at addresses, n being whole vectors."""

    def emit(o, n, into, x, y, z):
        i, _, end = o.loop(n, o.count, [])
        o.put(emitted(o, *[o.get(o.at(source, i)) for source in (x, y, z)]), o.at(into, i))
        end()

    return vector.instruction(emit, emitted)


def _copied(loading):
    """The instruction (n, into, source): n elements, any number of them, to or from whole vectors."""

    def emit(o, n, into, source):
        i, _, end = o.loop(n, o.count, [])
        mask = o.first(o.builder.sub(n, i))
        if loading:
            o.put(o.load(o.at(source, i), mask), o.at(into, i))
        else:
            o.store(o.get(o.at(source, i)), o.at(into, i), mask)
        end()

    return vector.instruction(emit)


def _spread():
    """The instruction (n, into, source): the number at `source` n times, n being whole vectors."""

    def emit(o, n, into, source):
        value = o.splat(o.builder.load(o.pointer(source, o.scalar)))
        i, _, end = o.loop(n, o.count, [])
        o.put(value, o.at(into, i))
        end()

    return vector.instruction(emit)


fetch_block, write_block, spread_block = _copied(True), _copied(False), _spread()
(
    do_add, do_subtract, do_multiply, do_divide, do_negative, do_square,
    do_reciprocal, do_absolute, do_sqrt, do_where, do_less, do_less_equal,
    do_greater, do_greater_equal, do_equal, do_not_equal,
) = [_over_block(emitted) for emitted in _EMITTED.values()]  # fmt: skip


@cache
def _machine():
    return workers.shared(None)(_work)


def _work(code, slots, numbers, size, registers, width, lanes, first, last):
    """Blocks first … last of `width` elements."""
    zero = np.zeros(1, numbers.dtype)
    one, each = zero[0], zero.itemsize
    room = at_line(registers, width, zero)
    base, row = address(room), width * each
    for block in range(first, last):
        start, count = block * width * each, min(width, size - block * width)
        n = -(-count // lanes) * lanes
        for k in range(len(code)):
            what, into = code[k, 0], base + code[k, 1] * row
            if what == 0:
                fetch_block(one, (count, into, slots[code[k, 2]] + start))
            elif what == 1:
                spread_block(one, (n, into, slots[code[k, 2]]))
            elif what == 2:
                write_block(one, (count, slots[code[k, 1]] + start, base + code[k, 2] * row))
            else:
                given = n, into, base + code[k, 2] * row, base + code[k, 3] * row, base + code[k, 4] * row
                if what == 3:
                    do_add(one, given)
                elif what == 4:
                    do_subtract(one, given)
                elif what == 5:
                    do_multiply(one, given)
                elif what == 6:
                    do_divide(one, given)
                elif what == 7:
                    do_negative(one, given)
                elif what == 8:
                    do_square(one, given)
                elif what == 9:
                    do_reciprocal(one, given)
                elif what == 10:
                    do_absolute(one, given)
                elif what == 11:
                    do_sqrt(one, given)
                elif what == 12:
                    do_where(one, given)
                elif what == 13:
                    do_less(one, given)
                elif what == 14:
                    do_less_equal(one, given)
                elif what == 15:
                    do_greater(one, given)
                elif what == 16:
                    do_greater_equal(one, given)
                elif what == 17:
                    do_equal(one, given)
                elif what == 18:
                    do_not_equal(one, given)
