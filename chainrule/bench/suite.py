"""The kernels that come with chainrule, by groups: what is computed, by whom, and how much work that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..kernels import using
from ..kernels.cpu import columns, convolution
from ..kernels.registry import implementations
from . import formulas, shapes
from .kernel import Draw, Kernel, as_dtype, keywords, plain
from .sides import CAPTURED, OURS, PEERS, Ready, side


class Done(NamedTuple):
    """Work at its place: `forward()` gives the result, `leaves` get gradients, `finish()` comes after backward."""

    forward: Callable[[], Any]
    leaves: list
    finish: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class Operation:
    """One thing to compute, in all the forms that a benchmark needs.

    Its formula is that of its name in `formulas`. inputs(draw, **axes): arrays; those to differentiate first.
    prepare(side, tensors, axes): the same on a library with PyTorch's names. flops(**axes): of the forward pass;
    backward_cost: those of both passes as its multiple; least: the share of them that no algorithm can avoid.
    raw(device, axes): implementations of arrays alone, by their names. algorithms(axes): what chainrule can be asked to
    take for it on the CPU, as CHAINRULE_KERNELS names it; takes(backward, axes, dtype): what it takes by itself.
    captured: whether a replay of `cr.capture` competes too. out(**axes): the shape of the result, where it is no
    number. passes: "forward", "forward + backward".
    """

    name: str
    group: str
    inputs: Callable
    prepare: Callable
    flops: Callable
    out: Callable | None = None
    least: Callable = lambda **_: 1.0
    raw: Callable = lambda device, axes: {}
    algorithms: Callable = lambda axes: {}
    takes: Callable = lambda backward, axes, dtype: ""
    passes: tuple[str, ...] = ("forward", "forward + backward")
    backward_cost: float = 3.0
    cold: bool = True
    captured: bool = False
    bytes: Callable | None = None

    @property
    def formula(self) -> formulas.Formula:
        """What is computed."""
        return formulas.FORMULAS[self.name]

    def kernel(self, which: str, rows: Mapping[str, Mapping]) -> Kernel:
        """Its forward pass, or both, as a kernel of these shapes."""
        backward = which != "forward"
        times = self.backward_cost if backward else 1.0
        needed = times - 1 if backward else 1.0  # a compiled gradient leaves out a result that it does not need

        def inputs(draw: Draw, **axes):
            arrays = self.inputs(draw, **axes)
            return (*arrays, draw(*self.out(**axes))) if backward and self.out else arrays

        def reference(*arrays, **axes):
            return (self.formula.loss if backward else self.formula.value)(np, axes)(*arrays)

        made = Kernel(
            f"{self.name}, {which}" if len(self.passes) > 1 else self.name, rows, inputs, reference,
            flops=lambda **axes: times * self.flops(**axes),
            least=lambda **axes: needed * self.flops(**axes) * self.least(**axes),
            gradients=self.formula.gradients if backward else 0, bytes=self.bytes, cold=self.cold, group=self.group,
        )  # fmt: skip
        made.implementations[OURS] = partial(self._ready, backward)
        able = PEERS if not backward else [name for name in PEERS if name != "numpy"]
        made.peers = dict.fromkeys(able, {"operation": self.name, "backward": backward})
        made.registered = partial(self._registered, backward)
        made.takes = partial(self.takes, backward)
        return made

    def _ready(self, backward, arrays, axes, device) -> Ready:
        return side(OURS, device).ready(self, arrays, axes, backward)

    def _captured(self, backward, arrays, axes, device) -> Ready:
        """As chainrule replays it, from the third call on: what is proven is to be what is timed."""
        ready = self._ready(backward, arrays, axes, device)
        step = side(OURS, device).api.capture(ready.call)
        step(), step()
        if step.reason:
            raise RuntimeError(f"{self.name} runs as it is: {step.reason}")
        return Ready(step, ready.read)

    def _asked(self, backward, text, arrays, axes, device) -> Ready:
        """As chainrule computes it when it is asked for an algorithm."""
        with using(text):
            ready = self._ready(backward, arrays, axes, device)

        def call():
            with using(text):
                return ready.call()

        return Ready(call, ready.read)

    def _registered(self, backward, axes, device):
        """The implementations that have names, as makers: algorithms on the CPU, kernels of the registry on a GPU."""
        if device == "cpu":
            asked = {name: partial(self._asked, backward, text) for name, text in self.algorithms(axes).items()}
            return asked | ({CAPTURED: partial(self._captured, backward)} if self.captured else {})
        return {} if backward else {name: plain(function) for name, function in self.raw(device, axes).items()}


def _registry(op: str, options: Callable[[Mapping], dict]) -> Callable:
    """What `kernels.registry` knows for `op`, called with the options that the axes mean."""

    def bound(function, given):
        return lambda *arrays: function(*arrays, **given)

    def raw(device, axes):
        return {made.name: bound(made.function, options(axes)) for made in implementations(op, device=device)}

    return raw


def _of(call: Callable) -> Callable:
    """A preparation of what is a function of tensors: call(side, *tensors, and the axes that it names)."""

    def prepare(side, tensors, axes):
        options = keywords(call, axes)
        return Done(lambda: call(side, *tensors, **options), tensors)

    return prepare


def _size(h, k, stride, pad):
    return (h + 2 * pad - k) // stride + 1


def _planes(n, c, h, w, k, stride, pad):
    return n, c, _size(h, k, stride, pad), _size(w, k, stride, pad)


# ---- convolution, products -------------------------------------------------------------------------------------------


def _conv_inputs(draw, n, c, h, w, o, k, **_):
    return draw(n, c, h, w), draw(o, c, k, k, scale=1 / math.sqrt(c * k * k)), draw(o)


def _conv_out(n, c, h, w, o, k, stride, pad):
    return _planes(n, o, h, w, k, stride, pad)


def _conv_least(k, stride, **_):
    """F(4×4, 3×3) needs 36 multiplications for 144; larger filters go through Fourier's space in a few per cent."""
    return {1: 1.0, 3: 1 / 4}.get(k, 1 / 16) if stride == 1 else 1 / 4 if k > 1 else 1.0


