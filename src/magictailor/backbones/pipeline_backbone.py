"""What all backbones share that wrap a diffusers pipeline: its networks by name, and where they run."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from magictailor.backbones.attention import CROSS_ATTENTION, AttentionReader, Layout, MapRequest, word_weights
from magictailor.backbones.conditions import Condition, Prediction
from magictailor.backbones.contract import Blocks, Component, Keys, WordVectors
from magictailor.backbones.guidance import Guided
from magictailor.backbones.latents import Codec
from magictailor.backbones.process import NoiseProcess, Schedulers
from magictailor.backbones.quantized import quantize
from magictailor.backbones.runtime import Runtime
from magictailor.backbones.words import ClipWords, TextWords
from magictailor.common.errors import InputError
from magictailor.common.text import reason

COMPILER = "inductor"
LARGE = 512  # pixels


class PipelineBackbone(Guided):
    """Wraps a pipeline; all its weights are frozen.

    A family names its parts: ``denoiser_part``, and for each text encoder (by the name that tools give its embeddings)
    its part and its tokenizer's. ``blocks``: what the names of the denoiser's blocks contain, where most weights are.
    """

    denoiser_part: str
    encoders: Mapping[str, tuple[str, str]]
    blocks: tuple[str, ...]
    codec: Codec
    process: NoiseProcess
    _words: ClipWords | TextWords

    def __init__(self, name: str, pipeline: DiffusionPipeline) -> None:
        self.name, self._loaded = name, set[Component]()
        self.pipeline: Any = pipeline
        self._reader: AttentionReader | None = None
        self._offloads_itself = self._checkpoints = False
        if missing := self._missing():
            raise InputError(
                f"{name}: not a complete {type(pipeline).__name__} ({', '.join(missing)} missing)",
                "choose another model",
                field="model",
            )
        for network in self.networks.values():
            network.requires_grad_(False).eval()

    def _missing(self) -> list[str]:
        """The parts that the pipeline should have and has not."""
        names = (self.denoiser_part, "vae", *(part for both in self.encoders.values() for part in both))
        return [name for name in names if getattr(self.pipeline, name, None) is None]

    # --- its networks

    @property
    def denoiser(self) -> nn.Module:
        return getattr(self.pipeline, self.denoiser_part)

    @property
    def autoencoder(self) -> Any:
        return self.pipeline.vae

    @property
    def text_encoders(self) -> Mapping[str, nn.Module]:
        parts = {name: getattr(self.pipeline, encoder, None) for name, (encoder, _) in self.encoders.items()}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def tokenizers(self) -> Mapping[str, Any]:
        return {name: getattr(self.pipeline, tokenizer) for name, (_, tokenizer) in self.encoders.items()}

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        names = (self.denoiser_part, "vae", *(encoder for encoder, _ in self.encoders.values()))
        parts = {name: getattr(self.pipeline, name, None) for name in names}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    # --- prediction

    @abstractmethod
    def _inputs(self, noisy: Tensor, times: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """The arguments of the denoiser's forward."""

    def _output(self, sample: Any, noisy: Tensor) -> Tensor:
        """The denoiser's output in the latents' shape, as `target` defines it."""
        return sample

    def _layout(self, tokens: int, length: int) -> Layout:
        """Where image and text are in the attention of an image of ``tokens`` and a text of ``length``."""
        return CROSS_ATTENTION

    @property
    @abstractmethod
    def _latents_per_map(self) -> int:
        """Latents for one value of the attention maps that are read, per side."""

    def map_grid(self, blocks: Blocks) -> tuple[int, int]:
        side = self.size // self.codec.factor // self._latents_per_map
        return side, side

    def predict(
        self,
        noisy: Tensor,
        times: Tensor,
        condition: Condition,
        *,
        attend: Sequence[Sequence[str]] | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Prediction:
        dtype = self.runtime.dtype
        tensors = {k: v.to(dtype) if v.is_floating_point() else v for k, v in condition.tensors.items()}
        inputs = self._inputs(noisy.to(dtype), times, tensors)
        if attend is None:
            return Prediction(self._denoise(weights, inputs, noisy))
        assert self._reader is not None, "maps are read inside reading_attention"
        height, width = (side // self._latents_per_map for side in noisy.shape[-2:])
        length = tensors["sequence"].shape[1]
        request = MapRequest(
            word_weights(condition, attend, length, noisy.device), self._layout(height * width, length)
        )
        with self._reader.reading(request) as maps:
            output = self._denoise(weights, inputs, noisy)
        mean = torch.stack(maps).mean(0)
        return Prediction(output, mean.reshape(*mean.shape[:2], height, width))

    def _denoise(self, weights: Mapping[str, Tensor] | None, inputs: dict[str, Any], noisy: Tensor) -> Tensor:
        """The denoiser's forward pass, with ``weights`` in the place of its own of these names."""
        with self._autocast():
            if weights is None:
                sample = self.denoiser(**inputs).sample
            else:
                sample = functional_call(self.denoiser, dict(weights), (), inputs, tie_weights=False).sample
        return self._output(sample, noisy).float()

    # --- words

    def add_words(self, texts: Mapping[str, str]) -> dict[str, WordVectors]:
        return self._words.add(texts)

    def set_words(self, vectors: Mapping[str, WordVectors]) -> None:
        self._words.set(vectors)

    def release_text(self) -> None:
        """Nothing: small text encoders stay."""

    # --- latents and noise

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        return self.codec.shape(height, width)

    def encode_images(self, pixels: Tensor, noise: Tensor) -> Tensor:
        with self.on_device("vae"):
            return self.codec.encode(pixels, noise)

    def decode_latents(self, latents: Tensor) -> Tensor:
        with self.on_device("vae"), torch.autocast(self.device.type, enabled=False):
            return self.codec.decode(latents)

    def times(self, uniform: Tensor) -> Tensor:
        return self.process.times(uniform)

    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        return self.process.add_noise(latents, noise, times)

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        return self.process.target(latents, noise, times)

    def noise_level(self, times: Tensor) -> Tensor:
        return self.process.level(times)

    @property
    def schedulers(self) -> Schedulers:
        return self.process.schedulers

    # --- attention

    @abstractmethod
    def attention_layers(self, blocks: Blocks) -> list[str]:
        """Names of the layers whose maps are read."""

    @contextmanager
    def reading_attention(self, blocks: Blocks, over: Keys = "all") -> Iterator[None]:
        layers = [self.denoiser.get_submodule(name) for name in self.attention_layers(blocks)]
        self._reader = AttentionReader(layers, over)
        try:
            yield
        finally:
            self._reader.close()
            self._reader = None

    # --- where it runs

    def to(self, runtime: Runtime) -> None:
        self.runtime, vae = runtime, self.autoencoder
        if runtime.bits is not None:
            quantize(self.denoiser, runtime.bits, runtime.dtype, self.blocks)
        _to(self.denoiser, runtime.device, runtime.dtype)
        home = torch.device("cpu") if runtime.preset.offload else runtime.device
        for encoder in self.text_encoders.values():
            _to(encoder, home, runtime.dtype)
        _to(vae, home, torch.float32 if self._overflows() else runtime.dtype)
        if runtime.device.type == "cpu" and isinstance(
            vae, AutoencoderKL
        ):  # there its convolutions take most of the time
            vae.to(memory_format=torch.channels_last)

    def _overflows(self) -> bool:
        """Whether the autoencoder has to stay in single precision: SDXL's does where the rest is in half."""
        return self.runtime.dtype == torch.float16 and bool(self.autoencoder.config.get("force_upcast"))

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
        self.autoencoder.enable_tiling()

    def _decode_in_parts(self) -> None:
        """Large images one at a time, and in tiles if the preset says so: decoded together, they would be the peak."""
        if self.size >= LARGE:
            self.autoencoder.enable_slicing()
        if self.runtime.preset.tiling:
            self._decode_in_tiles()

    @contextmanager
    def inference_mode(self) -> Iterator[None]:
        with self.on_device("text", "vae"), self._autocast():
            self._decode_in_parts()
            try:
                yield
            finally:
                self.autoencoder.disable_tiling()  # training encodes images whole,
                if not self._checkpoints:  # and at once: less memory than a step with all its activations
                    self.autoencoder.disable_slicing()

    def as_pipeline(self) -> DiffusionPipeline:
        runtime = self.runtime
        if self.autoencoder.dtype != runtime.dtype:
            self.autoencoder.to(runtime.dtype)
        self._decode_in_parts()
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
            raise InputError(
                f"no working compiler found ({reason(error)})", "leave it out", field="compiled"
            ) from error
        denoiser: Any = self.denoiser
        denoiser.compile_repeated_blocks(backend=COMPILER)

    def enable_checkpointing(self) -> None:
        self._checkpoints = True
        self.autoencoder.enable_slicing()
        denoiser: Any = self.denoiser
        denoiser.enable_gradient_checkpointing(self._checkpointed)
        denoiser.train()  # diffusers' U-Nets checkpoint only in training mode; there is no dropout

    def _checkpointed(self, layer: Callable[..., Any], *inputs: Any) -> Any:
        again = self._reader.reading_again() if self._reader else nullcontext()
        return checkpoint(layer, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), again))


def _to(network: Any, device: torch.device, dtype: torch.dtype) -> None:
    """diffusers warns of every cast, also of one that changes nothing."""
    network.to(device) if network.dtype == dtype else network.to(device, dtype)


def _moved(home: Tensor, device: torch.device) -> Tensor:
    return home.to(device)
