"""How rows are shared out among threads: the macros of rows.cuh and the grid that goes with them."""

from __future__ import annotations

from . import runtime

_BLOCK = 256
_FEW, _MANY = 16, 1 << 13  # elements of rows so short, and rows so many, that a thread takes a whole one
_TEAMS = (32, 256, 512)  # threads that share a row
_HELD = {True: 64, False: 32}  # bytes of a row that each can hold, in pieces of 16 or singly; in half precision half


def launch(file, name, dtype, sizes, arrays, others=(), numbers=(), *, most_teams=None, alone=True):
    """Launch a kernel of rows with the arguments arrays (n elements to a row), others, rows, n, inner, numbers.

    sizes: (outer, n, inner). most_teams: more rows than that are taken in turns. alone: a thread may take a row.
    """
    outer, n, inner = sizes
    rows = outer * inner
    macros = plan(rows, n, inner, dtype.itemsize, arrays, alone)
    threads, block = min(rows, most_teams or rows) * macros["TEAM"], max(macros["TEAM"], _BLOCK)
    arguments = (*arrays, *others, rows, n, inner, *numbers)
    runtime.launch(file, name, dtype, runtime.blocks(threads, block), block, arguments, **macros)


def plan(rows, n, inner, itemsize, arrays, alone=True) -> dict[str, int]:
    """The macros for rows of n elements that lie `inner` apart."""
    if inner > 1 or (alone and n <= _FEW and rows > _MANY):
        return {"TEAM": 1, "WIDE": 0, "HELD": 0}
    width = 16 // itemsize
    wide = not (n % width or any(a is not None and a.data.ptr % 16 for a in arrays))
    for team in _TEAMS:
        pieces = -(-n // (team * width)) if wide else -(-n // team)
        if pieces * (width if wide else 1) * max(itemsize, 4) <= _HELD[wide]:
            return {"TEAM": team, "WIDE": int(wide), "HELD": 1 << max(pieces - 1, 0).bit_length()}
    return {"TEAM": _BLOCK, "WIDE": 0, "HELD": 0}
