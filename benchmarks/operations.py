"""Everyday operations beside PyTorch, in one process and in turns: where an operation is slow for its size.

    python benchmarks/operations.py [NAME ...] [--seconds 0.03] [--threads 2] [--json FILE]

Each row is one formula that both libraries run: forward alone without gradients, and forward with the adjoint of every
input; its result and gradients are compared before it is timed. Microseconds, medians of three rounds; a ratio is
PyTorch's time over ours. `benchmarks/run.py` measures whole steps, in processes of their own; this is a look around.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

import chainrule as cr

LOOSE = 1e-3  # share of the largest number by which results and gradients may differ
_ROUNDS = 3
_DRAW = np.random.default_rng(0)
_SQUARE = (512, 512)


def drawn(*shape: int) -> np.ndarray:
    """Normal numbers."""
    return _DRAW.standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    """Numbers from 0.1 to 1.1."""
    return _DRAW.random(shape, np.float32) + np.float32(0.1)


def _unary() -> dict[str, tuple]:
    functional = ("relu", "gelu", "silu", "elu", "leaky_relu", "softplus")
    methods = ("sigmoid", "tanh", "exp", "abs", "square", "neg")
    roots = ("log", "sqrt", "rsqrt", "reciprocal")
    return {
        **{n: ([drawn(*_SQUARE)], lambda lib, x, n=n: getattr(lib.nn.functional, n)(x)) for n in functional},
        **{n: ([drawn(*_SQUARE)], lambda lib, x, n=n: getattr(x, n)()) for n in methods},
        **{n: ([positive(*_SQUARE)], lambda lib, x, n=n: getattr(x, n)()) for n in roots},
        "clamp": ([drawn(*_SQUARE)], lambda lib, x: x.clamp(-1, 1)),
    }


def _along() -> dict[str, tuple]:
    methods = ("sum", "mean", "var", "std", "logsumexp", "prod", "cumsum", "softmax", "log_softmax")
    return {
        **{
            f"{n}({dim})": ([positive(*_SQUARE)], lambda lib, x, n=n, dim=dim: getattr(x, n)(dim))
            for n in methods
            for dim in (0, 1)
        },
        **{f"amax({dim})": ([drawn(*_SQUARE)], lambda lib, x, dim=dim: lib.amax(x, dim)) for dim in (0, 1)},
        **{n: ([positive(*_SQUARE)], lambda lib, x, n=n: getattr(x, n)()) for n in ("sum", "mean", "var", "norm")},
    }


def _pairs() -> dict[str, tuple]:
    half = (256, 512)
    chosen = _DRAW.random(_SQUARE) < 0.5
    return {
        "add": ([drawn(*_SQUARE), drawn(*_SQUARE)], lambda lib, x, y: x + y),
        "divide": ([drawn(*_SQUARE), positive(*_SQUARE)], lambda lib, x, y: x / y),
        "times a row": ([drawn(*_SQUARE), drawn(512)], lambda lib, x, y: x * y),
        "times a column": ([drawn(*_SQUARE), drawn(512, 1)], lambda lib, x, y: x * y),
        "maximum": ([drawn(*_SQUARE), drawn(*_SQUARE)], lambda lib, x, y: lib.maximum(x, y)),
        "where": ([chosen, drawn(*_SQUARE), drawn(*_SQUARE)], lambda lib, m, x, y: lib.where(m, x, y)),
        "masked_fill": ([chosen, drawn(*_SQUARE)], lambda lib, m, x: x.masked_fill(m, 0.0)),
        "outer": ([drawn(512), drawn(512)], lambda lib, x, y: lib.outer(x, y)),
        "cat": ([drawn(*half), drawn(*half)], lambda lib, x, y: lib.cat([x, y], 1)),
        "stack": ([drawn(*half), drawn(*half)], lambda lib, x, y: lib.stack([x, y])),
        "rows by index": ([_DRAW.integers(0, 512, 1000), drawn(*_SQUARE)], lambda lib, i, x: x[i]),
        "gather": ([_DRAW.integers(0, 512, (512, 64)), drawn(*_SQUARE)], lambda lib, i, x: x.gather(1, i)),
        "transposed + 1": ([drawn(*_SQUARE)], lambda lib, x: x.T + 1),
        "pad": ([drawn(16, 16, 32, 32)], lambda lib, x: lib.nn.functional.pad(x, (1, 1, 1, 1))),
        "bmm": ([drawn(32, 64, 64), drawn(32, 64, 64)], lambda lib, x, y: x @ y),
        "einsum": ([drawn(32, 64, 48), drawn(32, 48, 24)], lambda lib, x, y: lib.einsum("bij,bjk->bik", x, y)),
    }


def _layers() -> dict[str, tuple]:
    def row(name: str, *arrays: np.ndarray, **options) -> tuple:
        return list(arrays), lambda lib, *given: getattr(lib.nn.functional, name)(*given, **options)

    linear = {f"linear {m} × {k} × {n}": row("linear", drawn(m, k), drawn(n, k), drawn(n))
              for m, k, n in ((1, 512, 512), (32, 64, 64), (128, 784, 256), (512, 512, 512))}  # fmt: skip
    classes = _DRAW.integers(0, 10, 512)
    return linear | {
        "mse_loss": row("mse_loss", drawn(*_SQUARE), drawn(*_SQUARE)),
        "smooth_l1_loss": row("smooth_l1_loss", drawn(*_SQUARE), drawn(*_SQUARE)),
        "cross_entropy": ([classes, drawn(512, 10)], lambda lib, y, x: lib.nn.functional.cross_entropy(x, y)),
        "layer_norm": row("layer_norm", drawn(*_SQUARE), normalized_shape=(512,)),
        "group_norm": row("group_norm", drawn(16, 64, 16, 16), num_groups=8),
        "conv1d": row("conv1d", drawn(32, 64, 128), drawn(64, 64, 3), drawn(64), padding=1),
        "conv2d": row("conv2d", drawn(16, 32, 32, 32), drawn(64, 32, 3, 3), drawn(64), padding=1),
        "conv2d, stride 2": row("conv2d", drawn(16, 32, 32, 32), drawn(64, 32, 3, 3), drawn(64), stride=2, padding=1),
        "conv2d, depthwise": row("conv2d", drawn(16, 64, 32, 32), drawn(64, 1, 3, 3), padding=1, groups=64),
        "conv_transpose2d": row("conv_transpose2d", drawn(16, 64, 16, 16), drawn(64, 32, 4, 4), stride=2, padding=1),
        "max_pool2d": row("max_pool2d", drawn(16, 64, 32, 32), kernel_size=2),
    }


def operations() -> dict[str, tuple]:
    """Name -> (arrays, the formula of a library and its tensors); floating arrays have gradients."""
    return _unary() | _along() | _pairs() | _layers()


class Side:
    """A formula with the tensors of one library."""

    def __init__(self, lib, formula: Callable, arrays: list[np.ndarray]):
        self.lib, self.formula = lib, formula
        self.given = [lib.tensor(array) for array in arrays]
        self.learnt = [x.requires_grad_() for x in self.given if x.dtype == lib.float32]
        slope = np.random.default_rng(1).standard_normal(tuple(self.forward().shape))
        self.slope = lib.tensor(slope.astype(np.float32))

    def forward(self):
        """The result, without gradients."""
        with self.lib.no_grad():
            return self.formula(self.lib, *self.given)

    def both(self):
        """The result, with the adjoint left in the inputs' gradients."""
        for x in self.learnt:
            x.grad = None
        out = self.formula(self.lib, *self.given)
        out.backward(self.slope)
        return out

    def results(self) -> list[np.ndarray]:
        """What came out, and all gradients."""
        return [np.asarray(x.detach()) for x in (self.both(), *(x.grad for x in self.learnt))]


