"""Datasets, the loader's order, its thread, its errors."""

import collections
import gc
import itertools
import sys
import threading
import time

import numpy as np
import pytest

import chainrule as cr
from chainrule import data


class Squares(data.Dataset):
    def __init__(self, n, broken=None):
        self.n, self.broken, self.read = n, broken, []

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        self.read.append(index)
        if index == self.broken:
            raise OSError(f"no file for {index}")
        return cr.tensor([float(index), float(index**2)]), index


def rows(loader):
    return [batch[1].tolist() for batch in loader]


def pairs(n=10):
    return data.TensorDataset(cr.arange(2 * n).reshape(n, 2).float(), cr.arange(n))


@pytest.mark.parametrize("prefetch", [0, 1, 3])
@pytest.mark.parametrize("make", [pairs, Squares])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_in_order(make, prefetch, drop_last):
    loader = data.DataLoader(make(10), batch_size=4, drop_last=drop_last, prefetch=prefetch)
    expected = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]][: 2 if drop_last else 3]
    assert rows(loader) == rows(loader) == expected
    assert len(loader) == len(expected)


def test_whole_batches_and_single_samples_give_the_same(torch):
    fast = data.DataLoader(pairs(), batch_size=3)
    slow = data.DataLoader(pairs(), batch_size=3, collate_fn=data.default_collate)
    arrays = [t.numpy() for t in pairs().tensors]
    dataset = torch.utils.data.TensorDataset(*(torch.tensor(a) for a in arrays))
    for a, b, c in zip(fast, slow, torch.utils.data.DataLoader(dataset, batch_size=3), strict=True):
        assert type(a) is type(b) is type(c)
        for x, y, z in zip(a, b, c, strict=True):
            assert (x == y).all() and x.tolist() == z.tolist() and x.dtype == y.dtype


@pytest.mark.parametrize("prefetch", [0, 2])
def test_the_seed_gives_the_order(prefetch):
    def epochs(seed):
        loader = data.DataLoader(pairs(), 4, shuffle=True, generator=cr.Generator(seed), prefetch=prefetch)
        return [rows(loader) for _ in range(3)]

    first = epochs(5)
    assert first == epochs(5) != epochs(6)
    assert first[0] != first[1]
    assert all(sorted(sum(epoch, [])) == list(range(10)) for epoch in first)


def test_without_a_generator_the_default_one_is_used():
    loader = data.DataLoader(pairs(), 4, shuffle=True)
    cr.manual_seed(3)
    first = rows(loader)
    cr.manual_seed(3)
    assert rows(loader) == first


def prefetchers():
    return [t for t in threading.enumerate() if t.name.startswith("prefetch")]


def test_the_thread_ends_with_the_loop():
    for _ in data.DataLoader(pairs(), 2, prefetch=2):
        assert len(prefetchers()) == 1
        break
    assert prefetchers() == []
    gc.disable()
    try:
        iterator = iter(data.DataLoader(Squares(1000), 2, prefetch=2))
        next(iterator)
        del iterator
        assert prefetchers() == []
    finally:
        gc.enable()


def test_an_interrupt_at_any_bytecode_ends_the_thread():
    """Ctrl-C is planted before each bytecode of the loader's generator in turn."""

    def interrupted_at(n):
        left = n

        def trace(frame, event, argument):
            nonlocal left
            if frame.f_code.co_name != "_ahead":
                return None
            frame.f_trace_opcodes = True
            left -= event == "opcode"
            if left < 0:
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            for _ in data.DataLoader(pairs(), 3, prefetch=2):
                pass
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    places = next(n for n in itertools.count() if not interrupted_at(n))
    assert places > 50
    for _ in range(100):
        if not prefetchers():
            return
        time.sleep(0.01)
    raise AssertionError("a thread outlived its loop")


def test_the_thread_stays_just_ahead():
    dataset = Squares(100)
    iterator = iter(data.DataLoader(dataset, 1, prefetch=3))
    next(iterator)
    time.sleep(0.1)
    assert len(dataset.read) <= 5
    iterator.close()


def test_the_thread_shares_the_callers_grad_mode():
    modes = []

    class Spy(Squares):
        def __getitem__(self, index):
            modes.append(cr.is_grad_enabled())
            return index

    with cr.no_grad():
        list(data.DataLoader(Spy(2), prefetch=1))
    assert modes == [False, False]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_error_arrives_with_its_index(prefetch):
    seen = []
    with pytest.raises(OSError, match="no file for 5") as caught:
        for batch in data.DataLoader(Squares(10, broken=5), 2, prefetch=prefetch):
            seen += batch[1].tolist()
    assert seen == [0, 1, 2, 3]
    assert caught.value.__notes__ == ["DataLoader was fetching index 5 of Squares."]
    assert prefetchers() == []


