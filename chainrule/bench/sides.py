"""Who computes: chainrule, and the peers that are installed, each from the same arrays.

A side makes of an operation something that does it once. `Ours` and `Torch` offer the same names (.api, .F, .nn,
.optim), so that work is written once for both, in `suite`; the others compute the formulas, by NumPy's names for their
arrays, and with what they have of their own. It imports the standard library, NumPy and the formulas alone, so that an
interpreter without chainrule can load it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from . import formulas


class Ready(NamedTuple):
    """An implementation at its place: `call()` does the work once, `read(result)` gives its arrays as NumPy's."""

    call: Callable[[], Any]
    read: Callable[[Any], Sequence[np.ndarray]]


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

    def work(self, operation: str) -> Any:
        """The operation of that name, as `ready` takes it."""
        from .suite import OPERATIONS

        return next(o for o in OPERATIONS if o.name == operation)

    def ready(self, work, arrays, axes, backward):
        """The work at its place: forward without recording, or forward and backward, with what follows it."""
        tensors = [self.tensor(array) for array in arrays]
        seed = tensors.pop() if backward and work.formula.seeded else None
        for leaf in tensors[: work.formula.gradients] if backward else ():
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
    """A library with NumPy's names, or given them, which computes formulas and differentiates them where it can.

    gradient(formula, xp, axes, own): a function that gives the gradients. own: `Formula.value`. compile, wait: of such
    a function, of its results. numpy: of one result.
    """

    def __init__(
        self, name: str, xp: Any, gradient: Callable | None, compile=None, wait=None, own=None, numpy=np.asarray
    ):
        self.xp, self.own, self.version, self.numpy = xp, own or {}, version(name), numpy
        self.gradient, self.compile, self.wait = gradient, compile, wait
        self.compiled: dict[tuple, Callable] = {}

    def threads(self, n: int) -> None:
        """Its threads are those of NumPy, or those that its process was started with."""

    def work(self, operation: str) -> formulas.Formula:
        """The formula of that name, as `ready` takes it."""
        return formulas.FORMULAS[operation]

    def ready(self, formula, arrays, axes, backward):
        """The formula, or its gradient, compiled where the library compiles."""
        key = formula, backward, arrays[0].dtype.name, tuple(axes.items())
        function = self.compiled.get(key)
        if function is None:  # once for all the buffers that it will walk through
            function = (self.gradient if backward else formulas.Formula.value)(formula, self.xp, axes, self.own)
            function = self.compiled[key] = self.compile(function) if self.compile else function
        there = [self.xp.array(array) for array in arrays]
        wait = self.wait or (lambda results: results)
        return Ready(lambda: wait(function(*there)), self._arrays)

    def _arrays(self, results: Any) -> list[np.ndarray]:
        return [self.numpy(r) for r in (results if isinstance(results, tuple | list) else (results,))]


def _of_loss(grad: Callable) -> Callable:
    """What differentiates formulas, of what differentiates a function."""
    return lambda formula, *given: grad(formula.loss(*given), tuple(range(formula.gradients)))


def _numpy(device):
    return Arrays("numpy", np, None)


def _hips(device):
    from autograd import grad, numpy

    return Arrays("autograd", numpy, _of_loss(grad))


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

    own = dict(
        conv=conv,
        max_pool=lambda xp, x, **options: windows(x, -xp.inf, jax.lax.max, **options),
        avg_pool=lambda xp, x, *, k, **options: windows(x, 0.0, jax.lax.add, k, **options) / k**2,
        over_time=over_time,
    )
    return Arrays("jax", jax.numpy, _of_loss(jax.grad), jax.jit, jax.block_until_ready, own)


def _over_time(xp, cell, count, x, w, u, b, c):
    """A loop over time that multiplies the inputs once for all steps."""
    steps, batch, size = x.shape
    state, states, u = (xp.zeros((batch, u.shape[1]), x.dtype),) * count, [], u.T
    for part in xp.split(xp.reshape(x, (-1, size)) @ w.T + b, steps, axis=0):
        state, h = cell(xp, state, part, u, c)
        states.append(h)
    return xp.stack(states)


