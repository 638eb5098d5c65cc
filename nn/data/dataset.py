"""Datasets: numbered samples, whole tensors, parts of other datasets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...autograd import Generator, Tensor, default_generator


class Dataset:
    """Numbered samples: a subclass defines `__getitem__(index)` and `__len__()`.

    A dataset that can hand over many samples at once also defines `batch(indices)` for an int64 array of indices;
    `DataLoader` then makes one call per batch instead of one per sample.

    >>> from chainrule import data
    >>> class Squares(data.Dataset):
    ...     def __len__(self):
    ...         return 4
    ...     def __getitem__(self, index):
    ...         return index, index**2
    >>> [[t.tolist() for t in batch] for batch in data.DataLoader(Squares(), batch_size=2)]
    [[[0, 1], [0, 1]], [[2, 3], [4, 9]]]
    """

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no __getitem__(index); a Dataset must.")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} defines no __len__(); a Dataset must.")


class TensorDataset(Dataset):
    """Samples along the first axis of tensors of equal length: sample i is `(t[i] for t in tensors)`.

    >>> from chainrule import data
    >>> dataset = data.TensorDataset(cr.arange(6).reshape(3, 2), cr.tensor([0, 1, 0]))
    >>> len(dataset), [t.tolist() for t in dataset[1]]
    (3, [[2, 3], 1])
    """

    def __init__(self, *tensors: Tensor):
        if not tensors:
            raise ValueError("TensorDataset received no tensors, so it has no samples. Pass TensorDataset(x, y).")
        for t in tensors:
            if not isinstance(t, Tensor):
                raise TypeError(
                    f"TensorDataset received an object of type {type(t).__name__}; it indexes tensors. "
                    "Pass cr.tensor(array)."
                )
        if any(t.ndim == 0 for t in tensors) or len({t.shape[0] for t in tensors}) > 1:
            raise ValueError(
                f"TensorDataset received tensors of shapes {[tuple(t.shape) for t in tensors]}, whose first axes do "
                "not agree; sample i takes row i of each. Pass tensors of one length."
            )
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)

    def __len__(self) -> int:
        return self.tensors[0].shape[0]

    def batch(self, indices: np.ndarray) -> list[Tensor]:
        """Return the samples at `indices`, stacked: one fancy index per tensor."""
        return [t[indices] for t in self.tensors]


class Subset(Dataset):
    """The samples of `dataset` at `indices`, renumbered from 0.

    >>> from chainrule import data
    >>> part = data.Subset(data.TensorDataset(cr.tensor([10, 20, 30])), [2, 0])
    >>> len(part), part[0][0].item()
    (2, 30)
    """

    def __init__(self, dataset: Dataset, indices: Sequence[int] | np.ndarray):
        self.dataset = dataset
        self.indices = np.asarray(indices)
        if self.indices.ndim != 1 or (self.indices.size and self.indices.dtype.kind not in "iu"):
            raise TypeError(
                f"Subset received indices of dtype {self.indices.dtype} and shape {self.indices.shape}; it takes a "
                "list of integers. Pass np.flatnonzero(mask) for a mask."
            )

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def batch(self) -> Callable[[np.ndarray], Any]:
        """The dataset's `batch` at our indices; absent (AttributeError) where the dataset has none."""
        whole = self.dataset.batch  # type: ignore[attr-defined]
        return lambda rows: whole(self.indices[rows])


def random_split(dataset: Dataset, lengths: Sequence[int | float], generator: Generator | None = None) -> list[Subset]:
    """Cut a dataset at random into subsets of the given lengths, or of the given fractions that sum to 1.

    Fractions are rounded down and the samples left over dealt out from the first subset on, as in PyTorch. The order
    is a permutation from `generator` (the default one if None). Raises ValueError if the lengths do not add up.

    >>> from chainrule import data
    >>> dataset = data.TensorDataset(cr.arange(10))
    >>> [len(part) for part in data.random_split(dataset, [0.75, 0.25], cr.Generator(0))]
    [8, 2]
    """
    n = len(dataset)
    if any(length < 0 for length in lengths):
        raise ValueError(f"random_split received lengths={list(lengths)}; a length cannot be negative. Pass sizes ≥ 0.")
    sizes = [length for length in lengths if isinstance(length, int)]
    if not sizes and abs(sum(lengths) - 1) < 1e-9:
        sizes = [int(n * fraction) for fraction in lengths]
        for i in range(n - sum(sizes)):
            sizes[i % len(sizes)] += 1
    if sum(sizes) != n or len(sizes) != len(lengths):
        raise ValueError(
            f"random_split received lengths={list(lengths)} for {n} samples; they sum to {sum(lengths):g}. "
            f"Pass integers that sum to {n}, or fractions that sum to 1."
        )
    order = (generator or default_generator).rng.permutation(n)
    return [Subset(dataset, part) for part in np.split(order, np.cumsum(sizes)[:-1])]
