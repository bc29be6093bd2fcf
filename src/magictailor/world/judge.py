"""The world's judge: a small network that segments an image, classifies the variants of its subjects, and recognises
context, treatment and view."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from magictailor.common.errors import InputError
from magictailor.common.tensors import read_tensors
from magictailor.weights import JUDGE
from magictailor.world.labels import CLASSES, COMPONENTS, HEADS, IMAGE_HEADS
from magictailor.world.smoothing import smooth_logits

RECORD = JUDGE.with_suffix(".json")
STEM, WIDTHS = 24, (64, 104, 168)  # channels at half the resolution; at a quarter, an eighth and a sixteenth
CELL = 4  # side of a cell in pixels; the heads read one feature vector per cell
FEATURES = 96  # per cell
MAPS = 2  # attention maps per head
COMPONENT_BIAS = 2.0  # added to the smoothed logits of components, since smoothing takes small ones away
MIN_SHARE = 1e-4  # of a cell's pixels in a head's region, so that the logarithm stays finite
ANSWERS = max(len(head.classes) for head in HEADS)
IMAGE_CLASSES = [len(names) for names in IMAGE_HEADS]


class Prediction(NamedTuple):
    """The network's output for N images.

    ``classes``: logits of `CLASSES` for each pixel, [N, C, S, S]. ``cells``: features [N, FEATURES, S/4, S/4].
    ``attention``: logits of each head's attention to cells, [N, heads * MAPS, S/4, S/4]. ``context``, ``treatment``,
    ``view``: logits [N, .]. ``features``: of the whole image, [N, 2 * 168].
    """

    classes: Tensor
    cells: Tensor
    attention: Tensor
    context: Tensor
    treatment: Tensor
    view: Tensor
    features: Tensor


class _Block(nn.Module):
    """Two convolutions with a shortcut, at one resolution."""

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
    """A U-Net with heads, for pixels [N, 3, S, S] in [-1, 1]; S is a multiple of 16."""

    region: Tensor  # 1 for the classes that a head reads, else 0, [heads, C]
    owner: Tensor  # the head of each of the K answers, [K]
    slots: Tensor  # the indices of each head's answers, [heads, ANSWERS]; K for padding

    def __init__(self) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.stem = nn.Conv2d(3 * 4, STEM, 3, padding=1)
        self.down = nn.ModuleList((_Block(4 * STEM, first), _Block(first, second), _Block(second, third)))
        self.up = nn.ModuleList((_Block(third + second, second), _Block(second + first, first)))
        self.fine = nn.Conv2d(first // 4 + STEM, 32, 3, padding=1)
        self.of_pixel = nn.Conv2d(32, len(CLASSES) * 4, 1)
        self.of_cell = nn.Conv2d(first, FEATURES, 3, padding=1)
        self.attention = nn.Conv2d(FEATURES, len(HEADS) * MAPS, 1)
        answers = sum(len(head.classes) for head in HEADS)
        self.answer_weight = nn.Parameter(torch.randn(answers, MAPS * FEATURES) * (MAPS * FEATURES) ** -0.5)
        self.answer_bias = nn.Parameter(torch.zeros(answers))
        self.of_picture = nn.Linear(2 * third, sum(IMAGE_CLASSES))
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

    def forward(self, pixels: Tensor) -> Prediction:
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
        context, treatment, view = torch.split(self.of_picture(features), IMAGE_CLASSES, 1)
        return Prediction(classes, cells, self.attention(cells), context, treatment, view, features)

    def answers(self, prediction: Prediction, shares: Tensor) -> Tensor:
        """The logits of each head within its region, [N, heads, ANSWERS], padded with very low values.

        ``shares``: the fraction of each cell's pixels in each class, 0 .. 1, [N, C, S/4, S/4].
        """
        count, heads = len(shares), len(HEADS)
        inside = torch.einsum("rc,ncs->nrs", self.region, shares.float().flatten(2))
        attention = prediction.attention.float().reshape(count, heads, MAPS, -1)
        weights = (attention + inside.clamp(min=MIN_SHARE).log()[:, :, None]).softmax(-1).flatten(1, 2)
        pooled = (weights @ prediction.cells.float().flatten(2).mT).reshape(count, heads, -1)
        logits = torch.einsum("nkf,kf->nk", pooled[:, self.owner], self.answer_weight) + self.answer_bias
        return F.pad(logits, (0, 1), value=-1e4)[:, self.slots]


def class_probabilities(prediction: Prediction, pixels: Tensor) -> Tensor:
    """The probabilities of `CLASSES` for each of ``pixels``, [N, C, S, S]; regions end where colours end."""
    logits = smooth_logits(prediction.classes, pixels)
    logits[:, list(COMPONENTS.values())] += COMPONENT_BIAS
    return logits.softmax(1)


def shares_of(probabilities: Tensor) -> Tensor:
    """The means over cells, [N, C, S/4, S/4], of the pixels' class probabilities [N, C, S, S]."""
    return F.avg_pool2d(probabilities, CELL)


def load_judge(path: Path = JUDGE) -> Judge:
    """The shipped judge, or one with the weights in ``path``.

    Raises:
        InputError: the file is missing.
    """
    if not path.is_file():
        raise InputError(f"{path}: the judge's weights are missing", "install the package again")
    network = Judge()
    network.load_state_dict({k: v.float() for k, v in read_tensors(path, fix="name the weights of a judge").items()})
    return network.eval()
