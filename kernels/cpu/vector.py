"""Vector code written out: a product's innermost tile, formulas over rows, and threads that wait for each other.

LLVM does not find these by itself: a loop over ten arrays that may overlap is not vectorised, and OpenBLAS copies both
operands anew at each step of a recurrence (measured: 125 GFLOP/s a core where this tile reaches 200). Each `Emitted`
becomes an instruction of the loops that name it; arrays are passed by address, offsets count elements.
"""

import os
from functools import cache, cached_property, partial, reduce

import numpy as np

from .jit import inline

ROWS = 8  # of a tile


class Emitted:
    """Something that loops may call and whose instructions `write` writes; Numba is imported at its first use.

    parts: what else it is made of.
    """

    inline = True

    def __init__(self, write, *parts):
        self.write, self.parts = write, (write, *parts)

    @cached_property
    def compiled(self):
        """Numba's intrinsic."""
        return self.write()


@cache
def width():
    """Bytes of the machine's vectors."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


def lanes(dtype):
    """How many numbers of `dtype` one vector holds."""
    return width() // dtype.itemsize


def columns(dtype):
    """How many columns a wide tile has: with two vectors a row, 16 sums are under way, which only AVX-512 can hold."""
    return lanes(dtype) * abreast()


def abreast():
    """How many vectors the machine's registers have room to work on at a time."""
    return 2 if width() == 64 else 1


# ---- arithmetic on vectors -------------------------------------------------------------------------------------------


class Vector:
    """A vector of the compiler, with Python's arithmetic; numbers take its type."""

    def __init__(self, builder, value):
        self.builder, self.value, self.type = builder, value, value.type

    def _of(self, other):
        from llvmlite import ir

        if isinstance(other, Vector):
            return other.value
        return ir.Constant(self.type, [float(other)] * self.type.count)

    def _made(self, instruction, *operands):
        return Vector(self.builder, getattr(self.builder, instruction)(*operands, flags=("contract",)))

    def __neg__(self):
        return self._made("fneg", self.value)

    def __add__(self, other):
        return self._made("fadd", self.value, self._of(other))

    def __sub__(self, other):
        return self._made("fsub", self.value, self._of(other))

    def __rsub__(self, other):
        return self._made("fsub", self._of(other), self.value)

    def __mul__(self, other):
        return self._made("fmul", self.value, self._of(other))

    def __truediv__(self, other):
        return self._made("fdiv", self.value, self._of(other))

    def __rtruediv__(self, other):
        return self._made("fdiv", self._of(other), self.value)

    __radd__, __rmul__ = __add__, __mul__

    def where(self, comparison, bound, yes, no):
        """`yes` where self compares so with `bound` (never, for NaN), else `no`."""
        condition = self.builder.fcmp_ordered(comparison, self.value, self._of(bound))
        return Vector(self.builder, self.builder.select(condition, self._of(yes), self._of(no)))

    def called(self, name, *others):
        """One of LLVM's own functions of this vector and others."""
        from llvmlite import ir
        from numba.core import cgutils

        given = [self.value, *map(self._of, others)]
        kind = ir.FunctionType(self.type, [self.type] * len(given))
        name = f"llvm.{name}.v{self.type.count}f{_bits(self)}"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return Vector(self.builder, self.builder.call(function, given))

    def limited(self, low, high):
        """The nearest value from low to high; NaN stays."""
        below = self.where(">", high, high, self)
        return below.where("<", low, low, below)