def _conv_geometry(axes):
    stride, pad = axes["stride"], axes["pad"]
    return dict(stride=(stride, stride), padding=((pad, pad), (pad, pad)), dilation=(1, 1), groups=1)


def _conv_plan(axes, itemsize=4):
    x, w = (axes[a] for a in "nchw"), (axes["o"], axes["c"], axes["k"], axes["k"])
    return columns.plan_of(tuple(x), w, *_conv_geometry(axes).values(), itemsize)


#: where an algorithm that can do a shape would take seconds or gigabytes
_HOPELESS: dict[str, Callable] = {
    "batch": lambda plan: plan.n * plan.k * math.prod(plan.out_size) > 1 << 26,
    "pixels": lambda plan: math.prod(plan.out_size) > 400,
    "fft": lambda plan: math.prod(plan.kernel) == 1,
}


def _conv_algorithms(axes):
    """Those that can do a shape, the hopeless left out."""
    plan = _conv_plan(axes)
    able = [name for name, made in convolution.ALGORITHMS.items() if not made.lacks(plan)]
    return {name: f"conv2d={name}" for name in able if name not in _HOPELESS or not _HOPELESS[name](plan)}


def _conv_takes(backward, axes, dtype):
    """The algorithms of the forward pass and, where they differ, of the adjoints of input and weight."""
    plan = _conv_plan(axes, max(4, as_dtype(dtype).itemsize))
    ops = ("conv2d", "conv2d_input", "conv2d_weight")[: 3 if backward else 1]
    names = [convolution.fastest(op, plan) for op in ops]
    return "/".join(names if len(set(names)) > 1 else names[:1])


# ---- recurrent layers ------------------------------------------------------------------------------------------------


def _recurrent(kind: str, gates: int) -> Operation:
    def inputs(draw, t, n, i, h):
        size = 1 / math.sqrt(h)
        weights = draw(gates * h, i, scale=size), draw(gates * h, h, scale=size), draw(gates * h, scale=size)
        return draw(t, n, i), *weights, draw(gates * h, scale=size)

    def prepare(side, tensors, axes):
        x, *weights = tensors
        layer = getattr(side.nn, kind)(axes["i"], axes["h"], dtype=x.dtype)
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        layer.load_state_dict(dict(zip(names, (w.detach() for w in weights), strict=True)))
        layer.to(x.device)
        return Done(lambda: layer(x)[0], [x, *(getattr(layer, name) for name in names)])

    return Operation(
        kind, "lstm", inputs, prepare, lambda t, n, i, h: 2 * t * n * gates * h * (i + h),
        out=lambda t, n, i, h: (t, n, h), captured=True,
    )  # fmt: skip


# ---- networks' steps -------------------------------------------------------------------------------------------------


