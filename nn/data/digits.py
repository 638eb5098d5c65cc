"""Handwritten digits: the 1,797 of scikit-learn, and MNIST's 70,000 from IDX files."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.request
from pathlib import Path

import numpy as np

from ...autograd import tensor
from ..files import write_atomically
from .dataset import TensorDataset
from .idx import read_idx

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
# MD5 of the four published files: whether they arrived whole, not who made them.
CHECKSUMS = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
_LARGEST_DOWNLOAD = 32 << 20


def digits(size: int = 28) -> tuple[TensorDataset, TensorDataset]:
    """Return (train, test) of scikit-learn's 1,797 real handwritten digits, scaled up from 8×8 to `size`×`size`.

    Images are (N, 1, size, size) float32 in [0, 1], labels (N,) int64. Scaling is bilinear between pixel centres.
    The split is fixed: within each class the samples are permuted by `numpy.random.default_rng(0)` (classes in order)
    and the first fifth, rounded, goes to the test: 1,438 for training and 359 to test.
    Raises ImportError without scikit-learn. Source: E. Alpaydin, C. Kaynak, "Optical recognition of handwritten
    digits", UCI 1998 (its test part).

    >>> from chainrule import data
    >>> train, test = data.digits()
    >>> len(train), len(test), train[0][0].shape
    (1438, 359, (1, 28, 28))
    """
    if size < 8:
        raise ValueError(f"digits received size={size}; the digits are 8×8 and are only enlarged. Pass size=28, say.")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "data.digits() reads the digits that scikit-learn brings, and scikit-learn is not installed. "
            "Install it with: pip install 'chainrule[examples]'"
        ) from error
    bunch = load_digits()
    images, labels = bunch.images.astype(np.float32) / 16, bunch.target.astype(np.int64)
    rng = np.random.default_rng(0)
    in_test = np.zeros(len(labels), bool)
    for digit in range(10):
        members = rng.permutation(np.flatnonzero(labels == digit))
        in_test[members[: round(len(members) / 5)]] = True
    scale = _bilinear(8, size)
    images = (scale @ images @ scale.T)[:, None]
    return _dataset(images[~in_test], labels[~in_test]), _dataset(images[in_test], labels[in_test])


def _bilinear(n: int, m: int) -> np.ndarray:
    """Return the (m, n) matrix that interpolates n pixel centres at m, clamped at the edges."""
    at = np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(n))).astype(np.float32)


def mnist(path: str | os.PathLike, download: bool = False) -> tuple[TensorDataset, TensorDataset]:
    """Return (train, test) of MNIST from the four IDX files in the folder `path`, each as `.gz` or unpacked.

    Images are (N, 1, rows, columns) float32 in [0, 1] (28×28 in the published files), labels (N,) int64 in 0…9.
    download: fetch the files that are missing from a list of mirrors, each verified by its published MD5.
    Raises FileNotFoundError for a missing file, ValueError for one that is not what it says, OSError if no mirror
    delivers. Source: LeCun, Cortes, Burges, "The MNIST database".

    >>> from chainrule import data
    >>> data.mnist("nowhere")
    Traceback (most recent call last):
    FileNotFoundError: Neither train-images-idx3-ubyte nor train-images-idx3-ubyte.gz is in nowhere. ...
    """
    folder = Path(path)
    parts = []
    for part in ("train", "t10k"):
        images_path, labels_path = (
            _find(folder, f"{part}-{kind}-ubyte", download) for kind in ("images-idx3", "labels-idx1")
        )
        images, labels = read_idx(images_path), read_idx(labels_path)
        for file, array, rank in ((images_path, images, 3), (labels_path, labels, 1)):
            if array.ndim != rank or array.dtype != np.uint8:
                raise ValueError(
                    f"{file} holds {array.dtype} of shape {array.shape}; MNIST keeps uint8 with {rank} axes there. "
                    "Check that images and labels were not exchanged."
                )
        if len(images) != len(labels) or labels.max(initial=0) > 9:
            raise ValueError(
                f"{images_path} holds {len(images)} images and {labels_path} {len(labels)} labels up to "
                f"{labels.max(initial=0)}; they must be as many, of digits. Fetch the files again."
            )
        parts.append(_dataset(images[:, None].astype(np.float32) / 255, labels.astype(np.int64)))
    return parts[0], parts[1]


def _dataset(images: np.ndarray, labels: np.ndarray) -> TensorDataset:
    return TensorDataset(tensor(images), tensor(labels))


def _find(folder: Path, name: str, download: bool) -> Path:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    if not download:
        raise FileNotFoundError(
            f"Neither {name} nor {name}.gz is in {folder}. Put MNIST's four files there, or call "
            "chainrule.data.mnist(folder, download=True) once."
        )
    return _download(folder, name)


def _download(folder: Path, name: str) -> Path:
    """Fetch one file from the first mirror that delivers what its checksum says; nothing partial stays behind."""
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for mirror in MIRRORS:
        url = f"{mirror}{name}.gz"
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                content = response.read(_LARGEST_DOWNLOAD)
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{url}: {error}")
            continue
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != CHECKSUMS[name]:
            failures.append(f"{url}: MD5 {found} of {len(content):,} bytes, expected {CHECKSUMS[name]}")
            continue
        return write_atomically(folder / f"{name}.gz", [content])
    raise OSError(
        f"No mirror delivered {name}.gz: {'; '.join(failures)}. Put the file into {folder} by hand, or try again later."
    )
