"""The lectures' networks: parameter counts, sizes, gradients and the worked figures of sections 1 and 3."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.nn import models


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.fixture
def unfilled(monkeypatch):
    """Networks whose first values do not matter are made without drawing them, which saves seconds."""
    monkeypatch.setattr(nn.init, "_fill", lambda t, values: t)
    monkeypatch.setattr(nn.init, "_rng", lambda generator: Still())


class Still:
    """A generator of zeros that take no memory."""

    def random(self, shape, dtype):
        return np.zeros((), dtype)

    standard_normal = random


@pytest.mark.parametrize(
    "make, expected",
    [
        (models.LeNet5, 61_706),
        (models.AlexNet, 61_100_840),
        (lambda: models.VGG(11), 132_863_336),
        (lambda: models.VGG(13), 133_047_848),
        (lambda: models.VGG(16), 138_357_544),
        (lambda: models.VGG(19), 143_667_240),
        (models.GoogLeNet, 6_624_904),
        (lambda: models.ResNet(18), 11_689_512),
        (lambda: models.ResNet(34), 21_797_672),
        (lambda: models.ResNet(50), 25_557_032),
        (lambda: models.ResNet(101), 44_549_160),
        (lambda: models.ResNet(152), 60_192_808),
    ],
    ids=[
        "LeNet5",
        "AlexNet",
        "VGG11",
        "VGG13",
        "VGG16",
        "VGG19",
        "GoogLeNet",
        *(f"ResNet{d}" for d in (18, 34, 50, 101, 152)),
    ],
)
def test_published_parameter_counts(unfilled, make, expected):
    assert count(make()) == expected


@pytest.mark.parametrize(
    "make, names",
    [
        (
            lambda: models.AlexNet(2),
            ["features.0.weight", "features.10.bias", "classifier.1.weight", "classifier.6.bias"],
        ),
        (
            lambda: models.VGG(11, 2),
            ["features.0.weight", "features.18.bias", "classifier.0.weight", "classifier.6.bias"],
        ),
        (
            lambda: models.GoogLeNet(2),
            [
                "conv1.conv.weight",
                "inception3a.branch2.1.bn.running_var",
                "inception5b.branch4.1.conv.weight",
                "fc.bias",
            ],
        ),
        (
            lambda: models.ResNet(18, 2),
            [
                "conv1.weight",
                "bn1.num_batches_tracked",
                "layer2.0.downsample.1.weight",
                "layer4.1.bn2.bias",
                "fc.weight",
            ],
        ),
        (
            lambda: models.ResNet(50, 2),
            ["layer1.0.conv3.weight", "layer1.0.downsample.0.weight", "layer4.2.bn3.weight"],
        ),
    ],
)
def test_names_are_torchvisions(unfilled, make, names):
    assert set(names) <= set(make().state_dict())


@pytest.mark.parametrize(
    "make, size",
    [
        (models.AlexNet, 63),
        (lambda **n: models.VGG(11, **n), 32),
        (models.GoogLeNet, 32),
        (lambda **n: models.ResNet(18, **n), 32),
        (lambda **n: models.ResNet(50, **n), 32),
    ],
    ids=["AlexNet", "VGG", "GoogLeNet", "ResNet18", "ResNet50"],
)
def test_every_parameter_of_an_image_network_gets_a_gradient(make, size):
    net = make(num_classes=3)
    out = net(cr.randn(2, 3, size, size))
    assert out.shape == (2, 3)
    nn.functional.cross_entropy(out, cr.tensor([0, 2])).backward()
    assert all(p.grad is not None and np.isfinite(p.grad.numpy()).all() for p in net.parameters())


def test_lenet_has_the_papers_sizes():
    shapes = {row.name.removeprefix("LeNet5."): row for row in nn.summary(models.LeNet5(), (1, 1, 32, 32)).rows}
    assert (shapes["c1"].output, shapes["c1"].parameters) == ("(1, 6, 28, 28)", 156)
    assert shapes["s2"].output == "(1, 6, 14, 14)"
    assert (shapes["c3"].output, shapes["s4"].output) == ("(1, 16, 10, 10)", "(1, 16, 5, 5)")
    assert (shapes["c5"].output, shapes["f6"].output, shapes["output"].output) == (
        "(1, 120, 1, 1)",
        "(1, 84)",
        "(1, 10)",
    )
    assert (shapes["c5"].parameters, shapes["f6"].parameters) == (48_120, 10_164)
    wide = models.LeNet5(7, in_channels=3, activation=nn.ReLU, pool=nn.MaxPool2d)
    assert wide(cr.ones(2, 3, 32, 32)).shape == (2, 7)


def test_worked_figures_of_convolution():
    layer = nn.Conv2d(3, 10, 5, padding=2)
    assert layer(cr.ones(1, 3, 32, 32)).shape == (1, 10, 32, 32) and count(layer) == 760
    assert nn.Conv2d(1, 1, 3)(cr.ones(1, 1, 10, 10)).shape == (1, 1, 8, 8)
    assert nn.MaxPool2d(2)(cr.ones(1, 6, 28, 28)).shape == (1, 6, 14, 14)
    x = [[1, 0, 0, 0, 0], [2, 1, 1, 2, 1], [1, 1, 2, 2, 0], [2, 2, 1, 0, 0], [2, 1, 2, 1, 1]]
    w = [[1, 1, 1], [0, -1, 0], [0, -1, 1]]
    for padding, first in ((0, 1), (1, -2)):
        layer = nn.Conv2d(1, 1, 3, padding=padding, bias=False)
        layer.load_state_dict({"weight": np.array([[w]], np.float32)})
        assert layer(cr.tensor([[x]], dtype=cr.float32))[0, 0, 0, 0].item() == first
    for padding, length in (("valid", 5), ("same", 7), (2, 9)):
        assert nn.Conv1d(1, 1, 3, padding=padding)(cr.ones(1, 1, 7)).shape == (1, 1, length)


@pytest.mark.parametrize("size, dilations", [(3, (1, 2, 4)), (3, (1, 2, 4, 8)), (2, (1, 2, 4, 8, 16))])
def test_receptive_field_of_dilated_convolutions(size, dilations):
    field = 1 + sum((size - 1) * d for d in dilations)
    net = nn.Sequential(*[nn.Conv1d(1, 1, size, dilation=d, bias=False) for d in dilations])
    for layer in net:
        nn.init.ones_(layer.weight)
    x = cr.zeros(1, 1, field + 4, requires_grad=True)
    net(x)[0, 0, 2].backward()
    assert np.flatnonzero(x.grad.numpy()).tolist() == list(range(2, 2 + field))


def test_dynamic_filters_are_one_convolution_for_each_item():
    layer = models.DynamicFilter(2, 3, 3, generator=nn.Linear(4, 3 * 2 * 3 * 3))
    x, z = cr.randn(5, 2, 6, 6), cr.randn(5, 4)
    y = layer(x, z)
    for item in range(5):
        filters = layer.generator(z[item : item + 1]).reshape(3, 2, 3, 3)
        expected = nn.functional.conv2d(x[item : item + 1], filters, padding=1)
        np.testing.assert_allclose(y[item : item + 1].detach().numpy(), expected.detach().numpy(), atol=1e-5)
    (y * y).sum().backward()
    assert (layer.generator.weight.grad.numpy() != 0).all()


WORDS = [[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]]


@pytest.mark.parametrize(
    "mode, trained", [("static", [False]), ("non-static", [True]), ("multichannel", [False, True])]
)
def test_sentence_cnn_modes(mode, trained):
    start = cr.randn(6, 8)
    net = models.SentenceCNN(6, 2, widths=(2, 3), filters=4, mode=mode, embeddings=start)
    assert [table.weight.requires_grad for table in net.tables] == trained
    net(cr.tensor(WORDS)).sum().backward()
    assert [table.weight.grad is not None for table in net.tables] == trained
    assert all((table.weight == start).all() for table in net.tables)
    assert net(cr.tensor([[1]])).shape == (1, 2)  # shorter than the filters


def test_sentence_cnn_by_hand():
    net = models.SentenceCNN(6, 2, embedding_dim=3, widths=(2,), filters=4).double().eval()
    words = cr.tensor([[1, 2, 3]])
    table, w, b = (p.detach().numpy() for p in (net.tables[0].weight, *net.maps.convs[0].parameters()))
    x = table[[1, 2, 3]]
    maps = [[(x[i : i + 2].T * w[f]).sum() + b[f] for i in range(2)] for f in range(4)]
    features = np.maximum(maps, 0).max(1)
    expected = features @ net.fc.weight.detach().numpy().T + net.fc.bias.detach().numpy()
    np.testing.assert_allclose(net(words).detach().numpy()[0], expected, rtol=1e-12)


@pytest.mark.parametrize("mode", ["static", "non-static", "multichannel"])
def test_max_over_time_has_the_gradients_of_the_whole_convolution(mode, rng):
    net = models.SentenceCNN(9, 2, embedding_dim=4, widths=(1, 3), filters=5, mode=mode).double().eval()
    words, seed = cr.tensor(rng.integers(0, 9, (6, 7))), cr.tensor(rng.standard_normal((6, 2)))
    parameters = [p for p in net.parameters() if p.requires_grad]
    x = cr.cat([table(words) for table in net.tables], -1).transpose(1, 2)
    whole = [cr.relu(cr.conv1d(x, conv.weight, conv.bias)).amax(-1) for conv in net.maps.convs]
    expected = net.fc(cr.cat(whole, 1))
    np.testing.assert_allclose(net(words).detach(), expected.detach(), rtol=1e-12)
    pairs = zip(*(cr.autograd.grad(out, parameters, seed) for out in (net(words), expected)))
    for ours, plain in pairs:
        np.testing.assert_allclose(ours.numpy(), plain.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_sentence_lstm_reads_each_sentence_as_if_alone(bidirectional):
    net = models.SentenceLSTM(9, 3, embedding_dim=4, hidden_size=5, bidirectional=bidirectional).double().eval()
    sentences = [[3, 1], [4, 5, 6, 2], [8]]
    together = net(cr.tensor([words + [0] * (5 - len(words)) for words in sentences]))
    for out, words in zip(together, sentences):
        states, (h, _) = net.lstm(net.table(cr.tensor([words])))
        assert (states[0, -1, :5] == h[0, 0]).all()
        np.testing.assert_allclose(out.detach(), net.fc(h.flatten()).detach(), rtol=1e-12)


def test_sentence_lstm_refuses_a_sentence_without_words():
    with pytest.raises(ValueError, match=r"received lengths=\[2, 0\] for sequences padded to 2 steps"):
        models.SentenceLSTM(9, 2, embedding_dim=4)(cr.tensor([[1, 2], [0, 0]]))


def test_dcnn_by_hand():
    net = models.DCNN(6, 2, embedding_dim=4, widths=(3,), maps=(2,), top_k=2).double().eval()
    table, w, b = (p.detach().numpy() for p in (net.table.weight, *net.convs[0].parameters()))
    rows = np.pad(table[[1, 2, 3, 4, 5]].T, ((0, 0), (2, 2)))  # wide: width − 1 zeros on both sides
    maps = np.array(
        [[[rows[r, i : i + 3] @ w[2 * r + m, 0] + b[2 * r + m] for i in range(7)] for m in range(2)] for r in range(4)]
    )
    folded = (maps[0::2] + maps[1::2]).reshape(4, 7)
    kept = np.array([row[np.sort(np.argsort(row)[-2:])] for row in folded])
    expected = np.tanh(kept).ravel() @ net.fc.weight.detach().numpy().T + net.fc.bias.detach().numpy()
    np.testing.assert_allclose(net(cr.tensor([[1, 2, 3, 4, 5]])).detach().numpy()[0], expected, rtol=1e-12)


@pytest.mark.parametrize("length", [1, 3, 12])
def test_dcnn_takes_sentences_of_any_length(length):
    net = models.DCNN(6, 2, embedding_dim=8)
    net(cr.ones(2, length, dtype=cr.int64)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize(
    "make",
    [
        lambda: models.SentenceCNN(20, 2, embedding_dim=8, widths=(2, 3), filters=6),
        lambda: models.SentenceLSTM(20, 2, embedding_dim=8, hidden_size=16, dropout=0.0),
        lambda: models.DCNN(20, 2, embedding_dim=8, widths=(4, 3), maps=(3, 4), top_k=3),
        lambda: models.WindowNetwork(20, 6, 2, embedding_dim=8, hidden=16),
        lambda: nn.Sequential(models.CharacterCNN(20, 8, filters=6), nn.Linear(18, 2)),
    ],
    ids=["SentenceCNN", "SentenceLSTM", "DCNN", "WindowNetwork", "CharacterCNN"],
)
def test_text_networks_learn_whether_a_word_occurs(make, rng):
    words = rng.integers(1, 20, (80, 6))
    words[::2, 2], words[1::2][words[1::2] == 7] = 7, 8
    x, y = cr.tensor(words), cr.tensor((words == 7).any(1).astype(np.int64))
    net = make()
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    assert (net.eval()(x).argmax(1) == y).float().mean().item() > 0.95


# ---- section 1: neurons ----------------------------------------------------------------------------------------------

CORNERS = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize("threshold, expected", [(2.0, [0, 0, 0, 1]), (1.0, [0, 1, 1, 1])], ids=["and", "or"])
def test_threshold_units_compute_and_and_or(threshold, expected):
    assert nn.ThresholdUnit([1.0, 1.0], threshold)(cr.tensor(CORNERS)).tolist() == expected


@pytest.mark.parametrize(
    "answers, separable", [([-1, -1, -1, 1], True), ([-1, 1, 1, 1], True), ([-1, 1, 1, -1], False)]
)
def test_perceptron_learns_what_a_line_separates(answers, separable):
    unit, x, y = nn.Perceptron(2), cr.tensor(CORNERS), cr.tensor(answers, dtype=cr.float32)
    mistakes = [unit.learn(x, y, rate=0.5) for _ in range(30)]
    assert (mistakes[-1] == 0) == separable and (mistakes[0] > 0)
    assert (unit(x) == y).all().item() == separable
    assert all(m > 0 for m in mistakes) or separable


def test_perceptron_converges_within_novikoffs_bound(rng):
    x = rng.normal(size=(60, 5))
    teacher = rng.normal(size=5)
    x = x[np.abs(x @ teacher) > 0.5]
    unit, y = nn.Perceptron(5).double(), np.sign(x @ teacher)
    mistakes = []
    while not mistakes or mistakes[-1]:
        mistakes.append(unit.learn(cr.tensor(x), cr.tensor(y)))
    margin = (np.abs(x @ teacher) / np.linalg.norm(teacher)).min()
    assert sum(mistakes) <= ((x**2).sum(1) + 1).max() * (1 + 1) / margin**2


def test_a_small_mlp_solves_xor():
    cr.manual_seed(1)
    net = models.MLP([2, 4, 1], nn.Tanh)
    x, y = cr.tensor(CORNERS), cr.tensor([[0.0], [1.0], [1.0], [0.0]])
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(net(x), y).backward()
        optimizer.step()
    assert ((net(x) > 0) == (y > 0.5)).all()


def test_an_mlp_fits_the_sine():
    cr.manual_seed(0)
    net = models.MLP([1, 24, 1], nn.Tanh)
    x = cr.linspace(-np.pi, np.pi, 100).reshape(-1, 1)
    optimizer = optim.Adam(net.parameters(), lr=0.02)
    for _ in range(1000):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(net(x), cr.sin(x))
        loss.backward()
        optimizer.step()
    assert (net(x) - cr.sin(x)).abs().max().item() < 0.05


def test_two_layer_tanh_network_has_the_lectures_gradients(rng):
    """Columns are samples; with E = ½Σ(Ŷ − Y)² the updates of the lecture are −∂E/∂W."""
    net = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False)).double()
    x, y = rng.normal(size=(3, 6)), rng.normal(size=(2, 6))
    out = net(cr.tensor(x.T))
    (0.5 * (out - cr.tensor(y.T)) ** 2).sum().backward()
    w_x, w_y = (layer.weight.detach().numpy() for layer in (net[0], net[2]))
    h = np.tanh(w_x @ x)
    error = y - w_y @ h
    np.testing.assert_allclose(net[2].weight.grad.numpy(), -(error @ h.T), rtol=1e-10)
    np.testing.assert_allclose(net[0].weight.grad.numpy(), -((w_y.T @ error) * (1 - h**2)) @ x.T, rtol=1e-10)


def test_shared_trunk_receives_the_sum_of_its_heads(rng):
    trunk, heads = nn.Linear(4, 3).double(), nn.ModuleList([nn.Linear(3, 1), nn.Linear(3, 2)]).double()
    x = cr.tensor(rng.normal(size=(5, 4)))
    parts = []
    for chosen in (heads[:1], heads[1:], heads):
        trunk.zero_grad()
        sum((head(cr.tanh(trunk(x))) ** 2).sum() for head in chosen).backward()
        parts.append(trunk.weight.grad.numpy())
    np.testing.assert_allclose(parts[0] + parts[1], parts[2], rtol=1e-12)
