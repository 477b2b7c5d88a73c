"""The picture being painted, and the pen that draws small figures on it."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageDraw

from obelisk.synthetic.palette import Ink

Canvas = Image.Image
Draw = ImageDraw.ImageDraw
Spot = tuple[float, float]


@dataclass(frozen=True)
class Sketch:
    """A pen for one figure, in the figure's own coordinates.

    Its origin is the pixel (``column``, ``row``), where the figure stands; x runs right and y up, in units of ``size``
    pixels.
    """

    pen: Draw
    column: float
    row: float
    size: float

    def box(self, x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
        """Return the pixels of a box from its lower left to its upper right corner: left, top, right, bottom."""
        left, bottom = self.pixel(x0, y0)
        right, top = self.pixel(x1, y1)
        return (left, top, right, bottom)

    def pixel(self, x: float, y: float) -> Spot:
        """Return the column and row of a point."""
        return (self.column + self.size * x, self.row - self.size * y)

    def ellipse(self, x0: float, y0: float, x1: float, y1: float, fill: Ink) -> None:
        """Fill the ellipse in a box."""
        self.pen.ellipse(self.box(x0, y0, x1, y1), fill=fill)

    def circle(self, x: float, y: float, radius: float, fill: Ink) -> None:
        """Fill a circle."""
        self.ellipse(x - radius, y - radius, x + radius, y + radius, fill)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, fill: Ink, *, radius: float = 0.0) -> None:
        """Fill a rectangle, its corners rounded by ``radius``."""
        self.pen.rounded_rectangle(self.box(x0, y0, x1, y1), radius=self.size * radius, fill=fill)

    def polygon(self, *corners: Spot, fill: Ink) -> None:
        """Fill a polygon."""
        self.pen.polygon([self.pixel(*corner) for corner in corners], fill=fill)

    def line(self, start: Spot, end: Spot, fill: Ink, *, width: int = 1) -> None:
        """Draw a line ``width`` pixels wide."""
        self.pen.line([self.pixel(*start), self.pixel(*end)], fill=fill, width=width)
