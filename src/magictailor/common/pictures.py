"""Contact sheets, mask overlays and PNG files."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont
from PIL.PngImagePlugin import PngInfo

from magictailor.common.files import MARK, write_atomically

Color = tuple[int, int, int]
BACKGROUND: Color = (255, 255, 255)
INK: Color = (40, 40, 40)
PNG = (".png",)
MADE = {"Software": MARK.decode()}  # of pictures that the same command may write over, see `output_file`
GAP = 4


def fit_cell(image: Image.Image, cell: int) -> Image.Image:
    """The image scaled to fit a square of ``cell`` pixels; mode and aspect ratio stay.

    Small images grow by an integer factor without smoothing, so that each pixel stays visible.
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
    """An RGB contact sheet: each image fits a square of ``cell`` pixels, with titles on the left and on top.

    Rows may differ in length. Titles wrap at words to the width of a cell.
    """
    font = ImageFont.load_default(max(10, cell // 10))
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))

    def measure(titles: Sequence[str] | None) -> tuple[list[str], int, int]:
        """The wrapped titles, and the width and height of the largest."""
        wrapped = [_wrap(title, font, cell) for title in titles or ()]
        boxes = [pen.multiline_textbbox((0, 0), text, font=font) for text in wrapped if text]
        width, height = (max((int(box[i]) + 2 * GAP for box in boxes), default=0) for i in (2, 3))
        return wrapped, width, height

    row_texts, left, row_height = measure(row_titles)
    column_texts, _, top = measure(column_titles)
    step_x, step_y = cell + GAP, max(cell, row_height) + GAP
    columns = max([len(column_texts), *map(len, rows)])
    sheet = Image.new("RGB", (left + columns * step_x + GAP, top + len(rows) * step_y + GAP), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for x, text in enumerate(column_texts):
        pen.multiline_text((left + GAP + x * step_x, GAP), text, fill=INK, font=font)
    for y, text in enumerate(row_texts):
        pen.multiline_text((GAP, top + GAP + y * step_y), text, fill=INK, font=font)
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            small = fit_cell(image.convert("RGB"), cell)
            corner_x = left + GAP + x * step_x + (cell - small.width) // 2
            corner_y = top + GAP + y * step_y + (cell - small.height) // 2
            sheet.paste(small, (corner_x, corner_y))
    return sheet


def overlay(image: Image.Image, mask: Image.Image, color: Color) -> Image.Image:
    """The image, dimmed outside the mask, tinted and outlined in ``color`` inside.

    ``mask`` has the image's size and is white inside. Scale both down first: the outline is one or two pixels wide.
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
    """Write ``image`` with ``metadata`` as PNG text chunks. ``path`` holds either the old or the new file, complete.

    Raises:
        RunError: the disk is full or the folder cannot be written; the old file stays.
    """
    chunks = PngInfo()
    for key, value in (metadata or {}).items():
        chunks.add_itxt(key, value)
    write_atomically(Path(path), lambda temporary: image.save(temporary, "PNG", pnginfo=chunks))


def data_url(png: bytes) -> str:
    """A PNG's bytes as an address that a page holds in itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """``text`` with line breaks between words; only a single word may be wider than ``width``."""
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
