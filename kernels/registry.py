"""Which implementations of each operation there are, and what is known about each: dtypes, layout, floor, capture.

`CHAINRULE_KERNELS=numba` takes the implementations of that name wherever they exist; `im2col=numba,lstm=cuda` names
them one by one. Without it, and where the one named does not exist for a dtype, the first one noted is taken, or on
the CPU the fastest for the shape. `using` asks for the same within a block.
`use_deterministic_algorithms(True)` takes those alone that give equal bits for equal inputs.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, wraps

_CONVOLUTIONS = ("columns", "batch", "pointwise", "pixels", "depthwise", "direct", "winograd", "winograd2", "fft")
NAMES = ("cuda", "numba", *_CONVOLUTIONS)
_DTYPES = {"f2": "float16", "bf16": "bfloat16", "f4": "float32", "f8": "float64", "i8": "int64"}


@dataclass(frozen=True)
class Implementation:
    """One way to compute an operation. `floor(*args)` gives (bytes, FLOPs) that no implementation can do without."""

    op: str
    name: str
    device: str
    function: Callable
    dtypes: tuple[str, ...]
    layout: str
    floor: Callable
    capturable: bool
    deterministic: bool


_noted: dict[str, list[Implementation]] = {}


def implementation(
    op, name, *, device="cuda", dtypes="f2 bf16 f4 f8", layout="", floor, capturable=True, deterministic=True
):
    """Note the decorated function as the implementation `name` of `op`.

    dtypes: those it computes in, of "f2 bf16 f4 f8 i8". layout: what it wants of its input, as "NHWC" ("" for any).
    floor: takes the operation's arguments and gives (bytes, FLOPs). capturable: whether a CUDA graph can hold it.
    deterministic: whether equal inputs give equal bits; if not, what is noted raises RuntimeError where that is asked.
    """
    _check_name(name)

    def note(function):
        kinds = tuple(_DTYPES[d] for d in dtypes.split())
        function = function if deterministic else _unless_refused(op, function)
        made = Implementation(op, name, device, function, kinds, layout, floor, capturable, deterministic)
        kept = [known for known in _noted.get(op, ()) if (known.device, known.name) != (device, name)]
        _noted[op] = [*kept, made]
        _chosen.cache_clear()
        return function

    return note


def implementations(op=None, *, device=None) -> list[Implementation]:
    """The implementations noted so far, of one operation or of all, in the order in which they came."""
    found = _noted.get(op, []) if op else [made for group in _noted.values() for made in group]
    return [made for made in found if device in (None, made.device)]


def chosen(op, dtype, device="cuda") -> Callable:
    """The function that computes `op` for arrays of `dtype`."""
    return _chosen(op, dtype, device, preferred, _deterministic)


@cache
def _chosen(op, dtype, device, wanted, deterministic):
    able = [made for made in implementations(op, device=device) if dtype.name in made.dtypes]
    if not able:
        known = ", ".join(f"{made.name}: {' '.join(made.dtypes)}" for made in implementations(op, device=device))
        raise TypeError(f"{op} received an array of {dtype}; on {device!r} there is {known or 'nothing'}; convert it")
    if deterministic:
        able = [made for made in able if made.deterministic] or able  # the one that is left says that it is not
    name = dict(wanted).get(op, dict(wanted).get(""))
    return next((made for made in able if made.name == name), able[0]).function


_deterministic = False


def use_deterministic_algorithms(mode: bool) -> None:
    """Whether operations must give equal bits for equal inputs, on one machine: they raise RuntimeError if they cannot.

    All that chainrule brings does so anyway, on the CPU for one number of threads; kernels of yours may not.

    >>> cr.use_deterministic_algorithms(False)
    """
    global _deterministic
    _deterministic = bool(mode)


def are_deterministic_algorithms_enabled() -> bool:
    """Whether `use_deterministic_algorithms` is on.

    >>> cr.are_deterministic_algorithms_enabled()
    False
    """
    return _deterministic


def _unless_refused(op, function):
    @wraps(function)
    def guarded(*args, **kwargs):
        if _deterministic:
            raise RuntimeError(
                f"{op} has no implementation here that gives equal bits for equal inputs, which "
                "use_deterministic_algorithms(True) asks for; compute it on the CPU, or around this call say "
                "use_deterministic_algorithms(False)"
            )
        return function(*args, **kwargs)

    return guarded


def preference(text: str) -> tuple[tuple[str, str], ...]:
    """What CHAINRULE_KERNELS asks for, as pairs of an operation ("" for all) and an implementation's name."""
    pairs = [part.rpartition("=") for part in filter(None, text.split(","))]
    made = tuple((op.strip(), name.strip()) for op, _, name in pairs)
    for _, name in made:
        _check_name(name)
    return made


def asked(preferred, *ops) -> tuple[str, bool]:
    """The name that is asked for the first of these operations that has one, and whether it is theirs alone."""
    wanted = dict(preferred)
    name = next((wanted[op] for op in ops if op in wanted), "")
    return (name, True) if name else (wanted.get("", ""), False)


@contextmanager
def using(text: str) -> Iterator[None]:
    """Within this context take the implementations that `text` names, as CHAINRULE_KERNELS names them.

    On the CPU a convolution has the algorithms columns, batch, pointwise, pixels, depthwise, direct, winograd,
    winograd2 and fft. `conv2d=fft` takes one for every convolution and both adjoints, and ValueError says where it
    cannot be; `fft` takes it where it can; `conv2d_weight=columns` is for one adjoint alone. ValueError for a name that
    nothing has.

    >>> x, w = cr.randn(1, 2, 16, 16), cr.randn(3, 2, 9, 9)
    >>> with cr.kernels.using("conv2d=columns"):
    ...     y = cr.nn.functional.conv2d(x, w)
    >>> y.shape
    (1, 3, 8, 8)
    """
    global preferred
    before, preferred = preferred, preference(text)
    try:
        yield
    finally:
        preferred = before


def _check_name(name):
    if name not in NAMES:
        raise ValueError(
            f"CHAINRULE_KERNELS: received the implementation {name!r}; there are {', '.join(NAMES)}; write "
            "CHAINRULE_KERNELS=numba, or im2col=numba for one operation"
        )


#: what is asked for; tests set it
preferred = preference(os.environ.get("CHAINRULE_KERNELS", ""))