def _tinygrad(device):
    from tinygrad import Device, Tensor, TinyJit

    reduced = lambda reduce: lambda x, axis=None, keepdims=False: reduce(x, axis, keepdims)
    names = ("exp", "log", "sqrt", "tanh", "matmul", "maximum", "reshape")
    xp = SimpleNamespace(
        **{name: getattr(Tensor, name) for name in names},
        array=lambda array: Tensor(array).realize(),
        mean=reduced(Tensor.mean),
        zeros=lambda shape, dtype: Tensor.zeros(*shape, dtype=dtype),
        split=lambda x, count, axis: x.chunk(count, axis),
        stack=lambda parts: Tensor.stack(*parts),
    )

    def over_time(xp, cell, *given):
        def step(xp, *given):
            state = tuple(part.contiguous() for part in cell(xp, *given)[0])  # else steps grow into one another
            return state, state[0]

        return _over_time(xp, step, *given)

    own = dict(
        conv=lambda xp, x, w, b, *, stride, pad: x.conv2d(w, b, stride=stride, padding=pad),
        max_pool=lambda xp, x, *, k, stride, pad: x.max_pool2d((k, k), stride, padding=pad),
        avg_pool=lambda xp, x, *, k, stride, pad: x.avg_pool2d((k, k), stride, padding=pad),
        softmax=lambda xp, x: x.softmax(-1),
        cross_entropy=lambda xp, x, y: x.sparse_categorical_crossentropy(y),
        relu=lambda xp, x: x.relu(),
        over_time=over_time,
    )

    def gradient(formula, *given):
        value = formula.value(*given)

        def run(*arrays):
            *inputs, seed = arrays if formula.seeded else (*arrays, None)
            return value(*inputs).gradient(*inputs[: formula.gradients], gradient=seed)

        return run

    def compile(function):
        jit = TinyJit(function)

        def call(*arrays):
            while jit.captured is None:  # it captures in its second call, and what is proven is to be what is timed
                jit(*arrays)
            return jit(*arrays)

        return call

    def wait(results):
        Device[Device.DEFAULT].synchronize()
        return results

    return Arrays("tinygrad", xp, gradient, compile, wait, own, Tensor.numpy)


def _chainer(device):
    import chainer
    from chainer import Variable, functions as F

    chainer.config.type_check = False  # as its users do for speed
    fixed = lambda array: Variable(array, requires_grad=False) if array.dtype.kind == "f" else array
    xp = SimpleNamespace(**vars(F) | dict(array=fixed, split=F.split_axis, zeros=np.zeros))

    def gradient(formula, *given):
        value = formula.value(*given)

        def run(*arrays):
            *inputs, seed = arrays if formula.seeded else (*arrays, None)
            leaves = [Variable(array.array) for array in inputs[: formula.gradients]]
            out = value(*leaves, *inputs[formula.gradients :])
            out.grad = getattr(seed, "array", None)
            out.backward()
            return [leaf.grad for leaf in leaves]

        return run

    def lstm_cell(xp, state, x, u, c):
        cell, h = F.lstm(state[1], x + state[0] @ u + c)
        return (h, cell), h

    def beside(p):
        """`F.lstm` takes the gates g, i, f, o of one unit beside each other."""
        i, f, g, o = F.split_axis(p, 4, 0)
        return F.reshape(F.stack((g, i, f, o), axis=1), p.shape)

    def over_time(xp, cell, count, x, *parameters):
        if cell is formulas.lstm_cell:
            cell, parameters = lstm_cell, map(beside, parameters)
        return _over_time(xp, cell, count, x, *parameters)

    own = dict(
        conv=lambda xp, x, w, b, *, stride, pad: F.convolution_2d(x, w, b, stride, pad),
        max_pool=lambda xp, x, *, k, stride, pad: F.max_pooling_2d(x, k, stride, pad, cover_all=False),
        avg_pool=lambda xp, x, *, k, stride, pad: F.average_pooling_2d(x, k, stride, pad),
        softmax=lambda xp, x: F.softmax(x),
        cross_entropy=lambda xp, x, y: F.softmax_cross_entropy(x, y),
        batch_norm=lambda xp, x, w, b: F.batch_normalization(x, w, b, eps=1e-5),
        layer_norm=lambda xp, x, w, b: F.layer_normalization(x, w, b, eps=1e-5),
        relu=lambda xp, x: F.relu(x),
        embedding=lambda xp, e, x: F.embed_id(x, e),
        over_time=over_time,
    )
    return Arrays("chainer", xp, gradient, own=own, numpy=lambda result: getattr(result, "array", result))


OURS, CAPTURED = "chainrule", "captured"
#: name -> how to make it
SIDES: dict[str, Callable[[str], Any]] = {
    OURS: Ours, "torch": Torch, "numpy": _numpy, "autograd": _hips, "jax": _jax, "tinygrad": _tinygrad,
    "chainer": _chainer,
}  # fmt: skip
PEERS = ("torch", "jax", "tinygrad", "chainer", "autograd", "numpy")
_made: dict[tuple[str, str], Any] = {}


def side(name: str, device: str = "cpu") -> Any:
    """The side of that name, made once.

    >>> cr.bench.sides.side("numpy").version == np.__version__
    True
    """
    if (name, device) not in _made:
        _made[name, device] = SIDES[name](device)
    return _made[name, device]
