"""Softmax's kin along rows: programs over the numbers of a row in whole vectors, written out.

A short row stays in registers from one pass of its program to the next: what a part of a vector has been written to
cannot be read at once. Sums are in float64, of what is computed in the numbers' own precision (see `downwards`).
"""

import math
from functools import partial, reduce

import numpy as np

from .downwards import (
    exponentials,
    exponentials_alone,
    itself,
    less,
    log_softmax_slope,
    products,
    scaled,
    softmax_slope,
)
from .vector import Mathematics, Vector, Writer, address, instruction

_ABREAST = 4  # vectors of a row that are worked on at a time, and that stay in registers


def _added(builder, a, b):
    return builder.fadd(a, b)


def _larger(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", b, a), b, a)


class _Row:
    """n numbers in `vectors` registers, or in memory if that is None; known numbers are scalars of the compiler."""

    def __init__(self, o, n, vectors):
        from numba import types

        self.o, self.n, self.builder, self.wide = o, n, o.builder, Writer(*o.made[:2], types.float64, o.count)
        places = [o.whole(v * o.count) for v in range(vectors or 0)]
        self.short = [(v, o.first(o.builder.sub(n, v))) for v in places]

    def top(self, x):
        """The largest of the numbers at x; a NaN need not be it."""
        return self.over(lambda m, x: (None, x), x, fold=(self.o, -math.inf, _larger))[1]

    def over(self, formula, *given, known=(), room=None, into=None, fold=None):
        """What formula(Mathematics, *given, *known) writes of the row, and the sum, or `fold`, of the second it gives.

        given: addresses, or what was written before; written are results, `into` memory, or what a long row must keep
        till the next pass, in `room`.
        """
        o, builder = self.o, self.builder
        kept, start, step = fold or (self.wide, 0.0, _added)
        start, known = o.ir.Constant(kept.vector, [start] * o.count), [Vector(builder, o.splat(x)) for x in known]

        def apply(numbers, total, mask=None):
            written, found = formula(Mathematics, *[Vector(builder, x) for x in numbers], *known)
            if found is not None:
                more = found.value if kept.bits == o.bits else builder.fpext(found.value, kept.vector)
                joined = step(builder, total, more)
                total = joined if mask is None else builder.select(mask, joined, total)
            return written and written.value, total

        if self.short:
            written, totals = self._in_registers(apply, given, into, start)
        else:
            written, totals = room, self._in_memory(apply, given, into or room, start)
        return written, self._one(partial(step, builder), totals)

    def _in_registers(self, apply, given, into, start):
        o, every, totals = self.o, [], []
        for i, (v, mask) in enumerate(self.short):
            numbers = [x[i] if isinstance(x, list) else o.load(o.at(x, v), mask) for x in given]
            written, total = apply(numbers, start, mask)
            if into is not None:
                o.store(written, o.at(into, v), mask)
            every.append(written)
            totals.append(total)
        return every, totals

    def _in_memory(self, apply, given, into, start):
        from numba.core import cgutils

        o, builder, done = self.o, self.builder, self.o.whole(0)
        kept = [cgutils.alloca_once_value(builder, start) for _ in range(_ABREAST)]

        def strip(first, totals, mask=None):
            rest = () if mask is None else (mask,)
            get, put = (o.get, o.put) if mask is None else (o.load, o.store)
            more = []
            for v, total in enumerate(totals):
                place = builder.add(first, o.whole(v * o.count))
                written, total = apply([get(o.at(x, place), *rest) for x in given], total, *rest)
                if written is not None:
                    put(written, o.at(into, place), *rest)
                more.append(total)
            return more

        def keep(totals):
            for place, total in zip(kept, totals):
                builder.store(total, place)

        for vectors in (_ABREAST, 1):
            span = builder.and_(builder.sub(self.n, done), o.whole(-vectors * o.count))
            with builder.if_then(builder.icmp_signed(">", span, o.whole(0))):
                i, totals, end = o.loop(span, vectors * o.count, [builder.load(place) for place in kept[:vectors]])
                totals = strip(builder.add(done, i), totals)
                end(totals)
                keep(totals)
            done = builder.add(done, span)
        with builder.if_then(builder.icmp_signed("<", done, self.n)):
            keep(strip(done, [builder.load(kept[0])], o.first(builder.sub(self.n, done))))
        return [builder.load(place) for place in kept]

    def _one(self, step, values):
        """All numbers of some vectors in one."""
        total, count = reduce(step, values), self.o.count
        while count > 1:
            count //= 2
            total = step(*[self.o.picked(total, total, range(i, i + count)) for i in (0, count)])
        return self.builder.extract_element(total, self.o.ir.Constant(self.o.ir.IntType(32), 0))

    def narrowed(self, number):
        """A float64 in the numbers' precision."""
        return number if number.type == self.o.scalar else self.builder.fptrunc(number, self.o.scalar)

    def widened(self, number):
        """The other way round."""
        return number if number.type == self.wide.scalar else self.builder.fpext(number, self.wide.scalar)

    def log(self, number):
        """The logarithm of a float64."""
        from numba.core import cgutils

        kind = self.o.ir.FunctionType(number.type, [number.type])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, "llvm.log.f64"), [number])


