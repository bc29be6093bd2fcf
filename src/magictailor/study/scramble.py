"""Broken pictures for attention checks: nobody who looks at them takes them for the whole one."""

import random

from PIL import Image

TILES = 4  # on a side


def scrambled(image: Image.Image, rng: random.Random) -> Image.Image:
    """The image cut into tiles that are put together in another order; none stays where it was."""
    side = min(image.size) // TILES * TILES
    square = image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
    step, places = side // TILES, [(x, y) for y in range(TILES) for x in range(TILES)]
    order = places.copy()
    while any(a == b for a, b in zip(places, order, strict=True)):
        rng.shuffle(order)
    result = Image.new("RGB", (side, side))
    for (x, y), (from_x, from_y) in zip(places, order, strict=True):
        tile = square.crop((from_x * step, from_y * step, (from_x + 1) * step, (from_y + 1) * step))
        result.paste(tile, (x * step, y * step))
    return result if image.width == image.height == side else result.resize(image.size, Image.Resampling.LANCZOS)
