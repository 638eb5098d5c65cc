"""`Trainer(viz="run.html")`: the page's numbers are the training's, the training's are untouched, the page works."""

import base64
import json
import subprocess
import sys

import numpy as np
import pytest

import chainrule as cr
from chainrule import data, nn, optim
from chainrule.nn import functional as F
from chainrule.nn.viz import log as logs, run
from chainrule.nn.viz.log import Log

NAME = "</script><img src=x onerror=alert(1)>\"'&😀"


def points(n=48):
    x = np.random.default_rng(0).standard_normal((n, 4)).astype(np.float32)
    return data.TensorDataset(cr.tensor(x), cr.tensor((x[:, 0] * x[:, 1] > 0).astype(np.int64)))


def build(page, out=None, prefetch=0, rate=0.1, **options):
    """A small training that draws random numbers everywhere: weights, dropout, order."""
    cr.manual_seed(1)
    layers = {"first": nn.Linear(4, 8), "act": nn.Tanh(), "drop": nn.Dropout(0.3), "last": nn.Linear(8, 2)}
    model = nn.Sequential(layers)
    optimizer = optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    loader = data.DataLoader(points(), 8, shuffle=True, generator=cr.Generator(2), prefetch=prefetch)
    trainer = nn.Trainer(
        model, F.cross_entropy, optimizer, out=out, viz=page, verbose=False, **{"clip_norm": 0.5, **options}
    )
    return trainer, loader, data.DataLoader(points(20), 7)


def images(page=None, epochs=1, **options):
    """A small convolutional net on coloured pictures, trained."""
    cr.manual_seed(3)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((16, 3, 9, 9)).astype("f4"), rng.integers(0, 2, 16)
    layers = {"conv": nn.Conv2d(3, 5, 3), "relu": nn.ReLU(), "pool": nn.MaxPool2d(2), "flat": nn.Flatten()}
    model = nn.Sequential(layers | {"out": nn.Linear(45, 2)})
    trainer = nn.Trainer(
        model, F.cross_entropy, optim.Adam(model.parameters(), 0.01), viz=page, verbose=False, **options
    )
    loader = data.DataLoader(data.TensorDataset(cr.tensor(x), cr.tensor(y)), 4)
    trainer.fit(loader, loader, epochs)
    return trainer, cr.tensor(x)


def length(arrays):
    return float(np.sqrt(sum((a.astype(np.float64) ** 2).sum() for a in arrays)))


def by_hand(epochs, clip=0.5):
    """What the trainer does, step by step in NumPy terms: [step, rate, norm, gradients, updates, weights], losses."""
    trainer, loader, _ = build(None)
    model, rows, losses = trainer.model, [], []
    parts = [[model.first.weight, model.first.bias], [model.last.weight, model.last.bias]]
    for _ in range(epochs):
        model.train()
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            trainer.optimizer.zero_grad()
            loss.backward()
            losses.append(loss.item())
            gradients = [length([p.grad.numpy() for p in part]) for part in parts]
            total = float(np.hypot(*gradients))
            before = [[p.detach().numpy().copy() for p in part] for part in parts]
            if total > clip:
                for part in parts:
                    for p in part:
                        p.grad = p.grad * (clip / total)
            trainer.optimizer.step()
            moved = [length([p.detach().numpy() - old for p, old in zip(*pair)]) for pair in zip(parts, before)]
            rows.append([len(losses), 0.1, total, *gradients, *moved, *map(length, before)])
    return rows, losses


def decoded(entry):
    cells = np.frombuffer(base64.b64decode(entry["data"]), np.int8).astype(np.float64)
    return cells.reshape(entry["tiles"], entry["height"], entry["width"]) / 127 * entry["scale"]


def figures(known):
    """What a page knows, without the time."""
    rows = [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in known["epochs"]]
    return {k: known[k] for k in ("every", "done", "losses", "rows", "looks", "parts")} | {"epochs": rows}


# ---- numbers ---------------------------------------------------------------------------------------------------------


