"""Sequences of different lengths: packed, so that no work is done on padding, or padded; and states cut from graphs.

Packed rows hold the first step of every sequence, then the second step of those that have one, and so on, the longest
sequence first: the sequences that still run are always the first ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...autograd import Tensor, cat, full, index_select, split, tensor

__all__ = [
    "PackedSequence",
    "detach_state",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]

Lengths = Tensor | np.ndarray | Sequence[int]


class _Fields(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None


class PackedSequence(_Fields):
    """Sequences of different lengths in one tensor, step after step, the longest sequence first.

    data (N, *): the rows. batch_sizes (T,): how many sequences have a step t; never growing, their sum is N.
    sorted_indices (B,): the place in the caller's order of each sequence here, unsorted_indices its inverse; None for
    sequences that came sorted. Made by `pack_padded_sequence` and `pack_sequence`; a map over all steps is
    `packed._replace(data=layer(packed.data))`.

    Errors: ValueError for batch sizes that grow, are below 1, or do not sum to N, and for indices that are no
    permutation of the sequences or not each other's inverse.

    >>> from chainrule.nn.utils.rnn import pack_sequence
    >>> packed = pack_sequence([cr.tensor([1, 2, 3]), cr.tensor([4])])
    >>> packed.data.tolist(), packed.batch_sizes.tolist()
    ([1, 4, 2, 3], [2, 1, 1])
    """

    __slots__ = ()

    def __new__(
        cls,
        data: Tensor,
        batch_sizes: Tensor,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> PackedSequence:
        sizes = batch_sizes.numpy()
        counts = sizes.ndim == 1 and sizes.dtype.kind in "iu"
        if not counts or not sizes.size or sizes.min() < 1 or (np.diff(sizes) > 0).any() or sizes.sum() != len(data):
            raise ValueError(
                f"PackedSequence: received batch_sizes={sizes.tolist()} for {len(data)} rows, but the sequences that "
                "still run are counted step by step: at least 1, never growing, their sum the number of rows; use "
                "pack_padded_sequence or pack_sequence"
            )
        if unsorted_indices is not None and sorted_indices is None:
            sorted_indices = _inverse("unsorted_indices", unsorted_indices, sizes[0])
        if sorted_indices is not None:
            inverse = _inverse("sorted_indices", sorted_indices, sizes[0])
            if unsorted_indices is not None and unsorted_indices.tolist() != inverse.tolist():
                raise ValueError(
                    f"PackedSequence: received unsorted_indices={unsorted_indices.tolist()} with sorted_indices="
                    f"{sorted_indices.tolist()}, but they are each other's inverse; leave one of the two out"
                )
            unsorted_indices = inverse
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Return the sequences with `data` on another device or of another dtype, as `Tensor.to` takes them."""
        return self._replace(data=self.data.to(*args, **kwargs))


