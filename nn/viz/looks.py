"""A look at a model: its weights, its first layer's filters, and what its modules make of one sample."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, TypeGuard

import numpy as np

from ...autograd import Tensor, each_tensor, no_grad
from ..layers import Dropout, Flatten, Identity, Unflatten
from ..module import Module

MODULES = 10  # whose maps are kept
MAPS, MAP_SIDE = 12, 32  # of a module that gives images
SHEET_SIDE, STRIP = 64, 256  # of a module that gives one matrix, one vector
FILTERS = 32
PARAMETERS = 24
SAMPLED = 65536  # elements of a parameter that its histogram counts
BINS = 24
SAME_VALUES = (Dropout, Flatten, Identity, Unflatten)  # in evaluation they change none


def one_sample(x: Any, axis: int) -> Any:
    """The first sample of a batch, as a batch of one; the batch itself where its tensors differ in how many they hold.

    >>> from chainrule.nn.viz.looks import one_sample
    >>> x, lengths = one_sample((cr.ones(8, 5), cr.ones(8)), axis=0)
    >>> x.shape, lengths.shape
    ((1, 5), (1,))
    """
    sizes: set[int | None] = set()
    each_tensor(x, lambda t: sizes.add(t.shape[axis] if t.ndim > axis else None))
    if len(sizes) != 1 or None in sizes:
        return x
    return each_tensor(x, lambda t: t[(slice(None),) * axis + (slice(1),)])


class Looker:
    """Looks at `model` while `forward()` runs it on `sample`, a batch of one."""

    def __init__(self, model: Module, forward: Callable[[], Any], sample: Any):
        self.model, self.forward = model, forward
        self.sample = _first_tensor(sample)
        self.parameters = dict(list(model.named_parameters())[:PARAMETERS])
        self.left_out = sum(1 for _ in model.parameters()) - len(self.parameters)
        self.paths: list[str] | None = None  # of the modules shown, known after the first look
        self.called = 0  # modules that the first look saw

    def look(self) -> tuple[dict[str, Any], int]:
        """Filters, maps and weights, as JSON can say them, and how many bytes that takes."""
        outputs = self._outputs()
        first = next((path for path in outputs if getattr(self._module(path), "weight", None) is not None), None)
        shown = [("input", "the sample", self.sample)] if _has_numbers(self.sample) else []
        shown += [(path or "model", type(self._module(path)).__name__, outputs[path]) for path in self.paths or ()]
        found: dict[str, Any] = {
            "filters": None if first is None else self._filters(first),
            "maps": [picture(name, kind, _without_batch(t)) for name, kind, t in shown],
            "weights": [_figures(name, p) for name, p in self.parameters.items()],
        }
        entries = [*found["maps"], *found["weights"], found["filters"] or {}]
        return found, sum(len(entry.get("data", "")) + 250 for entry in entries)

    def _module(self, path: str) -> Module:
        return self.model.get_submodule(path)

    def _outputs(self) -> dict[str, Tensor]:
        """What the modules shown gave for the sample, in the order in which they were called."""
        outputs: dict[str, Tensor] = {}

        def keep(path: str) -> Callable[..., None]:
            def hook(module: Module, args: tuple, output: Any) -> None:
                found = _first_tensor(output)
                if _has_numbers(found):
                    outputs.setdefault(path, found.detach())

            return hook

        leaves = [(path, module) for path, module in self.model.named_modules() if not list(module.children())]
        watched = leaves if self.paths is None else [(path, self._module(path)) for path in self.paths]
        handles = [module.register_forward_hook(keep(path)) for path, module in watched]
        try:
            with no_grad():
                self.forward()
        finally:
            for handle in handles:
                handle.remove()
        if self.paths is None:
            paths = [path for path in outputs if not isinstance(self._module(path), SAME_VALUES)]
            self.called = len(paths)
            spread = np.linspace(0, len(paths) - 1, min(MODULES, len(paths))).round().astype(int)
            self.paths = [paths[i] for i in spread]
        return outputs

    def _filters(self, path: str) -> dict[str, Any] | None:
        """The filters of a convolution, or the weights of a linear layer in the form of the image that it reads."""
        weight = _numpy(self._module(path).weight)
        image = _without_batch(self.sample) if _has_numbers(self.sample) else np.zeros(())
        if weight.ndim == 2 and image.ndim == 3 and weight.shape[1] == image.size:
            weight = weight.reshape(-1, *image.shape)
        if weight.ndim == 3:
            weight = weight[:, None]
        if weight.ndim != 4 or weight[0, 0].size < 2:
            return None
        channels = 3 if weight.shape[1] == 3 else 1
        tiles = reduced(weight[:FILTERS, :channels], MAP_SIDE)
        facts = {"name": path or "model", "count": len(weight), "inputs": weight.shape[1], "channels": channels}
        return facts | _encoded(tiles.reshape(-1, *tiles.shape[2:]))


def picture(name: str, kind: str, array: np.ndarray) -> dict[str, Any]:
    """A module's result for one sample as tiles of numbers: images (C, H, W), a sheet (T, U) or a strip (U,)."""
    shape = array.shape
    while array.ndim > 1 and array.shape[-1] == 1:  # the 1 × 1 maps of a layer that sees all of its input
        array = array[..., 0]
    if array.ndim < 2:
        tiles = reduced(array.reshape(1, 1, -1), STRIP)
    elif array.ndim == 2:
        tiles = reduced(array[None], SHEET_SIDE)
    else:
        tiles = reduced(array.reshape(-1, *array.shape[-2:])[:MAPS], MAP_SIDE)
    count = len(array.reshape(-1, *array.shape[-2:])) if array.ndim > 2 else 1
    return {"name": name, "kind": kind, "shape": list(shape), "count": count} | _encoded(tiles)


