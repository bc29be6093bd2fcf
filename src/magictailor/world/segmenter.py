"""The world's own segmenter: which category or kind of component each pixel shows. Small, and shipped."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from magictailor.errors import InputError
from magictailor.world.canvas import SUPERSAMPLING
from magictailor.world.render import BODY, NEXT, Rendering
from magictailor.world.scene import CATEGORIES, STYLES, Component, Scene

CLASSES = ("nothing", *CATEGORIES, *STYLES)
WEIGHTS = Path(__file__).parent / "weights" / "segmenter.safetensors"
WIDTHS = (24, 48, 96, 128)


class _Block(nn.Module):
    """Two convolutions with a shortcut; keeps the size."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, padding=1)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(8, after) for _ in range(2))
        self.shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.norms[0](self.first(x)))
        return F.silu(self.shortcut(x) + self.norms[1](self.second(h)))


class WorldSegmenter(nn.Module):
    """A U-Net. Pixels [N, 3, H, W] in [-1, 1], sides multiples of 8, to logits [N, classes, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(_Block(a, b) for a, b in zip((3, *WIDTHS), WIDTHS, strict=False))
        pairs = list(zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True))
        self.up = nn.ModuleList(_Block(deep + shallow, shallow) for deep, shallow in pairs)
        self.out = nn.Conv2d(WIDTHS[0], len(CLASSES), 1)

    def forward(self, pixels: Tensor) -> Tensor:
        kept, x = [], pixels
        for number, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if number else x)
            kept.append(x)
        for block, skip in zip(self.up, kept[-2::-1], strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0), skip], 1))
        out: Tensor = self.out(x)
        return out


def classes_of(scene: Scene, rendering: Rendering) -> NDArray[np.uint8]:
    """The class that covers most of each pixel, [S, S]."""
    table = np.zeros(256, np.uint8)
    for i, thing in enumerate(scene.things):
        first = BODY + NEXT * i
        if isinstance(thing, Component):
            table[first] = CLASSES.index(thing.kind)
            continue
        table[first] = CLASSES.index(thing.category)
        for j, part in enumerate(thing.components):
            table[first + 1 + j] = CLASSES.index(part.kind)
    fine = table[rendering.owners]
    side = len(fine) // SUPERSAMPLING
    blocks = fine.reshape(side, SUPERSAMPLING, side, SUPERSAMPLING)
    shares = np.stack([(blocks == c).mean((1, 3)) for c in range(len(CLASSES))])
    return shares.argmax(0).astype(np.uint8)


def load_segmenter() -> WorldSegmenter:
    """The shipped one. Raises InputError where the package lacks it."""
    if not WEIGHTS.is_file():
        raise InputError("--model embedded: this copy of the package has no segmenter; choose another model")
    network = WorldSegmenter()
    network.load_state_dict({k: v.float() for k, v in load_file(WEIGHTS).items()})
    return network.eval()