def test_norms_and_losses_are_those_computed_by_hand(tmp_path):
    trainer, loader, validation = build(tmp_path / "run.html")
    history = trainer.fit(loader, validation, epochs=4)
    known, (rows, losses) = run.read(tmp_path / "run.html"), by_hand(4)
    assert [part["name"] for part in known["parts"]] == ["first", "last"]
    assert [part["size"] for part in known["parts"]] == [40, 18]
    np.testing.assert_allclose(known["rows"], rows, rtol=2e-5)
    assert max(row[2] for row in rows) > 0.5  # some were clipped
    np.testing.assert_allclose(known["losses"], [[loss] * 3 for loss in losses], rtol=1e-5)
    assert known["epochs"] == [{"step": 6 * (i + 1), **row} for i, row in enumerate(history)]
    assert (known["status"], known["done"], known["planned"], known["clip"]) == ("finished", 24, 24, 0.5)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_the_training_is_the_same_without_the_page(tmp_path, prefetch):
    ends = []
    for page in (None, tmp_path / "run.html"):
        trainer, loader, validation = build(page, prefetch=prefetch)
        history = trainer.fit(loader, validation, epochs=3)
        ends.append([p.detach().numpy().tobytes() for p in trainer.model.parameters()])
        ends.append([{k: v for k, v in row.items() if k != "seconds"} for row in history])
    assert ends[:2] == ends[2:]


def test_a_stateful_training_is_the_same_and_shows_time_by_units(tmp_path):
    ends, ids = [], cr.tensor(np.random.default_rng(0).integers(0, 9, 400))
    for page in (None, tmp_path / "run.html"):
        cr.manual_seed(4)
        model = nn.models.CharLM(9, hidden_size=6, dropout=0.2)
        loss = lambda logits, y: F.cross_entropy(logits.flatten(0, 1), y.flatten())
        optimizer = optim.Adam(model.parameters(), 0.01)
        trainer = nn.StatefulTrainer(model, loss, optimizer, metrics={}, viz=page, verbose=False)
        history = trainer.fit(data.Streams(ids, 4, 10), data.Streams(ids, 4, 10), epochs=2)
        ends.append([row["val_loss"] for row in history])
    assert ends[0] == ends[1]
    look = run.read(tmp_path / "run.html")["looks"][-1]
    assert [(entry["name"], entry["shape"]) for entry in look["maps"]] == [
        ("table", [10, 64]),
        ("rnn", [10, 6]),
        ("output", [10, 9]),
    ]
    with cr.no_grad():
        output, _ = model.eval()(ids[:10].reshape(10, 1), None)
    shown = look["maps"][-1]
    np.testing.assert_allclose(decoded(shown)[0], output.numpy()[:, 0], atol=shown["scale"] / 253)


def test_filters_and_maps_are_the_models(tmp_path):
    trainer, x = images(tmp_path / "run.html")
    known = run.read(tmp_path / "run.html")
    assert [look["step"] for look in known["looks"]] == [0, 1, 2, 3, 4]
    look, model = known["looks"][-1], trainer.model.eval()
    weight = model.conv.weight.detach().numpy()
    filters = look["filters"]
    assert (filters["name"], filters["channels"], filters["count"]) == ("conv", 3, 5)
    np.testing.assert_allclose(decoded(filters).reshape(weight.shape), weight, atol=filters["scale"] / 253)
    with cr.no_grad():
        conv = model.conv(x[:1])
        pool = model.pool(model.relu(conv))
        expected = {"input": x[:1], "conv": conv, "relu": model.relu(conv), "pool": pool, "out": model(x[:1])}
    assert [entry["name"] for entry in look["maps"]] == list(expected)  # flat shows what pool shows
    for entry, tensor in zip(look["maps"], expected.values()):
        array = tensor.numpy()[0]
        assert entry["shape"] == list(array.shape)
        np.testing.assert_allclose(decoded(entry).reshape(array.shape), array, atol=entry["scale"] / 253 + 1e-6)
    kernel = next(entry for entry in look["weights"] if entry["name"] == "conv.weight")
    counts = np.histogram(weight, bins=24, range=(-np.abs(weight).max(), np.abs(weight).max()))[0]
    assert kernel["counts"] == counts.tolist()
    assert (kernel["low"], kernel["high"]) == (
        pytest.approx(weight.min(), rel=1e-5),
        pytest.approx(weight.max(), rel=1e-5),
    )


