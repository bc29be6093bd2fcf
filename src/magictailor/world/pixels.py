"""From images of bytes to the tensors that networks take, and back."""

from torch import Tensor


def to_pixels(images: Tensor) -> Tensor:
    """Images uint8 [N, H, W, 3] as float [N, 3, H, W] in [-1, 1], on the same device."""
    return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def to_bytes(pixels: Tensor) -> Tensor:
    """The inverse of `to_pixels`; values outside [-1, 1] are clipped."""
    return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
