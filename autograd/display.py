"""The one door from the engine to its pictures: nothing of viz is imported before a picture is asked for."""

import sys


def tape():
    """A recording of what is computed from now on, for `save_failure`."""
    from .viz.failure import Tape

    return Tape(composed=True)


def save_failure(tape, error, path) -> str:
    """Draw what led to `error` into the file `path`; what was done, in words ('' for nothing)."""
    from .viz.failure import save_failure

    return save_failure(tape, error, path)


def mimebundle(thing) -> dict:
    """What a notebook shows of a tensor, a module or a node of a graph: its text, and its picture as SVG.

    Only the text where graphviz or its layout engine is not installed.

    >>> cr.autograd.mimebundle(cr.ones(2))["text/plain"]
    'tensor([1., 1.])'
    """
    shown = {"text/plain": repr(thing)}
    try:
        from .viz.picture import draw

        mine = vars(sys.modules["__main__"])  # the notebook's variables, which name what they hold
        names = {name: value for name, value in mine.items() if not name.startswith("_")}
        return {**shown, "image/svg+xml": draw(thing, names=names).svg}
    except (ImportError, RuntimeError):
        return shown
