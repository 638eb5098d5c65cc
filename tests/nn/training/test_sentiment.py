"""Praise or blame: the grammar, the readers of files, and a short run."""

import csv
import json
import re
import sys
from collections import Counter

import numpy as np
import pytest

import chainrule as cr
from chainrule.nn.examples import sentiment
from chainrule.nn.examples.sentiment import made_sentences, read_sentences, words_of

FILES = "LSTM, bag-of-words, log.csv, report.txt, sentence-CNN, training.png, words.json"


# ---- the grammar -----------------------------------------------------------------------------------------------------


def meaning(words):
    """The value of a clause, read from its words alone."""
    text = " ".join(words)
    turns = sum(
        text.count(turn) for turn in ("nobody", "doubt", "lie", " not ", " never ", " hardly ", " far from ", " but ")
    )
    sign = {**dict.fromkeys(sentiment.PRAISE, 1), **dict.fromkeys(sentiment.BLAME, -1)}[words[-1]]
    weak, strong = {"slightly", "somewhat"} & {*words}, {"really", "extremely", "utterly"} & {*words}
    return sign * (-1) ** turns * (1 if weak else 3 if strong else 2)  # fmt: skip


def parts(words, joint):
    at = words.index(joint)
    return meaning(words[:at]), meaning(words[at + 1 :])


def understood(words):
    """praise or blame, by rules written for reading, not for writing."""
    if words[0] == "although":
        value = parts(words[1:], ",")[1]
    elif "," in words:
        first, rest = words[: words.index(",")], words[words.index(",") + 1 :]
        value = meaning(rest[1:]) if rest[0] in ("but", "yet") else meaning(first)
    elif "and" in words:
        value = sum(parts(words, "and"))
    else:
        value = meaning(words)
    return "praise" if value > 0 else "blame"


def test_labels_are_what_the_sentences_mean():
    sentences = made_sentences(3000, cr.Generator(1))
    assert len({" ".join(s.words) for s in sentences}) == 3000
    assert [s.label for s in sentences] == [understood(s.words) for s in sentences]
    assert Counter(s.kind for s in sentences) == dict(zip(sentiment.KINDS, (750, 750, 375, 375, 375, 375), strict=True))
    praised = [s.label == "praise" for s in sentences]
    assert 0.47 < np.mean(praised) < 0.53


def test_no_word_gives_the_label_away():
    sentences = made_sentences(8000, cr.Generator(2))
    count, praise = Counter(), Counter()
    for words, label, _ in sentences:
        count.update(set(words))
        praise.update(set(words) if label == "praise" else ())
    for word, n in count.items():
        assert abs(praise[word] / n - 0.5) < 4.5 * 0.5 / np.sqrt(n), word  # 4.5 standard deviations


def test_seeds():
    one, same, other = (made_sentences(50, cr.Generator(seed)) for seed in (3, 3, 4))
    assert one == same != other


# ---- files -----------------------------------------------------------------------------------------------------------


def test_lines_with_labels(tmp_path):
    lines = [f"{'good' if i % 2 else 'bad'}\tNo. {i} isn’t worth it!" for i in range(20)]
    (tmp_path / "a.tsv").write_text("\ufeff" + "\n\n".join(lines) + "\n", "utf-8")
    sentences = read_sentences(tmp_path / "a.tsv")
    assert len(sentences) == 20 and sentences[1] == (["no", ".", "1", "is", "n't", "worth", "it", "!"], "good", "")


def test_a_folder_of_two_files(tmp_path):
    (tmp_path / "rt-polarity.pos").write_text("a gorgeous film\n" * 12)
    (tmp_path / "rt-polarity.neg").write_text("simplistic , silly and tedious .\n" * 13)
    (tmp_path / "readme.txt").write_text("not a sentence of the set")
    sentences = read_sentences(tmp_path)
    assert Counter(s.label for s in sentences) == {"neg": 13, "pos": 12}
    assert sentences[-1].words == ["a", "gorgeous", "film"]


def test_words():
    assert words_of("I CAN'T, won't & don't—it’s 3D") == "i ca n't , wo n't & do n't — it 's 3d".split()
    assert words_of("  ") == [] and words_of("n't 'em") == ["n't", "'em"]


