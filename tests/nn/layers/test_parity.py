"""Each layer and loss against PyTorch's of the same name and arguments, in float64, from the same weights."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn

# name, arguments, shape of the input (several: a list)
LAYERS = [
    ("Identity", {}, (2, 3)),
    ("Linear", dict(in_features=4, out_features=3), (5, 4)),
    ("Linear", dict(in_features=4, out_features=3, bias=False), (2, 5, 4)),
    ("Linear", dict(in_features=4, out_features=3), (4,)),
    ("Bilinear", dict(in1_features=4, in2_features=3, out_features=2), [(5, 4), (5, 3)]),
    ("Bilinear", dict(in1_features=4, in2_features=3, out_features=2, bias=False), [(2, 5, 4), (2, 5, 3)]),
    ("Conv1d", dict(in_channels=4, out_channels=6, kernel_size=3), (2, 4, 9)),
    ("Conv1d", dict(in_channels=4, out_channels=6, kernel_size=3, stride=2, padding=2, groups=2), (2, 4, 9)),
    ("Conv1d", dict(in_channels=4, out_channels=6, kernel_size=4, dilation=2, padding="same"), (2, 4, 9)),
    ("Conv1d", dict(in_channels=4, out_channels=6, kernel_size=3, padding="valid", bias=False), (4, 9)),
    ("Conv2d", dict(in_channels=3, out_channels=4, kernel_size=3), (2, 3, 7, 6)),
    ("Conv2d", dict(in_channels=4, out_channels=6, kernel_size=(3, 2), stride=(2, 1), padding=(1, 2)), (2, 4, 7, 6)),
    ("Conv2d", dict(in_channels=4, out_channels=6, kernel_size=3, dilation=(2, 1), groups=2, bias=False), (2, 4, 8, 6)),
    ("Conv2d", dict(in_channels=4, out_channels=8, kernel_size=3, padding="same", groups=4), (2, 4, 5, 6)),
    ("Conv2d", dict(in_channels=3, out_channels=4, kernel_size=2), (3, 5, 5)),
    ("ConvTranspose1d", dict(in_channels=4, out_channels=6, kernel_size=3), (2, 4, 5)),
    (
        "ConvTranspose1d",
        dict(in_channels=4, out_channels=6, kernel_size=3, stride=3, padding=1, output_padding=2, groups=2, dilation=2),
        (2, 4, 5),
    ),
    ("ConvTranspose2d", dict(in_channels=3, out_channels=4, kernel_size=3), (2, 3, 4, 5)),
    (
        "ConvTranspose2d",
        dict(in_channels=4, out_channels=6, kernel_size=(3, 2), stride=2, padding=1, output_padding=1, groups=2),
        (2, 4, 4, 5),
    ),
    ("ConvTranspose2d", dict(in_channels=3, out_channels=4, kernel_size=3, dilation=2, bias=False), (2, 3, 4, 5)),
    ("MaxPool1d", dict(kernel_size=2), (2, 3, 9)),
    ("MaxPool1d", dict(kernel_size=3, stride=2, padding=1, dilation=2, ceil_mode=True), (2, 3, 10)),
    ("MaxPool2d", dict(kernel_size=2), (2, 3, 6, 7)),
    ("MaxPool2d", dict(kernel_size=(3, 2), stride=(2, 1), padding=1, ceil_mode=True), (2, 3, 6, 7)),
    ("AvgPool1d", dict(kernel_size=2), (2, 3, 9)),
    ("AvgPool1d", dict(kernel_size=3, stride=2, padding=1, ceil_mode=True, count_include_pad=False), (2, 3, 10)),
    ("AvgPool2d", dict(kernel_size=2), (2, 3, 6, 7)),
    ("AvgPool2d", dict(kernel_size=(3, 2), stride=2, padding=1, count_include_pad=False), (2, 3, 6, 7)),
    ("AvgPool2d", dict(kernel_size=3, stride=2, padding=1, divisor_override=5), (2, 3, 6, 7)),
    ("AdaptiveAvgPool1d", dict(output_size=3), (2, 3, 8)),
    ("AdaptiveAvgPool2d", dict(output_size=(3, 2)), (2, 3, 8, 7)),
    ("AdaptiveAvgPool2d", dict(output_size=(None, 1)), (2, 3, 8, 7)),
    ("AdaptiveMaxPool1d", dict(output_size=3), (2, 3, 8)),
    ("AdaptiveMaxPool2d", dict(output_size=3), (2, 3, 8, 7)),
    ("BatchNorm1d", dict(num_features=3), (5, 3)),
    ("BatchNorm1d", dict(num_features=3, momentum=None), (5, 3, 4)),
    ("BatchNorm1d", dict(num_features=3, affine=False, eps=0.1), (5, 3)),
    ("BatchNorm2d", dict(num_features=3, momentum=0.3), (4, 3, 2, 5)),
    ("BatchNorm2d", dict(num_features=3, track_running_stats=False), (4, 3, 2, 5)),
    ("LayerNorm", dict(normalized_shape=4), (3, 4)),
    ("LayerNorm", dict(normalized_shape=(2, 4), eps=0.1, bias=False), (3, 2, 4)),
    ("LayerNorm", dict(normalized_shape=4, elementwise_affine=False), (3, 2, 4)),
    ("GroupNorm", dict(num_groups=2, num_channels=4), (3, 4, 2, 3)),
    ("GroupNorm", dict(num_groups=4, num_channels=4, eps=0.1, bias=False), (3, 4, 5)),
    ("GroupNorm", dict(num_groups=1, num_channels=4, affine=False), (3, 4)),
    ("Flatten", {}, (2, 3, 4)),
    ("Flatten", dict(start_dim=0, end_dim=1), (2, 3, 4)),
    ("Unflatten", dict(dim=1, unflattened_size=(2, 3)), (2, 6, 4)),
    ("ReLU", {}, (3, 4)),
    ("ReLU6", {}, (3, 4)),
    ("LeakyReLU", dict(negative_slope=0.2), (3, 4)),
    ("ELU", dict(alpha=0.7), (3, 4)),
    ("GELU", {}, (3, 4)),
    ("GELU", dict(approximate="tanh"), (3, 4)),
    ("SiLU", {}, (3, 4)),
    ("Sigmoid", {}, (3, 4)),
    ("LogSigmoid", {}, (3, 4)),
    ("Tanh", {}, (3, 4)),
    ("Softplus", dict(beta=2.0, threshold=1.0), (3, 4)),
    ("Hardtanh", dict(min_val=-0.5, max_val=0.25), (3, 4)),
    ("Softmax", dict(dim=1), (3, 4)),
    ("LogSoftmax", dict(dim=0), (3, 4)),
    ("Dropout", dict(p=0.0), (3, 4)),
    ("Dropout1d", dict(p=0.0), (3, 4, 2)),
    ("Dropout2d", dict(p=0.0), (3, 4, 2, 2)),
]


def close(ours, theirs):
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-9, atol=1e-11)


def pair(torch, name, settings):
    """Our layer and PyTorch's with our weights, both float64."""
    ours, theirs = getattr(nn, name)(**settings).double(), getattr(torch.nn, name)(**settings).double()
    state = {key: torch.tensor(value.numpy()) for key, value in ours.state_dict().items()}
    theirs.load_state_dict(state)
    return ours, theirs


