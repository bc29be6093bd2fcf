"""The world's judge: one small network that says of each pixel what it shows, and of a picture where and how it was made."""

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from magictailor.errors import InputError
from magictailor.world.labels import DISTANCES, FILTERS, PLACES, SHADES, SIZES, THINGS
from magictailor.world.scene import PATTERNS

WEIGHTS = Path(__file__).parent / "weights" / "judge.safetensors"
RECORD = WEIGHTS.with_suffix(".json")
WIDTHS = (40, 80, 160)
HEAD = 64
FOLD = 2  # pixels that one place of the first layer sees, and of which it says something each
PIXEL_HEADS = [len(THINGS), len(SHADES), len(PATTERNS), len(SIZES)]
PICTURE_HEADS = [len(PLACES), len(FILTERS), len(DISTANCES)]


class Opinion(NamedTuple):
    """Logits of each pixel [N, classes, H, W] (``sizes`` in spreads from the mean), of the picture [N, classes], and ``features`` [N, 320]."""

    things: Tensor
    shades: Tensor
    patterns: Tensor
    sizes: Tensor
    place: Tensor
    filter: Tensor
    distance: Tensor
    features: Tensor


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


class Judge(nn.Module):
    """A U-Net with heads. Pixels [N, 3, H, W] in [-1, 1], sides multiples of 8."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(_Block(a, b) for a, b in zip((3 * FOLD**2, *WIDTHS), WIDTHS, strict=False))
        pairs = list(zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True))
        self.up = nn.ModuleList(_Block(deep + shallow, shallow) for deep, shallow in pairs)
        self.head = nn.Conv2d(WIDTHS[0], HEAD, 3, padding=1)
        self.of_pixel = nn.Conv2d(HEAD, sum(PIXEL_HEADS) * FOLD**2, 1)
        self.of_picture = nn.Linear(2 * WIDTHS[-1], sum(PICTURE_HEADS))

    def forward(self, pixels: Tensor) -> Opinion:
        kept, x = [], F.pixel_unshuffle(pixels, FOLD)
        for number, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if number else x)
            kept.append(x)
        features = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        for block, skip in zip(self.up, kept[-2::-1], strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0), skip], 1))
        pixel = F.pixel_shuffle(self.of_pixel(F.silu(self.head(x))), FOLD)
        things, shades, patterns, sizes = torch.split(pixel, PIXEL_HEADS, 1)
        place, treatment, distance = torch.split(self.of_picture(features), PICTURE_HEADS, 1)
        return Opinion(things, shades, patterns, sizes, place, treatment, distance, features)


def load_judge() -> Judge:
    """The shipped one. Raises InputError where the package lacks it."""
    if not WEIGHTS.is_file():
        raise InputError(f"{WEIGHTS}: this copy of the package has no judge; install it again")
    network = Judge()
    network.load_state_dict({k: v.float() for k, v in load_file(WEIGHTS).items()})
    return network.eval()
