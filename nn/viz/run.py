"""`TrainingPage`: what `Trainer(viz="run.html")` writes while it trains, one page that opens without a network."""

from __future__ import annotations

import json
import math
import os
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ...autograd import Tensor, default_generator, kernels_of
from ...autograd.viz import record, shell, why
from ..module import Module
from ..trainer import evaluating
from .log import Log, Row
from .looks import Looker, one_sample
from .run_body import body

SECONDS = 2.0  # between two versions of the page, at least
SHARE = 0.02  # of the time that writing may take, at most
PARTS = 48  # lines in the charts
ASSETS = Path(__file__).with_name("assets")


class Part(NamedTuple):
    """The parameters that one line of the charts stands for: those of a module, or of all modules below a path."""

    name: str
    kind: str
    parameters: list[Tensor]


def parts_of(model: Module) -> list[Part]:
    """The modules that own parameters, in order; in a large model those that share the first steps of their path.

    >>> from chainrule.nn.viz.run import parts_of
    >>> [(part.name, part.kind) for part in parts_of(cr.nn.models.LeNet5())]
    [('c1', 'Conv2d'), ('c3', 'Conv2d'), ('c5', 'Conv2d'), ('f6', 'Linear'), ('output', 'Linear')]
    """
    owners = [(name.split(".")[:-1], parameter) for name, parameter in model.named_parameters()]
    depth = max((len(path) for path, _ in owners), default=0)
    while True:
        grouped: dict[str, list[Tensor]] = {}
        for path, parameter in owners:
            grouped.setdefault(".".join(path[:depth]), []).append(parameter)
        if len(grouped) <= PARTS or depth <= 1:
            break
        depth -= 1
    kind = lambda path: type(model.get_submodule(path)).__name__
    return [Part(path or "model", kind(path), parameters) for path, parameters in grouped.items()]


