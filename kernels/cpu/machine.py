"""Runs of elementwise operations as one loop: a machine whose instructions work on a block of elements each.

Fused by compiling each run, a chain of 1000 operations would wait for LLVM for seconds; instead one loop is compiled
once, on its first use on this machine, that reads the operations as it goes. Its registers are rows of elements that
stay in the nearest cache. Only what IEEE 754 rounds in one way is an instruction, so that the bits are NumPy's.

The run z = sqrt(a * x + 2.0) becomes six rows of numbers, here with the names of what they stand for. Arrays and
numbers have places: 2.0 is the first, then come what is given, a and x, and what is made, z.

    code          register  operands
    LOAD          0         place 1         all elements of a
    LOAD          1         place 2         those of x
    SPREAD        2         place 0         2.0 in each
    MULTIPLY ADD  2         0, 1, 2         two operations, as only the second needs what the first gives
    SQRT          2         2
    STORE         2         place 3         all elements of z

The file goes the way that a run takes: `fused` finds the runs of a tape, `_instructions` writes such rows, a `Fused`
is the function that does their work, and the machine reads them. Who wants to begin with the machine reads `_work`, a
loop in Python but for the instructions' own loops, which LLVM is told in its own terms: there `o` is the `Writer` of
`vector`, its `builder` writes the next line of LLVM, and values are those that the compiled code will have. On few
elements the same rows are read by `_on_vectors`, where a register is one vector.
"""

from functools import cache, partial
from math import prod
from typing import Any

import numpy as np

from . import vector, workers
from .activations import where
from .jit import compiles, jit
from .panels import at_line
from .recording import Call, Ref, is_pure, refs
from .vector import address

_NEAR = 1 << 14  # bytes of registers that stay in the nearest cache beside what they are loaded from
_WIDEST, _LEAST = 2048, 128  # elements of a register
_OPERATIONS = 12  # of a run on few elements: NumPy's calls take 0.3 us each, the loop's begins after 3
_FEW, _LARGE = 3, 1 << 16  # operations that do, if they times the elements are so many
_GRAIN = 1 << 17  # elements times operations that outlast handing them to a worker
_SMALL = 16  # elements up to which a register is one vector
_HELD = 1 << 16  # bytes of a result that the machine keeps from call to call

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


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
    """Rows of (code, register, operands), and how many registers they need.

    An operand is a register too, and the place of an array where it is loaded from there or stored.
    """
    run = _paired(run, out)
    last = {_place(x): at for at, (_, args, _) in enumerate(run) for x in args}
    code, registers = [], _Registers()
    for at, (function, args, made) in enumerate(run):
        operands = [_place(x) for x in args]
        for x in operands:
            if x not in registers.of:
                whole = type(x) is Ref and values[x].shape == values[made].shape
                code.append((_LOAD if whole else _SPREAD, registers.take(x), places[x], 0, 0))
        given = [registers.of[x] for x in operands]
        for x in dict.fromkeys(operands):
            if last[x] == at:
                registers.free(x)
        into = registers.take(made)
        code.append((_CODES[function], into, *given, *[0] * (3 - len(given))))
        if made in out:
            code.append((_STORE, into, places[made], 0, 0))
        if made not in last:
            registers.free(made)
    return np.array(code, np.int32), registers.count


class _Registers:
    """The register `of` each value that is still needed; what is free is taken again, the last one first."""

    def __init__(self):
        self.of, self.count, self._free = {}, 0, []

    def take(self, x):
        """A register for x."""
        if not self._free:
            self._free.append(self.count)
            self.count += 1
        self.of[x] = self._free.pop()
        return self.of[x]

    def free(self, x):
        """Nobody needs x any more."""
        self._free.append(self.of.pop(x))


def _paired(run, out):
    """A run as (function or two, operands, result): what only the next call needs stays in the vectors' registers.

    Not as a right operand, although a sum has no sides: of two NaNs the left one is kept.
    """
    last = {x: at for at, call in enumerate(run) for x in call.args if type(x) is Ref}
    made: list[tuple] = []
    for at, call in enumerate(run):
        function, args, before = call.function, call.args, made[-1] if made else (None, (), None)
        uses = [i for i, x in enumerate(args) if type(x) is Ref and x == before[2]]
        pair = before[0], function
        if uses == [0] and pair in _CODES and last[before[2]] == at and before[2] not in out:
            function, args = pair, (*before[1], args[1])
            made.pop()
        made.append((function, args, call.out))
    return made


