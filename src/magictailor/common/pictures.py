"""Contact sheets, mask overlays and PNG files, for previews, demos and data sheets."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont
from PIL.PngImagePlugin import PngInfo

from magictailor.common.files import write_whole

Color = tuple[int, int, int]
BACKGROUND: Color = (255, 255, 255)
INK: Color = (40, 40, 40)
GAP = 4


def fit_cell(image: Image.Image, cell: int) -> Image.Image:
    """The image scaled to fit a square of ``cell`` pixels, keeping its mode and its shape.

    Small images grow by a whole factor and without smoothing, so that their pixels stay visible as they are.
    """
    longest = max(image.size)
    if longest <= cell:
        factor = cell // longest
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    width, height = (max(1, round(side * cell / longest)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def grid(
    rows: Sequence[Sequence[Image.Image]],
    row_titles: Sequence[str] | None = None,
    column_titles: Sequence[str] | None = None,
    cell: int = 128,
) -> Image.Image:
    """An RGB contact sheet: every image fitted into a square of ``cell`` pixels, titles left and on top.

    Rows may differ in length. Titles wrap at words to the width of a cell.
    """
    font = ImageFont.load_default(max(10, cell // 10))
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))

    def measured(titles: Sequence[str] | None) -> tuple[list[str], int, int]:
        """The wrapped titles, and the width and height that hold the largest of them."""
        wrapped = [_wrap(title, font, cell) for title in titles or ()]
        boxes = [pen.multiline_textbbox((0, 0), text, font=font) for text in wrapped if text]
        width, height = (max((int(box[i]) + 2 * GAP for box in boxes), default=0) for i in (2, 3))
        return wrapped, width, height

    lefts, left, row_height = measured(row_titles)
    tops, _, top = measured(column_titles)
    step_x, step_y = cell + GAP, max(cell, row_height) + GAP
    columns = max([len(tops), *map(len, rows)])
    sheet = Image.new("RGB", (left + columns * step_x + GAP, top + len(rows) * step_y + GAP), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for x, text in enumerate(tops):
        pen.multiline_text((left + GAP + x * step_x, GAP), text, fill=INK, font=font)
    for y, text in enumerate(lefts):
        pen.multiline_text((GAP, top + GAP + y * step_y), text, fill=INK, font=font)
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            small = fit_cell(image.convert("RGB"), cell)
            corner_x = left + GAP + x * step_x + (cell - small.width) // 2
            corner_y = top + GAP + y * step_y + (cell - small.height) // 2
            sheet.paste(small, (corner_x, corner_y))
    return sheet


def overlay(image: Image.Image, mask: Image.Image, color: Color) -> Image.Image:
    """The image with what lies outside the mask dimmed, and the inside tinted and outlined in ``color``.

    ``mask`` has the image's size, white inside. Scale both down first: the outline is one or two pixels wide.
    """
    mask = mask.convert("L")
    image = image.convert("RGB")
    plain = Image.new("RGB", image.size, color)
    dimmed = Image.blend(image, Image.new("RGB", image.size, BACKGROUND), 0.7)
    shown = Image.composite(Image.blend(image, plain, 0.25), dimmed, mask)
    inside = mask.point(lambda value: 255 * (value > 127))
    outline = ImageChops.subtract(inside, inside.filter(ImageFilter.MinFilter(3)))
    return Image.composite(plain, shown, outline)


def save_png(image: Image.Image, path: Path | str, metadata: Mapping[str, str] | None = None) -> None:
    """Write ``image`` with ``metadata`` as PNG text chunks; ``path`` holds the old or the new file, whole.

    Raises:
        RunError: the disk is full or the folder cannot be written; what stood at ``path`` still stands.
    """
    chunks = PngInfo()
    for key, value in (metadata or {}).items():
        chunks.add_itxt(key, value)
    write_whole(Path(path), lambda temporary: image.save(temporary, "PNG", pnginfo=chunks))


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """``text`` with line breaks between words, so that no line is wider than ``width`` if words allow it."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width:
                lines.append(line)
                line = word
            else:
                line = longer
        lines.append(line)
    return "\n".join(lines)
