"""A network with attention learns to translate English into Tavo, a language made by rule."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...autograd import Generator, Tensor, as_device, cross_entropy, manual_seed, tensor
from ..data import DataLoader, Dataset, Vocabulary
from ..models import Seq2Seq
from ..optim import Adam
from ..optim.lr_scheduler import OneCycleLR
from ..trainer import Trainer
from ..utils.rnn import pad_sequence
from .plotting import blank, draw_training, require_matplotlib
from .settings import begin, must_match


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split(":") for pair in text.split())


NOUNS = _pairs(
    "cat:miru dog:bako bird:pili horse:keta girl:sumi king:vero queen:dana teacher:rado sailor:loni farmer:agru "
    "doctor:heli painter:zofu"
)
ADJECTIVES = _pairs("small:tiko big:gran red:rosu blue:azul old:velo young:novi happy:felu tired:lasu")
VERBS = _pairs("see:vidi hear:auda find:trova follow:seku call:voka help:juvi thank:grati know:savi")
MODALS = _pairs("will:ro can:po must:de")
TIMES = _pairs("today:hodi tomorrow:mani soon:rapi often:ofte")
SINGULAR, PLURAL = _pairs("the:la my:mea every:omni"), _pairs("two:du three:tri many:multi")
TAVO = NOUNS | ADJECTIVES | VERBS | MODALS | TIMES | SINGULAR | PLURAL
RATE = 5e-3
END = "<end>"
SPECIAL = "<padding>", "<start>", END  # numbers 0, 1 and 2, which `Seq2Seq` expects


class NounPhrase(NamedTuple):
    """A noun with its determiner and adjectives, in the order of English.

    >>> from chainrule.nn.examples.translate import NounPhrase
    >>> phrase = NounPhrase("two", ("small", "red"), "cat")
    >>> phrase.english(), phrase.tavo()
    (['two', 'small', 'red', 'cats'], ['du', 'miru', 'lo', 'rosu', 'tiko'])
    """

    determiner: str
    adjectives: tuple[str, ...]
    noun: str

    def english(self) -> list[str]:
        """Return determiner, adjectives, noun."""
        return [self.determiner, *self.adjectives, self.noun + "s" * (self.determiner in PLURAL)]

    def tavo(self) -> list[str]:
        """Return determiner, noun, the word lo if there are several, then the adjectives from last to first."""
        plural = ["lo"] * (self.determiner in PLURAL)
        return [TAVO[self.determiner], TAVO[self.noun], *plural, *(TAVO[word] for word in reversed(self.adjectives))]


class Sentence(NamedTuple):
    """What the two languages say in different order; time is a list of one word or none.

    >>> from chainrule.nn.examples.translate import NounPhrase, Sentence
    >>> king, dogs = NounPhrase("the", ("old",), "king"), NounPhrase("two", (), "dog")
    >>> sentence = Sentence(king, "will", True, "see", dogs, ("today",))
    >>> " ".join(sentence.english())
    'the old king will not see two dogs today'
    >>> " ".join(sentence.tavo())
    'hodi la vero velo du bako lo ka vidi nai ro'
    """

    subject: NounPhrase
    modal: str
    negated: bool
    verb: str
    object: NounPhrase
    time: tuple[str, ...]

    def english(self) -> list[str]:
        """Return subject, modal, not, verb, object, time."""
        negation = ["not"] * self.negated
        return [*self.subject.english(), self.modal, *negation, self.verb, *self.object.english(), *self.time]

    def tavo(self) -> list[str]:
        """Return time, subject, object and the word ka that marks it, verb, nai if negated, modal."""
        time, negation = [TAVO[word] for word in self.time], ["nai"] * self.negated
        nouns = [*self.subject.tavo(), *self.object.tavo(), "ka"]
        return [*time, *nouns, TAVO[self.verb], *negation, TAVO[self.modal]]


def draw_sentences(count: int, rng: np.random.Generator) -> list[Sentence]:
    """Return so many different sentences whose parts are drawn uniformly, with 0 to 2 adjectives for each noun.

    >>> from chainrule.nn.examples.translate import draw_sentences
    >>> len(set(draw_sentences(100, np.random.default_rng(0))))
    100
    """

    def some(words: dict[str, str], least: int, most: int) -> tuple[str, ...]:
        return tuple(rng.choice(list(words), rng.integers(least, most + 1), replace=False).tolist())

    one = lambda words: some(words, 1, 1)[0]
    phrase = lambda: NounPhrase(one(SINGULAR | PLURAL), some(ADJECTIVES, 0, 2), one(NOUNS))
    found: dict[Sentence, None] = {}
    while len(found) < count:
        sentence = Sentence(phrase(), one(MODALS), bool(rng.integers(2)), one(VERBS), phrase(), some(TIMES, 0, 1))
        found[sentence] = None
    return list(found)


class Pairs(Dataset):
    """Sentences as numbers: ((English, its lengths, Tavo), Tavo), where Tavo ends with `<end>`."""

    def __init__(self, sentences: Sequence[Sentence], english: Vocabulary, tavo: Vocabulary):
        sources = [english.encode(sentence.english()) for sentence in sentences]
        targets = [tavo.encode([*sentence.tavo(), END]) for sentence in sentences]
        self.lengths = tensor([len(source) for source in sources])
        self.english, self.tavo = (pad_sequence(rows, batch_first=True) for rows in (sources, targets))

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, indices: np.ndarray) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """Return a batch, no wider than its longest sentences."""
        lengths, target = self.lengths[indices], self.tavo[indices]
        target = target[:, : int((target != 0).sum(1).max())]
        return (self.english[indices][:, : int(lengths.max())], lengths, target), target


class Translator(Seq2Seq):
    """A `Seq2Seq` for a `Trainer`, which hands over one argument: forward((source, lengths, target))."""

    def forward(self, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:  # type: ignore[override]
        """Return the logits."""
        return super().forward(*x)


def mean_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy, averaged over the words."""
    return cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=0)


