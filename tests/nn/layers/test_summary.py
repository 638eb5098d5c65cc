"""summary: rows, totals, text, and that it leaves nothing behind."""

import pytest

import chainrule as cr
from chainrule import nn


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.gain = nn.Parameter(cr.ones(3), requires_grad=False)

    def forward(self, x, y):
        return self.fc(self.fc(x)) * self.gain + y


def test_rows_and_totals():
    table = nn.summary(Twice(), cr.ones(2, 3), cr.ones(2, 3))
    assert [(r.name, r.kind, r.output, r.parameters, r.flops) for r in table.rows] == [
        ("Twice.fc", "Linear", "(2, 3)", 12, 42),
        ("Twice.fc", "Linear", "(2, 3)", 0, 42),
        ("Twice", "Twice", "(2, 3)", 3, None),
    ]
    assert (table.parameters, table.trainable, table.flops) == (15, 12, 84)
    assert "trainable 12, frozen 3" in str(table)


@pytest.mark.parametrize(
    "layer, shape, flops",
    [
        (nn.Linear(4, 3, bias=False), (2, 5, 4), 2 * 5 * 3 * 2 * 4),
        (nn.Conv2d(4, 6, 3, groups=2), (2, 4, 8, 8), 2 * 6 * 36 * (2 * 2 * 9 + 1)),
        (nn.Conv1d(4, 6, 3, bias=False), (4, 8), 6 * 6 * 2 * 4 * 3),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (1, 4, 5, 5), 25 * 4 * 6 * 4 * 2 + 6 * 100),
        (nn.MaxPool2d(2), (1, 3, 8, 8), 3 * 64),
        (nn.AvgPool1d(3), (1, 2, 9), 18),
        (nn.AdaptiveAvgPool2d(1), (1, 3, 8, 8), 3 * 64),
        (nn.BatchNorm2d(3), (1, 3, 8, 8), 2 * 3 * 64),
        (nn.LayerNorm(4), (2, 4), 64),
        (nn.ReLU(), (2, 4), 8),
        (nn.Flatten(), (2, 4), 0),
        (nn.RNNCell(3, 4, bias=False), (2, 3), 2 * (2 * 4 * (3 + 4) + 2 * 4)),
        (nn.RNN(3, 4), (7, 2, 3), 14 * (2 * 4 * (3 + 4) + 2 * 4 + 2 * 4)),
        (nn.LSTM(3, 4, peephole=True), (7, 2, 3), 14 * (2 * 16 * (3 + 4) + 2 * 16 + 2 * 12 + 13 * 4)),
        (nn.LSTM(3, 4, proj_size=2), (7, 3), 7 * (2 * 16 * (3 + 2) + 2 * 16 + 2 * 2 * 4 + 13 * 4)),
        (
            nn.GRU(3, 4, 2, bidirectional=True),
            (7, 2, 3),
            14 * 2 * (2 * 12 * (3 + 4) + 2 * 12 * (8 + 4) + 2 * (2 * 12 + 10 * 4)),
        ),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_flops(layer, shape, flops):
    assert nn.summary(layer, shape).flops == flops


def test_flops_of_bilinear():
    assert nn.summary(nn.Bilinear(3, 4, 2), cr.ones(5, 3), cr.ones(5, 4)).flops == 5 * 2 * (2 * 3 * 5 + 1)


def test_flops_of_packed_sequences_count_their_steps():
    net = nn.LSTM(3, 4)
    packed = nn.utils.rnn.pack_sequence([cr.ones(5, 3), cr.ones(2, 3)])
    assert nn.summary(net, packed).flops == nn.summary(net, (7, 3)).flops


def test_an_input_is_asked_for():
    with pytest.raises(TypeError, match=r"received Linear without an input.*pass the shape of an input"):
        nn.summary(nn.Linear(2, 3))


def test_published_costs():
    """ResNet-50 is published with 4.09 billion multiply-adds in convolutions and the last layer, at 224 × 224."""
    macs = {"Conv2d": 0, "Linear": 0}
    for row in nn.summary(nn.models.ResNet(18), (1, 3, 224, 224)).rows:
        if row.kind in macs:
            macs[row.kind] += row.flops // 2
    assert sum(macs.values()) == pytest.approx(1.814e9, rel=0.001)


def test_nothing_is_left_behind():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout())
    net[1].eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = cr.default_generator.get_state()
    nn.summary(net, (4, 3))
    with pytest.raises(ValueError, match="in_features=3"):
        nn.summary(net, (4, 5))
    assert cr.default_generator.get_state() == state
    assert [m.training for m in net.modules()] == [True, True, False, True]
    assert all((net.state_dict()[k] == v).all() for k, v in before.items())
    assert not any(m._forward_hooks for m in net.modules())
    assert all(p.grad is None for p in net.parameters())


def test_text():
    text = str(nn.summary(nn.Sequential(nn.Linear(4, 3), nn.Flatten()), (2, 4)))
    assert text == "\n".join(
        [
            "layer         type     output  parameters  FLOPs",
            "------------------------------------------------",
            "Sequential.0  Linear   (2, 3)          15     54",
            "Sequential.1  Flatten  (2, 3)           0",
            "------------------------------------------------",
            "total                                  15     54",
            "trainable 15, frozen 0; 0.00 MiB in float32",
        ]
    )


def test_double_models_are_run_in_double():
    assert nn.summary(nn.Linear(2, 2).double(), (1, 2)).flops == 10
