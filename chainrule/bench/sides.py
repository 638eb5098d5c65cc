"""Who computes: chainrule, and the peers that are installed, each from the same arrays.

A side takes the work of `suite.Operation` and makes of it something that does it once. `Ours` and `Torch` offer the
same names (.api, .F, .nn, .optim), so that work is written once for both; NumPy, HIPS autograd and JAX differentiate
the formulas themselves.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from . import formulas
from .kernel import Ready
from .machine import release


class Tensors:
    """A library with PyTorch's names."""

    api: Any
    F: Any
    nn: Any
    optim: Any
    version: str

    def threads(self, n: int) -> None:
        """Compute with so many threads."""
        self.api.set_num_threads(n)

    def tensor(self, array: np.ndarray) -> Any:
        """The array as a tensor of its own memory."""
        return self.api.from_numpy(array.copy())

    def numpy(self, tensor: Any) -> np.ndarray:
        """A tensor's numbers."""
        return tensor.detach().numpy()

    def ready(self, work, arrays, axes, backward):
        """The work at its place: forward without recording, or forward and backward, with what follows it."""
        tensors = [self.tensor(array) for array in arrays]
        seed = tensors.pop() if backward and work.seeded else None
        for leaf in tensors[: work.gradients] if backward else ():
            leaf.requires_grad_()
        done = work.prepare(self, tensors, axes)
        read = lambda results: [self.numpy(t) for t in results]

        def forward():
            with self.api.no_grad():
                return (done.forward(),)

        def both():
            for leaf in done.leaves:
                leaf.grad = None
            out = done.forward()
            out.backward() if seed is None else out.backward(seed)
            done.finish()
            return [leaf.grad for leaf in done.leaves]

        return Ready(both if backward else forward, read)


class Ours(Tensors):
    """chainrule."""

    def __init__(self, device: str = "cpu"):
        import chainrule as cr

        self.api, self.device = cr, device
        self.F, self.nn, self.optim = cr.nn.functional, cr.nn, cr.optim
        self.version = cr.__version__

    def tensor(self, array):
        return self.api.from_numpy(array.copy()).to(self.device)

    def numpy(self, tensor):
        return tensor.detach().cpu().numpy()


class Torch(Tensors):
    """PyTorch."""

    def __init__(self, device: str = "cpu"):
        import torch

        self.api, self.device = torch, device
        self.F, self.nn, self.optim = torch.nn.functional, torch.nn, torch.optim
        self.version = torch.__version__

    def tensor(self, array):
        if array.dtype.name == "bfloat16":  # which it does not take from NumPy, nor give
            return self.api.from_numpy(array.astype(np.float32)).to(self.device, self.api.bfloat16)
        return self.api.from_numpy(array.copy()).to(self.device)

    def numpy(self, tensor):
        tensor = tensor.detach().cpu()
        return (tensor.float() if tensor.dtype is self.api.bfloat16 else tensor).numpy()


class Arrays:
    """A library with NumPy's names, which differentiates a formula, or its `own` form of it, by itself where it can."""

    def __init__(self, name: str, module: str, gradient: Callable | None, compile=None, wait=None, own=None):
        self.name, self.xp, self.own = name, importlib.import_module(module), own or {}
        self.gradient, self.compile, self.wait = gradient, compile, wait
        self.version = release(name)
        self.compiled: dict[tuple, Callable] = {}

    def threads(self, n: int) -> None:
        """Its threads are those of NumPy, or those that its process was started with."""

    def ready(self, work, arrays, axes, backward):
        """The formula, or its gradient, compiled where the library compiles."""
        key = work.name, backward, tuple(axes.items())
        function = self.compiled.get(key)
        if function is None:  # once for all the buffers that it will walk through
            function = self.compiled[key] = self._function(work, axes, backward)
        there = [self.xp.array(array) for array in arrays]
        wait = self.wait or (lambda results: results)
        return Ready(lambda: wait(function(*there)), _arrays)

    def _function(self, work, axes, backward):
        work = replace(work, formula=self.own.get(work.formula, work.formula))
        loss = work.loss(self.xp, axes)
        function = self.gradient(loss, tuple(range(work.gradients))) if backward else work.value(self.xp, axes)
        return self.compile(function) if self.compile else function


def _arrays(results: Any) -> list[np.ndarray]:
    return [np.asarray(r) for r in (results if isinstance(results, tuple | list) else (results,))]


def _numpy(device):
    return Arrays("numpy", "numpy", None)


def _hips(device):
    from autograd import grad

    return Arrays("autograd", "autograd.numpy", grad)


def _jax(device):
    import jax

    jax.config.update("jax_enable_x64", True)
    wide = lambda pad: [(pad, pad)] * 2

    def conv(xp, x, w, b, *, stride, pad):
        return jax.lax.conv_general_dilated(x, w, (stride, stride), wide(pad)) + b.reshape(1, -1, 1, 1)

    def windows(x, start, join, k, stride, pad):
        return jax.lax.reduce_window(x, start, join, (1, 1, k, k), (1, 1, stride, stride), [(0, 0)] * 2 + wide(pad))

    def over_time(xp, cell, count, x, w, u, b, c):
        state = (xp.zeros((x.shape[1], u.shape[1]), x.dtype),) * count
        u = u.T  # once, not in every step
        return jax.lax.scan(lambda state, x: cell(xp, state, x, u, c), state, x @ w.T + b, unroll=4)[1]

    recurrent = formulas.lstm, formulas.gru, formulas.rnn, formulas.char_lstm, formulas.char_gru
    own = {formula: partial(formula, over_time=over_time) for formula in recurrent} | {
        formulas.conv: conv,
        formulas.max_pool: lambda xp, x, **options: windows(x, -xp.inf, jax.lax.max, **options),
        formulas.avg_pool: lambda xp, x, *, k, **options: windows(x, 0.0, jax.lax.add, k, **options) / k**2,
    }
    own[formulas.lenet] = partial(formulas.lenet, conv=conv, avg_pool=own[formulas.avg_pool])
    return Arrays("jax", "jax.numpy", jax.grad, jax.jit, jax.block_until_ready, own)


OURS = "chainrule"
#: name -> how to make it; the module that must be there
SIDES: dict[str, Callable[[str], Any]] = {
    OURS: Ours, "torch": Torch, "numpy": _numpy, "autograd": _hips, "jax": _jax
}  # fmt: skip
PEERS = ("torch", "jax", "autograd", "numpy")
_made: dict[tuple[str, str], Any] = {}


def side(name: str, device: str = "cpu") -> Any:
    """The side of that name, made once.

    >>> cr.bench.sides.side("numpy").version == np.__version__
    True
    """
    if (name, device) not in _made:
        _made[name, device] = SIDES[name](device)
    return _made[name, device]


def installed(names: str | Sequence[str]) -> list[str]:
    """The peers asked for, each of which must be there: ValueError and ImportError say which is not.

    >>> cr.bench.sides.installed("numpy")
    ['numpy']
    """
    asked = names.split(",") if isinstance(names, str) else list(names)
    asked = [name.strip() for name in asked if name.strip()]
    for name in asked:
        if name not in PEERS:
            raise ValueError(f"--compare {name}: that is no peer; compare with {', '.join(PEERS)}")
        if not release(name):
            raise ImportError(f"--compare {name}: it is not installed; pip install {name}, or leave it out")
    return asked
