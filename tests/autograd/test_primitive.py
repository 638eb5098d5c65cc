"""Primitives that users declare: everything that ours can do, and clear refusals."""

import subprocess
import sys

import numpy as np
import pytest

import chainrule as cr
from chainrule.autograd import REGISTRY, Primitive, primitive

f64 = cr.float64


@pytest.fixture(autouse=True)
def registry_as_it_was():
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


def cube():
    @primitive(elementwise=True, formula="x^3", flops=2)
    def cube(k, x):
        """The cube."""
        return k.multiply(k.multiply(x, x), x)

    @cube.vjp("x", formula=r"3 x^2 \bar o")
    def cube_dx(g, x):
        return g * (3 * x * x)

    return cube


def product():
    @primitive(elementwise=True)
    def product(k, x, y):
        return x * y

    @product.vjp("x")
    def product_dx(g, y):
        return g * y

    @product.vjp("y")
    def product_dy(g, x):
        return g * x

    return product


def test_one_input():
    f = cube()
    cr.check_grads(f, [cr.randn(3, 2, dtype=f64)], order=4)
    assert REGISTRY["cube"] is f and isinstance(f, Primitive) and f.differentiable
    assert f.__name__ == "cube" and f.__doc__ == "The cube." and repr(f) == "<primitive cube(x)>"
    assert f.formula == "x^3" and f.rules[0].formula == r"3 x^2 \bar o"
    assert f.cost([(4, 2)], [(4, 2)]) == (16, 64)
    y = f(cr.ones(2, requires_grad=True))
    assert y.grad_fn.name == "cube" and y.grad_fn.primitive is f


def test_two_rules_for_one_input_add_up():
    @primitive(elementwise=True)
    def square(k, x):
        return x * x

    square.vjp("x")(lambda g, x: g * x)
    square.vjp("x")(lambda g, x: g * x)
    x = cr.tensor(3.0, requires_grad=True)
    (square(x * 2.0) * 1.0).backward()
    assert x.grad.item() == 24


def test_two_inputs_broadcast_and_gradients_are_summed_back():
    f = product()
    for a, b in [((3, 4), (4,)), ((3, 1), (1, 4)), ((), (2, 2)), ((1, 1, 1), (2,)), ((0, 3), (3,)), ((2, 0), (1,))]:
        x, y = cr.randn(*a, dtype=f64), cr.randn(*b, dtype=f64)
        cr.check_grads(f, [x, y])
        x.requires_grad_(), y.requires_grad_()
        gx, gy = cr.autograd.grad(f(x, y).sum(), [x, y])
        assert gx.shape == a and gy.shape == b


def test_what_goes_in_may_be_mixed():
    f = product()
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    for other in (2, 2.0, np.array([2.0, 2.0], np.float32), [2.0, 2.0], cr.tensor([2, 2]), np.float32(2), True + True):
        assert f(x, other).tolist() == f(other, x).tolist() == [2, 4]
        assert f(x, other).requires_grad and f(x, other).dtype == cr.float32
    raw = f(np.ones(2), np.ones(2))
    assert type(raw) is np.ndarray
    assert type(f(np.ones(()), 2)) is np.ndarray
    assert isinstance(f(2.0, 3.0), cr.Tensor)


def test_integers_become_floats_where_declared():
    @primitive(elementwise=True, floating=True)
    def root(k, x):
        return k.sqrt(x)

    assert root(cr.tensor([4, 9])).tolist() == [2, 3]
    assert root(cr.tensor([4, 9])).dtype == cr.float32


def test_only_what_the_rules_name_is_kept():
    f = product()
    x, y = cr.ones(2, requires_grad=True), cr.ones(2)
    assert [v is not None for v in f(x, y).grad_fn.kept[:3]] == [False, True, False]
    assert [v is not None for v in f(y, x).grad_fn.kept[:3]] == [True, False, False]
    assert [v is not None for v in f(x, x).grad_fn.kept[:3]] == [True, True, False]


