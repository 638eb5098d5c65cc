"""Small networks that learn to tell points in the plane apart, recorded moment by moment."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ...autograd import (
    Tensor,
    binary_cross_entropy_with_logits,
    cross_entropy,
    default_generator,
    grad,
    no_grad,
    tensor,
)
from ..layers import Dropout, Linear, Sequential, Tanh
from ..module import Module
from ..optim import Adam, Optimizer
from .data2d import Points

MOST_UNITS = 10  # drawn of each layer


@dataclass(frozen=True)
class Variant:
    """A run of the playground: a network, and how it is trained.

    net: a module from points (N, 2) to logits (N, 1), (N,) or (N, C), whose Linear layers follow one another; a copy
    of it is trained. Without one, layers of the sizes `hidden` are built, each followed by `activation` and, if asked
    for, dropout. l1 and l2 add λ₁ Σ|w| + λ₂ Σw²/2 over the weights (not the biases) to the loss. optimizer is called
    with the parameters; batch_size None takes all points at every step. seed: of weights, dropout and batches.

    >>> cr.viz.Variant(hidden=(8,), activation=cr.nn.ReLU, l2=0.01).build(classes=2)
    Sequential(
      (0): Linear(in_features=2, out_features=8, bias=True)
      (1): ReLU()
      (2): Linear(in_features=8, out_features=1, bias=True)
    )
    """

    net: Module | None = None
    hidden: Sequence[int] = (4, 2)
    activation: Callable[[], Module] = Tanh
    l1: float = 0.0
    l2: float = 0.0
    dropout: float = 0.0
    optimizer: Callable[[Any], Optimizer] = field(default=partial(Adam, lr=0.03))
    batch_size: int | None = None
    seed: int = 0

    def build(self, classes: int) -> Module:
        """Return the network for so many classes: a copy of `net`, or a new one with one logit for two classes."""
        if self.net is not None:
            return copy.deepcopy(self.net)
        layers: list[Module] = []
        sizes = (2, *self.hidden)
        for inputs, outputs in pairwise(sizes):
            layers += [Linear(inputs, outputs), self.activation(), *([Dropout(self.dropout)] if self.dropout else [])]
        return Sequential(*layers, Linear(sizes[-1], 1 if classes == 2 else classes))

    def penalty(self, layers: Sequence[Linear]) -> Any:
        """Return λ₁ Σ|w| + λ₂ Σw²/2 over the layers' weights."""
        l1 = sum(self.l1 * layer.weight.abs().sum() for layer in layers) if self.l1 else 0.0
        l2 = sum(self.l2 / 2 * (layer.weight * layer.weight).sum() for layer in layers) if self.l2 else 0.0
        return l1 + l2


def labels(variants: Sequence[Variant]) -> list[str]:
    """Return a name for each variant, from the fields in which they differ.

    >>> from chainrule.nn.viz.rehearsal import Variant, labels
    >>> labels([Variant(), Variant(activation=cr.nn.ReLU, l2=0.1)])
    ['activation Tanh, l2 0', 'activation ReLU, l2 0.1']
    """
    if len(variants) == 1:
        return ["the network"]
    texts = [{one.name: _text(getattr(variant, one.name)) for one in fields(Variant)} for variant in variants]
    differing = [name for name in texts[0] if len({text[name] for text in texts}) > 1]
    found = [", ".join(f"{name.replace('_', ' ')} {text[name]}" for name in differing) for text in texts]
    return [f"{name or 'run'} ({i + 1})" if found.count(name) > 1 else name for i, name in enumerate(found)]


def _text(value: Any) -> str:
    """What a person would call the value of a field."""
    if isinstance(value, partial):
        return " ".join([value.func.__name__, *(f"{name} {_text(given)}" for name, given in value.keywords.items())])
    if isinstance(value, Module):
        return type(value).__name__
    if isinstance(value, (tuple, list)):
        return "-".join(map(_text, value))
    return getattr(value, "__name__", f"{value:g}" if isinstance(value, float) else str(value))


class Sight(NamedTuple):
    """A forward and a backward pass.

    columns: what enters each Linear layer (N, n), and last what the network returns (N, C); pulls: the gradients of
    the objective with respect to them, of the same shapes; weights and biases: those with respect to each layer's.
    """

    objective: float
    columns: list[np.ndarray]
    pulls: list[np.ndarray]
    weights: list[np.ndarray]
    biases: list[np.ndarray | None]

    def together(self) -> Sight:
        """The same as if all points were one: the columns' means, and the sums of the gradients, (1, n)."""
        means = [column.mean(0, keepdims=True) for column in self.columns]
        return self._replace(columns=means, pulls=[pull.sum(0, keepdims=True) for pull in self.pulls])


