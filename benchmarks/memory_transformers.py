"""How much memory a step of today's transformers takes, counted on tensors that have sizes and no values.

    python benchmarks/memory_transformers.py                          # all families at 512 and 1024 pixels, in bf16
    python benchmarks/memory_transformers.py --families sana --sizes 1024
    python benchmarks/memory_transformers.py --families sana --presets   # what a run on each preset is expected to take

Counted as in `benchmarks/memory.py`, at the family's full width and depth. Printed are GB for the first image of a forward pass and
for each further one, with all activations kept and with checkpointing: what `backbones/presets.py` expects with. The tests' tiny
checkpoints lend text encoders and autoencoder, which take no part.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "tests"))

import diffusers
import torch
from accelerate import init_empty_weights
from memory import Living
from torch._subclasses import FakeTensorMode

from families import pipeline
from magictailor.backbones.conditions import Condition
from magictailor.backbones.families import backbone_class
from magictailor.backbones.presets import GIGABYTE, LARGE, PRESETS, TRAINED_BYTES, cost_of
from magictailor.recipe import LoRA
from magictailor.training.trainables import add_lora

WORD = {"<person>": "sks person"}


@dataclass(frozen=True)
class Shape:
    """A published transformer: its class and configuration, blocks of each kind, latents, text."""

    kind: str
    config: dict[str, Any]
    depth: tuple[int, int]
    channels: int
    factor: int  # pixels a latent
    length: int
    width: int
    pooled: int = 0
    tiny: str = ""  # the tests' checkpoint, where its name is another


_SD3 = {
    "qk_norm": "rms_norm",
    "joint_attention_dim": 4096,
    "pos_embed_max_size": 384,
    "sample_size": 128,
    "in_channels": 16,
}
SHAPES = {
    "sd3": Shape("SD3Transformer2DModel", {**_SD3, "num_attention_heads": 24, "caption_projection_dim": 1536, "dual_attention_layers": tuple(range(13))}, (24, 0), 16, 8, 333, 4096, 2048),
    "flux": Shape("FluxTransformer2DModel", {"guidance_embeds": True}, (19, 38), 16, 8, 512, 4096, 768),
    "flux2-klein-4b": Shape("Flux2Transformer2DModel", {"num_attention_heads": 24, "joint_attention_dim": 7680, "guidance_embeds": False}, (5, 20), 128, 16, 512, 7680),
    "flux2-klein-9b": Shape("Flux2Transformer2DModel", {"num_attention_heads": 32, "joint_attention_dim": 12288, "guidance_embeds": False}, (8, 24), 128, 16, 512, 12288, tiny="flux2-klein-4b"),
    "flux2-dev": Shape("Flux2Transformer2DModel", {}, (8, 48), 128, 16, 512, 15360),
    "z-image": Shape("ZImageTransformer2DModel", {}, (30, 0), 16, 8, 64, 2560),
    "qwen-image": Shape("QwenImageTransformer2DModel", {}, (60, 0), 16, 8, 64, 3584),
    "sana": Shape("SanaTransformer2DModel", {}, (20, 0), 32, 32, 300, 2304),
}  # fmt: skip


def transformer_of(family: str) -> torch.nn.Module:
    """The published transformer at its full width and depth; its weights have no values."""
    shape = SHAPES[family]
    names = ("n_layers",) if family == "z-image" else ("num_layers", "num_single_layers")
    layers = {name: number for name, number in zip(names, shape.depth) if number}
    made: torch.nn.Module = getattr(diffusers, shape.kind)(**shape.config | layers)
    return made


def lent(family: str, device: str) -> Any:
    """The family's backbone: a full transformer with a LoRA, whose weights have no memory yet, and the tests' tiny parts."""
    made = pipeline(SHAPES[family].tiny or family)
    backbone: Any = backbone_class(type(made).__name__)(family, made)
    backbone.add_words(WORD)
    backbone.codec.factor = SHAPES[family].factor
    backbone.runtime = replace(backbone.runtime, precision="bf16", device=torch.device(device))
    with init_empty_weights():
        backbone.pipeline.transformer = transformer_of(family).to(torch.bfloat16).requires_grad_(False).eval()
        add_lora(backbone, LoRA(rank=32), 0)
    return backbone


def allocate(network: torch.nn.Module, device: str) -> dict[str, torch.nn.Parameter]:
    """Give weights on the meta device memory, or what stands for it; returns the trained ones."""
    for module in network.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                values = torch.zeros(weight.shape, dtype=weight.dtype, device=device)
                module._parameters[name] = torch.nn.Parameter(values, weight.requires_grad)
        for name, values in module._buffers.items():
            if values is not None:
                module._buffers[name] = values.to(device)
    return {n: p for n, p in network.named_parameters() if p.requires_grad}


def step(
    backbone: Any, family: str, size: int, images: int, checkpointing: bool, device: str = "cpu"
) -> Callable[[], None]:
    """Forward, momentum forward and backward of so many images, ready to run; its weights are made on the device."""
    shape = SHAPES[family]
    trained = allocate(backbone.denoiser, device)
    if checkpointing:
        backbone.enable_checkpointing()
    if family == "z-image":  # it takes lists, whose lengths are not known without values
        backbone._rows = lambda given: list(given["sequence"])

    def run() -> None:
        with torch.device(device):
            tensors = {"sequence": torch.ones(images, shape.length, shape.width, dtype=torch.bfloat16)}
            if shape.pooled:
                tensors["pooled"] = torch.ones(images, shape.pooled, dtype=torch.bfloat16)
            tensors["mask"] = torch.ones(images, shape.length, dtype=torch.bool)
            latents = torch.ones(images, shape.channels, size // shape.factor, size // shape.factor)
            times = torch.full((images,), 0.5)
        condition = Condition(tensors, [{"<person>": [3]}] * images)
        momentum = {n: p.detach() for n, p in trained.items()}
        with backbone.reading_attention("all"):
            read = backbone.predict(latents, times, condition, attend=[["<person>"]] * images)
            with torch.no_grad():
                held = backbone.predict(latents, times, condition, weights=momentum).output
            loss = read.output.square().sum() + read.attention.sum() + (held - read.output).square().mean()
            torch.autograd.grad(loss, list(trained.values()), allow_unused=True)

    return run


def peak(family: str, size: int, images: int, checkpointing: bool) -> float:
    """GB of a step, counted on tensors without values; without the weights."""
    backbone = lent(family, "cpu")
    with FakeTensorMode(allow_non_fake_inputs=True):
        run = step(backbone, family, size, images, checkpointing)
        with Living([*backbone.denoiser.parameters(), *backbone.denoiser.buffers()]) as living:
            run()
    return living.peak / 1e9


def seen_peak(family: str, size: int, images: int, device: str) -> dict[str, float]:
    """GB on a card: of a step with checkpointing without the weights, and of the weights."""
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(device)
    run = step(lent(family, device), family, size, images, True, device)
    weights = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    return {"step": (torch.cuda.max_memory_allocated(device) - weights) / 1e9, "weights": (weights - before) / 1e9}


VAES = {"sana": 0.71}  # GB in half precision; the others' are as large as Stable Diffusion's
VAE = 0.17
NF4 = 0.5 + 4 / 64  # bytes a weight, with a scale for every 64


def presets(family: str) -> None:
    """A line for each preset: what a run of six images is expected to take, with text encoders off the card."""
    shape = SHAPES[family]
    with init_empty_weights():
        transformer = transformer_of(family)
    made = pipeline(shape.tiny or family)
    backbone: Any = backbone_class(type(made).__name__)(family, made)
    made.transformer = transformer
    layers = {n: m for n, m in transformer.named_modules() if isinstance(m, torch.nn.Linear)}
    ends = tuple(f".{target}" for target in backbone.lora_targets)
    lora = sum(32 * (m.in_features + m.out_features) for n, m in layers.items() if f".{n}".endswith(ends))
    blocks = sum(m.weight.numel() for n, m in layers.items() if any(b in f".{n}" for b in backbone.blocks))
    rest = sum(p.numel() for p in transformer.parameters()) - blocks
    for name, preset in PRESETS[family].items():
        cost = cost_of(family, preset.size or LARGE)
        if cost is None:
            print(f"{family} {name}: not counted", flush=True)
            continue
        weights = (2 * rest + (NF4 if preset.precision == "nf4" else 2) * blocks) / GIGABYTE
        step = cost.of_step(preset.micro_batch or 6, preset.checkpointing)
        total = weights + TRAINED_BYTES * lora / GIGABYTE + max(step, VAES.get(family, VAE) + cost.encode)
        print(f"{family} {name}: {total:.1f} GB  {preset}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="*", default=list(SHAPES))
    parser.add_argument("--sizes", nargs="*", type=int, default=[512, 1024])
    parser.add_argument("--presets", action="store_true", help="what a run on each preset is expected to take")
    options = parser.parse_args()
    for family in options.families:
        if options.presets:
            presets(family)
            continue
        for size in options.sizes:
            row: dict[str, Any] = {"family": family, "size": size}
            for name, checkpointing in (("kept", False), ("checkpointed", True)):
                one, two = (peak(family, size, images, checkpointing) for images in (1, 2))
                row[name] = [round(one, 2), round(two - one, 2)]
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