def test_long_sentences_are_cut(tmp_path):
    (tmp_path / "a.tsv").write_text("".join(f"{i % 2}\t{'word ' * 500}\n" for i in range(20)))
    assert {len(s.words) for s in read_sentences(tmp_path / "a.tsv")} == {100}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1\tgood\n0 bad\n", r"a\.tsv with '0 bad' in line 2, which has no label, tab and sentence\. Write "),
        (b"\tgood\n", r"a\.tsv with '\\tgood' in line 1, which has no label"),
        (b"1\t \n", r"a\.tsv with '1\\t ' in line 1"),
        (b"1\tgood\n" * 30, r"with 30 sentences and the labels \['1'\], too few to learn from and test on\. Pass "),
        (b"1\tgood\n0\tbad\n", r"with 2 sentences and the labels \['0', '1'\], too few .* at least 20 sentences"),
        (b"", "holds no text"),
        (b"1\tcaf\xe9\n", r"is no text in UTF-8: byte 5 \(0xe9\) is not UTF-8"),
    ],
)  # fmt: skip
def test_what_cannot_be_read(content, message, tmp_path):
    (tmp_path / "a.tsv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        sentiment.train(tmp_path / "a.tsv", out=tmp_path / "out", verbose=False)
    assert not (tmp_path / "out").exists()


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        sentiment.train(tmp_path / "nothing", out=tmp_path / "out")
    (tmp_path / "folder").mkdir()
    with pytest.raises(
        ValueError, match=r"with 0 sentences and the labels \[\], too few .* Pass a folder with files \.neg"
    ):
        sentiment.train(tmp_path / "folder", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- runs ------------------------------------------------------------------------------------------------------------


def weights(folder):
    return {
        f"{path.parent.name} {name}": value.numpy().tobytes()
        for path in sorted(folder.glob("*/best.safetensors"))
        for name, value in cr.load(path).items()
    }


def test_a_short_run_leaves_everything_and_says_so(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="Matplotlib is absent: pip install 'chainrule[examples]'")
    summary = sentiment.train(epochs=2, out=tmp_path, count=120)
    said = capsys.readouterr().out
    assert said.startswith("96 sentences to learn from, 12 to choose the epoch, 12 to test; ")
    assert re.search(rf"SentenceLSTM: [\d,]+ parameters, on cpu with {cr.get_num_threads()} threads\.", said)
    assert re.search(r"2 epochs of 2 steps; about \d+ s\.", said)
    report = (tmp_path / "report.txt").read_text()
    assert report in said and said.rstrip().endswith(f" s in all. In {tmp_path}: {FILES}.")
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG\r\n")
    log = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert [row["model"] for row in log] == ["bag of words"] * 2 + ["sentence CNN"] * 2 + ["LSTM"] * 2
    words = json.loads((tmp_path / "words.json").read_text())
    assert words["labels"] == ["blame", "praise"] and words["words"][:2] == ["<padding>", "<unknown>"]
    assert [*summary["accuracy"]] == [*sentiment.MODELS]
    for name, shares in summary["accuracy"].items():
        assert f"{100 * shares['all']:.1f} %" in next(line for line in report.splitlines() if line.startswith(name))


def test_equal_seeds_give_equal_weights(tmp_path):
    pytest.importorskip("matplotlib", reason="Matplotlib is absent: pip install 'chainrule[examples]'")
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        sentiment.train(epochs=1, out=tmp_path / folder, seed=seed, count=60, verbose=False)
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


def test_files_of_several_labels_are_learnt(tmp_path):
    pytest.importorskip("matplotlib", reason="Matplotlib is absent: pip install 'chainrule[examples]'")
    lines = [f"{label}\tit was {label} , she said {i % 7}\n" for i in range(60) for label in ("red", "green", "blue")]
    (tmp_path / "colours.tsv").write_text("".join(lines))
    summary = sentiment.train(tmp_path / "colours.tsv", epochs=8, out=tmp_path / "out", verbose=False)
    assert summary["accuracy"]["LSTM"] == summary["accuracy"]["sentence CNN"] == {"all": 1.0}
    report = (tmp_path / "out" / "report.txt").read_text()
    assert report.splitlines()[0].split() == ["model", "parameters", "seconds", "all"]


def test_the_report_of_no_mistakes_is_the_table_alone():
    sentences = [sentiment.Sentence(["good"], "praise", "plain")]
    text = sentiment.report(sentences, {"sage": sentiment.Result(3, [{"seconds": 1.5}], ["praise"])})
    assert text == "model  parameters  seconds      all    plain\nsage            3      1.5  100.0 %  100.0 %\n"


def test_without_matplotlib_nothing_begins(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"Matplotlib, which is not installed.*pip install 'chainrule\[examples\]'"):
        sentiment.train(out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_whole_run_shows_who_can_read(tmp_path):
    accuracy = sentiment.train(out=tmp_path, verbose=False)["accuracy"]
    assert accuracy["bag of words"]["all"] < 0.6
    assert accuracy["sentence CNN"]["negation"] > 0.95 and accuracy["sentence CNN"]["contrast"] < 0.85
    assert accuracy["LSTM"]["all"] > 0.97 and accuracy["LSTM"]["contrast"] > 0.97
