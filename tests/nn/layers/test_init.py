"""First values: the formulas against their definition and PyTorch's bounds."""

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn

init = nn.init


def fans(shape):
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


@pytest.mark.parametrize("shape", [(300, 200), (60, 40, 3, 3)])
def test_spread(shape):
    fan_in, fan_out = fans(shape)
    cases = [
        (init.uniform_, dict(a=-1, b=2), math.sqrt(9 / 12)),
        (init.normal_, dict(mean=1.0, std=0.3), 0.3),
        (init.xavier_uniform_, dict(gain=2.0), 2 * math.sqrt(2 / (fan_in + fan_out))),
        (init.xavier_normal_, dict(gain=2.0), 2 * math.sqrt(2 / (fan_in + fan_out))),
        (init.kaiming_uniform_, dict(a=0.5), math.sqrt(2 / 1.25 / fan_in)),
        (init.kaiming_normal_, dict(mode="fan_out", nonlinearity="relu"), math.sqrt(2 / fan_out)),
    ]
    for fill, settings, std in cases:
        t = cr.empty(shape)
        assert fill(t, **settings, generator=cr.Generator(0)) is t
        assert abs(t.std().item() / std - 1) < 0.02, fill.__name__
        again = fill(cr.empty(shape), **settings, generator=cr.Generator(0))
        assert (again == t).all()


@pytest.mark.parametrize("dtype", [cr.float32, cr.float64])
def test_trunc_normal(dtype):
    t = init.trunc_normal_(cr.empty(100_000, dtype=dtype), mean=1.0, std=2.0, a=0.0, b=2.0).numpy()
    assert t.min() >= 0 and t.max() <= 2 and abs(t.mean() - 1) < 0.02
    z = 0.5  # half the interval in units of std
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    variance = 1 - 2 * z * density / math.erf(z / math.sqrt(2))
    assert abs(t.std() / (2 * math.sqrt(variance)) - 1) < 0.02


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (4, 4), (3, 2, 5)])
def test_orthogonal(shape):
    w = init.orthogonal_(cr.empty(shape, dtype=cr.float64), gain=2.0).numpy().reshape(shape[0], -1)
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-12)


def test_orthogonal_of_nothing():
    assert init.orthogonal_(cr.empty(0, 3)).shape == (0, 3)


@pytest.mark.parametrize("shape, groups", [((4, 2, 3), 2), ((3, 5, 3, 5), 1), ((6, 2, 4, 4), 3)])
def test_constants_against_pytorch(torch, shape, groups):
    for name, settings in [
        ("constant_", dict(val=0.3)),
        ("ones_", {}),
        ("zeros_", {}),
        ("dirac_", dict(groups=groups)),
    ]:
        ours = getattr(init, name)(cr.empty(shape, dtype=cr.float64), **settings)
        theirs = getattr(torch.nn.init, name)(torch.empty(shape, dtype=torch.float64), **settings)
        assert ours.tolist() == theirs.tolist(), name
    assert init.eye_(cr.empty(2, 3)).tolist() == torch.nn.init.eye_(torch.empty(2, 3)).tolist()


@pytest.mark.parametrize(
    "name", ["linear", "conv2d", "conv_transpose1d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]
)
def test_gain_against_pytorch(torch, name):
    assert init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name), rel=1e-15)
    assert init.calculate_gain("leaky_relu", 0.3) == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", 0.3))


@pytest.mark.parametrize(
    "make, bound",
    [
        (lambda: nn.Linear(25, 400), 1 / 5),
        (lambda: nn.Conv2d(4, 60, 5), 1 / 10),
        (lambda: nn.Conv1d(8, 60, 8, groups=4), 1 / 4),
        (lambda: nn.ConvTranspose2d(60, 4, 5), 1 / 10),
        (lambda: nn.Bilinear(25, 9, 30), 1 / 5),
    ],
)
def test_default_start_is_pytorchs(make, bound):
    layer = make()
    for p in layer.parameters():
        assert np.abs(p.detach().numpy()).max() <= bound
    assert np.abs(layer.weight.detach().numpy()).max() > 0.99 * bound
    before = layer.weight.detach().clone()
    layer.reset_parameters()
    assert (layer.weight != before).any()


def test_start_of_embedding_and_norms():
    table = nn.Embedding(1000, 20, padding_idx=3).weight.detach().numpy()
    assert (table[3] == 0).all() and abs(table.std() - 1) < 0.02
    norm = nn.BatchNorm1d(3)
    norm(cr.randn(5, 3))
    norm.weight.data = cr.zeros(3)
    norm.reset_parameters()
    assert (norm.weight == 1).all() and (norm.running_mean == 0).all() and norm.num_batches_tracked.item() == 0
    layer = nn.LayerNorm(3)
    layer.bias.data = cr.ones(3)
    layer.reset_parameters()
    assert (layer.bias == 0).all() and (layer.weight == 1).all()


def test_empty_layers_start():
    assert nn.Linear(0, 3).weight.shape == (3, 0) and (nn.Linear(0, 3).bias == 0).all()
    assert nn.Linear(3, 0)(cr.ones(2, 3)).shape == (2, 0)


def test_dtype_and_seed():
    assert nn.Linear(2, 3, dtype=cr.float64).weight.dtype == cr.float64
    assert nn.Conv2d(1, 2, 3, dtype=cr.float64).bias.dtype == cr.float64
    assert nn.BatchNorm2d(2, dtype=cr.float64).running_var.dtype == cr.float64
    cr.manual_seed(3)
    a = nn.Linear(5, 5).weight.tolist()
    cr.manual_seed(3)
    assert nn.Linear(5, 5).weight.tolist() == a
