"""`save` and `load`: tensors inside dicts, lists, numbers and strings, in one safetensors file. Never pickle.

The tensors are stored under the names that a flat state_dict gives them, so other safetensors readers find them. The
metadata hold the structure as JSON and, for the structure and for each tensor, a SHA-256 that `load` verifies.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from ..autograd import Tensor, tensor
from .files import write_atomically

_STRUCTURE, _CHECKSUMS = "chainrule.structure", "chainrule.checksums"
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1", "BOOL": "|b1", "C64": "<c8",
}  # fmt: skip
_CODES = {np.dtype(name): code for code, name in _DTYPES.items()}
_DIGEST = re.compile("[0-9a-f]{64}")
_DEEPEST = 64
_LARGEST_HEADER = 100_000_000  # safetensors' own limit


def save(obj: Any, path: str | os.PathLike) -> None:
    """Save tensors, NumPy arrays, numbers, strings, None, and nested dicts, lists and tuples of them.

    A tensor keeps its values, its dtype (also bfloat16) and `requires_grad`; a Parameter comes back as a plain tensor,
    any dict as a dict, and a tensor that occurs twice is stored twice. The file is written atomically: `path` never
    holds half of it. Raises TypeError, naming the place in the structure, for anything else; nothing is written then.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "model.safetensors")
    >>> cr.save({"w": cr.tensor([1.0, 2.0]), "epoch": 3, "betas": (0.9, 0.999)}, path)
    >>> cr.load(path)
    {'w': tensor([1., 2.]), 'epoch': 3, 'betas': (0.9, 0.999)}
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"save received a path of type {type(path).__name__}; it writes files whole, by name. Pass a str or Path."
        )
    arrays: dict[str, np.ndarray] = {}
    structure = json.dumps(_encode(obj, (), arrays))
    checksums = {name: _checksum(a) for name, a in arrays.items()} | {_STRUCTURE: _text_checksum(structure)}
    # Larger items first keeps every array aligned, as the format asks.
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": {_STRUCTURE: structure, _CHECKSUMS: json.dumps(checksums)}}
    end = 0
    for name in names:
        a, start = arrays[name], end
        end += a.nbytes
        header[name] = {"dtype": _code(a.dtype), "shape": a.shape, "data_offsets": (start, end)}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    if len(head) > _LARGEST_HEADER:
        raise ValueError(
            f"save received a structure whose description takes {len(head):,} bytes; the format allows "
            f"{_LARGEST_HEADER:,}. Put long lists of numbers into tensors."
        )
    write_atomically(path, [len(head).to_bytes(8, "little"), head, *(_bytes(arrays[name]) for name in names)])


