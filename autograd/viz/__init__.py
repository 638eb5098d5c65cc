"""Pictures of recorded graphs."""

from .picture import Picture, draw
from .record import record

__all__ = ["Picture", "draw", "record"]
