"""Checkpoints: what goes in comes out, what is damaged is refused, and no kill leaves half a file."""

import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors
from hypothesis import given, strategies as st

import chainrule as cr
from chainrule.nn.files import write_atomically
from chainrule.nn.serialization import load, save


def same(a, b):
    """Equality to the bit, of values, types and order."""
    if isinstance(a, cr.Tensor):
        assert isinstance(b, cr.Tensor) and a.requires_grad == b.requires_grad
        return same(a.detach().numpy(), b.detach().numpy())
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(map(repr, a)) == list(map(repr, b)) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b)


EXAMPLE = {
    "weight": cr.tensor([[1.0, -0.0], [float("nan"), float("inf")]]),
    "bias": cr.tensor(np.arange(3.0), requires_grad=True),
    "scalar": cr.tensor(2.5),
    "nothing": cr.zeros(0, 3),
    "array": np.arange(6, dtype=np.int16).reshape(2, 3).T,
    0: {"step": 3, "betas": (0.9, 0.999), 1.5: None},
    "layer.weight": cr.tensor([True, False]),
    "layer": {"weight": cr.tensor([1, 2])},
    "list": [[], {}, (), [float("nan"), float("-inf"), 1e-320, 2**127, -0.0, True, "ünï \ud800 \0"]],
    "random": np.random.default_rng(0).bit_generator.state,
    "__metadata__": np.float64(0.1) * np.ones(1),
}


def test_everything_comes_back(tmp_path):
    save(EXAMPLE, tmp_path / "file")
    assert same(load(tmp_path / "file"), EXAMPLE)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("code", "f8 f4 f2 i8 i4 i2 i1 u8 u4 u2 u1 b1 c8 >f4 >i8".split())
@pytest.mark.parametrize("view", [np.asarray, lambda a: a[::-1], lambda a: a.T, lambda a: a[:0], lambda a: a[1, 1]])
def test_every_dtype_and_layout(tmp_path, rng, code, view):
    array = np.asarray(view(rng.integers(0, 2, (3, 4)).astype(code)))
    save([array], tmp_path / "file")
    (back,) = load(tmp_path / "file")
    assert back.dtype == array.dtype.newbyteorder("=") and back.shape == array.shape and (back == array).all()
    assert back.flags.writeable


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
leaves = plain | st.sampled_from([np.float32([1, 2]), np.zeros((0, 2)), np.array(3)])
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers() | st.floats(allow_nan=False), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(trees)
def test_any_structure_comes_back(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("tree") / "file"
    save(tree, path)
    assert same(load(path), tree)


def test_the_names_are_those_of_a_state_dict(tmp_path, torch):
    save({"conv.weight": cr.ones(2, 3), "conv.bias": cr.zeros(2)}, tmp_path / "file")
    from safetensors.torch import load_file

    theirs = load_file(tmp_path / "file")
    assert {name: t.tolist() for name, t in theirs.items()} == {"conv.weight": [[1.0] * 3] * 2, "conv.bias": [0.0] * 2}


def test_pytorchs_state_dict_loads_as_tensors(tmp_path, torch):
    from safetensors.torch import save_file

    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    save_file(model.state_dict(), tmp_path / "file", metadata={"format": "pt"})
    loaded = load(tmp_path / "file")
    assert loaded.keys() == model.state_dict().keys()
    assert all(isinstance(t, cr.Tensor) and not t.requires_grad for t in loaded.values())
    assert all((t.numpy() == model.state_dict()[name].numpy()).all() for name, t in loaded.items())
    save_file({"tiny": torch.ones(2).to(torch.float8_e5m2)}, tmp_path / "file")
    with pytest.raises(ValueError, match="'tiny' as F8_E5M2, which NumPy has no type for.*Convert it to float32"):
        load(tmp_path / "file")


def test_bfloat16_from_and_to_pytorch(tmp_path, torch):
    pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes")
    from safetensors.torch import load_file, save_file

    theirs = {"w": torch.linspace(-3, 3, 6).reshape(2, 3).bfloat16(), "one": torch.tensor(0.1).bfloat16()}
    save_file({**theirs, "b": torch.ones(2)}, tmp_path / "theirs")
    ours = load(tmp_path / "theirs")
    assert {name: str(t.dtype) for name, t in ours.items()} == {"w": "bfloat16", "one": "bfloat16", "b": "float32"}
    assert all(ours[name].tolist() == t.tolist() for name, t in theirs.items())
    save({"net": {"w": ours["w"].requires_grad_(), "t": ours["w"].detach().T}, "one": ours["one"]}, tmp_path / "ours")
    back = load_file(tmp_path / "ours")
    assert torch.equal(back["net.w"], theirs["w"]) and torch.equal(back["net.t"], theirs["w"].T)
    again = load(tmp_path / "ours")
    assert again["net"]["w"].requires_grad and again["net"]["w"].dtype == again["one"].dtype == cr.bfloat16
    assert again["net"]["t"].tolist() == theirs["w"].T.tolist() and again["one"].tolist() == theirs["one"].tolist()


def test_without_ml_dtypes_bfloat16_is_refused(tmp_path, torch, monkeypatch):
    from safetensors.torch import save_file

    save_file({"half": torch.ones(2).bfloat16()}, tmp_path / "file")
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ImportError, match=r"'half' as BF16, which NumPy lacks .*pip install 'chainrule\[bfloat16\]'"):
        load(tmp_path / "file")


