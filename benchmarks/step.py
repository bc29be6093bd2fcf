"""Our training step against the same step written the reference's way: seconds, peak memory, and equal gradients.

    python benchmarks/step.py                                   # an eighth of Stable Diffusion 2.1's widths, on the CPU
    python benchmarks/step.py --width 1 --device cuda --precision bf16 --steps 20 --warm 5 --rounds 2 --peak-tflops 989
    python benchmarks/step.py --family sdxl --way ours --width 1 --device cuda --precision bf16 --steps 10 \
        --set optimisation.micro_batch=2 optimisation.checkpointing=true

U-Net, autoencoder and text encoder have random weights of Stable Diffusion 2.1's shape, scaled alike; 512 pixels, two samples
of three images. Both ways have the same losses (MagicTailor's), the same batch and the same trained parameters. The
reference's way: attention probabilities kept with their graphs in every layer of at most 32 x 32 places, a second full
U-Net as momentum network with a forward for every image, a text encoding for each image, and AdamW over the whole
embedding matrix. First one process checks that losses and gradients are equal from identical tensors; then both
ways are timed in turn, each in a process of its own, so that a peak is its own.
"""

import argparse
import copy
import json
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bases import FAMILIES, base, pair
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from magictailor.backbones.stable_diffusion import ENCODER, StableDiffusion
from magictailor.methods import recipe_for
from magictailor.techniques.attention import attention_error
from magictailor.techniques.balancing import diffusion_weights, preserve_weights
from magictailor.techniques.diffusion import masked_error
from magictailor.training.momentum import Momentum
from magictailor.training.setup import build
from magictailor.training.step import train_step

STAGES, LARGEST_MAP, RATE = {"warm-up": 0, "balance": 300}, 32 * 32, 1e-5


class Ours:
    """The product's own step."""

    def __init__(self, backbone: StableDiffusion, settings: list[str]) -> None:
        self.backbone = backbone
        self.recipe = recipe_for(backbone.family, settings=settings)
        training = build(pair(backbone.size), self.recipe, backbone)
        self.trained, self.examples, self.objective = training.trained, training.examples, training.objective
        random = torch.Generator().manual_seed(1)
        with torch.no_grad():  # off the zero start, where half of the gradients vanish
            for p in self.trained.lora.values():
                p.add_(0.02 * torch.randn(p.shape, generator=random).to(p.device))
        self.momentum = Momentum(self.trained.lora)
        with torch.no_grad():
            for weight in self.momentum.weights.values():
                weight.mul_(0.9)
        self.optimizer = training.state.optimizer
        for group in self.optimizer.param_groups:
            group["lr"] = RATE

    def backward(self, step: int) -> dict[str, float]:
        with self.objective.reading_attention():
            losses = train_step(self.objective, step, self.momentum)
        return self.objective.to_numbers(self.recipe.phase(step), losses)

    def gradients(self) -> dict[str, Tensor]:
        return {n: p.grad.clone() for n, p in self.trained.named().items() if p.grad is not None}

    def update(self, step: int) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        preserve = self.recipe.phase(step).preserve
        if preserve is not None:
            self.momentum.after_step(self.trained.lora, preserve)


