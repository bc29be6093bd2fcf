"""The training data on the device: images for the autoencoder, latents and captions for the denoiser."""

import torch
from torch import Tensor

from magictailor.world.embedded import CHANNELS, SIZE
from magictailor.world.training.bank import loss_weights
from magictailor.world.training.rendering import GRID, LENGTH, Chunk


class Examples:
    """Images, latents, captions and loss weights of the first ``count`` seeds, at most ``capacity``.

    Only the first ``images`` seeds have images, until `drop_images`.
    """

    def __init__(self, capacity: int, images: int, captions: int, device: torch.device) -> None:
        self.device, self.capacity, self.count, self.encoded = device, capacity, 0, 0
        self.room = min(images, capacity)
        self.images = torch.empty(self.room, SIZE, SIZE, 3, dtype=torch.uint8, device=device)
        self.latents = torch.empty(capacity, CHANNELS, GRID, GRID, dtype=torch.float16, device=device)
        self.weights = torch.empty(capacity, 1, GRID, GRID, dtype=torch.float16, device=device)
        self.tokens = torch.empty(capacity, captions, LENGTH, dtype=torch.int16, device=device)

    def add(self, chunk: Chunk, latents: Tensor | None) -> None:
        """Append a chunk, with its ``latents`` [N, 16, 16, 16], or with its images as long as there is room for them."""
        part = slice(self.count, self.count + len(chunk))
        self.weights[part] = loss_weights(torch.from_numpy(chunk.inside).to(self.device))
        self.tokens[part] = torch.from_numpy(chunk.tokens).to(self.device)
        if latents is None:
            self.images[part] = torch.from_numpy(chunk.images).to(self.device)
        else:
            assert self.encoded == self.count, "latents come after all images are encoded"
            self.latents[part] = latents.half()
            self.encoded = part.stop
        self.count = part.stop

    def drop_images(self) -> None:
        assert self.encoded == self.count
        self.room, self.images = 0, torch.empty(0, SIZE, SIZE, 3, dtype=torch.uint8, device=self.device)

    def choose(self, size: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """``size`` examples, and for each the number of one of its captions."""
        chosen = torch.randint(self.encoded, (size,), generator=random, device=self.device)
        return chosen, torch.randint(self.tokens.shape[1], (size,), generator=random, device=self.device)

    def batch(self, size: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Latents, token ids and loss weights of ``size`` examples, each with one of its captions."""
        return self.rows(*self.choose(size, random))

    def rows(self, chosen: Tensor, wording: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents, token ids and loss weights of these examples and captions."""
        return self.latents[chosen].float(), self.tokens[chosen, wording].long(), self.weights[chosen].float()