def chain(side, x, a, b, *, length):
    """`length` multiplications by a and additions of b, in turns."""
    for _ in range(length // 2):
        x = x * a
        x = x + b
    return x


def mlp(side, inputs=784, hidden=256, classes=10):
    """A network with one hidden layer of ReLUs."""
    nn = side.nn
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def lenet(side, activation="Tanh", pool="AvgPool2d"):
    """LeNet-5 on 1×32×32."""
    nn = side.nn
    act, pool = getattr(nn, activation), getattr(nn, pool)
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), act(), pool(2), nn.Conv2d(6, 16, 5), act(), pool(2), nn.Flatten(),
        nn.Linear(400, 120), act(), nn.Linear(120, 84), act(), nn.Linear(84, 10),
    )  # fmt: skip


def _classes(model):
    """A network of images, as what `_step` takes: (the network, what its results are as rows of scores)."""

    def made(side):
        net = model(side)
        return net, net

    return made


def characters(kind, vocabulary=64, embed=64, hidden=256):
    """A language model of characters (T, N), with one recurrent layer."""

    def made(side):
        nn = side.nn
        layers = nn.Embedding(vocabulary, embed), getattr(nn, kind)(embed, hidden), nn.Linear(hidden, vocabulary)
        embedding, recurrent, linear = layers
        return nn.ModuleList(layers), lambda x: linear(recurrent(embedding(x))[0]).reshape(-1, vocabulary)

    return made


_MLP = ((256, 784), (256,), (10, 256), (10,))
_LENET = ((6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,), (120, 400), (120,), (84, 120), (84,), (10, 84), (10,))
_STEPS = 64  # of the language models, a character each


def _images(*size):
    return lambda draw, n: (draw(n, *size), draw.integers(10, n))


def _text(draw, n, vocabulary=64):
    return draw.integers(vocabulary, _STEPS, n), draw.integers(vocabulary, _STEPS * n)


def _step(name, model, sizes, data, flops) -> Operation:
    """Forward, backward and an SGD step; the gradients are what is proven."""

    def inputs(draw, n):
        parameters = [draw(*size, scale=1 / math.sqrt(math.prod(size[1:]) or 1)) for size in sizes]
        return *parameters, *data(draw, n)

    def prepare(side, tensors, axes):
        *given, x, y = tensors
        net, scores = model(side)
        net.load_state_dict(dict(zip(net.state_dict(), (p.detach() for p in given), strict=True)))
        net.to(given[0].device, given[0].dtype)
        parameters = list(net.parameters())
        optimizer = side.optim.SGD(parameters, lr=1e-12)  # so small that the next step computes the same
        return Done(lambda: side.F.cross_entropy(scores(x), y), parameters, optimizer.step)

    return Operation(
        name, "steps", inputs, prepare, lambda n: n * flops, passes=("forward + backward",), cold=False, captured=True
    )


def _char_step(kind, gates, vocabulary=64, embed=64, hidden=256) -> Operation:
    layer = ((gates * hidden, embed), (gates * hidden, hidden), (gates * hidden,), (gates * hidden,))
    sizes = (vocabulary, embed), *layer, (vocabulary, hidden), (vocabulary,)
    flops = 2 * _STEPS * hidden * (gates * (embed + hidden) + vocabulary)
    return _step(f"character {kind} step", characters(kind), sizes, _text, flops)


# ---- optimisers ------------------------------------------------------------------------------------------------------


def _optimizer(name: str, options: dict, flops: int, moved: int) -> Operation:
    """One step in place, the third, on parameters that begin at 0 so that the step is seen in all its digits."""

    def prepare(side, tensors, axes):
        p, g = tensors
        optimizer = getattr(side.optim, name)([p.requires_grad_()], **options)
        for times in formulas.PAST:
            p.grad = times * g
            optimizer.step()
        p.grad = g
        return Done(lambda: (optimizer.step(), p)[1], [])

    return Operation(
        f"{name} step", "optim", lambda draw, n: (np.zeros(n, draw.dtype), draw(n)), prepare,
        lambda n: flops * n, passes=("forward",), bytes=lambda n, itemsize: moved * n * itemsize,
    )  # fmt: skip


def _affine(draw, c):
    return 1 + draw(c, scale=0.1), draw(c)


def _apart(draw, n, c, h, w, **_):
    """Numbers no two of which are so near that a small step would change which is the largest."""
    return ((draw.rng.permutation(n * c * h * w).reshape(n, c, h, w) * 2.0**-10).astype(draw.dtype),)


def _pool(name, call) -> Operation:
    return Operation(
        name, "pool", _apart, _of(call), lambda k, **axes: math.prod(_planes(k=k, **axes)) * k * k, out=_planes,
        backward_cost=2.0,
    )  # fmt: skip