# Cephes' polynomials, Eigen's for tanh in single precision. By bits: 1.5 * 2**mantissa + the exponent's bias, the
# mantissa's bits, the limits of x (at the upper one 2**n has become infinite), and ln 2 in two parts.
_EXP = {
    32: (12583039.0, 23, -87.0, 89.0, 0.693359375, -2.12194440e-4),
    64: (6755399441056767.0, 52, -708.0, 710.0, 6.93145751953125e-1, 1.42860682030941723212e-6),
}
_EXP_SINGLE = (
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
)
_EXP_P = (1.26177193074810590878e-4, 3.02994407707441961300e-2, 9.99999999999999999910e-1)
_EXP_Q = (3.00198505138664455042e-6, 2.52448340349684104192e-3, 2.27265548208155028766e-1, 2.0)
# log(1 + u) = 2 s + 2 s³ R(s²) for s = u / (2 + u), R on 0 … 1/9
_LOG1P = {
    32: (1.16121646e-1, 1.08532879e-1, 1.42961790e-1, 1.999985317e-1, 3.333333366e-1),
    64: (
        8.082022805971766e-2, 4.400369243072337e-2, 6.000536404795356e-2, 6.657072104827468e-2, 7.692785032479312e-2,
        9.090894718066429e-2, 1.1111111358713932e-1, 1.428571428355438e-1, 2.0000000000007292e-1, 3.333333333333333e-1,
    ),
}  # fmt: skip
# exp(a²) erfc(a) (1 + 2 a) = P((a - k) / (a + k)) for 0 <= a <= end: k, end, P (a fit at Chebyshev's points)
_ERFC = {
    32: (2.0, 10.0, (
        -4.2412252885599586e-4, -1.2641194882888045e-3, 1.3277902774601153e-3, 8.664255153939803e-3,
        -8.06082511333067e-3, -5.4214266451654385e-2, 1.6405492130151697e-1, -1.660304203547391e-1,
        -9.276394920100058e-2, 1.2769783772937215,
    )),
    64: (4.0, 28.0, (
        -8.906208663934622e-9, -9.456271524915692e-9, 1.0181247475149971e-7, 5.883230632914435e-8,
        -8.187662562915786e-7, 3.0994402010831546e-7, 5.706827475068264e-6, -1.1232086023404734e-5,
        -2.4398609353512906e-5, 1.5062567141369432e-4, -1.9925669640425623e-4, -7.577743061693371e-4,
        5.031969952329153e-3, -1.6197733895959854e-2, 3.716751554242076e-2, -6.633036582729279e-2,
        9.373283499798463e-2, -1.0103906603558063e-1, 6.809705425470212e-2, 1.5379652102606133e-2,
        -1.3962111684056255e-1, 1.2329951186255526,
    )),
}  # fmt: skip
_TANH_END = 9.5  # beyond where the quotient passes 1
_TANH_ODD = (1.394553628e-8, 2.102733560e-5, 3.520756727e-3, 1.340216100e-1, 1.0)
_TANH_EVEN = (8.015776984e-7, 3.326951409e-4, 2.597254514e-2, 4.673548340e-1, 1.0)
_TANH_P = (-9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3)
_TANH_Q = (1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3)


def _polynomial(x, coefficients):
    value = x * coefficients[0] + coefficients[1]
    for c in coefficients[2:]:
        value = value * x + c
    return value


def _bits(x):
    return 32 if str(x.type.element) == "float" else 64


def exp(x):
    """exp(x), in single precision at least exp(-87) and above 88.4 infinite, in double exp(-708) and 709.4."""
    return _exp(x.limited(*_EXP[_bits(x)][2:4]))


def _exp(x):
    """exp(x) for an x within the limits."""
    less, power = _exp_in_parts(x)
    return (less + 1.0) * power


def _exp_in_parts(x):
    """exp(r) - 1 and 2**n, where x = n ln 2 + r, for an x within the limits."""
    from llvmlite import ir

    magic, mantissa, _, _, high, low = _EXP[_bits(x)]
    shifted = x * 1.4426950408889634 + magic  # the nearest integer and the bias, in the lowest bits
    n = shifted - magic
    r = (x - n * high) - n * low
    if _bits(x) == 32:
        less = _polynomial(r, _EXP_SINGLE) * (r * r) + r
    else:
        s = r * r
        p = r * _polynomial(s, _EXP_P)
        less = 2.0 * p / (_polynomial(s, _EXP_Q) - p)
    builder, whole = x.builder, ir.VectorType(ir.IntType(_bits(x)), x.type.count)
    places = ir.Constant(whole, [mantissa] * x.type.count)
    power = builder.bitcast(builder.shl(builder.bitcast(shifted.value, whole), places), x.type)
    return less, Vector(builder, power)


