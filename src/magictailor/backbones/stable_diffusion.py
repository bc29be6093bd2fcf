"""Stable Diffusion 1.x / 2.x and the embedded base: one text encoder, a U-Net, epsilon or v prediction."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from diffusers import DDIMScheduler, DiffusionPipeline
from torch import Tensor

from magictailor.backbones.conditions import Condition
from magictailor.backbones.contract import Blocks
from magictailor.backbones.families import sd_family
from magictailor.backbones.latents import Scaled
from magictailor.backbones.lora import LoRAKeys, UNetLoRAKeys
from magictailor.backbones.pipeline_backbone import PipelineBackbone
from magictailor.backbones.process import Diffusion
from magictailor.backbones.runtime import CPU, Runtime
from magictailor.backbones.words import ClipWords
from magictailor.common.errors import InputError
from magictailor.common.tensors import to_device
from magictailor.recipe import Kind

ENCODER = "clip"
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.2")
MAP_FRACTION, MAP_SIDE = 32, 16  # the paper's maps are 16 x 16 at 512 pixels; a small base's should not be smaller


class StableDiffusion(PipelineBackbone):
    """Wraps a `StableDiffusionPipeline`."""

    denoiser_part = "unet"
    encoders: Mapping[str, tuple[str, str]] = {ENCODER: ("text_encoder", "tokenizer")}
    blocks = (".attentions.",)
    sampled_as: Literal["latent", "pt"] = "latent"
    emphasizes = True
    _words: ClipWords

    def __init__(
        self, name: str, pipeline: DiffusionPipeline, map_side: int | None = None, runtime: Runtime | None = CPU
    ) -> None:
        """``runtime``: None leaves the networks where they are until `to`."""
        super().__init__(name, pipeline)
        if not isinstance(self.pipeline.unet.config.sample_size, int) or self.pipeline.unet.config.sample_size < 1:
            raise InputError(
                f"{name}: its U-Net has no square size (sample_size in unet/config.json)",
                "choose another model",
                field="model",
            )
        self._words = ClipWords(name, self.text_encoders, self.tokenizers)
        self.codec = Scaled(self.autoencoder)
        self.size = self.pipeline.unet.config.sample_size * self.codec.factor
        self._map_side = map_side or self._nearest_map_side()
        # Latents are not pixels: DDIM clips unless it is told not to, and other schedulers' configurations do not say.
        clipped = bool(self.pipeline.scheduler.config.get("clip_sample", False))
        self._schedule = DDIMScheduler.from_config(self.pipeline.scheduler.config, clip_sample=clipped)
        self.process, self.pipeline.scheduler = Diffusion(self._schedule), self._schedule
        if runtime is not None:
            self.to(runtime)

    def _missing(self) -> list[str]:
        missing = super()._missing()
        if not missing and not ClipWords(self.name, self.text_encoders, self.tokenizers).fit_together():
            missing = ["a tokenizer that fits its text encoder"]
        if not missing and "beta_schedule" not in self.pipeline.scheduler.config:
            missing = ["a noise schedule with betas"]
        return missing

    # --- what it is

    @property
    def family(self) -> str:
        config = self.pipeline.text_encoder.config
        return sd_family(config.vocab_size, config.hidden_act, self._schedule.config.prediction_type)

    @property
    def noise_schedule(self) -> Mapping[str, Any]:
        return dict(self._schedule.config)

    @property
    def lora_keys(self) -> LoRAKeys:
        return UNetLoRAKeys(int(self.pipeline.unet.config.layers_per_block), sgm=self.family == "sdxl")

    @property
    def lora_targets(self) -> Sequence[str]:
        return LORA_TARGETS

    # --- text

    def encode_text(self, prompts: Sequence[str], words: Sequence[str] = ()) -> Condition:
        ids = self._words.token_ids(ENCODER, prompts)
        with self.on_device("text"), self._autocast():
            sequence = self.pipeline.text_encoder(to_device(ids, self.device)).last_hidden_state
        return Condition({"sequence": sequence}, self._words.spans(ENCODER, ids, words))

    @property
    def trainable(self) -> frozenset[Kind]:
        return frozenset(get_args(Kind))

    # --- images

    def use_size(self, size: int) -> None:
        if size != self.size:
            raise InputError(f"{size}: {self.name} is trained at {self.size} pixels", "leave it out", field="data.size")

    def pipeline_inputs(self, prompts: Sequence[str], guidance: float) -> dict[str, Any]:
        return {"prompt": list(prompts)} | self.guidance_inputs(guidance)

    def pixels_of(self, sampled: Tensor) -> Tensor:
        return self.decode_latents(sampled)

    # --- prediction

    def _inputs(self, noisy: Tensor, times: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        return {"sample": noisy, "timestep": times, **self._text_inputs(tensors)}

    def _text_inputs(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        return {"encoder_hidden_states": tensors["sequence"]}

    # --- attention

    def _map_sides(self) -> dict[int, int]:
        """The side of the cross-attention maps of each block on the way down that has some."""
        config, side = self.pipeline.unet.config, self.size // self.codec.factor
        return {i: side >> i for i, kind in enumerate(config.down_block_types) if "CrossAttn" in kind}

    def _nearest_map_side(self) -> int:
        wanted, sides = max(MAP_SIDE, self.size // MAP_FRACTION), self._map_sides().values()
        if not sides:
            raise InputError(
                f"{self.name}: its U-Net's blocks have no cross-attention", "choose another model", field="model"
            )
        return min(sides, key=lambda side: max(side / wanted, wanted / side))

    def attention_layers(self, blocks: Blocks) -> list[str]:
        """Names of the cross-attention layers whose maps have the wanted side: block i of the way down halves it i times."""
        if isinstance(blocks, tuple):
            raise InputError(
                f"{self.name}: a U-Net's blocks have no numbers", "choose all or up", field="attention.blocks"
            )
        depth = next((i for i, side in self._map_sides().items() if side == self._map_side), None)
        if depth is None:
            raise InputError(
                f"{self.name}: no attention maps of {self._map_side} x {self._map_side}",
                "choose another model",
                field="model",
            )
        mirrored = len(self.pipeline.unet.config.block_out_channels) - 1 - depth
        prefixes = (f"down_blocks.{depth}.", f"up_blocks.{mirrored}.")[blocks == "up" :]
        return [n for n, _ in self.denoiser.named_modules() if n.endswith("attn2") and n.startswith(prefixes)]

    @property
    def _latents_per_map(self) -> int:
        return self.size // self.codec.factor // self._map_side

    def _decode_in_tiles(self) -> None:
        super()._decode_in_tiles()
        vae = self.autoencoder
        vae.tile_sample_min_size, vae.tile_latent_min_size = self.size // 2, self.size // self.codec.factor // 2