def pack_padded_sequence(
    input: Tensor, lengths: Lengths, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Pack padded sequences: drop the padding and lay the rest out step by step.

    input (T, B, *), or (B, T, *) with batch_first; lengths (B,) from 1 to T. enforce_sorted: the lengths must not grow;
    False sorts them, and `pad_packed_sequence` and the recurrent layers give back the caller's order.

    Errors: ValueError for lengths that are below 1, beyond T, not one for each sequence, or unsorted.

    >>> from chainrule.nn.utils.rnn import pack_padded_sequence
    >>> padded = cr.tensor([[1, 2, 0], [3, 0, 0], [4, 5, 6]])
    >>> pack_padded_sequence(padded, [2, 1, 3], batch_first=True, enforce_sorted=False).data.tolist()
    [4, 1, 3, 5, 2, 6]
    """
    steps, batch = _steps_and_batch("pack_padded_sequence", input, batch_first)
    lengths = _checked("pack_padded_sequence", lengths, 1, steps, batch)
    if enforce_sorted and (np.diff(lengths) > 0).any():
        raise ValueError(
            f"pack_padded_sequence: received lengths={lengths.tolist()} with enforce_sorted=True, but they grow; sort "
            "the sequences, longest first, or pass enforce_sorted=False"
        )
    order = np.arange(batch) if enforce_sorted else np.argsort(-lengths, kind="stable")
    sizes = _counted(lengths)
    step, place = _packed_places(sizes)
    data = index_select(_flat(input), 0, _row(step, order[place], steps, batch, batch_first))
    return PackedSequence(data, tensor(sizes), None if enforce_sorted else tensor(order))


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Pad packed sequences, in the caller's order: the inverse of `pack_padded_sequence`.

    Returns (T, B, *), or (B, T, *) with batch_first, and the lengths (B,). T is the longest length, or total_length.

    Errors: ValueError for a total_length below the longest length.

    >>> from chainrule.nn.utils.rnn import pack_sequence, pad_packed_sequence
    >>> padded, lengths = pad_packed_sequence(pack_sequence([cr.tensor([1, 2, 3]), cr.tensor([4])]), batch_first=True)
    >>> padded.tolist(), lengths.tolist()
    ([[1, 2, 3], [4, 0, 0]], [3, 1])
    """
    step, place, lengths = _unpacked_places(sequence)
    longest = int(lengths.max())
    if total_length is not None and total_length < longest:
        raise ValueError(
            f"pad_packed_sequence: received total_length={total_length}, but the longest sequence has {longest} steps; "
            f"pass total_length >= {longest}"
        )
    size = (total_length or longest, len(lengths))
    return _padded(sequence.data, step, place, size, batch_first, padding_value), tensor(lengths)


def pad_sequence(
    sequences: Iterable[Tensor], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Pad sequences (L, *) of different lengths L to the longest, T, and stack them.

    Returns (T, B, *), or (B, T, *) with batch_first. padding_side "left" puts the padding before the sequences.

    Errors: ValueError for no sequences, or sequences that differ in more than their lengths.

    >>> from chainrule.nn.utils.rnn import pad_sequence
    >>> pad_sequence([cr.tensor([1, 2, 3]), cr.tensor([4])], batch_first=True, padding_side="left").tolist()
    [[1, 2, 3], [0, 0, 4]]
    """
    sequences = _alike("pad_sequence", sequences)
    if padding_side not in ("left", "right"):
        raise ValueError(f"pad_sequence: received padding_side={padding_side!r}; pass 'left' or 'right'")
    lengths = np.array([len(s) for s in sequences])
    longest = int(lengths.max())
    place, step = _sequence_places(lengths)
    if padding_side == "left":
        step = step + (longest - lengths)[place]
    return _padded(cat(sequences), step, place, (longest, len(lengths)), batch_first, padding_value)


def unpad_sequence(padded_sequences: Tensor, lengths: Lengths, batch_first: bool = False) -> list[Tensor]:
    """Return padded sequences one by one, without their padding: the inverse of `pad_sequence`.

    padded_sequences (T, B, *), or (B, T, *) with batch_first; lengths (B,) up to T; returns B tensors (L, *).

    Errors: ValueError for lengths that are negative, beyond T, or not one for each sequence.

    >>> from chainrule.nn.utils.rnn import unpad_sequence
    >>> [s.tolist() for s in unpad_sequence(cr.tensor([[1, 2, 3], [4, 0, 0]]), [3, 1], batch_first=True)]
    [[1, 2, 3], [4]]
    """
    steps, batch = _steps_and_batch("unpad_sequence", padded_sequences, batch_first)
    lengths = _checked("unpad_sequence", lengths, 0, steps, batch)
    place, step = _sequence_places(lengths)
    rows = index_select(_flat(padded_sequences), 0, _row(step, place, steps, batch, batch_first))
    return list(split(rows, lengths.tolist(), 0))


def pack_sequence(sequences: Iterable[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences (L, *) of different lengths L; see `pack_padded_sequence` for enforce_sorted and errors.

    >>> from chainrule.nn.utils.rnn import pack_sequence
    >>> pack_sequence([cr.tensor([4]), cr.tensor([1, 2, 3])], enforce_sorted=False).data.tolist()
    [1, 4, 2, 3]
    """
    sequences = _alike("pack_sequence", sequences)
    return pack_padded_sequence(pad_sequence(sequences), [len(s) for s in sequences], False, enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """Return packed sequences one by one, in the caller's order: the inverse of `pack_sequence`.

    >>> from chainrule.nn.utils.rnn import pack_sequence, unpack_sequence
    >>> [s.tolist() for s in unpack_sequence(pack_sequence([cr.tensor([1, 2, 3]), cr.tensor([4])]))]
    [[1, 2, 3], [4]]
    """
    step, place, lengths = _unpacked_places(packed_sequences)
    rows = index_select(packed_sequences.data, 0, np.lexsort((step, place)))
    return list(split(rows, lengths.tolist(), 0))


def detach_state(state: Any) -> Any:
    """Return a recurrent state, a tensor or nested tuples or lists of tensors (or None), cut from its graph.

    Truncated back-propagation through time (Williams & Peng 1990): each stretch of a long sequence starts with the
    state that the last one ended with, and gradients stop there.

    Errors: TypeError for a state of another type.

    >>> net, state = cr.nn.LSTM(3, 4), None
    >>> for stretch in cr.randn(20, 2, 3).split(5):
    ...     output, state = net(stretch, cr.nn.utils.rnn.detach_state(state))
    ...     output.sum().backward()
    """
    if state is None or isinstance(state, Tensor):
        return state if state is None else state.detach()
    if not isinstance(state, tuple | list):
        raise TypeError(
            f"detach_state: received a state of type {type(state).__name__}, whose tensors it cannot tell; pass a "
            "tensor, or nested tuples or lists of tensors"
        )
    parts = [detach_state(part) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)


# ---- where each row lies ---------------------------------------------------------------------------------------------


def reversal(batch_sizes: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the order of packed rows in which each sequence runs backwards; it is its own inverse.

    >>> from chainrule.nn.utils.rnn import reversal
    >>> reversal([2, 1, 1]).tolist()
    [3, 1, 2, 0]
    """
    sizes = np.asarray(batch_sizes)
    step, place = _packed_places(sizes)
    starts, lengths = np.cumsum(sizes) - sizes, _counted(sizes)
    return starts[lengths[place] - 1 - step] + place


def _counted(lengths: np.ndarray) -> np.ndarray:
    """How many lengths exceed 0, 1, 2, …: the batch sizes of lengths, and the lengths of batch sizes."""
    return (lengths > np.arange(lengths.max())[:, None]).sum(1)


def _sequence_places(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of the sequence and the place in it of each row, where sequences lie one after the other."""
    starts = np.cumsum(lengths) - lengths
    return np.repeat(np.arange(len(lengths)), lengths), np.arange(lengths.sum()) - np.repeat(starts, lengths)


_packed_places = _sequence_places  # packed, it is the steps that lie one after the other


def _unpacked_places(packed: PackedSequence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The step and the sequence (in the caller's order) of each packed row, and the lengths."""
    sizes = packed.batch_sizes.numpy()
    step, place = _packed_places(sizes)
    lengths = _counted(sizes)
    if packed.sorted_indices is None or packed.unsorted_indices is None:
        return step, place, lengths
    return step, packed.sorted_indices.numpy()[place], lengths[packed.unsorted_indices.numpy()]


def _row(step, place, steps, batch, batch_first):
    return place * steps + step if batch_first else step * batch + place


def _flat(x: Tensor) -> Tensor:
    first, second, *rest = x.shape
    return x.reshape(first * second, *rest)


def _padded(data, step, place, size, batch_first, padding_value):
    """Put each row of data at its step and sequence of a padded tensor: a gather from the rows and one of padding."""
    rest = data.shape[1:]
    source = np.full(size[0] * size[1], len(data))
    source[_row(step, place, *size, batch_first)] = np.arange(len(data))
    rows = cat([data, full((1, *rest), padding_value, dtype=data.dtype, device=data.device)])
    return index_select(rows, 0, source).reshape(*(size[::-1] if batch_first else size), *rest)


# ---- checks ----------------------------------------------------------------------------------------------------------


def _inverse(name: str, indices: Tensor, batch: int) -> Tensor:
    """Return the inverse of a permutation of the sequences of a batch."""
    order = indices.numpy()
    if order.dtype.kind not in "iu" or sorted(order.flatten().tolist()) != list(range(batch)) or order.ndim != 1:
        raise ValueError(
            f"PackedSequence: received {name}={order.tolist()} for a batch of {batch} sequences, but each sequence has "
            f"one place among them; pass a permutation of the numbers from 0 to {batch - 1}, or use "
            "pack_padded_sequence or pack_sequence"
        )
    return tensor(np.argsort(order))


def _steps_and_batch(who: str, input: Tensor, batch_first: bool) -> tuple[int, int]:
    if input.ndim < 2:
        raise ValueError(
            f"{who}: received a tensor of shape {input.shape}, but padded sequences need two axes or more; pass "
            "(T, B, …), or (B, T, …) with batch_first=True"
        )
    first, second = input.shape[:2]
    return (second, first) if batch_first else (first, second)


def _checked(who: str, lengths: Lengths, least: int, steps: int, batch: int) -> np.ndarray:
    """Return the lengths as an array, if there is one for each sequence and none leaves its sequence."""
    array = np.asarray(lengths.cpu().numpy() if isinstance(lengths, Tensor) else lengths)
    if array.shape != (batch,) or (batch and array.dtype.kind not in "iu"):
        raise ValueError(
            f"{who}: received lengths of shape {array.shape} and dtype {array.dtype} for a batch of {batch} sequences; "
            "pass one integer for each sequence (batch_first=True reads the batch from the first axis)"
        )
    if not batch or array.min() < least or array.max() > steps:
        raise ValueError(
            f"{who}: received lengths={array.tolist()} for sequences padded to {steps} steps; "
            f"pass lengths from {least} to {steps}, for one sequence or more"
        )
    return array.astype(np.int64)


def _alike(who: str, sequences: Iterable[Tensor]) -> list[Tensor]:
    """Return the sequences as a list, if there are any and they can be stacked."""
    sequences = list(sequences)
    shapes = [s.shape for s in sequences]
    if not shapes or min(map(len, shapes)) < 1 or len({s[1:] for s in shapes}) > 1:
        raise ValueError(
            f"{who}: received sequences of shapes {shapes}, but needs one or more that differ in their first axis "
            "alone; pass tensors (L, …)"
        )
    return sequences
