"""Dynamic Masked Degradation (DM-Deg): noise outside the mask, so that what is there is not learned."""

from torch import Tensor

from magictailor.recipe import Degradation, DMDeg, MaskOut


def intensity(step: int, steps: int, how: DMDeg) -> float:
    """Equation 5: a_d = a_init (1 - (d / D)^gamma); d counts over the whole run.

    The ablations' schedules: fixed a_init; ascending a_init d / D; descending a_init (1 - d / D).
    """
    progress = step / steps
    match how.schedule:
        case "dynamic":
            return how.alpha * (1 - progress**how.gamma)
        case "fixed":
            return how.alpha
        case "ascending":
            return how.alpha * progress
        case "descending":
            return how.alpha * (1 - progress)


def degrade(image: Tensor, mask: Tensor, noise: Tensor, alpha: float) -> Tensor:
    """Equation 4: I^ = a_d G (1 - M) + I. Image and noise [3, H, W], mask [1, H, W], pixels in [-1, 1]."""
    return alpha * noise * (1 - mask) + image


def degraded(image: Tensor, mask: Tensor, noise: Tensor, how: Degradation, step: int, steps: int) -> Tensor:
    """The image as the recipe wants it outside the mask."""
    match how:
        case DMDeg():
            out = degrade(image, mask, noise, intensity(step, steps, how))
            return out.clamp(-1, 1) if how.clamp else out
        case MaskOut():
            return image * mask
        case _:
            return image
