"""What the paper's whole protocol would cost on a card: 23 pairs x 6 methods x 20 prompts x 32 seeds, from counted arithmetic.

    python benchmarks/bench_cost.py [--share 0.3]

Counted are the operations of one image through the real shapes of Stable Diffusion 2.1 and FLUX.2 klein 4B: a forward pass, a
training pass, encoding and decoding. Recipes say how many of each a training and an image take. Seconds follow from the share of
the card's peak that is used: 5 % was measured for a step of ours on an H100 (docs/experiments/speed.md); the paper's five minutes
for a pair on an A100 are another. The same share is assumed for FLUX.2 and for images. Scoring is not in it.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "tests"))

import diffusers
import torch
from accelerate import init_empty_weights
from bases import _allocate, base
from memory_transformers import SHAPES
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from magictailor.methods import COMPARED, recipe_for
from magictailor.recipe import LoRA
from magictailor.training.trainables import add_lora

PAIRS, PROMPTS, SEEDS, PHOTOS = 23, 20, 32, 6
PAPER_SECONDS, A100, H100 = 300.0, 312e12, 989e12  # of a pair; peaks in half precision
MEASURED = 0.05  # of an H100's peak, a step of the second phase


@dataclass(frozen=True)
class Passes:
    """TFLOP of one image: denoiser forward, forward and backward with LoRA, encoder, decoder; of sampling: the steps, and the
    forward passes of each."""

    forward: float
    training: float
    encode: float
    decode: float
    steps: int
    passes: int

    @property
    def image(self) -> float:
        """Of generating one image."""
        return self.steps * self.passes * self.forward + self.decode


def counted(work: Any) -> float:
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops()) / 1e12


def _autoencoder(vae: Any, size: int, factor: int) -> tuple[float, float]:
    dtype = next(vae.parameters()).dtype
    encode = counted(lambda: vae.encode(torch.ones(1, 3, size, size, dtype=dtype)))
    shape = (1, vae.config.latent_channels, size // factor, size // factor)
    return encode, counted(lambda: vae.decode(torch.ones(shape, dtype=dtype)))


def stable_diffusion() -> Passes:
    backbone = base("sd2", precision="bf16", empty=True)
    trained = add_lora(backbone, LoRA(rank=32), 0)
    network, kind = backbone.denoiser, torch.bfloat16
    inputs = (
        torch.ones(1, 4, 64, 64, dtype=kind),
        torch.ones(1, dtype=torch.long),
        torch.ones(1, 77, 1024, dtype=kind),
    )

    def train() -> None:
        torch.autograd.grad(network(*inputs).sample.float().sum(), list(trained.values()))

    def forward() -> None:
        with torch.no_grad():
            network(*inputs)

    return Passes(counted(forward), counted(train), *_autoencoder(backbone.autoencoder, 512, 8), 50, 2)


def flux() -> Passes:
    shape = SHAPES["flux2-klein-4b"]
    layers = dict(zip(("num_layers", "num_single_layers"), shape.depth, strict=True))
    with init_empty_weights():
        network = diffusers.Flux2Transformer2DModel(**shape.config | layers)
        vae = diffusers.AutoencoderKLFlux2()
    network, vae = (_allocate(part, torch.bfloat16).requires_grad_(False) for part in (network, vae))
    side, kind = 512 // shape.factor, torch.bfloat16
    tokens = side * side
    inputs = {
        "hidden_states": torch.ones(1, tokens, shape.channels, dtype=kind, requires_grad=True),
        "encoder_hidden_states": torch.ones(1, shape.length, shape.width, dtype=kind),
        "timestep": torch.ones(1, dtype=kind), "img_ids": torch.zeros(1, tokens, 4), "txt_ids": torch.zeros(1, shape.length, 4),
        "guidance": None, "return_dict": False,
    }  # fmt: skip

    def train() -> None:
        network(**inputs)[0].float().sum().backward()

    def forward() -> None:
        with torch.no_grad():
            network(**inputs)

    encode = counted(lambda: vae.encode(torch.ones(1, 3, 512, 512, dtype=kind)))
    decode = counted(lambda: vae.decode(torch.ones(1, vae.config.latent_channels, 64, 64, dtype=kind)))
    return Passes(counted(forward), counted(train), encode, decode, 4, 1)  # distilled: four steps without guidance


def training(method: str, family: str, passes: Passes) -> float:
    """TFLOP of a training of the method, with its prior images."""
    recipe = recipe_for(family, method)
    rows = (recipe.data.batch or PHOTOS) * (2 if recipe.loss.prior else 1)
    total = 0.0
    for phase in recipe.phases:
        momentum = passes.forward if phase.preserve else 0.0
        total += phase.steps * rows * (passes.training + momentum + passes.encode / recipe.data.resample_every)
    return total + (2 * recipe.loss.prior.images * passes.image if recipe.loss.prior else 0.0)


def report(family: str, passes: Passes, share: float) -> None:
    """Hours of an H100 of which this ``share`` of the peak is used. A transformer trains a LoRA and nothing else."""
    rate, images, total = share * H100 / 1e12, PAIRS * PROMPTS * SEEDS, 0.0
    methods = [m for m in COMPARED if family == "sd2" or "lora" in recipe_for(family, m).kinds]
    for method in methods:
        pair, drawing = training(method, family, passes) / rate, images * passes.image / rate
        total += PAIRS * pair + drawing
        print(
            f"  {method:18} {pair:6.0f} s a training, {PAIRS * pair / 3600:5.1f} h for {PAIRS}; {images:,} images {drawing / 3600:5.1f} h"
        )
    print(f"  together {total / 3600:.0f} h at {share:.1%}, {passes.image / rate:.2f} s an image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=MEASURED, help="of the card's peak, 0 .. 1")
    options = parser.parse_args()
    for family, passes in (("sd2", stable_diffusion()), ("flux2-klein-4b", flux())):
        print(
            f"{family}: forward {passes.forward:.2f}, training pass {passes.training:.2f}, encode {passes.encode:.2f}, decode {passes.decode:.2f} TFLOP an image"
        )
        if family == "sd2":
            share = training("magictailor", family, passes) * 1e12 / PAPER_SECONDS / A100
            print(f"  the paper's five minutes are {share:.1%} of an A100's peak")
        report(family, passes, options.share)


if __name__ == "__main__":
    main()
