"""Stable Diffusion 1.x / 2.x and the embedded base: one text encoder, a U-Net, epsilon or v prediction."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from torch import Tensor, nn
from torch.func import functional_call

from magictailor.backbones.contract import Backbone, Condition, Defaults, WordVectors
from magictailor.errors import InputError

ENCODER = "clip"
CLIP_WORDS = 49_408
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.2")
MAP_FRACTION, MAP_SIDE = 32, 16  # the paper's maps are 16 x 16 at 512 pixels; a small base's are not smaller


class StableDiffusion(Backbone):
    """Wraps a `StableDiffusionPipeline`; all its weights are frozen."""

    def __init__(self, name: str, pipeline: StableDiffusionPipeline, defaults: Defaults, map_side: int | None = None):
        self.name, self.defaults = name, defaults
        self.pipeline: Any = pipeline
        lacking = [n for n in ("unet", "vae", "text_encoder", "tokenizer") if getattr(pipeline, n, None) is None]
        if not lacking:
            rows, words = len(pipeline.text_encoder.get_input_embeddings().weight), len(pipeline.tokenizer)
            lacking = [] if rows // 2 < words <= rows else ["a tokenizer that fits its text encoder"]
        if lacking or "beta_schedule" not in pipeline.scheduler.config:
            what = ", ".join(lacking) or "a noise schedule with betas"
            raise InputError(f"{name}: not a Stable Diffusion 1.x / 2.x base (it lacks {what}); choose another")
        if not isinstance(pipeline.unet.config.sample_size, int) or pipeline.unet.config.sample_size < 1:
            raise InputError(
                f"{name}: its U-Net names no square size (sample_size in unet/config.json); choose another"
            )
        self.factor = 2 ** (len(pipeline.vae.config.block_out_channels) - 1)
        self.size = pipeline.unet.config.sample_size * self.factor
        self.map_side = map_side or min(self.size // self.factor, max(MAP_SIDE, self.size // MAP_FRACTION))
        self.schedule = pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)  # previews too
        for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
            part.requires_grad_(False).eval()
        self._scale = float(pipeline.vae.config.scaling_factor)
        self._shift = float(pipeline.vae.config.shift_factor or 0.0)

    @property
    def family(self) -> str:
        """Told by the text encoder: CLIP's vocabulary has 49,408 words, and SD 2's encoder another activation."""
        config = self.pipeline.text_encoder.config
        if config.vocab_size < CLIP_WORDS // 2:
            return "embedded"
        if config.hidden_act == "quick_gelu":
            return "sd1"
        return "sd2-v" if self.schedule.config.prediction_type == "v_prediction" else "sd2"

    @property
    def denoiser(self) -> nn.Module:
        return self.pipeline.unet

    @property
    def text_encoders(self) -> Mapping[str, nn.Module]:
        return {ENCODER: self.pipeline.text_encoder}

    @property
    def lora_targets(self) -> Sequence[str]:
        return LORA_TARGETS

    @property
    def attention_layers(self) -> Sequence[str]:
        """Down and up blocks whose maps have the wanted side: block i of the way down halves it i times."""
        side, levels = self.size // self.factor, len(self.pipeline.unet.config.block_out_channels)
        depth = next((i for i in range(levels) if side >> i == self.map_side), None)
        if depth is None:
            raise InputError(
                f"{self.name}: no attention maps of {self.map_side} x {self.map_side}; choose another base"
            )
        blocks = (f"down_blocks.{depth}.", f"up_blocks.{levels - 1 - depth}.")
        names = [n for n, _ in self.denoiser.named_modules() if n.endswith("attn2") and n.startswith(blocks)]
        assert names, "a level of the maps' size has cross-attention"
        return names

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    def add_words(self, labels: Mapping[str, str]) -> dict[str, WordVectors]:
        tokenizer, encoder = self.pipeline.tokenizer, self.pipeline.text_encoder
        known = [w for w in labels if w in tokenizer.get_vocab()]
        if known:
            raise InputError(f"{known[0]} is already a word of {self.name}; choose another pseudo-word")
        starts = {}
        matrix = encoder.get_input_embeddings().weight.detach()
        for word, label in labels.items():
            ids = tokenizer(label, add_special_tokens=False).input_ids
            starts[word] = {ENCODER: matrix[ids].mean(0, keepdim=True).clone()}
        tokenizer.add_tokens(list(labels))
        encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        encoder.requires_grad_(False)
        rows = encoder.get_input_embeddings().weight
        for word in labels:
            rows.data[tokenizer.convert_tokens_to_ids(word)] = starts[word][ENCODER][0]
        return starts

    def encode_text(self, prompts: Sequence[str], words: Sequence[str] = ()) -> Condition:
        tokenizer = self.pipeline.tokenizer
        ids = tokenizer(
            list(prompts),
            padding="max_length",
            truncation=True,
            max_length=tokenizer.model_max_length,
            return_tensors="pt",
        ).input_ids.to(self.device)
        numbers = {w: tokenizer.convert_tokens_to_ids(w) for w in words}
        places = [{w: {ENCODER: (row == n).nonzero()[:, 0].tolist()} for w, n in numbers.items()} for row in ids]
        return Condition(self.pipeline.text_encoder(ids).last_hidden_state, positions=places)

    def encode_images(self, pixels: Tensor, noise: Tensor) -> Tensor:
        posterior = self.pipeline.vae.encode(pixels).latent_dist
        return (posterior.mean + posterior.std * noise - self._shift) * self._scale

    def decode_latents(self, latents: Tensor) -> Tensor:
        return self.pipeline.vae.decode(latents / self._scale + self._shift).sample

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        return self.pipeline.unet.config.in_channels, height // self.factor, width // self.factor

    def timesteps(self, uniform: Tensor) -> Tensor:
        count = self.schedule.config.num_train_timesteps
        return (uniform * count).long().clamp(max=count - 1)  # a number just below 1 may have been rounded to 1

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return self.schedule.add_noise(latents, noise, timesteps)

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        if self.schedule.config.prediction_type == "v_prediction":
            return self.schedule.get_velocity(latents, noise, timesteps)
        return noise

    def predict(
        self, noisy: Tensor, timesteps: Tensor, condition: Condition, weights: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        inputs = (noisy, timesteps, condition.sequence)
        out: Any = functional_call(self.denoiser, dict(weights or {}), inputs)
        return out.sample

    def enable_checkpointing(self) -> None:
        self.pipeline.unet.enable_gradient_checkpointing()
        self.pipeline.unet.train()  # diffusers checkpoints in training mode alone; there is no dropout