def load(path: str | os.PathLike) -> Any:
    """Load what `save` wrote, or the dict of tensors of any other safetensors file (a PyTorch state_dict, say).

    Every tensor of a file of ours is verified. Raises FileNotFoundError or IsADirectoryError where there is no file,
    ValueError, naming the damaged tensor where it can, for a file that is not what it should be, and ImportError for
    bfloat16 where ml_dtypes is missing; running code is never part of loading.

    >>> cr.load("nowhere.safetensors")
    Traceback (most recent call last):
    FileNotFoundError: load received 'nowhere.safetensors', but there is no such file. Check the path.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"load received a path of type {type(path).__name__}. Pass a str or Path.")
    file = Path(path)
    if file.is_dir():
        raise IsADirectoryError(f"load received {str(file)!r}, which is a folder. Pass the file inside it.")
    if not file.is_file():
        raise FileNotFoundError(f"load received {str(file)!r}, but there is no such file. Check the path.")
    metadata, arrays = _read(file)
    if not _ours(metadata):
        return {name: tensor(a) for name, a in arrays}
    structure = metadata.get(_STRUCTURE, "")
    tree, checksums = (_parse(file, metadata.get(name, "")) for name in (_STRUCTURE, _CHECKSUMS))
    if not isinstance(checksums, dict) or checksums.pop(_STRUCTURE, None) != _text_checksum(structure):
        raise _damaged(file, "the description of its structure does not match its checksum")
    verified = {}
    for name, a in arrays:
        if checksums.pop(name, None) != _checksum(a):
            raise _damaged(file, f"the array {name!r} does not match its checksum")
        verified[name] = a
    if checksums:
        raise _damaged(file, f"the arrays {sorted(checksums)} are missing")
    try:
        return _decode(tree, verified)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(file, f"the description of its structure makes no sense ({error!r})") from error


def _ours(metadata: dict[str, str]) -> bool:
    """Whether `save` wrote the file: it has our keys, or, where damage has changed them, values that hold digests."""
    return not metadata.keys().isdisjoint((_STRUCTURE, _CHECKSUMS)) or any(map(_DIGEST.search, metadata.values()))


def _parse(file: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(file, f"its metadata cannot be read ({type(error).__name__})") from error


def _damaged(file: Path, why: str) -> ValueError:
    return ValueError(
        f"{str(file)!r} is damaged: {why}. Nothing was loaded; go back to an earlier checkpoint or a copy of the file."
    )


def _read(file: Path) -> tuple[dict[str, str], Iterator[tuple[str, np.ndarray]]]:
    """Return the metadata and the arrays of a safetensors file, its header checked by the safetensors library."""
    try:
        opened = safetensors.safe_open(str(file), framework="numpy")
        metadata = opened.metadata() or {}
        names = list(opened.keys())
        for name in names:
            code = opened.get_slice(name).get_dtype()
            if code == "BF16":
                _bring_bfloat16(file, name)
            elif code not in _DTYPES:
                raise ValueError(
                    f"{str(file)!r} holds {name!r} as {code}, which NumPy has no type for. Convert it to float32 "
                    "where the file was made."
                )
        return metadata, ((name, opened.get_tensor(name)) for name in names)
    except (safetensors.SafetensorError, OSError) as error:
        with file.open("rb") as raw:
            start = raw.read(4)
        if start == b"PK\3\4" or start[:2] in (b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5"):
            raise ValueError(
                f"{str(file)!r} is a pickle, as torch.save writes; loading one could run any code. In PyTorch, convert "
                "it with safetensors.torch.save_file(state_dict, path)."
            ) from error
        raise ValueError(
            f"{str(file)!r} is not a whole safetensors file ({error}). It is truncated, damaged, or of another format: "
            "load a file that cr.save or safetensors wrote."
        ) from error


def _bring_bfloat16(file: Path, name: str) -> None:
    try:
        import_module("ml_dtypes")  # tells NumPy the name, by which safetensors asks for the dtype
    except ImportError:
        raise ImportError(
            f"{str(file)!r} holds {name!r} as BF16, which NumPy lacks and ml_dtypes brings. Install it with "
            "pip install 'chainrule[bfloat16]', or convert the tensor to float32 where the file was made."
        ) from None


def _checksum(a: np.ndarray) -> str:
    digest = hashlib.sha256(f"{_code(a.dtype)} {a.shape}".encode())
    digest.update(_bytes(a))
    return digest.hexdigest()


def _code(dtype: np.dtype) -> str | None:
    return "BF16" if dtype.name == "bfloat16" else _CODES.get(dtype)


def _bytes(a: np.ndarray) -> memoryview:
    """The memory of a dense array; Python knows no bfloat16."""
    return (a.view(np.uint16) if a.dtype.kind == "V" else a).data


def _text_checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# The structure as JSON: numbers, strings, None and lists as they are; everything else is a one-entry object that says
# what it is: {"tensor": name}, {"parameter": name} (one that requires grad), {"array": name}, {"tuple": [...]},
# {"dict": [[key, value], ...]}.


def _encode(x: Any, path: tuple, arrays: dict[str, np.ndarray]) -> Any:
    if len(path) > _DEEPEST:
        raise ValueError(
            f"save received a structure nested more than {_DEEPEST} deep at {_place(path[:8])}…, or one that contains "
            "itself. Save something flatter."
        )
    if x is None or isinstance(x, bool):
        return x
    if isinstance(x, int):
        return int(x)
    if isinstance(x, float):
        return float(x)
    if isinstance(x, str):
        return str(x)
    if isinstance(x, list):
        return [_encode(v, (*path, i), arrays) for i, v in enumerate(x)]
    if isinstance(x, tuple):
        return {"tuple": [_encode(v, (*path, i), arrays) for i, v in enumerate(x)]}
    if isinstance(x, dict):
        return {"dict": [[_key(k, path), _encode(v, (*path, k), arrays)] for k, v in x.items()]}
    if isinstance(x, Tensor):
        kind = "parameter" if x.requires_grad else "tensor"
        return {kind: _store(x.detach().to("cpu").numpy(), path, arrays)}
    if isinstance(x, np.ndarray):
        return {"array": _store(x, path, arrays)}
    raise TypeError(
        f"save received an object of type {type(x).__name__} at {_place(path)}; it stores tensors, arrays, numbers, "
        "strings, None, dicts, lists and tuples, never pickles. Save its state_dict(), or take it out."
    )


def _key(key: Any, path: tuple) -> Any:
    if isinstance(key, str | int | float) or key is None:
        return key
    raise TypeError(
        f"save received a dict with a key of type {type(key).__name__} at {_place(path)}; keys are strings or numbers. "
        "Rename it."
    )


def _store(a: np.ndarray, path: tuple, arrays: dict[str, np.ndarray]) -> str:
    plain = a.astype(a.dtype.newbyteorder("<"), order="C", copy=False)
    if _code(plain.dtype) is None:
        raise TypeError(
            f"save received an array of dtype {a.dtype} at {_place(path)}, which safetensors has no type for. Convert "
            "it with astype, to float64 say."
        )
    base = ".".join(map(str, path)).encode("utf-8", "replace").decode() or "value"
    name, count = base, 1
    while name in arrays or name in ("__metadata__", _STRUCTURE):  # {"a.b": …, "a": {"b": …}}
        name, count = f"{base}~{count}", count + 1
    arrays[name] = plain
    return name


def _place(path: tuple) -> str:
    return "obj" + "".join(f"[{key!r}]" for key in path)


def _decode(x: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(x, list):
        return [_decode(v, arrays) for v in x]
    if not isinstance(x, dict):
        return x
    ((kind, content),) = x.items()
    if kind == "dict":
        return {key: _decode(value, arrays) for key, value in content}
    if kind == "tuple":
        return tuple(_decode(v, arrays) for v in content)
    if kind == "array":
        return arrays[content].copy()
    return tensor(arrays[content], requires_grad=kind == "parameter")
