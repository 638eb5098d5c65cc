"""Recursive networks and tree-LSTMs: one network applied at every node of a tree, from the leaves to the root."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from ...autograd import Tensor, broadcast_to, cat, empty, index_select, linear, lstm_graph, rnn_tree, tensor, zeros
from .. import init
from ..module import Module
from ..parameter import Parameter
from .checks import at_least, axis_size, ndim, same_dtype

__all__ = ["ChildSumTreeLSTM", "Forest", "NaryTreeLSTM", "RecursiveNet", "Tree"]


# ---- trees -----------------------------------------------------------------------------------------------------------


class Tree:
    """A rooted tree with ordered children: node n has the children `children[n]`; a node without children is a leaf.

    Nodes may stand in any order. `from_nested` and `from_parents` take other notations. A tree has `root`, `leaves` and
    `heights`: 0 of a leaf, else one more than the highest child's.

    Errors: ValueError for no nodes, children outside 0 … nodes − 1, a node that is its own child or the child of two,
    several roots, or a cycle.

    >>> tree = cr.nn.Tree([[], [], [], [0, 1], [3, 2]])
    >>> tree, tree.leaves, tree.heights
    (Tree(nodes=5, leaves=3, height=2), array([0, 1, 2]), array([0, 0, 0, 1, 2]))
    """

    def __init__(self, children: Sequence[Sequence[int]]):
        if not len(children):
            raise ValueError("Tree: received no nodes, but a tree has a root; pass [[]] for a tree of one leaf")
        for node, below in enumerate(children):
            if not hasattr(below, "__len__"):
                raise TypeError(
                    f"Tree: received {below!r} as the children of node {node}, but they are a list; pass nested "
                    "leaf numbers to Tree.from_nested"
                )
        counts = np.array([len(below) for below in children])
        self.child = _integers("children", [node for below in children for node in below])
        self.parent = np.repeat(np.arange(len(counts)), counts)
        self.place = np.arange(len(self.child)) - np.repeat(np.cumsum(counts) - counts, counts)
        self._check(len(counts))
        order = self._downwards(counts)
        heights, parents = [0] * len(counts), dict(zip(self.child.tolist(), self.parent.tolist()))
        for node in reversed(order[1:]):
            heights[parents[node]] = max(heights[parents[node]], heights[node] + 1)
        self.root, self.heights, self.leaves = order[0], np.array(heights), np.flatnonzero(counts == 0)

    @classmethod
    def from_nested(cls, nested: Any) -> Tree:
        """Return the tree of nested tuples or lists of leaf numbers, which count from 0, each once.

        Leaf n is node n; the inner nodes follow, children before their parents, so the root is the last node.

        >>> tree = cr.nn.Tree.from_nested(((2, 0), 1))
        >>> tree, tree.root
        (Tree(nodes=5, leaves=3, height=2), 4)
        """
        leaves, inner, found = [], [], []
        above: set[int] = set()  # what holds the part at hand
        pending = [(nested, False)]
        while pending:  # inner nodes are numbered −1, −2, … until the leaves are counted
            part, visited = pending.pop()
            if not isinstance(part, tuple | list):
                leaves.append(part)
                found.append(part)
            elif visited:
                above.remove(id(part))
                inner.append(found[len(found) - len(part) :])
                found[len(found) - len(part) :] = [-len(inner)]
            elif not part:
                raise ValueError(
                    f"Tree: received an empty {type(part).__name__}, but every leaf has a number; put the number of "
                    "the leaf's input there"
                )
            elif id(part) in above:
                raise ValueError("Tree: received a list that holds itself, but a tree has no cycles; remove it there")
            else:
                above.add(id(part))
                pending.append((part, True))
                pending.extend((below, False) for below in reversed(part))
        if sorted(_integers("leaves", leaves).tolist()) != list(range(len(leaves))):
            raise ValueError(
                f"Tree: received the leaf numbers {_some(leaves)}, but each of the {len(leaves)} leaves has its own "
                f"input; use each number from 0 to {len(leaves) - 1} once"
            )
        numbered = [[node if node >= 0 else len(leaves) - 1 - node for node in below] for below in inner]
        return cls([[] for _ in leaves] + numbered)

    @classmethod
    def from_parents(cls, parents: Sequence[int]) -> Tree:
        """Return the tree in which node n hangs below `parents[n]`, −1 for the root; children by their numbers.

        >>> cr.nn.Tree.from_parents([2, 2, -1])
        Tree(nodes=3, leaves=2, height=1)
        """
        children: list[list[int]] = [[] for _ in parents]
        for node, parent in enumerate(_integers("parents", parents).tolist()):
            if not -1 <= parent < len(children):
                raise ValueError(
                    f"Tree: received parent {parent} of node {node} in a tree of {len(children)} nodes; pass a node "
                    f"from 0 to {len(children) - 1}, or -1 for the root"
                )
            if parent >= 0:
                children[parent].append(node)
        return cls(children)

    def __len__(self) -> int:
        return len(self.heights)

    def __repr__(self) -> str:
        return f"Tree(nodes={len(self)}, leaves={len(self.leaves)}, height={self.heights[self.root]})"

    def _check(self, nodes: int) -> None:
        outside = (self.child < 0) | (self.child >= nodes)
        if outside.any():
            edge = outside.argmax()
            raise ValueError(
                f"Tree: received child {self.child[edge]} of node {self.parent[edge]} in a tree of {nodes} nodes; pass "
                f"children from 0 to {nodes - 1}"
            )
        if (self.child == self.parent).any():
            node = self.child[(self.child == self.parent).argmax()]
            raise ValueError(f"Tree: received node {node} as its own child, but a tree has no cycles; remove it there")
        counts = np.bincount(self.child, minlength=nodes)
        if (counts > 1).any():
            node = counts.argmax()
            raise ValueError(
                f"Tree: received node {node} as a child of nodes {_some(self.parent[self.child == node])}, but a node "
                "of a tree has one parent; give each its own copy"
            )

    def _downwards(self, counts: np.ndarray) -> list[int]:
        """Return all nodes from the root to the leaves."""
        child, ends = self.child.tolist(), np.cumsum(counts).tolist()
        roots = np.setdiff1d(np.arange(len(counts)), self.child)
        if len(roots) > 1:
            raise ValueError(
                f"Tree: received several roots, nodes {_some(roots)}, but a tree has one; hang them below one node, or "
                "make a Forest of several trees"
            )
        order = roots.tolist()
        for node in order:  # grows while it is read
            order.extend(child[ends[node] - counts[node] : ends[node]])
        if len(order) < len(counts):
            rest = np.setdiff1d(np.arange(len(counts)), order)
            raise ValueError(
                f"Tree: received nodes {_some(rest)}, which hang below no root but in a cycle; a tree has none: remove "
                "a child there"
            )
        return order


class Forest:
    """Several trees laid out by height, so that all nodes of one height are computed together.

    The nodes of the first tree come first, then those of the second, …: `sizes` says how many each tree has, `leaves`
    and `roots` are their numbers. Lay out once what is used again: layers do it at every call for a tree or a list.
    A step over trees is not captured (`cr.capture`), whether it takes a forest or knows one: it runs as it is.

    >>> forest = cr.nn.Forest([cr.nn.Tree.from_nested(((0, 1), 2)), cr.nn.Tree.from_nested((0, 1))])
    >>> forest, forest.leaves, forest.roots
    (Forest(trees=2, nodes=8, leaves=5, height=2), array([0, 1, 2, 5, 6]), array([4, 7]))
    """

    def __init__(self, trees: Tree | Iterable[Tree]):
        trees = [trees] if isinstance(trees, Tree) else list(trees)
        if not trees:
            raise ValueError("Forest: received no trees, so there is nothing to compute; pass at least one Tree")
        for tree in trees:
            if not isinstance(tree, Tree):
                raise TypeError(
                    f"Forest: received a {type(tree).__name__} among its trees; make it a tree with "
                    "Tree(children), Tree.from_nested or Tree.from_parents"
                )
        self.sizes = tuple(len(tree) for tree in trees)
        starts = [0, *accumulate(self.sizes)]
        joined = lambda name: np.concatenate([getattr(tree, name) + n for tree, n in zip(trees, starts)])
        heights = np.concatenate([tree.heights for tree in trees])
        self.leaves, self.roots = joined("leaves"), np.array([tree.root for tree in trees]) + starts[:-1]
        self.order = np.argsort(heights, kind="stable")  # the nodes by height: the order in which they are computed
        self.rank = np.empty_like(self.order)
        self.rank[self.order] = np.arange(len(self.order))
        child, parent, place = joined("child"), joined("parent"), np.concatenate([tree.place for tree in trees])
        by_parent = np.argsort(self.rank[parent], kind="stable")
        self.children, self.parents = self.rank[child[by_parent]], self.rank[parent[by_parent]]
        self.places, self.counts = place[by_parent], np.bincount(parent, minlength=len(heights))
        self.arities = set(self.counts.tolist()) - {0}  # how many children a node has that has some
        edges = np.bincount(heights[parent], minlength=heights.max() + 1)
        self.levels = tuple(zip(np.bincount(heights).tolist(), edges.tolist()))  # (nodes, edges to their children)
        self.widths = tuple(nodes for nodes, _ in self.levels)

    def __len__(self) -> int:
        return len(self.sizes)

    def __repr__(self) -> str:
        nodes, leaves = sum(self.sizes), len(self.leaves)
        return f"Forest(trees={len(self)}, nodes={nodes}, leaves={leaves}, height={len(self.levels) - 1})"


def _integers(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(f"Tree: received {name} that are not all integers, {_some(values)}; nodes are numbers from 0")
    return array.astype(np.int64)


def _some(values: Any) -> str:
    """The first few of the values."""
    return ", ".join(str(value) for value in values[:5]) + (", …" if len(values) > 5 else "")


# ---- networks --------------------------------------------------------------------------------------------------------


class _TreeNet(Module):
    """What networks over trees share: the checks of their input."""

    def _check(self, input: Tensor, weight: Tensor, forest: Forest, rows: dict[str, int], argument: str) -> None:
        ndim(self, input.shape, (2,), "one row for each input, (rows, features)")
        axis_size(self, input.shape, 1, getattr(self, argument), argument)
        same_dtype(self, "an input", input, weight)
        if len(input) not in rows.values():
            wanted = " or ".join(f"its {count} {name}" for name, count in rows.items())
            raise ValueError(
                f"{type(self).__name__}: received an input of shape {input.shape} for {forest}; pass one row for each "
                f"of {wanted}, tree after tree"
            )

    def _arity(self, forest: Forest, least: int, most: int) -> None:
        if any([not least <= count <= most for count in forest.arities]):
            node = np.flatnonzero((forest.counts > 0) & ((forest.counts < least) | (forest.counts > most)))[0]
            wanted = f"{most}" if least == most else f"at most {most}"
            raise ValueError(
                f"{type(self).__name__}: received a tree whose node {node} has {forest.counts[node]} children, but the "
                f"network takes {wanted}; change the tree's shape, or use a ChildSumTreeLSTM"
            )


def _roots(states: Tensor, forest: Forest) -> Tensor:
    """The roots' rows of states by height; one tree's is the last, and a slice takes half the time of an index.

    A slice looks at what backward needs: the engine refuses to go on where it was written to.
    """
    return states[-1:] if len(forest) == 1 else index_select(states, 0, forest.rank[forest.roots])


class RecursiveNet(_TreeNet):
    """One layer applied at every node of binary trees (Socher 2011): p = tanh(W [c₁; c₂] + b), up to the root.

    Leaf vectors x (L, H), tree after tree in the order of the leaves' numbers; W (H, 2H), b (H,), both U(−1/√2H, 1/√2H)
    at first. The trees are a Tree, several, or a Forest. Returns the states of all N nodes (N, H) in the order of their
    numbers (a leaf's is its vector), and those of the T roots (T, H), to be written in place only as a clone(). All
    nodes of equal height, of all trees, are one matrix product; the gradient of W is the sum over all nodes
    (backpropagation through structure).

    Errors: ValueError for a node that has not two children, or rows that are not one for each leaf; TypeError for an
    input of another dtype than the weights.

    >>> net, tree = cr.nn.RecursiveNet(8), cr.nn.Tree.from_nested((((0, 1), 2), (3, 4)))
    >>> states, roots = net(cr.randn(5, 8), tree)
    >>> states.shape, roots.shape
    ((9, 8), (1, 8))
    """

    def __init__(self, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None):
        super().__init__()
        at_least(self, 1, hidden_size=hidden_size)
        self.hidden_size = hidden_size
        self.weight = Parameter(empty(hidden_size, 2 * hidden_size, device=device, dtype=dtype))
        self.register_parameter("bias", Parameter(empty(hidden_size, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        init.default_(self.weight, self.bias)

    def forward(self, input: Tensor, trees: Forest | Tree | Iterable[Tree]) -> tuple[Tensor, Tensor]:
        """Return the states of all nodes, and of the roots."""
        forest = trees if isinstance(trees, Forest) else Forest(trees)
        self._arity(forest, 2, 2)
        self._check(input, self.weight, forest, {"leaves": len(forest.leaves)}, "hidden_size")
        children = tensor(forest.children.reshape(-1, 2), device=input.device)  # beside tensors, an array takes longer
        states = rnn_tree(input, self.weight, self.bias, children, sizes=forest.widths)
        return index_select(states, 0, forest.rank), _roots(states, forest)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.hidden_size}, bias={self.bias is not None}"


class _TreeLSTM(_TreeNet):
    """Gates in the order i, o, u, f: W x of all four, then U h, then one step per level."""

    child_sum: bool
    arity: int

    def __init__(
        self, input_size: int, hidden_size: int, arity: int, bias: bool, device: Any = None, dtype: Any = None
    ):
        super().__init__()
        at_least(self, 1, input_size=input_size, hidden_size=hidden_size, arity=arity)
        self.input_size, self.hidden_size, self.arity = input_size, hidden_size, arity
        made = lambda *shape: Parameter(empty(shape, device=device, dtype=dtype))
        self.weight_ih = made(4 * hidden_size, input_size)
        self.weight_hh = made((3 + arity) * hidden_size, arity * hidden_size)
        self.register_parameter("bias", made(4 * hidden_size) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew, from U(−1/√H, 1/√H)."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(
        self, input: Tensor, trees: Forest | Tree | Iterable[Tree]
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return (h, c) of all nodes, and of the roots."""
        forest = trees if isinstance(trees, Forest) else Forest(trees)
        slots = forest.parents
        if not self.child_sum:
            self._arity(forest, 1, self.arity)
            slots = forest.parents * self.arity + forest.places
        rows = {"leaves": len(forest.leaves), "nodes": sum(forest.sizes)}
        self._check(input, self.weight_ih, forest, rows, "input_size")
        states = lstm_graph(
            self._gates(input, forest),
            self.weight_hh,
            forest.children,
            slots,
            levels=forest.levels,
            child_sum=self.child_sum,
        )
        h, c = (index_select(state, 0, forest.rank) for state in states)
        roots, roots_c = (_roots(state, forest) for state in states)
        return (h, c), (roots, roots_c)

    def _gates(self, input: Tensor, forest: Forest) -> Tensor:
        """Return W x + b of all nodes by height; without inputs of their own, inner nodes have b."""
        if len(input) == sum(forest.sizes):
            return linear(index_select(input, 0, forest.order), self.weight_ih, self.bias)
        leaves = linear(input, self.weight_ih, self.bias)
        shape = (sum(forest.sizes) - len(input), 4 * self.hidden_size)
        inner = zeros(shape, dtype=leaves.dtype, device=leaves.device)
        return cat([leaves, inner if self.bias is None else broadcast_to(self.bias, shape)])

    def extra_repr(self) -> str:
        """Return the sizes."""
        arity = "" if self.child_sum else f", arity={self.arity}"
        return f"{self.input_size}, {self.hidden_size}{arity}, bias={self.bias is not None}"


class ChildSumTreeLSTM(_TreeLSTM):
    """An LSTM over trees of any branching, such as those of dependencies (Tai, Socher & Manning 2015, section 3.1).

    With the children k of node j and h̃ⱼ = Σₖ hₖ:

    i = σ(Wⁱ xⱼ + Uⁱ h̃ⱼ + bⁱ),  o = σ(Wᵒ xⱼ + Uᵒ h̃ⱼ + bᵒ),  u = tanh(Wᵘ xⱼ + Uᵘ h̃ⱼ + bᵘ),
    fⱼₖ = σ(Wᶠ xⱼ + Uᶠ hₖ + bᶠ),  cⱼ = i ⊙ u + Σₖ fⱼₖ ⊙ cₖ,  hⱼ = o ⊙ tanh(cⱼ)

    x (N, I), one row for each node, or for each leaf (inner nodes then have x = 0), tree after tree in the order of the
    nodes' numbers; weight_ih W (4H, I), weight_hh U (4H, H), bias b (4H,), rows i, o, u, f, U(−1/√H, 1/√H) at first.
    Returns (h, c) of all nodes, each (N, H), and of the roots, each (T, H). The children's order does not matter.

    Errors: ValueError for rows that are neither one for each node nor for each leaf, or another width; TypeError for an
    input of another dtype than the weights.

    >>> net, tree = cr.nn.ChildSumTreeLSTM(4, 8), cr.nn.Tree.from_parents([1, -1, 1, 1])
    >>> (h, c), (root, _) = net(cr.randn(4, 4), tree)
    >>> h.shape, root.shape
    ((4, 8), (1, 8))
    """

    child_sum = True

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None):
        super().__init__(input_size, hidden_size, 1, bias, device, dtype)


