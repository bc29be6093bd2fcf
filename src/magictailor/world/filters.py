"""Filters: the protocol's five styles and three materials, and the darkness of night.

Each filter is a function (image, inside) -> image. Images are float32 [H, W, 3] in 0 .. 1; ``inside`` is
float32 [H, W], 1 where the character is. Lengths in the code are in units of 1/128 of the image's side.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from magictailor.world import textures

Pixels = NDArray[np.float32]  # [H, W, 3], 0 .. 1
Inside = NDArray[np.float32]  # [H, W], 0 .. 1

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def _color(red: float, green: float, blue: float) -> Pixels:
    return np.array([red, green, blue], np.float32)


def _filtered(image: Pixels, *filters: ImageFilter.Filter) -> Pixels:
    """``image``, [H, W, 3] or [H, W], after PIL's filters."""
    filtered = textures.to_image(image)
    for f in filters:
        filtered = filtered.filter(f)
    return np.asarray(filtered, np.float32) / np.float32(255)


def _blurred(image: Pixels, radius: float) -> Pixels:
    """Gaussian blur of about ``radius``."""
    return _filtered(image, ImageFilter.GaussianBlur(radius * image.shape[0] / 128))


def _saturated(image: Pixels, factor: float) -> Pixels:
    """Colours moved away from grey (factor > 1) or towards it (< 1)."""
    gray = (image @ _LUMA)[..., None]
    return (gray + factor * (image - gray)).clip(0, 1)


def _mix(a: Pixels, b: Pixels, weight: Inside | float) -> Pixels:
    """``a`` where weight is 0, ``b`` where it is 1."""
    w = weight[..., None] if isinstance(weight, np.ndarray) else weight
    return a + (b - a) * w


def _flat(image: Pixels, levels: int) -> Pixels:
    """Brightness in ``levels`` steps, hue and saturation as they are."""
    luma = (image @ _LUMA)[..., None]
    gain = (np.floor(luma * levels) + 0.5) / levels / np.maximum(luma, 1e-3)
    return np.asarray((image * gain).clip(0, 1), np.float32)


def _outlines(image: Pixels, inside: Inside, gain: float) -> Inside:
    """Ink on the borders of colours, [H, W] in 0 .. 1: thin inside, thick around the character."""
    steps = np.zeros((*inside.shape, 3), np.float32)
    steps[:-1] = np.abs(image[1:] - image[:-1])
    steps[:, :-1] = np.maximum(steps[:, :-1], np.abs(image[:, 1:] - image[:, :-1]))
    ink = _blurred(((steps.max(-1) - 0.12) * gain).clip(0, 1), 0.4)
    return np.maximum(ink * (0.6 + 0.25 * inside), _silhouette(inside, 1.3))


def _silhouette(inside: Inside, width: float) -> Inside:
    """A line about 2 x ``width`` wide along the character's border, [H, W] in 0 .. 1."""
    edge = _blurred(inside, width)
    return (2.2 * (1 - np.abs(2 * edge - 1)) - 0.5).clip(0, 1)


def _shading(height: Inside, strength: float) -> Inside:
    """Light from the upper left on a relief, [H, W] in -1 .. 1: positive on slopes that face the light."""
    slope = np.zeros_like(height)
    slope[1:-1, 1:-1] = (height[2:, 1:-1] - height[:-2, 1:-1]) * 0.75 + (height[1:-1, 2:] - height[1:-1, :-2]) * 0.65
    return (strength * slope).clip(-1, 1)


def _dome(inside: Inside, radius: float) -> Inside:
    """The character as a rounded relief, [H, W] in 0 .. 1: steep at its border, flat ``radius`` within."""
    return np.asarray(np.sqrt((2 * _blurred(inside, radius) - 1).clip(0, 1)) * inside, np.float32)


def _shadow(inside: Inside, right: int, down: int, radius: float) -> Inside:
    """The character's soft shadow on what is behind it, [H, W] in 0 .. 1."""
    unit = inside.shape[0] / 128
    dy, dx = round(down * unit), round(right * unit)
    moved = np.pad(inside, ((dy, 0), (dx, 0)), mode="edge")[: inside.shape[0], : inside.shape[1]]
    return _blurred(moved, radius) * (1 - inside)


def night(image: Pixels, inside: Inside) -> Pixels:
    """The character in moonlight: darker and bluer, with recognisable colours; the backdrop stays."""
    return _mix(image, image * _color(0.73, 0.7, 0.82) + _color(0.0, 0.0, 0.015), inside)


