"""Pictures of recorded graphs."""

from .latex import latex
from .page import page
from .picture import Picture, draw
from .record import record
from .scene import Explanation
from .text import text
from .why import why

__all__ = ["Explanation", "Picture", "draw", "latex", "page", "record", "text", "why"]
