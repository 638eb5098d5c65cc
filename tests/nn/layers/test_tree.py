"""Recursive networks and tree-LSTMs against plain recursion over one tree."""

import tracemalloc

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim

f64 = cr.float64
H, I = 3, 2
NESTED = [0, (0, 1), ((2, 0), 1), (((0, 1), 2), (3, 4)), (3, (2, (1, 0)))]
WIDE = [[[]], [[], [], [], [0, 2, 1]], [[1, 4, 3], [2], [], [], []], [[], [], [0], [], [1, 2, 3], [4]]]


def binary():
    return [nn.Tree.from_nested(nested) for nested in NESTED]


def wide():
    return [nn.Tree(children) for children in WIDE]


def children_of(tree):
    return [tree.child[tree.parent == node].tolist() for node in range(len(tree))]


def drawn(net, rng):
    for parameter in net.parameters():
        nn.init.normal_(parameter, generator=cr.Generator(int(rng.integers(1 << 30))))
    return net


def arrays(net):
    return {name: parameter.detach().numpy() for name, parameter in net.named_parameters()}


def rows_of(trees, inputs, width, rng):
    """Rows for the leaves or all nodes of each tree."""
    return [rng.normal(size=(len(tree.leaves) if inputs == "leaves" else len(tree), width)) for tree in trees]


def tensor(rows):
    return cr.tensor(np.concatenate(rows))


def close(got, expected, tolerance=1e-12):
    got = got.detach().numpy() if isinstance(got, cr.Tensor) else got
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


# ---- plain recursion -------------------------------------------------------------------------------------------------


def recursive(tree, x, weight, bias=None):
    below, states = children_of(tree), {}

    def state(node):
        if not below[node]:
            return x[tree.leaves.tolist().index(node)]
        left, right = (visit(child) for child in below[node])
        z = weight @ np.concatenate([left, right])
        return np.tanh(z if bias is None else z + bias)

    def visit(node):
        states[node] = state(node)
        return states[node]

    visit(tree.root)
    return np.array([states[node] for node in range(len(tree))])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def inputs_of(tree, x, node):
    """The row of a node: its own, or its leaf's, or zeros."""
    if len(x) == len(tree):
        return x[node]
    leaves = tree.leaves.tolist()
    return x[leaves.index(node)] if node in leaves else np.zeros(x.shape[1])


def child_sum(tree, x, weight_ih, weight_hh, bias=None):
    """Tai, Socher & Manning 2015, equations 2 to 8."""
    wi, wo, wu, wf = np.split(weight_ih, 4)
    ui, uo, uu, uf = np.split(weight_hh, 4)
    bi, bo, bu, bf = np.zeros((4, H)) if bias is None else np.split(bias, 4)
    below, states = children_of(tree), {}

    def visit(j):
        xj, known = inputs_of(tree, x, j), [visit(k) for k in below[j]]
        total = sum((h for h, _ in known), np.zeros(H))
        i = sigmoid(wi @ xj + ui @ total + bi)
        f = [sigmoid(wf @ xj + uf @ h + bf) for h, _ in known]
        o = sigmoid(wo @ xj + uo @ total + bo)
        u = np.tanh(wu @ xj + uu @ total + bu)
        c = i * u + sum((fk * ck for fk, (_, ck) in zip(f, known, strict=True)), np.zeros(H))
        states[j] = o * np.tanh(c), c
        return states[j]

    visit(tree.root)
    return tuple(np.array([states[node][n] for node in range(len(tree))]) for n in range(2))


def n_ary(tree, x, weight_ih, weight_hh, bias=None):
    """Tai, Socher & Manning 2015, equations 9 to 14."""
    arity = weight_hh.shape[1] // H
    wi, wo, wu, wf = np.split(weight_ih, 4)
    blocks = [np.split(rows, arity, 1) for rows in np.split(weight_hh, 3 + arity)]  # [gate][child]
    bi, bo, bu, bf = np.zeros((4, H)) if bias is None else np.split(bias, 4)
    below, states = children_of(tree), {}

    def visit(j):
        xj, known = inputs_of(tree, x, j), [visit(k) for k in below[j]]
        told = lambda gate: sum((blocks[gate][n] @ h for n, (h, _) in enumerate(known)), np.zeros(H))
        i, o = sigmoid(wi @ xj + told(0) + bi), sigmoid(wo @ xj + told(1) + bo)
        c = i * np.tanh(wu @ xj + told(2) + bu)
        for k, (_, ck) in enumerate(known):
            c = c + sigmoid(wf @ xj + told(3 + k) + bf) * ck
        states[j] = o * np.tanh(c), c
        return states[j]

    visit(tree.root)
    return tuple(np.array([states[node][n] for node in range(len(tree))]) for n in range(2))


