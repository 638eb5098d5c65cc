"""Training runs: figures, early stopping, checkpoints, interrupts, and resuming to the same numbers."""

import csv
import signal
import subprocess
import sys

import numpy as np
import pytest

import chainrule as cr
from chainrule import data, nn, optim
from chainrule.nn import functional as F
from chainrule.nn.trainer import Trainer, accuracy


def points(n=60):
    x = cr.tensor(np.random.default_rng(0).standard_normal((n, 4)).astype(np.float32))
    return data.TensorDataset(x, (x[:, 0] * x[:, 1] > 0).long())


def build(out=None, model=None, schedule="epoch", prefetch=0, **options):
    """A small training that draws random numbers everywhere: weights, dropout, order."""
    cr.manual_seed(1)
    model = model or nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    loader = data.DataLoader(points(), 16, shuffle=True, generator=cr.Generator(2), prefetch=prefetch)
    if schedule == "epoch":
        scheduler = optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    else:
        scheduler = optim.lr_scheduler.OneCycleLR(optimizer, 0.05, epochs=6, steps_per_epoch=len(loader))
    options = {"verbose": False, "clip_norm": 1.0, "scheduler": scheduler, "schedule_every": schedule, **options}
    return Trainer(model, F.cross_entropy, optimizer, out=out, **options), loader, data.DataLoader(points(20), 7)


def figures(trainer):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in trainer.history]


def bits(trainer):
    return {name: t.detach().numpy().tobytes() for name, t in trainer.model.state_dict().items()}


class Stop:
    """Calls the model, and raises in the n-th training step."""

    def __init__(self, model, step, error):
        self.forward, self.left, self.error = model.forward, step, error
        model.forward = self

    def __call__(self, x):
        if cr.is_grad_enabled():
            self.left -= 1
            if self.left < 0:
                raise self.error
        return self.forward(x)


def test_it_learns_and_says_how(tmp_path):
    trainer, train, validation = build(tmp_path, patience=50)
    history = trainer.fit(train, validation, epochs=6)
    assert [row["epoch"] for row in history] == list(range(1, 7))
    assert history[-1]["loss"] < history[0]["loss"]
    assert [row["lr"] for row in history] == pytest.approx([0.05, 0.05, 0.025, 0.025, 0.0125, 0.0125])
    with (tmp_path / "log.csv").open() as file:
        assert [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)] == history
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.safetensors", "last.safetensors", "log.csv"]

    best = min(range(6), key=lambda i: history[i]["val_loss"])
    trainer.model.load_state_dict(cr.load(tmp_path / "best.safetensors"))
    assert trainer.evaluate(validation)["loss"] == history[best]["val_loss"]


def test_evaluate_means_over_samples_and_leaves_the_model_as_it_was():
    trainer, _, validation = build()
    trainer.model.train()
    found = trainer.evaluate(validation)  # batches of 7, 7 and 6
    assert trainer.model.training
    trainer.model.eval()
    x, y = points(20).tensors
    with cr.no_grad():
        output = trainer.model(x)
        assert found["loss"] == pytest.approx(F.cross_entropy(output, y).item(), rel=1e-5)
        assert found["accuracy"] == pytest.approx(accuracy(output, y).item())


def test_metrics_of_ones_own():
    x = cr.randn(32, 1, generator=cr.Generator(0))
    loader = data.DataLoader(data.TensorDataset(x, 3 * x), 8)
    model = nn.Linear(1, 1)
    metrics = {"worst": lambda output, y: (output - y).abs().max()}
    trainer = Trainer(model, F.mse_loss, optim.SGD(model.parameters(), lr=0.1), metrics=metrics, verbose=False)
    history = trainer.fit(loader, epochs=10)
    assert set(history[0]) == {"epoch", "loss", "worst", "lr", "seconds"}
    assert history[-1]["worst"] < 0.2