def watercolor(image: Pixels, inside: Inside) -> Pixels:
    """Pale washes with dark rims on white paper, which shows at a ragged border."""
    side = image.shape[0]
    bled = _blurred(image.reshape(-1, 3)[textures.wobble(side)], 0.75)
    rim = (np.abs(bled - _blurred(bled, 2.4)).max(-1) * 2).clip(0, 0.4)
    density = (0.58 + 0.22 * inside) * (0.78 + 0.44 * textures.wash(side)) + 0.4 * rim
    painted = 1 - (1 - _saturated(bled, 1.35)) * density[..., None].clip(0, 1) - 0.12 * rim[..., None]
    paper = _color(0.99, 0.98, 0.955) * (1 - 0.045 * textures.paper(side)[..., None])
    mask, edge = textures.ragged(side)
    return (_mix(paper, painted * paper, mask) * (1 - 0.14 * edge[..., None])).clip(0, 1)


def ukiyoe(image: Pixels, inside: Inside) -> Pixels:
    """A woodblock print: few muted inks on old paper, indigo outlines, a blue gradation at the top, a red seal."""
    side = image.shape[0]
    paper, indigo = _color(0.97, 0.92, 0.8), _color(0.1, 0.14, 0.33)
    inks = (0.1 + 0.92 * _saturated(_flat(image, 7), 1.2)) * paper
    sky = textures.gradation(side) * (1 - inside)
    printed = _mix(inks, _color(0.09, 0.31, 0.6), 0.95 * sky)
    printed = printed * (1 - 0.045 * textures.woodgrain(side) * (1 - inside))[..., None]
    printed = _mix(printed, indigo, _outlines(image, inside, 3.5))
    seal, margin, frame = textures.print_marks(side)
    printed = _mix(_mix(printed, indigo, frame), paper, margin)
    return _mix(_mix(printed, _color(0.78, 0.16, 0.12), seal[0]), paper, seal[1])


_CELLS = 32


def _cells(image: Pixels) -> Pixels:
    """One colour for each of 32 x 32 cells: the mean, or a dark shade in cells with strong contrast, to keep lines."""
    fine = np.asarray(
        textures.to_image(image).resize((4 * _CELLS, 4 * _CELLS), Image.Resampling.BOX), np.float32
    ) / np.float32(255)
    cells = fine.reshape(_CELLS, 4, _CELLS, 4, 3).transpose(0, 2, 1, 3, 4).reshape(_CELLS, _CELLS, 16, 3)
    luma = cells @ _LUMA
    dark = np.argsort(luma, -1)[..., 5, None, None]
    lines = (luma.max(-1) - luma.min(-1) > 0.3)[..., None]
    return np.where(lines, np.take_along_axis(cells, dark, 2)[:, :, 0], cells.mean(2))


def pixel(image: Pixels, inside: Inside) -> Pixels:
    """A sprite of 32 x 32 square cells in 20 colours, a dark outline round the character."""
    side = image.shape[0]
    few = textures.to_image(_cells(_saturated(image, 1.15))).quantize(
        20, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
    )
    cover = textures.to_image(inside).resize((_CELLS, _CELLS), Image.Resampling.BOX)
    solid = np.asarray(cover) > 127
    near = np.pad(solid, 1)
    around = near[2:, 1:-1] | near[:-2, 1:-1] | near[1:-1, 2:] | near[1:-1, :-2]
    sprite = np.where((around & ~solid)[..., None], np.array([34, 28, 48], np.uint8), np.asarray(few.convert("RGB")))
    large = Image.fromarray(sprite).resize((side, side), Image.Resampling.NEAREST)
    return np.asarray(large, np.float32) / np.float32(255)


def gogh(image: Pixels, inside: Inside) -> Pixels:
    """Thick strokes: whirls of blue and yellow behind, short strokes along the character's round form."""
    side = image.shape[0]
    pixels, cover = image.reshape(-1, 3), inside.reshape(-1)
    broad, fine = textures.strokes(side, broad=True), textures.strokes(side, broad=False)
    own = np.arange(side * side).reshape(side, side)
    behind = pixels[np.where(cover[broad.center] > 0.3, own, broad.center)]
    night_blue = _color(0.06, 0.2, 0.55) + 0.25 * (behind @ _LUMA)[..., None]
    push = np.where(broad.tone[..., None] > 0, _color(1.0, 0.87, 0.35), night_blue)
    behind = (
        _mix(_mix(_saturated(behind, 1.1), push, np.asarray(0.75 * np.abs(broad.tone), np.float32)), image, 0.25)
        + 0.15 * broad.relief[..., None]
    )
    front = _mix(pixels[fine.center], image, 0.5)
    front = _saturated(front, 1.2) + 0.06 * fine.tone[..., None] * _color(1, 0.8, -0.5) + 0.12 * fine.relief[..., None]
    painted = _mix(behind, front, inside)
    inked = _mix(painted, _color(0.08, 0.12, 0.34), 0.6 * _silhouette(inside, 1.0))
    return _blurred(inked, 0.45)