def test_first_looks_show_the_weights_before_the_first_step(tmp_path):
    images(tmp_path / "run.html")
    first = run.read(tmp_path / "run.html")["looks"][0]["filters"]
    cr.manual_seed(3)
    weight = nn.Conv2d(3, 5, 3).weight.detach().numpy()
    np.testing.assert_allclose(decoded(first).reshape(weight.shape), weight, atol=first["scale"] / 253)


def test_a_linear_first_layer_shows_its_weights_as_the_pictures_that_it_reads(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
    loader = data.DataLoader(data.TensorDataset(cr.randn(4, 1, 6, 6), cr.zeros(4, dtype=cr.int64)), 4)
    trainer = nn.Trainer(
        model, F.cross_entropy, optim.SGD(model.parameters(), 0.1), viz=tmp_path / "run.html", verbose=False
    )
    trainer.fit(loader, epochs=1)
    filters = run.read(tmp_path / "run.html")["looks"][-1]["filters"]
    expected = model[1].weight.detach().numpy().reshape(4, 6, 6)
    np.testing.assert_allclose(decoded(filters), expected, atol=filters["scale"] / 253)


def test_a_part_without_gradient_is_not_a_part_of_gradient_zero(tmp_path):
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    trainer = nn.Trainer(
        model,
        lambda output, y: F.cross_entropy(output, y) * 0,
        optim.SGD(model[1:].parameters(), 0.1),
        viz=tmp_path / "run.html",
        verbose=False,
    )
    trainer.fit(data.DataLoader(points(8), 8), epochs=1)
    assert run.read(tmp_path / "run.html")["rows"][0][2:6] == [0, None, 0, 0]


def test_large_models_are_drawn_by_their_blocks():
    parts = run.parts_of(nn.models.ResNet(50))
    assert [part.name for part in parts][:4] == ["conv1", "bn1", "layer1.0", "layer1.1"] and len(parts) <= run.PARTS
    assert sum(p.numel() for part in parts for p in part.parameters) == 25_557_032


# ---- bounded room ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("planned", [1, 3000])
def test_the_log_keeps_all_losses_in_stretches(planned):
    losses, log = np.random.default_rng(0).uniform(1, 2, 3000), Log(planned)
    for loss in losses:
        due = log.due
        log.add(float(loss))
        if due:
            log.rows.append(logs.Row(log.done, 0.1, 1.0, [], [], []))
        if log.look_due:
            log.keep({"data": ""}, 1000)
    assert (log.every, len(log.losses)) == (8, 375)
    stretches = losses.reshape(375, 8)
    expected = np.stack([stretches.mean(1), stretches.min(1), stretches.max(1)], 1)
    np.testing.assert_allclose([stretch.figures() for stretch in log.losses], expected)
    assert [row.step for row in log.rows] == list(range(1, 3000, 8))
    assert 20 <= len(log.looks) <= logs.LOOKS
    assert set(np.diff([look["step"] for look in log.looks])) == {log.look_every}


def test_looks_stay_within_their_bytes():
    log = Log(10_000)
    for _ in range(10_000):
        if log.look_due:
            log.keep({"data": "x"}, 400_000)  # the first before the first step
        log.add(1.0)
    assert len(log.looks) * 400_000 <= logs.LOOK_BYTES
    assert log.looks[0]["step"] == 0


def test_a_page_of_a_large_model_is_small(tmp_path):
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([nn.Conv2d(3 if i == 0 else 12, 12, 3, padding=1) for i in range(60)])
            self.out = nn.Linear(12, 2)

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return self.out(x.mean((2, 3)))

    model = Deep()
    loader = data.DataLoader(data.TensorDataset(cr.randn(60, 3, 40, 40), cr.zeros(60, dtype=cr.int64)), 1)
    trainer = nn.Trainer(
        model, F.cross_entropy, optim.SGD(model.parameters(), 1e-3), viz=tmp_path / "run.html", verbose=False
    )
    trainer.fit(loader, epochs=1)
    known = run.read(tmp_path / "run.html")
    assert (tmp_path / "run.html").stat().st_size < 4e6
    assert len(known["parts"]) <= run.PARTS and known["modules"] == {"shown": 10, "of": 61}
    assert known["looks"][-1]["maps"][0]["name"] == "input" and len(known["looks"][-1]["maps"]) == 11


# ---- how it ends and goes on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 7, 11])
def test_interrupted_and_resumed_is_the_page_of_the_whole(tmp_path, step, monkeypatch):
    whole, loader, validation = build(tmp_path / "whole.html", tmp_path / "whole")
    whole.fit(loader, validation, epochs=3)

    first, loader, validation = build(tmp_path / "parts.html", tmp_path / "parts")
    forward, left = first.model.forward, [step]

    def stop(x):
        if cr.is_grad_enabled():
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
        return forward(x)

    monkeypatch.setattr(first.model, "forward", stop, raising=False)
    with pytest.raises(KeyboardInterrupt):
        first.fit(loader, validation, epochs=3)
    known = run.read(tmp_path / "parts.html")
    assert (known["status"], known["done"]) == ("interrupted", step)
    assert f"Interrupted after {step} of 18 steps." in (tmp_path / "parts.html").read_text()

    second, loader, validation = build(tmp_path / "parts.html", tmp_path / "parts")
    second.fit(loader, validation, epochs=3, resume=True)
    assert figures(run.read(tmp_path / "parts.html")) == figures(run.read(tmp_path / "whole.html"))


FOREIGN = '<script type="application/json" id="data">{"parts": 3}</script>'


@pytest.mark.parametrize("page", [None, "not a page", FOREIGN])
def test_resumed_without_its_page_it_says_what_was_not_recorded(tmp_path, page):
    first, loader, validation = build(None, tmp_path)
    first.fit(loader, validation, epochs=2)
    if page is not None:
        (tmp_path / "run.html").write_text(page)
    second, loader, validation = build(tmp_path / "run.html", tmp_path)
    history = second.fit(loader, validation, epochs=3, resume=True)
    known = run.read(tmp_path / "run.html")
    assert [epoch["val_loss"] for epoch in known["epochs"]] == [row["val_loss"] for row in history]
    assert known["losses"][:12] == [None] * 12 and len(known["losses"]) == 18
    assert known["rows"][0][0] == 13
    assert "The first 12 steps were not recorded." in (tmp_path / "run.html").read_text()


def test_a_validation_loss_that_is_no_number_does_not_stop_a_resumed_page(tmp_path):
    for resume in (False, True):
        trainer, loader, validation = build(tmp_path / "run.html", tmp_path)
        trainer.evaluate = lambda loader: {"loss": float("nan")}
        trainer.fit(loader, validation, epochs=2 + resume, resume=resume)
    assert [epoch["val_loss"] for epoch in run.read(tmp_path / "run.html")["epochs"]] == ["NaN"] * 3


def test_a_second_fit_goes_on(tmp_path):
    trainer, loader, validation = build(tmp_path / "run.html")
    trainer.fit(loader, validation, epochs=1)
    trainer.fit(loader, validation, epochs=2)
    known = run.read(tmp_path / "run.html")
    assert [row[0] for row in known["rows"]] == list(range(1, 13)) and known["status"] == "finished"


class Breaks(nn.Module):
    """Takes the root of a negative number in its sixth training step."""

    def __init__(self):
        super().__init__()
        self.inner, self.steps = nn.Linear(4, 2), 0

    def forward(self, x):
        self.steps += self.training
        h = self.inner(x)
        if self.steps > 5:
            h = (h - 100).sqrt()  # the planted line
        return h


def test_where_the_loss_broke(tmp_path):
    model = Breaks()
    trainer = nn.Trainer(
        model, F.cross_entropy, optim.SGD(model.parameters(), 0.1), viz=tmp_path / "run.html", verbose=False
    )
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="nan in epoch 1, step 6"):
        trainer.fit(data.DataLoader(points(), 8), epochs=2)
    known = run.read(tmp_path / "run.html")
    assert (known["status"], known["done"]) == ("broken", 5)
    broke = known["broke"]
    assert (broke["step"], broke["epoch"], broke["loss"], broke["weights"]) == (6, 1, "NaN", [])
    assert "sqrt" in broke["why"] and "(h - 100).sqrt()" in broke["why"] and "test_run.py" in broke["why"]
    text = (tmp_path / "run.html").read_text()
    assert "Broke after 5 of 12 steps: the loss is no longer finite." in text
    assert "All weights were still finite before this step" in text


