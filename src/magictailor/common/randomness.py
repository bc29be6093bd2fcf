"""Random numbers keyed by seed, step, image and purpose, without any state.

So a resumed run equals an uninterrupted one, and the size of a micro-batch changes nothing.
"""

from collections.abc import Iterable
from hashlib import sha256
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

CPU = torch.device("cpu")


def pair_seed(seed: int, digests: Iterable[str]) -> int:
    """The seed of a run on the pair with these images.

    Two pairs under one seed draw different numbers, so that measurements on several pairs are independent.
    """
    return int.from_bytes(sha256(" ".join([str(seed), *digests]).encode()).digest()[:6])


def generator(seed: int, step: int, image: int, purpose: str, device: torch.device = CPU) -> torch.Generator:
    """A generator for (seed, step, image, purpose)."""
    key = np.random.SeedSequence((seed, step, image, crc32(purpose.encode()))).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(key[0] >> np.uint64(1)))


def normal(
    shape: tuple[int, ...], seed: int, step: int, image: int, purpose: str, device: torch.device = CPU
) -> Tensor:
    """Standard normal numbers. Each kind of device has its own; those of the CPU are the same on all machines."""
    return torch.randn(shape, generator=generator(seed, step, image, purpose, device), device=device)


def uniform(count: int, seed: int, step: int, image: int, purpose: str) -> Tensor:
    """``count`` numbers in [0, 1)."""
    return torch.rand(count, generator=generator(seed, step, image, purpose))