class Odd:
    pass


ITSELF: list = []
ITSELF.append(ITSELF)


@pytest.mark.parametrize(
    "obj, error, message",
    [
        ({"a": [1, {"b": Odd()}]}, TypeError, r"type Odd at obj\['a'\]\[1\]\['b'\]; .*state_dict\(\)"),
        ({"a": {1, 2}}, TypeError, r"type set at obj\['a'\]"),
        ([b"bytes"], TypeError, r"type bytes at obj\[0\]"),
        ([np.int64(3)], TypeError, r"type int64 at obj\[0\]"),
        ({("a", "b"): 1}, TypeError, "key of type tuple at obj; keys are strings or numbers"),
        ({"a": np.array(["text"])}, TypeError, r"dtype <U4 at obj\['a'\]"),
        ({"a": np.array([Odd()])}, TypeError, r"dtype object at obj\['a'\]"),
        ({"a": np.zeros(2, complex)}, TypeError, r"dtype complex128 at obj\['a'\]"),
        (ITSELF, ValueError, r"nested more than 64 deep at obj\[0\].*contains itself"),
    ],
)
def test_what_cannot_be_saved_leaves_the_old_file(tmp_path, obj, error, message):
    path = tmp_path / "file"
    save({"old": 1}, path)
    with pytest.raises(error, match=message):
        save(obj, path)
    assert load(path) == {"old": 1} and len(list(tmp_path.iterdir())) == 1


