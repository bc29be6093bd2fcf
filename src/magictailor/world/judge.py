"""The world's judge: one small network that says of each pixel what it shows, of a subject which variants it has, and of
a picture where it is and how it was made."""

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from magictailor.common.errors import InputError
from magictailor.weights import JUDGE
from magictailor.world.labels import CLASSES, HEADS, PICTURE_HEADS

RECORD = JUDGE.with_suffix(".json")
STEM, WIDTHS = 24, (64, 104, 168)  # channels at half the picture's side; at a quarter, an eighth and a sixteenth
FOLD = 4  # pixels a side of a cell, of which the U-Net's first level has one feature vector
HEAD = 96  # features of a cell that the heads read
GLANCES = 2  # places that a head can look at
FAINT = 1e-4  # share of a cell below which a region does not hold it
ANSWERS = max(len(head.classes) for head in HEADS)
PICTURE_CLASSES = [len(names) for names in PICTURE_HEADS]


class Opinion(NamedTuple):
    """What the network says of N pictures.

    ``classes``: logits of `CLASSES` of each pixel, [N, C, S, S]. ``cells``: features [N, HEAD, S/4, S/4], and ``attention``:
    where each head looks within its region, logits [N, heads * GLANCES, S/4, S/4]. ``context``, ``treatment``, ``view``:
    logits of the picture, [N, .]. ``features``: of the whole picture, [N, 2 * 168].
    """

    classes: Tensor
    cells: Tensor
    attention: Tensor
    context: Tensor
    treatment: Tensor
    view: Tensor
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
    """A U-Net with heads. Pixels [N, 3, S, S] in [-1, 1], the side a multiple of 16."""

    region: Tensor  # which classes each head's answer is read from, 0 or 1, [heads, C]
    owner: Tensor  # the head of each of the heads' K answers, [K]
    slots: Tensor  # where the answers of each head are, [heads, ANSWERS]; K where there are no more

    def __init__(self) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.stem = nn.Conv2d(3 * 4, STEM, 3, padding=1)
        self.down = nn.ModuleList((_Block(4 * STEM, first), _Block(first, second), _Block(second, third)))
        self.up = nn.ModuleList((_Block(third + second, second), _Block(second + first, first)))
        self.fine = nn.Conv2d(first // 4 + STEM, 32, 3, padding=1)
        self.of_pixel = nn.Conv2d(32, len(CLASSES) * 4, 1)
        self.of_cell = nn.Conv2d(first, HEAD, 3, padding=1)
        self.attention = nn.Conv2d(HEAD, len(HEADS) * GLANCES, 1)
        answers = sum(len(head.classes) for head in HEADS)
        self.answer_weight = nn.Parameter(torch.randn(answers, GLANCES * HEAD) * (GLANCES * HEAD) ** -0.5)
        self.answer_bias = nn.Parameter(torch.zeros(answers))
        self.of_picture = nn.Linear(2 * third, sum(PICTURE_CLASSES))
        self._index_heads(answers)

    def _index_heads(self, answers: int) -> None:
        region, slots = torch.zeros(len(HEADS), len(CLASSES)), torch.full((len(HEADS), ANSWERS), answers)
        owner, first = [], 0
        for i, head in enumerate(HEADS):
            region[i, list(head.region)] = 1
            slots[i, : len(head.classes)] = torch.arange(first, first + len(head.classes))
            owner += [i] * len(head.classes)
            first += len(head.classes)
        for name, value in (("region", region), ("slots", slots), ("owner", torch.tensor(owner))):
            self.register_buffer(name, value, persistent=False)

    def forward(self, pixels: Tensor) -> Opinion:
        half = F.silu(self.stem(F.pixel_unshuffle(pixels, 2)))
        first = self.down[0](F.pixel_unshuffle(half, 2))
        second = self.down[1](F.max_pool2d(first, 2))
        third = self.down[2](F.max_pool2d(second, 2))
        features = torch.cat([third.mean((2, 3)), third.amax((2, 3))], 1)
        x = self.up[0](torch.cat([F.interpolate(third, scale_factor=2.0), second], 1))
        x = self.up[1](torch.cat([F.interpolate(x, scale_factor=2.0), first], 1))
        fine = F.silu(self.fine(torch.cat([F.pixel_shuffle(x, 2), half], 1)))
        classes = F.pixel_shuffle(self.of_pixel(fine), 2)
        cells = F.silu(self.of_cell(x))
        context, treatment, view = torch.split(self.of_picture(features), PICTURE_CLASSES, 1)
        return Opinion(classes, cells, self.attention(cells), context, treatment, view, features)

    def answers(self, opinion: Opinion, shares: Tensor) -> Tensor:
        """What each head reads within its region: logits [N, heads, ANSWERS], very low where it has no more classes.

        ``shares``: of each cell's pixels, how many show each class, 0 .. 1, [N, C, S/4, S/4].
        """
        count, heads = len(shares), len(HEADS)
        inside = torch.einsum("rc,ncs->nrs", self.region, shares.float().flatten(2))
        looks = opinion.attention.float().reshape(count, heads, GLANCES, -1) + inside.clamp(min=FAINT).log()[:, :, None]
        weights = looks.softmax(-1).flatten(1, 2)
        pooled = (weights @ opinion.cells.float().flatten(2).mT).reshape(count, heads, -1)
        logits = torch.einsum("nkf,kf->nk", pooled[:, self.owner], self.answer_weight) + self.answer_bias
        return F.pad(logits, (0, 1), value=-1e4)[:, self.slots]


def shares_of(probabilities: Tensor) -> Tensor:
    """Of pixels' class probabilities [N, C, S, S], their means over cells, [N, C, S/4, S/4]."""
    return F.avg_pool2d(probabilities, FOLD)


def load_judge(path: Path = JUDGE) -> Judge:
    """The shipped one, or a file of another's weights.

    Raises:
        InputError: the file is missing.
    """
    if not path.is_file():
        raise InputError(f"{path}: this copy of the package has no judge; install it again")
    network = Judge()
    network.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    return network.eval()
