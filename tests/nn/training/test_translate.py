"""The language that is made by rule, and the network that learns it."""

import csv
import re
import sys

import numpy as np
import pytest

import chainrule as cr

pytest.importorskip("matplotlib", reason="Matplotlib is absent: pip install 'chainrule[examples]'")

from chainrule.nn.examples import translate  # noqa: E402
from chainrule.nn.examples.translate import NounPhrase, Sentence, draw_sentences  # noqa: E402

FILES = "alignment.png, best.safetensors, last.safetensors, log.csv, settings.json, training.png"


def english(tavo):
    """Read Tavo backwards into English, by its grammar: what comes out in one way went in in one way."""
    word = {there: here for here, there in translate.TAVO.items()}
    assert len(word) == len(translate.TAVO)
    time = [word[tavo[0]]] if word.get(tavo[0]) in translate.TIMES else []
    marker = tavo.index("ka")
    nouns, (verb, *negation, modal) = tavo[len(time) : marker], tavo[marker + 1 :]
    determiners = translate.SINGULAR | translate.PLURAL
    second = next(i for i in range(1, len(nouns)) if word.get(nouns[i]) in determiners)

    def phrase(words):
        plural = words[2:3] == ["lo"]
        adjectives = [word[a] for a in reversed(words[2 + plural :])]
        return [word[words[0]], *adjectives, word[words[1]] + "s" * plural]

    negated = ["not"] * (negation == ["nai"])
    return [*phrase(nouns[:second]), word[modal], *negated, word[verb], *phrase(nouns[second:]), *time]


def test_tavo_says_what_english_says(rng):
    sentences = draw_sentences(500, rng)
    assert len(set(sentences)) == 500 and {len(s.time) for s in sentences} == {0, 1}
    for sentence in sentences:
        assert english(sentence.tavo()) == sentence.english()


def test_the_rules_of_tavo():
    girls, king = NounPhrase("many", ("happy", "old"), "girl"), NounPhrase("my", (), "king")
    sentence = Sentence(girls, "can", False, "help", king, ("soon",))
    assert " ".join(sentence.english()) == "many happy old girls can help my king soon"
    assert " ".join(sentence.tavo()) == "rapi multi sumi lo velo felu mea vero ka juvi po"


def weights(folder):
    return {name: t.numpy().tobytes() for name, t in cr.load(folder / "last.safetensors")["model"].items()}


def test_a_short_run_leaves_everything_and_says_so(tmp_path, capsys):
    summary = translate.train(epochs=1, out=tmp_path, samples=40)
    said = capsys.readouterr().out
    assert said.startswith("40 English sentences and what they are in Tavo, 10 others to translate then.\n")
    assert f"Translator: 139,247 parameters, on cpu with {cr.get_num_threads()} threads." in said
    assert re.search(r"1 epochs of 2 steps; about \d+ s\.", said)
    first = draw_sentences(41, np.random.default_rng(0))[40]
    assert re.search(rf"^{' '.join(first.english())}\n  .*\(wrong, it is: {' '.join(first.tavo())}\)$", said, re.M)
    assert "It translates 0.00% of 10 sentences it never saw without a mistake, after 1 epochs, " in said
    assert said.rstrip().endswith(f"In {tmp_path}: {FILES}.")
    assert (summary["mistakes"], summary["tested"], summary["epochs"]) == (10, 10, 1)
    for picture in ("training.png", "alignment.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG\r\n")


def test_equal_seeds_give_equal_weights_and_resuming_changes_nothing(tmp_path):
    def run(folder, **options):
        return translate.train(out=tmp_path / folder, samples=40, epochs=3, verbose=False, **options)

    run("a")
    run("b", seed=1)
    assert weights(tmp_path / "a") != weights(tmp_path / "b")

    class Interrupt(Exception):
        pass

    def stop(trainer, *args, original=translate.Trainer._epoch):
        if len(trainer.history) == 2:
            raise Interrupt
        original(trainer, *args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupt):
        patch.setattr(translate.Trainer, "_epoch", stop)
        run("c")
    assert run("c", resume=True)["epochs"] == 3
    assert weights(tmp_path / "c") == weights(tmp_path / "a")
    for change in ({"epochs": 5}, {"seed": 1}, {"samples": 50}):
        ((name, value),) = change.items()
        with pytest.raises(ValueError, match=f"resume=True with {name}={value}, but the run in .*c has .* Pass what"):
            translate.train(out=tmp_path / "c", verbose=False, resume=True, **{"samples": 40, "epochs": 3, **change})
    assert weights(tmp_path / "c") == weights(tmp_path / "a")


def test_without_matplotlib_nothing_begins(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"Matplotlib, which is not installed.*pip install 'chainrule\[examples\]'"):
        translate.train(out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_whole_run_translates_what_it_never_saw(tmp_path, capsys):
    summary = translate.train(out=tmp_path)
    assert summary["accuracy"] >= 0.99
    last = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))[-1]
    assert float(last["val_accuracy"]) == summary["accuracy"]  # told the right words or its own: equally right
    if summary["mistakes"] == 0:
        assert capsys.readouterr().out.count("(right)") == 3