def test_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file. Check the path"):
        load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError, match="which is a folder. Pass the file inside it"):
        load(tmp_path)
    with pytest.raises(TypeError, match="load received a path of type int. Pass a str or Path"):
        load(3)
    with pytest.raises(TypeError, match="save received a path of type BytesIO"):
        import io

        save({}, io.BytesIO())
    (tmp_path / "real").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    save([1], tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and load(str(tmp_path / "real")) == [1]
    save([2], tmp_path / "new" / "folder" / "file")
    assert load(tmp_path / "new" / "folder" / "file") == [2]


def test_pickles_are_refused_unopened(tmp_path, torch):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    for i, write in enumerate(
        [lambda p: torch.save({"a": torch.ones(2)}, p), lambda p: p.write_bytes(pickle.dumps(Trap()))]
    ):
        path = tmp_path / f"file{i}"
        write(path)
        with pytest.raises(ValueError, match=r"is a pickle, as torch.save writes.*safetensors.torch.save_file"):
            load(path)
    assert not (tmp_path / "sprung").exists()


SMALL = {"w": np.float32([1.5, 2.5]), "m": {"b": np.array([7])}, "n": [1, 2.5, "x", None]}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "file"
    save(SMALL, path)
    return path.read_bytes()


def outcome(path, content):
    """'same', 'refused', or what came out instead."""
    path.write_bytes(content)
    try:
        loaded = load(path)
    except ValueError as error:
        assert str(path) in str(error)
        return "refused"
    return "same" if same(loaded, SMALL) else loaded


def test_every_flipped_bit_is_seen(tmp_path, small):
    """Each bit of the file in turn; only a padding blank that becomes another blank may still load, and the same."""
    (length,) = struct.unpack("<Q", small[:8])
    results = {"same": 0, "refused": 0}
    for position in range(len(small)):
        for bit in range(8):
            changed = bytearray(small)
            changed[position] ^= 1 << bit
            result = outcome(tmp_path / "file", bytes(changed))
            assert result in results, (position, bit, result)
            results[result] += 1
            assert result == "refused" or position < 8 + length
    assert results["refused"] > 0.95 * 8 * len(small)


def test_every_truncation_and_extension_is_seen(tmp_path, small):
    for length in range(len(small)):
        assert outcome(tmp_path / "file", small[:length]) == "refused", length
    assert outcome(tmp_path / "file", small + b"\0") == "refused"


@given(st.data())
def test_shuffled_and_overwritten_pieces_are_seen(tmp_path_factory, small, draw):
    content = bytearray(small)
    for _ in range(draw.draw(st.integers(1, 3))):
        a, b = (draw.draw(st.integers(0, len(content) - 1)) for _ in range(2))
        n = draw.draw(st.integers(1, 40))
        content[a : a + n] = content[b : b + n]
    assert outcome(tmp_path_factory.mktemp("f") / "file", bytes(content)) in ("same", "refused")


def hostile(header, body=b""):
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + body


def crafted(structure):
    """A file of ours whose checksums are right and whose structure is not what save writes."""
    from chainrule.nn.serialization import _text_checksum

    checksums = json.dumps({"chainrule.structure": _text_checksum(structure)})
    return hostile({"__metadata__": {"chainrule.structure": structure, "chainrule.checksums": checksums}})


def entry(*shape, at):
    return {"dtype": "F32", "shape": shape, "data_offsets": at}


HOSTILE = [
    b"",
    b"\xff" * 8,
    struct.pack("<Q", 1 << 60) + b"{}",
    hostile(b"[" * 100_000),
    hostile({"a": entry(1 << 40, at=[0, 4])}, b"1234"),
    hostile({"a": entry(1 << 62, 4, at=[0, 0])}),
    hostile({"a": entry(1, at=[4, 0])}, b"1234"),
    hostile({"a": entry(1, at=[0, 4]), "b": entry(1, at=[0, 4])}, b"1234"),
    hostile({"__metadata__": {"chainrule.structure": "[]"}}),
    hostile({"__metadata__": {"chainrule.checksums": "{}"}}),
    hostile({"__metadata__": {"chainrule.structure": "[]", "chainrule.checksums": "[]"}}),
    hostile({"__metadata__": {"chainrule.structure": "[]", "chainrule.checksums": "[" * 100_000}}),
    *map(crafted, ["", "[" * 100_000, "9" * 5000, "{}", '{"a": 1, "b": 2}']),
    *map(crafted, ['{"dict": 5}', '{"dict": [[[], 1]]}', '{"tensor": "a"}', '{"array": []}']),
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_files_are_refused(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged|not a whole safetensors file"):
        load(path)


def test_an_array_missing_or_renamed_is_named(tmp_path, small):
    from safetensors.numpy import load as parse, save as build

    with safetensors.safe_open(_written(tmp_path / "a", small), framework="numpy") as file:
        metadata = file.metadata()
    arrays = parse(small)
    without = {name: a for name, a in arrays.items() if name != "m.b"}
    with pytest.raises(ValueError, match=r"the arrays \['m.b'\] are missing. Nothing was loaded"):
        load(_written(tmp_path / "b", build(without, metadata)))
    with pytest.raises(ValueError, match="the array 'm.b' does not match its checksum.*earlier checkpoint"):
        load(_written(tmp_path / "c", build({**arrays, "m.b": arrays["m.b"] + 1}, metadata)))


def _written(path, content):
    path.write_bytes(content)
    return str(path)


def test_an_error_while_writing_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, [b"old"])

    def parts():
        yield b"new"
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, parts())
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


WRITER = """
import sys, numpy as np
from chainrule.nn.serialization import save
n = int(sys.argv[2])
while True:
    n += 1
    save({"n": n, "a": np.full(200_000, n, np.float64)}, sys.argv[1])
    print(n, flush=True)
"""


@pytest.mark.slow
def test_kill_at_any_moment_leaves_the_last_whole_checkpoint(tmp_path, rng):
    """SIGKILL at random moments, 40 times: what is in place loads, and is no older than the last reported."""
    path, last = tmp_path / "checkpoint", 0
    for _ in range(40):
        with subprocess.Popen([sys.executable, "-c", WRITER, path, str(last)], stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            time.sleep(rng.uniform(0, 0.03))
            writer.send_signal(signal.SIGKILL)
            reported = writer.stdout.read().split()
        saved = load(path)
        assert (saved["a"] == saved["n"]).all()
        assert saved["n"] >= max([last + 1, *map(int, reported)])
        last = saved["n"]
    leftovers = [p for p in tmp_path.iterdir() if p != path]
    assert all(p.name.startswith(".checkpoint.") and p.name.endswith(".tmp") for p in leftovers)
