"""Layers, models, training and data on the GPU: what the CPU gives, to rounding."""

import copy

import numpy as np
import pytest

import chainrule as cr
from chainrule import data, nn, optim

f64 = cr.float64
pytestmark = pytest.mark.usefixtures("cpu_by_default")  # models and data are made on the CPU and moved


def images(*shape):
    return lambda: (cr.randn(*shape, dtype=f64),)


def words(*shape):
    return lambda: (cr.randint(0, 5, shape),)


LAYERS = {
    "Linear": (lambda: nn.Linear(4, 3), images(2, 4)),
    "Bilinear": (lambda: nn.Bilinear(4, 3, 2), lambda: (cr.randn(2, 4, dtype=f64), cr.randn(2, 3, dtype=f64))),
    "Conv2d": (lambda: nn.Conv2d(2, 3, 3, padding=1), images(2, 2, 5, 6)),
    "Conv2d grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2, stride=2), images(2, 4, 7, 7)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 3, 3, stride=2), images(1, 2, 4, 4)),
    "Conv1d": (lambda: nn.Conv1d(2, 3, 3), images(2, 2, 8)),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, padding=1), images(2, 2, 7, 7)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(3), images(1, 2, 7, 5)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3), images(4, 3, 2, 2)),
    "LayerNorm": (lambda: nn.LayerNorm(6), images(3, 6)),
    "GELU": (nn.GELU, images(3, 4)),
    "Softmax": (lambda: nn.Softmax(-1), images(3, 4)),
    "Embedding": (lambda: nn.Embedding(5, 3, padding_idx=0), words(2, 4)),
    "RNN": (lambda: nn.RNN(3, 4, num_layers=2, bidirectional=True), images(5, 2, 3)),
    "LSTM": (lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True), images(5, 2, 3)),
    "LSTM projected": (lambda: nn.LSTM(3, 4, proj_size=2), images(5, 2, 3)),
    "GRU": (lambda: nn.GRU(3, 4, batch_first=True), images(2, 5, 3)),
    "LSTMCell": (lambda: nn.LSTMCell(3, 4), images(2, 3)),
    "LeNet5": (nn.models.LeNet5, images(2, 1, 32, 32)),
}


def tensors(out):
    return [out] if isinstance(out, cr.Tensor) else [t for o in out for t in tensors(o)]


def host(t):
    return t.detach().cpu().numpy()


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_what_the_cpu_does(name):
    make, inputs = LAYERS[name]
    own, given = make().double(), inputs()
    other = copy.deepcopy(own).to("cuda")
    results = []
    for layer, device in ((own, "cpu"), (other, "cuda")):
        xs = [x.detach().to(device) for x in given]
        xs = [x.requires_grad_() if x.is_floating_point() else x for x in xs]
        outs = tensors(layer(*xs))
        assert {y.device for y in outs} == {device}
        cr.stack([(y * y * 0.5 + y).sum() for y in outs]).sum().backward()
        grads = [x.grad for x in xs if x.is_floating_point()] + [p.grad for p in layer.parameters()]
        results.append([host(t) for t in [*outs, *grads, *layer.buffers()]])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-9)


def test_packed_sequences():
    layer = nn.LSTM(3, 4, bidirectional=True).double()
    sequences = [cr.randn(n, 3, dtype=f64) for n in (2, 5, 3)]
    outs = []
    for device in ("cpu", "cuda"):
        packed = nn.utils.rnn.pack_sequence([s.to(device) for s in sequences], enforce_sorted=False)
        out, _ = layer.to(device)(packed)
        padded, lengths = nn.utils.rnn.pad_packed_sequence(out)
        assert padded.device == device and lengths.tolist() == [2, 5, 3]
        outs.append(host(padded))
    np.testing.assert_allclose(outs[1], outs[0], rtol=1e-10, atol=1e-12)


def test_modules_move_with_their_optimiser():
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(cr.ones(1, 2)).sum().backward()
    optimizer.step()
    model.cuda()
    assert model.weight.device == model.weight.grad.device == "cuda"
    with pytest.raises(ValueError, match="holds state for a parameter that is now .* on cuda; .*optimizer.state_dict"):
        optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step()
    state = model.cpu().state_dict()
    other = nn.Linear(2, 1).to("cuda")
    other.load_state_dict(state)
    assert other.weight.device == "cuda" and other.weight.tolist() == model.weight.tolist()


def test_batches_arrive_one_ahead():
    x, y = cr.arange(10.0), cr.arange(10)
    loader = data.DataLoader(data.TensorDataset(x, y), batch_size=3, device="cuda", prefetch=2)
    seen = list(loader)
    assert [b.tolist() for b, _ in seen] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert {t.device for batch in seen for t in batch} == {"cuda"}
    batch = {"x": x, "names": ["a"], "pair": (x, y)}
    got = next(iter(data.DataLoader([batch], collate_fn=lambda samples: samples[0], device="cuda")))
    assert got["x"].device == got["pair"][1].device == "cuda" and got["names"] == ["a"]