def both(torch, *arrays):
    """The arrays as our leaves and as PyTorch's."""
    return (
        [cr.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays],
        [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays],
    )


def compare(ours, theirs, xs, ts, rng):
    """Outputs, gradients of inputs and parameters, and buffers are equal."""
    y, t = ours(*xs), theirs(*ts)
    close(y, t)
    if t.requires_grad:
        g = rng.normal(size=y.shape)
        y.backward(cr.tensor(g))
        t.backward(type(t)(t.detach()).new_tensor(g))
    for x, u in zip(xs, ts):
        if u.grad is not None:
            close(x.grad, u.grad)
    gradients = dict(theirs.named_parameters())
    assert list(gradients) == [n for n, _ in ours.named_parameters()]
    for name, parameter in ours.named_parameters():
        close(parameter.grad, gradients[name].grad)
    buffers = dict(theirs.named_buffers())
    for name, buffer in ours.named_buffers():
        close(buffer, buffers[name])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name, settings, shapes", LAYERS, ids=lambda v: v if isinstance(v, str) else "")
def test_layer(torch, rng, name, settings, shapes, training):
    ours, theirs = pair(torch, name, settings)
    assert repr(ours) == repr(theirs)
    shapes = shapes if isinstance(shapes, list) else [shapes]
    for _ in range(2):  # running statistics move from batch to batch
        xs, ts = both(torch, *[rng.normal(size=s) for s in shapes])
        ours.train(training)
        theirs.train(training)
        ours.zero_grad()
        theirs.zero_grad()
        compare(ours, theirs, xs, ts, rng)