class Mathematics:
    """The functions of `kernels.cell`, and of the formulas of `formulas`, on vectors."""

    @staticmethod
    def sigmoid(x):
        """1 / (1 + exp(-x))."""
        low, high = _EXP[_bits(x)][2:4]
        return 1.0 / (1.0 + _exp(-x.limited(-high, -low)))

    @staticmethod
    def tanh(x):
        """In single precision a quotient of polynomials, within 5 ulp; in double 1 - 2 / (exp(2|x|) + 1) but near 0."""
        if _bits(x) == 32:
            x = x.limited(-_TANH_END, _TANH_END)
            z = x * x
            return (x * _polynomial(z, _TANH_ODD) / _polynomial(z, _TANH_EVEN)).limited(-1.0, 1.0)
        z = x * x
        near = x + x * z * (_polynomial(z, _TANH_P) / _polynomial(z, _TANH_Q))
        size = x.where("<", 0.0, -x, x)
        far = 1.0 - 2.0 / (exp(size + size) + 1.0)
        return size.where("<", 0.625, near, x.where("<", 0.0, -far, far))

    @staticmethod
    def relu(x):
        """max(x, 0)."""
        return x.where("<=", 0.0, 0.0, x)

    @staticmethod
    def positive(x):
        """1 where x > 0, else 0."""
        return x.where(">", 0.0, 1.0, 0.0)

    @staticmethod
    def where(x, comparison, bound, yes, no):
        """`yes` where x compares so with `bound` (never, for NaN), else `no`."""
        return x.where(comparison, bound, yes, no)

    @staticmethod
    def chosen(mask, yes, no):
        """`yes` where the mask holds, else `no`."""
        return Vector(yes.builder, yes.builder.select(mask, yes.value, no.value))

    @staticmethod
    def absolute(x):
        """|x|."""
        return x.called("fabs")

    @staticmethod
    def sqrt(x):
        """The root, correctly rounded."""
        return x.called("sqrt")

    @staticmethod
    def exp(x):
        """exp(x) for x <= 88 or 709, within 2 ulp; 0 where it is less than the least normal number."""
        return x.where("<", _EXP[_bits(x)][2], 0.0, exp(x))

    @staticmethod
    def expm1(x):
        """exp(x) - 1, within 3 ulp."""
        less, power = _exp_in_parts(x.limited(*_EXP[_bits(x)][2:4]))
        return less * power + (power - 1.0)

    @staticmethod
    def log1p(x):
        """log(1 + x) for 0 <= x <= 1, within 3 ulp."""
        s = x / (x + 2.0)
        z = s * s
        s = s + s
        return s + s * z * _polynomial(z, _LOG1P[_bits(x)])

    @staticmethod
    def normal(x):
        """exp(-x² / 2), and the normal distribution function, half of erfc(-x / sqrt 2): 0 before -13 or -37."""
        k, end, coefficients = _ERFC[_bits(x)]
        square = x * x
        low = x.called("fma", x, -square)  # what the square's rounding took away, for it stands in an exponent
        curve = Mathematics.exp(square * -0.5)
        curve = curve.where(">", 0.0, curve - curve * low * 0.5, curve)
        a = x.called("fabs").limited(0.0, end * 1.4142135623730951) * 0.7071067811865476
        above, below = a + k, a + a + 1.0
        one = 1.0 / (above * below)
        tail = _polynomial((a - k) * below * one, coefficients) * above * one * 0.5 * curve
        return curve, x.where(">", 0.0, 1.0 - tail, tail)


# ---- instructions ----------------------------------------------------------------------------------------------------