def test_weights_that_broke_in_an_earlier_step_are_named(tmp_path):
    trainer, loader, _ = build(tmp_path / "run.html", rate=float("inf"), clip_norm=None)
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError):
        trainer.fit(loader, epochs=2)
    broke = run.read(tmp_path / "run.html")["broke"]
    assert (broke["step"], broke["weights"]) == (2, ["first", "last"])
    assert "The weights of first, last were no longer finite before this step" in (tmp_path / "run.html").read_text()


@pytest.mark.parametrize("error", [ZeroDivisionError, FloatingPointError])
def test_an_error_of_ones_own_is_told_and_raised(tmp_path, error):
    def fail(row):
        raise error

    trainer, loader, _ = build(tmp_path / "run.html", on_epoch=fail)
    with pytest.raises(error):
        trainer.fit(loader, epochs=2)
    assert f"Ended by an error ({error.__name__}) after 6 of 12 steps." in (tmp_path / "run.html").read_text()


def test_validation_data_without_batches_are_the_trainers_matter(tmp_path):
    trainer, loader, _ = build(tmp_path / "run.html")
    with pytest.raises(ValueError, match="The loader gave no batches to average over"):
        trainer.fit(loader, [], epochs=1)


def test_early_stopping_is_told(tmp_path):
    trainer, loader, validation = build(tmp_path / "run.html", patience=1)
    trainer.evaluate = lambda loader: {"loss": 1.0}
    trainer.fit(loader, validation, epochs=9)
    assert "Stopped early, after 12 of 54 steps" in (tmp_path / "run.html").read_text()


