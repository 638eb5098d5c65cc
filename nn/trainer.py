"""Trainer: epochs with a progress bar, validation, early stopping, checkpoints that resume to the same numbers."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ..autograd import Generator, Tensor, capture as replayable, default_generator, each_tensor, kernels_of, no_grad
from .figures import Means, accuracy, duration, line, table
from .files import write_atomically
from .optim import Optimizer, clip_grad_norm_
from .optim.lr_scheduler import LRScheduler
from .serialization import load, save
from .utils.rnn import detach_state

if TYPE_CHECKING:
    from .viz.run import TrainingPage


class Trainer:
    """Trains a model on batches (x, y) with `loss(model(x), y)`.

    scheduler: a learning-rate schedule, stepped after every `schedule_every` ("epoch" or "batch"). metrics: functions
    of (output, target), averaged over the samples and shown in per cent (pass {} for regression). clip_norm: limit of
    the gradients' norm. patience: stop after so many epochs without a lower validation loss (training loss, without
    validation data). out: a folder for `log.csv`, `best.safetensors` (the state_dict of the lowest loss) and
    `last.safetensors` (all that `fit(…, resume=True)` needs to go on to the same numbers, bit for bit). generators:
    those that the data draw from, besides the default one and the training loader's; their states are kept too.
    on_epoch: a function that is called with the figures of each epoch, once they are written. viz: the path of a page,
    such as "run.html", that shows loss, gradient norms, weights and feature maps while they come about; it looks at the
    model by running it on one sample in evaluation mode. capture: on a GPU, replay the step as a CUDA graph
    (`cr.capture`) wherever it can be; say False for a model that counts or decides in Python. A schedule that moves
    momenta turns it off, for a graph holds them as they were.

    >>> from chainrule import data, optim
    >>> x = cr.randn(64, 2, generator=cr.Generator(0)); y = (x[:, 0] > 0).long()
    >>> model = cr.nn.Linear(2, 2)
    >>> optimizer = optim.Adam(model.parameters(), lr=0.1)
    >>> trainer = cr.nn.Trainer(model, cr.nn.functional.cross_entropy, optimizer, verbose=False)
    >>> history = trainer.fit(data.DataLoader(data.TensorDataset(x, y), batch_size=16), epochs=10)
    >>> history[-1]["accuracy"] > 0.9
    True
    """

    _samples_along = 0  # the axis of a batch's tensors that counts samples

    def __init__(
        self,
        model: Any,
        loss: Callable[[Any, Any], Tensor],
        optimizer: Optimizer,
        *,
        scheduler: LRScheduler | None = None,
        schedule_every: str = "epoch",
        metrics: Mapping[str, Callable[[Any, Any], Any]] | None = None,
        clip_norm: float | None = None,
        patience: int | None = None,
        out: str | os.PathLike | None = None,
        generators: Sequence[Generator] = (),
        on_epoch: Callable[[dict[str, float]], Any] | None = None,
        viz: str | os.PathLike | None = None,
        capture: bool = True,
        verbose: bool = True,
    ):
        if schedule_every not in ("epoch", "batch"):
            raise ValueError(
                f"Trainer received schedule_every={schedule_every!r}, which is no moment it knows. Pass 'epoch' or "
                "'batch' (OneCycleLR counts batches)."
            )
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.scheduler, self.schedule_every = scheduler, schedule_every
        self.metrics = metrics
        self.clip_norm, self.patience = clip_norm, patience
        self.out = None if out is None else Path(out)
        self.generators = list(generators)
        self.on_epoch = on_epoch
        self._page = None if viz is None else _page(viz)
        self.capture = capture and getattr(scheduler, "momentum_name", None) is None
        self._replayed = replayable(self._work)
        self.verbose = verbose
        self.history: list[dict[str, float]] = []
        self.best = math.inf
        self.epochs_since_best = 0
        self.kept = 0  # epochs in the checkpoint on disk

    def fit(self, train: Any, validation: Any = None, epochs: int = 10, resume: bool = False) -> list[dict[str, float]]:
        """Train until `epochs` epochs are done, counted from the very first, and return one row of figures for each.

        train, validation: DataLoaders. Raises FloatingPointError where the loss is no longer finite, before that step
        changes anything. An interrupt leaves `last.safetensors` at the end of the last whole epoch and is raised again.
        """
        if len(train) == 0:
            raise ValueError("fit received a loader without batches. Look at its dataset's length and drop_last.")
        if resume:
            self._restore(train)
        planned = getattr(self.scheduler, "total_steps", None)
        if self.schedule_every == "batch" and planned not in (None, epochs * len(train)):
            raise ValueError(
                f"fit received epochs={epochs} of {len(train)} batches, but the schedule is laid out for {planned} "
                f"steps. Pass epochs={planned / len(train):g}, or a {type(self.scheduler).__name__} for as many steps."
            )
        if self.out is not None and not self.history:
            self._checkpoint(train)  # so that an interrupt in the first epoch leaves one too
        try:
            self._announce(train, validation, epochs - len(self.history))
            done, total = (n * len(train) for n in (len(self.history), epochs))
            bar = tqdm(total=total, initial=done, disable=None if self.verbose else True)
            with self._shown(train, validation, epochs, resume), bar:
                while len(self.history) < epochs and not self._exhausted():
                    self._epoch(train, validation, epochs, bar)
        except KeyboardInterrupt:
            self.say(self._interrupted())
            raise
        return self.history

    def output(self, x: Any) -> Any:
        """Return the model's answer to the x of a batch: the place to change in a subclass for models of another form.

        >>> class Pairs(cr.nn.Trainer):
        ...     def output(self, x):
        ...         return self.model(*x)
        """
        return self.model(x)

    def say(self, text: str) -> None:
        """Print a line, above the progress bar if there is one; nothing unless verbose."""
        if self.verbose:
            tqdm.write(text)

    def evaluate(self, loader: Any) -> dict[str, float]:
        """Return the mean loss and metrics over a loader, in evaluation mode and without recording a graph."""
        means = Means()
        with evaluating(self.model), no_grad():
            for x, y in self._batches(loader):
                output = self.output(x)
                means.add(len(y), self._figures(self.loss(output, y).item(), output, y))
        return means.result()

    def _figures(self, loss: float, output: Any, y: Any) -> dict[str, float]:
        metrics = self.metrics
        if metrics is None:  # accuracy is that of classes: integers
            metrics = {"accuracy": accuracy} if y.dtype.kind in "iu" else {}
        return {"loss": loss, **{name: float(metric(output, y)) for name, metric in metrics.items()}}

    def _epoch(self, train: Any, validation: Any, epochs: int, bar: tqdm) -> None:
        start, rate, means = time.perf_counter(), self._rate(), Means()
        self.model.train()
        for step, (x, y) in enumerate(self._batches(train)):
            means.add(len(y), self._step(step, x, y))
            bar.update()
            bar.set_postfix(epoch=f"{len(self.history) + 1}/{epochs}", lr=f"{self._rate():.2g}", **means.text())
        row = {"epoch": len(self.history) + 1, **means.result()}
        if validation is not None:
            row |= {f"val_{name}": value for name, value in self.evaluate(validation).items()}
        if self.scheduler is not None and self.schedule_every == "epoch":
            self.scheduler.step()
        self.history.append({**row, "lr": rate, "seconds": time.perf_counter() - start})
        if self._page is not None:
            self._page.epoch(self.history[-1])
        self._keep(train)
        self.say(line(self.history[-1], epochs))
        if self.on_epoch is not None:
            self.on_epoch(self.history[-1])

    def _step(self, step: int, x: Any, y: Any) -> dict[str, float]:
        if self._page is not None:
            self._page.begins(x, y)
        if self.capture and self._device() != "cpu":
            measured = self._page is not None and self._page.due  # which a graph cannot: this step runs as it is
            loss, output = (self._work if measured else self._replayed)(x, y)
            value = self._finite(loss, step, "this step has moved them: go on from the last checkpoint")
        else:
            output = self.output(x)
            loss = self.loss(output, y)
            value = self._finite(loss, step, "this step changed none")
            self._move(loss)
        if self._page is not None:
            self._page.step(value)
        if self.scheduler is not None and self.schedule_every == "batch":
            self.scheduler.step()
        with no_grad():
            return self._figures(value, output, y)

    def _shown(self, train: Any, validation: Any, epochs: int, resume: bool) -> AbstractContextManager:
        return nullcontext() if self._page is None else self._page.following(self, train, validation, epochs, resume)

    def _finite(self, loss: Tensor, step: int, changed: str) -> float:
        value = loss.item()
        if math.isfinite(value):
            return value
        if self._page is not None:
            self._page.breaks(value, len(self.history) + 1, self._rate())
        raise FloatingPointError(
            f"The loss became {value} in epoch {len(self.history) + 1}, step {step + 1}, at a learning rate of "
            f"{self._rate():.3g}; no parameter can learn from it, and {changed}. Run the step inside "
            "`with cr.detect_anomaly():` to see where it arises; a lower rate or clip_norm=1.0 often helps."
        )

    def _move(self, loss: Tensor) -> None:
        self.model.zero_grad()  # of the parameters that the optimiser leaves alone too: clipping sees them all
        self.optimizer.zero_grad()
        loss.backward()
        with nullcontext() if self._page is None else self._page.moving(self._rate()):
            if self.clip_norm is not None:
                clip_grad_norm_(self.model.parameters(), self.clip_norm)
            self.optimizer.step()

    def _work(self, x: Any, y: Any) -> tuple[Tensor, Any]:
        """A whole step, which a GPU replays."""
        output = self.output(x)
        loss = self.loss(output, y)
        self._move(loss)
        return loss, output

    def _batches(self, loader: Any) -> Iterator[Any]:
        """The loader's batches where the model is."""
        device = self._device()
        return (each_tensor(batch, lambda t: t.to(device)) for batch in loader)

    def _device(self) -> str:
        return next(iter(self.model.parameters())).device

    def _rate(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def _keep(self, train: Any) -> None:
        """Judge the epoch that just ended, and write what belongs on disk."""
        judged = self.history[-1].get("val_loss", self.history[-1]["loss"])
        better = judged < self.best
        self.best = min(self.best, judged)
        self.epochs_since_best = 0 if better else self.epochs_since_best + 1
        if self.out is not None:
            if better:
                save(self.model.state_dict(), self.out / "best.safetensors")
            write_atomically(self.out / "log.csv", [table(self.history).encode()])
            self._checkpoint(train)

    def _exhausted(self) -> bool:
        if self.patience is None or self.epochs_since_best < self.patience:
            return False
        self.say(f"Stopped early: no lower loss than {self.best:.4f} for {self.epochs_since_best} epochs.")
        return True

    def _sources(self, *loaders: Any) -> list[Generator]:
        theirs = [getattr(loader, "generator", None) for loader in loaders]
        sources = [default_generator, *theirs, *self.generators]
        return list({id(g): g for g in sources if g is not None}.values())

    def _checkpoint(self, train: Any) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "generators": [g.get_state() for g in self._sources(train)],
            "history": self.history,
            "best": self.best,
            "epochs_since_best": self.epochs_since_best,
        }
        save(state, self.out / "last.safetensors")  # type: ignore[operator]
        self.kept = len(self.history)

    def _restore(self, train: Any) -> None:
        if self.out is None:
            raise ValueError("fit received resume=True, but the Trainer has no folder. Make it with out=<the folder>.")
        path = self.out / "last.safetensors"
        if not path.is_file():
            raise FileNotFoundError(
                f"fit received resume=True, but there is no checkpoint {path}. Train once without resume."
            )
        state, sources = load(path), self._sources(train)
        parts = "model optimizer scheduler generators history best epochs_since_best".split()
        missing = [part for part in parts if not isinstance(state, dict) or part not in state]
        if missing:
            raise ValueError(
                f"{path} is no checkpoint of a Trainer: {', '.join(missing)} missing. Train once without resume."
            )
        if len(state["generators"]) != len(sources) or (state["scheduler"] is None) != (self.scheduler is None):
            raise ValueError(
                f"{path} was saved with {len(state['generators'])} random generators and the schedule "
                f"{state['scheduler']}; this Trainer has {len(sources)} and {self.scheduler}. Build it as it was."
            )
        self.optimizer.load_state_dict(state["optimizer"])
        self.model.load_state_dict(state["model"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        for generator, saved in zip(sources, state["generators"]):
            generator.set_state(saved)
        self.history, self.best = state["history"], state["best"]
        self.epochs_since_best, self.kept = state["epochs_since_best"], len(self.history)
        self.say(f"Resumed {path} after {len(self.history)} epochs.")

    def _interrupted(self) -> str:
        if self.out is None:
            epoch = len(self.history) + 1
            return f"Interrupted in epoch {epoch}. Nothing was saved: give the Trainer a folder, out=…, to keep it."
        return (
            f"Interrupted in epoch {self.kept + 1}. {self.out / 'last.safetensors'} holds the {self.kept} whole epochs "
            "before it; resume=True (--resume) goes on from there."
        )

    def _announce(self, train: Any, validation: Any, epochs: int) -> None:
        if not self.verbose or epochs <= 0:
            return
        p = self.optimizer.param_groups[0]["params"][0]
        count = sum(p.numel() for p in self.model.parameters())
        self.say(f"{type(self.model).__name__}: {count:,} parameters, on {kernels_of(p).describe()}.")
        # Validation does a third of a step's work, the forward pass.
        steps = epochs * (len(train) + (0 if validation is None else len(validation) / 3))
        self.say(f"{epochs} epochs of {len(train)} steps; about {duration(steps * self._seconds_per_step(train))}.")

    def _seconds_per_step(self, train: Any) -> float:
        """Time batches forward and backward, kernels compiled, and leave no trace: no update, no random number."""
        start, seconds = time.perf_counter(), 0.0
        with self._aside(*self._sources(train)), evaluating(self.model):  # running statistics stay as they are
            for x, y in itertools.islice(self._batches(train), 4):
                self.loss(self.output(x), y).backward()
                self.model.zero_grad()
                self.optimizer.zero_grad()
                start, seconds = time.perf_counter(), time.perf_counter() - start
        return seconds

    @contextmanager
    def _aside(self, *generators: Generator) -> Iterator[None]:
        """For work that leaves no trace: these generators and the trainer's own attributes stay as they are."""
        own, states = dict(vars(self)), [(g, g.get_state()) for g in generators]
        try:
            yield
        finally:
            vars(self).clear()
            vars(self).update(own)
            for generator, state in states:
                generator.set_state(state)


class StatefulTrainer(Trainer):
    """Trains output, state = model(x, state) on streams: back-propagation through time, truncated (Williams 1990).

    Batches are ((x, fresh), y), as `data.Streams` gives them. A fresh one begins without a state (None); any other goes
    on from the state that the one before it left, detached: values reach back to the stream's start, gradients to the
    window's.

    >>> class Sums(cr.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.scale = cr.nn.Parameter(cr.ones(()))
    ...     def forward(self, x, total):
    ...         total = self.scale * x.sum() + (0 if total is None else total)
    ...         return total, total
    >>> model = Sums()
    >>> trainer = cr.nn.StatefulTrainer(model, None, cr.optim.SGD(model.parameters(), lr=0.1))
    >>> [trainer.output(x).item() for x, y in cr.data.Streams(cr.arange(7.0), streams=1, window=3)]
    [3.0, 15.0]
    """

    state: Any = None
    _carried: Any = None
    _samples_along = 1  # axis 0 is time

    def output(self, x: Any) -> Any:
        """Return the model's output for one window, and keep the state it leaves."""
        x, fresh = x
        output, state = self.model(x, None if fresh else self.state)
        self.state = detach_state(state)
        return output

    def _work(self, x: Any, y: Any) -> tuple[Tensor, Any]:
        """As a Trainer's, with the state in memory that stays: a replayed step reads and writes the same."""
        self.state = self._carried
        done = super()._work(x, y)
        self._carried = _kept(self._carried, self.state)
        return done


def _page(path: Any) -> TrainingPage:
    """The page of a training, imported when one is asked for."""
    from .viz.run import TrainingPage

    return TrainingPage(path)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode inside; then each module as it was: a layer may be frozen on purpose."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _kept(place: Any, state: Any) -> Any:
    """`state` written to the tensors of `place`, or to new ones if they do not fit."""
    if isinstance(state, tuple | list):
        places = place if isinstance(place, tuple | list) and len(place) == len(state) else [None] * len(state)
        return type(state)(map(_kept, places, state))
    if isinstance(place, Tensor) and isinstance(state, Tensor) and place.shape == state.shape:
        return place.copy_(state)
    return state.clone() if isinstance(state, Tensor) else state
