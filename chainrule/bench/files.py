"""Arrays that go from one process to another, whichever release of NumPy each of them has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

GIVEN, GOT = "given.npz", "got.npz"  # to a peer, from it


def save(path: Path, arrays: Sequence[np.ndarray]) -> None:
    """Write arrays for another process.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from chainrule.bench.files import load, save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Path(folder) / "a.npz", [np.arange(3), np.ones(())])
    ...     load(Path(folder) / "a.npz")
    [array([0, 1, 2]), array(1.)]
    """
    np.savez(path, *arrays)


def load(path: Path) -> list[np.ndarray]:
    """What `save` wrote."""
    with np.load(path) as kept:
        return [_known(kept[name]) for name in kept.files]


def _known(array: np.ndarray) -> np.ndarray:
    """NumPy's files do not know bfloat16."""
    if array.dtype.kind != "V":
        return array
    import ml_dtypes

    return array.view(ml_dtypes.bfloat16)
