"""Smoothing of logits within areas of one colour."""

import torch

from magictailor.world.smoothing import TOLERANCE, smooth_logits

SIDE = 32


def two_colors(step: float) -> tuple[torch.Tensor, torch.Tensor]:
    """An image whose right part is brighter by ``step``, [1, 3, SIDE, SIDE], and that part, bool [SIDE, SIDE]."""
    right = torch.arange(SIDE).expand(SIDE, SIDE) >= 13
    return (step * right.float()).expand(1, 3, SIDE, SIDE).clone(), right


def noisy_logits(right: torch.Tensor, noise: float) -> torch.Tensor:
    """Logits of two classes, one on each side, with noise."""
    random = torch.Generator().manual_seed(0)
    clean = torch.stack([~right, right]).float()[None]
    return clean + noise * torch.randn(clean.shape, generator=random)


def test_noise_goes_and_the_border_stays_where_the_colour_changes() -> None:
    pixels, right = two_colors(1.0)
    logits = noisy_logits(right, 0.7)
    before = ((logits.argmax(1)[0] == 1) == right).float().mean()
    after = ((smooth_logits(logits, pixels).argmax(1)[0] == 1) == right).float().mean()
    assert before < 0.9
    assert after == 1


def test_nothing_passes_between_colours_that_differ_much() -> None:
    pixels, right = two_colors(1.0)
    logits = noisy_logits(right, 0.5)
    other = logits.clone()
    other[..., right] = other[..., right].flip(1) * 2
    smoothed, changed = smooth_logits(logits, pixels), smooth_logits(other, pixels)
    torch.testing.assert_close(smoothed[..., ~right], changed[..., ~right])
    assert not torch.allclose(smoothed[..., right], changed[..., right])


def test_similar_colours_are_one_area() -> None:
    pixels, right = two_colors(TOLERANCE / 10)
    smoothed = smooth_logits(noisy_logits(right, 0.0), pixels)
    beside = smoothed[0, 1, :, 12], smoothed[0, 1, :, 13]
    assert (beside[1] - beside[0]).abs().max() < 0.5  # 1 before


def test_equal_logits_stay_and_a_single_pixel_does_not() -> None:
    pixels = torch.zeros(1, 3, SIDE, SIDE)
    equal = torch.tensor([1.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, SIDE, SIDE)
    torch.testing.assert_close(smooth_logits(equal, pixels), equal.clone())
    peak = torch.zeros(1, 2, SIDE, SIDE)
    peak[0, 0, 16, 16] = 1.0
    smoothed = smooth_logits(peak, pixels)
    assert smoothed[0, 0].max() < 0.05  # spread over the area
    assert smoothed[0, 0].min() >= 0


def test_classes_that_cannot_win_are_left_alone_and_the_input_too() -> None:
    pixels, right = two_colors(1.0)
    logits = torch.cat([noisy_logits(right, 0.3), torch.full((1, 1, SIDE, SIDE), -20.0)], 1)
    logits[0, 2, 4, 4] = -19.0
    kept = logits.clone()
    smoothed = smooth_logits(logits, pixels)
    torch.testing.assert_close(logits, kept)
    torch.testing.assert_close(smoothed[0, 2], kept[0, 2])