def layers_of(net: Module, x: Tensor) -> tuple[list[Linear], list[Tensor]]:
    """Run the network: its Linear layers in the order of running, and the columns between them (see Sight)."""
    layers: list[Linear] = []
    columns: list[Tensor] = []

    def enter(layer: Any, args: tuple) -> None:
        layers.append(layer)
        columns.append(args[0])

    with ExitStack() as hooks:
        for module in net.modules():
            if isinstance(module, Linear):
                hooks.enter_context(module.register_forward_pre_hook(enter))
        out = net(x)
    return layers, [*columns, out.reshape(len(x), -1)]


def refuse(net: Module, layers: Sequence[Linear], columns: Sequence[Tensor], classes: int) -> None:
    """Raise ValueError for a network that cannot be drawn as columns of units with weights between them."""
    name = type(net).__name__
    if not layers:
        raise ValueError(
            f"playground received a {name} that ran no nn.Linear; its pictures show units and the weights between "
            "them. Pass a network of nn.Linear layers."
        )
    odd = next((column.shape for column in columns if len(column.shape) != 2), None)
    if odd is not None:
        raise ValueError(
            f"playground received a {name} in which a layer sees inputs of shape {odd}; it draws layers that see "
            "(N, units). Leave out further axes."
        )
    for before, after in pairwise(layers):
        if before.out_features != after.in_features:
            raise ValueError(
                f"playground received a {name} in which a layer of {before.out_features} units is followed by one "
                f"that takes {after.in_features}; it draws layers that feed the next one whole. Pass such a chain."
            )
    wanted = (1, 2) if classes == 2 else (classes,)
    if columns[-1].shape[1] not in wanted:
        raise ValueError(
            f"playground received a {name} that returns {columns[-1].shape[1]} numbers for a point, but the points "
            f"have {classes} classes. Let it return {' or '.join(map(str, wanted))}: logits."
        )


def see(net: Module, x: np.ndarray, objective: Callable[[Tensor, list[Linear]], Tensor]) -> Sight:
    """Return what a forward pass over x and a backward pass from objective(output (N, C), layers) compute."""
    layers, columns = layers_of(net, tensor(x, requires_grad=True))
    goal = objective(columns[-1], layers)
    wanted = [*columns, *(p for layer in layers for p in (layer.weight, layer.bias) if p is not None)]
    live = list({id(t): t for t in wanted if t.requires_grad}.values())  # a layer may be frozen, or run twice
    found = {id(t): g.cpu().numpy() for t, g in zip(live, grad(goal, live), strict=True)}

    def gradient(t: Any) -> Any:
        return None if t is None else found.get(id(t), np.zeros(t.shape, np.float32))

    return Sight(
        goal.item(),
        [column.detach().cpu().numpy() for column in columns],
        [gradient(column) for column in columns],
        [gradient(layer.weight) for layer in layers],
        [gradient(layer.bias) for layer in layers],
    )


def wrong(sight: Sight, y: np.ndarray) -> np.ndarray:
    """Return |∂L/∂logit of the right class| of each example's own loss: 1 − p of its class, (N,)."""
    gradient = np.abs(sight.pulls[-1]) * len(y)
    return np.clip(gradient[:, 0] if gradient.shape[1] == 1 else gradient[np.arange(len(y)), y], 0, 1)


def see_one(net: Module, points: Points, i: int) -> Sight:
    """Return the passes of one example, of its own loss."""
    return see(net, points.x[[i]], lambda out, layers: data_loss(out, points.y[[i]]))


def data_loss(out: Tensor, y: np.ndarray) -> Tensor:
    """Return the mean cross-entropy of the logits out (N, C) with the classes y (N,); one logit is that of class 1."""
    if out.shape[1] == 1:
        return binary_cross_entropy_with_logits(out[:, 0], tensor(y, dtype=out.dtype))
    return cross_entropy(out, tensor(y))


def winner(out: Tensor, layers: Any = None) -> Tensor:
    """Return, summed over the points, the one logit, or of several the largest."""
    return out.sum() if out.shape[1] == 1 else out.amax(1).sum()


def guesses(out: np.ndarray) -> np.ndarray:
    """Return the likeliest class of each point from logits (N, C)."""
    return (out[:, 0] > 0).astype(int) if out.shape[1] == 1 else out.argmax(1)


@dataclass
class Recording:
    """What was seen of a run at the moments `steps` (M of them): one entry each in every list.

    sights: over all points, of the loss with its penalty, put together (see Sight); losses: without it; wrong: 1 − p of
    each point; probes[m][p]: of one example and its loss alone; maps and pulls: (n, G, G) for each column over the
    grid, the drawn units' values and the gradients of the winning logit; decisions: logits (C, H, H) over a finer grid;
    weights, biases: of each layer.
    """

    label: str
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    sights: list[Sight] = field(default_factory=list)
    wrong: list[np.ndarray] = field(default_factory=list)
    probes: list[list[Sight]] = field(default_factory=list)
    weights: list[list[np.ndarray]] = field(default_factory=list)
    biases: list[list[np.ndarray | None]] = field(default_factory=list)
    maps: list[list[np.ndarray]] = field(default_factory=list)
    pulls: list[list[np.ndarray]] = field(default_factory=list)
    decisions: list[np.ndarray] = field(default_factory=list)


