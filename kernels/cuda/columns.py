"""Patches of images as rows of a matrix (im2col), and their sum back into images: in CUDA C++ and in Python (Numba)."""

from functools import partial
from typing import NamedTuple

from ..registry import implementation
from . import numba_runtime, runtime


class Patches(NamedTuple):
    """Which patches: those under rows first .. first + rows of each image's outputs, `positions` in all, ow in a row.

    The images are (n, height, width, channels); element (0, 0) lies (top, left) inside the padding.
    """

    positions: int
    rows: int
    ow: int
    first: int
    height: int
    width: int
    channels: int
    groups: int
    kh: int
    kw: int
    sh: int
    sw: int
    top: int
    left: int
    dh: int
    dw: int


def _floor(x, columns, *_):
    return x.nbytes + columns.nbytes, 0


def _im2col(launch, x, columns, patches):
    """The patches of x (n, H, W, C) written to columns (G, R, K), G groups of K = kh kw C/G elements; gives columns.

    Floor: e (|x| + |columns|) bytes.
    """
    units = patches.kh * patches.kw * patches.channels
    launch("im2col", x, columns, len(x) * patches.rows, units, patches, patches)
    return columns


def _col2im(launch, columns, out, patches, start, lines, seen):
    """The adjoint: columns (G, R, K) summed into rows start .. start + lines of out (n, H, W, C); gives out.

    Rows before `seen` are added to, the others written. Floor: e (|columns| + |out|) bytes.
    """
    numbers = *patches, start, lines, seen
    launch("col2im", columns, out, len(out) * lines, patches.channels, patches, numbers)
    return out


def _in_cuda(name, source, target, grid, units, patches, numbers):
    """Launch with as many threads across as there are units of 16 bytes, if the channels of a group are whole ones."""
    bytes_apart = patches.channels // patches.groups * target.itemsize
    whole = bytes_apart % 16 == 0 and (source.data.ptr | target.data.ptr) % 16 == 0
    block = _block(units * target.itemsize // 16 if whole else units)
    unit = "Pack" if whole else "T"
    runtime.launch("columns", name, target.dtype, grid, block, (source, target, *numbers), UNIT=unit)


def _in_numba(name, source, target, grid, units, patches, numbers):
    numba_runtime.launch("numba_kernels", name, target.dtype, grid, _block(units), (source, target, *numbers))


def _block(units):
    """256 threads: as many across as there are units, up to a power of two, the others along the row."""
    across = min(256, 1 << max(0, units - 1).bit_length())
    return across, 256 // across


for _op, _function in ("im2col", _im2col), ("col2im", _col2im):
    for _name, _launch, _dtypes in ("cuda", _in_cuda, "f2 bf16 f4 f8"), ("numba", _in_numba, "f4 f8"):
        implementation(_op, _name, dtypes=_dtypes, layout="NHWC", floor=_floor)(partial(_function, _launch))
