"""A recurrent network learns to write, character by character (Graves 2013; Karpathy 2015)."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import Any

from ...autograd import Generator, Tensor, as_device, cross_entropy, manual_seed
from ..data import Streams, Vocabulary, language_reference, read_text
from ..models import CharLM, generate
from ..models.language import check_temperature
from ..optim import Adam
from ..optim.lr_scheduler import OneCycleLR
from ..serialization import load
from ..trainer import StatefulTrainer
from .plotting import draw_bits, require_matplotlib
from .settings import begin, must_match, read

STREAMS, WINDOW, RATE = 32, 64, 6e-3
STEPS = 3000  # of the default training, in whole epochs
COMMAND = "charlm"
MODEL = ("hidden_size", "num_layers", "cell", "dropout")
SETTINGS = ("text", "vocabulary", "prompt", *MODEL, "epochs", "seed")


def train(
    data: str = "reference",
    epochs: int | None = None,
    out: str | os.PathLike = "runs/charlm",
    seed: int = 0,
    resume: bool = False,
    *,
    device: str = "cpu",
    cell: str = "lstm",
    hidden: int = 256,
    layers: int = 1,
    dropout: float = 0.3,
    temperature: float = 0.8,
    viz: bool = False,
    verbose: bool = True,
) -> dict[str, Any]:
    """Train a character model by Adam on a one-cycle schedule; leave checkpoints, log and picture in `out`.

    The text is read in 32 streams side by side, and back-propagation is truncated to windows of 64 characters. Its last
    tenth is kept for validation; only the alphabet is that of the whole text. Losses are bits per character.
    data: "reference" (Python's language reference), the path of a text file, or "hello", the lecture's toy: one word of
    four letters, learnt by heart. epochs: if None, as many as make 3,000 steps, but at most 30. cell, hidden, layers,
    dropout: of `models.CharLM`. temperature: of the samples shown after each epoch. seed: of weights, dropout and
    samples; equal seeds give equal numbers for one number of threads. resume: go on from the last whole epoch in `out`
    to the same numbers. device: "cpu" or "cuda". viz: write run.html, a page on which the training can be watched.
    verbose: say on standard output what happens.
    Returns bits, yardsticks, epochs, sample, seconds and out. Raises ValueError for a text that is too short and for
    settings unlike those of the run resumed, OSError for a file that is not there, ImportError without Matplotlib.
    """
    began = time.perf_counter()
    require_matplotlib()  # before the work, not after it
    as_device(device)
    check_temperature(temperature)
    learnt, kept = _corpus(data)
    vocabulary, out = Vocabulary.of(learnt + kept), Path(out)
    loader, validation = (_windows(vocabulary.encode(part)) for part in (learnt, kept))
    settings: dict[str, Any] = {
        "text": hashlib.sha256((learnt + kept).encode()).hexdigest(),
        "vocabulary": "".join(vocabulary.tokens),
        "prompt": learnt[0],
        "hidden_size": hidden,
        "num_layers": layers,
        "cell": cell,
        "dropout": dropout,
        "epochs": epochs or (max(1, min(round(STEPS / len(loader)), 30)) if kept else 3),
        "seed": seed,
    }
    manual_seed(seed)
    model = _model(settings).to(device)
    _prepare(out, settings, resume)

    written = lambda: continued(model, vocabulary, learnt[0], min(160, len(learnt) - 1), temperature, seed)
    optimizer = Adam(model.parameters(), RATE)
    trainer = StatefulTrainer(
        model,
        bits,
        optimizer,
        scheduler=OneCycleLR(optimizer, RATE, settings["epochs"] * len(loader), pct_start=0.1),
        schedule_every="batch",
        metrics={},
        clip_norm=1.0,
        out=out,
        viz=out / "run.html" if viz else None,
        on_epoch=lambda row: trainer.say(textwrap.indent(written(), "    | ", lambda line: True)),
        verbose=verbose,
    )
    rivals = yardsticks(learnt, kept) if kept else {}
    trainer.say(
        f"{data}: {len(learnt):,} characters to learn from, {len(kept):,} for validation, {len(vocabulary)} distinct.\n"
        f"Losses are bits per character{''.join(f'; {name} needs {value:.2f}' for name, value in rivals.items())}."
    )
    history = trainer.fit(loader, validation, settings["epochs"], resume)
    draw_bits(history, rivals, out / "training.png", f"{cell.upper()} with {hidden} units, {Path(data).name}")
    summary = {
        "bits": trainer.best,
        "yardsticks": rivals,
        "epochs": len(history),
        "sample": written(),
        "seconds": time.perf_counter() - began,
        "out": str(out),
    }
    files = ", ".join(sorted(file.name for file in out.iterdir()))
    trainer.say(
        f"{summary['bits']:.3f} bits per character of {'text it never saw' if kept else 'its text'} after "
        f"{len(history)} epochs, {summary['seconds']:.1f} s in all.\nIn {out}: {files}.\n"
        f"Let it write: chainrule sample {out}"
    )
    return summary


def sample(
    run: str | os.PathLike,
    prompt: str | None = None,
    length: int = 400,
    temperature: float = 0.8,
    seed: int = 0,
    device: str = "cpu",
) -> str:
    """Return a prompt and the `length` characters with which the best model of a training continues it.

    run: the folder that `train` wrote. prompt: if None, the first character of the text learnt. temperature: 0 takes
    the likeliest character each time; 1 draws as the model believes; more is bolder. Raises FileNotFoundError where
    there is no trained model, ValueError for characters that it does not know, temperatures below 0 and damaged files.
    """
    run, device = Path(run), as_device(device)
    settings, weights = read(run, SETTINGS, COMMAND), run / "best.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(
            f"{weights} is not there: the first epoch of this training has not ended. Wait for it, or, if it was "
            f"interrupted, train anew: chainrule train charlm --out {run}"
        )
    try:
        model = _model(settings).to(device)
        model.load_state_dict(load(weights))
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{run} holds no whole model: {error} Train it anew.") from error
    vocabulary = Vocabulary(settings["vocabulary"])
    return continued(model, vocabulary, settings["prompt"] if prompt is None else prompt, length, temperature, seed)


def continued(model: CharLM, vocabulary: Vocabulary, prompt: str, length: int, temperature: float, seed: int) -> str:
    """Return the prompt and what the model writes after it; the model is left in evaluation mode."""
    device = next(iter(model.parameters())).device
    ids = generate(model.eval(), vocabulary.encode(prompt).to(device), length, temperature, Generator(seed))
    return prompt + "".join(vocabulary.decode(ids.cpu()))


def bits(logits: Tensor, ids: Tensor) -> Tensor:
    """The mean of −log₂ p of the ids (T, B) that came next, from logits (T, B, V).

    >>> from chainrule.nn.examples.charlm import bits
    >>> bits(cr.zeros(3, 2, 8), cr.zeros(3, 2, dtype=cr.int64)).item()
    3.0
    """
    return cross_entropy(logits.flatten(0, 1), ids.flatten()) / math.log(2)


def yardsticks(learnt: str, kept: str) -> dict[str, float]:
    """Return the bits per character that simpler means need for `kept` when they know `learnt`.

    unigram: the frequencies of the characters, each counted once more; gzip: by how much `kept` makes the file longer.

    >>> from chainrule.nn.examples.charlm import yardsticks
    >>> yardsticks("ab" * 500, "ab" * 100)["unigram"]
    1.0
    """
    counts, total = Counter(learnt), len(learnt) + len(set(learnt + kept))
    unigram = sum(-math.log2((counts[character] + 1) / total) for character in kept) / len(kept)
    size = lambda text: 8 * len(gzip.compress(text.encode()))
    return {"unigram": unigram, "gzip": (size(learnt + kept) - size(learnt)) / len(kept)}


def _corpus(data: str) -> tuple[str, str]:
    """Return the text to learn and the text kept for validation, its last tenth."""
    if data == "hello":
        return data, ""
    text = language_reference() if data == "reference" else read_text(data)
    if len(set(text)) == 1:
        raise ValueError(f"train received a text that only repeats {text[0]!r}: nothing to predict. Pass another.")
    if len(text) < 10 * (WINDOW + 1):
        raise ValueError(
            f"train received a text of {len(text):,} characters; its last tenth, kept for validation, would not fill a "
            f"window of {WINDOW}. Pass a text of at least {10 * (WINDOW + 1)}."
        )
    cut = len(text) * 9 // 10
    return text[:cut], text[cut:]


def _windows(ids: Tensor) -> Any:
    """Return 32 streams, or as many as a short text fills; of a toy 50 times the whole, of nothing None."""
    if len(ids) <= WINDOW:
        return [*Streams(ids, 1, len(ids) - 1)] * 50 if len(ids) else None
    return Streams(ids, min(STREAMS, (len(ids) - 1) // WINDOW), WINDOW)


def _model(settings: dict[str, Any]) -> CharLM:
    return CharLM(len(settings["vocabulary"]), **{name: settings[name] for name in MODEL})


def _prepare(out: Path, settings: dict[str, Any], resume: bool) -> None:
    """Write the settings of a new run, or see that they are those of the run resumed."""
    if not resume:
        begin(out, settings)
    elif read(out, SETTINGS, COMMAND)["text"] != settings["text"]:
        raise ValueError(f"train received resume=True for {out}, which learns another text. Pass that (--data).")
    else:
        must_match(out, settings, COMMAND)
