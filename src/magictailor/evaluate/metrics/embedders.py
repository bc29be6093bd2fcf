"""Embeddings of images and texts by the standard models, from a folder or the hub's cache; those of images are cached."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from magictailor.common.errors import InputError
from magictailor.common.files import digest
from magictailor.common.logging import quiet_loading
from magictailor.common.pretrained import load_pretrained
from magictailor.common.tensors import read_tensors, write_tensors

BATCH = 16
Floats = NDArray[np.floating[Any]]


class Embedder(Protocol):
    """``model``: names the exact weights."""

    @property
    def model(self) -> str: ...

    def prepare(self) -> None:
        """Load the model. Raises InputError if it is not on this machine; the fix says how to get it."""
        ...

    def images(self, images: Sequence[Image.Image]) -> Tensor:
        """Unit vectors, [N, D]."""
        ...


def load_local(model_class: Any, weights: str) -> Any:
    """``model_class.from_pretrained(weights)``, from a folder or the cache, never from the network.

    Raises:
        InputError: not there; the fix says how to get it.
    """
    quiet_loading()
    fix = (
        f"run `hf download {weights}` where there is a network, or name a folder that holds it under [weights] in the "
        "spec"
    )
    return load_pretrained(model_class, weights, fix, local=True)


@cache
def weights_name(weights: str) -> str:
    """A hub id as it is; a folder's name with a digest of its weights, so that other weights get another name."""
    folder = Path(weights).expanduser()
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin")) or sorted(folder.rglob("*.pt*"))
    if not files:
        return weights
    return f"{folder.name} {sha256(''.join(map(digest, files)).encode()).hexdigest()[:12]}"


def _unit(vectors: Tensor) -> Tensor:
    return vectors.float() / vectors.float().norm(dim=-1, keepdim=True)


@dataclass(frozen=True)
class Clip:
    """CLIP (Radford 2021): images and texts in one space."""

    weights: str

    @property
    def model(self) -> str:
        return weights_name(self.weights)

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Any]:
        from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

        return (
            load_local(CLIPModel, self.weights).eval(),
            load_local(AutoImageProcessor, self.weights),
            load_local(AutoTokenizer, self.weights),
        )

    def prepare(self) -> None:
        assert self._loaded

    @property
    def scale(self) -> float:
        """The factor on cosines before a softmax."""
        return float(self._loaded[0].logit_scale.detach().exp())

    @torch.no_grad()
    def images(self, images: Sequence[Image.Image]) -> Tensor:
        model, processor, _ = self._loaded
        output = model.vision_model(processor(images=list(images), return_tensors="pt")["pixel_values"])
        return _unit(model.visual_projection(output.pooler_output))

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        model, _, tokenizer = self._loaded
        tokens = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        return _unit(model.text_projection(model.text_model(**tokens).pooler_output))


@dataclass(frozen=True)
class Dino:
    """DINO (Caron 2021) or DINOv2 (Oquab 2023): the output of the class token."""

    weights: str

    @property
    def model(self) -> str:
        return weights_name(self.weights)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoImageProcessor, AutoModel

        return load_local(AutoModel, self.weights).eval(), load_local(AutoImageProcessor, self.weights)

    def prepare(self) -> None:
        assert self._loaded

    @torch.no_grad()
    def images(self, images: Sequence[Image.Image]) -> Tensor:
        model, processor = self._loaded
        pixels = processor(images=list(images), return_tensors="pt")["pixel_values"]
        return _unit(model(pixel_values=pixels).last_hidden_state[:, 0])


@dataclass(frozen=True)
class DreamSim:
    """DreamSim's ensemble (Fu 2023), by its authors' package, from a folder of weights."""

    weights: str

    @property
    def model(self) -> str:
        return f"dreamsim ensemble, {weights_name(self.weights)}"

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        try:
            package = import_module("dreamsim")
        except ImportError as error:
            raise InputError("dreamsim needs its authors' package", "run `pip install dreamsim`") from error
        if not Path(self.weights).expanduser().is_dir():
            raise InputError(
                f"{self.weights}: not a folder",
                "download dreamsim's ensemble weights (github.com/ssundaram21/dreamsim, Releases) and name their "
                "folder as dreamsim under [weights] in the spec",
            )
        model, preprocess = package.dreamsim(
            pretrained=True, cache_dir=str(Path(self.weights).expanduser()), device="cpu"
        )
        return model, preprocess

    def prepare(self) -> None:
        assert self._loaded

    @torch.no_grad()
    def images(self, images: Sequence[Image.Image]) -> Tensor:
        model, preprocess = self._loaded
        return _unit(model.embed(torch.cat([preprocess(image) for image in images])))


def embed_images(embedder: Embedder, images: Sequence[Image.Image], cache: Path | None = None) -> Floats:
    """Unit vectors of images, [N, D]. Those in the folder ``cache`` are not computed again."""
    keys = [sha256(repr(image.size).encode() + image.convert("RGB").tobytes()).hexdigest() for image in images]
    path = None if cache is None else cache / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', embedder.model)}.safetensors"
    known = read_tensors(path) if path is not None and path.exists() else {}
    missing = {key: image for key, image in zip(keys, images, strict=True) if key not in known}
    pending = list(missing.items())
    for start in range(0, len(pending), BATCH):
        batch = pending[start : start + BATCH]
        vectors = embedder.images([image.convert("RGB") for _, image in batch])
        known |= {key: vector.clone() for (key, _), vector in zip(batch, vectors, strict=True)}
    if path is not None and missing:
        write_tensors(path, known)
    return torch.stack([known[key] for key in keys]).double().numpy()
