"""The second main job, on little text; the whole one proves its bits per character."""

import csv
import json
import math
import re
import sys

import numpy as np
import pytest

import chainrule as cr

pytest.importorskip("matplotlib", reason="Matplotlib is absent: pip install 'chainrule[examples]'")

from chainrule.nn.examples import charlm  # noqa: E402
from chainrule.nn.examples.plotting import draw_bits  # noqa: E402

FILES = "best.safetensors, last.safetensors, log.csv, settings.json, training.png"
SMALL = {"hidden": 16, "epochs": 2}


@pytest.fixture
def text(tmp_path, rng):
    """A file of 4,000 characters: sums, whose results follow from their terms."""
    sums = (f"{a}+{b}={a + b}\n" for a, b in rng.integers(0, 10, (700, 2)))
    (tmp_path / "sums.txt").write_text("".join(sums)[:4000])
    return str(tmp_path / "sums.txt")


def run(text, out, **options):
    return charlm.train(text, out=out, **{**SMALL, "verbose": False, **options})


def weights(folder):
    return {name: t.numpy().tobytes() for name, t in cr.load(folder / "last.safetensors")["model"].items()}


def test_a_short_run_leaves_everything_and_says_so(text, tmp_path, capsys):
    out = tmp_path / "out"
    summary = run(text, out, verbose=True)
    said = capsys.readouterr().out
    assert f"{text}: 3,600 characters to learn from, 400 for validation, 13 distinct." in said
    rivals = summary["yardsticks"]
    assert f"bits per character; unigram needs {rivals['unigram']:.2f}; gzip needs {rivals['gzip']:.2f}." in said
    assert re.search(rf"CharLM: [\d,]+ parameters, on cpu with {cr.get_num_threads()} threads\.", said)
    assert re.search(r"2 epochs of 2 steps; about \d+ s\.", said)
    assert len(re.findall(r"epoch   \d/2  loss \d.* val loss .*\n    \| ", said)) == 2
    assert f"{summary['bits']:.3f} bits per character of text it never saw after 2 epochs, " in said
    assert said.endswith(f"In {out}: {FILES}.\nLet it write: chainrule sample {out}\n")
    assert sorted(file.name for file in out.iterdir()) == FILES.split(", ")
    assert (out / "training.png").read_bytes().startswith(b"\x89PNG\r\n")
    with (out / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert min(float(row["val_loss"]) for row in rows) == summary["bits"]
    assert len(summary["sample"]) == 161 and summary["sample"] in said.replace("    | ", "")


def test_it_learns(text, tmp_path):
    summary = run(text, tmp_path / "out", epochs=60, dropout=0.0, cell="gru")
    assert summary["bits"] < summary["yardsticks"]["unigram"] - 1


def test_losses_are_bits(rng):
    logits, ids = rng.standard_normal((5, 3, 7)), rng.integers(0, 7, (5, 3))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.log2(np.take_along_axis(p, ids[..., None], -1)).mean()
    assert charlm.bits(cr.tensor(logits), cr.tensor(ids)).item() == pytest.approx(expected, rel=1e-12)


def test_yardsticks():
    found = charlm.yardsticks("aab" * 300, "abcd")
    expected = -sum(math.log2((n + 1) / 904) for n in (600, 300, 0, 0)) / 4
    assert found["unigram"] == pytest.approx(expected, rel=1e-12)
    assert charlm.yardsticks("xyz" * 400, "xyz" * 100)["gzip"] < 0.3


def test_equal_seeds_give_equal_weights_and_resuming_changes_nothing(text, tmp_path):
    options = {"layers": 2, "epochs": 3}
    summary = run(text, tmp_path / "a", **options)
    run(text, tmp_path / "b", seed=1, **options)
    assert weights(tmp_path / "a") != weights(tmp_path / "b")

    def stop(trainer, *args, original=charlm.StatefulTrainer._epoch):
        if len(trainer.history) == 2:
            raise KeyboardInterrupt
        original(trainer, *args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(charlm.StatefulTrainer, "_epoch", stop)
        run(text, tmp_path / "c", temperature=2.0, **options)  # what is sampled on the way changes nothing
    assert len(charlm.sample(tmp_path / "c", length=9)) == 10
    resumed = run(text, tmp_path / "c", resume=True, **options)
    assert weights(tmp_path / "c") == weights(tmp_path / "a")
    assert (resumed["bits"], resumed["sample"]) == (summary["bits"], summary["sample"])


def test_resuming_asks_for_the_same_run(text, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(FileNotFoundError, match=f"{out} is no run of charlm: .* Train one: chainrule train"):
        run(text, out, resume=True)
    assert not out.exists()
    run(text, out)
    before = weights(out)
    for name, change in {"hidden_size": {"hidden": 8}, "cell": {"cell": "rnn"}, "epochs": {"epochs": 5}}.items():
        with pytest.raises(ValueError, match=f"resume=True with {name}=.*, but the run in {out} has .* Pass what"):
            run(text, out, resume=True, **change)
    with pytest.raises(ValueError, match=f"resume=True for {out}, which learns another text. Pass that"):
        run("hello", out, resume=True)
    assert weights(out) == before


def test_a_new_run_leaves_no_weights_of_an_old_one(text, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(text, out)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(charlm.StatefulTrainer, "fit", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        run(text, out, hidden=8)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        run(text, out, hidden=8, resume=True)
    with pytest.raises(
        FileNotFoundError,
        match="best.safetensors is not there: the first epoch .* has not ended.*interrupted, train anew",
    ):
        charlm.sample(out)


def test_a_loss_that_is_not_finite_is_refused(text, tmp_path, monkeypatch):
    monkeypatch.setattr(charlm, "bits", lambda logits, ids: logits.sum() * math.inf)
    with pytest.raises(FloatingPointError, match="The loss became .* in epoch 1, step 1"):
        run(text, tmp_path / "out")


# ---- the lecture's toy -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_hello(tmp_path, capsys, cell):
    """Vocabulary {h, e, l, o}: after training the net completes the word."""
    summary = charlm.train("hello", out=tmp_path, hidden=32, cell=cell, temperature=0)
    said = capsys.readouterr().out
    assert "hello: 5 characters to learn from, 0 for validation, 4 distinct.\nLosses are bits per character.\n" in said
    assert "3 epochs of 50 steps" in said and said.count("    | hello\n") >= 1
    assert summary["sample"] == "hello" and summary["bits"] < 0.1 and summary["yardsticks"] == {}
    assert charlm.sample(tmp_path, length=4, temperature=0) == "hello"
    assert [charlm.sample(tmp_path, "hello"[:n], 5 - n, temperature=0) for n in (2, 3, 4)] == ["hello"] * 3


# ---- writing ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(tmp_path):
    charlm.train("hello", 1, tmp_path / "run", hidden=8, verbose=False)
    return tmp_path / "run"


def test_sampling_is_seeded(trained):
    write = lambda **options: charlm.sample(trained, "hel", 50, **options)
    assert write(temperature=2.0) == write(temperature=2.0) != write(temperature=2.0, seed=1)
    assert len(write()) == 53 and write().startswith("hel") and set(write()) <= set("helo")
    assert charlm.sample(trained, length=0) == "h"


def test_what_sampling_refuses(trained, tmp_path):
    with pytest.raises(ValueError, match="received 'H', which it has no number for; it knows 'e', 'h', 'l', 'o'"):
        charlm.sample(trained, "Hello")
    with pytest.raises(ValueError, match="received an empty prompt"):
        charlm.sample(trained, "")
    with pytest.raises(ValueError, match="temperature received is -1"):
        charlm.sample(trained, temperature=-1)
    with pytest.raises(FileNotFoundError, match="nowhere is no run of charlm: there is no settings.json in it"):
        charlm.sample(tmp_path / "nowhere")


def test_damaged_runs(trained):
    file = trained / "settings.json"
    settings = json.loads(file.read_text())
    for damage, message in [
        ("{", "settings.json is damaged: it is no JSON"),
        ("7", "settings.json is damaged: it is no JSON"),
        (json.dumps({"cell": "lstm"}), "damaged: text, vocabulary, prompt, hidden_size, .* missing. Train anew"),
        (json.dumps({**settings, "vocabulary": 4}), "run holds no whole model: .* Train it anew"),
        (json.dumps({**settings, "cell": "elman"}), "run holds no whole model: CharLM: received cell='elman'"),
        (json.dumps({**settings, "hidden_size": 9}), "(?s)run holds no whole model: .*expected .*Train it anew"),
    ]:
        file.write_text(damage)
        with pytest.raises(ValueError, match=message):
            charlm.sample(trained)
    file.write_text(json.dumps(settings))
    (trained / "best.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="run holds no whole model: .* is not a whole safetensors file"):
        charlm.sample(trained)


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "holds no text"),
        (b"a", "a text that only repeats 'a': nothing to predict"),
        (b"a" * 9999, "a text that only repeats 'a'"),
        (b"ab" * 324, "a text of 648 characters; its last tenth, .* would not fill a window of 64. .* at least 650"),
        (bytes(range(256)) * 9, "no text in UTF-8"),
    ],
)
def test_texts_that_cannot_be_learnt(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        run(str(tmp_path / "file"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_shortest_text(tmp_path):
    (tmp_path / "file").write_text("ab" * 325)
    assert run(str(tmp_path / "file"), tmp_path / "out", epochs=1)["epochs"] == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"temperature": -0.5}, "temperature received is -0.5"),
        ({"temperature": float("nan")}, "temperature received is nan"),
        ({"hidden": 0}, "hidden_size=0"),
        ({"layers": 0}, "num_layers=0"),
        ({"cell": "elman"}, "cell='elman'"),
        ({"dropout": 1.5}, "p=1.5|dropout=1.5"),
    ],
)
def test_settings_that_cannot_be(text, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(text, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_nothing_begins(text, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"Matplotlib, which is not installed.*pip install 'chainrule\[examples\]'"):
        run(text, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_picture_of_one_epoch(tmp_path):
    row = {"epoch": 1, "loss": 2.0}
    draw_bits([row], {}, tmp_path / "one.png", "one")
    draw_bits([row | {"val_loss": 2.1}], {"unigram": 4.5}, tmp_path / "two.png")
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("one.png", "two.png"))


@pytest.mark.slow
def test_the_whole_run_beats_gzip(tmp_path):
    summary = charlm.train(out=tmp_path, verbose=False)
    assert summary["bits"] < 1.9 < summary["yardsticks"]["gzip"]