def test_a_model_that_cannot_take_one_sample_is_trained_all_the_same(tmp_path):
    class Eight(nn.Linear):
        def forward(self, x):
            if len(x) != 8:
                raise ValueError("eight, please")
            return super().forward(x)

    model = Eight(4, 2)
    trainer = nn.Trainer(
        model, F.cross_entropy, optim.SGD(model.parameters(), 0.1), viz=tmp_path / "run.html", verbose=False
    )
    assert len(trainer.fit(data.DataLoader(points(), 8), epochs=2)) == 2
    known = run.read(tmp_path / "run.html")
    assert (known["no_look"], known["looks"]) == ("ValueError: eight, please", [])
    assert len(known["rows"]) == 12


# ---- arguments, files, cost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "viz, error, message",
    [
        (True, TypeError, "received viz=True, of type bool; the training page is a file. Pass its path: viz="),
        ("run", ValueError, "received viz='run', which does not end in .html, so that no browser would open it. Pass"),
        ("folder.html", ValueError, "received viz='folder.html', which is a folder. Pass the path of a file"),
    ],
)
def test_arguments_that_can_be_no_page(tmp_path, monkeypatch, viz, error, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(error, match=message.replace("(", r"\(")):
        build(viz)


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    trainer, loader, _ = build(tmp_path / "file" / "run.html")
    with pytest.raises(OSError):
        trainer.fit(loader, epochs=1)
    assert trainer.history == []


def test_a_disk_that_fills_up_ends_no_training(tmp_path, monkeypatch):
    trainer, loader, _ = build(tmp_path / "run.html")
    save = run.shell.save

    def full(path, page):
        if trainer.history:
            raise OSError("No space left on device")
        return save(path, page)

    monkeypatch.setattr(run.shell, "save", full)
    with pytest.warns(RuntimeWarning, match=r"page .*run.html was not written: No space left on device"):
        assert len(trainer.fit(loader, epochs=2)) == 2
    assert run.read(tmp_path / "run.html")["status"] == "running"  # the last version, whole
    assert [path.name for path in tmp_path.iterdir()] == ["run.html"]


def test_it_is_written_while_it_trains_but_not_all_the_time(tmp_path, monkeypatch):
    clock, written = [0.0], []
    monkeypatch.setattr(run.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(run.shell, "save", lambda path, page: written.append(clock[0]))
    trainer, loader, _ = build(tmp_path / "run.html")
    trainer.on_epoch = lambda row: clock.__setitem__(0, clock[0] + 1.5)
    trainer.fit(loader, epochs=6)  # epochs end at 1.5, 3, … seconds
    assert written == [0.0, 0.0, 3.0, 6.0, 9.0]


def test_without_it_nothing_of_it_is_imported():
    code = """
import sys, chainrule as cr
from chainrule import data, nn, optim
model = nn.Linear(2, 1)
loader = data.DataLoader(data.TensorDataset(cr.ones(4, 2), cr.ones(4, 1)), 2)
nn.Trainer(model, nn.MSELoss(), optim.SGD(model.parameters(), 0.1), verbose=False).fit(loader, epochs=1)
print([name for name in sys.modules if ".viz" in name])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_recipes_leave_a_page(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="Matplotlib is absent: pip install 'chainrule[examples]'")
    from chainrule.nn.examples import charlm, lenet5

    lenet5.train(epochs=1, samples=40, out=tmp_path / "lenet5", viz=True)
    charlm.train("hello", hidden=8, epochs=1, out=tmp_path / "charlm", viz=True)
    said = capsys.readouterr().out
    for name, filters in (("lenet5", "c1"), ("charlm", None)):
        page = tmp_path / name / "run.html"
        assert f"Training page: {page}" in said
        shown = run.read(page)["looks"][-1]["filters"]
        assert (shown and shown["name"]) == filters


# ---- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The page of a small convolutional net."""
    path = tmp_path_factory.mktemp("run") / "run.html"
    images(path, epochs=4, clip_norm=1.0)
    return path


def js_number(tab, value):
    return tab.evaluate("value => page.shown(value)", value)


def told(tab):
    return tab.locator("#told").inner_text()


@pytest.mark.parametrize("width, dark", [(360, False), (1280, True), (2560, False), (3840, True)])
def test_it_opens_and_fits(browser, finished, width, dark):
    tab = browser.open(finished, width=width, dark=dark)
    assert "Finished after 16 steps." in tab.locator("#state").inner_text()
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.locator(".chart").count() == 3
    assert tab.locator("#filters canvas").count() == 5
    assert tab.locator("#loss svg").get_attribute("aria-label").startswith("The loss over the steps from ")
    assert "after step 1, then every step." in tab.locator("main").inner_text()
    painted = "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size"
    assert tab.locator("#filters canvas").first.evaluate(painted) > 3


def test_the_numbers_shown_are_the_trainings(browser, finished):
    tab, known = browser.open(finished), run.read(finished)
    for step in (1, 9, 16):
        tab.locator("#step").fill(str(step))
        tab.wait_for_function("step => document.querySelector('#told b').textContent === `step ${step}`", arg=step)
        row, n = known["rows"][step - 1], len(known["parts"])
        for i in range(n):
            gradient, update, weight = row[3 + i], row[3 + n + i], row[3 + 2 * n + i]
            cells = tab.locator(f"#parts tbody tr[data-part='{i}'] td.number").all_inner_texts()[-3:]
            assert cells == [js_number(tab, v) for v in (gradient, update / weight, weight)]
        assert f"loss {js_number(tab, known['losses'][step - 1][0])}" in told(tab)
        assert f"gradient {js_number(tab, row[2])}" in told(tab)
        look = known["looks"][step]
        assert look["step"] == step
        assert tab.locator("#looks h2").inner_text() == f"Filters and feature maps after step {step}"
        assert js_number(tab, look["weights"][0]["low"]) in tab.locator("#weights tbody tr").first.inner_text()


def test_keyboard_mouse_and_player(browser, finished):
    tab = browser.open(finished)
    at = lambda: tab.locator("#told b").inner_text()
    tab.keyboard.press("Home")
    tab.wait_for_function("() => document.querySelector('#told b').textContent === 'before step 1'")
    for _ in range(3):
        tab.keyboard.press("ArrowRight")
    tab.wait_for_function("() => document.querySelector('#told b').textContent === 'step 3'")
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("End")
    tab.wait_for_function("() => document.querySelector('#told b').textContent === 'step 16'")
    pressed = tab.locator("#log").get_attribute("aria-pressed")
    tab.keyboard.press("l")
    assert tab.locator("#log").get_attribute("aria-pressed") != pressed
    box = tab.locator("#loss svg").bounding_box()
    tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.wait_for_function("() => document.querySelector('#told b').textContent !== 'step 16'")
    assert 5 <= int(at().split()[-1]) <= 11
    tab.keyboard.press("End")
    tab.locator("#play").click()
    tab.wait_for_function("() => document.querySelector('#told b').textContent === 'step 2'")
    tab.keyboard.press("p")
    assert tab.locator("#play").inner_text() == "Play"
    tab.wait_for_function("() => document.querySelector('#announcer').textContent.startsWith('step 2')")
    assert tab.locator("#step").get_attribute("aria-valuetext").startswith("step 2 of 16")


def test_a_part_can_be_hidden(browser, finished):
    tab = browser.open(finished)
    lines = tab.locator("#gradients path[data-part='0']")
    assert lines.count() >= 1
    tab.locator("#parts input").first.focus()
    tab.keyboard.press("Space")
    tab.wait_for_function("() => document.querySelectorAll(\"#gradients path[data-part='0']\").length === 0")
    assert tab.locator("#updates path[data-part='1']").count() >= 1


def test_hovering_tells_the_value_of_a_cell(browser, finished):
    tab, known = browser.open(finished), run.read(finished)
    canvas = tab.locator("figure[data-module='conv'] canvas").first
    canvas.scroll_into_view_if_needed()
    canvas.hover(position={"x": 1, "y": 1})
    value = decoded(known["looks"][-1]["maps"][1])[0, 0, 0]
    said = tab.locator("figure[data-module='conv'] output").inner_text()
    assert said.startswith("row 1, column 1: ")
    assert float(said.split(": ")[1].replace("−", "-")) == pytest.approx(value, rel=0.06)


def test_charts_and_maps_are_printed(browser, finished):
    tab = browser.open(finished)
    tab.emulate_media(media="print")
    assert tab.locator("#gradients svg").is_visible() and tab.locator("#filters canvas").first.is_visible()
    assert not tab.locator("#play").is_visible()


def test_without_javascript_the_loss_is_there(browser, finished):
    tab = browser.open(finished, javascript=False)
    assert tab.locator("#loss svg polyline.training").count() == 1
    assert tab.locator("#loss svg").is_visible() and not tab.locator("#chooser").is_visible()
    line = tab.locator("#loss svg polyline.training").get_attribute("points").split()
    losses = [figures[0] for figures in run.read(finished)["losses"]]
    heights = [float(point.split(",")[1]) for point in line]
    assert len(line) == 16 and np.corrcoef(losses, heights)[0, 1] < -0.999  # larger is higher up
    tab.locator("summary").click()
    history = run.read(finished)["epochs"]
    assert f"{history[-1]['val_loss']:.4f}" in tab.locator("#epochs tbody tr").last.inner_text()


def test_it_follows_a_running_training_and_keeps_the_chosen_step(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "SECONDS", 0.0)  # written after every step
    monkeypatch.setattr(run, "SHARE", np.inf)
    trainer, loader, _ = build(tmp_path / "run.html")
    versions = []
    save = run.shell.save
    monkeypatch.setattr(run.shell, "save", lambda path, page: versions.append(page) or save(path, page))
    trainer.fit(loader, epochs=2)
    (tmp_path / "run.html").write_text(versions[4])
    tab = browser.open(tmp_path / "run.html")
    assert "In training: step 4 of 12." in tab.locator("#state").inner_text()
    tab.keyboard.press("Home")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function("() => document.querySelector('#told b').textContent === 'step 2'")
    tab.locator("#parts input").last.uncheck()
    save(tmp_path / "run.html", versions[8])
    tab.get_by_text("In training: step 8 of 12.").wait_for(timeout=15000)  # by itself, 3 s after the last key
    assert tab.locator("#told b").inner_text() == "step 2"
    assert not tab.locator("#parts input").last.is_checked()
    tab.locator("#reload").uncheck()
    save(tmp_path / "run.html", versions[-1])
    tab.keyboard.press("End")
    tab.get_by_role("button", name="Reload").click()
    tab.get_by_text("Finished after 12 steps.").wait_for(timeout=10000)
    assert tab.locator("#told b").inner_text() == "step 12"  # the latest was chosen, so the latest is shown
    assert tab.locator("#reload").count() == 0


def test_a_training_that_fell_silent_is_told(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(run.time, "time", lambda: 1e9)
    trainer, loader, _ = build(tmp_path / "run.html")
    save, versions = run.shell.save, []
    monkeypatch.setattr(run.shell, "save", lambda path, page: versions.append(page) or save(path, page))
    trainer.fit(loader, epochs=1)
    save(tmp_path / "run.html", versions[0])
    tab = browser.open(tmp_path / "run.html")
    assert "Nothing new since: the training is slow, or was stopped." in tab.locator("#written").inner_text()


def test_a_broken_training_in_the_browser(browser, tmp_path):
    model = Breaks()
    trainer = nn.Trainer(
        model, F.cross_entropy, optim.SGD(model.parameters(), 0.1), viz=tmp_path / "run.html", verbose=False
    )
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError):
        trainer.fit(data.DataLoader(points(), 8), epochs=2)
    tab = browser.open(tmp_path / "run.html", width=360)
    assert tab.evaluate("document.documentElement.scrollWidth") == 360
    assert tab.locator("line.broke").count() == 3
    assert "(h - 100).sqrt()" in tab.locator("#state pre").inner_text()


def test_what_is_not_finite_or_not_known_is_shown_as_such(browser, tmp_path):
    class Root(nn.Module):
        """sqrt at 0: the value is 0, its slope is infinite."""

        def __init__(self):
            super().__init__()
            self.w, self.idle = nn.Parameter(cr.zeros(1)), nn.Linear(1, 1)

        def forward(self, x):
            return self.w.sqrt() + x.sum(1) * 0

    model = Root()
    trainer = nn.Trainer(
        model,
        lambda output, y: output.sum(),
        optim.SGD(model.parameters(), 0.0),
        metrics={},
        viz=tmp_path / "run.html",
        verbose=False,
    )
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError):
        trainer.fit(data.DataLoader(points(), 8), epochs=1)
    known = run.read(tmp_path / "run.html")
    assert known["rows"][0][3:5] == ["Infinity", None]
    tab = browser.open(tmp_path / "run.html")
    assert tab.locator("#parts tbody tr td:nth-child(4)").all_inner_texts() == ["inf", "∇ –"]
    assert tab.locator("#gradients path.odd").count() == 1


def test_hostile_names_are_harmless(browser, tmp_path):
    model = nn.Sequential({NAME.replace(".", ""): nn.Linear(4, 2)})
    trainer = nn.Trainer(
        model,
        F.cross_entropy,
        optim.SGD(model.parameters(), 0.1),
        metrics={NAME: lambda output, y: 1.0},
        viz=tmp_path / "run.html",
        verbose=False,
    )
    trainer.fit(data.DataLoader(points(), 8), epochs=1)
    tab = browser.open(tmp_path / "run.html")
    assert tab.locator("img").count() == 0
    assert NAME in tab.locator("#parts tbody th").inner_text()
    tab.locator("summary").click()
    assert NAME in tab.locator("#epochs thead").inner_text()


def test_a_page_at_its_bounds_opens_quickly(browser, finished, tmp_path):
    known = run.read(finished)
    rows = [[8 * i + 1, 0.1, 1.0, *np.random.default_rng(i).uniform(0.1, 9, 3 * run.PARTS)] for i in range(logs.ROWS)]
    looks = [{**known["looks"][-1], "step": 8 * i + 1} for i in range(logs.LOOKS)]
    parts = [{"name": f"part{i}", "kind": "Linear", "size": 10} for i in range(run.PARTS)]
    large = known | {"rows": rows, "looks": looks, "parts": parts, "every": 8, "done": 4096, "planned": 4096}
    large["losses"] = [[1.0, 0.5, 2.0]] * logs.ROWS
    text = run.shell.document("large", run.body(large), data=large, asset=run.ASSETS / "run")
    run.shell.save(tmp_path / "run.html", text)
    assert len(text) < 5e6
    tab = browser.open(tmp_path / "run.html")
    timing = json.loads(tab.evaluate("JSON.stringify(performance.getEntriesByType('navigation')[0])"))
    assert timing["loadEventEnd"] < 3000  # 0.5 s on an idle machine
    assert tab.locator("#gradients path[data-part]").count() >= run.PARTS
