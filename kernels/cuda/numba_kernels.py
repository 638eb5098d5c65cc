"""Kernels written in Python for Numba-CUDA: the ones beside them in CUDA C++, to learn from and to compare with.

How to read them. A kernel is what one thread does. The GPU runs many threads at once, in blocks of up to 1024:
`cuda.threadIdx` says which thread of its block one is, `cuda.blockIdx` which block, `cuda.blockDim` and `cuda.gridDim`
how many there are; each has x, y and z. From these numbers a thread works out its share. 32 threads with neighbouring
threadIdx.x (a warp) run in step, and the memory is read and written in pieces of 128 bytes: it goes fast when
neighbours touch neighbouring elements. Here no thread waits for another and no two write the same element, so the order
in which they run makes no difference.

Arrays come as bare pointers, indexed in elements; shapes come as numbers. Python's // and % take many instructions, so
they stand outside the inner loops.
"""

from numba import cuda


def im2col(x, columns, positions, rows, ow, first, height, width, channels, groups, kh, kw, sh, sw, top, left, dh, dw):
    """The patch under each output as a row: x (images, height, width, channels) -> columns (groups, positions, K).

    K = kh kw depth with depth = channels / groups. A block takes one row of outputs. Its threads lie in a rectangle:
    along x the elements of a patch, so that neighbours write neighbours, along y the outputs.
    """
    depth = channels // groups
    patch = kh * kw * depth
    image = cuda.blockIdx.x // rows
    row = first + cuda.blockIdx.x % rows
    for u in range(cuda.threadIdx.x, groups * patch, cuda.blockDim.x):  # if threads are fewer than elements, go on
        group = u // patch
        within = u % patch
        tap = within // depth
        channel = group * depth + within % depth
        y = row * sh - top + tap // kw * dh
        z = tap % kw * dw - left
        for q in range(cuda.threadIdx.y, ow, cuda.blockDim.y):
            at = q * sw + z
            into = (group * positions + cuda.blockIdx.x * ow + q) * patch + within
            if 0 <= y < height and 0 <= at < width:
                columns[into] = x[((image * height + y) * width + at) * channels + channel]
            else:
                columns[into] = 0  # the padding


def col2im(
    columns, out, positions, rows, ow, first, height, width, channels, groups, kh, kw, sh, sw, top, left, dh, dw, start,
    lines, seen,
):  # fmt: skip
    """The adjoint of `im2col`: each element of rows start .. start + lines of out adds up its copies in the patches.

    To scatter the columns would need atomic additions, whose order, and so whose rounding, changes from run to run.
    Each element gathers instead: it asks of every tap whether some output has it under that tap. Rows before `seen`
    hold the sum of an earlier piece already.
    """
    depth = channels // groups
    patch = kh * kw * depth
    image = cuda.blockIdx.x // lines
    y = start + cuda.blockIdx.x % lines
    for channel in range(cuda.threadIdx.x, channels, cuda.blockDim.x):
        origin = channel // depth * positions + image * rows * ow
        for z in range(cuda.threadIdx.y, width, cuda.blockDim.y):
            place = ((image * height + y) * width + z) * channels + channel
            total = 0.0
            if y < seen:
                total = out[place]
            for i in range(kh):
                down = y + top - i * dh - first * sh
                if down < 0 or down % sh != 0 or down // sh >= rows:
                    continue
                for j in range(kw):
                    across = z + left - j * dw
                    if across < 0 or across % sw != 0 or across // sw >= ow:
                        continue
                    position = origin + down // sh * ow + across // sw
                    total += columns[position * patch + (i * kw + j) * depth + channel % depth]
            out[place] = total


def max_of_windows(x, out, places, rows, columns, planes, height, width, oh, ow, row_step, column_step):
    """The largest element of each window of each plane, and its flat place; the first of equals wins, NaN over numbers.

    rows (2, oh) holds the first row of each window and the one behind its last, columns (2, ow) likewise. Along x the
    threads take the windows of a line, along y the lines of all planes; there they go on in strides of as many lines as
    the grid has, so a grid of any size will do.
    """
    first, lines = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y, cuda.gridDim.x * cuda.blockDim.y
    for line in range(first, planes * oh, lines):
        row = line % oh
        plane = line // oh * height * width
        for column in range(cuda.threadIdx.x, ow, cuda.blockDim.x):
            best = rows[row] * width + columns[column]
            top = x[plane + best]
            for y in range(rows[row], rows[oh + row], row_step):
                for z in range(columns[column], columns[ow + column], column_step):
                    value = x[plane + y * width + z]
                    if value > top or (value != value and top == top):  # only NaN differs from itself
                        top = value
                        best = y * width + z
            out[line * ow + column] = top
            places[line * ow + column] = best
