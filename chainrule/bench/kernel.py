"""A kernel as a benchmark sees it: axes, inputs, reference, FLOPs and bytes, and the implementations that compete."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..kernels import device_of, is_array, to_device
from . import shapes
from .sides import Ready

Number = int | float
OfAxes = Number | Callable[..., Number]
_DIRECTION_STEP = 1e-6  # of a central difference in float64


#: (arrays, axes, device) -> Ready
Maker = Callable[[Sequence[Any], Mapping[str, Any], str], Ready]


class Draw:
    """Random inputs, the same for all implementations: `draw(2, 3)` is normal, of the dtype that is measured.

    >>> draw = cr.bench.Draw("float32")
    >>> draw(2, 3).dtype, draw.integers(10, 4).shape
    (dtype('float32'), (4,))
    """

    def __init__(self, dtype: str, seed: int = 0):
        self.dtype, self.rng = as_dtype(dtype), np.random.default_rng(seed)

    def __call__(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * self.rng.standard_normal(shape, np.float32)).astype(self.dtype)

    def integers(self, high: int, *shape: int) -> np.ndarray:
        """Numbers from 0 to high − 1."""
        return self.rng.integers(0, high, shape)


class Kernel:
    """What `cr.bench.kernel` makes of a function; call it like the function.

    >>> declare = cr.bench.kernel(
    ...     axes={"n": [2, 3]}, inputs=lambda draw, n: (draw(n),), reference=lambda x: 2 * x, name="double")
    >>> double = declare(lambda x: x + x)
    >>> double(4), double.rows()
    (8, [('n=2', {'n': 2}), ('n=3', {'n': 3})])
    """

    def __init__(
        self, name, axes, inputs, reference, *, flops=0, bytes=None, least=None, gradients=0, tolerance=None,
        cold=True, group="kernel",
    ):  # fmt: skip
        self.name, self.group, self.axes = name, group, axes
        self.inputs, self.reference, self.flops, self.bytes = inputs, reference, flops, bytes
        self.least = flops if least is None else least
        self.gradients, self.tolerance, self.cold = gradients, tolerance, cold
        self.implementations: dict[str, Maker] = {}
        self.peers: dict[str, dict] = {}  # who computes it in a process of its own, and what that is asked for
        self.registered: Callable[[Mapping, str], Mapping[str, Maker]] = lambda axes, device: {}
        self.takes: Callable[[Mapping, str], str] = lambda axes, dtype: ""  # the algorithm that chainrule chooses
        self.function: Callable | None = None

    def __call__(self, *arguments, **options):
        if self.function is None:
            raise TypeError(f"the kernel {self.name!r} has no function of its own to call; see .implementations")
        return self.function(*arguments, **options)

    def implementation(self, name: str) -> Callable[[Callable], Callable]:
        """Decorate another implementation of the same: it takes what the kernel's own function takes."""
        if name in self.implementations:
            raise ValueError(f"{self.name!r} has an implementation {name!r} already; give this one another name")

        def note(function):
            self.implementations[name] = plain(function)
            return function

        return note

    def rows(self) -> list[tuple[str, dict]]:
        """(the name of a shape, its axes) for each."""
        return named_axes(self.axes)

    def arrays(self, axes: Mapping[str, Any], dtype: str) -> tuple:
        """The inputs of one shape."""
        made = self.given(self.inputs, axes, dtype, Draw(dtype))
        several = isinstance(made, tuple | list)
        if not several or not all(hasattr(array, "dtype") for array in made):
            gave = ", ".join(type(a).__name__ for a in made) if several else f"one {type(made).__name__}"
            raise TypeError(
                f"the inputs of {self.name!r} gave {gave}, but a kernel takes a tuple of arrays; return one, such as "
                "(draw(n),)"
            )
        return tuple(made)

    def given(self, of: Any, axes: Mapping[str, Any], dtype: str, *arguments: Any) -> Any:
        """A number, or what a function makes of the axes that it names (`itemsize` and `dtype` among them)."""
        if not callable(of):
            return of
        more = {"dtype": dtype, "itemsize": as_dtype(dtype).itemsize}
        options = _named(of, axes, more, len(arguments))
        try:
            return of(*arguments, **options)
        except TypeError as error:
            if why := _misfit(of, arguments, options, axes):
                role = next(name for name, value in vars(self).items() if value is of)
                first = {"inputs": "draw and ", "reference": f"the {len(arguments)} arrays and "}.get(role, "")
                raise TypeError(
                    f"the {role} of {self.name!r} cannot be called: {why}; it gets {first}those of "
                    f"{', '.join({**axes, **more})} that it has parameters for; name them so"
                ) from error
            raise

    def makers(self, axes: Mapping[str, Any], device: str) -> dict[str, Maker]:
        """The implementations for a shape, those of `kernels.registry` among them."""
        return {**self.implementations, **self.registered(axes, device)}

    def work(self, axes: Mapping[str, Any], dtype: str, arrays: int) -> tuple[float, float, float]:
        """(bytes, FLOPs, FLOPs that cannot be avoided) of one call; `arrays`: bytes of its inputs and results."""
        moved = self.given(self.bytes, axes, dtype)
        return arrays if moved is None else moved, *(self.given(n, axes, dtype) for n in (self.flops, self.least))

    def expected(self, axes: Mapping[str, Any], dtype: str) -> Expected:
        """What is true, in float64."""
        arrays = [_wide(array) for array in self.arrays(axes, dtype)]
        reference = lambda given: self.given(self.reference, axes, dtype, *given)
        make = _Directions if self.gradients else _Values
        return make(reference, arrays, self.gradients, self.tolerance or _tolerance(dtype))

    def run(self, **options):
        """Prove and time the implementations: `cr.bench.run([self], **options)`."""
        from .runner import run

        return run([self], **options)


