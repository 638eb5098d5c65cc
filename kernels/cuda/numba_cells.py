"""The LSTM's cell in Python, which Numba compiles for the GPU: see numba_kernels.py for what a kernel is.

The formulas are those of kernels/cell.py. A call of one stands for its statements, which kernels/scalar.py writes out
in its place: to compile a kernel that calls another function, Numba asks for a driver.
"""

import ast
import inspect
import math

from numba import cuda, float32

from ..cell import CELLS
from ..scalar import PYTHON, Formula


def forward(m, i, f, g, o, c):
    """(the four gates' values, the new c, h) of the gates' sums and of c."""
    (*gates, _), new, h = CELLS["lstm"].forward(m, (i, f, g, o), [0] * 4, c, [0] * 4, ())
    return *gates, new, h


def backward(m, d, dc, i, f, g, o, c):
    """The gradients of the four gates' sums and of the c before, from those of h and c and what was recorded."""
    gates, before, _ = CELLS["lstm"].backward(m, d, dc, (i, f, g, o, c), ())
    return *gates, before


class _WrittenOut(ast.NodeTransformer):
    """Puts the statements of a formula in the place of `results = formula(inputs)`."""

    def visit_Assign(self, node):
        formula = {"forward": forward, "backward": backward}.get(getattr(getattr(node.value, "func", 0), "id", ""))
        if formula is None:
            return node
        m = Formula()
        values = formula(m, *(m.input(name.id) for name in node.value.args))
        results = zip((name.id for name in node.targets[0].elts), values, strict=True)
        return ast.parse("\n".join(m.written(dict(results), PYTHON))).body


def kernel(function):
    """Decorate a kernel: the formulas that it calls are written out."""
    tree = ast.parse(inspect.getsource(function))
    tree.body[0].decorator_list = []
    scope = {"cuda": cuda, "float32": float32, "exp": math.exp, "tanh": math.tanh}
    exec(compile(ast.fix_missing_locations(_WrittenOut().visit(tree)), __file__, "exec"), scope)
    return scope[function.__name__]


@kernel
def lstm_cell(record, b_ih, b_hh, local, out, first, n, size, values, keep):
    """One step of an LSTM of n sequences and `size` units: thread x is a unit, blocks y take the sequences in turn."""
    unit = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if unit >= size:  # the last block has threads to spare
        return
    for b in range(cuda.blockIdx.y, n, cuda.gridDim.y):
        state, row = b * size + unit, first + b
        gate = row * values * size + unit  # where the unit's input gate lies; the others are `size` apart
        i = record[gate] + b_ih[unit] + b_hh[unit]
        f = record[gate + size] + b_ih[unit + size] + b_hh[unit + size]
        g = record[gate + 2 * size] + b_ih[unit + 2 * size] + b_hh[unit + 2 * size]
        o = record[gate + 3 * size] + b_ih[unit + 3 * size] + b_hh[unit + 3 * size]
        c = local[state]
        si, sf, tg, so, new, h = forward(i, f, g, o, c)
        if keep:
            record[gate] = si
            record[gate + size] = sf
            record[gate + 2 * size] = tg
            record[gate + 3 * size] = so
            record[gate + 4 * size] = c
        local[state] = new
        out[row * size + unit] = h


@kernel
def lstm_cell_backward(dout, dh, dlocal, record, grads, first, n, size):
    """The gradients of one step of an LSTM, by the same threads."""
    unit = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if unit >= size:
        return
    for b in range(cuda.blockIdx.y, n, cuda.gridDim.y):
        state, row = b * size + unit, first + b
        kept, gate = row * 5 * size + unit, row * 4 * size + unit
        i, f, g, o = record[kept], record[kept + size], record[kept + 2 * size], record[kept + 3 * size]
        c, d, dc = record[kept + 4 * size], dout[row * size + unit] + dh[state], dlocal[state]
        di, df, dg, do, before = backward(d, dc, i, f, g, o, c)
        grads[gate] = di
        grads[gate + size] = df
        grads[gate + 2 * size] = dg
        grads[gate + 3 * size] = do
        dlocal[state] = before
