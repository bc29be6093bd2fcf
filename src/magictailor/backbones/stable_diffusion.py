"""Stable Diffusion 1.x / 2.x and the embedded base: one text encoder, a U-Net, epsilon or v prediction."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from torch import Tensor, nn
from torch.func import functional_call

from magictailor.backbones.contract import Backbone, Condition, Defaults, Part, WordVectors
from magictailor.backbones.placement import ON_CPU, Placement
from magictailor.backbones.quantized import quantize
from magictailor.common.errors import InputError

ENCODER = "clip"
CLIP_WORDS = 49_408
COMPILER = "inductor"
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.2")
LARGE = 512  # pixels
MAP_FRACTION, MAP_SIDE = 32, 16  # the paper's maps are 16 x 16 at 512 pixels; a small base's should not be smaller


def _moved(home: Tensor, device: torch.device) -> Tensor:
    return home.to(device)


class StableDiffusion(Backbone):
    """Wraps a `StableDiffusionPipeline`; all its weights are frozen."""

    encoders: Mapping[str, tuple[str, str]] = {ENCODER: ("text_encoder", "tokenizer")}  # in the pipeline, by our name

    def __init__(
        self,
        name: str,
        pipeline: DiffusionPipeline,
        defaults: Defaults,
        map_side: int | None = None,
        place: Placement | None = ON_CPU,
    ) -> None:
        """``place``: None leaves the networks where and as they are until `put`."""
        self.name, self.defaults, self._present = name, defaults, set[Part]()
        self.pipeline: Any = pipeline
        parts = ("unet", "vae", *(part for both in self.encoders.values() for part in both))
        lacking = [n for n in parts if getattr(pipeline, n, None) is None]
        if not lacking and not all(self._fits(e) for e in self.encoders):
            lacking = ["a tokenizer that fits its text encoder"]
        if lacking or "beta_schedule" not in pipeline.scheduler.config:
            what = ", ".join(lacking) or "a noise schedule with betas"
            raise InputError(f"{name}: not a whole Stable Diffusion base (it lacks {what}); choose another")
        if not isinstance(pipeline.unet.config.sample_size, int) or pipeline.unet.config.sample_size < 1:
            raise InputError(
                f"{name}: its U-Net names no square size (sample_size in unet/config.json); choose another"
            )
        self.factor = 2 ** (len(pipeline.vae.config.block_out_channels) - 1)
        self.size = pipeline.unet.config.sample_size * self.factor
        self.map_side = map_side or self._nearest_map_side()
        # Latents are not pixels: DDIM clips unless it is told not to, and other schedulers' configurations do not say.
        clipped = bool(pipeline.scheduler.config.get("clip_sample", False))
        self.schedule = pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=clipped)
        for part in (pipeline.unet, pipeline.vae, *self.text_encoders.values()):
            part.requires_grad_(False).eval()
        if self.size >= LARGE:  # one picture at a time: a batch's activations would be the peak of the whole run
            pipeline.vae.enable_slicing()
        self._scale = float(pipeline.vae.config.scaling_factor)
        self._shift = float(pipeline.vae.config.shift_factor or 0.0)
        if place is not None:
            self.put(place)

    def put(self, place: Placement) -> None:
        self.place, vae = place, self.pipeline.vae
        if place.bits is not None:
            quantize(self.pipeline.unet, place.bits, place.dtype)
        self.pipeline.unet.to(place.device, place.dtype)
        waiting = torch.device("cpu") if place.preset.offload else place.device
        for encoder in self.text_encoders.values():
            encoder.to(waiting, place.dtype)
        careful = place.dtype == torch.float16 and vae.config.force_upcast  # SDXL's overflows there
        vae.to(waiting, torch.float32 if careful else place.dtype)
        if place.device.type == "cpu":  # there its convolutions take a little more than half of the time
            vae.to(memory_format=torch.channels_last)

    @contextmanager
    def present(self, *parts: Part) -> Iterator[None]:
        networks = {"text": tuple(self.text_encoders.values()), "vae": (self.pipeline.vae,)}
        wanted = [part for part in parts if self.place.preset.offload and part not in self._present]
        homes = [
            (tensor, tensor.data)
            for part in wanted
            for network in networks[part]
            for tensor in (*network.parameters(), *network.buffers())
        ]
        self._present.update(wanted)
        for tensor, home in homes:
            tensor.data = _moved(home, self.place.device)
        try:
            yield
        finally:
            self._present.difference_update(wanted)
            for tensor, home in homes:  # frozen: nothing has to be copied back
                tensor.data = home

    def decode_in_tiles(self) -> None:
        vae = self.pipeline.vae
        vae.enable_tiling()
        vae.tile_sample_min_size, vae.tile_latent_min_size = self.size // 2, self.size // self.factor // 2

    @contextmanager
    def drawing(self) -> Iterator[None]:
        with self.present("text", "vae"), self._computing():
            if self.place.preset.tiling:
                self.decode_in_tiles()
            try:
                yield
            finally:
                self.pipeline.vae.disable_tiling()  # what is trained on is encoded whole

    def _map_sides(self) -> dict[int, int]:
        """The side of the cross-attention maps of each block on the way down that has some."""
        config, side = self.pipeline.unet.config, self.size // self.factor
        return {i: side >> i for i, kind in enumerate(config.down_block_types) if "CrossAttn" in kind}

    def _nearest_map_side(self) -> int:
        wanted, sides = max(MAP_SIDE, self.size // MAP_FRACTION), self._map_sides().values()
        if not sides:
            raise InputError(f"{self.name}: its U-Net's blocks have no cross-attention; choose another base")
        return min(sides, key=lambda side: max(side / wanted, wanted / side))

    def _fits(self, encoder: str) -> bool:
        rows, words = len(self._table(encoder)), len(self.tokenizers[encoder])
        return rows // 2 < words <= rows

    def _table(self, encoder: str) -> Tensor:
        """The encoder's token embeddings, [words, dim]."""
        return self.text_encoders[encoder].get_input_embeddings().weight.detach()  # type: ignore[operator]

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
        return dict(self.pipeline.scheduler.config)

    @property
    def layers_per_block(self) -> int:
        return int(self.pipeline.unet.config.layers_per_block)

    @property
    def lora_targets(self) -> Sequence[str]:
        return LORA_TARGETS

    def attention_layers(self, up_alone: bool = False) -> Sequence[str]:
        """Down and up blocks whose maps have the wanted side: block i of the way down halves it i times."""
        depth = next((i for i, side in self._map_sides().items() if side == self.map_side), None)
        if depth is None:
            raise InputError(
                f"{self.name}: no attention maps of {self.map_side} x {self.map_side}; choose another base"
            )
        mirrored = len(self.pipeline.unet.config.block_out_channels) - 1 - depth
        blocks = (f"down_blocks.{depth}.", f"up_blocks.{mirrored}.")[up_alone:]
        return [n for n, _ in self.denoiser.named_modules() if n.endswith("attn2") and n.startswith(blocks)]

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    def add_words(self, labels: Mapping[str, str]) -> dict[str, WordVectors]:
        known = [w for w in labels for tokenizer in self.tokenizers.values() if w in tokenizer.get_vocab()]
        if known:
            raise InputError(f"{known[0]} is already a word of {self.name}; choose another pseudo-word")
        starts: dict[str, WordVectors] = {word: {} for word in labels}
        for name, tokenizer in self.tokenizers.items():
            for word, label in labels.items():
                ids = tokenizer(label, add_special_tokens=False).input_ids
                starts[word][name] = self._table(name)[ids].mean(0, keepdim=True).clone()
            tokenizer.add_tokens(list(labels))
            encoder: Any = self.text_encoders[name]
            encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
            encoder.requires_grad_(False)
        self.set_words(starts)
        return starts

    def set_words(self, vectors: Mapping[str, WordVectors]) -> None:
        for word, by_encoder in vectors.items():
            for name, rows in by_encoder.items():
                self._table(name)[self.tokenizers[name].convert_tokens_to_ids(word)] = rows[0]

    def _token_ids(self, encoder: str, prompts: Sequence[str]) -> Tensor:
        """[N, L], padded."""
        tokenizer = self.tokenizers[encoder]
        length = tokenizer.model_max_length
        out = tokenizer(list(prompts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        ids: Tensor = out.input_ids.to(self.device)
        return ids

    def _places(self, ids: Mapping[str, Tensor], words: Sequence[str]) -> list[dict[str, dict[str, list[int]]]]:
        """For each prompt, where each word's tokens are, by encoder."""
        numbers = {e: {w: self.tokenizers[e].convert_tokens_to_ids(w) for w in words} for e in ids}
        count = len(next(iter(ids.values())))
        return [
            {w: {e: (ids[e][i] == numbers[e][w]).nonzero()[:, 0].tolist() for e in ids} for w in words}
            for i in range(count)
        ]

    def encode_text(self, prompts: Sequence[str], words: Sequence[str] = ()) -> Condition:
        ids = self._token_ids(ENCODER, prompts)
        with self.present("text"), self._computing():
            sequence = self.pipeline.text_encoder(ids).last_hidden_state
        return Condition(sequence, positions=self._places({ENCODER: ids}, words))

    def encode_images(self, pixels: Tensor, noise: Tensor) -> Tensor:
        with self.present("vae"):
            posterior = self.pipeline.vae.encode(pixels.to(self.pipeline.vae.dtype)).latent_dist
        return (posterior.mean.float() + posterior.std.float() * noise - self._shift) * self._scale

    def decode_latents(self, latents: Tensor) -> Tensor:
        scaled = (latents / self._scale + self._shift).to(self.pipeline.vae.dtype)
        with self.present("vae"):
            return self.pipeline.vae.decode(scaled).sample.float()

    def _computing(self) -> torch.autocast:
        """Inside, weights that are kept in full are computed with in half."""
        return torch.autocast(self.device.type, self.place.dtype, enabled=self.mixed)

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
        inputs = (noisy.to(self.place.dtype), timesteps, condition.sequence)
        with self._computing():
            if weights is None:
                out: Any = self.denoiser(*inputs, **self._added(condition))
            else:
                out = functional_call(self.denoiser, dict(weights), inputs, self._added(condition), tie_weights=False)
        return out.sample.float()

    def _added(self, condition: Condition) -> dict[str, Any]:
        """What else the U-Net's forward takes, by argument."""
        return {}

    def compile(self) -> None:
        try:
            torch.compile(torch.neg, backend=COMPILER)(torch.zeros(1, device=self.device))
        except Exception as error:  # no compiler, or none that works: the library raises nearly anything
            reason = " ".join(str(error).split())[:160]
            raise InputError(f"--compile: no compiler that works here ({reason}); leave it out") from error
        self.pipeline.unet.compile_repeated_blocks(backend=COMPILER)

    def enable_checkpointing(self) -> None:
        self.pipeline.unet.enable_gradient_checkpointing()
        self.pipeline.unet.train()  # diffusers checkpoints in training mode alone; there is no dropout
