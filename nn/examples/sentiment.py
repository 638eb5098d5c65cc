"""Praise or blame? A bag of words, Kim's sentence CNN and an LSTM read the same sentences (Kim 2014)."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...autograd import Generator, Tensor, as_device, cross_entropy, manual_seed, no_grad, randn, tensor, zeros
from ..data import DataLoader, TensorDataset, Vocabulary, read_text
from ..figures import table
from ..files import write_atomically
from ..layers import Embedding
from ..models import SentenceCNN, SentenceLSTM
from ..module import Module
from ..optim import Adam
from ..optim.lr_scheduler import OneCycleLR
from ..serialization import load
from ..trainer import Trainer
from ..utils.rnn import pad_sequence
from .plotting import draw_comparison, require_matplotlib

SPECIAL = "<padding>", "<unknown>"  # numbers 0, which `SentenceLSTM` expects, and 1
BATCH = 50
LONGEST, LEAST = 100, 20  # words of a sentence, sentences of a file


class Sentence(NamedTuple):
    """A sentence as lower-case words, its label, and how its feeling is put."""

    words: list[str]
    label: str
    kind: str


# ---- sentences by a grammar ------------------------------------------------------------------------------------------

THINGS = (
    "film book play album concert story ending music acting dialogue plot cast meal service hotel room speech game "
    "novel show"
).split()
PRAISE = "good great lovely brilliant funny clever moving gripping fresh charming superb honest elegant warm".split()
BLAME = "bad awful dull boring silly weak clumsy tedious stale dreadful poor flat tiresome cold".split()
STRENGTHS = {"slightly": 1, "somewhat": 1, "": 2, "really": 3, "extremely": 3, "utterly": 3}
VERBS = {"was": 1, "was not": -1, "was never": -1, "was hardly": -1, "was far from": -1, "was anything but": -1}
FRAMES = {
    "": 1,
    "everyone said that": 1,
    "my sister is sure that": 1,
    "nobody said that": -1,
    "i doubt that": -1,
    "it is a lie that": -1,
}
CONTRASTS = "{0} , but {1}", "{0} , yet {1}", "although {0} , {1}", "{1} , although {0}", "{1} , even though {0}"
TURNED = {"plain": (), "negation": ("verb",), "far negation": ("frame",), "double": ("frame", "verb")}
KINDS = (*TURNED, "contrast", "weighing")
MIX = (*KINDS, "plain", "negation")  # in turns


class Clause(NamedTuple):
    """One statement, what it is worth, and which of its parts turned the sign.

    >>> from chainrule.nn.examples.sentiment import Clause
    >>> Clause.of("i doubt that", "play", "was not", "utterly", "dull")
    Clause(text='i doubt that the play was not utterly dull', value=-3, turned=('frame', 'verb'))
    """

    text: str
    value: int
    turned: tuple[str, ...]

    @classmethod
    def of(cls, frame: str, thing: str, verb: str, strength: str, adjective: str) -> Clause:
        """Return the clause of these parts."""
        text = " ".join(filter(None, [frame, "the", thing, verb, strength, adjective]))
        signs = {"frame": FRAMES[frame], "verb": VERBS[verb], "adjective": 1 if adjective in PRAISE else -1}
        turned = tuple(part for part in ("frame", "verb") if signs[part] < 0)
        return cls(text, math.prod(signs.values()) * STRENGTHS[strength], turned)


def made_sentences(count: int, generator: Generator) -> list[Sentence]:
    """Return so many different sentences of a grammar, with the label "praise" or "blame" that their meaning has.

    A clause is [frame] the THING VERB [strength] adjective. An adjective of PRAISE counts +1, one of BLAME −1, times 1,
    2 or 3 by its strength; a negated verb turns the sign, and so does a frame like "i doubt that". A sentence is one
    clause, in which nothing turns the sign ("plain"), the verb does ("negation"), the frame does, some words before the
    adjective ("far negation"), or both ("double"); or two clauses of opposite sign: A but B, although A B, B although A
    ("contrast": B decides), A and B ("weighing": the stronger one decides). The first two kinds are twice as frequent
    as the others; a word goes with praise as often as with blame, the whole taken together.

    >>> from chainrule.nn.examples.sentiment import made_sentences
    >>> for words, label, kind in made_sentences(6, cr.Generator(111)):
    ...     print(f"{label} ({kind}): {' '.join(words)}")
    blame (plain): my sister is sure that the game was slightly dull
    praise (negation): my sister is sure that the album was never slightly tedious
    praise (far negation): nobody said that the dialogue was utterly dreadful
    praise (double): i doubt that the book was anything but extremely brilliant
    blame (contrast): the cast was not slightly superb , although the show was not bad
    praise (weighing): everyone said that the film was slightly weak and the story was warm
    """
    rng = generator.rng
    one = lambda choices: choices[rng.integers(len(choices))]

    def clause(fits: Callable[[Clause], Any]) -> Clause:
        while True:
            verb, frame = ("was" if rng.random() < 0.5 else one([*VERBS])), one([*FRAMES])
            made = Clause.of(frame, one(THINGS), verb, one([*STRENGTHS]), one(one([PRAISE, BLAME])))
            if fits(made):
                return made

    def sentence(kind: str) -> tuple[str, int]:
        if kind in TURNED:
            return clause(lambda c: c.turned == TURNED[kind])[:2]
        a = clause(lambda c: True)
        b = clause(lambda c: a.value * c.value < 0 and a.value + c.value)
        if kind == "contrast":
            return one(CONTRASTS).format(a.text, b.text), b.value
        return f"{a.text} and {b.text}", a.value + b.value

    found: dict[str, Sentence] = {}
    while len(found) < count:
        kind = MIX[len(found) % len(MIX)]
        text, value = sentence(kind)
        found.setdefault(text, Sentence(text.split(), "praise" if value > 0 else "blame", kind))
    return list(found.values())


# ---- sentences of files ----------------------------------------------------------------------------------------------


def words_of(text: str) -> list[str]:
    """Return the lower-case words and signs of a sentence, with endings like n't and 's apart, as Kim cut them.

    >>> from chainrule.nn.examples.sentiment import words_of
    >>> words_of("It isn't the film's fault!")
    ['it', 'is', "n't", 'the', 'film', "'s", 'fault', '!']
    """
    return re.findall(r"n't\b|'\w+|\w+?(?=n't\b)|\w+|[^\w\s]", text.lower().replace("’", "'"))


def read_sentences(path: str | os.PathLike) -> list[Sentence]:
    """Return the sentences of a file with lines `label<TAB>sentence`, or of a folder with files .pos and .neg.

    In a folder (as Pang & Lee's rt-polarity.pos and rt-polarity.neg) every line is a sentence, and its file's ending is
    its label. Files are in UTF-8; empty lines are skipped; what is longer than 100 words is cut.
    Raises OSError for what is not there, ValueError for a line of another form, for fewer than 20 sentences or for less
    than two labels.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(file for ending in ("neg", "pos") for file in path.glob(f"*.{ending}"))
        lines = [(file.name, i, f"{file.suffix[1:]}\t{line}") for file in files for i, line in _lines(file)]
        form = "a folder with files .neg and .pos"
    else:
        lines, form = [(path.name, i, line) for i, line in _lines(path)], "a file with lines label<TAB>sentence"
    sentences = []
    for name, i, line in lines:
        label, _, text = line.partition("\t")
        words = words_of(text)[:LONGEST]
        if not (label.strip() and words):
            raise ValueError(
                f"read_sentences received {name} with {line[:40]!r} in line {i}, which has no label, tab and sentence. "
                "Write each line as label<TAB>sentence."
            )
        sentences.append(Sentence(words, label.strip(), ""))
    labels = sorted({sentence.label for sentence in sentences})
    if len(sentences) < LEAST or len(labels) < 2:
        raise ValueError(
            f"read_sentences received {str(path)!r} with {len(sentences)} sentences and the labels {labels}, too few "
            f"to learn from and test on. Pass {form}, with at least {LEAST} sentences of at least 2 labels."
        )
    return sentences


def _lines(file: Path) -> list[tuple[int, str]]:
    return [(i, line) for i, line in enumerate(read_text(file).split("\n"), 1) if line.strip()]


# ---- models and training ---------------------------------------------------------------------------------------------


class BagOfWords(Module):
    """The yardstick that knows no order: each word has a weight for each label, and the weights are added.

    x word numbers (N, L), where 0 is padding → logits (N, num_classes).

    >>> from chainrule.nn.examples.sentiment import BagOfWords
    >>> net = BagOfWords(9, 2)
    >>> _ = cr.nn.init.normal_(net.table.weight)
    >>> bool((net(cr.tensor([[3, 7]])) == net(cr.tensor([[7, 3]]))).all())
    True
    """

    def __init__(self, num_embeddings: int, num_classes: int):
        super().__init__()
        self.table = Embedding.from_pretrained(zeros(num_embeddings, num_classes), freeze=False, padding_idx=0)

    def forward(self, words: Tensor) -> Tensor:
        """Return the sums."""
        return self.table(words).sum(1)


def _cnn(words: int, labels: int) -> Module:
    """Kim's network with a small random table, as his: a large one hardly moves."""
    return SentenceCNN(words, labels, dropout=0.3, embeddings=randn(words, 32) / 10)


def _lstm(words: int, labels: int) -> Module:
    return SentenceLSTM(words, labels, embedding_dim=32, hidden_size=64, dropout=0.2)


# What makes each model of so many words and labels, and its highest learning rate.
MODELS = {"bag of words": (BagOfWords, 2e-2), "sentence CNN": (_cnn, 5e-3), "LSTM": (_lstm, 1e-2)}


class Numbered(TensorDataset):
    """Sentences as padded rows of word numbers, of which a batch keeps the columns that its longest sentence needs."""

    def __init__(self, sentences: Sequence[Sentence], vocabulary: Vocabulary, labels: Sequence[str]):
        self.sentences = sentences
        rows = [vocabulary.encode(sentence.words) for sentence in sentences]
        super().__init__(pad_sequence(rows, batch_first=True), tensor([labels.index(s.label) for s in sentences]))

    def batch(self, indices: np.ndarray) -> list[Tensor]:
        """Return (B, L) word numbers, L the length of the longest, and (B,) labels."""
        words, labels = super().batch(indices)
        return [words[:, : int((words != 0).sum(1).max())], labels]


def train(
    data: str | os.PathLike = "made",
    epochs: int = 15,
    out: str | os.PathLike = "runs/sentiment",
    seed: int = 0,
    *,
    device: str = "cpu",
    count: int = 6000,
    verbose: bool = True,
) -> dict[str, Any]:
    """Train a bag of words, Kim's CNN and an LSTM on the same sentences; leave weights, logs and a report in `out`.

    Each by Adam on a one-cycle schedule; the epoch with the lowest loss on a tenth of the sentences is tested on
    another tenth. data: "made" (`count` sentences of the grammar of `made_sentences`), or a file or folder that
    `read_sentences` reads. seed: of sentences, split, weights and order; equal seeds give equal numbers for one number
    of threads. device: "cpu" or "cuda". verbose: say on standard output what happens.
    Returns accuracy (of each model, in all and for each kind of made sentence), seconds and out. Raises what
    `read_sentences` does, ImportError (naming the extra) without Matplotlib.
    """
    began = time.perf_counter()
    require_matplotlib()  # before the work, not after it
    as_device(device)
    generator, out = Generator(seed), Path(out)
    sentences = made_sentences(count, generator) if data == "made" else read_sentences(data)
    labels = sorted({sentence.label for sentence in sentences})
    parts = _split(sentences, generator)
    vocabulary = _vocabulary(parts[0])
    training, validation, test = (Numbered(part, vocabulary, labels) for part in parts)
    say = print if verbose else lambda text: None
    say(
        f"{len(training):,} sentences to learn from, {len(validation):,} to choose the epoch, {len(test):,} to test; "
        f"{len(vocabulary):,} words; labels {', '.join(labels)}."
    )
    results = {}
    for name, (make, rate) in MODELS.items():
        manual_seed(seed)
        model = make(len(vocabulary), len(labels)).to(device)
        history = _fit(model, rate, training, validation, epochs, out / name.replace(" ", "-"), verbose)
        answers = _answers(model, test, device)
        results[name] = Result(sum(p.numel() for p in model.parameters()), history, [labels[i] for i in answers])
    text = report(test.sentences, results)
    write_atomically(out / "report.txt", [text.encode()])
    rows: list[dict[str, Any]] = [{"model": name, **row} for name, r in results.items() for row in r.history]
    write_atomically(out / "log.csv", [table(rows).encode()])
    write_atomically(out / "words.json", [json.dumps({"labels": labels, "words": vocabulary.tokens}).encode()])
    histories = {name: result.history for name, result in results.items()}
    draw_comparison(histories, out / "training.png", "Praise or blame" if data == "made" else Path(data).name)
    seconds = time.perf_counter() - began
    say(f"\n{text}\n{seconds:.1f} s in all. In {out}: {', '.join(sorted(file.name for file in out.iterdir()))}.")
    accuracies = {name: _shares(test.sentences, result.answers) for name, result in results.items()}
    return {"accuracy": accuracies, "seconds": seconds, "out": str(out)}


class Result(NamedTuple):
    """What became of a model: its size, the figures of its epochs, and its answers to the test sentences."""

    parameters: int
    history: list[dict[str, float]]
    answers: list[str]


def report(sentences: Sequence[Sentence], results: Mapping[str, Result], most: int = 8) -> str:
    """Return a table of the models' accuracies, in all and for each kind of sentence, and sentences they got wrong.

    >>> from chainrule.nn.examples.sentiment import Result, Sentence, report
    >>> sentences = [Sentence(["good"], "praise", "plain"), Sentence(["not", "good"], "blame", "negation")]
    >>> print(report(sentences, {"optimist": Result(3, [], ["praise", "praise"])}))
    model     parameters  seconds     all    plain  negation
    optimist           3      0.0  50.0 %  100.0 %     0.0 %
    <BLANKLINE>
    label  optimist  sentence
    blame  praise ✗  not good
    """
    shares = {name: _shares(sentences, result.answers) for name, result in results.items()}
    rows = [["model", "parameters", "seconds", *next(iter(shares.values()))]]
    for name, result in results.items():
        seconds = sum(row["seconds"] for row in result.history)
        percent = [f"{100 * share:.1f} %" for share in shares[name].values()]
        rows.append([name, f"{result.parameters:,}", f"{seconds:.1f}", *percent])
    asked = [(s, [result.answers[i] for result in results.values()]) for i, s in enumerate(sentences)]
    wrong = [(s, answers) for s, answers in asked if set(answers) != {s.label}]
    wrong.sort(key=lambda pair: (-sum(a != pair[0].label for a in pair[1]), len(pair[0].words)))
    shown = [["label", *results, "sentence"]]
    for sentence, answers in wrong[:most]:
        marked = [answer + " ✗" * (answer != sentence.label) for answer in answers]
        shown.append([sentence.label, *marked, " ".join(sentence.words)])
    return "\n".join([*_columns(rows, str.rjust), *(["", *_columns(shown, str.ljust)] if wrong else []), ""])


def _shares(sentences: Sequence[Sentence], answers: Sequence[str]) -> dict[str, float]:
    """Return the share of right answers in all, and for each kind of sentence."""
    right = np.array([s.label == answer for s, answer in zip(sentences, answers)])
    kinds = np.array([s.kind for s in sentences])
    return {"all": float(right.mean()), **{kind: float(right[kinds == kind].mean()) for kind in KINDS if kind in kinds}}


def _columns(rows: Sequence[Sequence[str]], justify: Callable[[str, int], str]) -> list[str]:
    """Return the lines of a table, whose first column is flush left."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    first = lambda row: row[0].ljust(widths[0])
    return ["  ".join([first(row), *(justify(c, w) for c, w in zip(row[1:], widths[1:]))]).rstrip() for row in rows]


def _split(sentences: Sequence[Sentence], generator: Generator) -> list[list[Sentence]]:
    """Return eight, one and one tenths of the sentences, drawn at random."""
    order, tenth = generator.rng.permutation(len(sentences)), len(sentences) // 10
    cuts = np.split(order, [len(order) - 2 * tenth, len(order) - tenth])
    return [[sentences[i] for i in part] for part in cuts]


def _vocabulary(sentences: Sequence[Sentence]) -> Vocabulary:
    """Return the words that occur at least twice; the others stand for those that a test brings along."""
    counts = Counter(word for sentence in sentences for word in sentence.words)
    return Vocabulary.of([word for word, n in counts.items() if n > 1], SPECIAL, SPECIAL[1])


def _fit(
    model: Module, rate: float, training: Numbered, validation: Numbered, epochs: int, out: Path, verbose: bool
) -> list[dict[str, float]]:
    """Train, put the weights of the best epoch back, and return the figures of all."""
    out.mkdir(parents=True, exist_ok=True)
    loader = DataLoader(training, BATCH, shuffle=True)
    optimizer = Adam(model.parameters(), rate)
    trainer = Trainer(
        model,
        cross_entropy,
        optimizer,
        scheduler=OneCycleLR(optimizer, rate, epochs=epochs, steps_per_epoch=len(loader)),
        schedule_every="batch",
        clip_norm=5.0,
        out=out,
        verbose=verbose,
    )
    history = trainer.fit(loader, DataLoader(validation, 500), epochs)
    model.load_state_dict(load(out / "best.safetensors"))
    return history


def _answers(model: Module, dataset: Numbered, device: str) -> list[int]:
    model.eval()
    with no_grad():
        return [i for words, _ in DataLoader(dataset, 500) for i in model(words.to(device)).argmax(1).tolist()]