def apart(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """The largest difference as a share of the largest number beside it; infinite where shapes differ."""
    if [x.shape for x in ours] != [x.shape for x in theirs]:
        return np.inf
    return max(float(abs(a - b).max(initial=0) / max(abs(b).max(initial=0), 1e-30)) for a, b in zip(ours, theirs))


def timed(work: Callable[[], object], seconds: float) -> float:
    """The median of calls for so many seconds, two before them."""
    work(), work()
    taken, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or not taken:
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def measured(sides: list[Side], seconds: float) -> dict[str, float]:
    """Microseconds of both sides, forward and with the adjoint."""
    works = {"forward": sides[0].forward, "forward of PyTorch": sides[1].forward,
             "both": sides[0].both, "both of PyTorch": sides[1].both}  # fmt: skip
    rounds = [{name: timed(work, seconds) for name, work in works.items()} for _ in range(_ROUNDS)]
    return {name: 1e6 * statistics.median(found[name] for found in rounds) for name in works}


def _line(name: str, row: dict) -> str:
    if "wrong" in row:
        return f"{name:24s} WRONG: apart by {row['wrong']:.1e} of the largest"
    cells = [f"{row[k]:10.1f} {row[f'{k} of PyTorch']:10.1f} {row[f'{k} of PyTorch'] / row[k]:7.2f}"
             for k in ("forward", "both")]  # fmt: skip
    return f"{name:24s} {' '.join(cells)}"


def main(words: list[str] | None = None) -> int:
    """Run what the words ask for; 1 if a result was wrong."""
    parser = argparse.ArgumentParser(description="Everyday operations beside PyTorch: PyTorch's time over ours.")
    parser.add_argument("names", nargs="*", help="parts of names; all without any")
    parser.add_argument("--seconds", type=float, default=0.03, help="for each of a row's twelve turns")
    parser.add_argument("--threads", type=int, default=cr.get_num_threads())
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(words)
    import torch

    table = {n: v for n, v in operations().items() if not asked.names or any(part in n for part in asked.names)}
    if not table:
        parser.error(f"no operation has {' or '.join(asked.names)} in its name; there is {', '.join(operations())}")
    cr.set_num_threads(asked.threads)
    torch.set_num_threads(asked.threads)
    print(f"chainrule {cr.__version__}, PyTorch {torch.__version__}, {asked.threads} threads of the CPU; "
          f"about {len(table) * (4 * _ROUNDS * asked.seconds + 1):.0f} s")  # fmt: skip
    heads = ("forward", "PyTorch", "ratio", "+ adjoint", "PyTorch", "ratio")
    print(f"{'us':24s} {' '.join(f'{head:>{width}s}' for head, width in zip(heads, (10, 10, 7) * 2))}")
    rows = {}
    for name, (arrays, formula) in tqdm(table.items(), disable=None, leave=False):
        sides = [Side(lib, formula, arrays) for lib in (cr, torch)]
        off = apart(*[side.results() for side in sides])
        rows[name] = measured(sides, asked.seconds) if off < LOOSE else {"wrong": off}
        tqdm.write(_line(name, rows[name]))
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    return int(any("wrong" in row for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