def kernel(
    *,
    axes: Any,
    inputs: Callable[..., Sequence[np.ndarray]],
    reference: Callable[..., Any],
    flops: OfAxes = 0,
    bytes: OfAxes | None = None,
    least: OfAxes | None = None,
    gradients: int = 0,
    tolerance: float | None = None,
    name: str | None = None,
) -> Callable[[Callable], Kernel]:
    """Declare a kernel of your own; the decorated function becomes its first implementation.

    axes: {name: values}, whose combinations are measured, or {row: {name: value}}. inputs(draw, …): the arrays of one
    shape, where draw(2, 3) is normal and draw.integers(high, 2, 3) counts. reference(*arrays, …): the truth; it gets
    the arrays in float64. flops, bytes: numbers, or functions of the axes that they name (`itemsize` is known too);
    without `bytes`, every input is read and every result written once. least: the FLOPs that cannot be avoided, where
    that is not `flops`. gradients: the results are the gradients of the number that `reference` gives, with respect to
    so many first inputs; they are checked along random directions. tolerance: see `Expected`. A function gets those
    axes that it has keyword-only parameters for.

    >>> @cr.bench.kernel(
    ...     axes={"n": [1000, 100_000]},
    ...     inputs=lambda draw, n: (draw(n), draw(n)),
    ...     reference=lambda x, y: 2 * x + y,
    ...     flops=lambda n: 2 * n,
    ...     bytes=lambda n, itemsize: 3 * n * itemsize,
    ... )
    ... def axpy(x, y):
    ...     return 2 * x + y
    >>> @axpy.implementation("in place")
    ... def _(x, y):
    ...     out = x * 2
    ...     return np.add(out, y, out=out)
    >>> report = axpy.run(seconds=0.01)  # doctest: +SKIP
    >>> list(axpy.implementations)
    ['axpy', 'in place']
    """

    def declare(function: Callable) -> Kernel:
        made = Kernel(
            name or function.__name__, axes, inputs, reference, flops=flops, bytes=bytes, least=least,
            gradients=gradients, tolerance=tolerance,
        )  # fmt: skip
        made.function = function
        made.implementations[made.name] = plain(function)
        made.rows()
        return made

    return declare


def named_axes(axes: Mapping[str, Any]) -> list[tuple[str, dict]]:
    """Rows with their names, of either form that `kernel` takes.

    >>> from chainrule.bench.kernel import named_axes
    >>> named_axes({"n": [1, 2], "m": [3]})
    [('n=1 m=3', {'n': 1, 'm': 3}), ('n=2 m=3', {'n': 2, 'm': 3})]
    """
    values = list(axes.values()) if isinstance(axes, Mapping) else []
    if values and all(isinstance(v, Mapping) for v in values):
        return [(name, dict(row)) for name, row in axes.items()]
    if not values or not all(isinstance(v, list | tuple | range) and len(v) for v in values):
        raise ValueError(
            f"axes={axes!r} says no shapes: give each axis its values, as in {{'n': [1000, 2000]}}, or each row "
            "its axes, as in {'small': {'n': 1000}}"
        )
    rows: list[dict] = [{}]
    for name, each in axes.items():
        rows = [{**row, name: value} for row in rows for value in each]
    return [(shapes.text(row), row) for row in rows]


def plain(function: Callable) -> Maker:
    """The maker of a function of arrays.

    >>> from chainrule.bench.kernel import plain
    >>> ready = plain(np.negative)([np.ones(2)], {}, "cpu")
    >>> ready.read(ready.call())
    [array([-1., -1.])]
    """

    def make(arrays, axes, device):
        options = keywords(function, axes)
        there = [to_device(array, device) for array in arrays]
        return Ready(lambda: function(*there, **options), _own)

    return make


def _own(result: Any) -> list[np.ndarray]:
    """The arrays of a result of our own devices, or of anything that NumPy understands."""
    several = result if isinstance(result, tuple | list) else (result,)
    return [to_device(a, "cpu") if is_array(a) and device_of(a) != "cpu" else np.asarray(a) for a in several]