def whole(logits: Tensor, target: Tensor) -> Tensor:
    """Return the share of sentences all of whose words are the most probable, so that greedy decoding is right."""
    return ((logits.argmax(-1) == target) | (target == 0)).all(1).float().mean()


def train(
    epochs: int | None = None,
    out: str | os.PathLike = "runs/translate",
    seed: int = 0,
    resume: bool = False,
    *,
    device: str = "cpu",
    samples: int = 2000,
    verbose: bool = True,
) -> dict[str, Any]:
    """Train an encoder-decoder with attention to translate; leave checkpoints, log and pictures; return a summary.

    epochs: 6 if None. out: the folder for them. seed: of weights and order (the sentences are always the same); equal
    seeds give equal numbers for one number of threads. resume: go on from the last whole epoch in `out` to the same
    numbers. device: "cpu" or "cuda". samples: how many sentences to learn from; a quarter as many, all
    different from these, are translated in the end. verbose: say on standard output what happens.
    Returns accuracy (share of the sentences translated without a mistake), mistakes, tested, epochs, seconds and out.
    Raises ValueError for settings unlike those of the run resumed, FileNotFoundError where none has begun, ImportError
    (naming the extra) without Matplotlib.
    """
    began = time.perf_counter()
    require_matplotlib()  # before the work, not after it
    as_device(device)
    epochs, out = epochs or 6, Path(out)
    settings = {"epochs": epochs, "seed": seed, "samples": samples}
    if resume:
        must_match(out, settings, "translate")
    else:
        begin(out, settings)

    manual_seed(seed)
    sentences = draw_sentences(samples + max(samples // 4, 1), np.random.default_rng(0))
    learnt, kept = sentences[:samples], sentences[samples:]
    english = Vocabulary.of([*TAVO, *(f"{noun}s" for noun in NOUNS), "not"], SPECIAL)
    tavo = Vocabulary.of([*TAVO.values(), "lo", "ka", "nai"], SPECIAL)
    loader = DataLoader(Pairs(learnt, english, tavo), 32, shuffle=True, generator=Generator(seed))
    test = Pairs(kept, english, tavo)
    model = Translator(len(english), len(tavo), embedding_dim=32, hidden_size=64).to(device)
    optimizer = Adam(model.parameters(), RATE)
    trainer = Trainer(
        model,
        mean_loss,
        optimizer,
        scheduler=OneCycleLR(optimizer, RATE, epochs=epochs, steps_per_epoch=len(loader)),
        schedule_every="batch",
        metrics={"accuracy": whole},
        clip_norm=1.0,
        out=out,
        verbose=verbose,
    )
    if verbose:
        print(f"{len(learnt):,} English sentences and what they are in Tavo, {len(kept):,} others to translate then.")
    history = trainer.fit(loader, DataLoader(test, 256), epochs, resume)

    answers = translate(model.eval(), test, tavo)
    wrong = [i for i, (words, _) in enumerate(answers) if words != [*kept[i].tavo(), END]]
    longest = sorted(range(len(kept)), key=lambda i: len(kept[i].english()))[-2:]
    draw_training(history, out / "training.png", "English to Tavo: whole sentences")
    draw_alignments([(kept[i].english(), *answers[i]) for i in longest], out / "alignment.png")
    summary = {
        "accuracy": 1 - len(wrong) / len(kept),
        "mistakes": len(wrong),
        "tested": len(kept),
        "epochs": len(history),
        "seconds": time.perf_counter() - began,
        "out": str(out),
    }
    if verbose:
        for i in [*range(len(kept))[:3], *(i for i in wrong[:3] if i > 2)]:
            right = f"wrong, it is: {' '.join(kept[i].tavo())}" if i in wrong else "right"
            print(f"{' '.join(kept[i].english())}\n  {' '.join(answers[i][0]).removesuffix(END)} ({right})")
        files = ", ".join(sorted(file.name for file in out.iterdir()))
        print(
            f"It translates {summary['accuracy']:.2%} of {len(kept):,} sentences it never saw without a mistake, "
            f"after {len(history)} epochs, {summary['seconds']:.1f} s in all.\nIn {out}: {files}."
        )
    return summary


def translate(model: Translator, pairs: Pairs, tavo: Vocabulary) -> list[tuple[list[str], np.ndarray]]:
    """Return of each sentence the words of its translation up to `<end>`, and their attention to the English words."""
    device = next(iter(model.parameters())).device
    tokens, _, weights = model.greedy(pairs.english.to(device), pairs.lengths, max_length=40)
    lengths = (tokens != model.decoder.padding).sum(1)
    rows = zip(tokens.tolist(), weights.cpu().numpy(), lengths.tolist(), pairs.lengths.tolist())
    return [(tavo.decode(row[:long]), seen[:long, :wide]) for row, seen, long, wide in rows]


def draw_alignments(
    alignments: Sequence[tuple[Sequence[str], Sequence[str], np.ndarray]], path: str | os.PathLike
) -> None:
    """Write a PNG of which words a translation looked at, as in figure 3 of Bahdanau et al. 2015.

    alignments: (words (L,), translated words (T,), weights (T, L)), one picture each, side by side.
    """
    figure = blank(5.2 * len(alignments), 5.2)
    for axes, (source, target, weights) in zip(figure.subplots(1, len(alignments), squeeze=False).flat, alignments):
        image = axes.imshow(weights, cmap="gray_r", vmin=0, vmax=1)
        axes.set_xticks(range(len(source)), source, rotation=60, ha="left", rotation_mode="anchor")
        axes.set_yticks(range(len(target)), target)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_color("0.8")
    figure.colorbar(image, ax=figure.axes, shrink=0.6, label="attention of the word on the left to the word above")
    figure.savefig(path, dpi=130)
