"""Lectures, section 3: convolution and its properties, output sizes, parameter counts, pooling, the networks."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.nn import models

f64 = cr.float64


def t(array):
    return cr.tensor(np.asarray(array, float))


def count(module):
    return sum(p.numel() for p in module.parameters())


def convolve(f, g):
    """(f * g)[n] = Σₘ f[n − m] g[m], by the engine's cross-correlation with g turned round and full padding."""
    n = len(g)
    return cr.conv1d(t(f)[None, None], t(g)[None, None].flip(-1), padding=n - 1)[0, 0].numpy()


# ---- the operation ---------------------------------------------------------------------------------------------------


def test_convolution_by_its_sum(rng):
    f, g = rng.standard_normal(7), rng.standard_normal(4)
    expected = [sum(f[n - m] * g[m] for m in range(4) if 0 <= n - m < 7) for n in range(10)]
    np.testing.assert_allclose(convolve(f, g), expected, rtol=1e-12)


def test_convolution_is_commutative_and_associative(rng):
    f, g, h = rng.standard_normal(6), rng.standard_normal(3), rng.standard_normal(5)
    np.testing.assert_allclose(convolve(f, g), convolve(g, f), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(convolve(convolve(f, g), h), convolve(f, convolve(g, h)), rtol=1e-12, atol=1e-14)


def test_cross_correlation_is_not_commutative_and_the_page_says_which_it_is(rng):
    f, g = rng.standard_normal(5), rng.standard_normal(5)
    correlate = lambda a, b: cr.conv1d(t(a)[None, None], t(b)[None, None], padding=4)[0, 0].numpy()
    assert not np.allclose(correlate(f, g), correlate(g, f))
    np.testing.assert_allclose(correlate(f, g), np.correlate(f, g, "full"), rtol=1e-12, atol=1e-14)
    assert "cross-correlation" in cr.conv2d.__doc__


X = [[1, 0, 0, 0, 0], [2, 1, 1, 2, 1], [1, 1, 2, 2, 0], [2, 2, 1, 0, 0], [2, 1, 2, 1, 1]]
W = [[1, 1, 1], [0, -1, 0], [0, -1, 1]]


def test_the_three_by_three_example():
    """Without padding the first output is 1·1 + 0 + 0 − 1 − 1 + 2 = 1; with a border of zeros it is −1 − 2 + 1 = −2."""
    x, w = t(X)[None, None], t(W)[None, None]
    plain, padded = cr.conv2d(x, w), cr.conv2d(x, w, padding=1)
    assert plain.shape == (1, 1, 3, 3) and padded.shape == (1, 1, 5, 5)
    assert plain[0, 0, 0, 0].item() == 1
    assert padded[0, 0, 0, 0].item() == -2
    assert padded[0, 0, 1:-1, 1:-1].tolist() == plain[0, 0].tolist()
    expected = [
        [sum(W[i][j] * X[r + i][c + j] for i in range(3) for j in range(3)) for c in range(3)] for r in range(3)
    ]
    assert plain[0, 0].tolist() == expected


def test_the_layer_is_one_inner_product_for_each_place(rng):
    """z[i, j, k] = w_kᵀ x[i, j] + b_k."""
    layer = nn.Conv2d(3, 4, 3).to(f64)
    x = rng.standard_normal((1, 3, 6, 5))
    z = layer(t(x)).detach().numpy()
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    for i, j, k in [(0, 0, 0), (2, 1, 3), (3, 2, 2)]:
        assert z[0, k, i, j] == pytest.approx(w[k].ravel() @ x[0, :, i : i + 3, j : j + 3].ravel() + b[k], rel=1e-12)


# ---- sizes and counts ------------------------------------------------------------------------------------------------


def test_ten_filters_on_a_small_colour_image():
    layer = nn.Conv2d(3, 10, 5, stride=1, padding=2)
    assert layer(cr.zeros(1, 3, 32, 32)).shape == (1, 10, 32, 32)
    assert count(layer) == 760


def test_ten_by_ten_with_three_by_three():
    assert cr.conv2d(cr.zeros(1, 1, 10, 10), cr.zeros(1, 1, 3, 3)).shape[2:] == (8, 8)


@pytest.mark.parametrize("n", [5, 7, 10, 28])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("p", [0, 1, 2])
@pytest.mark.parametrize("s", [1, 2, 3])
def test_the_size_rule(n, k, p, s):
    """⌊(n + 2p − k)/s⌋ + 1, which counts the places that the filter can take."""
    places = [start for start in range(-p, n + p - k + 1, s)]
    size = (n + 2 * p - k) // s + 1
    assert size == len(places)
    assert cr.conv2d(cr.zeros(1, 1, n, n), cr.zeros(1, 1, k, k), stride=s, padding=p).shape[2:] == (size, size)
    assert cr.conv1d(cr.zeros(1, 1, n), cr.zeros(1, 1, k), stride=s, padding=p).shape[2:] == (size,)


@pytest.mark.parametrize(("padding", "size"), [(0, 5), (1, 7), ("same", 7), ("valid", 5), (2, 9)])
def test_narrow_equal_and_wide_convolution(padding, size):
    """m = 7 words, n = 3: m − n + 1, m and m + n − 1."""
    assert cr.conv1d(cr.zeros(1, 1, 7), cr.zeros(1, 1, 3), padding=padding).shape == (1, 1, size)


@pytest.mark.parametrize(
    ("layers", "field"),
    [
        ([(3, 1)], 3),
        ([(3, 1)] * 3, 7),
        ([(3, 1), (3, 2), (3, 4)], 15),
        ([(2, 1), (2, 2), (2, 4), (2, 8)], 16),
        ([(5, 3), (3, 2)], 17),
    ],
)
def test_receptive_fields_of_dilated_convolutions(layers, field):
    """1 + Σ (k − 1) d inputs reach the middle output, and no others do."""
    assert 1 + sum((k - 1) * d for k, d in layers) == field
    x = cr.zeros(1, 1, 61, dtype=f64, requires_grad=True)
    h = x
    for k, d in layers:
        h = cr.conv1d(h, cr.ones(1, 1, k, dtype=f64), dilation=d)
    h[0, 0, h.shape[-1] // 2].backward()
    (reached,) = np.nonzero(x.grad.numpy()[0, 0])
    assert reached[-1] - reached[0] + 1 == field


def test_one_dimensional_convolution_over_a_sentence(rng):
    """hᵢ = f((W * x)ᵢ): a window of three words of five numbers."""
    words, w = rng.standard_normal((9, 5)), rng.standard_normal((4, 5, 3))
    h = cr.tanh(cr.conv1d(t(words.T)[None], t(w)))[0].numpy()
    expected = [[np.tanh((w[o].T * words[i : i + 3]).sum()) for i in range(7)] for o in range(4)]
    np.testing.assert_allclose(h, expected, rtol=1e-12)


# ---- pooling ---------------------------------------------------------------------------------------------------------


def test_two_by_two_pooling_halves():
    for layer in (nn.MaxPool2d(2), nn.AvgPool2d(2)):
        assert layer(cr.zeros(1, 6, 28, 28)).shape == (1, 6, 14, 14)


def test_pooling_by_hand():
    x = t([[1, 2, 5, 0], [3, 4, 1, 2], [0, 0, 9, 8], [0, 4, 7, 6]])[None, None]
    assert nn.MaxPool2d(2)(x)[0, 0].tolist() == [[4, 5], [4, 9]]
    assert nn.AvgPool2d(2)(x)[0, 0].tolist() == [[2.5, 2], [1, 7.5]]
    assert nn.AdaptiveAvgPool2d(1)(x).item() == x.mean().item() == 3.25
    assert nn.AdaptiveMaxPool2d(1)(x).item() == 9


def test_k_max_pooling_keeps_the_order():
    x = t([5, 1, 9, 3, 7])
    assert nn.KMaxPool(3)(x).tolist() == [5, 9, 7]
    assert nn.KMaxPool(1)(x).tolist() == [9]
    assert nn.KMaxPool(1, regions=2)(t([5, 1, 9, 3, 7, 8])).tolist() == [9, 8]
    x = x.requires_grad_()
    nn.KMaxPool(2)(x).sum().backward()
    assert x.grad.tolist() == [0, 0, 1, 0, 1]


def test_max_pooling_sends_the_gradient_to_the_winner_alone():
    x = t([[1, 2], [4, 3]])[None, None].requires_grad_()
    nn.MaxPool2d(2)(x).sum().backward()
    assert x.grad[0, 0].tolist() == [[0, 0], [1, 0]]


# ---- networks --------------------------------------------------------------------------------------------------------


def test_lenet5_layer_by_layer():
    net = models.LeNet5()
    sizes = {}
    for name, layer in net.named_children():
        layer.register_forward_hook(lambda module, inputs, output, name=name: sizes.__setitem__(name, output.shape[1:]))
    assert net(cr.zeros(1, 1, 32, 32)).shape == (1, 10)
    assert sizes["c1"] == (6, 28, 28) and count(net.c1) == 156
    assert sizes["s2"] == (6, 14, 14)
    assert sizes["c3"] == (16, 10, 10) and sizes["s4"] == (16, 5, 5)
    assert sizes["c5"] == (120, 1, 1) and count(net.c5) == 48_120
    assert sizes["f6"] == (84,) and count(net.f6) == 10_164


def test_gradients_reach_the_branch_that_makes_the_filters():
    generator = nn.Linear(5, 2 * 1 * 3 * 3)
    layer = models.DynamicFilter(1, 2, 3, generator=generator)
    z = cr.randn(4, 5, requires_grad=True)
    layer(cr.randn(4, 1, 8, 8), z).sum().backward()
    for p in (generator.weight, generator.bias, z):
        assert p.grad is not None and abs(p.grad).sum().item() > 0


def sentences(rng, n=600, words=30, length=8):
    """A sentiment task: good words are 1 to 5, bad ones 6 to 10, and each sentence has one of either kind."""
    x = rng.integers(11, words, (n, length))
    y = rng.integers(0, 2, n)
    x[np.arange(n), rng.integers(0, length, n)] = rng.integers(1, 6, n) + 5 * y
    return cr.tensor(x), cr.tensor(y)


@pytest.mark.parametrize(
    "make",
    [
        lambda: models.SentenceCNN(30, 2, embedding_dim=16, filters=8, dropout=0.1),
        lambda: models.SentenceCNN(30, 2, embedding_dim=16, filters=8, dropout=0.1, mode="static"),
        lambda: models.SentenceCNN(30, 2, embedding_dim=16, filters=8, dropout=0.1, mode="multichannel"),
        lambda: models.DCNN(30, 2, embedding_dim=8, widths=(4, 3), maps=(3, 4), dropout=0.0),
        lambda: models.WindowNetwork(30, 8, 2, embedding_dim=16, hidden=32),
    ],
    ids=["non-static", "static", "multichannel", "DCNN", "window"],
)
def test_text_networks_learn_a_sentiment_task(make, rng):
    cr.manual_seed(2)
    x, y = sentences(rng)
    net = make()
    optimizer = cr.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        cr.cross_entropy(net(x), y).backward()
        optimizer.step()
    net.eval()
    assert (net(x).argmax(1) == y).float().mean().item() > 0.97
    unseen, answers = sentences(rng)
    assert (net(unseen).argmax(1) == answers).float().mean().item() > 0.8
