"""A tape as a Python function without the engine: a line for each call, on local variables.

Results of NumPy's elementwise functions lie in buffers that are made once, unless they leave the function; what is
needed no more is let go of line by line, as it was in the step itself.
"""

import numpy as np

from .machine import fused
from .recording import Ref, refs

_BUFFER = 1 << 16  # bytes; larger arrays are as quick to make as to write, and need not be held


def assemble(tape, outside, outputs, written=()):
    """The function that does the tape's work, and its inputs: run(their arrays) gives those of the outputs.

    All are numbers of the tape's values. The inputs are those from outside that are used, or are among the `written`.
    """
    calls = fused(tape.calls, tape.values, outputs)
    used = {*outputs, *written}
    for call in calls:
        used.update(refs(call.args), refs(call.kwargs))
    inputs = sorted(used.intersection(outside))
    return Writer(tape.values, calls, outputs).function(inputs, outputs), inputs


class Writer:
    """Writes the source of the function, and collects what its names stand for."""

    def __init__(self, values, calls, outputs):
        self.values, self.calls = values, calls
        self.escaping = {values[n].owner for n in outputs} | {*outputs}
        self.names, self.known = {"asarray": np.asarray}, {}

    def function(self, inputs, outputs):
        lines = [f"({''.join(f'v{n}, ' for n in inputs)}) = arrays"] if inputs else []
        ends = self._ends(outputs)
        for at, call in enumerate(self.calls):
            lines += self._lines(call)
            lines += [f"del v{n}" for n in ends.get(at, ())]
        lines.append(f"return ({''.join(f'v{n}, ' for n in outputs)})")
        source = "def run(arrays):\n" + "".join(f"    {line}\n" for line in lines)
        exec(compile(source, "<captured step>", "exec"), self.names)  # names of our own numbers, nothing of the user's
        return self.names["run"]

    def _ends(self, outputs):
        """Which results are needed no more after each call."""
        last = {n: at for at, call in enumerate(self.calls) for n in refs(call.out)}
        made = set(last)
        for at, call in enumerate(self.calls):
            last.update((n, at) for n in (*refs(call.args), *refs(call.kwargs)) if n in made)
        ends: dict = {}
        for n in made.difference(outputs):
            ends.setdefault(last[n], []).append(n)
        return ends

    def _lines(self, call):
        arguments = [self._text(x) for x in call.args] + [f"{k}={self._text(v)}" for k, v in call.kwargs.items()]
        if self._buffered(call):
            value = self.values[call.out]
            arguments.append("out=" + self._name(np.ndarray(value.shape, value.dtype, strides=value.strides)))
        text = f"{self._name(call.function)}({', '.join(arguments)})"
        if not any(True for _ in refs(call.out)):
            return [text]
        if type(call.out) is Ref:
            scalar = self.values[call.out].scalar and not self._buffered(call)
            return [f"v{call.out} = " + (f"asarray({text})" if scalar else text)]
        unpacked = [f"v{n} = asarray(v{n})" for n in refs(call.out) if self.values[n].scalar]
        return [f"{self._pattern(call.out)} = {text}", *unpacked]

    def _buffered(self, call):
        if not isinstance(call.function, np.ufunc) or call.kwargs or type(call.out) is not Ref:
            return False
        value, plain = self.values[call.out], len(call.args) == call.function.nin
        if not plain or call.function.nout != 1 or value.owner != call.out or call.out in self.escaping:
            return False
        return 0 < int(np.prod(value.shape)) * value.dtype.itemsize <= _BUFFER

    def _text(self, x):
        if type(x) is Ref:
            return f"v{x}"
        if not any(True for _ in refs(x)):
            return self._name(x)
        if type(x) is dict:
            return "{" + "".join(f"{self._name(k)}: {self._text(v)}, " for k, v in x.items()) + "}"
        inside = "".join(f"{self._text(v)}, " for v in x)
        return f"[{inside}]" if type(x) is list else f"({inside})"

    def _pattern(self, out):
        if type(out) is Ref:
            return f"v{out}"
        return "(" + "".join(f"{self._pattern(v)}, " for v in out) + ")" if out else "_"

    def _name(self, thing):
        name = self.known.get(id(thing))
        if name is None:
            name = self.known[id(thing)] = f"c{len(self.known)}"
            self.names[name] = thing
        return name
