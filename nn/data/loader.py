"""DataLoader: batches in a seeded order, made ahead of time by one thread if asked."""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ...autograd import Generator, Tensor, as_device, default_generator, each_tensor, send, stack, tensor
from .dataset import Dataset


class DataLoader:
    """Goes through a dataset in batches; every `for` loop over it is one epoch.

    dataset: anything with `__len__` and `__getitem__`; one with `batch(indices)` (TensorDataset, a Subset of one) is
    asked for whole batches when no collate_fn is given. shuffle: a new permutation per epoch from `generator` (the
    default generator if None): equal seeds give equal orders. drop_last: leave out an incomplete last batch.
    collate_fn: makes a batch from a list of samples. prefetch: how many batches a thread prepares ahead (0: none, no
    thread); worth it when samples are read or transformed, not for tensors in memory. The thread ends when the loop
    does. device: where batches are given; to a GPU they are copied one ahead, from pinned memory, beside its work. An
    exception in the dataset reaches the loop with a note that says at which index.

    >>> from chainrule import data
    >>> loader = data.DataLoader(data.TensorDataset(cr.arange(5)), batch_size=2)
    >>> [batch[0].tolist() for batch in loader]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        dataset: Dataset | Sequence,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        collate_fn: Callable[[list], Any] | None = None,
        generator: Generator | None = None,
        prefetch: int = 0,
        device: str | None = None,
    ):
        for name, value, least in (("batch_size", batch_size, 1), ("prefetch", prefetch, 0)):
            if not isinstance(value, int) or value < least:
                raise ValueError(
                    f"DataLoader received {name}={value!r}; it is a number of samples or batches. "
                    f"Pass an integer of at least {least}."
                )
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.collate_fn = collate_fn
        self.generator = generator
        self.prefetch = prefetch
        self.device = None if device is None else as_device(device)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        n = len(self.dataset)
        order = (self.generator or default_generator).rng.permutation(n) if self.shuffle else np.arange(n)
        size = self.batch_size
        batches: Iterator[Any] = (self._fetch(order[i * size : (i + 1) * size]) for i in range(len(self)))
        batches = _ahead(batches, self.prefetch) if self.prefetch else batches
        return batches if self.device is None else _sent_ahead(batches, self.device)

    def _fetch(self, indices: np.ndarray) -> Any:
        try:
            if self.collate_fn is None and hasattr(self.dataset, "batch"):
                return self.dataset.batch(indices)
        except Exception as error:
            error.add_note(f"DataLoader was fetching the batch of indices {indices.tolist()}.")
            raise
        samples = []
        for i in indices.tolist():
            try:
                samples.append(self.dataset[i])
            except Exception as error:
                error.add_note(f"DataLoader was fetching index {i} of {type(self.dataset).__name__}.")
                raise
        try:
            return (self.collate_fn or default_collate)(samples)
        except Exception as error:
            error.add_note(f"DataLoader was collating the samples of indices {indices.tolist()}.")
            raise


def _ahead(batches: Iterator[Any], depth: int) -> Iterator[Any]:
    """Yield what `batches` yields, made up to `depth` ahead by a thread that ends with this generator.

    The pool's thread also ends when nobody holds the pool any more, so that no interrupt can leave it behind.
    """
    context = contextvars.copy_context()  # recording is off in the thread where it is off here
    with ThreadPoolExecutor(1, "prefetch") as pool:
        made = deque(pool.submit(context.run, next, batches) for _ in range(depth))
        try:
            while True:
                yield made.popleft().result()
                made.append(pool.submit(context.run, next, batches))
        except StopIteration:
            return
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _sent_ahead(batches: Iterator[Any], device: str) -> Iterator[Any]:
    """Yield each batch on a device, the next one on its way."""
    coming = None
    for batch in batches:
        following = _sent(batch, device)
        if coming is not None:
            yield coming()
        coming = following
    if coming is not None:
        yield coming()


def _sent(batch: Any, device: str) -> Callable[[], Any]:
    arrivals: list[Callable[[], None]] = []

    def start(x: Tensor) -> Tensor:
        on_device, arrived = send(x, device)
        arrivals.append(arrived)
        return on_device

    moved = each_tensor(batch, start)

    def finish() -> Any:
        for arrived in arrivals:
            arrived()
        return moved

    return finish


def default_collate(samples: list) -> Any:
    """Stack samples into a batch: tensors, arrays and numbers along a new first axis, tuples and dicts by entry.

    Python floats become float64 and integers int64, as in PyTorch; strings stay a list. Raises ValueError for samples
    of different shape or structure, TypeError for what cannot be stacked.

    >>> from chainrule import data
    >>> x, y = data.default_collate([(cr.tensor([1.0, 2.0]), 0), (cr.tensor([3.0, 4.0]), 1)])
    >>> x.tolist(), y.tolist()
    ([[1.0, 2.0], [3.0, 4.0]], [0, 1])
    """
    first = samples[0]
    for i, sample in enumerate(samples):
        if _form(sample) != _form(first):
            raise ValueError(
                f"default_collate received samples that differ: number 0 of the batch is {_form(first)}, number {i} is "
                f"{_form(sample)}. Give all samples one form in the dataset, or pass a collate_fn to DataLoader."
            )
    if isinstance(first, Tensor):
        return stack(samples)
    if isinstance(first, np.ndarray | np.generic):
        return tensor(np.stack(samples))
    if isinstance(first, bool | int | float):
        return tensor(np.array(samples))
    if isinstance(first, str | bytes):
        return samples
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(default_collate(list(column)) for column in zip(*samples)))
    if isinstance(first, tuple | list):
        return [default_collate(list(column)) for column in zip(*samples)]
    raise TypeError(
        f"default_collate received samples of type {type(first).__name__}, which it cannot stack. Return tensors, "
        "arrays, numbers, strings, or tuples and dicts of them from the dataset, or pass a collate_fn to DataLoader."
    )


def _form(sample: Any) -> str:
    """Say what must agree between the samples of a batch."""
    if isinstance(sample, Tensor | np.ndarray | np.generic):
        return f"{type(sample).__name__} of shape {tuple(sample.shape)}"
    if isinstance(sample, Mapping):
        return f"{type(sample).__name__} with keys {list(sample)}"
    if isinstance(sample, tuple | list):
        return f"{type(sample).__name__} of length {len(sample)}"
    return type(sample).__name__
