"""LeNet-5 learns to read handwritten digits. Source: LeCun, Bottou, Bengio, Haffner 1998."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from ...autograd import Generator, Tensor, manual_seed, no_grad, tensor
from ...autograd.viz import draw
from ..data import DataLoader, Dataset, TensorDataset, digits, mnist
from ..functional import cross_entropy
from ..models import LeNet5
from ..optim import Adam
from ..optim.lr_scheduler import OneCycleLR
from ..trainer import Trainer
from .plotting import draw_mistakes, draw_training

SIZE = 32  # LeNet-5 looks at 32×32 pixels, so that strokes at the digit's edge reach the centre of a filter
EPOCHS = {"digits": 20, "mnist": 10}


class Placed(Dataset):
    """Digits of a TensorDataset on a 32×32 sheet, off its centre by up to `shift` pixels at random.

    Ink and paper are scaled to 1.175 and −0.1, so that inputs have mean about 0 and variance about 1 (LeCun 1998).
    """

    def __init__(self, dataset: TensorDataset, shift: int = 0, generator: Generator | None = None):
        images, self.labels = (t.numpy() for t in dataset.tensors)
        self.shift, self.generator = shift, generator
        self.margin = (SIZE - images.shape[-1]) // 2
        space = self.margin + shift
        self.sheets = np.pad(images[:, 0], ((0, 0), (space, SIZE), (space, SIZE)))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = self.batch(np.array([index]))
        return x[0], y[0]

    def batch(self, indices: np.ndarray) -> list[Tensor]:
        """Return (B, 1, 32, 32) images and (B,) labels."""
        corner = np.full((2, len(indices), 1, 1), self.shift)
        if self.shift:
            corner += self.generator.rng.integers(-self.shift, self.shift, corner.shape, endpoint=True)
        rows, columns = corner[0] + np.arange(SIZE)[:, None], corner[1] + np.arange(SIZE)
        sheets = self.sheets[indices[:, None, None], rows, columns]
        return [tensor(1.275 * sheets[:, None] - 0.1), tensor(self.labels[indices])]
