"""Encoding the bank's renders into the latents that the denoiser is trained on."""

from contextlib import closing
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from pydantic import Field
from torch import Tensor

from magictailor.common.events import Listener, Progress, ignore
from magictailor.common.tensors import read_tensors, write_tensors
from magictailor.recipe import ConfigModel
from magictailor.world.embedded import load_autoencoder
from magictailor.world.training.autoencoder import encode
from magictailor.world.training.bank import Bank
from magictailor.world.training.examples import Examples
from magictailor.world.training.rendering import HELD_OUT, Chunk, concatenate


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


class Renders(ConfigModel):
    """What the recipe of a network next to the frozen base says about its renders; their seeds are 0, 1, 2, ..."""

    pictures: int = Field(16_000, ge=16, lt=100_000_000)
    captions: int = Field(8, ge=1, le=64)  # per render
    held_out: int = Field(64, ge=8, le=1024)  # measured in one batch
    chunk: int = Field(256, ge=8)  # renders per job of a worker


def encoded_renders(folder: Path, recipe: Renders, workers: int, listen: Listener) -> tuple[Examples, Chunk, Tensor]:
    """The training's renders with their latents, and the held-out ones with theirs."""
    bank = Bank(
        folder / "bank", recipe.pictures, recipe.captions, recipe.held_out, recipe.chunk, workers, keep=True,
        skip=False, listen=listen,
    )  # fmt: skip
    examples = Examples(recipe.pictures, recipe.pictures, recipe.captions, torch.device("cpu"))
    with closing(bank):
        held = concatenate(bank.held_out())
        while (chunk := bank.next()) is not None:
            examples.add(chunk, None)
            listen(Progress("renders", examples.count, recipe.pictures))
    latents = Latents(load_autoencoder(), folder / "latents", keep=True)
    latents.encode_all(examples, recipe.chunk, listen)
    return examples, held, latents.encode(HELD_OUT, torch.from_numpy(held.images))
