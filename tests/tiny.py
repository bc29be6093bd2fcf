"""A tiny Stable Diffusion of random weights (16 pixels, 8 x 8 latents, 4 x 4 maps) and pairs for it, in memory."""

import copy
import os
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from magictailor import personalize
from magictailor.backbones.stable_diffusion import StableDiffusion
from magictailor.common.events import Progress
from magictailor.data import Pair, ReferenceImage, Sample
from magictailor.methods import METHODS
from magictailor.methods.base_defaults import BaseDefaults
from magictailor.recipe import Recipe, with_settings
from magictailor.training import loop
from magictailor.training.momentum import Momentum
from magictailor.training.setup import Training, build
from magictailor.training.step import train_step
from magictailor.weights import EMBEDDED

SIZE, MAPS = 16, 4
DEFAULTS = BaseDefaults(steps=(2, 2), lr=(1e-3, 1e-4), rank=4, guidance=3.0, sampling_steps=3)
PREDICTIONS = ("epsilon", "v_prediction")
LABELS = ("person", "hair", "hat")
SCHEDULE = {
    "steps_offset": 1,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
}


class Result(NamedTuple):
    """Of a command: its exit code and what it printed."""

    code: int
    out: str
    err: str


Call = Callable[..., Result]


def _unet(**changes: Any) -> UNet2DConditionModel:
    blocks = {"down_block_types": ("CrossAttnDownBlock2D",) * 2, "up_block_types": ("CrossAttnUpBlock2D",) * 2}
    sizes = {"block_out_channels": (16, 32), "layers_per_block": 1, "attention_head_dim": 2, "norm_num_groups": 8}
    shape = {**blocks, **sizes, "cross_attention_dim": 16, "use_linear_projection": True, **changes}
    return UNet2DConditionModel(sample_size=SIZE // 2, **shape)


def vae_config() -> dict[str, Any]:
    return {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 16),
        "latent_channels": 4,
        "norm_num_groups": 4,
        "sample_size": SIZE,
    }


def _vae() -> AutoencoderKL:
    return AutoencoderKL(**vae_config())


def _tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(EMBEDDED / "tokenizer")


def _text_config(tokenizer: CLIPTokenizer, **changes: Any) -> CLIPTextConfig:
    ends = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape = {**sizes, **ends, "max_position_embeddings": tokenizer.model_max_length, **changes}
    return CLIPTextConfig(vocab_size=len(tokenizer), **shape)


def _stable_diffusion(unet: UNet2DConditionModel, prediction: str = "epsilon") -> StableDiffusionPipeline:
    tokenizer = _tokenizer()
    return StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(tokenizer)),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(prediction_type=prediction, **SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@cache
def _pipeline(prediction: str) -> StableDiffusionPipeline:
    torch.manual_seed(0)
    return _stable_diffusion(_unet(), prediction)


def sd1() -> StableDiffusionPipeline:
    """As Stable Diffusion 1 is built: projections are convolutions, two layers a block, the last without attention."""
    torch.manual_seed(0)
    blocks = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    return _stable_diffusion(_unet(**blocks, layers_per_block=2, use_linear_projection=False))


def sdxl() -> StableDiffusionXLPipeline:
    """As SDXL is built: two encoders with a pooled vector, sizes, a first block without attention, deep transformers.

    Its second encoder's configuration is wrong about the end of a text, as SDXL's is.
    """
    torch.manual_seed(0)
    tokenizer, second = _tokenizer(), _tokenizer()
    config = _text_config(tokenizer, hidden_act="gelu", projection_dim=24, hidden_size=24, eos_token_id=2)
    unet = _unet(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        layers_per_block=2,
        cross_attention_dim=16 + 24,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 24,
    )
    return StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(tokenizer)),
        text_encoder_2=CLIPTextModelWithProjection(config),
        tokenizer=tokenizer,
        tokenizer_2=second,
        unet=unet,
        scheduler=DDIMScheduler(**SCHEDULE),
        add_watermarker=False,
    )


FAMILIES: dict[str, Callable[[], Any]] = {"sd1": sd1, "sdxl": sdxl}


def pipeline(prediction: str = "epsilon") -> StableDiffusionPipeline:
    """A new copy each time."""
    own = _pipeline(prediction)
    return StableDiffusionPipeline(
        **{k: copy.deepcopy(v) for k, v in own.components.items()}, requires_safety_checker=False
    )


def backbone(prediction: str = "epsilon", name: str = "tiny") -> StableDiffusion:
    return StableDiffusion(name, pipeline(prediction), map_side=MAPS)


def reference(number: int, share: float = 0.5, skew: int = 0) -> ReferenceImage:
    """A noise image; its mask is the upper ``share``, without ``skew`` columns on the left."""
    pixels = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[: round(SIZE * share), skew:] = 255
    return ReferenceImage.of(Path(f"image-{number}.png"), Image.fromarray(pixels), Image.fromarray(mask))