LSTMS = {
    "child-sum": (lambda **options: nn.ChildSumTreeLSTM(I, H, dtype=f64, **options), child_sum, wide),
    "binary": (lambda **options: nn.NaryTreeLSTM(I, H, dtype=f64, **options), n_ary, binary),
    "ternary": (lambda **options: nn.NaryTreeLSTM(I, H, 3, dtype=f64, **options), n_ary, wide),
}
lstms = pytest.mark.parametrize("make, oracle, trees", LSTMS.values(), ids=LSTMS)


# ---- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_a_recursive_network_is_the_recursion_at_every_tree(bias, rng):
    net, trees = drawn(nn.RecursiveNet(H, bias, dtype=f64), rng), binary()
    rows = rows_of(trees, "leaves", H, rng)
    expected = [recursive(tree, x, **arrays(net)) for tree, x in zip(trees, rows, strict=True)]
    states, roots = net(tensor(rows), trees)
    close(states, np.concatenate(expected))
    close(roots, [states[tree.root] for tree, states in zip(trees, expected, strict=True)])


@lstms
@pytest.mark.parametrize("inputs", ["leaves", "nodes"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_tree_lstm_is_the_papers_recursion_at_every_tree(make, oracle, trees, inputs, bias, rng):
    net, trees = drawn(make(bias=bias), rng), trees()
    rows = rows_of(trees, inputs, I, rng)
    expected = [oracle(tree, x, **arrays(net)) for tree, x in zip(trees, rows, strict=True)]
    nodes, roots = net(tensor(rows), trees)
    for n in range(2):
        close(nodes[n], np.concatenate([states[n] for states in expected]))
        close(roots[n], [states[n][tree.root] for tree, states in zip(trees, expected, strict=True)])


@pytest.mark.parametrize("name", ["recursive", *LSTMS])
def test_many_trees_at_once_equal_each_alone_with_gradients(name, rng):
    make, _, trees = LSTMS.get(name, (lambda: nn.RecursiveNet(H, dtype=f64), recursive, binary))
    net, trees = drawn(make(), rng), trees()
    rows = rows_of(trees, "leaves", net.weight.shape[0] if name == "recursive" else I, rng)
    flat = lambda out: [out] if isinstance(out, cr.Tensor) else [y for part in out for y in flat(part)]

    def gradients(calls):
        net.zero_grad()
        made = [flat(net(*call)) for call in calls]
        sum((y * y).sum() + y.sin().sum() for out in made for y in out).backward()
        return made, [parameter.grad.numpy() for parameter in net.parameters()]

    whole, shared = gradients([(tensor(rows), nn.Forest(trees))])
    each, summed = gradients([(cr.tensor(x), tree) for x, tree in zip(rows, trees, strict=True)])
    for n, y in enumerate(whole[0]):
        close(y, np.concatenate([out[n].detach().numpy() for out in each]))
    for one, other in zip(shared, summed, strict=True):
        close(one, other, 1e-11)


def test_the_gradient_of_w_is_the_sum_over_the_nodes(rng):
    """Backpropagation through structure: W and b written as one copy for each node, whose gradients are added."""
    net, tree = drawn(nn.RecursiveNet(H, dtype=f64), rng), nn.Tree.from_nested(NESTED[3])
    x, seed = cr.tensor(rng.normal(size=(5, H)), requires_grad=True), cr.tensor(rng.normal(size=(9, H)))
    below, states, copies = children_of(tree), {}, []
    for node in np.argsort(tree.heights, kind="stable").tolist():
        if below[node]:
            copies.append([p.detach().clone().requires_grad_() for p in (net.weight, net.bias)])
            states[node] = (copies[-1][0] @ cr.cat([states[child] for child in below[node]]) + copies[-1][1]).tanh()
        else:
            states[node] = x[node]
    (cr.stack([states[node] for node in range(9)]) * seed).sum().backward()
    expected = x.grad.numpy()
    x.grad = None
    (net(x, tree)[0] * seed).sum().backward()
    assert len(copies) == 4
    close(net.weight.grad, sum(weight.grad.numpy() for weight, _ in copies))
    close(net.bias.grad, sum(bias.grad.numpy() for _, bias in copies))
    close(x.grad, expected)


def test_child_sum_does_not_see_the_order_of_children_and_n_ary_does(rng):
    straight, swapped = nn.Tree([[], [], [0, 1]]), nn.Tree([[], [], [1, 0]])
    x = cr.tensor(rng.normal(size=(3, I)))
    for net, same in ((nn.ChildSumTreeLSTM(I, H, dtype=f64), True), (nn.NaryTreeLSTM(I, H, dtype=f64), False)):
        drawn(net, rng)
        one, other = (net(x, tree)[1][0].detach().numpy() for tree in (straight, swapped))
        assert np.allclose(one, other) == same


# ---- derivatives -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, inputs", [("recursive", "leaves"), *[(name, inputs) for name in LSTMS for inputs in ("leaves", "nodes")]]
)
def test_first_and_second_derivatives_agree_with_differences(name, inputs, rng):
    make, _, trees = LSTMS.get(name, (lambda: nn.RecursiveNet(H, dtype=f64), recursive, binary))
    net, trees = make(), trees()
    names, parameters = zip(*net.named_parameters(), strict=True)

    def outputs(x, *values):
        net.__dict__.update(zip(names, values, strict=True))  # in place of the parameters, so that they are varied
        nodes, roots = net(x, trees)
        return (nodes, roots) if name == "recursive" else (*nodes, *roots)

    x = tensor(rows_of(trees, inputs, H if name == "recursive" else I, rng))
    cr.check_grads(outputs, [x, *(p.detach() for p in parameters)])


def test_derivatives_of_the_engine_are_partial_ones(rng):
    """The weight is computed from the leaves: neither derivative counts the way through the other twice."""

    def states(leaves, weight):
        return cr.autograd.rnn_tree(leaves, weight * leaves.sum(), None, np.array([[0, 1]]), sizes=(2, 1))

    cr.check_grads(states, [cr.tensor(rng.normal(size=(2, 2))), cr.tensor(rng.normal(size=(2, 4)))], order=3)


def test_a_weight_that_no_cell_uses_has_the_gradient_zero():
    weight = cr.ones(8, 2, requires_grad=True)
    none = np.zeros(0, int)
    for create_graph in (False, True):
        h, _ = cr.autograd.lstm_graph(cr.ones(2, 8), weight, none, none, levels=((2, 0),), child_sum=True)
        (got,) = cr.autograd.grad(h.sum(), [weight], create_graph=create_graph, materialize_grads=True)
        assert got.shape == (8, 2) and not got.numpy().any()


# ---- trees -----------------------------------------------------------------------------------------------------------


def test_the_notations_of_a_tree_agree():
    nested = nn.Tree.from_nested((((0, 1), 2), (3, 4)))
    parents = nn.Tree.from_parents([5, 5, 6, 7, 7, 6, 8, 8, -1])
    lists = nn.Tree([[], [], [], [], [], [0, 1], [5, 2], [3, 4], [6, 7]])
    for tree in (nested, parents, lists):
        assert len(tree) == 9 and tree.root == 8
        assert tree.leaves.tolist() == [0, 1, 2, 3, 4]
        assert tree.heights.tolist() == [0, 0, 0, 0, 0, 1, 2, 1, 3]
    assert children_of(nested) == children_of(lists)
    assert children_of(parents)[6] == [2, 5]  # by their numbers


def test_children_may_be_tensors_or_arrays():
    assert repr(nn.Tree([cr.tensor([1, 2]), np.array([], int), []])) == "Tree(nodes=3, leaves=2, height=1)"


def test_a_part_may_be_named_twice_beside_itself():
    with pytest.raises(ValueError, match="leaf numbers 0, 0"):
        nn.Tree.from_nested([[0]] * 2)


def test_nodes_may_stand_in_any_order():
    tree = nn.Tree([[3, 1], [], [], [4, 2], []])
    assert (tree.root, tree.leaves.tolist(), tree.heights.tolist()) == (0, [1, 2, 4], [2, 0, 0, 1, 0])
    assert repr(tree) == "Tree(nodes=5, leaves=3, height=2)"


def test_a_forest_numbers_tree_after_tree():
    forest = nn.Forest(binary())
    assert forest.sizes == (1, 3, 5, 9, 7) and len(forest) == 5
    assert forest.roots.tolist() == [0, 3, 8, 17, 24]
    assert forest.leaves.tolist() == [0, 1, 2, 4, 5, 6, 9, 10, 11, 12, 13, 18, 19, 20, 21]
    assert forest.levels == ((15, 0), (5, 10), (3, 6), (2, 4))
    assert repr(forest) == "Forest(trees=5, nodes=25, leaves=15, height=3)"


def test_a_write_to_the_root_of_one_tree_is_never_silent():
    """It is a view of what backward needs; what a call returns of all nodes is not."""
    net, x = nn.RecursiveNet(H), cr.randn(2, H)
    states, roots = net(x, nn.Tree.from_nested((0, 1)))
    before = states.tolist()
    with pytest.raises(RuntimeError, match="mul_ on a view .* use t.clone"):
        roots.mul_(2)
    with cr.no_grad():
        roots.mul_(2)
    assert states.tolist() == before
    with pytest.raises(RuntimeError, match="rnn_tree: a value that its derivative needs was changed in place"):
        states.sum().backward()
    _, roots = net(x, nn.Tree.from_nested((0, 1)))
    roots.clone().mul_(2).sum().backward()
    assert net.weight.grad is not None


def test_a_tree_of_100_000_nodes_in_one_chain():
    nodes = 100_001
    nested = 0
    for leaf in range(1, nodes // 2 + 1):
        nested = (nested, leaf)
    tree = nn.Tree.from_nested(nested)
    assert len(tree) == nodes and tree.heights[tree.root] == nodes // 2
    assert nn.Tree.from_parents([*range(1, nodes), -1]).heights[-1] == nodes - 1
    assert nn.Tree([[], *([node] for node in range(nodes - 1))]).heights[-1] == nodes - 1
    net, x = nn.RecursiveNet(1), cr.ones(nodes // 2 + 1, 1, requires_grad=True)
    net(x, tree)[1].sum().backward()
    assert np.isfinite(x.grad.numpy()).all() and net.weight.grad.numpy().any()


@pytest.mark.parametrize("net", [nn.ChildSumTreeLSTM(1, 1), nn.NaryTreeLSTM(1, 1, 1)], ids=["child-sum", "n-ary"])
def test_a_tree_lstm_over_a_long_chain(net):
    nodes = 5_000
    x = cr.ones(nodes, 1, requires_grad=True)
    net(x, nn.Tree.from_parents([*range(1, nodes), -1]))[1][0].sum().backward()
    assert np.isfinite(x.grad.numpy()).all() and x.grad.numpy()[-1] != 0


def test_the_memory_of_a_chain_grows_with_its_length_alone():
    """No level copies the states of the others."""
    peaks = []
    for leaves in (300, 600):
        tree = nn.Tree([[]] * leaves + [[0, 1]] + [[leaves + n, n + 2] for n in range(leaves - 2)])
        net, x = nn.RecursiveNet(64), cr.ones(leaves, 64, requires_grad=True)
        tracemalloc.start()
        net(x, tree)[1].sum().backward()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2.2 * peaks[0]


# ---- modules ---------------------------------------------------------------------------------------------------------


def test_names_and_shapes_of_parameters():
    shapes = lambda net: {name: p.shape for name, p in net.named_parameters()}
    assert shapes(nn.RecursiveNet(3)) == {"weight": (3, 6), "bias": (3,)}
    assert shapes(nn.RecursiveNet(3, bias=False)) == {"weight": (3, 6)}
    assert shapes(nn.ChildSumTreeLSTM(2, 3)) == {"weight_ih": (12, 2), "weight_hh": (12, 3), "bias": (12,)}
    assert shapes(nn.NaryTreeLSTM(2, 3, 4)) == {"weight_ih": (12, 2), "weight_hh": (21, 12), "bias": (12,)}
    assert shapes(nn.NaryTreeLSTM(2, 3, bias=False)) == {"weight_ih": (12, 2), "weight_hh": (15, 6)}


def test_what_networks_say_of_themselves():
    assert repr(nn.RecursiveNet(3)) == "RecursiveNet(3, bias=True)"
    assert repr(nn.ChildSumTreeLSTM(2, 3)) == "ChildSumTreeLSTM(2, 3, bias=True)"
    assert repr(nn.NaryTreeLSTM(2, 3, 4, bias=False)) == "NaryTreeLSTM(2, 3, arity=4, bias=False)"


def test_first_values_lie_within_their_bounds():
    for net, bound in (
        (nn.RecursiveNet(32), 1 / 8),
        (nn.ChildSumTreeLSTM(5, 16), 1 / 4),
        (nn.NaryTreeLSTM(5, 16), 1 / 4),
    ):
        for parameter in net.parameters():
            values = abs(parameter.detach().numpy())
            assert 0.5 * bound < values.max() <= bound


def test_trees_may_come_one_several_or_laid_out(rng):
    net, tree = nn.ChildSumTreeLSTM(I, H, dtype=f64), binary()[2]
    x = cr.tensor(rng.normal(size=(3, I)))
    results = [net(x, given)[1][0].detach().numpy() for given in (tree, [tree], (t for t in [tree]), nn.Forest([tree]))]
    for other in results[1:]:
        assert np.array_equal(results[0], other)


# ---- learning --------------------------------------------------------------------------------------------------------


def random_nested(rng, leaves):
    """A random binary tree over the leaf numbers 0, 1, …"""
    parts = list(range(leaves))
    while len(parts) > 1:
        at = rng.integers(len(parts) - 1)
        parts[at : at + 2] = [(parts[at], parts[at + 1])]
    return parts[0]


def fit(parameters, loss, steps, rate):
    optimizer = optim.Adam(parameters, lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def test_a_recursive_network_learns_to_find_the_leftmost_leaf(rng):
    def trees(n):
        trees = [nn.Tree.from_nested(random_nested(rng, rng.integers(2, 9))) for _ in range(n)]
        bits = [rng.integers(0, 2, len(tree.leaves)) for tree in trees]
        return nn.Forest(trees), cr.tensor(np.concatenate(bits)), cr.tensor(np.array([own[0] for own in bits]))

    table, net, head = nn.Embedding(2, 8), nn.RecursiveNet(8), nn.Linear(8, 2)
    answer = lambda forest, bits: head(net(table(bits), forest)[1])
    forest, bits, first = trees(100)
    parameters = [p for part in (table, net, head) for p in part.parameters()]
    fit(parameters, lambda: cr.cross_entropy(answer(forest, bits), first), 150, 0.03)
    forest, bits, first = trees(200)
    assert (answer(forest, bits).argmax(1) == first).float().mean().item() > 0.9


OPERATIONS = {"and": all, "or": any, "not": lambda values: not values[0]}
WORDS = {word: n for n, word in enumerate(["false", "true", *OPERATIONS])}


def expression(rng, depth):
    """A random expression as (word, parts), and what it is."""
    if depth == 0 or rng.random() < 0.2:
        value = bool(rng.integers(2))
        return ("true" if value else "false", []), value
    word = str(rng.choice(list(OPERATIONS)))
    made = [expression(rng, depth - 1) for _ in range(1 if word == "not" else 2)]
    return (word, [part for part, _ in made]), bool(OPERATIONS[word]([value for _, value in made]))


def laid(part):
    """The words and children lists of an expression, its parts before itself."""
    words, children = [], []

    def visit(part):
        word, parts = part
        below = [visit(one) for one in parts]
        words.append(WORDS[word])
        children.append(below)
        return len(words) - 1

    visit(part)
    return words, nn.Tree(children)


@pytest.mark.parametrize("make", [nn.ChildSumTreeLSTM, nn.NaryTreeLSTM])
def test_a_tree_lstm_learns_to_evaluate_boolean_expressions(make, rng):
    def expressions(n, depth):
        made = [expression(rng, depth) for _ in range(n)]
        words, trees = zip(*[laid(part) for part, _ in made], strict=True)
        return (
            nn.Forest(trees),
            cr.tensor(np.concatenate(words)),
            cr.tensor(np.array([int(value) for _, value in made])),
        )

    table, net, head = nn.Embedding(len(WORDS), 8), make(8, 16), nn.Linear(16, 2)
    answer = lambda forest, words: head(net(table(words), forest)[1][0])
    forest, words, values = expressions(300, 3)
    parameters = [p for part in (table, net, head) for p in part.parameters()]
    fit(parameters, lambda: cr.cross_entropy(answer(forest, words), values), 120, 0.03)
    forest, words, values = expressions(200, 4)  # deeper than those seen
    assert (answer(forest, words).argmax(1) == values).float().mean().item() > 0.9


# ---- what is refused -------------------------------------------------------------------------------------------------


def within_itself():
    nested = [0]
    nested.append([1, nested])
    return nested


TREES = [
    (lambda: nn.Tree([]), ValueError, r"Tree: received no nodes, but a tree has a root; pass \[\[\]\]"),
    (lambda: nn.Tree.from_parents([]), ValueError, r"Tree: received no nodes"),
    (lambda: nn.Tree.from_nested(()), ValueError, r"Tree: received an empty tuple.*put the number of the leaf's input"),
    (lambda: nn.Tree.from_nested((0, [])), ValueError, r"Tree: received an empty list"),
    (
        lambda: nn.Tree([[], [], [0, 3]]),
        ValueError,
        r"child 3 of node 2 in a tree of 3 nodes; pass children from 0 to 2",
    ),
    (lambda: nn.Tree([[-1], []]), ValueError, r"child -1 of node 0 in a tree of 2 nodes"),
    (lambda: nn.Tree([[1], [1]]), ValueError, r"received node 1 as its own child, but a tree has no cycles; remove it"),
    (lambda: nn.Tree.from_parents([0]), ValueError, r"received node 0 as its own child"),
    (
        lambda: nn.Tree([[], [0], [0], [1, 2]]),
        ValueError,
        r"node 0 as a child of nodes 1, 2, but.*one parent; give each",
    ),
    (lambda: nn.Tree([[], [0, 0]]), ValueError, r"node 0 as a child of nodes 1, 1"),
    (lambda: nn.Tree([[], [], [0]]), ValueError, r"several roots, nodes 1, 2, but a tree has one; hang.*Forest"),
    (lambda: nn.Tree.from_parents([-1, -1, 0]), ValueError, r"several roots, nodes 0, 1"),
    (lambda: nn.Tree([[1], [0]]), ValueError, r"nodes 0, 1, which hang below no root but in a cycle; a tree has none"),
    (
        lambda: nn.Tree.from_parents([-1, 2, 3, 1]),
        ValueError,
        r"nodes 1, 2, 3, which hang below no root but in a cycle",
    ),
    (lambda: nn.Tree.from_parents([-1, 2]), ValueError, r"parent 2 of node 1 in a tree of 2 nodes.*or -1 for the root"),
    (lambda: nn.Tree.from_parents([-2]), ValueError, r"parent -2 of node 0"),
    (lambda: nn.Tree.from_nested(within_itself()), ValueError, "a list that holds itself, but a tree has no cycles"),
    (lambda: nn.Tree([[[]]]), TypeError, "received children that are not all integers"),
    (lambda: nn.Tree.from_nested((0, 2)), ValueError, r"leaf numbers 0, 2, but each of the 2 leaves.*from 0 to 1 once"),
    (lambda: nn.Tree.from_nested((0, (1, 1))), ValueError, r"leaf numbers 0, 1, 1"),
    (
        lambda: nn.Tree.from_nested((0, "one")),
        TypeError,
        r"received leaves that are not all integers, 0, one; nodes are",
    ),
    (lambda: nn.Tree.from_parents([-1, 0.0]), TypeError, r"received parents that are not all integers, -1, 0.0"),
    (lambda: nn.Tree([[], [True]]), TypeError, r"received children that are not all integers, True"),
    (
        lambda: nn.Tree(((0, 1), 2)),
        TypeError,
        r"received 2 as the children of node 1.*leaf numbers to Tree.from_nested",
    ),
    (
        lambda: nn.Forest([]),
        ValueError,
        r"Forest: received no trees, so there is nothing to compute; pass at least one",
    ),
    (lambda: nn.Forest([((0, 1), 2)]), TypeError, r"Forest: received a tuple among its trees.*Tree.from_nested"),
    (lambda: nn.RecursiveNet(0), ValueError, r"RecursiveNet: received hidden_size=0"),
    (lambda: nn.ChildSumTreeLSTM(0, 1), ValueError, r"ChildSumTreeLSTM: received input_size=0"),
    (lambda: nn.NaryTreeLSTM(1, 1, 0), ValueError, r"NaryTreeLSTM: received arity=0"),
]


@pytest.mark.parametrize("make, error, message", TREES)
def test_trees_that_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


RECURSIVE, SUM, BINARY = nn.RecursiveNet(4), nn.ChildSumTreeLSTM(4, 2), nn.NaryTreeLSTM(4, 2)
ONE, PAIR, TRIPLE = nn.Tree([[], [0]]), nn.Tree([[], [], [0, 1]]), nn.Tree([[], [], [], [0, 1, 2]])
CALLS = [
    (RECURSIVE, cr.zeros(3, 4), PAIR, ValueError, r"shape \(3, 4\) for Forest\(.*each of its 2 leaves, tree after"),
    (RECURSIVE, cr.zeros(2, 3), PAIR, ValueError, r"RecursiveNet: received.*shape \(2, 3\).*hidden_size=4"),
    (RECURSIVE, cr.zeros(2), PAIR, ValueError, r"shape \(2,\) with 1 axes.*one row for each input"),
    (RECURSIVE, cr.zeros(2, 4, dtype=f64), PAIR, TypeError, r"float64 for weights of float32.*cr.float32.*cr.float64"),
    (RECURSIVE, cr.zeros(3, 4), TRIPLE, ValueError, r"RecursiveNet: received a tree whose node 3 has 3.*takes 2;"),
    (RECURSIVE, cr.zeros(1, 4), ONE, ValueError, r"node 1 has 1 children, but the network takes 2"),
    (RECURSIVE, cr.zeros(1, 4), [], ValueError, r"Forest: received no trees"),
    (BINARY, cr.zeros(5, 4), [PAIR, TRIPLE], ValueError, r"node 6 has 3 children.*takes at most 2;.*ChildSum"),
    (BINARY, cr.zeros(1, 4), PAIR, ValueError, r"each of its 2 leaves or its 3 nodes, tree after tree"),
    (SUM, cr.zeros(5, 4), PAIR, ValueError, r"each of its 2 leaves or its 3 nodes"),
    (SUM, cr.zeros(3, 5), PAIR, ValueError, r"ChildSumTreeLSTM: received an input.*input_size=4"),
    (SUM, cr.zeros(3, 4, dtype=cr.int64), PAIR, TypeError, r"int64 for weights of float32.*with .to\(cr.float32\)\n"),
]


@pytest.mark.parametrize("net, x, trees, error, message", CALLS)
def test_calls_that_are_refused(net, x, trees, error, message):
    with pytest.raises(error, match=message):
        net(x, trees)


ENGINE = [
    (dict(children=[[0, 3]]), r"rnn_tree: a predecessor's row lies at or above the level that it feeds, or below 0"),
    (dict(children=[[-1, 0]]), r"rnn_tree: a predecessor's row lies at or above"),
    (dict(children=[[0, 0]]), r"rnn_tree: a node is the child of two parents; in a tree each node has one at most"),
    (dict(children=[[0, 1]], sizes=(2, 2)), r"rnn_tree: received leaves.*for sizes=\(2, 2\); they must be \(L, H\)"),
]


@pytest.mark.parametrize("given, message", ENGINE)
def test_what_the_engine_refuses_of_recursive_networks(given, message):
    given = {"sizes": (2, 1), **given}
    with pytest.raises(ValueError, match=message):
        cr.autograd.rnn_tree(cr.ones(2, 3), cr.ones(3, 6), None, np.array(given["children"]), sizes=given["sizes"])


@pytest.mark.parametrize(
    "given, message",
    [
        (dict(sources=[0, 2]), r"lstm_graph: a predecessor's row lies at or above the level that it feeds"),
        (dict(slots=[2, 1]), r"lstm_graph: a slot lies in a cell of another level than its edge; order the edges by"),
        (dict(levels=((2, 2), (1, 0))), r"2 of them into level 0; they must be.*with no edges into level 0"),
        (
            dict(levels=((2, 0), (2, 2))),
            r"lstm_graph: received gates, weight, sources and slots of shapes.*for 4 cells",
        ),
    ],
)
def test_what_the_engine_refuses_of_lstms(given, message):
    given = {"sources": [0, 1], "slots": [2, 2], "levels": ((2, 0), (1, 2)), **given}
    sources, slots = np.array(given["sources"]), np.array(given["slots"])
    with pytest.raises(ValueError, match=message):
        cr.autograd.lstm_graph(cr.ones(3, 8), cr.ones(8, 2), sources, slots, levels=given["levels"], child_sum=True)
