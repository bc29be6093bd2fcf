"""The losses and augmentations of the judge's training."""

import torch
from torch import Tensor
from torch.nn import functional as F

from magictailor.world.judge import Judge, Prediction, shares_of
from magictailor.world.labels import CLASSES, HEADS, TARGETS, UNKNOWN
from magictailor.world.pixels import to_pixels
from magictailor.world.render import SIZE

DICE = 0.5  # weight next to the cross-entropy, in which a component of a hundred pixels hardly matters
VARIANTS, IDENTITY, IMAGE = 0.5, 0.5, 0.3  # weights of the heads; the pixels' loss has weight 1
_COMPONENT_HEADS = [i for i, head in enumerate(HEADS) if head.component]
_IDENTITY_HEADS = [i for i, head in enumerate(HEADS) if not head.component]


def unpack(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of bytes [N, ROW] to pixels [N, 3, S, S] in [-1, 1], classes int64 [N, S, S] and targets int64 [N, TARGETS]."""
    images = rows[:, :-TARGETS].view(len(rows), SIZE, SIZE, 4)
    return to_pixels(images[..., :3]), images[..., 3].long(), rows[:, -TARGETS:].long()


def mirror(pixels: Tensor, classes: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Flip a random half of the images [N, 3, S, S] left to right, with their classes [N, S, S]."""
    flipped = torch.rand(len(pixels), generator=random, device=pixels.device) < 0.5
    pixels = torch.where(flipped.view(-1, 1, 1, 1), pixels.flip(-1), pixels)
    return pixels, torch.where(flipped.view(-1, 1, 1), classes.flip(-1), classes)


def degrade(pixels: Tensor, random: torch.Generator) -> Tensor:
    """Pixels [N, 3, S, S] in [-1, 1] with noise, blur and resizing, of random strength for each image.

    The mean colours stay the same.
    """
    device, side = pixels.device, pixels.shape[-1]
    draws = torch.rand(len(pixels), 3, generator=random, device=device).view(-1, 3, 1, 1, 1)
    smaller = F.interpolate(pixels, size=(side * 3 // 4, side * 3 // 4), mode="bilinear", antialias=True)
    resized = F.interpolate(smaller, size=(side, side), mode="bilinear", align_corners=False)
    pixels = torch.where(draws[:, 2] < 0.2, resized, pixels)
    blurred = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    weight = 0.8 * draws[:, 0]
    noise = torch.randn(pixels.shape, generator=random, device=device) * (0.1 * draws[:, 1])
    return ((1 - weight) * pixels + weight * blurred + noise).clamp(-1, 1)


def one_hot(classes: Tensor) -> Tensor:
    """Classes [N, S, S] as zeros and ones, float [N, C, S, S]."""
    numbers = torch.arange(len(CLASSES), device=classes.device).view(1, -1, 1, 1)
    return (classes[:, None] == numbers).float()


def dice_loss(probabilities: Tensor, true: Tensor) -> Tensor:
    """1 minus the soft Dice overlap 2 |p t| / (|p| + |t|), averaged over the classes that each image contains.

    As in V-Net (Milletari 2016), with |p| and |t| not squared. Both [N, C, S, S]; class 0, nothing, is left out. A small
    component weighs as much as a large one.
    """
    area = true.sum((2, 3))[:, 1:]
    overlap = 2 * (probabilities * true).sum((2, 3))[:, 1:]
    overlap = overlap / (probabilities.sum((2, 3))[:, 1:] + area).clamp(min=1)
    contained = (area > 0).float()
    return ((1 - overlap) * contained).sum() / contained.sum().clamp(min=1)


def head_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy over the known answers, 0 without any. Logits [N, heads, ANSWERS], targets [N, heads]."""
    losses = F.cross_entropy(logits.mT, targets, ignore_index=UNKNOWN, reduction="sum")
    return losses / (targets != UNKNOWN).sum().clamp(min=1)


def judge_loss(
    network: Judge, prediction: Prediction, classes: Tensor, targets: Tensor, random: torch.Generator
) -> Tensor:
    """Cross-entropy of the pixels and of each head, and the Dice loss of the classes.

    For a random half of the images the heads read within the true regions, for the rest within the predicted ones.
    ``classes`` int64 [N, S, S]; ``targets`` int64 [N, TARGETS], see `magictailor.world.labels.Labels`.
    """
    logits, true = prediction.classes.float(), one_hot(classes)
    probabilities = logits.softmax(1)
    use_predicted = torch.rand(len(classes), generator=random, device=classes.device).view(-1, 1, 1, 1) < 0.5
    shares = shares_of(torch.where(use_predicted, probabilities.detach(), true))
    answers = network.answers(prediction, shares)
    pixels = F.cross_entropy(logits, classes) + DICE * dice_loss(probabilities, true)
    variants = head_loss(answers[:, _COMPONENT_HEADS], targets[:, _COMPONENT_HEADS])
    identity = head_loss(answers[:, _IDENTITY_HEADS], targets[:, _IDENTITY_HEADS])
    image = [
        head_loss(head.float()[:, None], targets[:, len(HEADS) + i, None])
        for i, head in enumerate((prediction.context, prediction.treatment, prediction.view))
    ]
    return pixels + VARIANTS * variants + IDENTITY * identity + IMAGE * torch.stack(image).sum()