def _by_length(program):
    """The instruction (n, *arguments) of program(row, *arguments), for a row of n numbers."""

    def emit(o, n, *arguments):
        def choose(vectors, *others):
            if vectors is None:
                return program(_Row(o, n, None), *arguments)
            with o.builder.if_else(o.builder.icmp_signed("<=", n, o.whole(vectors * o.count))) as (then, otherwise):
                with then:
                    program(_Row(o, n, vectors), *arguments)
                with otherwise:
                    choose(*others)

        choose(1, _ABREAST, None)

    return instruction(emit, program)


def _write(row, number, at):
    row.builder.store(number, row.o.pointer(at, number.type))


def _scaled_powers(row, x, factor, out, top_at, total_at):
    """factor exp(x) / sum exp(x); at the other addresses what was subtracted, and the sum, in float64."""
    top = row.top(x)
    powers, total = row.over(exponentials, x, known=[top], room=out)
    row.over(scaled, powers, known=[row.narrowed(row.builder.fdiv(factor, total))], into=out)
    _write(row, row.widened(top), top_at)
    _write(row, total, total_at)


def _total(row, x, top_at, total_at):
    top = row.top(x)
    _, total = row.over(exponentials_alone, x, known=[top])
    _write(row, row.widened(top), top_at)
    _write(row, total, total_at)


def _logarithms(row, x, out):
    top = row.top(x)
    _, total = row.over(exponentials_alone, x, known=[top])
    row.over(less, x, known=[top, row.narrowed(row.log(total))], into=out)


def _softmax_slopes(row, g, p, out):
    _, total = row.over(products, g, p)
    high = row.narrowed(total)
    low = row.narrowed(row.builder.fsub(total, row.widened(high)))  # what the first part has lost
    row.over(softmax_slope, g, p, known=[high, low], into=out)


def _log_softmax_slopes(row, g, p, out):
    _, total = row.over(itself, g)
    row.over(log_softmax_slope, g, p, known=[row.narrowed(total)], into=out)


scaled_powers, total_of_powers = _by_length(_scaled_powers), _by_length(_total)
_log, _slope, _log_slope = map(_by_length, (_logarithms, _softmax_slopes, _log_softmax_slopes))


def softmax(x, out, first, last):
    """exp(x) / sum exp(x) of each row."""
    one, told = x.dtype.type(0), np.empty(2)
    for i in range(first, last):
        scaled_powers(one, (x.shape[1], address(x[i]), 1.0, address(out[i]), address(told), address(told) + 8))


def logsumexp_backward(x, g, out, first, last):
    """The adjoint of `logsumexp`: g exp(x) / sum exp(x), for g (m, 1)."""
    one, told = x.dtype.type(0), np.empty(2)
    for i in range(first, last):
        slope = np.float64(g[i, 0])
        scaled_powers(one, (x.shape[1], address(x[i]), slope, address(out[i]), address(told), address(told) + 8))


def logsumexp(x, out, first, last):
    """The logarithm of the sum of the exponentials of each row."""
    one, told = x.dtype.type(0), np.empty(2)
    for i in range(first, last):
        total_of_powers(one, (x.shape[1], address(x[i]), address(told), address(told) + 8))
        out[i] = told[0] + math.log(told[1])


def log_softmax(x, out, first, last):
    """The softmax's logarithm."""
    one = x.dtype.type(0)
    for i in range(first, last):
        _log(one, (x.shape[1], address(x[i]), address(out[i])))


def softmax_backward(g, p, out, first, last):
    """The adjoint of softmax at its result p."""
    one = g.dtype.type(0)
    for i in range(first, last):
        _slope(one, (g.shape[1], address(g[i]), address(p[i]), address(out[i])))


def log_softmax_backward(g, p, out, first, last):
    """The adjoint of softmax's logarithm at its result p."""
    one = g.dtype.type(0)
    for i in range(first, last):
        _log_slope(one, (g.shape[1], address(g[i]), address(p[i]), address(out[i])))
