"""Colours and markers of the compositions: told apart without colour vision, and in print by their shape."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Okabe and Ito 2008, without the yellow, which is too faint on white. Black is for "no intermediate task".
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

Shape = tuple[tuple[float, float], ...]  # corners, between -1 and 1, y upwards


def _regular(corners: int, turn: float, radius: float = 1.0) -> Shape:
    angles = [turn + 2 * math.pi * i / corners for i in range(corners)]
    return tuple((round(radius * math.cos(a), 4), round(radius * math.sin(a), 4)) for a in angles)


def _cross(arm: float) -> Shape:
    corners = [(arm, 1.0), (arm, arm), (1.0, arm), (1.0, -arm), (arm, -arm), (arm, -1.0)]
    return tuple(corners + [(-x, -y) for x, y in corners])


_SHAPES = (
    _regular(32, 0, 0.9),  # circle
    _regular(4, math.pi / 4, 1.15),  # square
    _regular(3, math.pi / 2, 1.2),  # triangle
    _regular(4, 0, 1.15),  # diamond
    _regular(3, -math.pi / 2, 1.2),  # triangle on its point
    _cross(0.38),  # cross
    _regular(5, math.pi / 2, 1.1),  # pentagon
)


@dataclass(frozen=True)
class Mark:
    """One colour and one shape."""

    colour: str
    shape: Shape

    @property
    def points(self) -> str:
        """The corners as an SVG `points` attribute, in a box from -1.3 to 1.3 whose y points downwards."""
        return " ".join(f"{x:g},{-y:g}" for x, y in self.shape)


def mark(position: int) -> Mark:
    """Return the mark of the column at `position`: black for 0 alone; 43 differ before one comes again."""
    colour = 1 + (position - 1) % (len(_COLOURS) - 1) if position else 0
    return Mark(_COLOURS[colour], _SHAPES[position % len(_SHAPES)])