OPERATIONS = (
    Operation(
        "conv", "conv", _conv_inputs,
        _of(lambda side, x, w, b, *, stride, pad: side.F.conv2d(x, w, b, stride=stride, padding=pad)),
        lambda c, k, **axes: 2 * math.prod(_conv_out(c=c, k=k, **axes)) * c * k * k,
        out=_conv_out, least=_conv_least, raw=_registry("conv2d", _conv_geometry), algorithms=_conv_algorithms,
        takes=_conv_takes,
    ),
    _recurrent("LSTM", 4),
    _recurrent("GRU", 3),
    _recurrent("RNN", 1),
    Operation(
        "product", "matmul", lambda draw, m, n, k: (draw(m, k), draw(k, n)),
        _of(lambda side, x, w: side.api.matmul(x, w)), lambda m, n, k: 2 * m * n * k,
        out=lambda m, n, k: (m, n), raw=_registry("matmul", lambda axes: {}),
    ),
    Operation(
        "softmax", "softmax", lambda draw, n, classes: (draw(n, classes),),
        _of(lambda side, x: side.F.softmax(x, -1)), lambda n, classes: 5 * n * classes,
        out=lambda n, classes: (n, classes), raw=_registry("softmax", lambda axes: {"axis": 1}), backward_cost=2.0,
    ),
    Operation(
        "softmax cross entropy", "softmax",
        lambda draw, n, classes: (draw(n, classes), draw.integers(classes, n)),
        lambda side, tensors, axes: Done(lambda: side.F.cross_entropy(*tensors), tensors[:1]),
        lambda n, classes: 5 * n * classes, backward_cost=2.0, captured=True,
    ),
    _pool("max pool", lambda side, x, *, k, stride, pad: side.F.max_pool2d(x, k, stride, pad)),
    _pool("average pool", lambda side, x, *, k, stride, pad: side.F.avg_pool2d(x, k, stride, pad)),
    Operation(
        "batch norm", "norm", lambda draw, n, c, h, w: (draw(n, c, h, w), *_affine(draw, c)),
        _of(lambda side, x, w, b: side.F.batch_norm(x, None, None, w, b, training=True)),
        lambda n, c, h, w: 7 * n * c * h * w, out=lambda n, c, h, w: (n, c, h, w),
    ),
    Operation(
        "layer norm", "norm", lambda draw, n, c, h, w: (draw(n * h * w, c), *_affine(draw, c)),
        _of(lambda side, x, w, b, *, c: side.F.layer_norm(x, (c,), w, b)),
        lambda n, c, h, w: 7 * n * c * h * w, out=lambda n, c, h, w: (n * h * w, c),
    ),
    _optimizer("Adam", formulas.ADAM, 12, 7),
    _optimizer("SGD", formulas.SGD, 4, 5),
    Operation(
        "chain", "engine",
        lambda draw, length, n: (draw(n), 1 + draw(n, scale=0.01), draw(n)),
        lambda side, tensors, axes: Done(lambda: chain(side, *tensors, length=axes["length"]), tensors[:1]),
        lambda length, n: length * n, out=lambda length, n: (n,), cold=False, backward_cost=1.5, captured=True,
    ),
    _step("MLP 784-256-10 step", _classes(mlp), _MLP, _images(784), 2 * (784 * 256 + 256 * 10)),
    _step(
        "LeNet-5 step", _classes(lenet), _LENET, _images(1, 32, 32),
        2 * (117600 + 240000 + 48000 + 10080 + 840),
    ),
    _char_step("LSTM", 4),
    _char_step("GRU", 3),
)  # fmt: skip

GROUPS = tuple(shapes.AXES)


def kernels(group: str = "all", asked: str | None = None) -> Iterator[Kernel]:
    """The kernels of a group, or of all, at the shapes that `shapes.select(asked)` gives.

    Raises ValueError where there is none.

    >>> [kernel.name for kernel in cr.bench.kernels("matmul", "lenet")]
    ['product, forward', 'product, forward + backward']
    """
    if group not in (*GROUPS, "all"):
        raise ValueError(f"{group!r} is no group of kernels; there are {', '.join(GROUPS)} and all")
    chosen = [shape for shape in shapes.select(asked) if group in ("all", shape.group)]
    if not chosen:
        others = sorted({shape.group for shape in shapes.select(asked)})
        raise ValueError(f"--shapes {asked} has no shape for {group}; it has some for {', '.join(others)}")
    for operation in OPERATIONS:
        rows = {shape.name: shape.axes for shape in chosen if shape.group == operation.group}
        for which in operation.passes if rows else ():
            yield operation.kernel(which, rows)