def moments(steps: int, most: int) -> list[int]:
    """Return at most `most` steps from 0 to `steps`, closer together at the beginning, where most is learnt.

    >>> from chainrule.nn.viz.rehearsal import moments
    >>> moments(100, 5)
    [0, 12, 35, 65, 100]
    """
    return sorted({int(round(steps * (i / (most - 1)) ** 1.5)) for i in range(most)})


def grid(points: Points, size: int) -> np.ndarray:
    """Return the centres (size², 2) of a grid over the drawn plane, row by row from the top."""
    (left, right), (bottom, top) = points.limits
    at = (np.arange(size) + 0.5) / size
    x1, x2 = np.meshgrid(left + (right - left) * at, top + (bottom - top) * at)
    return np.stack([x1.ravel(), x2.ravel()], 1).astype(points.x.dtype)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from this seed inside the block, and go on as before after it."""
    state = default_generator.get_state()
    default_generator.manual_seed(seed)
    try:
        yield
    finally:
        default_generator.set_state(state)


def prepare(variant: Variant, points: Points) -> tuple[Module, list[int]]:
    """Return a variant's network, checked and not yet trained, and the widths of its columns."""
    with seeded(variant.seed):
        net = variant.build(len(points.names))
        layers, columns = layers_of(net.eval(), tensor(points.x))
    refuse(net, layers, columns, len(points.names))
    return net, [column.shape[1] for column in columns]


def rehearse(
    recording: Recording,
    variant: Variant,
    net: Module,
    points: Points,
    wanted: Sequence[int],
    sizes: tuple[int, int],
    probes: Sequence[int] = (),
    bar: Any = None,
) -> Recording:
    """Train `net` up to the last of the wanted steps and record it at each; sizes: of the maps' and decisions' grids.

    Raises FloatingPointError where the loss is no longer finite.
    """
    with seeded(variant.seed):
        optimizer, order = variant.optimizer(net.parameters()), np.random.default_rng(variant.seed)
        for step in range(wanted[-1] + 1):
            if step in wanted:
                record(recording, net.eval(), variant, points, probes, sizes)
                refuse_infinite(recording, step)
            if step < wanted[-1]:
                improve(net.train(), variant, optimizer, points, order)
                if bar is not None:
                    bar.set_postfix(refresh=False, run=recording.label[:24], loss=f"{recording.losses[-1]:.3f}")
                    bar.update()
    return recording


def refuse_infinite(recording: Recording, step: int) -> None:
    """Raise FloatingPointError if the loss that was recorded last is not finite."""
    if not np.isfinite(recording.losses[-1]):
        raise FloatingPointError(
            f"the loss of {recording.label!r} became {recording.losses[-1]} by step {step}, so there is nothing left "
            "to draw; give its optimizer a smaller learning rate"
        )


def improve(net: Module, variant: Variant, optimizer: Optimizer, points: Points, order: np.random.Generator) -> None:
    """Take one step of the optimiser, on all points or on a batch drawn from `order`."""
    size = variant.batch_size or len(points.x)
    chosen = slice(None) if size >= len(points.x) else order.choice(len(points.x), size, replace=False)
    layers, columns = layers_of(net, tensor(points.x[chosen]))
    optimizer.zero_grad()
    (data_loss(columns[-1], points.y[chosen]) + variant.penalty(layers)).backward()
    optimizer.step()


def record(
    recording: Recording, net: Module, variant: Variant, points: Points, probes: Sequence[int], sizes: tuple[int, int]
) -> None:
    """Add this moment to a recording."""
    sight = see(net, points.x, lambda out, layers: data_loss(out, points.y) + variant.penalty(layers))
    plane = see(net, grid(points, sizes[0]), winner)
    with no_grad():
        layers, (*_, out) = layers_of(net, tensor(points.x))
        _, (*_, fine) = layers_of(net, tensor(grid(points, sizes[1])))
    recording.sights.append(sight.together())
    recording.wrong.append(wrong(sight, points.y))
    recording.losses.append(data_loss(out, points.y).item())
    recording.accuracies.append(float((guesses(out.cpu().numpy()) == points.y).mean()))
    recording.probes.append([see_one(net, points, i) for i in probes])
    copied = lambda t: t.detach().cpu().numpy().copy()
    recording.weights.append([copied(layer.weight) for layer in layers])
    recording.biases.append([None if layer.bias is None else copied(layer.bias) for layer in layers])
    for kept, seen in ((recording.maps, plane.columns), (recording.pulls, plane.pulls)):
        kept.append([_picture(column[:, :MOST_UNITS]) for column in seen])
    recording.decisions.append(_picture(fine.cpu().numpy()))


def _picture(values: np.ndarray) -> np.ndarray:
    """Values (G², n) over a grid as (n, G, G)."""
    size = round(len(values) ** 0.5)
    return values.T.reshape(-1, size, size)