def test_errors_of_batches_and_collation_name_the_indices():
    part = data.Subset(pairs(), [0, 99])
    with pytest.raises(IndexError) as caught:
        list(data.DataLoader(part, 2))
    assert caught.value.__notes__ == ["DataLoader was fetching the batch of indices [0, 1]."]
    ragged = [cr.zeros(2), cr.zeros(3)]
    with pytest.raises(ValueError, match=r"number 0 .*shape \(2,\), number 1 .*shape \(3,\).*collate_fn") as caught:
        list(data.DataLoader(ragged, 2))
    assert caught.value.__notes__ == ["DataLoader was collating the samples of indices [0, 1]."]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_dataset_cannot_end_the_epoch_unseen(prefetch):
    class Ends(Squares):
        def __getitem__(self, index):
            raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        list(data.DataLoader(Ends(4), prefetch=prefetch))


def test_collate_follows_the_samples_form(torch):
    Point = collections.namedtuple("Point", "x y")
    samples = [
        {"a": 1, "b": 0.5, "c": "one", "d": (True, np.float32(2.0)), "e": Point(np.arange(2), [1, 2])},
        {"a": 3, "b": 1.5, "c": "two", "d": (False, np.float32(4.0)), "e": Point(np.arange(2) + 5, [3, 4])},
    ]
    ours, theirs = data.default_collate(samples), torch.utils.data.default_collate(samples)

    def compare(x, y):
        if isinstance(y, torch.Tensor):
            assert x.tolist() == y.tolist() and str(x.dtype) == str(y.dtype).removeprefix("torch.")
        elif isinstance(y, dict):
            assert x.keys() == y.keys()
            [compare(x[k], y[k]) for k in y]
        elif isinstance(y, str):
            assert x == y
        else:
            assert type(x) is type(y)
            [compare(a, b) for a, b in zip(x, y, strict=True)]

    compare(ours, theirs)


def test_collate_refuses_what_it_cannot_stack():
    with pytest.raises(TypeError, match="samples of type object, which it cannot stack.*collate_fn"):
        data.default_collate([object(), object()])
    with pytest.raises(ValueError, match="dict with keys .*'a'.* number 1 is dict with keys .*'b'"):
        data.default_collate([{"a": 1}, {"b": 1}])
    with pytest.raises(ValueError, match="tuple of length 2, number 1 is tuple of length 3"):
        data.default_collate([(1, 2), (1, 2, 3)])


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": 2.5}, {"prefetch": -1}])
def test_sizes_that_make_no_sense(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"DataLoader received {name}={value!r}.*Pass an integer of at least"):
        data.DataLoader(pairs(), **options)


def test_subset_of_a_subset():
    part = data.Subset(data.Subset(pairs(), [9, 7, 5, 3]), np.array([3, 0]))
    assert [part[i][1].item() for i in range(len(part))] == [3, 9]
    assert rows(data.DataLoader(part, 2)) == [[3, 9]]
    assert not hasattr(data.Subset(Squares(3), [0]), "batch")
    assert rows(data.DataLoader(data.Subset(Squares(5), [4, 2]), 2)) == [[4, 2]]


def test_a_mask_is_no_list_of_indices():
    with pytest.raises(TypeError, match=r"dtype bool.*np.flatnonzero\(mask\)"):
        data.Subset(pairs(3), [True, False, True])


def test_random_split():
    def split(lengths, seed=1):
        return [sorted(p.indices.tolist()) for p in data.random_split(pairs(), lengths, cr.Generator(seed))]

    parts = split([7, 3])
    assert [len(p) for p in parts] == [7, 3] and sorted(sum(parts, [])) == list(range(10))
    assert parts == split([0.7, 0.3]) != split([7, 3], seed=2)
    assert [len(p) for p in split([0.5, 0.25, 0.25])] == [6, 2, 2]
    with pytest.raises(ValueError, match=r"lengths=\[7, 4\] for 10 samples; they sum to 11"):
        split([7, 4])
    with pytest.raises(ValueError, match=r"lengths=\[7.5, 2.5\] .*they sum to 10. Pass integers that sum to 10"):
        split([7.5, 2.5])
    with pytest.raises(ValueError, match="cannot be negative"):
        split([11, -1])


def test_tensor_dataset_refuses_what_has_no_common_rows():
    with pytest.raises(ValueError, match="no tensors"):
        data.TensorDataset()
    with pytest.raises(ValueError, match=r"shapes \[\(2,\), \(3,\)\], whose first axes do not agree"):
        data.TensorDataset(cr.zeros(2), cr.zeros(3))
    with pytest.raises(ValueError, match="first axes"):
        data.TensorDataset(cr.tensor(1.0))
    with pytest.raises(TypeError, match=r"type ndarray.*Pass cr.tensor\(array\)"):
        data.TensorDataset(np.zeros(2))


def test_a_dataset_must_say_what_it_holds():
    with pytest.raises(NotImplementedError, match="defines no __len__"):
        len(data.Dataset())
    with pytest.raises(NotImplementedError, match="defines no __getitem__"):
        data.Dataset()[0]