class Writer:
    """The instructions of one call, for addresses that count in elements of the type of its first argument."""

    def __init__(self, context, builder, element, count):
        from llvmlite import ir

        self.ir, self.builder, self.bits, self.made = ir, builder, element.bitwidth, (context, builder, element)
        self.scalar = context.get_value_type(element)
        self.vector = ir.VectorType(self.scalar, count)
        self.count, self.index = count, ir.IntType(64)

    def of(self, count):
        """The same for vectors of so many places."""
        return Writer(*self.made, count)

    def whole(self, n):
        """An index, or a vector of them."""
        kind = self.index if isinstance(n, int) else self.ir.VectorType(self.index, self.count)
        return self.ir.Constant(kind, n if isinstance(n, int) else list(n))

    def at(self, base, *offsets):
        """base + the offsets, for an address as an integer."""
        for offset in offsets:
            base = self.builder.add(base, self.builder.mul(offset, self.whole(self.bits // 8)))
        return base

    def pointer(self, address, kind):
        """The address as a pointer to `kind`."""
        return self.builder.inttoptr(address, kind.as_pointer())

    def splat(self, value):
        """A vector of one number or index."""
        ir = self.ir
        none = ir.Constant(ir.VectorType(value.type, self.count), ir.Undefined)
        one = self.builder.insert_element(none, value, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.count), None)
        return self.builder.shuffle_vector(one, none, zeros)

    def function(self, name, result, arguments, kind="f"):
        """One of LLVM's own functions on these vectors, of bytes for the kind "i8"."""
        from numba.core import cgutils

        kind = f"f{self.bits}" if kind == "f" else kind
        name = f"llvm.{name}.v{self.count}{kind}" + (".p0" if name.startswith("masked") else "")
        return cgutils.get_or_insert_function(self.builder.module, self.ir.FunctionType(result, arguments), name)

    def interleaved(self, a, b, unit):
        """The numbers a[:unit] b[:unit] a[unit:2 unit] … of two lists of vectors."""
        if whole := unit // self.count:
            return [v for i in range(0, len(a), whole) for v in (*a[i : i + whole], *b[i : i + whole])]
        starts = [i + side for i in range(0, self.count, unit) for side in (0, self.count)]
        order = [place for start in starts for place in range(start, start + unit)]
        halves = order[: self.count], order[self.count :]
        return [self.picked(x, y, half) for x, y in zip(a, b) for half in halves]

    def part(self, value, first, count):
        """`count` places of a vector from `first` on."""
        return value if count == self.count else self.picked(value, value, range(first, first + count))

    def picked(self, a, b, places):
        """The vector of the places given, those of b counted after a's."""
        places = list(places)
        mask = self.ir.Constant(self.ir.VectorType(self.ir.IntType(32), len(places)), places)
        return self.builder.shuffle_vector(a, b, mask)

    def first(self, n):
        """The mask of the first n places of a vector."""
        return self.builder.icmp_signed("<", self.whole(range(self.count)), self.splat(n))

    def load(self, address, mask):
        """The vector at `address`, 0 where the mask is off."""
        return self._masked(address, mask, self.vector, "f", self.bits // 8)

    def bools(self, address, mask=None):
        """The bools at `address` as a mask, off where the mask is."""
        byte = self.ir.VectorType(self.ir.IntType(8), self.count)
        if mask is None:
            found = self.builder.load(self.pointer(address, byte), align=1)
        else:
            found = self._masked(address, mask, byte, "i8", 1)
        return self.builder.icmp_unsigned("!=", found, self.ir.Constant(byte, None))

    def _masked(self, address, mask, vector, kind, align):
        ir = self.ir
        load = self.function("masked.load", vector, [vector.as_pointer(), ir.IntType(32), mask.type, vector], kind)
        align = ir.Constant(ir.IntType(32), align)
        return self.builder.call(load, [self.pointer(address, vector), align, mask, ir.Constant(vector, None)])

    def store(self, value, address, mask):
        """Write the places of the vector where the mask is on."""
        ir = self.ir
        kinds = [self.vector, self.vector.as_pointer(), ir.IntType(32), mask.type]
        store, align = self.function("masked.store", ir.VoidType(), kinds), ir.Constant(ir.IntType(32), self.bits // 8)
        self.builder.call(store, [value, self.pointer(address, self.vector), align, mask])

    def get(self, address, kind=None):
        """The vector at `address`, of numbers or of a `kind`."""
        return self.builder.load(self.pointer(address, kind or self.vector), align=self.bits // 8)

    def put(self, value, address):
        """Write the whole vector, of numbers or indices."""
        self.builder.store(value, self.pointer(address, value.type), align=self.bits // 8)

    def past(self, value, address):
        """Write the whole vector to an aligned address past the caches, without reading what lay there."""
        store = self.builder.store(value, self.pointer(address, self.vector), align=self.count * self.bits // 8)
        one = self.ir.Constant(self.ir.IntType(32), 1)
        store.set_metadata("nontemporal", self.builder.module.add_metadata([one]))

    def least(self, a, b):
        """The smaller of two indices."""
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def until(self, first, last, starts=()):
        """Begin a loop from the index `first` until `last` is reached: its index, its carried values, and what ends it.

        That is the function end(the index to go on at, the values to carry on).
        """
        builder, entry = self.builder, self.builder.block
        body, after = builder.append_basic_block("body"), builder.append_basic_block("after")
        builder.branch(body)
        builder.position_at_end(body)
        index, carried = builder.phi(self.index), [builder.phi(start.type) for start in starts]
        for phi, start in zip((index, *carried), (first, *starts)):
            phi.add_incoming(start, entry)

        def end(following, values=()):
            for phi, value in zip((index, *carried), (following, *values)):
                phi.add_incoming(value, builder.block)
            builder.cbranch(builder.icmp_signed("<", following, last), body, after)
            builder.position_at_end(after)

        return index, carried, end

    def loop(self, n, step, starts):
        """Begin a loop over 0, step, … below n > 0: its index, its carried values, and the function that ends it."""
        index, carried, end = self.until(self.whole(0), n, starts)
        return index, carried, lambda values=(): end(self.builder.add(index, self.whole(step)), values)


def instruction(emit, *parts):
    """The instruction `it(one, numbers)` for a tuple of indices, which emit(writer, *numbers) writes.

    `one` is a number of the dtype; parts: the formulas that `emit` is made of.
    """

    def write():
        from numba import types
        from numba.core.typing import signature
        from numba.extending import intrinsic

        @intrinsic
        def apply(context, one, numbers):
            def generate(target, builder, signature, arguments):
                given = [builder.extract_value(arguments[1], i) for i in range(len(numbers))]
                emit(Writer(target, builder, one, width() * 8 // one.bitwidth), *given)
                return target.get_dummy_value()

            return signature(types.void, one, numbers), generate

        return apply

    return Emitted(write, emit, *parts)


def _product(vectors):
    """The tile of ROWS rows and `vectors` vectors: c (+)= w h over k; w holds ROWS numbers for each k.

    The sum over k begins at 0 and joins c at the end: one chain of additions through many tiles is rounded worse.
    """

    def write():
        from numba import types
        from numba.core.typing import signature
        from numba.extending import intrinsic

        @intrinsic
        def product(context, one, w, h, h_row, c, c_row, k, add):
            def generate(target, builder, signature, arguments):
                _one, w, h, h_row, c, c_row, k, add = arguments
                o = Writer(target, builder, one, width() * 8 // one.bitwidth)
                fma = o.function("fma", o.vector, [o.vector] * 3)
                places = [
                    o.pointer(o.at(c, builder.mul(c_row, o.whole(r)), o.whole(v * o.count)), o.vector)
                    for r in range(ROWS)
                    for v in range(vectors)
                ]
                adding, align = builder.trunc(add, o.ir.IntType(1)), o.bits // 8
                zero = o.ir.Constant(o.vector, [0.0] * o.count)
                i, sums, end = o.loop(k, 1, [zero] * len(places))
                row = o.at(h, builder.mul(i, h_row))
                operand = [
                    builder.load(o.pointer(o.at(row, o.whole(v * o.count)), o.vector), align=align)
                    for v in range(vectors)
                ]
                weights, totals = o.at(w, builder.mul(i, o.whole(ROWS))), []
                for r in range(ROWS):
                    weight = o.splat(builder.load(o.pointer(o.at(weights, o.whole(r)), o.scalar), align=align))
                    for v in range(vectors):
                        totals.append(builder.call(fma, [weight, operand[v], sums[r * vectors + v]]))
                end(totals)
                with builder.if_else(adding) as (then, otherwise):
                    with then:
                        for place, total in zip(places, totals):
                            builder.store(builder.fadd(builder.load(place, align=align), total), place, align=align)
                    with otherwise:
                        for place, total in zip(places, totals):
                            builder.store(total, place, align=align)
                return target.get_dummy_value()

            return signature(types.void, one, *[types.intp] * 6, types.intp), generate

        return product

    return Emitted(write)


narrow, wide = _product(1), _product(2)


def _one_column(turns, o, w, h, h_row, c, c_row, k, add):
    """The tile's product with one column, its rows along a vector, for k a multiple of `turns`, each with its sum."""
    builder, o = o.builder, o.of(ROWS)
    fma, align = o.function("fma", o.vector, [o.vector] * 3), o.bits // 8
    i, sums, end = o.loop(k, turns, [o.ir.Constant(o.vector, [0.0] * ROWS)] * turns)
    totals = []
    for turn, total in enumerate(sums):
        place = builder.add(i, o.whole(turn))
        number = builder.load(o.pointer(o.at(h, builder.mul(place, h_row)), o.scalar), align=align)
        totals.append(builder.call(fma, [o.splat(number), o.get(o.at(w, builder.mul(place, o.whole(ROWS)))), total]))
    end(totals)
    total, adding = reduce(builder.fadd, totals), builder.trunc(add, o.ir.IntType(1))
    for r in range(ROWS):
        place = o.pointer(o.at(c, builder.mul(c_row, o.whole(r))), o.scalar)
        before = builder.select(adding, builder.load(place, align=align), o.ir.Constant(o.scalar, 0.0))
        value = builder.extract_element(total, o.ir.Constant(o.ir.IntType(32), r))
        builder.store(builder.fadd(before, value), place, align=align)


_column, _column_rest = (instruction(partial(_one_column, turns)) for turns in (4, 1))


@inline
def column(one, w, h, h_row, c, c_row, k, add, each):
    """One column of the tile: c (+)= w h over k."""
    whole = k // 4 * 4
    if whole > 0:
        _column(one, (w, h, h_row, c, c_row, whole, add))
    if whole < k:
        more = add if whole == 0 else 1
        _column_rest(one, (w + whole * ROWS * each, h + whole * h_row * each, h_row, c, c_row, k - whole, more))


def _gather(rows):
    """The instruction `gather(one, source, row, target, target_row, k)`: some rows of k numbers, `row` apart, turned.

    target[i * target_row + r] = source[r * row + i]; k is rounded down to whole vectors.
    """
    from numba import types
    from numba.core.typing import signature
    from numba.extending import intrinsic

    @intrinsic
    def gather(context, one, source, row, target, target_row, k):
        def generate(target_context, builder, signature, arguments):
            _one, source, row, target, target_row, k = arguments
            o = Writer(target_context, builder, one, width() * 8 // one.bitwidth)
            align = o.bits // 8
            i, _, end = o.loop(k, o.count, [])
            sequences = [
                [builder.load(o.pointer(o.at(source, builder.mul(row, o.whole(r)), i), o.vector), align=align)]
                for r in range(rows)
            ]
            unit = 1
            while len(sequences) > 1:  # rows in pairs, then pairs of pairs: a, b -> a0 b0 a1 b1 …
                sequences = [o.interleaved(a, b, unit) for a, b in zip(sequences[::2], sequences[1::2])]
                unit *= 2
            piece = min(o.count, rows)
            for n, value in enumerate(sequences[0]):
                for first in range(0, o.count, piece):
                    place = n * o.count + first
                    line = builder.mul(builder.add(i, o.whole(place // rows)), target_row)
                    part = o.part(value, first, piece)
                    at = o.at(target, line, o.whole(place % rows))
                    builder.store(part, o.pointer(at, part.type), align=align)
            end()
            return target_context.get_dummy_value()

        return signature(types.void, one, *[types.intp] * 5), generate

    return gather


gather, gather_twice = Emitted(partial(_gather, ROWS)), Emitted(partial(_gather, 2 * ROWS))


@inline
def address(array):
    """Where the array begins, as a signed number: with Numba's unsigned one, sums would become floats."""
    return np.intp(array.ctypes.data)


@inline
def turn(one, source, r0, rows, c0, columns, target, at, row, few):
    """target[at + c * row + r] = source[r0 + r, c0 + c]."""
    each, apart = source.itemsize, source.shape[1]
    whole, last = columns // few * few, columns - few  # a rest of columns is turned with some before them once more
    twice = rows // (2 * ROWS) * 2 * ROWS if whole > 0 else 0
    for r in range(0, twice, 2 * ROWS):
        place, into = address(source) + ((r0 + r) * apart + c0) * each, address(target) + (at + r) * each
        gather_twice(one, place, apart, into, row, whole)
        if whole < columns:
            gather_twice(one, place + last * each, apart, into + last * row * each, row, few)
    for r in range(twice, rows, ROWS):
        if rows - r >= ROWS and whole > 0:
            place, into = address(source) + ((r0 + r) * apart + c0) * each, address(target) + (at + r) * each
            gather(one, place, apart, into, row, whole)
            if whole < columns:
                gather(one, place + last * each, apart, into + last * row * each, row, few)
        else:
            for c in range(columns):
                for i in range(r, min(r + ROWS, rows)):
                    target[at + c * row + i] = source[r0 + i, c0 + c]


def rows(formula, reads, writes, scalars):
    """The formula over the columns of rows: `writes` rows from `reads` rows and `scalars` numbers.

    Rows and numbers come in groups, of as many as the tuples say: formula(Mathematics, groups read, groups of numbers)
    gives the groups to write. The call is `rows(one, n, bases, strides)`: n columns, and for each group (read, written,
    numbers) the address of its first row and the elements from there to the next. `one` is a number of the dtype.
    """

    def write():
        from numba import types
        from numba.core.typing import signature
        from numba.extending import intrinsic

        @intrinsic
        def apply(context, one, n, bases, strides):
            def generate(target, builder, signature, arguments):
                _one, n, bases, strides = arguments
                starts = [[builder.extract_value(x, i) for x in (bases, strides)] for i in range(len(bases.type))]
                few = width() * 8 // one.bitwidth
                emit = lambda count: _over_columns(Writer(target, builder, one, count), n, starts)
                if abreast() == 1:
                    emit(few)
                else:  # two chains of instructions that wait for their own results, side by side
                    more = builder.icmp_signed(">", n, n.type(few))
                    with builder.if_else(more) as (then, otherwise):
                        with then:
                            emit(2 * few)
                        with otherwise:
                            emit(few)
                return target.get_dummy_value()

            return signature(types.void, one, types.intp, bases, strides), generate

        return apply

    def _over_columns(o, n, starts):
        builder, groups = o.builder, []
        for count, (base, stride) in zip((*reads, *writes, *scalars), starts, strict=True):
            groups.append([o.at(base, builder.mul(stride, o.whole(j))) for j in range(count)])
        into, numbers = groups[len(reads) : len(reads) + len(writes)], groups[len(reads) + len(writes) :]
        b, _, end = o.loop(n, o.count, [])
        # inside: kept in registers through the loop, they are written to the stack and waited for
        known = [[Vector(builder, o.splat(builder.load(o.pointer(x, o.scalar)))) for x in group] for group in numbers]
        mask = o.first(builder.sub(n, b))
        given = [[Vector(builder, o.load(o.at(x, b), mask)) for x in group] for group in groups[: len(reads)]]
        for values, group in zip(formula(Mathematics, given, known), into, strict=True):
            for value, x in zip(values, group, strict=True):
                o.store(value.value, o.at(x, b), mask)
        end()

    return Emitted(write, formula)


def elementwise(formula, kinds, watched=False):
    """The instruction (first, last, columns, inner, *objects, *steps): a formula over elements first … last of rows.

    formula(Mathematics, *values) gives the value to write. `objects`: the addresses of the arrays' objects, the
    result's last. Its rows of so many columns lie one behind the other, and those of an operand anywhere: `steps` holds
    for each array the bytes from a row to the next, and from the first of `inner` rows to that of the next ones. kinds:
    for each but the result "every" element of a row counts, the first alone ("one"), or those are bools ("mask"). The
    result may be one of the others. watched: one more object follows, an array whose first number, of 8 bytes, becomes
    1 if a result is infinite or NaN.
    """
    arrays = len(kinds) + 1

    def emit(o, first, last, columns, inner, *numbers):
        o, builder = o.of(o.count * abreast()), o.builder
        bases, steps = [elements(o, place) for place in numbers[:arrays]], numbers[arrays : 3 * arrays]
        mark = elements(o, numbers[-1]) if watched else None
        sizes = [{"every": o.bits // 8, "mask": 1, "one": 0}[kind] for kind in (*kinds, "every")]

        at, _, end = o.until(first, last)
        row = builder.sdiv(at, columns)
        column, group = builder.sub(at, builder.mul(row, columns)), builder.sdiv(row, inner)
        within = builder.sub(row, builder.mul(group, inner))
        n = o.least(builder.sub(columns, column), builder.sub(last, at))
        addresses = []
        for base, size, step, leap in zip(bases, sizes, steps[::2], steps[1::2], strict=True):
            for count, far in ((column, o.whole(size)), (within, step), (group, leap)):
                base = builder.add(base, builder.mul(count, far))
            addresses.append(base)
        _over_line(o, formula, kinds, addresses, n, mark)
        end(builder.add(at, n))

    return instruction(emit, formula)


def _over_line(o, formula, kinds, addresses, n, mark=None):
    """Write a formula over n elements: whole vectors that begin where a line of the caches does, the rest by masks."""
    builder = o.builder
    number = lambda address: o.splat(builder.load(o.pointer(address, o.scalar)))
    spread = [number(address) if kind == "one" else None for kind, address in zip(kinds, addresses)]

    def apply(at, get, bools, put):
        values = []
        for address, kind, one in zip(addresses, kinds, spread):
            if kind == "mask":
                values.append(bools(builder.add(address, at)))
            else:
                values.append(Vector(builder, one or get(o.at(address, at))))
        made = formula(Mathematics, *values).value
        put(made, o.at(addresses[-1], at))
        return builder.fsub(made, made)  # 0, or NaN of infinities and NaN

    behind = builder.sdiv(builder.and_(builder.neg(addresses[-1]), o.whole(width() - 1)), o.whole(o.bits // 8))
    head = builder.select(builder.icmp_signed("<=", n, o.whole(o.count)), n, o.least(behind, n))
    whole = builder.and_(builder.sub(n, head), o.whole(-o.count))
    _, (at, few, many), end = o.loop(o.whole(2), 1, [o.whole(0), head, whole])
    with builder.if_then(builder.icmp_signed(">", few, o.whole(0))):
        mask, masked = o.first(few), lambda function: lambda *given: function(*given, mask)
        less = apply(at, *map(masked, (o.load, o.bools, o.store)))
        if mark is not None:
            _note(o, mark, less, mask)
    begin = builder.add(at, few)
    with builder.if_then(builder.icmp_signed(">", many, o.whole(0))):
        i, totals, close = o.loop(many, o.count, [] if mark is None else [o.ir.Constant(o.vector, [0.0] * o.count)])
        less = apply(builder.add(begin, i), o.get, o.bools, o.put)
        totals = [builder.fadd(total, less) for total in totals]
        close(totals)
        for total in totals:
            _note(o, mark, total)
    begin = builder.add(begin, many)
    end([begin, builder.sub(n, begin), o.whole(0)])


def _note(o, mark, total, mask=None):
    """Write 1 to the address `mark` if there is a NaN in the vector, where the mask is on."""
    builder, bits = o.builder, o.ir.IntType(o.count)
    found = builder.fcmp_unordered("uno", total, total)
    found = builder.bitcast(found if mask is None else builder.and_(found, mask), bits)
    with builder.if_then(builder.icmp_unsigned("!=", found, bits(0))):
        builder.store(o.whole(1), o.pointer(mark, o.index))


_HEAD = object.__basicsize__  # bytes of a NumPy array's object before the address of its elements


def elements(o, array):
    """Where the elements of the array lie whose object is at that address."""
    return o.builder.load(o.pointer(o.builder.add(array, o.whole(_HEAD)), o.index))


# ---- threads that wait for each other --------------------------------------------------------------------------------


def _counter(write_it):
    def write():
        from llvmlite import ir
        from numba import types
        from numba.core import cgutils
        from numba.core.typing import signature
        from numba.extending import intrinsic

        whole = ir.IntType(64)

        @intrinsic
        def publish(context, address, value):
            def generate(target, builder, signature, arguments):
                place = builder.inttoptr(arguments[0], whole.as_pointer())
                builder.store_atomic(arguments[1], place, "release", 8)
                return target.get_dummy_value()

            return signature(types.void, types.intp, types.intp), generate

        @intrinsic
        def observe(context, address):
            def generate(target, builder, signature, arguments):
                place = builder.inttoptr(arguments[0], whole.as_pointer())
                return builder.load_atomic(place, "acquire", 8)

            return signature(types.intp, types.intp), generate

        @intrinsic
        def give_way(context):
            def generate(target, builder, signature, arguments):
                if os.name == "posix":
                    kind = ir.FunctionType(ir.IntType(32), [])
                    builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
                return target.get_dummy_value()

            return signature(types.void), generate

        return {"publish": publish, "observe": observe, "give_way": give_way}[write_it]

    return Emitted(write)


publish, observe, give_way = _counter("publish"), _counter("observe"), _counter("give_way")
