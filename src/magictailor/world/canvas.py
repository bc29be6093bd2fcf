"""Drawing: shapes painted on a picture and, in the same strokes, on a map of what belongs to whom."""

from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

from magictailor.world.scene import RGB, Surface

SUPERSAMPLING = 4
Point = tuple[float, float]


def shade(color: RGB, factor: float) -> RGB:
    r, g, b = (min(255, int(v * factor)) for v in color)
    return r, g, b


class Canvas:
    """A square picture, 4 times the final size, and its map of owners (0: nobody).

    Shapes are given in units of the thing: x to the right, y down, the thing within about -0.5 .. 0.5;
    ``place`` says where that lies in the frame.
    """

    def __init__(self, size: int, background: Image.Image | RGB) -> None:
        self.side = size * SUPERSAMPLING
        if isinstance(background, Image.Image):
            self.image = background.resize((self.side, self.side))
        else:
            self.image = Image.new("RGB", (self.side, self.side), background)
        self.owners = Image.new("L", (self.side, self.side), 0)
        self._paint = ImageDraw.Draw(self.image)
        self._own = ImageDraw.Draw(self.owners)
        self.owner = 0
        self._patterns: dict[tuple[str, RGB, RGB, float], Image.Image] = {}
        self.place(0.5, 0.5, 1.0)

    def place(self, x: float, y: float, zoom: float, mirrored: bool = False) -> None:
        """The thing's origin at (x, y) of the frame (0 .. 1), ``zoom`` frames a unit."""
        self._x, self._y, self._zoom, self._sign = x, y, zoom, -1.0 if mirrored else 1.0

    def _pixel(self, point: Point) -> Point:
        x = self._x + self._sign * point[0] * self._zoom
        y = self._y + point[1] * self._zoom
        return x * self.side, y * self.side

    def _box(self, center: Point, rx: float, ry: float) -> tuple[float, float, float, float]:
        x, y = self._pixel(center)
        w, h = rx * self._zoom * self.side, ry * self._zoom * self.side
        return x - w, y - h, x + w, y + h

    @property
    def _outline(self) -> int:
        return max(2, round(0.012 * self._zoom * self.side))

    def _pattern(self, surface: Surface) -> Image.Image:
        """Horizontal bands or dots, in the thing's own scale."""
        key = (surface.pattern, surface.color, surface.accent, self._zoom)
        if key not in self._patterns:
            tile = Image.new("RGB", (self.side, self.side), surface.color)
            draw = ImageDraw.Draw(tile)
            step = 0.115 * self._zoom * self.side
            start = (self._y * self.side) % step - step
            for i in range(int(self.side / step) + 3):
                top = start + i * step
                if surface.pattern == "striped":
                    draw.rectangle((0, top, self.side, top + 0.45 * step), fill=surface.accent)
                    continue
                r = 0.26 * step
                left = (self._x * self.side) % step - step + (i % 2) * step / 2
                for j in range(int(self.side / step) + 3):
                    x = left + j * step
                    draw.ellipse((x - r, top - r, x + r, top + r), fill=surface.accent)
            self._patterns[key] = tile
        return self._patterns[key]

    def _fill(self, fill: Surface | RGB, draw: Callable[[ImageDraw.ImageDraw, object, object, int], None]) -> None:
        """One shape: its colour or pattern with a darker outline, and its owner."""
        color = fill.color if isinstance(fill, Surface) else fill
        outline = shade(color, 0.5) if sum(color) > 200 else (0, 0, 0)
        if isinstance(fill, Surface) and fill.pattern != "plain":
            stencil = Image.new("L", (self.side, self.side), 0)
            draw(ImageDraw.Draw(stencil), 255, None, 0)
            self.image.paste(self._pattern(fill), (0, 0), stencil)
            draw(self._paint, None, outline, self._outline)
        else:
            draw(self._paint, color, outline, self._outline)
        draw(self._own, self.owner, self.owner, self._outline)

    def polygon(self, points: Sequence[Point], fill: Surface | RGB) -> None:
        xy = [self._pixel(p) for p in points]
        self._fill(fill, lambda d, f, o, w: d.polygon(xy, fill=f, outline=o, width=w))  # type: ignore[arg-type]

    def rectangle(self, left: float, top: float, right: float, bottom: float, fill: Surface | RGB) -> None:
        self.polygon(((left, top), (right, top), (right, bottom), (left, bottom)), fill)

    def ellipse(self, center: Point, rx: float, ry: float, fill: Surface | RGB) -> None:
        box = self._box(center, rx, ry)
        self._fill(fill, lambda d, f, o, w: d.ellipse(box, fill=f, outline=o, width=w))  # type: ignore[arg-type]

    def dome(self, center: Point, rx: float, ry: float, fill: Surface | RGB, cut: float = 0.0) -> None:
        """The part of an ellipse above its centre; ``cut`` raises the chord, in degrees."""
        box = self._box(center, rx, ry)
        start, end = 180 + cut, 360 - cut
        self._fill(fill, lambda d, f, o, w: d.chord(box, start, end, fill=f, outline=o, width=w))  # type: ignore[arg-type]

    def stroke(self, points: Sequence[Point], width: float, fill: Surface | RGB) -> None:
        """A thick line through the points."""
        color = fill.color if isinstance(fill, Surface) else fill
        xy = [self._pixel(p) for p in points]
        thick = max(2, round(width * self._zoom * self.side))
        edge = thick + 2 * self._outline
        self._paint.line(xy, fill=shade(color, 0.5), width=edge, joint="curve")
        self._paint.line(xy, fill=color, width=thick, joint="curve")
        self._own.line(xy, fill=self.owner, width=edge, joint="curve")
