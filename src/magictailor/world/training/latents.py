"""From the bank's pictures to the latents that the denoiser is trained on."""

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from magictailor.common.tensors import read_tensors, write_tensors
from magictailor.world.training.autoencoder import encode
from magictailor.world.training.drawing import Chunk
from magictailor.world.training.examples import Examples


class Latents:
    """Pictures to latents, chunk by chunk; on a CPU, where that takes long, they are kept for the next session."""

    def __init__(self, autoencoder: AutoencoderKL, folder: Path, keep: bool) -> None:
        self.autoencoder, self.folder, self.keep = autoencoder, folder, keep
        if keep:
            folder.mkdir(exist_ok=True)

    def of(self, first: int, pictures: Tensor) -> Tensor:
        """Latents [N, 16, 16, 16] of the pictures, uint8 [N, S, S, 3], of which the first has the seed ``first``."""
        path = self.folder / f"{first:010d}-{len(pictures)}.safetensors"
        if self.keep and path.exists():
            return read_tensors(path)["latents"].float()
        latents = encode(self.autoencoder, pictures)
        if self.keep:
            write_tensors(path, {"latents": latents.half()})
        return latents

    def encode_all(self, examples: Examples, chunk: int, progress: Callable[[int, int], None]) -> None:
        """The latents of all pictures that ``examples`` holds, ``chunk`` at a time; then the pictures are dropped."""
        for first in range(0, examples.count, chunk):
            part = slice(first, min(first + chunk, examples.count))
            examples.latents[part] = self.of(first, examples.pictures[part]).half()
            progress(part.stop, examples.count)
        examples.encoded = examples.count
        examples.drop_pictures()

    def take_in(self, examples: Examples, chunk: Chunk) -> None:
        """Add a chunk's latents, captions and weights."""
        pictures = torch.from_numpy(chunk.pictures).to(examples.device)
        examples.add(chunk, self.of(examples.count, pictures))
