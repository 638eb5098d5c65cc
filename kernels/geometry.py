"""Shape arithmetic of convolution and pooling, pure integers, shared by kernels and derivative rules.

Along one axis: size H, kernel k, stride s, padding (before, after), dilation d.
"""

from functools import lru_cache
from operator import index
from typing import NamedTuple

_LARGEST = 1 << 20  # windows along an axis of an adaptive pooling


class Windows(NamedTuple):
    """Windows along one axis: the i-th covers range(starts[i], stops[i], step), clipped to the input.

    `covered[i]` counts the elements it covers before clipping, those of the padding included.
    """

    starts: tuple
    stops: tuple
    covered: tuple
    step: int


def pair(value, name, *, least=1):
    """`value` as (vertical, horizontal): an int stands for both; every entry must be at least `least`."""
    try:
        entries = tuple(map(index, value)) if isinstance(value, tuple | list) else (index(value),) * 2
    except TypeError:
        raise TypeError(f"{name}={value!r} is not an int or a pair of ints: pass {name}=2 or {name}=(2, 2)") from None
    if len(entries) != 2:
        raise ValueError(f"{name}={value!r} has {len(entries)} entries, but two axes need one int or two: pass a pair")
    if min(entries) < least:
        raise ValueError(f"{name}={value!r} is too small: every entry must be at least {least}")
    return entries