@pytest.mark.parametrize("capture", [False, True])
def test_a_trainer_trains_where_the_model_is(tmp_path, capsys, capture):
    histories = []
    for device in ("cpu", "cuda"):
        cr.manual_seed(1)
        x = cr.randn(40, 3)
        train = data.DataLoader(data.TensorDataset(x, (x.sum(1) > 0).long()), batch_size=8, shuffle=True)
        model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).to(device)
        trainer = nn.Trainer(
            model,
            nn.CrossEntropyLoss(),
            optim.Adam(model.parameters(), lr=0.05),
            out=tmp_path / device,
            capture=capture,
        )
        histories.append(trainer.fit(train, validation=train, epochs=3))
    said = capsys.readouterr()
    assert "on cuda (" in said.out + said.err
    for a, b in zip(*histories, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4) and b["val_loss"] == pytest.approx(
            a["val_loss"], rel=1e-4
        )
    assert nn.load(tmp_path / "cuda" / "best.safetensors").keys() == model.state_dict().keys()


def test_momenta_that_a_schedule_moves_are_those_of_the_cpu(tmp_path):
    """A graph would hold them as they were when it was captured."""
    ends = []
    for device in ("cpu", "cuda"):
        cr.manual_seed(1)
        x = cr.randn(40, 3)
        train = data.DataLoader(data.TensorDataset(x, (x.sum(1) > 0).long()), batch_size=8)
        model = nn.Linear(3, 2).to(device)
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
        moving = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
        loss, settings = nn.CrossEntropyLoss(), dict(scheduler=moving, schedule_every="batch")
        nn.Trainer(model, loss, optimizer, out=tmp_path / device, **settings).fit(train, epochs=2)
        ends.append(model.weight.detach().cpu().numpy())
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-4)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_states_are_carried_from_replay_to_replay(kind):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.out = kind(1, 6), nn.Linear(6, 1)

        def forward(self, x, state):
            hidden, state = self.cell(x.unsqueeze(2), state)
            return self.out(hidden).squeeze(2), state

    text, ends = cr.arange(61.0) * 0.7, []
    for device, capture in (("cpu", False), ("cuda", False), ("cuda", True)):
        cr.manual_seed(2)
        model = Net().to(device)
        trainer = nn.StatefulTrainer(
            model, nn.MSELoss(), optim.Adam(model.parameters(), lr=0.01), capture=capture, verbose=False
        )
        streams = data.Streams(text.sin(), streams=2, window=5)
        history = trainer.fit(streams, streams, epochs=3)
        ends.append([row[name] for row in history for name in ("loss", "val_loss")])
    assert ends[1] == ends[2]
    assert ends[0] == pytest.approx(ends[1], rel=1e-4)


@pytest.mark.parametrize("stateful", [False, True])
def test_a_training_page_measures_steps_that_are_not_replayed(tmp_path, monkeypatch, stateful):
    from chainrule.nn.viz import log, run

    monkeypatch.setattr(log, "ROWS", 8)  # so that steps between are left to the graph
    lengths = []
    for page in (None, tmp_path / "run.html"):
        cr.manual_seed(1)
        if stateful:
            model = Carrying().to("cuda")
            train = data.Streams((cr.arange(101.0) * 0.7).sin(), streams=2, window=5)
        else:
            x = cr.randn(40, 1)
            model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)).to("cuda")
            train = data.DataLoader(data.TensorDataset(x, x.sin()), batch_size=4, shuffle=True)
        kind = nn.StatefulTrainer if stateful else nn.Trainer
        trainer = kind(
            model, nn.MSELoss(), optim.Adam(model.parameters(), 0.01), clip_norm=1.0, viz=page, verbose=False
        )
        replayed, calls = trainer._replayed, []
        trainer._replayed = lambda *args, replayed=replayed, calls=calls: calls.append(1) or replayed(*args)
        history = trainer.fit(train, train, epochs=3)
        lengths.append((len(calls), [row[name] for row in history for name in ("loss", "val_loss")]))
    known = run.read(page)
    assert known["every"] == 4 and [row[0] for row in known["rows"]] == list(range(1, 31, 4))
    assert (lengths[0][0], lengths[1][0]) == (30, 22)
    assert lengths[0][1] == lengths[1][1]
    assert known["no_look"] == "" and all(value > 0 for row in known["rows"] for value in row[2:])


class Carrying(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.GRU(1, 6), nn.Linear(6, 1)

    def forward(self, x, state):
        hidden, state = self.cell(x.unsqueeze(2), state)
        return self.out(hidden).squeeze(2), state
