"""The IDX format of MNIST: big-endian arrays behind a header of 4 + 4·rank bytes. Source: LeCun's MNIST page."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CHUNK = 1 << 20


def read_idx(path: str | os.PathLike, max_bytes: int = 1 << 30) -> np.ndarray:
    """Read an IDX file, gzip-compressed or not, into an array of the machine's byte order.

    The header is two zero bytes, a type code, the rank, and one 32-bit size per axis. Raises ValueError for a wrong
    magic number, a file shorter or longer than its header says, damaged compression, and more than `max_bytes` of
    data; memory stays within what the file really holds.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "labels-idx1-ubyte")
    >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
    >>> from chainrule import data
    >>> data.read_idx(path)
    array([7, 8, 9], dtype=uint8)
    """
    path = Path(path)
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            return _read(gzip.GzipFile(fileobj=raw) if packed else raw, path, max_bytes)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(
                f"{path} is a damaged gzip file ({error}); its data cannot be unpacked. Fetch the file again."
            ) from error


def _read(file: IO[bytes] | gzip.GzipFile, path: Path, max_bytes: int) -> np.ndarray:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _DTYPES:
        raise ValueError(
            f"{path} begins with the bytes {start.hex(' ') or '(none)'}, which is not an IDX header (00 00, type code, "
            "rank). Pass an IDX file such as train-images-idx3-ubyte."
        )
    dtype, rank = np.dtype(_DTYPES[start[2]]), start[3]
    sizes = file.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise ValueError(f"{path} ends within its header of {4 + 4 * rank} bytes. Fetch the file again.")
    shape = struct.unpack(f">{rank}I", sizes)
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > max_bytes:
        raise ValueError(
            f"{path} claims the shape {shape}, {claimed:,} bytes, above the limit of {max_bytes:,}. If that is right, "
            "pass a larger max_bytes to read_idx."
        )
    body = bytearray()
    # In pieces, so that a header that lies costs no memory; one byte more than claimed shows what is too long.
    while len(body) <= claimed and (piece := file.read(min(_CHUNK, claimed + 1 - len(body)))):
        body += piece
    if len(body) != claimed:
        found = f"only {len(body):,}" if len(body) < claimed else "more"
        raise ValueError(
            f"{path} claims the shape {shape}, {claimed:,} bytes, but holds {found}. It is truncated or not what it "
            "says: fetch the file again."
        )
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="))
