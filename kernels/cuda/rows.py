"""How rows are shared out among threads: the macros of rows.cuh and the grid that goes with them."""

from __future__ import annotations

from . import runtime

_BLOCK = 256
_FEW, _MANY = 16, 1 << 13  # elements of rows so short, and rows so many, that a thread takes a whole one
_TEAMS = (32, 256, 512)  # threads that share a row
_HELD = {True: 64, False: 32}  # bytes of a row that each can hold, in pieces of 16 or singly; in half precision half


def launch(file, name, dtype, sizes, arrays, others=(), numbers=(), *, teams=None):
    """Launch a kernel of rows with the arguments arrays (n elements to a row), others, rows, n, inner, numbers.

    sizes: (outer, n, inner). teams: so many, of a warp or more; otherwise one for each row, of any size.
    """
    outer, n, inner = sizes
    grid, block, macros = _shared_out(dtype, sizes, arrays, teams)
    runtime.launch(file, name, dtype, grid, block, (*arrays, *others, outer * inner, n, inner, *numbers), **macros)


def blocks(dtype, sizes, arrays) -> int:
    """How many blocks `launch` takes for these rows."""
    return _shared_out(dtype, sizes, arrays, None)[0]


def _shared_out(dtype, sizes, arrays, teams):
    outer, n, inner = sizes
    rows = outer * inner
    macros = plan(rows, n, inner, dtype.itemsize, arrays, alone=teams is None)
    block = max(macros["TEAM"], _BLOCK)
    return runtime.blocks((teams or rows) * macros["TEAM"], block), block, macros


def plan(rows, n, inner, itemsize, arrays, alone=True) -> dict[str, int]:
    """The macros for rows of n elements that lie `inner` apart. alone: whether a thread may take a whole row."""
    if inner > 1 or (alone and n <= _FEW and rows > _MANY):
        return {"TEAM": 1, "WIDE": 0, "HELD": 0}
    width = 16 // itemsize
    wide = not (n % width or any(a is not None and a.data.ptr % 16 for a in arrays))
    for team in _TEAMS:
        pieces = -(-n // (team * width)) if wide else -(-n // team)
        if pieces * (width if wide else 1) * max(itemsize, 4) <= _HELD[wide]:
            return {"TEAM": team, "WIDE": int(wide), "HELD": 1 << max(pieces - 1, 0).bit_length()}
    return {"TEAM": _BLOCK, "WIDE": 0, "HELD": 0}
