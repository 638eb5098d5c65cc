"""The stand-in's device memory: poisoned when it is fresh, and with a fence on either side."""

import math
import weakref

import numpy as np

FENCE = 256  # bytes
_PATTERN = np.frombuffer(b"\xfe\xca\xad\xff" * (FENCE // 4), np.uint8)

#: every memory that is in use
live = weakref.WeakSet()
#: bytes that may be in use at once; a test sets it to run out of memory
limit = math.inf
#: set while a CUDA graph is captured: what a GPU would refuse then, raises here
capturing = False
in_pool = False


class OutOfMemoryError(MemoryError):
    """CuPy's: what was asked for and what is in use."""

    def __init__(self, size, total):
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes).")


def in_use():
    return sum(memory.size for memory in live)


class Memory:
    """`size` bytes with 0xff in them (NaN, or -1) between two fences; `bytes` is the array of all of it."""

    def __init__(self, size):
        if limit < math.inf and in_use() + size > limit:
            raise OutOfMemoryError(size, in_use())
        self.size = size
        self.bytes = np.empty(size + 2 * FENCE + 16, np.uint8)
        skip = -self.bytes.ctypes.data % 16
        self.start = skip + FENCE
        self.bytes[skip : skip + FENCE] = _PATTERN
        self.bytes[self.start : self.start + size] = 0xFF
        self.bytes[self.start + size : self.start + size + FENCE] = _PATTERN
        live.add(self)

    @property
    def address(self):
        return self.bytes.ctypes.data + self.start

    def array(self, shape, dtype, strides=None):
        return np.ndarray(shape, dtype, self.bytes, self.start, strides)

    def broken(self):
        """Which side has been written over, '' if none."""
        if not np.array_equal(self.bytes[self.start - FENCE : self.start], _PATTERN):
            return "before"
        end = self.start + self.size
        return "" if np.array_equal(self.bytes[end : end + FENCE], _PATTERN) else "behind"


def refuse_in_capture(what):
    if capturing:
        raise RuntimeError(
            f"{what} while a CUDA graph is captured: it waits for the GPU, or changes the graph's memory"
        )


# ---- graphs ----------------------------------------------------------------------------------------------------------

#: emulated libraries that note their own calls while a graph is captured
libraries = []
_capture = None


def do(action):
    """Carry out an action on the GPU's memory, again at each replay of a graph that is captured."""
    action()
    record(action)


def record(action):
    """Note an action that has been carried out, if a graph is captured."""
    if _capture is not None:
        _capture.note_calls()
        _capture.actions.append(action)


class Capture:
    """What a CUDA graph notes. On a GPU nothing runs meanwhile: memory is put back at the end, new memory poisoned."""

    def __init__(self):
        global capturing, _capture
        if capturing:
            raise RuntimeError("a stream is being captured already")
        self.actions = []
        self.before = [(memory, memory.bytes.copy()) for memory in live]
        for library in libraries:
            library.host_record(1)
            library.noted = library.host_calls()
        capturing, _capture = True, self

    def note_calls(self):
        """Take in what the libraries have been called for since."""
        for library in libraries:
            for call in range(library.noted, library.host_calls()):
                self.actions.append(lambda library=library, call=call: library.host_replay(call))
            library.noted = library.host_calls()

    def end(self):
        global capturing, _capture
        capturing, _capture = False, None
        self.note_calls()
        for library in libraries:
            library.host_record(0)
        known = {memory for memory, _ in self.before}
        for memory in tuple(live):
            if memory not in known:
                memory.bytes[memory.start : memory.start + memory.size] = 0xFF
        for memory, content in self.before:
            memory.bytes[...] = content
        return Graph(self.actions)


class Graph:
    """Actions to be carried out again."""

    def __init__(self, actions):
        self.actions = actions

    def upload(self, stream=None):
        pass

    def launch(self, stream=None):
        for action in self.actions:
            action()