class Keeping:
    """An attention processor that computes explicit probabilities, and keeps those of small maps with their graphs."""

    def __init__(self, kept: list[tuple[bool, Tensor]]) -> None:
        self.kept = kept

    def __call__(
        self, attn: Any, hidden: Tensor, encoder_hidden_states: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        text = encoder_hidden_states
        context = hidden if text is None else text
        query, key, value = (attn.head_to_batch_dim(f(x)) for f, x in ((attn.to_q, hidden), (attn.to_k, context), (attn.to_v, context)))  # fmt: skip
        probabilities = attn.get_attention_scores(query, key)
        if probabilities.shape[1] <= LARGEST_MAP:
            self.kept.append((text is not None, probabilities))
        out: Tensor = attn.to_out[0](attn.batch_to_head_dim(probabilities @ value))
        return out


class TheReferencesWay:
    """The same losses with what the reference keeps, copies and computes; made of an `Ours` with the same tensors."""

    def __init__(self, ours: Ours) -> None:
        self.ours, self.backbone = ours, ours.backbone
        self.kept: list[tuple[bool, Tensor]] = []
        self.kept_by_momentum: list[tuple[bool, Tensor]] = []
        unet: Any = self.backbone.denoiser
        self.momentum = copy.deepcopy(unet).requires_grad_(False)
        weights = ours.momentum.weights
        with torch.no_grad():
            for name, parameter in self.momentum.named_parameters():
                if name in weights:
                    parameter.copy_(weights[name])
        self.momentum.set_attn_processor(Keeping(self.kept_by_momentum))
        unet.set_attn_processor(Keeping(self.kept))
        table: Any = self.backbone.text_encoders[ENCODER].get_input_embeddings()  # type: ignore[operator]
        table._forward_hooks.clear()  # the rows are read from the matrix, which is trained whole
        self.matrix: nn.Parameter = table.weight
        tokenizer = self.backbone.tokenizers[ENCODER]
        self.rows = {w: tokenizer.convert_tokens_to_ids(w) for w in ours.objective.words}
        with torch.no_grad():
            for word, number in self.rows.items():
                self.matrix[number] = ours.trained.words[f"{word}.{ENCODER}"][0]
        self.matrix.requires_grad_(True)
        self.optimizer = torch.optim.AdamW([*ours.trained.lora.values(), self.matrix], lr=RATE)

    def _map(self, tokens: Tensor) -> Tensor:
        """The wanted word's map out of everything that was kept."""
        height, width = self.backbone.map_grid("all")
        maps = [p for cross, p in self.kept if cross and p.shape[1] == height * width]
        read = torch.stack([torch.einsum("nhql,nl->nq", p.unflatten(0, (len(tokens), -1)).float(), tokens) / (len(p) / len(tokens)) for p in maps])  # fmt: skip
        return read.mean(0).reshape(len(tokens), height, width)

    def backward(self, step: int) -> dict[str, float]:
        ours, phase = self.ours, self.ours.recipe.phase(step)
        self.kept.clear()  # the momentum network's are never freed, but the next forward's take their names
        self.kept_by_momentum.clear()
        objective, rows = ours.objective, ours.examples.rows(step)
        batch = objective.maker.batch(rows, ours.examples.times(step), phase)
        texts = [self.backbone.encode_text([row.prompt], row.words) for row in rows]  # one for each image
        text = torch.cat([t.tensors["sequence"] for t in texts])
        tokens = torch.zeros(text.shape[:2], device=text.device)
        for number, (t, row) in enumerate(zip(texts, rows, strict=True)):
            (position,) = t.spans[0][row.words[0]]
            tokens[number, position] = 1
        noisy = batch.noisy.to(text.dtype)
        prediction = self.backbone.denoiser(noisy, batch.times, text).sample.float()
        assert batch.map_masks is not None
        attention = attention_error(self._map(tokens), batch.map_masks[:, 0])
        diffusion = masked_error(prediction - batch.target, batch.mask, ours.recipe.loss.masked)
        losses = objective.sample_losses(diffusion, rows)
        total = (losses * diffusion_weights(losses.detach(), phase.reduce)).sum()
        assert phase.attention is not None
        weight = phase.attention.weight / objective.mean_area
        total = total + weight * objective.sample_losses(attention, rows).mean()
        if phase.preserve is not None:
            with torch.no_grad():
                held = self.momentum(noisy, batch.times, text).sample.float()  # for every image
            difference = masked_error(held - prediction, batch.mask, ours.recipe.loss.masked)
            means = objective.sample_losses(difference, rows)
            total = total + phase.preserve.weight * (means * preserve_weights(losses.detach())).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return {"loss": float(total), **{f"diffusion.{i}": float(v) for i, v in enumerate(losses)}}

    def gradients(self) -> dict[str, Tensor]:
        assert self.matrix.grad is not None
        lora = {f"lora.{n}": p.grad.clone() for n, p in self.ours.trained.lora.items() if p.grad is not None}
        return lora | {f"words.{w}.{ENCODER}": self.matrix.grad[i : i + 1].clone() for w, i in self.rows.items()}

    def update(self, step: int) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ours.recipe.phase(step).preserve is not None:
            with torch.no_grad():
                online = dict(self.backbone.denoiser.named_parameters())
                for name, parameter in self.momentum.named_parameters():  # all of them
                    parameter.lerp_(online[name].to(parameter.dtype), 0.01)


def equal(options: argparse.Namespace) -> dict[str, float]:
    """The largest difference of losses and gradients between the two ways, relative to the gradients' own size."""
    worst = {}
    for stage, step in STAGES.items():
        ours = Ours(base("sd2", options.width, options.device), [])
        first, gradients = ours.backward(step), ours.gradients()
        ours.optimizer.zero_grad(set_to_none=True)
        other = TheReferencesWay(ours)
        second, others = other.backward(step), other.gradients()
        size = max(float(g.abs().max()) for g in gradients.values())
        worst[f"{stage}, losses"] = max(abs(first[k] / second[k] - 1) for k in second)
        worst[f"{stage}, gradients"] = max(float((gradients[n] - others[n]).abs().max()) / size for n in gradients)
    return worst


def own_peak() -> int:
    """Bytes, of this process since its program began: what getrusage says is its parent's where that was larger."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def timed(options: argparse.Namespace) -> dict[str, float]:
    """Median seconds a step and the process's peak, of one way in one stage."""
    way: Any = Ours(
        base(options.family, options.width, options.device, options.precision, size=options.size), options.settings
    )
    if options.way == "reference":
        way = TheReferencesWay(way)
    on_card = way.backbone.device.type == "cuda"
    first, seconds, flop = STAGES[options.stage], [], 0
    for number in range(options.warm + options.steps):
        started = time.monotonic()
        with FlopCounterMode(display=False) if number == 0 else nullcontext() as counter:
            way.backward(first + number)
        flop = counter.get_total_flops() if counter is not None else flop
        way.update(first + number)
        if on_card:
            torch.cuda.synchronize()
        seconds.append(time.monotonic() - started)
    peak = torch.cuda.max_memory_allocated() if on_card else own_peak()
    middle = float(np.median(seconds[options.warm :]))
    row = {"seconds": middle, "gigabytes": peak / 1e9, "tflop": flop / 1e12}
    return row | ({"utilisation": flop / 1e12 / middle / options.peak_tflops} if options.peak_tflops else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=1 / 8, help="of Stable Diffusion 2.1's")
    parser.add_argument("--family", choices=FAMILIES, default="sd2", help="another than sd2 goes with --way ours")
    parser.add_argument("--size", type=int, help="of the images in pixels; default: the family's own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--warm", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="how often the two take turns")
    parser.add_argument(
        "--set", dest="settings", nargs="*", default=[], help="of our recipe, for instance optimisation.micro_batch=1"
    )
    parser.add_argument("--peak-tflops", type=float, help="of the hardware in this precision: adds the utilisation")
    parser.add_argument("--way", choices=("ours", "reference"), help="one way only, as JSON")
    parser.add_argument("--stage", choices=tuple(STAGES), default="warm-up")
    options = parser.parse_args()
    if options.way:
        print(json.dumps(timed(options)))
        return
    for name, difference in equal(options).items():
        print(f"{name}: largest relative difference {difference:.1e}")
        assert difference < 1e-3, "the two ways differ"
    for stage in STAGES:
        found: dict[str, list[dict[str, float]]] = {"ours": [], "reference": []}
        for _ in range(options.rounds):
            for way, rows in found.items():
                command = [sys.executable, __file__, *sys.argv[1:], "--way", way, "--stage", stage]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                rows.append(json.loads(done.stdout.splitlines()[-1]))
        means = {w: {k: float(np.median([r[k] for r in rows])) for k in rows[0]} for w, rows in found.items()}
        for way, row in means.items():
            used = f", {row['utilisation']:.0%} of the hardware" if "utilisation" in row else ""
            print(
                f"{stage}, {way}: {row['seconds']:.2f} s a step, {1 / row['seconds']:.2f} a second, "
                f"peak {row['gigabytes']:.2f} GB, {row['tflop']:.2f} TFLOP a step{used}"
            )
        ratios = {k: means["reference"][k] / means["ours"][k] for k in ("seconds", "gigabytes")}
        print(
            f"{stage}: {ratios['seconds']:.1f} times as fast, {1 / ratios['gigabytes']:.2f} of the memory", flush=True
        )


if __name__ == "__main__":
    main()
