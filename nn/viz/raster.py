"""Small pictures made of numbers: PNG files of 256 colours, written with the standard library alone."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

BLUE, WHITE, RED = (29, 78, 216), (255, 255, 255), (185, 28, 28)

# Marks that differ without their colours, some ten units wide, as SVG paths: disc, square, triangle, …
SHAPES = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z",
    "M-4.4-4.4h8.8v8.8h-8.8z",
    "M0-5.6 5.4 4h-10.8z",
    "M0-6 6 0 0 6-6 0z",
    "M0 5.6 5.4-4h-10.8z",
    "M-6-2h4v-4h4v4h4v4h-4v4h-4v-4h-4z",
)


def ramp(*colours: tuple[int, int, int]) -> np.ndarray:
    """Return a palette (256, 3) that runs evenly through these colours.

    >>> from chainrule.nn.viz.raster import ramp
    >>> ramp((0, 0, 0), (255, 255, 255))[[0, 128, 255]].tolist()
    [[0, 0, 0], [128, 128, 128], [255, 255, 255]]
    """
    stops, at = np.array(colours), np.linspace(0, len(colours) - 1, 256)
    return np.stack([np.interp(at, range(len(stops)), channel) for channel in stops.T], 1).round().astype(np.uint8)


HEAT = ramp(BLUE, WHITE, RED)


def levels(values: np.ndarray, limit: float) -> np.ndarray:
    """Return values as 1 … 255: −limit and less is 1, 0 is 128, limit and more is 255.

    >>> from chainrule.nn.viz.raster import levels
    >>> levels(np.array([-9.0, -2.0, 0.0, 1.0]), 2.0).tolist()
    [1, 1, 128, 192]
    """
    scaled = np.clip(np.asarray(values, dtype=np.float64) / (limit or 1.0), -1, 1)
    return np.rint(128 + 127 * scaled).astype(np.uint8)


def png(indices: np.ndarray, palette: np.ndarray) -> bytes:
    """Return the PNG file of a picture (H, W) of uint8 numbers into a palette (≤ 256, 3).

    Source: Portable Network Graphics (PNG) Specification, third edition.

    >>> from chainrule.nn.viz.raster import HEAT, png
    >>> png(np.zeros((2, 3), np.uint8), HEAT)[:4]
    b'\\x89PNG'
    """
    height, width = indices.shape
    lines = np.zeros((height, width + 1), np.uint8)  # each begins with its filter: none
    lines[:, 1:] = indices
    header = struct.pack(">2I5B", width, height, 8, 3, 0, 0, 0)
    packed = zlib.compress(lines.tobytes(), 9)
    parts = ((b"IHDR", header), (b"PLTE", palette.tobytes()), (b"IDAT", packed), (b"IEND", b""))
    chunks = (struct.pack(">I", len(data)) + kind + data + _crc(kind + data) for kind, data in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _crc(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))


def data_url(indices: np.ndarray, palette: np.ndarray = HEAT) -> str:
    """Return a picture as `png` makes it as a data: URL, for the href of an image.

    >>> from chainrule.nn.viz.raster import data_url
    >>> data_url(np.zeros((2, 3), np.uint8))[:22]
    'data:image/png;base64,'
    """
    return "data:image/png;base64," + base64.b64encode(png(indices, palette)).decode()


def strip(frames: np.ndarray) -> np.ndarray:
    """Return frames (M, H, W) as one picture, one below the other, each with its edge rows doubled.

    Frame m's rows are m (H + 2) + 1 … m (H + 2) + H; a viewer that smooths meets no neighbour's colours.

    >>> from chainrule.nn.viz.raster import strip
    >>> strip(np.zeros((5, 3, 4), np.uint8)).shape
    (25, 4)
    """
    padded = np.pad(frames, ((0, 0), (1, 1), (0, 0)), mode="edge")
    return padded.reshape(-1, frames.shape[2])