@pytest.mark.parametrize("schedule", ["epoch", "batch"])
@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("step", [0, 1, 9, 15])
def test_interrupted_and_resumed_equals_uninterrupted_to_the_bit(tmp_path, schedule, prefetch, step):
    whole, train, validation = build(tmp_path / "whole", schedule=schedule, prefetch=prefetch)
    whole.fit(train, validation, epochs=6)

    first, train, validation = build(tmp_path / "parts", schedule=schedule, prefetch=prefetch)
    Stop(first.model, step, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        first.fit(train, validation, epochs=6)

    second, train, validation = build(tmp_path / "parts", schedule=schedule, prefetch=prefetch)
    cr.manual_seed(99)  # whatever was drawn meanwhile
    train.generator.manual_seed(98)
    second.fit(train, validation, epochs=6, resume=True)
    assert figures(second) == figures(whole)
    assert bits(second) == bits(whole)
    ours, theirs = (cr.load(tmp_path / name / "last.safetensors") for name in ("parts", "whole"))
    assert ours["generators"] == theirs["generators"]
    assert all(
        (t == theirs["optimizer"]["state"][i][name]).all()
        for i, entries in ours["optimizer"]["state"].items()
        for name, t in entries.items()
    )


def test_saying_what_happens_changes_no_number(tmp_path, capsys):
    quiet, train, validation = build()
    quiet.fit(train, validation, epochs=3)
    loud, train, validation = build(tmp_path, verbose=True)
    loud.fit(train, validation, epochs=3)
    assert bits(loud) == bits(quiet)
    said = capsys.readouterr().out
    assert f"Sequential: 58 parameters, on cpu with {cr.get_num_threads()} threads." in said
    assert "3 epochs of 4 steps; about " in said
    assert "epoch   3/3  loss " in said and "val accuracy " in said


def test_more_epochs_are_added_by_resuming(tmp_path):
    trainer, train, validation = build(tmp_path)
    trainer.fit(train, validation, epochs=2)
    again, train, validation = build(tmp_path)
    assert len(again.fit(train, validation, epochs=2, resume=True)) == 2
    assert len(again.fit(train, validation, epochs=3)) == 3


def test_early_stopping(capsys):
    trainer, train, validation = build(patience=2, verbose=True)
    losses = iter([1.0, 0.5, 0.7, 0.6, 0.1])
    trainer.evaluate = lambda loader: {"loss": next(losses)}
    assert len(trainer.fit(train, validation, epochs=9)) == 4
    assert "Stopped early: no lower loss than 0.5000 for 2 epochs." in capsys.readouterr().out


def test_early_stopping_survives_resuming(tmp_path):
    trainer, train, validation = build(tmp_path, patience=2)
    losses = iter([0.5, 0.7])
    trainer.evaluate = lambda loader: {"loss": next(losses)}
    trainer.fit(train, validation, epochs=2)
    again, train, validation = build(tmp_path, patience=2)
    again.evaluate = lambda loader: {"loss": 0.6}
    assert len(again.fit(train, validation, epochs=9, resume=True)) == 3


@pytest.mark.parametrize("folder", [True, False])
def test_an_interrupt_says_what_is_kept(tmp_path, capsys, folder):
    trainer, train, _ = build(tmp_path if folder else None, verbose=True)
    Stop(trainer.model, 9 + 4, KeyboardInterrupt)  # four batches time the model first
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(train, epochs=6)
    said = capsys.readouterr().out
    if folder:
        assert f"Interrupted in epoch 3. {tmp_path / 'last.safetensors'} holds the 2 whole epochs before it" in said
        assert len(cr.load(tmp_path / "last.safetensors")["history"]) == 2
    else:
        assert "Interrupted in epoch 3. Nothing was saved: give the Trainer a folder, out=…" in said


SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
sys.path.insert(0, sys.argv[1])
from test_trainer import build
trainer, train, validation = build(sys.argv[2])
original = trainer._epoch
trainer._epoch = lambda *args: (original(*args), print("epoch", flush=True))
trainer.fit(train, validation, epochs=100_000)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_process_leaves_a_checkpoint_to_resume(tmp_path, rng, how):
    command = [sys.executable, "-c", SCRIPT, __file__.rpartition("/")[0], str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(int(rng.integers(2, 6))):
            process.stdout.readline()
        process.send_signal(how)
        epochs = process.stdout.read().count("epoch")
    assert process.returncode != 0
    trainer, train, validation = build(tmp_path)
    done = len(cr.load(tmp_path / "last.safetensors")["history"])
    assert done >= epochs
    assert len(trainer.fit(train, validation, epochs=done + 1, resume=True)) == done + 1


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_not_finite_names_the_step(tmp_path, value):
    trainer, train, _ = build(tmp_path)
    count = iter(range(100))
    trainer.loss = lambda output, y: F.cross_entropy(output, y) * (float(value) if next(count) == 5 else 1.0)
    with pytest.raises(
        FloatingPointError, match=f"became {value} in epoch 2, step 2, .* this step changed none.*cr.detect_anomaly"
    ):
        trainer.fit(train, epochs=3)
    assert all(np.isfinite(p.detach().numpy()).all() for p in trainer.model.parameters())
    assert len(cr.load(tmp_path / "last.safetensors")["history"]) == 1


def test_an_error_within_a_step_leaves_the_checkpoint(tmp_path):
    trainer, train, _ = build(tmp_path)
    Stop(trainer.model, 5, RuntimeError("planted"))
    with pytest.raises(RuntimeError, match="planted"):
        trainer.fit(train, epochs=3)
    assert len(cr.load(tmp_path / "last.safetensors")["history"]) == 1


def test_what_cannot_be_resumed(tmp_path):
    trainer, train, _ = build()
    with pytest.raises(ValueError, match="resume=True, but the Trainer has no folder. Make it with out="):
        trainer.fit(train, resume=True)
    trainer, train, _ = build(tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint .*last.safetensors. Train once without resume"):
        trainer.fit(train, resume=True)
    cr.save({"model": 1}, tmp_path / "last.safetensors")
    with pytest.raises(ValueError, match="is no checkpoint of a Trainer: optimizer, .* missing"):
        trainer.fit(train, resume=True)
    trainer.fit(train, epochs=1)
    other, train, _ = build(tmp_path, generators=[cr.Generator(0)])
    with pytest.raises(ValueError, match="saved with 2 random generators .*; this Trainer has 3 .*Build it as it was"):
        other.fit(train, resume=True)
    wider, train, _ = build(tmp_path, model=nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Dropout(0.3), nn.Linear(9, 2)))
    before = bits(wider)
    with pytest.raises(ValueError):
        wider.fit(train, epochs=2, resume=True)
    assert bits(wider) == before


def test_a_schedule_of_another_length_is_refused_at_once():
    trainer, train, _ = build(schedule="batch")
    with pytest.raises(ValueError, match="epochs=7 of 4 batches, but .* laid out for 24 steps. Pass epochs=6"):
        trainer.fit(train, epochs=7)
    with pytest.raises(ValueError, match="schedule_every='step', which is no moment it knows"):
        build(schedule_every="step")


def test_loaders_without_batches():
    trainer, train, _ = build()
    empty = data.DataLoader(points(3), 16, drop_last=True)
    with pytest.raises(ValueError, match="loader without batches. Look at its dataset's length and drop_last"):
        trainer.fit(empty)
    with pytest.raises(ValueError, match="gave no batches to average over"):
        trainer.fit(train, empty, epochs=1)


def test_regression_reports_no_accuracy(tmp_path):
    x = cr.linspace(0, 1, 8).reshape(8, 1)
    model = nn.Linear(1, 1)
    trainer = Trainer(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1), verbose=False)
    history = trainer.fit(data.DataLoader(data.TensorDataset(x, 2 * x), batch_size=4), epochs=1)
    assert "accuracy" not in history[-1] and history[-1]["loss"] > 0


def test_evaluating_leaves_every_mode_as_it_was():
    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5))
    model.train()
    model[1].eval()
    trainer = Trainer(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1), verbose=False)
    trainer.evaluate(data.DataLoader(data.TensorDataset(cr.ones(4, 1), cr.ones(4, 1)), batch_size=2))
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
    with pytest.raises(ValueError):
        trainer.evaluate(data.DataLoader(data.TensorDataset(cr.ones(4, 3), cr.ones(4, 1)), batch_size=2))
    assert (model.training, model[0].training, model[1].training) == (True, True, False)


def test_models_of_another_form():
    """`output` is what every part of the trainer asks: training, validation, and the estimate of the time."""

    class Pairs(Trainer):
        def output(self, x):
            return self.model(*x)

    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.map = nn.Linear(2, 2)

        def forward(self, a, b):
            return self.map(cr.stack([a, b], 1) * (a * b)[:, None])

    x = cr.randn(64, 2, generator=cr.Generator(0))
    batch = (x[:, 0], x[:, 1]), (x[:, 0] > 0).long()
    model = Product()
    trainer = Pairs(model, F.cross_entropy, optim.Adam(model.parameters(), lr=0.1), verbose=True)
    history = trainer.fit([batch] * 4, [batch], epochs=3)
    assert history[-1]["val_loss"] < history[0]["loss"]


def test_something_can_be_done_after_each_epoch(tmp_path):
    rows = []

    def look(row):
        kept = cr.load(tmp_path / "last.safetensors")["history"]
        rows.append((row, len(kept), (tmp_path / "log.csv").exists()))

    trainer, train, _ = build(tmp_path, on_epoch=look)
    history = trainer.fit(train, epochs=3)
    assert rows == [(row, number + 1, True) for number, row in enumerate(history)]