def comic(image: Pixels, inside: Inside) -> Pixels:
    """Black ink, vivid flat colours, halftone dots behind, a panel's white border and black frame."""
    side = image.shape[0]
    flat = _flat(_saturated((image - 0.5) * 1.12 + 0.54, 1.4).clip(0, 1), 7)
    dotted = _mix(_mix(flat, np.ones_like(flat), 0.25), flat * 0.66, textures.halftone(side))
    ink = np.maximum(_outlines(image, inside, 5), _silhouette(inside, 1.8))
    inked = _mix(dotted, flat, inside) * (1 - ink)[..., None]
    white, black = textures.panel(side)
    return _mix(_mix(inked, np.ones_like(inked), white), np.zeros_like(inked), black)


def three_d(image: Pixels, inside: Inside) -> Pixels:
    """A smooth rendered volume in a studio: soft light from the upper left, blurred backdrop, contact shadow."""
    side = image.shape[0]
    round_form = 0.65 * _dome(inside, 11) + 0.35 * _dome(inside, 4)
    parts = _blurred((image @ _LUMA) * inside, 1.2)
    light = 1.02 + 0.42 * _shading(_blurred(round_form, 1.5), 9) + 0.1 * _shading(parts, 6)
    shine = (_shading(_blurred(_dome(inside, 7), 2.5), 10) - 0.45).clip(0, 1)
    body = _filtered(image, ImageFilter.SMOOTH()) * light[..., None] + 0.35 * shine[..., None]
    studio = _mix(_blurred(image, 3), textures.studio(side), 0.5)
    shade = (0.6 * _shadow(inside, 7, 4, 5)).clip(0, 1)
    return _mix(studio * (1 - shade)[..., None], np.asarray(body, np.float32), inside).clip(0, 1)


def clay(image: Pixels, inside: Inside) -> Pixels:
    """Plasticine: matt, muted and warm, every shape rounded at its border, with dents and fingerprints."""
    side = image.shape[0]
    soft = _blurred(image, 0.8)
    seams = _blurred(_outlines(image, inside, 4), 1.3)
    relief = _blurred(_dome(inside, 5), 1.2) - 0.55 * seams
    light = 1.06 + 0.36 * _shading(relief, 3) - 0.12 * seams + textures.dents(side)
    muted = _saturated(soft, 0.95) * _color(0.95, 0.88, 0.8) + _color(0.05, 0.035, 0.02)
    shade = 1 - 0.5 * _shadow(inside, 4, 4, 2)
    return (muted * (light * shade)[..., None]).clip(0, 1)


def plastic(image: Pixels, inside: Inside) -> Pixels:
    """A glossy toy: saturated, hard white highlights and a bright rim, before a sheet of studded bricks."""
    side = image.shape[0]
    vivid = _saturated(image, 1.4)
    slope = _shading(_blurred(_dome(inside, 7), 1.2), 8)
    inner = ((_blurred(inside, 2.5) - 0.86) * 12).clip(0, 1)
    gloss = ((slope - 0.48) * 9).clip(0, 1) * inner
    rim = ((-slope - 0.5) * 5).clip(0, 1) * (1 - inner) * inside
    body = vivid * (0.97 + 0.26 * slope)[..., None]
    body = _mix(body, np.ones_like(body), np.maximum(0.82 * gloss, 0.45 * rim))
    studs = vivid * (1 + 0.3 * textures.studs(side))[..., None]
    shade = 1 - 0.4 * _shadow(inside, 5, 4, 2)
    return _mix(studs * shade[..., None], body, inside).clip(0, 1)


FILTERS: dict[str, Callable[[Pixels, Inside], Pixels]] = {
    "watercolor": watercolor, "ukiyoe": ukiyoe, "pixel": pixel, "gogh": gogh,
    "comic": comic, "3d": three_d, "clay": clay, "plastic": plastic,
}  # fmt: skip
