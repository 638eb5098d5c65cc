"""What a run was begun with, in a file beside its weights, so that it is resumed as it was begun."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import write_atomically

FILE = "settings.json"


def begin(out: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a new run, and remove an earlier one's weights, which they would not describe."""
    for weights in ("best", "last"):
        (out / f"{weights}.safetensors").unlink(missing_ok=True)
    write_atomically(out / FILE, [json.dumps(settings, ensure_ascii=False, indent=1).encode()])


def must_match(out: Path, settings: dict[str, Any], command: str) -> None:
    """Raise ValueError, naming the setting, unless the run in `out` was begun with these; see `read`."""
    saved = read(out, tuple(settings), command)
    for name, value in settings.items():
        if saved[name] != value:
            raise ValueError(
                f"train received resume=True with {name}={value!r}, but the run in {out} has {saved[name]!r}. "
                "Pass what it was begun with, or begin another: --out."
            )


def read(run: Path, names: Sequence[str], command: str) -> dict[str, Any]:
    """Return the settings of a run of `chainrule train COMMAND`, which have these names.

    Raises FileNotFoundError where there is none, ValueError for a damaged file.
    """
    file = run / FILE
    if not file.is_file():
        raise FileNotFoundError(
            f"{run} is no run of {command}: there is no {FILE} in it. Train one: chainrule train {command} --out {run}"
        )
    try:
        settings = json.loads(file.read_bytes())
        missing = [name for name in names if name not in settings]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} is damaged: it is no JSON ({error}). Train anew.") from error
    if missing:
        raise ValueError(f"{file} is damaged: {', '.join(missing)} missing. Train anew.")
    return settings