def test_an_edge_for_each_input_however_they_are_stored():
    x, y = cr.ones(2, requires_grad=True), cr.ones(2)
    z = x * y
    assert z.grad_fn.edges == (x, None) and (y * x).grad_fn.edges == (None, x) and (x * x).grad_fn.edges == (x, x)
    assert (z * 2.0).grad_fn.edges == (z.grad_fn, None) and (2.0 - z).grad_fn.edges == (None, z.grad_fn)
    assert z.tanh().grad_fn.edges == (z.grad_fn,) and z.reshape(2, 1).grad_fn.edges == (z.grad_fn,)
    _, second = cr.split(z, 1)
    assert second.tanh().grad_fn.edges == ((second.grad_fn, 1),)
    assert second.tanh().grad_fn.next_functions == (second.grad_fn,)


def test_what_was_kept_can_be_put_back():
    x, y = cr.ones(2, requires_grad=True), cr.ones(2) * 3
    for z in (x * y, x * x, x + y, x.tanh(), x.reshape(2, 1), x.sum()):
        node, kept = z.grad_fn, z.grad_fn.kept
        node.kept = None
        assert node.kept is None
        node.kept = kept
        assert len(kept) == len(node.kept) and all(a is b for a, b in zip(kept, node.kept, strict=True))


def test_one_rule_for_several_inputs():
    @primitive
    def swap_sum(k, x, y):
        return x + 2 * y

    @swap_sum.vjp("x", "y")
    def both(g):
        return g, g * 2

    cr.check_grads(swap_sum, [cr.randn(2, dtype=f64), cr.randn(2, dtype=f64)])
    x = cr.ones(2, requires_grad=True)
    swap_sum(cr.ones(2), x).sum().backward()
    assert x.grad.tolist() == [2, 2]


def test_several_outputs():
    @primitive(outputs=3)
    def powers(k, x):
        return x, x * x, k.argsort(x)

    @powers.vjp("x")
    def powers_dx(g, x):
        return g[0] + g[1] * x * 2

    x = cr.tensor([2.0, 1.0], dtype=f64, requires_grad=True)
    a, b, order = powers(x)
    assert a.requires_grad and b.requires_grad and not order.requires_grad
    assert a.grad_fn is b.grad_fn
    b.sum().backward(retain_graph=True)
    assert x.grad.tolist() == [4, 2]
    (a * b).sum().backward()
    assert x.grad.tolist() == [4 + 12, 2 + 3]
    cr.check_grads(lambda x: powers(x)[:2], [x.detach()])
    assert [type(v) for v in powers(np.array([2.0, 1.0]))] == [np.ndarray] * 3


