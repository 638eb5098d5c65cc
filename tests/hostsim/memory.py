"""The stand-in's device memory: poisoned when it is fresh, and with a fence on either side."""

import numpy as np

FENCE = 256  # bytes
_PATTERN = np.frombuffer(b"\xfe\xca\xad\xff" * (FENCE // 4), np.uint8)

#: set while a CUDA graph is captured: what a GPU would refuse then, raises here
capturing = False
in_pool = False


class Memory:
    """`size` bytes with 0xff in them (NaN, or -1) between two fences; `bytes` is the array of all of it."""

    def __init__(self, size):
        self.size = size
        self.bytes = np.empty(size + 2 * FENCE + 16, np.uint8)
        skip = -self.bytes.ctypes.data % 16
        self.start = skip + FENCE
        self.bytes[skip : skip + FENCE] = _PATTERN
        self.bytes[self.start : self.start + size] = 0xFF
        self.bytes[self.start + size : self.start + size + FENCE] = _PATTERN

    def array(self, shape, dtype, strides=None):
        return np.ndarray(shape, dtype, self.bytes, self.start, strides)

    def broken(self):
        """Which side has been written over, '' if none."""
        if not np.array_equal(self.bytes[self.start - FENCE : self.start], _PATTERN):
            return "before"
        end = self.start + self.size
        return "" if np.array_equal(self.bytes[end : end + FENCE], _PATTERN) else "behind"


def check_fences(arrays, kernel):
    for a in arrays:
        side = a.memory.broken() if a.memory else ""
        if side:
            raise RuntimeError(f"kernel {kernel} wrote {side} an array of shape {a.shape} and dtype {a.dtype}")


def refuse_in_capture(what):
    if capturing:
        raise RuntimeError(
            f"{what} while a CUDA graph is captured: it waits for the GPU, or changes the graph's memory"
        )
