"""What the trainings draw from, held on the device: pictures for the autoencoder, latents and captions for the denoiser."""

import torch
from torch import Tensor

from magictailor.world.embedded import CHANNELS, SIZE
from magictailor.world.training.bank import importance
from magictailor.world.training.drawing import GRID, LENGTH, Chunk


class Examples:
    """The pictures, latents, captions and weights of the first ``count`` seeds; room for ``capacity`` of them.

    Pictures are held for the first ``pictures`` alone, and until `drop_pictures`.
    """

    def __init__(self, capacity: int, pictures: int, captions: int, device: torch.device) -> None:
        self.device, self.capacity, self.count, self.encoded = device, capacity, 0, 0
        self.room = min(pictures, capacity)
        self.pictures = torch.empty(self.room, SIZE, SIZE, 3, dtype=torch.uint8, device=device)
        self.latents = torch.empty(capacity, CHANNELS, GRID, GRID, dtype=torch.float16, device=device)
        self.weights = torch.empty(capacity, 1, GRID, GRID, dtype=torch.float16, device=device)
        self.tokens = torch.empty(capacity, captions, LENGTH, dtype=torch.int16, device=device)

    def add(self, chunk: Chunk, latents: Tensor | None) -> None:
        """Take in the next chunk, with its ``latents`` [N, 16, 16, 16] or, as long as there is room, its pictures."""
        part = slice(self.count, self.count + len(chunk))
        self.weights[part] = importance(torch.from_numpy(chunk.inside).to(self.device))
        self.tokens[part] = torch.from_numpy(chunk.tokens).to(self.device)
        if latents is None:
            self.pictures[part] = torch.from_numpy(chunk.pictures).to(self.device)
        else:
            assert self.encoded == self.count, "latents come after all pictures are encoded"
            self.latents[part] = latents.half()
            self.encoded = part.stop
        self.count = part.stop

    def drop_pictures(self) -> None:
        assert self.encoded == self.count
        self.room, self.pictures = 0, torch.empty(0, SIZE, SIZE, 3, dtype=torch.uint8, device=self.device)

    def batch(self, size: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Latents, token numbers and weights of ``size`` examples, each under one of its captions."""
        chosen = torch.randint(self.encoded, (size,), generator=random, device=self.device)
        wording = torch.randint(self.tokens.shape[1], (size,), generator=random, device=self.device)
        return self.latents[chosen].float(), self.tokens[chosen, wording].long(), self.weights[chosen].float()
