"""Points in the plane with a class each: the data of the playground."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

MOST_CLASSES = 6  # told apart by colour and shape


class Points(NamedTuple):
    """Points x (N, 2), their classes y (N,) as 0 … C − 1, the classes' names, and what the data are called."""

    x: np.ndarray
    y: np.ndarray
    names: list[str]
    title: str

    @property
    def limits(self) -> list[tuple[float, float]]:
        """The (lowest, highest) coordinate of the drawn plane along x₁ and x₂: the points' range and a margin."""
        low, high = self.x.min(0), self.x.max(0)
        margin = 0.12 * np.where(high > low, high - low, 1.0)
        return [(float(a), float(b)) for a, b in zip(low - margin, high + margin)]


def circles(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    """A disc, class 1, inside a ring, class 0."""
    r = np.where(y == 1, rng.uniform(0, 0.45, len(y)), rng.uniform(0.7, 1, len(y)))
    return _polar(r, rng.uniform(0, 2 * np.pi, len(y)))


def xor(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    """Four squares: class 1 where the signs of x₁ and x₂ differ."""
    x = rng.uniform(0.08, 1, (len(y), 2)) * rng.choice([-1, 1], (len(y), 1))
    x[y == 1, 1] *= -1
    return x


def spiral(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    """Two arms, each one and a half turns long."""
    r = np.sqrt(rng.uniform(0.02, 1, len(y)))
    return _polar(r, 3 * np.pi * r + np.pi * y)


def moons(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    """Two half circles that reach into each other."""
    angle = rng.uniform(0, np.pi, len(y)) + np.pi * y
    return _polar(np.full(len(y), 0.62), angle) + np.where(y[:, None] == 1, (0.31, 0.15), (-0.31, -0.15))


def _polar(r: np.ndarray, angle: np.ndarray) -> np.ndarray:
    return np.stack([r * np.cos(angle), r * np.sin(angle)], 1)


KINDS: dict[str, Callable[[np.random.Generator, np.ndarray], np.ndarray]] = {
    "circles": circles,
    "xor": xor,
    "spiral": spiral,
    "moons": moons,
}


def points(data: str | Sequence[Any], n: int = 200, noise: float = 0.05, seed: int = 0) -> Points:
    """Return the points of a name ("circles", "xor", "spiral", "moons") or of the user's pair (X, y).

    X (N, 2); y (N,) of integers, truth values or strings. n, noise (the standard deviation of what is added to each
    coordinate) and seed are those of the named data. Raises ValueError for what cannot be drawn.

    >>> from chainrule.nn.viz.data2d import points
    >>> points("xor", n=6).y.tolist(), points(([[0, 1], [2, 3]], ["no", "yes"])).names
    ([0, 1, 0, 1, 0, 1], ['no', 'yes'])
    """
    if isinstance(data, str):
        if data not in KINDS:
            raise ValueError(f"playground received data={data!r}; pass {', '.join(map(repr, KINDS))} or a pair (X, y)")
        if n < 2:
            raise ValueError(f"playground received n={n}; it needs a point of each class")
        rng, y = np.random.default_rng(seed), np.arange(n) % 2
        x = KINDS[data](rng, y) + noise * rng.standard_normal((n, 2))
        return Points(x.astype(np.float32), y, ["class 0", "class 1"], data)
    if not isinstance(data, (list, tuple)) or len(data) != 2:
        parts = f" of {len(data)} parts" if isinstance(data, (list, tuple)) else f" of type {type(data).__name__}"
        raise ValueError(f"playground received data{parts}; pass a name or a pair (X, y)")
    return _given(np.asarray(data[0], dtype=np.float32), np.asarray(data[1]))


def _given(x: np.ndarray, y: np.ndarray) -> Points:
    if x.ndim != 2 or x.shape[1] != 2 or y.shape != x.shape[:1] or not len(x) or not np.isfinite(x).all():
        raise ValueError(
            f"playground received X of shape {x.shape} and y of shape {y.shape}; it draws points in the plane: pass "
            "finite X of shape (N, 2) and y of shape (N,)"
        )
    if y.dtype.kind not in "biufUS":
        raise ValueError(f"playground received y of {y.dtype}; pass integers, truth values or strings")
    if y.dtype.kind == "f" and (y != np.round(y)).any():
        raise ValueError(
            f"playground received y of {y.dtype} with fractions, but the y of a point is its class; pass integers, "
            "truth values or strings"
        )
    found, y = np.unique(y.astype(int) if y.dtype.kind == "f" else y, return_inverse=True)
    if not 2 <= len(found) <= MOST_CLASSES:
        raise ValueError(
            f"playground received y with {len(found)} classes; it tells 2 to {MOST_CLASSES} apart on the page"
        )
    names = [str(one) if found.dtype.kind in "USO" else f"class {one}" for one in found]
    return Points(x, y, names, f"{len(x)} points")
