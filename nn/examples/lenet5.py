"""LeNet-5 learns to read handwritten digits. Source: LeCun, Bottou, Bengio, Haffner 1998."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from ...autograd import Generator, Tensor, as_device, manual_seed, no_grad, tensor
from ...autograd.viz import draw, record
from ..data import DataLoader, Dataset, TensorDataset, digits, mnist
from ..layers import CrossEntropyLoss, MaxPool2d, ReLU
from ..models import LeNet5
from ..optim import Adam
from ..optim.lr_scheduler import OneCycleLR
from ..trainer import Trainer
from .plotting import draw_mistakes, draw_training, require_matplotlib

SIZE = 32  # LeNet-5 looks at 32×32 pixels, so that strokes at the digit's edge reach the centre of a filter


class Sheets(Dataset):
    """Digits of a TensorDataset on 32×32 sheets, each turned, slanted, stretched and moved a little at random.

    Pixel p (from the sheet's centre) shows the digit at A p + t, bilinearly; A = 1 + U(−warp, warp) in each of its four
    entries, t = U(−shift, shift). With both 0 the digit stands in the middle as it is. Ink and paper become 1.175 and
    −0.1, so that inputs have mean about 0 and variance about 1, as in the paper.
    """

    def __init__(
        self, dataset: TensorDataset, warp: float = 0.0, shift: float = 0.0, generator: Generator | None = None
    ):
        images, self.labels = (t.numpy() for t in dataset.tensors)
        self.size = np.array(images.shape[2:])
        self.images = np.pad(images[:, 0], ((0, 0), (1, 2), (1, 2)))  # paper around, for what is sampled outside
        self.warp, self.shift, self.generator = warp, shift, generator

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(t[0] for t in self.batch(np.array([index])))

    def batch(self, indices: np.ndarray) -> list[Tensor]:
        """Return (B, 1, 32, 32) images and (B,) labels."""
        b = len(indices)
        pixel = np.mgrid[:SIZE, :SIZE].reshape(2, -1) - (SIZE - 1) / 2
        where, last = np.broadcast_to(pixel, (b, *pixel.shape)), self.size[:, None] + 1
        if self.generator is not None:
            uniform = self.generator.rng.uniform
            where = (np.eye(2) + uniform(-self.warp, self.warp, (b, 2, 2))) @ pixel
            where += uniform(-self.shift, self.shift, (b, 2, 1))
        where = np.clip(where + last / 2, 0, last)
        corner = where.astype(np.intp)
        (y, x), (fy, fx) = np.moveaxis(corner, 1, 0), np.moveaxis(where - corner, 1, 0)
        at = lambda dy, dx: self.images[indices[:, None], y + dy, x + dx]
        ink = (1 - fy) * ((1 - fx) * at(0, 0) + fx * at(0, 1)) + fy * ((1 - fx) * at(1, 0) + fx * at(1, 1))
        sheets = (1.275 * ink - 0.1).astype(np.float32).reshape(b, 1, SIZE, SIZE)
        return [tensor(sheets), tensor(self.labels[indices])]


def train(
    data: str = "digits",
    epochs: int | None = None,
    out: str | os.PathLike = "runs/lenet5",
    seed: int = 0,
    resume: bool = False,
    *,
    device: str = "cpu",
    samples: int | None = None,
    viz: bool = False,
    verbose: bool = True,
) -> dict[str, Any]:
    """Train LeNet-5 by Adam on a one-cycle schedule; leave checkpoints, log and pictures in `out`; return a summary.

    ReLU and max-pooling stand where the paper has tanh and averages; labels are smoothed by 0.1 and every image is
    distorted anew in every epoch (`Sheets`): with so few digits each of these spares mistakes.
    data: "digits" (scikit-learn's 1,797, split by `data.digits`) or "mnist:PATH", a folder with MNIST's IDX files.
    epochs: 25 for digits and 10 for MNIST if None. seed: of weights, order and distortions; equal seeds give equal
    numbers for one number of threads. resume: go on from the last whole epoch in `out` to the same numbers. device:
    "cpu" or "cuda". samples: train and test on so many digits only. viz: write run.html, a page on which the training
    can be watched. verbose: say on standard output what happens.
    Returns accuracy, mistakes, tested, epochs, seconds and out. Raises ValueError for an unknown `data` or for
    `epochs` unlike those of the run resumed, ImportError (naming the extra) without scikit-learn or Matplotlib.
    """
    began = time.perf_counter()
    require_matplotlib()  # before the work, not after it
    as_device(device)
    name, _, path = data.partition(":")
    if name not in ("digits", "mnist") or (name == "mnist") != bool(path):
        raise ValueError(f"train received data={data!r}, which it does not know. Pass 'digits' or 'mnist:PATH'.")
    parts = mnist(path) if path else digits()
    epochs = epochs or (10 if path else 25)
    batch_size, rate = (128, 2e-3) if path else (32, 3e-3)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)

    manual_seed(seed)
    generator = Generator(seed)
    training, test = (p if samples is None else TensorDataset(*p[:samples]) for p in parts)
    loader = DataLoader(Sheets(training, 0.25, 2.0, generator), batch_size, shuffle=True, generator=generator)
    test_loader = DataLoader(Sheets(test), 512)
    model, loss = LeNet5(activation=ReLU, pool=MaxPool2d), CrossEntropyLoss(label_smoothing=0.1)
    _draw_graph(model, loss, test_loader, out)
    model.to(device)
    optimizer = Adam(model.parameters(), rate)
    trainer = Trainer(
        model,
        loss,
        optimizer,
        scheduler=OneCycleLR(optimizer, rate, epochs=epochs, steps_per_epoch=len(loader)),
        schedule_every="batch",
        out=out,
        viz=out / "run.html" if viz else None,
        verbose=verbose,
    )
    history = trainer.fit(loader, test_loader, epochs, resume)
    right, read = _read(model, test_loader, device)
    wrong = np.flatnonzero(right != read)
    draw_training(history, out / "training.png", f"LeNet-5 on {name}", "training (distorted)")
    images = test.tensors[0].numpy()[wrong, 0]
    draw_mistakes(images, right[wrong], read[wrong], len(right), out / "mistakes.png")
    summary = {
        "accuracy": 1 - len(wrong) / len(right),
        "mistakes": len(wrong),
        "tested": len(right),
        "epochs": len(history),
        "seconds": time.perf_counter() - began,
        "out": str(out),
    }
    if verbose:
        files = ", ".join(sorted(file.name for file in out.iterdir()))
        print(
            f"LeNet-5 reads {summary['accuracy']:.2%} of {len(right):,} digits it never saw ({len(wrong)} misread) "
            f"after {len(history)} epochs, {summary['seconds']:.1f} s in all.\nIn {out}: {files}."
        )
    return summary


def _read(model: LeNet5, loader: DataLoader, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the right and the read digit of every test image."""
    model.eval()
    with no_grad():
        pairs = [(y.numpy(), model(x.to(device)).argmax(1).cpu().numpy()) for x, y in loader]
    right, read = (np.concatenate(column) for column in zip(*pairs))
    return right, read


def _draw_graph(model: LeNet5, loss: CrossEntropyLoss, loader: DataLoader, out: Path) -> None:
    """Write the graph of the loss of one batch as loss.dot and loss.svg."""
    x, y = (part[:32] for part in next(iter(loader)))
    with record():  # each layer by itself, though they run as one
        value = loss(model(x), y)
    picture = draw(value, names={"model": model, "loss": value})
    for kind in ("dot", "svg"):
        picture.save(out / f"loss.{kind}")