def padding_pairs(padding, *, kernel_size, stride=(1, 1), dilation=(1, 1)):
    """`padding` as ((top, bottom), (left, right)).

    Accepts an int, (vertical, horizontal), ((top, bottom), (left, right)), "valid", or "same" (stride 1 only; where the
    total is odd the extra row or column goes to the end, as in PyTorch).
    """
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        if tuple(stride) != (1, 1):
            raise ValueError(f'padding="same" with stride={tuple(stride)} has no defined size: use stride=1 or ints')
        totals = [d * (k - 1) for k, d in zip(kernel_size, dilation, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    if isinstance(padding, str):
        raise ValueError(f'padding={padding!r} is not known: use "same", "valid", an int or a pair of ints')
    if isinstance(padding, tuple | list) and any(isinstance(entry, tuple | list) for entry in padding):
        if len(padding) != 2:
            raise ValueError(f"padding={padding!r} must hold two pairs: pass ((top, bottom), (left, right))")
        return tuple(pair(entry, "padding", least=0) for entry in padding)
    vertical, horizontal = pair(padding, "padding", least=0)
    return (vertical, vertical), (horizontal, horizontal)


def conv_output_size(size, *, kernel_size, stride, padding, dilation):
    """Output size of a convolution over (H, W), per axis: floor((H + before + after - d (k - 1) - 1) / s) + 1."""
    _check(size, kernel_size, padding, dilation, "convolution")
    return tuple(
        (h + before + after - d * (k - 1) - 1) // s + 1
        for h, k, s, (before, after), d in zip(size, kernel_size, stride, padding, dilation, strict=True)
    )


def conv_transpose_output_size(size, *, kernel_size, stride, padding, output_padding, dilation):
    """Output size of a transposed convolution: (H - 1) s - before - after + d (k - 1) + output_padding + 1 per axis."""
    for extra, s, d in zip(output_padding, stride, dilation, strict=True):
        if not 0 <= extra < max(s, d):
            raise ValueError(
                f"output_padding={tuple(output_padding)} does not fit stride={tuple(stride)} and "
                f"dilation={tuple(dilation)}: each entry must be at least 0 and below its stride or its dilation"
            )
    out = tuple(
        (h - 1) * s - before - after + d * (k - 1) + extra + 1
        for h, k, s, (before, after), d, extra in zip(
            size, kernel_size, stride, padding, dilation, output_padding, strict=True
        )
    )
    if min(size) < 1 or min(out) < 1:
        raise ValueError(
            f"a transposed convolution of input size {tuple(size)} by kernel {tuple(kernel_size)} with "
            f"padding={padding} would have output size {out}: use a larger input or less padding"
        )
    return out


def pool_output_size(size, *, kernel_size, stride, padding, dilation=(1, 1), ceil_mode=False):
    """Output size of a pooling over `size` = (H, W).

    With `ceil_mode` a rest smaller than a stride makes one more window, if that window starts inside the input or the
    padding before it (PyTorch's rule).
    """
    _check(size, kernel_size, padding, dilation, "pooling")
    for k, pads, d in zip(kernel_size, padding, dilation, strict=True):
        if max(pads) * 2 > d * (k - 1) + 1:
            raise ValueError(
                f"padding={padding} is more than half of the pooling kernel {tuple(kernel_size)}, so a window could "
                f"hold padding alone: use at most half the kernel size"
            )
    return tuple(
        _pool_size(h, k, s, *pads, d, ceil_mode)
        for h, k, s, pads, d in zip(size, kernel_size, stride, padding, dilation, strict=True)
    )


@lru_cache
def pool_windows(size, *, kernel_size, stride, padding, dilation=(1, 1), ceil_mode=False):
    """The windows of a pooling over `size` = (H, W), one `Windows` per axis (remembered: the arguments are tuples)."""
    out = pool_output_size(
        size, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )
    return tuple(
        _windows(h, k, s, *pads, d, count)
        for h, k, s, pads, d, count in zip(size, kernel_size, stride, padding, dilation, out, strict=True)
    )


@lru_cache
def adaptive_windows(size, *, output_size):
    """The windows of an adaptive pooling of `size` = (H, W): floor(i H / h) up to ceil((i + 1) H / h), per axis."""
    if min(output_size) < 0:
        raise ValueError(f"output_size={tuple(output_size)} is negative: every entry must be at least 0")
    if max(output_size) > _LARGEST:
        raise ValueError(f"output_size={tuple(output_size)} is beyond {_LARGEST} windows per axis: ask for fewer")
    if min(size) < 1:
        raise ValueError(f"an empty plane of size {tuple(size)} has nothing to pool: every axis needs an element")
    return tuple(_adaptive(h, count) for h, count in zip(size, output_size, strict=True))


def _check(size, kernel_size, padding, dilation, what):
    padded = tuple(h + sum(pads) for h, pads in zip(size, padding, strict=True))
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True))
    if min(kernel_size) < 1:
        raise ValueError(f"{what} kernel of size {tuple(kernel_size)} is empty: every entry must be at least 1")
    if any(r > p for r, p in zip(reach, padded, strict=True)):
        raise ValueError(
            f"{what} kernel {tuple(kernel_size)} with dilation {tuple(dilation)} reaches over {reach}, but the input "
            f"of size {tuple(size)} is {padded} with padding: use a smaller kernel, more padding or a larger input"
        )


def _pool_size(size, kernel, stride, before, after, dilation, ceil_mode):
    rest = size + before + after - dilation * (kernel - 1) - 1
    count = (rest + (stride - 1 if ceil_mode else 0)) // stride + 1
    return count - (ceil_mode and (count - 1) * stride >= size + before)


def _windows(size, kernel, stride, before, after, dilation, count):
    first = [i * stride - before for i in range(count)]
    ends = [min(start + dilation * (kernel - 1) + 1, size + after) for start in first]
    starts = [start if start >= 0 else start % dilation for start in first]
    stops = [min(end, size) for end in ends]
    if any(start >= stop for start, stop in zip(starts, stops, strict=True)):
        raise ValueError(
            f"pooling kernel {kernel} with dilation {dilation} and padding {before, after} has a window that steps "
            f"over all {size} elements of the input: use less dilation or padding"
        )
    covered = [len(range(start, end, dilation)) for start, end in zip(first, ends, strict=True)]
    return Windows(tuple(starts), tuple(stops), tuple(covered), dilation)


def _adaptive(size, count):
    starts = tuple(i * size // count for i in range(count))
    stops = tuple(-(-(i + 1) * size // count) for i in range(count))
    return Windows(starts, stops, tuple(b - a for a, b in zip(starts, stops, strict=True)), 1)