@pytest.mark.parametrize("settings", [dict(kernel_size=3, stride=2, padding=1), dict(kernel_size=(2, 3))])
def test_max_pool_indices(torch, rng, settings):
    ours, theirs = pair(torch, "MaxPool2d", settings | dict(return_indices=True))
    (x,), (t,) = both(torch, rng.normal(size=(2, 3, 7, 6)))
    (value, index), (value_t, index_t) = ours(x), theirs(t)
    close(value, value_t)
    assert index.tolist() == index_t.tolist()


@pytest.mark.parametrize("padding_idx", [None, 2, -1])
def test_embedding(torch, rng, padding_idx):
    ours, theirs = pair(torch, "Embedding", dict(num_embeddings=5, embedding_dim=3, padding_idx=padding_idx))
    assert repr(ours) == repr(theirs)
    words = rng.integers(0, 5, (4, 6))
    compare(ours, theirs, [cr.tensor(words)], [torch.tensor(words)], rng)


def test_embedding_from_pretrained(torch, rng):
    table = rng.normal(size=(4, 3))
    frozen = nn.Embedding.from_pretrained(cr.tensor(table))
    assert not frozen.weight.requires_grad
    np.testing.assert_array_equal(frozen(cr.tensor([3, 1])).numpy(), table[[3, 1]])
    assert nn.Embedding.from_pretrained(cr.tensor(table), freeze=False).weight.requires_grad


# name, arguments, what the input is, what the target is
LOSSES = [
    ("MSELoss", {}, "real", "real"),
    ("L1Loss", {}, "real", "real"),
    ("SmoothL1Loss", dict(beta=0.4), "real", "real"),
    ("HuberLoss", dict(delta=0.4), "real", "real"),
    ("CrossEntropyLoss", {}, "real", "class"),
    ("CrossEntropyLoss", dict(ignore_index=1, label_smoothing=0.2), "real", "class"),
    ("CrossEntropyLoss", dict(label_smoothing=0.2), "real", "probabilities"),
    ("NLLLoss", dict(ignore_index=1), "real", "class"),
    ("KLDivLoss", {}, "real", "probabilities"),
    ("KLDivLoss", dict(log_target=True), "real", "real"),
    ("BCELoss", {}, "probabilities", "probabilities"),
    ("BCEWithLogitsLoss", {}, "real", "probabilities"),
]
WEIGHTS = {"CrossEntropyLoss": ["weight"], "NLLLoss": ["weight"], "BCEWithLogitsLoss": ["weight", "pos_weight"]}


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")  # of KLDivLoss, as ours does
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name, settings, given, wanted", LOSSES, ids=lambda v: v if isinstance(v, str) else "")
def test_loss(torch, rng, name, settings, given, wanted, reduction, weighted):
    make = {
        "real": lambda: rng.normal(size=(6, 4)),
        "probabilities": lambda: rng.dirichlet(np.ones(4), 6),
        "class": lambda: rng.integers(0, 4, 6),
    }
    x, y = make[given](), make[wanted]()
    weights = {key: rng.uniform(0.5, 2, 4) for key in WEIGHTS.get(name, [])} if weighted else {}
    ours = getattr(nn, name)(reduction=reduction, **settings, **{k: cr.tensor(v) for k, v in weights.items()})
    theirs = getattr(torch.nn, name)(
        reduction=reduction, **settings, **{k: torch.tensor(v) for k, v in weights.items()}
    )
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    a, t = cr.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    loss, loss_t = ours(a, cr.tensor(y)), theirs(t, torch.tensor(y))
    close(loss, loss_t)
    loss.sum().backward()
    loss_t.sum().backward()
    close(a.grad, t.grad)