class TrainingPage:
    """Follows a `Trainer` and keeps the page at `path` up to date.

    Raises TypeError or ValueError for a path that can be no page.
    """

    def __init__(self, path: str | os.PathLike):
        if not isinstance(path, str | os.PathLike):
            raise TypeError(
                f"Trainer received viz={path!r}, of type {type(path).__name__}; the training page is a file. "
                'Pass its path: viz="run.html".'
            )
        self.path = Path(path)
        if self.path.suffix not in (".html", ".htm") or self.path.is_dir():
            what = "is a folder" if self.path.is_dir() else "does not end in .html, so that no browser would open it"
            raise ValueError(f'Trainer received viz={str(path)!r}, which {what}. Pass the path of a file: "run.html".')
        self.trainer: Any = None  # these three while it trains
        self._looker: Any = None
        self._repeat: Any = None
        self.log: Log | None = None
        self.status, self.message = "running", ""
        self.broke: dict[str, Any] | None = None
        self.interval, self._next = SECONDS, 0.0
        self._measured: tuple | None = None  # the step under way

    # ---- what the trainer tells --------------------------------------------------------------------------------------

    @contextmanager
    def following(self, trainer: Any, train: Any, validation: Any, epochs: int, resume: bool) -> Iterator[None]:
        """The time in which `trainer` trains; the page tells how it ended."""
        self._begin(trainer, train, validation, epochs, resume)
        trainer.say(f"Training page: {self.path}")
        try:
            yield
            self._end("finished" if len(trainer.history) >= epochs else "stopped early")
        except KeyboardInterrupt:
            self._end("interrupted")
            raise
        except BaseException as error:
            self._end("broken" if self.broke else "failed", str(error) if self.broke else type(error).__name__)
            raise
        finally:
            self.trainer = self._looker = self._repeat = None  # no cycle, and no batch kept

    @property
    def due(self) -> bool:
        """Whether the next step is to be measured."""
        return self.log is not None and self.log.due

    @contextmanager
    def moving(self, rate: float) -> Iterator[None]:
        """Around clipping and the optimiser's step: measures gradients before, and how far the weights went after."""
        if not self.due:
            yield
            return
        moved = [p for part in self.parts for p in part.parameters]
        gradients = [_norm([p.grad for p in part.parameters if p.grad is not None]) for part in self.parts]
        total = _norm([p.grad for p in moved if p.grad is not None])
        weights = [_norm([p.detach() for p in part.parameters]) or 0.0 for part in self.parts]
        before = [[p.detach().clone() for p in part.parameters] for part in self.parts]
        yield
        updates = [
            _norm([p.detach() - old for p, old in zip(part.parameters, kept)])
            for part, kept in zip(self.parts, before)
        ]
        self._measured = rate, total, gradients, updates, weights

    def step(self, loss: float) -> None:
        """A step has been made."""
        log = self.log
        assert log is not None
        log.add(loss)
        if self._measured is not None:
            log.rows.append(Row(log.done, *self._measured))
            self._measured = None
        if log.look_due:
            self._look()
        if time.monotonic() >= self._next:
            self.write()

    def epoch(self, row: dict[str, float]) -> None:
        """An epoch has ended, with these figures."""
        assert self.log is not None
        self.log.epochs.append({"step": self.log.done, **row})

    def begins(self, x: Any, y: Any) -> None:
        """A step begins with this batch; what it takes to repeat it is kept until the next."""
        self._repeat = x, y, dict(vars(self.trainer)), default_generator.get_state()

    def breaks(self, value: float, epoch: int, rate: float) -> None:
        """The loss is no longer finite."""
        assert self.log is not None
        odd = [part.name for part in self.parts if not math.isfinite(_norm([p.detach() for p in part.parameters]) or 0)]
        facts = {"step": self.log.done + 1, "epoch": epoch, "loss": value, "rate": rate, "weights": odd}
        self.broke = facts | {"why": self._why()}

    def _why(self) -> str:
        """What `viz.why` says of the step's forward pass, repeated with the same random numbers and recorded."""
        trainer, (x, y, own, state) = self.trainer, self._repeat
        try:
            with trainer._aside(default_generator):
                vars(trainer).update(own)
                default_generator.set_state(state)
                with record() as recording:
                    loss = trainer.loss(trainer.output(x), y)
                return str(why(loss, recording=recording))
        except Exception as error:  # the training's own error is the one to raise
            return f"{type(error).__name__}: {error}"

    # ---- beginning and end -------------------------------------------------------------------------------------------

    def _begin(self, trainer: Any, train: Any, validation: Any, epochs: int, resume: bool) -> None:
        self.trainer = trainer
        self.parts = parts_of(trainer.model)
        self.planned = epochs * len(train)
        self.status, self.message, self.broke, self._measured = "running", "", None, None
        if resume:
            self.log = self._restored(trainer.history, len(train))
        elif self.log is None:
            self.log = Log(self.planned)
        self._looker, self._no_look = self._prepare(train, validation), ""
        if self.log.done == 0:
            self._look()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._save()

    def _restored(self, history: Sequence[dict[str, float]], steps: int) -> Log:
        """The log of the page on disk up to the checkpoint; without one, what the checkpoint tells."""
        done = len(history) * steps
        log = Log(max(self.planned, done))
        try:
            data = read(self.path)
            if [part["name"] for part in data["parts"]] == [part.name for part in self.parts]:
                log = Log.read(data)
        except (OSError, ValueError, KeyError, TypeError):
            pass  # no page, or none of this training: a new one
        log.back_to(done)
        log.epochs = [{"step": int(row["epoch"]) * steps, **row} for row in history]
        return log

    def _end(self, status: str, message: str = "") -> None:
        assert self.log is not None
        self.status, self.message = status, message
        if self.log.done and self.log.looks and self.log.looks[-1]["step"] < self.log.done:
            self._look()
        self.write()

    # ---- looks -------------------------------------------------------------------------------------------------------

    def _prepare(self, train: Any, validation: Any) -> Looker:
        """Fetch the sample that all looks show: the first of the validation data, or of the training data."""
        trainer, loader = self.trainer, validation or train
        with trainer._aside(*trainer._sources(train, loader)):
            x, _ = next(iter(trainer._batches(loader)))
        sample = one_sample(x, trainer._samples_along)

        def forward() -> None:
            with trainer._aside(), evaluating(trainer.model):  # the loader's generators may be at work in a thread
                trainer.output(sample)

        return Looker(trainer.model, forward, sample)

    def _look(self) -> None:
        assert self.log is not None
        if self._no_look:
            return
        try:
            self.log.keep(*self._looker.look())
        except Exception as error:  # a picture is no reason to end a training
            self._no_look = f"{type(error).__name__}: {error}"

    # ---- the page ----------------------------------------------------------------------------------------------------

    def write(self) -> None:
        """Write the page anew; where that fails a RuntimeWarning says so, and the training goes on."""
        began = time.monotonic()
        try:
            self._save()
        except OSError as error:
            warnings.warn(f"The training page {self.path} was not written: {error}", RuntimeWarning, stacklevel=2)
        now = time.monotonic()
        self.interval = max(SECONDS, (now - began) / SHARE)
        self._next = now + self.interval

    def _save(self) -> None:
        data = self.data()
        model = self.trainer.model
        count = sum(p.numel() for p in model.parameters())
        optimizer = type(self.trainer.optimizer).__name__
        page = shell.document(
            f"Training of {type(model).__name__}",
            body(data),
            data=data,
            description=f"{count:,} parameters, moved by {optimizer}. Written by chainrule while it trains.",
            asset=ASSETS / "run",
        )
        shell.save(self.path, page)

    def data(self) -> dict[str, Any]:
        """What the page knows."""
        log = self.log
        assert log is not None
        return {
            **log.data(),
            "status": self.status,
            "message": self.message,
            "broke": self.broke,
            "planned": max(self.planned, log.done),
            "clip": self.trainer.clip_norm,
            "parts": [
                {"name": part.name, "kind": part.kind, "size": sum(p.numel() for p in part.parameters)}
                for part in self.parts
            ],
            "parameters_left_out": self._looker.left_out,
            "modules": {"shown": len(self._looker.paths or ()), "of": self._looker.called},
            "no_look": self._no_look,
            "written": time.time(),
            "interval": self.interval,
        }


def _norm(tensors: Sequence[Tensor]) -> float | None:
    """√(Σ of all squares), None of no tensors."""
    return float(kernels_of(tensors[0]).gradient_norm([t.array for t in tensors])) if tensors else None


def read(path: str | os.PathLike) -> dict[str, Any]:
    """The data in a training page; ValueError where there are none."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', Path(path).read_text("utf-8"), re.S)
    if found is None:
        raise ValueError(f"{path} holds no data of a training page")
    return json.loads(found[1])
