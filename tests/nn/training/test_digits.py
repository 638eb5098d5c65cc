"""IDX files and the loaders of digits: what is right is read, what lies is refused in bounded memory."""

import gzip
import hashlib
import http.server
import struct
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, strategies as st

from chainrule import data

digits_module = sys.modules["chainrule.nn.data.digits"]
CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def idx(array):
    header = struct.pack(f">4B{array.ndim}I", 0, 0, CODES[array.dtype.name], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def written(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4), (0, 28, 28), ()])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_reads_what_was_written(tmp_path, rng, dtype, shape, pack):
    array = rng.integers(0, 100, shape).astype(dtype)
    read = data.read_idx(written(tmp_path / "file", pack(idx(array))))
    assert read.dtype == array.dtype and read.dtype.isnative and read.shape == shape and (read == array).all()


GOOD = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", r"begins with the bytes \(none\), which is not an IDX header"),
        (b"\0\0\x08", "begins with the bytes 00 00 08"),
        (b"\1" + GOOD[1:], "begins with the bytes 01 00 08 03"),
        (b"\0\0\x07" + GOOD[3:], "not an IDX header"),
        (GOOD[:9], "ends within its header of 16 bytes"),
        (GOOD[:-1], r"claims the shape \(2, 3, 4\), 24 bytes, but holds only 23"),
        (GOOD + b"\0", "24 bytes, but holds more"),
        (GOOD[:4] + b"\xff" * 12 + GOOD[16:], "above the limit of 1,073,741,824.*larger max_bytes"),
        (GOOD[:4] + struct.pack(">3I", 1000, 1000, 1000) + GOOD[16:], "1,000,000,000 bytes, but holds only 24"),
        (gzip.compress(GOOD, mtime=0)[:-9], "damaged gzip file"),
        (gzip.compress(GOOD[:-1], mtime=0), "holds only 23"),
        (b"\x1f\x8b" + b"nonsense" * 4, "damaged gzip file"),
    ],
)
def test_refuses_what_is_not_what_it_says(tmp_path, content, message):
    path = written(tmp_path / "file", content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            data.read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_gzip_bomb_stays_bounded(tmp_path):
    bomb = gzip.compress(GOOD + bytes(64 << 20), 9)
    path = written(tmp_path / "bomb", bomb)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="24 bytes, but holds more"):
            data.read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@given(st.data())
