"""Dynamic Masked Degradation (DM-Deg): noise outside the mask, so that what is there is not learned."""

from torch import Tensor

from magictailor.recipe import Degradation, DMDeg, MaskOut


def intensity(step: int, steps: int, config: DMDeg) -> float:
    """Equation 5: a_d = a_init (1 - (d / D)^gamma); d counts over the whole run.

    The ablations' schedules: fixed a_init; ascending a_init d / D; descending a_init (1 - d / D).
    """
    progress = step / steps
    match config.schedule:
        case "dynamic":
            return config.alpha * (1 - progress**config.gamma)
        case "fixed":
            return config.alpha
        case "ascending":
            return config.alpha * progress
        case "descending":
            return config.alpha * (1 - progress)


def degrade(image: Tensor, mask: Tensor, noise: Tensor, alpha: float) -> Tensor:
    """Equation 4: I^ = a_d G (1 - M) + I. Image and noise [3, H, W], mask [1, H, W], pixels in [-1, 1]."""
    return alpha * noise * (1 - mask) + image


def degraded(image: Tensor, mask: Tensor, noise: Tensor, config: Degradation, step: int, steps: int) -> Tensor:
    """The image with the recipe's degradation outside the mask; shapes as in `degrade`."""
    match config:
        case DMDeg():
            return degrade(image, mask, noise, intensity(step, steps, config))
        case MaskOut():
            return image * mask
        case _:
            return image