class Fused:
    """A run of elementwise operations on arrays of one shape and dtype: arrays in, arrays out, all C-contiguous."""

    def __init__(self, shape, dtype, code, numbers, registers, inputs, held):
        self.shape, self.dtype, size = shape, dtype, prod(shape)
        self.numbers = [np.array(number, dtype) for number in numbers]  # from where they are spread
        self.held = [np.empty(shape, dtype) if hold else None for hold in held]
        # Which objects the arrays are: asked for the address of their elements, each would take a microsecond.
        self.slots = np.array([*map(id, self.numbers), *[0] * inputs, *map(id, self.held)], np.intp)
        self.given = memoryview(self.slots)[len(numbers) :]
        self.code = code
        self.work = (self._small if size <= _SMALL else self._large)(size, registers)

    def _small(self, size, registers):
        """The work on elements that are one vector, with registers that stay from call to call."""
        row = self._in_bytes(_SMALL)
        self.room = np.empty((registers + 1) * row, np.uint8)
        start = self.room.ctypes.data + -self.room.ctypes.data % row  # a vector across two of the cache's lines is slow
        places = self.code.ctypes.data, len(self.code), self.slots.ctypes.data, start, size
        return partial(_small_machine(self.dtype), self.dtype.type(0), *places)

    def _large(self, size, registers):
        """The work in blocks, which the threads share."""
        lanes, operations = vector.lanes(self.dtype), len(self.code)
        operations += np.count_nonzero(self.code[:, 0] >= _CODES[np.add, np.add])  # pairs are two
        wide = min(_WIDEST, max(_LEAST, _NEAR // (registers * self.dtype.itemsize)), -(-size // lanes) * lanes)
        width = max(lanes, wide // lanes * lanes)
        self._in_bytes(width)
        sizes, grain = (size, registers, width, lanes), max(1, int(_GRAIN // (operations * width)))
        run = partial(_machine(), -(-size // width), self.code, self.slots, np.zeros(0, self.dtype), *sizes)
        return partial(run, grain=grain)

    def _in_bytes(self, width):
        """Count registers of so many elements in bytes, and say how many one has."""
        row, code = width * self.dtype.itemsize, self.code
        code *= np.where(code[:, :1] > _STORE, (1, row, row, row, row), (1, row, 1, 1, 1)).astype(code.dtype)
        return row

    def __call__(self, *inputs):
        made = [np.empty(self.shape, self.dtype) if one is None else one for one in self.held]
        given = self.given
        for at, array in enumerate((*inputs, *made)):
            given[at] = id(array)
        self.work()
        return made


# ---- the instructions ------------------------------------------------------------------------------------------------

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


def _after(first, second):
    """Two operations, each rounded: the fence keeps the compiler from one that rounds once."""
    fence = _of_llvm("arithmetic.fence")
    return lambda o, x, y, z: second(o, fence(o, first(o, x, y)), z)


_ARITHMETIC: dict[Any, Any] = {
    np.add: lambda o, x, y, *_: o.builder.fadd(x, y),
    np.subtract: lambda o, x, y, *_: o.builder.fsub(x, y),
    np.multiply: lambda o, x, y, *_: o.builder.fmul(x, y),
    np.divide: lambda o, x, y, *_: o.builder.fdiv(x, y),
}
#: NumPy's function, or two, the first giving the second's left operand -> the vectors' instruction; comparisons give 1
#: and 0, as which NumPy would count them
_EMITTED: dict[Any, Any] = {
    **_ARITHMETIC,
    np.negative: lambda o, x, *_: o.builder.fneg(x),
    np.square: lambda o, x, *_: o.builder.fmul(x, x),
    np.reciprocal: lambda o, x, *_: o.builder.fdiv(_all(o, 1.0), x),
    np.absolute: _of_llvm("fabs"),
    np.sqrt: _of_llvm("sqrt"),
    where: _chosen,
    **{function: _compared(*how) for function, how in _COMPARISONS.items()},
    **{(f, g): _after(_ARITHMETIC[f], _ARITHMETIC[g]) for f in _ARITHMETIC for g in _ARITHMETIC},
}
_CODES = {function: code for code, function in enumerate(_EMITTED, 3)}
_BY_CODE = dict(zip(_CODES.values(), _EMITTED.values(), strict=True))
_LOAD, _SPREAD, _STORE = range(3)


# ---- the machine on blocks -------------------------------------------------------------------------------------------


@cache
def _machine():
    return workers.shared(None)(_work)


def _work(code, slots, like, size, registers, width, lanes, first, last):
    """Blocks first … last of `width` elements, of the type of `like`: the rows of `code`, one after the other, on each.

    slots: the addresses of the arrays' objects; registers are counted in bytes from `base` on.
    """
    zero = np.zeros(1, like.dtype)
    one, each = zero[0], zero.itemsize
    room = at_line(registers, width, zero)
    base = address(room)
    for block in range(first, last):
        start, count = block * width * each, min(width, size - block * width)
        n = -(-count // lanes) * lanes
        for k in range(len(code)):
            what, into = code[k, 0], base + code[k, 1]
            if what == _LOAD:
                fetch_block(one, (count, into, slots[code[k, 2]], start))
            elif what == _SPREAD:
                spread_block(one, (n, into, slots[code[k, 2]]))
            elif what == _STORE:
                write_block(one, (count, into, slots[code[k, 2]], start))
            else:
                apply_block(one, (what, n, into, base + code[k, 2], base + code[k, 3], base + code[k, 4]))


def _copied(loading):
    """The instruction (n, register, array, start): n elements, any number of them, to or from whole vectors.

    The elements lie `start` bytes into those of the array.
    """

    def emit(o, n, register, array, start):
        place = o.builder.add(vector.elements(o, array), start)
        i, _, end = o.loop(n, o.count, [])
        mask = o.first(o.builder.sub(n, i))
        if loading:
            o.put(o.load(o.at(place, i), mask), o.at(register, i))
        else:
            o.store(o.get(o.at(register, i)), o.at(place, i), mask)
        end()

    return vector.instruction(emit)


def _spread():
    """The instruction (n, into, array): the array's only number n times, n being whole vectors."""

    def emit(o, n, into, array):
        value = o.splat(o.builder.load(o.pointer(vector.elements(o, array), o.scalar)))
        i, _, end = o.loop(n, o.count, [])
        o.put(value, o.at(into, i))
        end()

    return vector.instruction(emit)


def _applied(o, what, n, into, x, y, z):
    """The operation on n elements of registers, n being whole vectors."""
    for emitted in _cases(o, what, _BY_CODE):
        i, _, end = o.loop(n, o.count, [])
        o.put(emitted(o, *[o.get(o.at(source, i)) for source in (x, y, z)]), o.at(into, i))
        end()


def _cases(o, what, kinds):
    """For each of the kinds, by their numbers: what is written then is done where `what` is that number."""
    after = o.builder.append_basic_block("done")
    chosen = o.builder.switch(what, after)
    for number, kind in kinds.items():
        block = o.builder.append_basic_block("kind")
        chosen.add_case(what.type(number), block)
        o.builder.position_at_end(block)
        yield kind
        o.builder.branch(after)
    o.builder.position_at_end(after)


fetch_block, write_block, spread_block = _copied(True), _copied(False), _spread()
apply_block = vector.instruction(_applied)


# ---- the machine on one vector ---------------------------------------------------------------------------------------


@cache
def _small_machine(dtype):
    """The loop `run_small` compiled for a dtype."""
    run_small(dtype.type(0), 0, 0, 0, 0, 0)
    return run_small.compiled


@jit(None)
def run_small(one, code, rows, slots, room, size):
    """A run on `size` elements, of the type of `one`, by the addresses of its parts."""
    run_on_vectors(one, (code, rows, slots, room, size))


def _on_vectors(o, code, rows, slots, room, size):
    """The instruction (code, rows, slots, room, size): a whole run, whose registers are vectors."""
    o = o.of(_SMALL)
    builder, last, mask = o.builder, _Last(o, room), o.first(size)
    with builder.if_then(builder.icmp_signed(">", rows, o.whole(0))):
        k, _, end = o.loop(rows, 1, [])
        fields = [builder.add(builder.mul(k, o.whole(5)), o.whole(i)) for i in range(5)]
        what, into, *given = [builder.sext(_number(o, code, at, o.ir.IntType(32)), o.index) for at in fields]
        elements = lambda: vector.elements(o, _number(o, slots, given[0], o.index))
        for kind in _cases(o, what, {_LOAD: _LOAD, _SPREAD: _SPREAD, _STORE: _STORE, **_BY_CODE}):
            if kind == _LOAD:
                made = o.load(elements(), mask)
            elif kind == _SPREAD:
                made = o.splat(builder.load(o.pointer(elements(), o.scalar)))
            elif kind == _STORE:
                made = last.get(into)
                o.store(made, elements(), mask)
            else:
                made = kind(o, *map(last.get, given))
            last.put(made, into)
        last.lies_in(into)
        end()


class _Last:
    """What the instruction before gave: the next takes it from the processor, for loaded it would wait for its store.

    `room` is the address of the registers, which hold it too.
    """

    def __init__(self, o, room):
        from numba.core import cgutils

        self.o, self.room = o, room
        self.place, self.value, self.operand = (
            cgutils.alloca_once(o.builder, kind) for kind in (o.index, o.vector, o.vector)
        )
        self.lies_in(o.whole(-1))

    def lies_in(self, register):
        """It is the value of this register, -1 for none."""
        self.o.builder.store(register, self.place)

    def get(self, register):
        """The vector of a register."""
        o, builder = self.o, self.o.builder
        builder.store(builder.load(self.value), self.operand)
        with builder.if_then(builder.icmp_signed("!=", register, builder.load(self.place))):
            builder.store(o.get(builder.add(self.room, register)), self.operand)
        return builder.load(self.operand)

    def put(self, vector, register):
        """Write what an instruction gave to its register, and keep it."""
        self.o.put(vector, self.o.builder.add(self.room, register))
        self.o.builder.store(vector, self.value)


def _number(o, base, i, kind):
    """The i-th of the numbers of a kind that lie from an address on."""
    return o.builder.load(o.pointer(o.builder.add(base, o.builder.mul(i, o.whole(kind.width // 8))), kind))


run_on_vectors = vector.instruction(_on_vectors)