def test_damaged_bytes_give_an_error_or_another_value(tmp_path_factory, draw):
    """IDX has no checksum: a changed pixel is a changed pixel, but nothing else may come of damage than ValueError."""
    pack = draw.draw(st.sampled_from([bytes, gzip.compress]))
    content = bytearray(pack(GOOD))
    for _ in range(draw.draw(st.integers(1, 4))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    content = bytes(content[: draw.draw(st.integers(0, len(content)))])
    path = written(tmp_path_factory.mktemp("idx") / "file", content)
    try:
        array = data.read_idx(path, max_bytes=1 << 20)
    except ValueError:
        return
    assert array.nbytes <= 1 << 20


def test_digits_are_the_real_ones_split_as_the_docstring_says():
    sklearn = pytest.importorskip(
        "sklearn.datasets", reason="scikit-learn is absent: pip install 'chainrule[examples]'"
    )
    bunch = sklearn.load_digits()
    train, test = data.digits(size=8)
    everything = np.concatenate([part.tensors[0].numpy() for part in (train, test)])[:, 0]
    order = np.lexsort(everything.reshape(1797, -1).T)
    expected = (bunch.images / 16).astype(np.float32)
    assert (everything[order] == expected[np.lexsort(expected.reshape(1797, -1).T)]).all()
    assert (len(train), len(test)) == (1438, 359)
    assert np.bincount(test.tensors[1].numpy()).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    again = data.digits(size=8)[1]
    assert (again.tensors[0] == test.tensors[0]).all()


def test_enlarged_digits_are_interpolated():
    pytest.importorskip("sklearn", reason="scikit-learn is absent: pip install 'chainrule[examples]'")
    small, large = data.digits(size=8)[1].tensors[0].numpy(), data.digits(size=24)[1].tensors[0].numpy()
    assert large.shape == (359, 1, 24, 24) and large.min() >= 0 and large.max() <= 1
    np.testing.assert_allclose(large[:, :, 1::3, 1::3], small, atol=1e-6)  # pixel centres fall on every third
    np.testing.assert_allclose(large[:, 0, 1, 2], small[:, 0, 0, 0] * 2 / 3 + small[:, 0, 0, 1] / 3, atol=1e-6)
    with pytest.raises(ValueError, match="size=4; the digits are 8×8 and are only enlarged"):
        data.digits(size=4)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'chainrule\[examples\]'"):
        data.digits()


def files(rng, train=7, test=3):
    made = {}
    for part, n in (("train", train), ("t10k", test)):
        made[f"{part}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (n, 28, 28)).astype(np.uint8))
        made[f"{part}-labels-idx1-ubyte"] = idx(rng.integers(0, 10, n).astype(np.uint8))
    return made


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_from_files(tmp_path, rng, packed):
    made = files(rng)
    for name, content in made.items():
        written(tmp_path / (name + ".gz" * packed), gzip.compress(content, mtime=0) if packed else content)
    train, test = data.mnist(tmp_path)
    assert (len(train), len(test)) == (7, 3)
    image, label = train[2]
    pixels = np.frombuffer(made["train-images-idx3-ubyte"], np.uint8, offset=16).reshape(7, 28, 28)
    assert image.shape == (1, 28, 28) and (image.numpy()[0] == (pixels[2] / np.float32(255)).astype(np.float32)).all()
    assert label.item() == made["train-labels-idx1-ubyte"][8 + 2] and label.dtype == np.int64


@pytest.mark.parametrize(
    "name, array, message",
    [
        ("train-labels-idx1-ubyte", np.zeros(6, np.uint8), "7 images and .* 6 labels"),
        ("train-labels-idx1-ubyte", np.full(7, 10, np.uint8), "labels up to 10"),
        ("train-images-idx3-ubyte", np.zeros((7, 28, 28), np.float32), "holds float32 of shape"),
        ("t10k-images-idx3-ubyte", np.zeros(3, np.uint8), "uint8 with 3 axes there.*exchanged"),
    ],
)
def test_mnist_files_that_do_not_belong_together(tmp_path, rng, name, array, message):
    for key, content in {**files(rng), name: idx(array)}.items():
        written(tmp_path / key, content)
    with pytest.raises(ValueError, match=message):
        data.mnist(tmp_path)


def test_mnist_without_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte.gz is in .*or call chainrule\.data\.mnist"):
        data.mnist(tmp_path)


@pytest.fixture
def server(tmp_path):
    """A web server on this machine over a folder; the folder and its address."""
    folder = tmp_path / "mirror"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=folder)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{httpd.server_address[1]}/"
        httpd.shutdown()


@pytest.fixture
def published(server, rng, monkeypatch):
    folder, address = server
    packed = {name: gzip.compress(content, mtime=0) for name, content in files(rng).items()}
    for name, content in packed.items():
        written(folder / f"{name}.gz", content)
    monkeypatch.setattr(digits_module, "MIRRORS", (f"{address}nothing/here/", address))
    sums = {name: hashlib.md5(content).hexdigest() for name, content in packed.items()}
    monkeypatch.setattr(digits_module, "CHECKSUMS", sums)
    return folder


def test_mnist_is_fetched_from_the_first_mirror_that_delivers(published, tmp_path):
    target = tmp_path / "new" / "mnist"
    train, test = data.mnist(target, download=True)
    assert (len(train), len(test)) == (7, 3)
    assert sorted(p.name for p in target.iterdir()) == sorted(p.name for p in published.iterdir())
    for file in published.iterdir():
        file.unlink()
    assert len(data.mnist(target, download=True)[0]) == 7  # nothing is fetched twice


def test_a_damaged_download_is_refused_and_leaves_nothing(published, tmp_path):
    file = published / "train-images-idx3-ubyte.gz"
    written(file, file.read_bytes()[:-1] + b"!")
    with pytest.raises(OSError, match=r"No mirror delivered .*404.*; http.*MD5 \w+ of [\d,]+ bytes, expected.*by hand"):
        data.mnist(tmp_path / "new", download=True)
    assert list((tmp_path / "new").iterdir()) == []


def test_the_published_checksums_are_wellformed():
    assert len(digits_module.CHECKSUMS) == 4
    assert all(len(bytes.fromhex(md5)) == 16 for md5 in digits_module.CHECKSUMS.values())
