"""Factories and random numbers."""

import threading

import numpy as np
import pytest

import chainrule as cr

f64 = cr.float64

FACTORIES = {
    "zeros": (cr.zeros, 0.0),
    "ones": (cr.ones, 1.0),
    "empty": (cr.empty, None),
    "rand": (cr.rand, None),
    "randn": (cr.randn, None),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_shapes_dtypes_and_gradients(name):
    make, value = FACTORIES[name]
    for t in (make(2, 3), make((2, 3)), make([2, 3]), make(np.int64(2), 3)):
        assert t.shape == (2, 3) and t.dtype == cr.float32 and not t.requires_grad
        assert value is None or (t == value).all()
    assert make().shape == make(()).shape == () and make(0, 4).shape == (0, 4)
    assert make(2, dtype="float64", requires_grad=True).requires_grad
    assert make(2, dtype=cr.float16).dtype == cr.float16
    like = getattr(cr, name + "_like")(cr.zeros(4, dtype=f64))
    assert like.shape == (4,) and like.dtype == f64
    assert getattr(cr, name + "_like")(cr.zeros(4, dtype=f64), dtype=cr.float32).dtype == cr.float32
    with pytest.raises(ValueError, match=rf"{name}: received the shape \(2, -1\); sizes are at least 0"):
        make(2, -1)
    with pytest.raises(TypeError, match=rf"{name}: received sizes \(2\.5,\); sizes are integers"):
        make(2.5)
    with pytest.raises(ValueError, match="received device='mps'; chainrule computes on 'cpu' and 'cuda'"):
        make(2, device="mps")


def test_full():
    assert cr.full((2,), 7).dtype == cr.int64 and cr.full((2,), 7.0).dtype == cr.float32
    assert cr.full(3, True).dtype == cr.bool and cr.full([2], 0.1, dtype=f64).tolist() == [0.1, 0.1]
    assert cr.full_like(cr.zeros(2, dtype=f64), 0.1).tolist() == [0.1, 0.1]
    with pytest.raises(ValueError, match=r"full: received the shape \(-1,\)"):
        cr.full((-1,), 0)


def test_ranges():
    for args in [(5,), (2, 5), (5, 2, -1), (0, 10, 3), (0.5,), (0, 1, 0.1), (3, 3)]:
        np.testing.assert_allclose(cr.arange(*args, dtype=f64).numpy(), np.arange(*args), rtol=1e-15)
    assert cr.arange(3).dtype == cr.int64 and cr.arange(3.0).dtype == cr.float32
    for args in [(0, 5, 0), (0, 5, -1), (5, 0)]:
        with pytest.raises(ValueError, match="arange: received start=.*the step must lead from start to end"):
            cr.arange(*args)
    np.testing.assert_allclose(cr.linspace(-1, 2, 7, dtype=f64).numpy(), np.linspace(-1, 2, 7))
    assert cr.linspace(0, 1, 0).shape == (0,) and cr.linspace(0, 1, 1).tolist() == [0]
    with pytest.raises(ValueError, match="linspace: received steps=-1; it must be at least 0"):
        cr.linspace(0, 1, -1)


def test_eye():
    assert np.array_equal(cr.eye(2, 3).numpy(), np.eye(2, 3)) and cr.eye(0).shape == (0, 0)
    with pytest.raises(ValueError, match=r"eye: received the shape \(-1, -1\)"):
        cr.eye(-1)


@pytest.mark.parametrize("indexing", ["ij", "xy"])
@pytest.mark.parametrize("sizes", [(3,), (2, 3), (2, 3, 4)])
def test_meshgrid(indexing, sizes):
    arrays = [np.arange(float(n)) + 10 * i for i, n in enumerate(sizes)]
    tensors = [cr.tensor(a, requires_grad=True) for a in arrays]
    for ours, theirs in zip(
        cr.meshgrid(*tensors, indexing=indexing), np.meshgrid(*arrays, indexing=indexing), strict=True
    ):
        assert np.array_equal(ours.detach().numpy(), theirs)
    grids = cr.meshgrid(*tensors, indexing=indexing)
    gradients = cr.autograd.grad([g.sum() for g in grids], tensors)
    assert all((g == np.prod(sizes) / n).all() for g, n in zip(gradients, sizes, strict=True))


def test_meshgrid_refuses():
    with pytest.raises(ValueError, match="meshgrid: received indexing='yx'; pass 'ij'"):
        cr.meshgrid(cr.arange(2), indexing="yx")


def test_new_tensors_like_this_one():
    t = cr.zeros(2, dtype=f64)
    assert t.new_zeros(3).dtype == t.new_ones((2, 2)).dtype == t.new_empty(1).dtype == t.new_full((2,), 1).dtype == f64


# ---- random numbers --------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_numbers():
    for draw in (
        lambda **g: cr.rand(5, **g),
        lambda **g: cr.randn(5, **g),
        lambda **g: cr.randint(0, 100, (5,), **g),
        lambda **g: cr.randperm(20, **g),
        lambda **g: cr.normal(1.0, 2.0, (5,), **g),
        lambda **g: cr.bernoulli(cr.full((50,), 0.5), **g),
        lambda **g: cr.multinomial(cr.ones(9), 4, **g),
        lambda **g: cr.rand_like(cr.zeros(5), **g),
        lambda **g: cr.randn_like(cr.zeros(5), **g),
        lambda **g: cr.randint_like(cr.zeros(5), 100, **g),
    ):
        cr.manual_seed(7)
        first, second = draw(), draw()
        cr.manual_seed(7)
        assert draw().tolist() == first.tolist() != second.tolist()
        assert draw(generator=cr.Generator(3)).tolist() == draw(generator=cr.Generator(0).manual_seed(3)).tolist()


@pytest.mark.parametrize("number", [-1, "one", 0.5])
def test_a_seed_is_a_natural_number(number):
    for call in (cr.Generator, cr.manual_seed, cr.Generator(0).manual_seed):
        with pytest.raises(ValueError, match=f"Generator received seed={number!r}; pass an integer of at least 0"):
            call(number)


def test_generators_are_saved_and_restored():
    g = cr.Generator(5)
    g2 = cr.Generator()
    cr.rand(3, generator=g)
    saved = g.get_state()
    a = cr.rand(3, generator=g)
    g2.set_state(saved)
    assert a.tolist() == cr.rand(3, generator=g2).tolist()


def test_an_explicit_generator_leaves_the_default_alone():
    cr.manual_seed(0)
    a = cr.rand(2)
    cr.manual_seed(0)
    cr.rand(100, generator=cr.Generator(1))
    assert cr.rand(2).tolist() == a.tolist()


def test_threads_with_their_own_generators_repeat():
    def draws(seed, into):
        g = cr.Generator(seed)
        into[seed] = [cr.randn(50, generator=g).tolist() for _ in range(20)]

    runs = []
    for _ in range(2):
        into: dict = {}
        threads = [threading.Thread(target=draws, args=(i, into)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        runs.append(into)
    assert runs[0] == runs[1]


def test_distributions():
    cr.manual_seed(1)
    n = 200_000
    u = cr.rand(n).numpy()
    assert u.min() >= 0 and u.max() < 1 and abs(u.mean() - 0.5) < 0.005
    z = cr.randn(n).numpy()
    assert abs(z.mean()) < 0.01 and abs(z.std() - 1) < 0.01
    k = cr.randint(-2, 3, (n,)).numpy()
    assert set(np.unique(k)) == {-2, -1, 0, 1, 2} and k.dtype == np.int64
    assert set(cr.randint(3, size=(100,)).tolist()) == {0, 1, 2}
    assert sorted(cr.randperm(50).tolist()) == list(range(50))
    m = cr.normal(cr.tensor([0.0, 100.0]), cr.tensor([1.0, 2.0]))
    assert m.shape == (2,) and abs(m[1].item() - 100) < 20
    b = cr.bernoulli(cr.full((n,), 0.25))
    assert b.dtype == cr.float32 and abs(b.mean().item() - 0.25) < 0.01
    draws = cr.multinomial(cr.tensor([1.0, 0.0, 3.0]), n, replacement=True).numpy()
    assert abs((draws == 2).mean() - 0.75) < 0.01 and not (draws == 1).any()
    rows = cr.multinomial(cr.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]), 1)
    assert rows.shape == (2, 1) and rows[1].item() == 0


def test_what_is_refused():
    with pytest.raises(ValueError, match="randint: received low=3, high=3; low must be below high"):
        cr.randint(3, 3, (2,))
    with pytest.raises(ValueError, match=r"rand: received the shape \(-2,\)"):
        cr.rand(-2)
    for p in ([-0.1], [1.1], [float("nan")]):
        with pytest.raises(ValueError, match=r"bernoulli: received probabilities outside \[0, 1\]"):
            cr.bernoulli(cr.tensor(p))
    for w in ([-1.0, 2.0], [0.0, 0.0], [float("inf"), 1.0], [[[1.0]]]):
        with pytest.raises(ValueError, match="multinomial: the weights must be finite and at least 0"):
            cr.multinomial(cr.tensor(w), 1)
