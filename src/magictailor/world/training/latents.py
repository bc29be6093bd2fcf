"""Encoding the bank's renders into the latents that the denoiser is trained on."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from magictailor.common.events import Listener, Progress, ignore
from magictailor.common.tensors import read_tensors, write_tensors
from magictailor.world.training.autoencoder import encode
from magictailor.world.training.examples import Examples
from magictailor.world.training.rendering import Chunk


class Latents:
    """Encodes images chunk by chunk. ``keep``: store the latents for the next session, since a CPU takes long."""

    def __init__(self, autoencoder: AutoencoderKL, folder: Path, keep: bool) -> None:
        self.autoencoder, self.folder, self.keep = autoencoder, folder, keep
        if keep:
            folder.mkdir(exist_ok=True)

    def encode(self, first: int, images: Tensor) -> Tensor:
        """Latents [N, 16, 16, 16] of images uint8 [N, S, S, 3] with successive seeds from ``first``."""
        path = self.folder / f"{first:010d}-{len(images)}.safetensors"
        if self.keep and path.exists():
            return read_tensors(path)["latents"].float()
        latents = encode(self.autoencoder, images)
        if self.keep:
            write_tensors(path, {"latents": latents.half()})
        return latents

    def encode_all(self, examples: Examples, chunk: int, listen: Listener = ignore) -> None:
        """Encode all images that ``examples`` holds, ``chunk`` at a time."""
        for first in range(0, examples.count, chunk):
            part = slice(first, min(first + chunk, examples.count))
            examples.latents[part] = self.encode(first, examples.images[part]).half()
            listen(Progress("latents", part.stop, examples.count))
        examples.encoded = examples.count

    def add(self, chunk: Chunk, examples: Examples) -> None:
        """Add a chunk's latents, captions and loss weights to ``examples``."""
        images = torch.from_numpy(chunk.images).to(examples.device)
        examples.add(chunk, self.encode(examples.count, images))
