"""Being told of every operation and gradient inside a block: what anomaly checks and recordings are made of."""

from __future__ import annotations

from .state import StateContext, state


class Watch:
    """What is told; the methods of this class do nothing. Arrays must be neither changed nor kept without a copy.

    With `composed`, kernels that do several operations at once give way to these operations.

    >>> class Arrivals(cr.autograd.Watch):
    ...     def arrived(self, node, gradient):
    ...         print(node.name, gradient.tolist())
    >>> x = cr.ones(2, requires_grad=True)
    >>> with cr.autograd.watching(Arrivals()):
    ...     (x * 3).sum().backward()
    sum 1.0
    multiply [1.0, 1.0]
    """

    composed = False

    def begins(self, primitive, inputs: tuple, arrays: list, params: dict) -> None:
        """A primitive is about to be applied to `inputs`, as given, whose arrays in their common dtype are `arrays`."""

    def made(self, primitive, node, arrays: list, out) -> None:
        """The primitive gave `out`, an array or a tuple of them; `node` is None where nothing was recorded."""

    def left(self, tensor, how: str, out=None) -> None:
        """The values of `tensor` left the graph by detach, item, argmax …; `out` is the array they went to, if new."""

    def walks(self, outputs: list, seeds: list, create_graph: bool) -> None:
        """A backward pass begins at `outputs` with the cotangents `seeds`, both lists of tensors."""

    def arrived(self, node, gradient) -> None:
        """All of the gradient of the node's result has arrived: an array, or a tuple of them for several results."""

    def gave(self, node, i: int, gradient, fitted) -> None:
        """The node's rule gave `gradient` for its input i; `fitted` is what is left of it where axes were broadcast."""

    def walked(self, gradients: dict | None) -> None:
        """The backward pass has ended; `gradients` maps edges (leaves among them) to theirs, None after an error."""


class watching(StateContext):
    """Tell a `Watch` of everything that this thread computes inside the block; `alone`: and no other watch.

    >>> class Names(cr.autograd.Watch):
    ...     def made(self, primitive, node, arrays, out):
    ...         print(primitive.name, out.shape)
    >>> with cr.autograd.watching(Names()):
    ...     y = (cr.ones(2, 3) * 2).sum()
    multiply (2, 3)
    sum ()
    """

    def __init__(self, watch: Watch, alone: bool = False):
        self.watch, self.alone = watch, alone

    def __enter__(self):
        current = state.get()
        others = () if self.alone else tuple([one for one in current.watch if one is not self.watch])
        state.set(current.replace(watch=(*others, self.watch), entered=(self, current)))
        return self.watch

    def _again(self):
        return watching(self.watch, self.alone)