def reduced(array: np.ndarray, most: int) -> np.ndarray:
    """The array with its last two axes no longer than `most`: each cell is the mean of those it stands for.

    >>> from chainrule.nn.viz.looks import reduced
    >>> reduced(np.array([[1.0, 3.0, 5.0, 7.0]]), 2).tolist()
    [[2.0, 6.0]]
    """
    array = array.astype(np.float64)
    for axis in (-2, -1):
        n = array.shape[axis]
        if n > most:
            starts = np.arange(most) * n // most
            counts = np.diff(np.append(starts, n))
            array = np.add.reduceat(array, starts, axis) / (counts[:, None] if axis == -2 else counts)
    return array


def _encoded(tiles: np.ndarray) -> dict[str, Any]:
    """Tiles (N, H, W) as bytes from −127 to 127 times scale / 127; −128 stands for what is not finite."""
    finite = np.isfinite(tiles)
    scale = float(np.abs(tiles[finite]).max()) if finite.any() else 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        cells = np.where(finite, np.rint(tiles / (scale or 1.0) * 127), -128).astype(np.int8)
    n, height, width = tiles.shape
    data = base64.b64encode(cells.tobytes()).decode()
    return {"tiles": n, "height": height, "width": width, "scale": float(f"{scale:.6g}"), "data": data}


def _figures(name: str, parameter: Tensor) -> dict[str, Any]:
    """Range, norm and histogram of a parameter, of an even sample of its elements if it is large; a matrix as tiles."""
    flat = parameter.detach().flatten()
    apart = -(-flat.numel() // SAMPLED)
    values = _numpy(flat[::apart]).astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    span = max(-low, high) or 1.0  # symmetric, so that 0 stands in the middle
    with np.errstate(over="ignore"):
        spread = float(finite.std()) if finite.size else 0.0
    found = {
        "name": name,
        "shape": list(parameter.shape),
        "apart": apart,
        "low": float(f"{low:.6g}"),
        "high": float(f"{high:.6g}"),
        "spread": float(f"{spread:.6g}"),
        "odd": len(values) - len(finite),
        "span": float(f"{span:.6g}"),
        "counts": np.histogram(finite, bins=BINS, range=(-span, span))[0].tolist(),
    }
    if parameter.ndim == 2 and parameter.numel() <= SHEET_SIDE * SHEET_SIDE:
        found |= _encoded(_numpy(parameter)[None].astype(np.float64))
    return found


def _numpy(t: Tensor) -> np.ndarray:
    t = t.detach().cpu()
    return (t if t.dtype.kind in "fiub" else t.float()).numpy()


def _without_batch(t: Tensor) -> np.ndarray:
    """The first sample of (N, …), or of (T, N, …) where there are several T and one N."""
    array = _numpy(t)
    axis = 1 if array.ndim > 1 and array.shape[0] != 1 == array.shape[1] else 0
    return array.take(0, axis) if array.ndim else array


def _has_numbers(t: Any) -> TypeGuard[Tensor]:
    return isinstance(t, Tensor) and t.is_floating_point() and t.numel() > 0


def _first_tensor(value: Any) -> Tensor | None:
    found: list[Tensor] = []
    each_tensor(value, found.append)
    return found[0] if found else None
