"""How much memory a step takes, counted without having it: the real step on tensors that have sizes and no values.

    python benchmarks/memory.py                    # all families, with and without gradient checkpointing, half precision
    python benchmarks/memory.py --presets          # what a run on each preset is expected to take (docs/models.md)
    python benchmarks/memory.py --check            # the same count on real tensors, against what a small run really takes

Of every tensor that the step makes the bytes are counted from when it is made until it is let go of; the peak of that is what a
card's allocator must give (beside what it loses to fragments, and some 0.5 GB of CUDA's own). Attention is counted as the fused
kernels keep it. Printed are gigabytes for one image a forward, and for each further one: what `backbones/presets.py` expects with.
"""

import argparse
import json
import weakref
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from bases import FAMILIES, base, pair
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from magictailor.backbones.presets import FAST, NAMES, Preset, preset_for
from magictailor.backbones.quantized import quantize
from magictailor.backbones.runtime import BITS
from magictailor.methods import recipe_for
from magictailor.training.batch import Batch
from magictailor.training.setup import build

BALANCE = 300  # a step of that stage


class Living(TorchDispatchMode):
    """Bytes of the tensors that were made inside and still live, and the most there ever were.

    ``there``: tensors that are there already, whose views are not counted.
    """

    def __init__(self, there: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = {tensor.untyped_storage()._cdata: 0 for tensor in there}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._known:
                    self._known[storage._cdata] = storage.nbytes()
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._gone, storage._cdata)
        self.peak = max(self.peak, self.now)
        return out

    def _gone(self, key: int) -> None:
        self.now -= self._known.pop(key)


class Case:
    """A run of the method on a base of a family, ready for a step of the balance stage."""

    def __init__(
        self,
        family: str,
        precision: str,
        settings: list[str],
        preset: Preset = FAST,
        width: float = 1,
        empty: bool = True,
    ) -> None:
        self.backbone = backbone = base(family, width, precision=precision, empty=empty)
        if bits := BITS.get(preset.precision or ""):
            quantize(backbone.denoiser, bits, backbone.runtime.dtype, backbone.blocks)
            backbone.denoiser.to("cpu")
        backbone.runtime = replace(backbone.runtime, preset=preset)
        recipe = recipe_for(backbone.family, settings=settings)
        self.training = build(pair(backbone.size), recipe, backbone)
        self.objective, self.phase = self.training.objective, recipe.phase(BALANCE)
        self.rows = self.training.examples.rows(BALANCE)
        self.text = self.objective.encode_prompts(self.rows)

    def tensors(self) -> list[Tensor]:
        """Weights, buffers, and what is trained."""
        networks = self.backbone.networks.values()
        return [t for n in networks for t in (*n.parameters(), *n.buffers())] + list(self.training.trained.parameters())

    def batch(self, images: int) -> Batch:
        maker = self.objective.maker
        latents, times = torch.ones(images, *maker.latent_shape), torch.ones(images, dtype=torch.long)
        mask, map_masks = (torch.ones(images, 1, *grid) for grid in (maker.latent_grid, maker.map_grid))
        return Batch(self.rows[:images], latents, times, latents, mask, map_masks)

    def step(self, images: int) -> None:
        """A micro-batch of the balance stage: forward, the momentum network's forward, backward."""
        online, batch = self.training.trained.online, self.batch(images)
        momentum = {n: p.detach() for n, p in online.items()}
        with self.objective.reading_attention():
            forward = self.objective.forward(batch, self.text, self.phase)
            with torch.no_grad():
                condition = forward.condition.detach()
                held = self.backbone.predict(batch.noisy, batch.times, condition, weights=momentum).output
            loss = forward.diffusion.sum() + forward.attention.sum() + (held - forward.prediction).square().mean()
            torch.autograd.grad(loss, [*online.values(), forward.condition.tensors["sequence"]])

    def encode(self) -> None:
        size, latent = self.backbone.size, self.objective.maker.latent_shape
        with torch.no_grad():
            self.backbone.encode_images(torch.ones(2, 3, size, size), torch.ones(2, *latent))


def counted(case: Case, work: Any, *args: Any) -> float:
    """The peak of the work on tensors without values, in GB, beside weights and what is trained."""
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        there = [fake.from_tensor(tensor) for tensor in case.tensors()]
        with Living(there) as living:
            work(*args)
    return living.peak / 1e9


def presets(family: str, precision: str) -> None:
    """A line for each preset: what a run of six images is expected to take."""
    for name in NAMES:
        preset = preset_for(family, name, None)
        training = Case(family, precision, preset.settings, preset).training
        print(f"{family} {name}: {training.expected_gb:.1f} GB  {preset}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="*", default=FAMILIES)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--presets", action="store_true", help="what a run on each preset is expected to take")
    parser.add_argument("--check", action="store_true", help="count a real step of an eighth's width both ways")
    options = parser.parse_args()
    if options.check:
        case = Case("sd2", "fp32", [], width=1 / 8, empty=False)
        with Living(case.tensors()) as living:
            case.step(1)
        print(f"counted with values {living.peak / 1e9:.4f} GB, without {counted(case, case.step, 1):.4f} GB")
        return
    for family in options.families:
        if options.presets:
            presets(family, options.precision)
            continue
        row: dict[str, Any] = {"family": family}
        for checkpointing in (False, True):
            case = Case(family, options.precision, [f"optimisation.checkpointing={str(checkpointing).lower()}"])
            one, two = counted(case, case.step, 1), counted(case, case.step, 2)
            row["checkpointing" if checkpointing else "kept"] = [round(one, 2), round(two - one, 2)]
        networks = case.backbone.networks.items()
        trained = {id(p) for p in case.training.trained.parameters()}
        weights = {n: sum(p.nbytes for p in m.parameters() if id(p) not in trained) / 1e9 for n, m in networks}
        row["encode"] = round(counted(case, case.encode), 2)
        row["weights"] = {n: round(v, 2) for n, v in weights.items()}
        row["trained"] = round(sum(p.numel() for p in case.training.trained.parameters()) / 1e6, 1)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
