"""nn.utils.rnn: packing and padding against PyTorch's, there and back, and what is refused."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.nn.utils import rnn

LENGTHS = [[4], [5, 3, 1], [3, 3, 3], [2, 5, 3], [1, 4, 2, 6]]


def is_sorted(lengths):
    return sorted(lengths, reverse=True) == lengths


def equal(ours, theirs):
    """The same values, shapes and dtypes, in tensors, None, and sequences of them."""
    if theirs is None or ours is None:
        assert ours is theirs
    elif isinstance(theirs, (tuple, list)):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs):
            equal(a, b)
    else:
        assert ours.dtype.name == str(theirs.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(ours.detach().numpy(), theirs.detach().numpy(), strict=True)


def drawn(rng, lengths, rest=(2,)):
    return [rng.normal(size=(n, *rest)) for n in lengths]


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int32", "bool"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_packing_and_padding_are_pytorchs(torch, rng, lengths, batch_first, dtype):
    steps, batch = max(lengths) + 1, len(lengths)
    x = rng.integers(0, 9, (batch, steps, 2) if batch_first else (steps, batch, 2)).astype(dtype)
    settings = dict(batch_first=batch_first, enforce_sorted=is_sorted(lengths))
    ours = rnn.pack_padded_sequence(cr.tensor(x), lengths, **settings)
    theirs = torch.nn.utils.rnn.pack_padded_sequence(torch.tensor(x), torch.tensor(lengths), **settings)
    equal(ours, theirs)
    for padding in [dict(), dict(padding_value=1, total_length=steps + 2), dict(batch_first=True)]:
        equal(rnn.pad_packed_sequence(ours, **padding), torch.nn.utils.rnn.pad_packed_sequence(theirs, **padding))
    equal(rnn.unpack_sequence(ours), torch.nn.utils.rnn.unpack_sequence(theirs))


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("rest", [(), (2,), (2, 3)], ids=str)
@pytest.mark.parametrize("lengths", [*LENGTHS, [2, 0, 3]], ids=str)
def test_padding_of_a_list_is_pytorchs(torch, rng, lengths, rest, batch_first, padding_side):
    arrays = drawn(rng, lengths, rest)
    settings = dict(batch_first=batch_first, padding_value=-np.inf, padding_side=padding_side)
    padded = rnn.pad_sequence(map(cr.tensor, arrays), **settings)
    equal(padded, torch.nn.utils.rnn.pad_sequence([torch.tensor(a) for a in arrays], **settings))
    if padding_side == "right":
        for array, sequence in zip(arrays, rnn.unpad_sequence(padded, lengths, batch_first)):
            np.testing.assert_array_equal(sequence.numpy(), array)


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_a_list_is_packed_as_by_pytorch(torch, rng, lengths):
    arrays, ordered = drawn(rng, lengths), is_sorted(lengths)
    ours = rnn.pack_sequence([cr.tensor(a) for a in arrays], ordered)
    equal(ours, torch.nn.utils.rnn.pack_sequence([torch.tensor(a) for a in arrays], ordered))
    for array, sequence in zip(arrays, rnn.unpack_sequence(ours)):
        np.testing.assert_array_equal(sequence.numpy(), array)


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_gradients(lengths):
    x = cr.randn(6, len(lengths), 2, dtype=cr.float64)
    pack = lambda x: rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    cr.check_grads(lambda x: pack(x * x).data, [x])
    cr.check_grads(lambda x: rnn.pad_packed_sequence(pack(x * x), padding_value=3.0)[0], [x])
    cr.check_grads(lambda x: rnn.unpack_sequence(pack(x * x)), [x])
    cr.check_grads(lambda x: rnn.unpad_sequence(x * x, lengths), [x])
    cr.check_grads(lambda *s: rnn.pad_sequence([t * t for t in s], padding_side="left"), rnn.unpad_sequence(x, lengths))


def test_packing_is_one_gather():
    x = cr.randn(50, 20, 2, requires_grad=True)
    gather = rnn.pack_padded_sequence(x, list(range(20, 0, -1))).data.grad_fn
    reshape = gather.next_functions[0]
    assert (gather.name, reshape.name, reshape.next_functions[0]) == ("index_select", "reshape", x)


def test_lengths_may_be_any_integers(rng):
    x = cr.randn(5, 3)
    expected = rnn.pack_padded_sequence(x, [4, 2, 1]).data.tolist()
    for lengths in (cr.tensor([4, 2, 1]), np.array([4, 2, 1], np.uint8), (4, 2, 1), cr.tensor([4, 2, 1]).int()):
        assert rnn.pack_padded_sequence(x, lengths).data.tolist() == expected


def test_a_map_over_all_steps():
    layer, packed = nn.Linear(2, 3), rnn.pack_sequence([cr.ones(3, 2), cr.ones(1, 2)])
    mapped = packed._replace(data=layer(packed.data))
    assert isinstance(mapped, rnn.PackedSequence) and mapped.data.shape == (4, 3)
    assert packed.to(cr.float64).data.dtype == cr.float64


def test_the_inverse_order_is_filled_in():
    sequence = rnn.PackedSequence(cr.ones(3), cr.tensor([3]), cr.tensor([2, 0, 1]))
    assert sequence.unsorted_indices.tolist() == [1, 2, 0]
    other = rnn.PackedSequence(cr.ones(3), cr.tensor([3]), unsorted_indices=cr.tensor([1, 2, 0]))
    assert other.sorted_indices.tolist() == [2, 0, 1]


def test_states_are_detached_in_any_nesting():
    x = cr.ones(2, requires_grad=True) * 2
    a, (b, c) = rnn.detach_state((x, (x + 1, [x + 2])))
    assert [t.requires_grad for t in (x, a, b, c[0])] == [True, False, False, False]
    assert c[0].tolist() == [4, 4] and rnn.detach_state(None) is None
    packed = rnn.detach_state(rnn.PackedSequence(x, cr.tensor([2])))
    assert isinstance(packed, rnn.PackedSequence) and not packed.data.requires_grad
    with pytest.raises(TypeError, match="received a state of type dict.*nested tuples or lists"):
        rnn.detach_state({"h": x})


PADDED = cr.zeros(5, 3, 2)


def ordered(*indices):
    """Two packed sequences with the indices given."""
    return rnn.PackedSequence(cr.zeros(3, 2), cr.tensor([2, 1]), *[i if i is None else cr.tensor(i) for i in indices])


MISUSE = [
    (lambda: rnn.pack_padded_sequence(PADDED, [6, 2, 1]), r"lengths=\[6, 2, 1\].*padded to 5 steps.*from 1 to 5"),
    (lambda: rnn.pack_padded_sequence(PADDED, [3, 2, 0]), r"lengths=\[3, 2, 0\].*from 1 to 5"),
    (lambda: rnn.pack_padded_sequence(PADDED, [1, 2, 3]), r"lengths=\[1, 2, 3\].*they grow.*enforce_sorted=False"),
    (lambda: rnn.pack_padded_sequence(PADDED, [3, 2]), r"lengths of shape \(2,\).*a batch of 3 sequences"),
    (lambda: rnn.pack_padded_sequence(PADDED, [3.0, 2.0, 1.0]), "dtype float64.*pass one integer for each"),
    (lambda: rnn.pack_padded_sequence(cr.zeros(5), [5]), r"shape \(5,\), but padded sequences need two axes"),
    (lambda: rnn.pack_padded_sequence(cr.zeros(5, 0), []), r"lengths=\[\].*one sequence or more"),
    (lambda: rnn.unpad_sequence(PADDED, [3, -1, 0]), r"unpad_sequence: received lengths=\[3, -1, 0\].*from 0 to 5"),
    (lambda: rnn.unpad_sequence(PADDED, [3, 6, 0]), r"unpad_sequence: received lengths=\[3, 6, 0\].*from 0 to 5"),
    (
        lambda: rnn.pad_packed_sequence(rnn.pack_padded_sequence(PADDED, [3, 2, 1]), total_length=2),
        "total_length=2, but the longest sequence has 3 steps",
    ),
    (lambda: rnn.pad_sequence([]), r"pad_sequence: received sequences of shapes \[\]"),
    (
        lambda: rnn.pad_sequence([cr.zeros(2, 3), cr.zeros(2, 4)]),
        "needs one or more that differ in their first axis alone",
    ),
    (lambda: rnn.pad_sequence([cr.zeros(2), cr.zeros(())]), "needs one or more"),
    (lambda: rnn.pad_sequence([cr.zeros(2)], padding_side="top"), "padding_side='top'; pass 'left' or 'right'"),
    (lambda: rnn.pack_sequence([cr.zeros(2), cr.zeros(0)]), r"lengths=\[2, 0\].*from 1 to 2"),
    (lambda: rnn.pack_sequence([cr.zeros(2), cr.zeros(3)]), r"lengths=\[2, 3\].*they grow"),
    (lambda: rnn.pack_sequence([]), r"pack_sequence: received sequences of shapes \[\]"),
    (lambda: rnn.PackedSequence(cr.zeros(3, 2), cr.tensor([1, 2])), r"batch_sizes=\[1, 2\] for 3 rows.*never growing"),
    (lambda: rnn.PackedSequence(cr.zeros(3, 2), cr.tensor([2, 2])), r"batch_sizes=\[2, 2\] for 3 rows"),
    (lambda: rnn.PackedSequence(cr.zeros(3, 2), cr.tensor([2.0, 1.0])), r"batch_sizes=\[2.0, 1.0\] for 3 rows"),
    (lambda: rnn.PackedSequence(cr.zeros(3, 2), cr.tensor([[2, 1]])), r"batch_sizes=\[\[2, 1\]\] for 3 rows"),
    (lambda: rnn.PackedSequence(cr.zeros(2, 2), cr.tensor([2, 0])), r"batch_sizes=\[2, 0\] for 2 rows.*at least 1"),
    (lambda: ordered([0, 0]), r"sorted_indices=\[0, 0\] for a batch of 2 .* a permutation of the numbers from 0 to 1"),
    (lambda: ordered([1, 0, 2]), r"sorted_indices=\[1, 0, 2\] for a batch of 2"),
    (lambda: ordered([-1, 0]), r"sorted_indices=\[-1, 0\]"),
    (lambda: ordered([1.0, 0.0]), r"sorted_indices=\[1.0, 0.0\]"),
    (lambda: ordered([[1, 0]]), r"sorted_indices=\[\[1, 0\]\]"),
    (lambda: ordered(None, [1, 1]), r"unsorted_indices=\[1, 1\] for a batch of 2"),
    (lambda: ordered([1, 0], [0, 1]), r"unsorted_indices=\[0, 1\] with sorted_indices=\[1, 0\].*inverse; leave one of"),
]


@pytest.mark.parametrize("call, text", MISUSE)
def test_misuse_is_explained(call, text):
    with pytest.raises(ValueError, match=text):
        call()
