"""Stable Diffusion 1.x / 2.x and the embedded base: one text encoder, a U-Net, epsilon or v prediction."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from magictailor.backbones.attention import AttentionReader, word_weights
from magictailor.backbones.contract import Backbone, Blocks, Component, Condition, Prediction, WordVectors
from magictailor.backbones.quantized import quantize
from magictailor.backbones.runtime import CPU, Runtime
from magictailor.backbones.words import ClipWords
from magictailor.common.errors import InputError

ENCODER = "clip"
CLIP_VOCABULARY = 49_408
COMPILER = "inductor"
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.2")
LARGE = 512  # pixels
MAP_FRACTION, MAP_SIDE = 32, 16  # the paper's maps are 16 x 16 at 512 pixels; a small base's should not be smaller


class StableDiffusion(Backbone):
    """Wraps a `StableDiffusionPipeline`; all its weights are frozen."""

    encoders: Mapping[str, tuple[str, str]] = {ENCODER: ("text_encoder", "tokenizer")}  # in the pipeline, by our name

    def __init__(
        self, name: str, pipeline: DiffusionPipeline, map_side: int | None = None, runtime: Runtime | None = CPU
    ) -> None:
        """``runtime``: None leaves the networks where they are until `to`."""
        self.name, self._loaded = name, set[Component]()
        self._reader: AttentionReader | None = None
        self._offloads_itself = False
        self.pipeline: Any = pipeline
        self._check_components()
        self._words = ClipWords(name, self.text_encoders, self.tokenizers)
        self.factor = 2 ** (len(pipeline.vae.config.block_out_channels) - 1)  # pixels per latent
        self.size = pipeline.unet.config.sample_size * self.factor
        self._map_side = map_side or self._nearest_map_side()
        # Latents are not pixels: DDIM clips unless it is told not to, and other schedulers' configurations do not say.
        clipped = bool(pipeline.scheduler.config.get("clip_sample", False))
        self._schedule = pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=clipped)
        for network in self.networks.values():
            network.requires_grad_(False).eval()
        if self.size >= LARGE:  # one image at a time: a batch's activations would be the peak of the whole run
            self.autoencoder.enable_slicing()
        self._scale = float(pipeline.vae.config.scaling_factor)
        self._shift = float(pipeline.vae.config.shift_factor or 0.0)
        if runtime is not None:
            self.to(runtime)

    def _check_components(self) -> None:
        pipeline = self.pipeline
        names = ("unet", "vae", *(component for both in self.encoders.values() for component in both))
        missing = [n for n in names if getattr(pipeline, n, None) is None]
        if not missing and not ClipWords(self.name, self.text_encoders, self.tokenizers).fit_together():
            missing = ["a tokenizer that fits its text encoder"]
        if not missing and "beta_schedule" not in pipeline.scheduler.config:
            missing = ["a noise schedule with betas"]
        if missing:
            raise InputError(
                f"{self.name}: not a complete Stable Diffusion base ({', '.join(missing)} missing)", "choose another"
            )
        if not isinstance(pipeline.unet.config.sample_size, int) or pipeline.unet.config.sample_size < 1:
            raise InputError(
                f"{self.name}: its U-Net has no square size (sample_size in unet/config.json)", "choose another"
            )

    # --- what it is

    @property
    def family(self) -> str:
        """By the text encoder: CLIP's vocabulary has 49,408 words, and SD 2's encoder has another activation."""
        config = self.pipeline.text_encoder.config
        if config.vocab_size < CLIP_VOCABULARY // 2:
            return "embedded"
        if config.hidden_act == "quick_gelu":
            return "sd1"
        return "sd2-v" if self._schedule.config.prediction_type == "v_prediction" else "sd2"

    @property
    def denoiser(self) -> nn.Module:
        return self.pipeline.unet

    @property
    def autoencoder(self) -> Any:
        return self.pipeline.vae

    @property
    def text_encoders(self) -> Mapping[str, nn.Module]:
        return {name: getattr(self.pipeline, encoder) for name, (encoder, _) in self.encoders.items()}

    @property
    def tokenizers(self) -> Mapping[str, Any]:
        return {name: getattr(self.pipeline, tokenizer) for name, (_, tokenizer) in self.encoders.items()}

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        names = ("unet", "vae", *(encoder for encoder, _ in self.encoders.values()))
        return {name: getattr(self.pipeline, name) for name in names}

    @property
    def noise_schedule(self) -> Mapping[str, Any]:
        return dict(self._schedule.config)

    @property
    def layers_per_block(self) -> int:
        return int(self.pipeline.unet.config.layers_per_block)

    @property
    def lora_targets(self) -> Sequence[str]:
        return LORA_TARGETS

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    # --- words and text

    def add_words(self, texts: Mapping[str, str]) -> dict[str, WordVectors]:
        return self._words.add(texts)

    def set_words(self, vectors: Mapping[str, WordVectors]) -> None:
        self._words.set(vectors)

    def encode_text(self, prompts: Sequence[str], words: Sequence[str] = ()) -> Condition:
        ids = self._words.token_ids(ENCODER, prompts)
        with self.on_device("text"), self._autocast():
            sequence = self.pipeline.text_encoder(ids.to(self.device)).last_hidden_state
        return Condition({"sequence": sequence}, self._words.spans(ENCODER, ids, words))

    # --- latents

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        return self.pipeline.unet.config.in_channels, height // self.factor, width // self.factor

    def encode_images(self, pixels: Tensor, noise: Tensor) -> Tensor:
        with self.on_device("vae"):
            posterior = self.autoencoder.encode(pixels.to(self.autoencoder.dtype)).latent_dist
        return (posterior.mean.float() + posterior.std.float() * noise - self._shift) * self._scale

    def decode_latents(self, latents: Tensor) -> Tensor:
        vae = self.autoencoder
        overflows = vae.dtype == torch.float16 and vae.config.force_upcast  # SDXL's, in a pipeline of one precision
        with self.on_device("vae"), torch.autocast(self.device.type, enabled=False):
            if overflows:
                vae.float()
            pixels: Tensor = vae.decode((latents / self._scale + self._shift).to(vae.dtype)).sample.float()
            if overflows:
                vae.half()
        return pixels

    # --- the diffusion process

    def times(self, uniform: Tensor) -> Tensor:
        count = self._schedule.config.num_train_timesteps
        return (uniform * count).long().clamp(max=count - 1)  # a number just below 1 may have been rounded to 1

    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        return self._schedule.add_noise(latents, noise, times)

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        if self._schedule.config.prediction_type == "v_prediction":
            return self._schedule.get_velocity(latents, noise, times)
        return noise

    def predict(
        self,
        noisy: Tensor,
        time: Tensor,
        condition: Condition,
        *,
        attend: Sequence[Sequence[str]] | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Prediction:
        sequence = condition.tensors["sequence"]
        inputs, more = (noisy.to(self.runtime.dtype), time, sequence), self._more_inputs(condition)

        def forward() -> Tensor:
            with self._autocast():
                if weights is None:
                    return self.denoiser(*inputs, **more).sample
                return functional_call(self.denoiser, dict(weights), inputs, more, tie_weights=False).sample

        if attend is None:
            return Prediction(forward().float())
        assert self._reader is not None, "maps are read inside reading_attention"
        with self._reader.reading(word_weights(condition, attend, sequence.shape[1], sequence.device)) as maps:
            output = forward().float()
        height, width = (side * self._map_side * self.factor // self.size for side in noisy.shape[-2:])
        mean = torch.stack(maps).mean(0)
        return Prediction(output, mean.reshape(*mean.shape[:2], height, width))

    def _more_inputs(self, condition: Condition) -> dict[str, Any]:
        """Further inputs of the U-Net's forward, by argument."""
        return {}

    # --- attention

    def _map_sides(self) -> dict[int, int]:
        """The side of the cross-attention maps of each block on the way down that has some."""
        config, side = self.pipeline.unet.config, self.size // self.factor
        return {i: side >> i for i, kind in enumerate(config.down_block_types) if "CrossAttn" in kind}

    def _nearest_map_side(self) -> int:
        wanted, sides = max(MAP_SIDE, self.size // MAP_FRACTION), self._map_sides().values()
        if not sides:
            raise InputError(f"{self.name}: its U-Net's blocks have no cross-attention", "choose another base")
        return min(sides, key=lambda side: max(side / wanted, wanted / side))

    def attention_layers(self, blocks: Blocks) -> list[str]:
        """Names of the cross-attention layers whose maps have the wanted side: block i of the way down halves it i times."""
        depth = next((i for i, side in self._map_sides().items() if side == self._map_side), None)
        if depth is None:
            raise InputError(
                f"{self.name}: no attention maps of {self._map_side} x {self._map_side}", "choose another base"
            )
        mirrored = len(self.pipeline.unet.config.block_out_channels) - 1 - depth
        prefixes = (f"down_blocks.{depth}.", f"up_blocks.{mirrored}.")[blocks == "up" :]
        return [n for n, _ in self.denoiser.named_modules() if n.endswith("attn2") and n.startswith(prefixes)]

    def map_grid(self, blocks: Blocks) -> tuple[int, int]:
        return self._map_side, self._map_side

    @contextmanager
    def reading_attention(self, blocks: Blocks) -> Iterator[None]:
        self._reader = AttentionReader([self.denoiser.get_submodule(n) for n in self.attention_layers(blocks)])
        try:
            yield
        finally:
            self._reader.close()
            self._reader = None

    # --- where it runs

    def to(self, runtime: Runtime) -> None:
        self.runtime, vae = runtime, self.autoencoder
        if runtime.bits is not None:
            quantize(self.denoiser, runtime.bits, runtime.dtype)
        self.denoiser.to(runtime.device, runtime.dtype)
        home = torch.device("cpu") if runtime.preset.offload else runtime.device
        for encoder in self.text_encoders.values():
            encoder.to(home, runtime.dtype)
        overflows = runtime.dtype == torch.float16 and vae.config.force_upcast  # SDXL's in half precision
        vae.to(home, torch.float32 if overflows else runtime.dtype)
        if runtime.device.type == "cpu":  # there its convolutions take a little more than half of the time
            vae.to(memory_format=torch.channels_last)

    @contextmanager
    def on_device(self, *components: Component) -> Iterator[None]:
        networks = {"text": tuple(self.text_encoders.values()), "vae": (self.autoencoder,)}
        offloads = self.runtime.preset.offload and not self._offloads_itself
        moving = [component for component in components if offloads and component not in self._loaded]
        homes = [
            (tensor, tensor.data)
            for component in moving
            for network in networks[component]
            for tensor in (*network.parameters(), *network.buffers())
        ]
        self._loaded.update(moving)
        for tensor, home in homes:
            tensor.data = _moved(home, self.runtime.device)
        try:
            yield
        finally:
            self._loaded.difference_update(moving)
            for tensor, home in homes:  # frozen: nothing has to be copied back
                tensor.data = home

    def _decode_in_tiles(self) -> None:
        vae = self.autoencoder
        vae.enable_tiling()
        vae.tile_sample_min_size, vae.tile_latent_min_size = self.size // 2, self.size // self.factor // 2

    @contextmanager
    def inference_mode(self) -> Iterator[None]:
        with self.on_device("text", "vae"), self._autocast():
            if self.runtime.preset.tiling:
                self._decode_in_tiles()
            try:
                yield
            finally:
                self.autoencoder.disable_tiling()  # training encodes images whole

    def as_pipeline(self) -> DiffusionPipeline:
        runtime = self.runtime
        if self.autoencoder.dtype != runtime.dtype:
            self.autoencoder.to(runtime.dtype)
        if runtime.preset.tiling:
            self._decode_in_tiles()
        if runtime.preset.offload and runtime.device.type != "cpu" and not self._offloads_itself:
            self._offloads_itself = True
            self.pipeline.enable_model_cpu_offload(device=runtime.device)
        return self.pipeline

    def _autocast(self) -> torch.autocast:
        """Inside, weights that are kept in float32 are computed with in the runtime's precision."""
        return torch.autocast(self.device.type, self.runtime.dtype, enabled=self.autocast)

    def compile(self) -> None:
        try:
            torch.compile(torch.neg, backend=COMPILER)(torch.zeros(1, device=self.device))
        except Exception as error:  # no compiler, or none that works: the library raises nearly anything
            reason = " ".join(str(error).split())[:160]
            raise InputError(f"no compiler that works here ({reason})", "leave it out", field="compiled") from error
        self.pipeline.unet.compile_repeated_blocks(backend=COMPILER)

    def enable_checkpointing(self) -> None:
        self.pipeline.unet.enable_gradient_checkpointing(self._checkpointed)
        self.pipeline.unet.train()  # diffusers checkpoints in training mode alone; there is no dropout

    def _checkpointed(self, layer: Callable[..., Any], *inputs: Any) -> Any:
        again = self._reader.reading_again() if self._reader else nullcontext()
        return checkpoint(layer, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), again))


def _moved(home: Tensor, device: torch.device) -> Tensor:
    return home.to(device)
