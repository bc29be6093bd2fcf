"""Dynamic Masked Degradation (DM-Deg): noise outside the mask, so that what is there is not learned."""

from collections.abc import Callable, Sequence

from torch import Tensor

from magictailor.recipe import Degradation, DMDeg, MaskOut

Noise = Callable[[Sequence[int]], Tensor]  # G for each of k images, [k, *shape]; drawn only where it is used


def intensity(progress: float, config: DMDeg) -> float:
    """Equation 5: a_d = a_init (1 - (d / D)^gamma). ``progress``: d / D, over the whole run.

    The ablations' schedules: fixed a_init; ascending a_init d / D; descending a_init (1 - d / D).
    """
    match config.schedule:
        case "dynamic":
            return config.alpha * (1 - progress**config.gamma)
        case "fixed":
            return config.alpha
        case "ascending":
            return config.alpha * progress
        case "descending":
            return config.alpha * (1 - progress)


def degrade(values: Tensor, mask: Tensor, noise: Tensor, alpha: float) -> Tensor:
    """Equation 4: I^ = a_d G (1 - M) + I. Values and noise [..., C, H, W], mask [..., 1, H, W] in 0 .. 1.

    ``values``: pixels in [-1, 1], as in the paper; or latents, in units of their standard deviation.
    """
    return alpha * noise * (1 - mask) + values


def degraded_pixels(images: Tensor, masks: Tensor, noise: Noise, config: Degradation, progress: float) -> Tensor:
    """Images with what the recipe does to pixels outside the masks. Shapes as in `degrade`; ``progress`` d / D."""
    match config:
        case DMDeg(space="pixels"):
            return degrade(images, masks, noise(images.shape[1:]), intensity(progress, config))
        case MaskOut():
            return images * masks
        case _:
            return images


def degraded_latents(latents: Tensor, masks: Tensor, noise: Noise, config: Degradation, progress: float) -> Tensor:
    """Latents with what the recipe does to them outside the masks, which are M' on their grid.

    A cell that a mask touches at all stays as it is: the loss reads it.
    """
    match config:
        case DMDeg(space="latents"):
            read = (masks > 0).to(latents.dtype)
            return degrade(latents, read, noise(latents.shape[1:]), intensity(progress, config))
        case _:
            return latents