def test_divergence_of_items(torch, rng):
    x, y = rng.normal(size=(6, 4)), rng.dirichlet(np.ones(4), 6)
    y[2, 1] = 0
    ours, theirs = nn.KLDivLoss(reduction="batchmean"), torch.nn.KLDivLoss(reduction="batchmean")
    close(ours(cr.tensor(x), cr.tensor(y)), theirs(torch.tensor(x), torch.tensor(y)))
    given = cr.tensor(y, requires_grad=True)
    ours(cr.tensor(x), given).backward()
    assert np.isfinite(given.grad.numpy()).all()


def test_dropout_keeps_the_mean_and_drops_whole_channels():
    x = cr.ones(200, 50, 4)
    dropped = nn.Dropout(0.3)(x).numpy()
    assert set(np.round(np.unique(dropped), 4)) == {0, np.float32(round(1 / 0.7, 4))}
    assert abs(dropped.mean() - 1) < 0.02
    channels = nn.Dropout1d(0.3)(x).numpy()
    assert (channels == channels[..., :1]).all() and abs(channels.mean() - 1) < 0.05
    planes = nn.Dropout2d(0.3)(x.reshape(200, 50, 2, 2)).numpy()
    assert (planes == planes[..., :1, :1]).all()


def test_maxout_is_the_largest_of_its_maps(rng):
    layer = nn.Maxout(3, 2, pieces=4).double()
    x = cr.tensor(rng.normal(size=(5, 3)), requires_grad=True)
    weight, bias = (p.detach().numpy().reshape(2, 4, -1) for p in layer.parameters())
    maps = np.einsum("ni,oki->nok", x.detach().numpy(), weight) + bias[..., 0]
    np.testing.assert_allclose(layer(x).detach().numpy(), maps.max(-1), rtol=1e-12)
    layer(x).sum().backward()
    best = np.take_along_axis(weight[None], maps.argmax(-1)[..., None, None], 2)[:, :, 0]
    np.testing.assert_allclose(x.grad.numpy(), best.sum(1), rtol=1e-12)


def test_noisy_relu_adds_noise_of_logistic_variance():
    x = cr.full((100_000,), 2.0, requires_grad=True)
    layer = nn.NoisyReLU(cr.Generator(0))
    noise = layer(x + 98).detach().numpy() - 100  # far from the kink the rectifier changes nothing
    assert abs(noise.var() - 1) < 0.02 and abs(noise.mean()) < 0.02
    y = layer(x)
    y.sum().backward()
    assert (x.grad.numpy() == (y.detach().numpy() > 0)).all()
    assert (layer.eval()(cr.tensor([-1.0, 2.0])).numpy() == [0, 2]).all()


def test_k_max_pool_keeps_the_order(rng):
    x = rng.permuted(np.arange(24.0).reshape(2, 12), axis=1)
    y = nn.KMaxPool(5)(cr.tensor(x)).numpy()
    for row, kept in zip(x, y):
        assert kept.tolist() == [v for v in row if v in sorted(row)[-5:]]
    leaf = cr.tensor(x, requires_grad=True)
    nn.KMaxPool(5)(leaf).sum().backward()
    assert (leaf.grad.numpy() == np.isin(x, y)).all()


def test_k_max_pool_of_regions():
    x = cr.tensor([[3.0, 1.0, 2.0, 9.0, 8.0, 7.0]])
    assert nn.KMaxPool(2, regions=2)(x).tolist() == [[3.0, 2.0, 9.0, 8.0]]