def pair(
    counts: Sequence[int] = (1, 1), shares: Sequence[float] = (0.75, 0.25, 0.5), start: int = 0, skew: int = 0
) -> Pair:
    """``counts``: images of each sample."""
    numbers = iter(range(start, 1000))
    samples = [
        Sample(label, f"<{label}>", tuple(reference(next(numbers), share, skew) for _ in range(count)))
        for label, count, share in zip(LABELS, counts, shares)
    ]
    return Pair("tiny", tuple(samples))


def train(*args: Any, **options: Any) -> Path:
    """The folder of `personalize`'s run."""
    return personalize(*args, **options).folder


def recipe(*settings: str, method: str = "magictailor") -> Recipe:
    return with_settings(METHODS[method](DEFAULTS), ["sampling.preview_every=0", *settings])


def short(method: str, *settings: str) -> Recipe:
    """A method's recipe with two steps a phase and two prior images, at rates that move something in so few."""
    made = METHODS[method](DEFAULTS)
    steps = [f"phases.{i}.steps=2" for i in range(len(made.phases))]
    rates = [f"phases.{i}.lr=1e-3" for i in range(len(made.phases))]
    few = ["loss.prior.images=2"] if made.loss.prior else []
    base = ["sampling.base_steps=1"] if made.sampling.base_steps or "clic" in method else []
    return with_settings(made, ["sampling.preview_every=0", *steps, *rates, *few, *base, *settings])


def advance(training: Training) -> dict[str, float]:
    """One step, as the loop takes it."""
    with training.objective.reading_attention():
        return loop.advance(training)


def backward(training: Training, step: int, momentum: Momentum | None = None) -> dict[str, float]:
    """Set the gradients of a step; its losses."""
    with training.objective.reading_attention():
        losses = train_step(training.objective, step, momentum)
    return training.objective.to_numbers(training.recipe.phase(step), losses)


class Rig:
    """A run without a folder, its LoRA moved off the zero start."""

    def __init__(self, recipe: Recipe, pair: Pair, prediction: str = "epsilon") -> None:
        self.recipe, self.backbone = recipe, backbone(prediction)
        self.training = build(pair, recipe, self.backbone)
        self.trained, self.examples = self.training.trained, self.training.examples
        self.objective, self.online = self.training.objective, self.training.trained.online
        self.scatter(1)

    def backward(self, step: int, momentum: Momentum | None = None) -> dict[str, float]:
        return backward(self.training, step, momentum)

    def scatter(self, seed: int, scale: float = 0.05) -> None:
        """Move LoRA off its zero start, where half of the gradients vanish."""
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.online.values():
                parameter.add_(scale * torch.randn(parameter.shape, generator=random))

    def momentum(self) -> Momentum:
        """The momentum network as the weights are now."""
        return Momentum(self.online)

    def gradients(self) -> dict[str, torch.Tensor]:
        return {n: p.grad.clone() for n, p in self.trained.named().items() if p.grad is not None}


def base_weights(base: Any, rows: int) -> dict[str, torch.Tensor]:
    """All of the base's own weights by their plain names; the embedding's first ``rows`` rows."""
    out = {}
    for part in ("unet", "vae", "text_encoder"):
        for name, value in getattr(base.pipeline, part).state_dict().items():
            if "lora_" not in name:
                value = value[:rows] if "token_embedding" in name else value
                out[f"{part}.{name.replace('.base_layer', '')}"] = value.clone()
    return out


def in_child(work: Callable[[], object]) -> int:
    """Run in a forked process; the signal that ended it as a negative number, or its exit code."""
    process = os.fork()
    if process == 0:
        code = 0
        try:
            work()
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
            code = 99
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


class _Stop(Exception):
    pass


def interrupted_and_resumed(folder: Path, opened: Callable[[], Any], at: int, plan: Recipe | None = None) -> Path:
    """A run that stopped after step ``at`` (each step is a checkpoint, if the caller says so), and went on."""

    def stop(event: object) -> None:
        if isinstance(event, Progress) and event.done == at:
            raise _Stop

    with suppress(_Stop):
        train(pair(), folder, model=opened(), recipe=plan or recipe(), listen=stop)
        raise AssertionError("it never came to that step")
    return train(pair(), folder, model=opened(), recipe=plan or recipe())


PROMPT = "<person> with <hair>, on the beach"


def opened(folder: Path) -> Any:
    """A folder's pipeline, by plain diffusers."""
    return DiffusionPipeline.from_pretrained(folder, local_files_only=True)


def drawn(pipeline: Any) -> np.ndarray:
    """What plain diffusers generates of PROMPT with seed 9, [H, W, 3]."""
    pipeline.set_progress_bar_config(disable=True)
    random = torch.Generator().manual_seed(9)
    return np.asarray(pipeline(PROMPT, num_inference_steps=3, guidance_scale=3.0, generator=random).images[0], int)