def test_views_whose_number_the_metadata_decides():
    @primitive(outputs=None, view=True)
    def halves(k, x, *, deep):
        return [x[: len(x) // 2], x[len(x) // 2 :]] if deep else [x]

    @halves.vjp("x")
    def halves_dx(g, *, deep):
        return cr.cat(g) if isinstance(g[0], cr.Tensor) else np.concatenate(g)

    x = cr.tensor([1.0, 2.0, 3.0, 4.0], dtype=f64, requires_grad=True)
    low, high = halves(x, deep=True)
    (whole,) = halves(x, deep=False)
    assert np.shares_memory(low.array, x.array) and low.grad_fn is high.grad_fn
    (low * high + whole.sum()).sum().backward()
    assert x.grad.tolist() == [3 + 2, 4 + 2, 1 + 2, 2 + 2]
    cr.check_grads(lambda x: halves(x, deep=True), [x.detach()])


def test_scratch_is_kept_for_the_rule_and_hidden_from_the_user():
    @primitive(scratch=True)
    def centred(k, x):
        mean = x.mean()
        return x - mean, mean

    @centred.vjp("x")
    def centred_dx(g, scratch):
        seen.append(float(scratch))
        return g - g.mean()

    seen = []
    x = cr.tensor([1.0, 3.0], requires_grad=True)
    y = centred(x)
    assert y.tolist() == [-1, 1]
    assert centred(np.array([1.0, 3.0])).tolist() == [-1, 1]
    y.backward(cr.tensor([1.0, 0.0]))
    assert seen == [2.0] and x.grad.tolist() == [0.5, -0.5]


def test_any_number_of_inputs():
    @primitive
    def total(k, *xs, weight):
        return weight * sum(xs)

    @total.vjp("xs")
    def total_dxs(g, xs_shape, *, weight):
        return tuple(g * weight for _ in xs_shape)

    xs = [cr.randn(2, dtype=f64) for _ in range(4)]
    cr.check_grads(lambda *xs: total(*xs, weight=3.0), xs)
    x = cr.ones(2, requires_grad=True)
    total(cr.ones(2), x, cr.ones(2), x, weight=2.0).sum().backward()
    assert x.grad.tolist() == [4, 4]


def test_metadata_shapes_and_missing_inputs():
    @primitive
    def affine(k, x, w, b, *, power):
        out = x[0] * w**power
        return out if b is None else out + b

    @affine.vjp("x")
    def affine_dx(g, x_shape, w, *, power):
        assert x_shape == (3,)
        return cr.autograd.spread_at(g * w**power, index=(0,), shape=x_shape)

    @affine.vjp("w")
    def affine_dw(g, x, w, *, power):
        return g * x[0] * power * w ** (power - 1)

    @affine.vjp("b")
    def affine_db(g, *, power):
        return g

    x, w, b = cr.randn(3, dtype=f64), cr.tensor(1.5, dtype=f64), cr.tensor(0.5, dtype=f64)
    cr.check_grads(lambda x, w, b: affine(x, w, b, power=3), [x, w, b])
    cr.check_grads(lambda x, w: affine(x, w, None, power=3), [x, w])


def test_trailing_optional_inputs_may_be_left_out():
    @primitive(scratch=True)
    def scaled(k, x, by=None, shift=None):
        """The square of x, times by, plus shift; rules that ask for out, scratch and a shape."""
        out = x * x if by is None else x * x * by
        return out if shift is None else out + shift, 2 * x

    @scaled.vjp("x")
    def scaled_dx(g, scratch, by, shift, x_shape):
        assert scratch.shape == x_shape
        return g * scratch if by is None else g * scratch * by

    @scaled.vjp("by")
    def scaled_dby(g, x, out):
        assert out.shape == x.shape
        return g * x * x

    @scaled.vjp("shift")
    def scaled_dshift(g, by_shape):
        return g

    x, by, shift = (cr.randn(3, dtype=f64, requires_grad=True) for _ in range(3))
    for given in [(x,), (x, by), (x, None, shift), (x, by, shift)]:
        explicit = (*given, None, None)[:3]
        for create_graph in (False, True):
            leaves = [v for v in given if v is not None]
            options = dict(retain_graph=True, create_graph=create_graph)
            got = cr.autograd.grad(scaled(*given).sum(), leaves, **options)
            expected = cr.autograd.grad(scaled(*explicit).sum(), leaves, **options)
            for one, two in zip(got, expected, strict=True):
                assert one.tolist() == two.tolist()
        assert scaled(*given).grad_fn.edges == scaled(*explicit).grad_fn.edges
        assert scaled(*given).grad_fn.plan is scaled(*explicit).grad_fn.plan
    assert scaled(*[v.numpy() for v in (x.detach(), by.detach())]).tolist() == scaled(x, by).tolist()


def test_constants_keep_their_dtype_and_get_no_gradient():
    @primitive(constant=("index",))
    def pick(k, x, index):
        assert index.dtype == np.int64
        return x[index]

    @pick.vjp("x")
    def pick_dx(g, x_shape, index):
        return cr.autograd.spread_at(
            g, index=(np.asarray(index if isinstance(index, np.ndarray) else index.array),), shape=x_shape
        )

    cr.check_grads(lambda x: pick(x, [0, 0, 2]), [cr.randn(3, dtype=f64)])


def test_a_fused_twin_runs_when_nothing_is_recorded():
    ran = []

    @primitive
    def tripled(k, x):
        return x * 3

    @tripled.vjp("x")
    def tripled_dx(g):
        ran.append("composed")
        return g * 3

    @tripled.fused_vjp("x")
    def tripled_fused(k, g):
        ran.append("fused")
        return k.multiply(g, 3)

    x = cr.tensor([1.0, 2.0], requires_grad=True)
    tripled(x).sum().backward()
    y = (x * x).sum()
    z = tripled(y)
    z.backward()  # a 0-d gradient is an array there too
    cr.autograd.grad(tripled(x).sum(), [x], create_graph=True)
    assert ran == ["fused", "fused", "composed"]


def test_a_fused_twin_is_told_whose_gradients_are_wanted():
    told, times = [], product()

    @times.fused_vjp("x", "y")
    def product_fused(k, g, x, y, *, live):
        told.append(live)
        return g * y if live[0] else None, g * x if live[1] else None

    x, y = cr.tensor([2.0], requires_grad=True), cr.tensor([3.0], requires_grad=True)
    times(x, y.detach()).sum().backward()
    times(x.detach(), y).sum().backward()
    times(x, y).sum().backward()
    assert told == [(True, False), (False, True), (True, True)]
    assert (x.grad.item(), y.grad.item()) == (6.0, 4.0)


def test_a_twin_that_adds_runs_from_the_second_gradient_on():
    ran = []

    @primitive
    def head(k, x, *, n):
        return x[:n] * 2

    @head.vjp("x")
    def head_dx(g, x_shape, *, n):
        ran.append("rule")
        return cr.autograd.spread_at(g * 2, index=(slice(n),), shape=x_shape)

    @head.vjp_into("x")
    def head_dx_into(k, g, into, *, n):
        ran.append("twin")
        into[:n] += k.multiply(g, 2)

    x = cr.tensor([1.0, 2.0, 3.0], requires_grad=True)
    total = lambda x: sum(head(x, n=n).sum() for n in (1, 2, 3))
    total(x).backward()
    assert x.grad.tolist() == [6, 4, 2] and ran == ["rule", "twin", "twin"]
    (dx,) = cr.autograd.grad(total(x * 1), [x])
    assert dx.tolist() == [6, 4, 2] and ran[3:] == ["rule", "twin", "twin"]
    cr.autograd.grad(total(x), [x], create_graph=True)
    assert ran[6:] == ["rule"] * 3
    with cr.detect_anomaly(), pytest.raises(cr.AnomalyError, match=r"out of head holds the first Inf, at index \(0,\)"):
        cr.autograd.backward([head(x, n=1), head(x, n=2)], [cr.tensor([np.inf]), cr.ones(2)])


def test_a_rule_declared_after_the_first_use_counts():
    mine = cube()
    x = cr.tensor(2.0, requires_grad=True)
    assert cr.autograd.grad(mine(x), [x])[0].item() == 12

    @mine.fused_vjp("x")
    def cube_fused(k, g, x):
        return g * 100

    assert cr.autograd.grad(mine(x), [x])[0].item() == 100


def test_an_input_that_a_rule_declines():
    @primitive
    def first(k, x, y):
        return x + 0 * y

    @first.vjp("x", "y")
    def first_d(g):
        return g, None

    x, y = cr.ones(2, requires_grad=True), cr.ones(2, requires_grad=True)
    first(x, y).sum().backward()
    assert x.grad.tolist() == [1, 1] and y.grad is None


def test_primitives_declared_not_differentiable_are_not_recorded():
    @primitive(differentiable=False)
    def rounded(k, x):
        return k.round(x)

    assert not rounded.differentiable
    assert not rounded(cr.ones(2, requires_grad=True)).requires_grad


@pytest.mark.parametrize("elementwise", [True, False])
def test_a_forgotten_rule_is_an_error_not_a_lost_gradient(elementwise):
    @primitive(elementwise=elementwise)
    def halved(k, x):
        return x / 2

    with pytest.raises(NotImplementedError, match="halved: input 'x' requires grad, but there is no rule for it"):
        halved(cr.ones(2, requires_grad=True))
    assert halved(cr.ones(2)).tolist() == [0.5, 0.5]


# ---- refused ---------------------------------------------------------------------------------------------------------


def test_unknown_names_in_rules():
    f = cube()
    with pytest.raises(TypeError, match=r"cube\.vjp: 'z' is not an input; the inputs are x"):
        f.vjp("z")(lambda g: g)
    with pytest.raises(
        TypeError, match=r"cube: the rule <lambda> asks for 'y'; a rule may ask for x, out, scratch, x_shape"
    ):
        f.vjp("x")(lambda g, y: g)
    with pytest.raises(TypeError, match=r"declared\.constant: 'index' is not an input; the inputs are x"):

        @primitive(constant=("index",))
        def declared(k, x):
            return x

    @primitive
    def total(k, *xs):
        return sum(xs)

    with pytest.raises(TypeError, match=r"total\.vjp_into: 'xs' is any number of inputs; declare a twin for one"):
        total.vjp_into("xs")


def test_gradients_of_a_wrong_shape():
    @primitive
    def doubled(k, x):
        return x * 2

    @doubled.vjp("x")
    def doubled_dx(g):
        return g[0] * 2

    x = cr.ones(3, requires_grad=True)
    for walk in (
        lambda: doubled(x).sum().backward(),
        lambda: cr.autograd.grad(doubled(x).sum(), [x], create_graph=True),
        lambda: doubled(x * 1).sum().backward(),
    ):
        with pytest.raises(
            ValueError,
            match=r"doubled: the rule for 'x' returned a gradient of shape \(\), but the input had shape \(3,\)",
        ):
            walk()
    assert x.grad is None


def test_a_wrong_number_of_gradients():
    @primitive
    def pair(k, x, y):
        return x + y

    @pair.vjp("x", "y")
    def pair_d(g):
        return (g,)

    x = cr.ones(3, requires_grad=True)
    with pytest.raises(
        ValueError, match="pair: the rule pair_d returned 1 gradients for 2 inputs; return one for each, None for no"
    ):
        pair(x, x).sum().backward()


def test_an_input_without_a_rule():
    @primitive
    def scaled(k, x, by):
        return x * by

    @scaled.vjp("x")
    def scaled_dx(g, by):
        return g * by

    x = cr.ones(2, requires_grad=True)
    scaled(x, cr.ones(2)).sum().backward()
    with pytest.raises(
        NotImplementedError,
        match=r"scaled: input 'by' requires grad, but there is no rule for it.*@scaled\.vjp\('by'\)",
    ):
        scaled(x, x)
    with pytest.raises(NotImplementedError, match="no rule for it"):
        scaled(cr.ones(2), x)


def test_inputs_that_are_no_arrays():
    f = product()
    x = cr.ones(2)
    for wrong in (object(), {"a": 1}, len):
        with pytest.raises(
            TypeError, match=rf"product: received {type(wrong).__name__} .* as an input; an operation takes tensors"
        ):
            f(x, wrong)
    with pytest.raises(TypeError, match="product: received complex 1j as an input"):
        f(x, 1j)
    with pytest.raises(TypeError, match="product: received str 'text' as an input"):
        f(x, "text")
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        f(x)


def test_kernel_complaints_carry_what_was_received():
    f = product()
    with pytest.raises(
        ValueError,
        match=r"product: shape \(2,\) of float32, shape \(3,\) of float32 do not broadcast; .*use reshape or",
    ):
        f(cr.ones(2), cr.ones(3))

    @primitive
    def indexed(k, x, *, at):
        return x[at]

    with pytest.raises(IndexError, match=r"indexed: index 9 is out of bounds .*\(received shape \(2,\) of float32\)"):
        indexed(cr.ones(2), at=9)

    @primitive
    def polite(k, x):
        raise ValueError("polite: received what it did not want")

    with pytest.raises(ValueError, match="^polite: received what it did not want$"):
        polite(cr.ones(2))


def test_the_line_is_the_users_with_functions_of_the_package_in_between():
    x = cr.ones(2, 3, requires_grad=True)

    def mine():
        views = x.reshape(3, 2), x.T, x.mT, x[0], x[0, 1], x.unsqueeze(0), x.flatten(), x.permute(1, 0)
        reduced = cr.sum(x), x.sum(axis=0), x.mean(1), x.amax(), x.max(), cr.softmax(x, 1), x.norm()
        return x * 2, x @ x.T, cr.matmul(x, x.T), cr.relu6(x), cr.nn.functional.relu(x), *views, *reduced

    def another():
        return x * 2

    for _ in range(2):
        for y in mine():
            assert y.grad_fn.line.startswith(__file__) and y.grad_fn.line.endswith("in mine")
        assert another().grad_fn.line.endswith("in another")


def test_a_thread_may_begin_with_an_operation():
    program = """
import _thread, time
import chainrule as cr

x = cr.ones(2, 3, requires_grad=True)
for operation, inputs in [(cr.tanh.short, 1), (cr.multiply.short, 2), (cr.sum, 1), (cr.transpose, 1)]:
    _thread.start_new_thread(operation, (x,) * inputs)
time.sleep(0.2)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_benchmark_uses_the_package_as_a_program_does():
    from chainrule.bench import suite

    y = suite.chain(None, cr.ones(2, requires_grad=True), cr.ones(2), cr.ones(2), length=2)
    assert y.grad_fn.line.startswith(suite.__file__) and y.grad_fn.line.endswith("in chain")


def test_a_node_that_keeps_nothing_shares_what_it_keeps():
    x = cr.ones(2, requires_grad=True)
    one, two = x + x, x + x
    assert one.grad_fn.kept is two.grad_fn.kept and set(one.grad_fn.kept) == {None}
    one.sum().backward()
    assert one.grad_fn.kept is None and two.grad_fn.kept is not None
    two.sum().backward()
    assert x.grad.tolist() == [4, 4]


def test_a_primitive_of_one_tensor_refuses_metadata_that_it_does_not_know():
    for exp in (cr.exp, cr.exp.short):
        with pytest.raises(TypeError, match="out"):
            exp(cr.ones(2), out=np.zeros(2))
    for wrong in (2, (1, 2), np.zeros(2), cr.ones(2)):
        with pytest.raises(TypeError, match=r"^exp takes one tensor, and metadata by name; received .* as well$"):
            cr.ones(2).exp(wrong)


READY = {  # operations whose kernel and metadata are made ready, and the primitive and metadata that they stand for
    "reshape": (lambda x: x.reshape(-1), {"shape": (-1,)}),
    "permute": (lambda x: x.T, None),
    "getitem": (lambda x: x[..., 0], {"index": (..., 0)}),
    "sum": (lambda x: x.sum(0), {"dim": (0,), "keepdim": False}),
    "mean": (lambda x: x.mean(-1, keepdim=True), None),
    "amax": (lambda x: x.amax(), None),
}


@pytest.mark.parametrize("lay", [np.copy, np.transpose, np.flipud, lambda x: np.broadcast_to(x[:1], x.shape)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "bool"])
@pytest.mark.parametrize("name", READY)
def test_the_short_path_does_what_the_general_one_does(name, dtype, lay, rng):
    operation, metadata = READY[name]
    for shape in [(3,), (1, 1), (4, 10), (2, 3, 5)]:
        array = lay((rng.standard_normal(shape) * 4).astype(dtype))
        if dtype in ("int64", "bool") and name == "mean":
            continue
        x = cr.Tensor(array, requires_grad=array.dtype.kind == "f")
        short = operation(x)
        with cr.no_grad() if not x.requires_grad else cr.autograd.detect_anomaly():  # a watch takes the general path
            general = operation(x)
        assert short.dtype == general.dtype and short.shape == general.shape and (short == general).all()
        assert short.array.strides == general.array.strides
        assert np.shares_memory(short.array, array) == np.shares_memory(general.array, array)
        if x.requires_grad:
            assert short.grad_fn.params == general.grad_fn.params and short.grad_fn.name == name
            assert metadata is None or short.grad_fn.params == metadata
            assert short.grad_fn.shape == general.grad_fn.shape == short.shape
            one, other = (cr.autograd.grad((y * y).sum(), [x])[0] for y in (short, general))
            assert (one == other).all()


@pytest.mark.parametrize("index", [0, -1, (0, 1), (0, ...), (..., 1), slice(1, 2), (None, 1), (), ..., None, (1, 2, 0)])
def test_an_index_gives_a_view_whatever_it_leaves(index, rng):
    array = rng.standard_normal((2, 3, 4)[: max(1, len(index) if isinstance(index, tuple) else 1)])
    x = cr.Tensor(array, requires_grad=True)
    y = x[index]
    assert type(y.array) is np.ndarray and np.shares_memory(y.array, x.array)
    np.testing.assert_array_equal(y.array, array[index])
    y.sum().backward()
    expected = np.zeros_like(array)
    expected[index] = 1
    np.testing.assert_array_equal(x.grad.array, expected)