def keywords(function: Callable, axes: Mapping[str, Any]) -> dict:
    """The axes that a function has keyword-only parameters for.

    >>> from chainrule.bench.kernel import keywords
    >>> keywords(lambda x, *, k: x, {"n": 1, "k": 2})
    {'k': 2}
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # of a built-in function without a signature
        return {}
    asked = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    return {name: value for name, value in axes.items() if name in asked}


def _named(function: Callable, axes: Mapping[str, Any], more: Mapping[str, Any], first: int) -> dict:
    """What the function has parameters for, after its `first` ones; one that takes **options gets all axes."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # of a built-in function without a signature
        return {}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return dict(axes)
    values = {**axes, **more}
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    after = [p for p in parameters if p.kind is p.KEYWORD_ONLY] if several else parameters[first:]
    return {p.name: values[p.name] for p in after if p.name in values}


def _misfit(function: Callable, arguments: Sequence[Any], options: Mapping[str, Any], axes: Mapping[str, Any]) -> str:
    """Why a function that raised a TypeError cannot be called so; "" if the call was not the reason."""
    try:
        bound = inspect.signature(function).bind(*arguments, **options).arguments
    except ValueError:  # of a built-in function without a signature
        return ""
    except TypeError as error:
        return str(error)
    taken = [name for name in bound if name in axes and name not in options]
    return f"its parameter {taken[0]!r}, of an axis's name, comes first" if taken else ""


def as_dtype(name: str) -> np.dtype:
    """The dtype of that name, bfloat16 among them.

    >>> from chainrule.bench.kernel import as_dtype
    >>> as_dtype("float32")
    dtype('float32')
    """
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def _is_float(dtype: np.dtype) -> bool:
    return dtype.kind == "f" or dtype.name == "bfloat16"


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if _is_float(array.dtype) else array


def _tolerance(dtype: str) -> float:
    """Half of the digits: √ε."""
    eps = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
    return eps[dtype] ** 0.5


# ---- proof -----------------------------------------------------------------------------------------------------------


class Expected:
    """The truth about one shape, against which every implementation is held before it is timed.

    An error is |a − b| / (|b| + rms(b)) at its largest, so that no element, however small its share of the norm, may be
    wrong; the tolerance is √ε of the dtype: half of its digits.
    """

    def __init__(self, reference, arrays, count, tolerance):
        self.reference, self.arrays, self.count, self.tolerance = reference, arrays, count, tolerance

    size: int  # elements of the results

    def complaint(self, results: Sequence[np.ndarray]) -> tuple[float, str]:
        """(the error, "" or in words what is wrong)."""
        raise NotImplementedError


class _Values(Expected):
    """The results themselves."""

    def __init__(self, *given):
        super().__init__(*given)
        self.values = _own(self.reference(self.arrays))
        self.size = sum(value.size for value in self.values)

    def complaint(self, results):
        if [r.shape for r in results] != [v.shape for v in self.values]:
            return np.inf, f"shapes {[r.shape for r in results]} instead of {[v.shape for v in self.values]}"
        error = max(map(_error, results, self.values))
        return error, "" if error <= self.tolerance else f"error {error:.1e}, at most {self.tolerance:.1e} is rounding"


class _Directions(Expected):
    """Gradients, each held against differences of the reference along a random direction.

    g · d is the slope of the reference along d. With d normal, an element of g that is wrong by an rms moves it by
    |g| / √n, which is above the tolerance up to some 10⁷ elements.
    """

    def __init__(self, *given):
        super().__init__(*given)
        rng, self.size = np.random.default_rng(1), sum(array.size for array in self.arrays[: self.count])
        self.ways = [rng.standard_normal(array.shape) for array in self.arrays[: self.count]]
        self.slopes = [self._slope(i, way) for i, way in enumerate(self.ways)]

    def _slope(self, i, way):
        ends = []
        for step in (_DIRECTION_STEP, -_DIRECTION_STEP):
            moved = list(self.arrays)
            moved[i] = moved[i] + step * way
            ends.append(float(self.reference(moved)))
        return (ends[0] - ends[1]) / (2 * _DIRECTION_STEP)

    def complaint(self, results):
        shapes = [array.shape for array in self.arrays[: self.count]]
        if [r.shape for r in results] != shapes:
            return np.inf, f"gradients of shapes {[r.shape for r in results]} instead of {shapes}"
        errors = [self._off(*each) for each in zip(results, self.ways, self.slopes, strict=True)]
        worst = int(np.argmax(errors))  # the first NaN, where there is one
        if errors[worst] <= self.tolerance:
            return errors[worst], ""
        return errors[worst], (
            f"the gradient of input {worst} is off by {errors[worst]:.1e} of its norm along a random direction, at "
            f"most {self.tolerance:.1e} is rounding"
        )

    @staticmethod
    def _off(gradient, way, slope):
        wide = gradient.astype(np.float64)
        return abs(float((wide * way).sum()) - slope) / max(float(np.linalg.norm(wide)), abs(slope), 1e-30)


def _error(got: np.ndarray, true: np.ndarray) -> float:
    got, true = got.astype(np.float64), np.asarray(true, np.float64)
    if not true.size:
        return 0.0
    same = got == true  # infinities too
    with np.errstate(invalid="ignore"):
        room = np.abs(true) + np.sqrt(np.mean(np.square(true)))
        off = np.where(same, 0.0, np.abs(got - true) / np.maximum(room, 1e-30))
    return float(np.inf if np.isnan(off).any() else off.max())