class NaryTreeLSTM(_TreeLSTM):
    """An LSTM over trees of at most N ordered children, such as those of constituents (Tai et al. 2015, section 3.2).

    With the children's states h_1 … h_N of node j, 0 where there is none:

    i = σ(Wⁱ xⱼ + Σₗ Uⁱₗ hₗ + bⁱ),  o = σ(Wᵒ xⱼ + Σₗ Uᵒₗ hₗ + bᵒ),  u = tanh(Wᵘ xⱼ + Σₗ Uᵘₗ hₗ + bᵘ),
    fₖ = σ(Wᶠ xⱼ + Σₗ Uᶠₖₗ hₗ + bᶠ),  cⱼ = i ⊙ u + Σₖ fₖ ⊙ cₖ,  hⱼ = o ⊙ tanh(cⱼ)

    x (N, I), one row for each node, or for each leaf (inner nodes then have x = 0), tree after tree in the order of the
    nodes' numbers; weight_ih W (4H, I) and bias b (4H,), rows i, o, u, f; weight_hh U ((3 + arity)H, arity·H), rows i,
    o, u, f₁, f₂, …, columns h₁, h₂, …; all U(−1/√H, 1/√H) at first. Returns (h, c) of all nodes, each (N, H), and of
    the roots, each (T, H).

    Errors: ValueError for a node with more than `arity` children, rows that are neither one for each node nor for each
    leaf, or another width; TypeError for an input of another dtype than the weights.

    >>> net, tree = cr.nn.NaryTreeLSTM(4, 8), cr.nn.Tree.from_nested(((0, 1), 2))
    >>> (h, c), (root, _) = net(cr.randn(3, 4), tree)
    >>> h.shape, root.shape
    ((5, 8), (1, 8))
    """

    child_sum = False

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        arity: int = 2,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__(input_size, hidden_size, arity, bias, device, dtype)
