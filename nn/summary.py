"""A table of a model's layers: what goes through them, what they hold and what they cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..autograd import Tensor, no_grad, zeros
from .layers import activation, conv, linear, normalization, pooling, recurrent
from .module import Module
from .utils.rnn import PackedSequence

# FLOPs of one forward call from (layer, input, output); a multiplication and an addition count as two.
FLOPS: dict[type, Callable[[Any, Tensor, Tensor], int]] = {
    linear.Linear: lambda m, x, y: y.numel() * (2 * m.in_features + _bias(m)),
    linear.Bilinear: lambda m, x, y: y.numel() * (2 * m.in1_features * (m.in2_features + 1) + _bias(m)),
    conv._Conv: lambda m, x, y: _convolution(m, x, y) + _bias(m) * y.numel(),
    pooling._Windowed: lambda m, x, y: y.numel() * math.prod(_window(m)),
    pooling._Adaptive: lambda m, x, y: x.numel(),
    normalization._BatchNorm: lambda m, x, y: 2 * x.numel(),  # in evaluation: one scale, one shift
    normalization.LayerNorm: lambda m, x, y: 8 * x.numel(),
    activation._Activation: lambda m, x, y: y.numel(),
    recurrent._Recurrent: lambda m, x, y: y.numel() // y.shape[-1] * _recurrent_step(m),
}
# FLOPs of a recurrent unit in one step, besides the products with its weights and the biases: sums, products, curves.
UNIT_FLOPS = {recurrent.ELMAN: 2, recurrent.LONG_SHORT: 13, recurrent.GATED: 10}


@dataclass(frozen=True)
class Row:
    """One layer: its path, class, output shape, own parameters and FLOPs (None where no formula is known)."""

    name: str
    kind: str
    output: str
    parameters: int
    flops: int | None


@dataclass(frozen=True)
class Summary:
    """The rows of `summary`, and the totals; `str()` gives the table.

    >>> cr.nn.summary(cr.nn.Linear(4, 3), (2, 4)).parameters
    15
    """

    rows: list[Row]
    parameters: int
    trainable: int
    flops: int

    def __str__(self) -> str:
        head = ("layer", "type", "output", "parameters", "FLOPs")
        cells = [(r.name, r.kind, r.output, f"{r.parameters:,}", _count(r.flops)) for r in self.rows]
        cells.append(("total", "", "", f"{self.parameters:,}", f"{self.flops:,}"))
        widths = [max(len(row[i]) for row in [head, *cells]) for i in range(len(head))]
        line = "-" * (sum(widths) + 2 * len(widths) - 2)
        lines = ["  ".join(_align(row, widths)).rstrip() for row in [head, *cells]]
        frozen = self.parameters - self.trainable
        note = f"trainable {self.trainable:,}, frozen {frozen:,}; {self.parameters * 4 / 2**20:.2f} MiB in float32"
        return "\n".join([lines[0], line, *lines[1:-1], line, lines[-1], note])

    __repr__ = __str__


def summary(model: Module, *input: Any) -> Summary:
    """Run the model once on an input and return the table of its layers.

    input: tensors, or the shape of one, batch included, which is filled with zeros of the parameters' dtype. The model
    runs in evaluation mode without recording, and is left as it was, also after an error. A layer that is called
    twice has two rows, its parameters in the first. FLOPs are those of the layers with a formula (linear, convolution,
    pooling, normalisation, activations, recurrent layers); other modules leave the column empty.

    >>> net = cr.nn.Sequential(cr.nn.Linear(4, 3), cr.nn.ReLU())
    >>> print(cr.nn.summary(net, (2, 4)))
    layer         type    output  parameters  FLOPs
    -----------------------------------------------
    Sequential.0  Linear  (2, 3)          15     54
    Sequential.1  ReLU    (2, 3)           0      6
    -----------------------------------------------
    total                                 15     60
    trainable 15, frozen 0; 0.00 MiB in float32
    """
    if not input:
        raise TypeError(
            f"summary: received {type(model).__name__} without an input, but a table's sizes come from a run; pass the "
            "shape of an input, such as nn.summary(model, (1, 3, 32, 32)), or tensors"
        )
    rows: list[Row] = []
    tensors = input if isinstance(input[0], Tensor | PackedSequence) else (_of_zeros(model, input[0]),)
    modes = [(module, module.training) for module in model.modules()]
    handles = [module.register_forward_hook(_writer(rows, path)) for path, module in _layers(model)]
    try:
        with no_grad():
            model.eval()(*tensors)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return Summary(
        rows,
        parameters=sum(n for n, _ in sizes),
        trainable=sum(n for n, trained in sizes if trained),
        flops=sum(row.flops or 0 for row in rows),
    )


def _layers(model: Module) -> list[tuple[str, Module]]:
    """Return the modules that compute or hold something themselves: leaves of the tree, and owners of parameters."""
    found = model.named_modules(type(model).__name__)
    return [(n, m) for n, m in found if not any(m.children()) or any(True for _ in m.parameters(recurse=False))]


def _writer(rows: list[Row], path: str) -> Callable[[Module, tuple, Any], None]:
    def write(module: Module, args: tuple, output: Any) -> None:
        first = output
        while isinstance(first, tuple | list) and first:  # outputs with states, the data of a PackedSequence
            first = first[0]
        formula = next((FLOPS[kind] for kind in type(module).__mro__ if kind in FLOPS), None)
        own = 0 if any(row.name == path for row in rows) else sum(p.numel() for p in module.parameters(recurse=False))
        shape = str(tuple(first.shape)) if isinstance(first, Tensor) else type(first).__name__
        rows.append(Row(path, type(module).__name__, shape, own, formula and formula(module, args[0], first)))

    return write


def _of_zeros(model: Module, shape: Sequence[int]) -> Tensor:
    first = next(model.parameters(), None)
    return zeros(tuple(shape), dtype=None if first is None else first.dtype)


def _count(flops: int | None) -> str:
    return "" if flops is None else f"{flops:,}"


def _bias(layer: Any) -> int:
    return int(layer.bias is not None)


def _convolution(layer: Any, x: Tensor, y: Tensor) -> int:
    """Return 2 · positions · filter weights; a transposed convolution lays its filters at each input position."""
    visited, axes = (x if layer.transposed else y), layer.axes
    items = math.prod(visited.shape[: -axes - 1])
    return 2 * items * math.prod(visited.shape[-axes:]) * layer.weight.numel()


def _recurrent_step(layer: Any) -> int:
    weights = dict(layer.named_parameters(recurse=False))
    scans = sum(name.startswith("weight_hh") for name in weights)
    products = sum(weight.numel() * (2 if weight.ndim == 2 else 1) for weight in weights.values())
    return products + scans * layer.hidden_size * UNIT_FLOPS[layer.kind]


def _window(layer: Any) -> tuple[int, ...]:
    size = layer.kernel_size
    return size if isinstance(size, tuple) else (size,) * layer.axes


def _align(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [text.ljust(w) if i < 3 else text.rjust(w) for i, (text, w) in enumerate(zip(row, widths))]
