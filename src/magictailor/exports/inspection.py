"""The contents of a LoRA or embedding file, read from its header and shapes alone."""

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from magictailor.common.errors import InputError

# The ending of a layer's first factor in a LoRA file: whose naming it is, and which tools read it.
SPELLINGS = {
    ".lora_down.weight": ("kohya", "A1111, Forge, ComfyUI, sd-scripts, diffusers"),
    ".lora.down.weight": ("diffusers", "diffusers (ComfyUI drops its attention layers)"),
    ".lora_A.weight": ("diffusers", "diffusers (ComfyUI drops its attention layers)"),
}
COMFYUI = ("comfyui", "ComfyUI")
NETWORKS = {
    "U-Net": ("lora_unet_", "unet.", "diffusion_model."),
    "text encoder": ("lora_te", "text_encoder"),
    "transformer": ("transformer.",),
}
# The family by the width of the text features that cross-attention reads, or by an embedding's width.
BY_TEXT = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL", 128: "magictailor's embedded base"}
BY_EMBEDDING = {**BY_TEXT, 1280: "SDXL", 4096: "FLUX.1"}
BUNDLE = "bundle_emb."
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Contents:
    """The contents of a file. ``ranks``, ``alphas``: the number of layers with each value."""

    kind: str  # "LoRA, kohya's names" or "embedding"
    family: str
    layers: dict[str, int]  # by network
    ranks: dict[int, int]
    alphas: dict[float, int]
    embeddings: dict[str, tuple[int, ...]]  # [n, dim], by name
    trigger: str
    readers: str

    def lines(self) -> dict[str, str]:
        """Labels and texts to print, without empty ones."""

        def counted(counts: dict[int, int] | dict[float, int]) -> str:
            return ", ".join(f"{v:g}" if len(counts) == 1 else f"{v:g} ({n} layers)" for v, n in counts.items())

        rows = {
            "holds": self.kind,
            "family": self.family,
            "layers": ", ".join(f"{n} of the {network}" for network, n in self.layers.items()),
            "rank": counted(self.ranks),
            "alpha": counted(self.alphas),
            "embeddings": ", ".join(f"{n} ({s[0]} x {s[-1]})" for n, s in self.embeddings.items()),
            "prompt": self.trigger,
            "read by": self.readers,
        }
        return {k: v for k, v in rows.items() if v}


def _opened(file: Path) -> tuple[Shapes, dict[str, str], dict[str, float]]:
    """Shapes, metadata and alphas. Raises InputError for anything but safetensors."""
    if not os.path.isfile(file):  # False also for an invalid path
        raise InputError(f"{file}: no such file", "name a .safetensors file", field="file")
    try:
        with safe_open(file, "pt") as opened:
            keys = list(opened.keys())
            shapes = {k: tuple(opened.get_slice(k).get_shape()) for k in keys}
            alphas = {k: float(opened.get_tensor(k)) for k in keys if k.endswith(".alpha") and shapes[k] in ((), (1,))}
            return shapes, dict(opened.metadata() or {}), alphas
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{file}: not safetensors ({error})",
            "convert it; pickled .pt and .ckpt files can run code and are not opened",
            field="file",
        ) from error


def _spelling(shapes: Shapes) -> tuple[str, str, str] | None:
    """A LoRA file's ending, whose naming it is, and which tools read it."""
    ending = next((e for e in SPELLINGS if any(k.endswith(e) for k in shapes)), None)
    if ending is None:
        return None
    if any(k.startswith("diffusion_model.") for k in shapes):
        return (ending, *COMFYUI)
    if any(k.startswith("transformer.") for k in shapes):
        return ending, "diffusers", "diffusers"
    return (ending, *SPELLINGS[ending])


def _network(key: str) -> str:
    return next((name for name, starts in NETWORKS.items() if key.startswith(starts)), "model")


def _alphas(ranks: dict[str, int], tensors: dict[str, float], header: dict[str, str]) -> dict[float, int]:
    """The layers' alphas: of a tensor, else of the header, else equal to the rank."""
    try:
        config = dict(json.loads(header.get("lora_adapter_metadata", "{}")))
    except (ValueError, TypeError):
        config = {}
    whole = next((v for k, v in config.items() if k.endswith("lora_alpha")), None)
    values = [tensors.get(f"{n}.alpha", rank if whole is None else float(whole)) for n, rank in ranks.items()]
    return dict(Counter(map(float, values)))


def _family(shapes: Shapes, embeddings: Shapes, header: dict[str, str]) -> str:
    if any("double_blocks" in k or "single_transformer_blocks" in k for k in shapes):
        return "FLUX.1"
    text_widths = {s[1] for k, s in shapes.items() if "attn2" in k and "to_k" in k and k.endswith(tuple(SPELLINGS))}
    found = {BY_TEXT[n] for n in text_widths if n in BY_TEXT}
    widths = {s[-1] for s in embeddings.values()} & set(BY_EMBEDDING)
    widths = widths & {1280, 4096} or widths  # SDXL's and FLUX's files hold CLIP-L's 768 as well
    found = found or {BY_EMBEDDING[n] for n in widths}
    declared = header.get("modelspec.architecture") or header.get("ss_base_model_version")
    names = " or ".join(sorted(found)) or "unknown"
    return f"{names} (its header says {declared})" if declared else names


def inspect(file: Path | str) -> Contents:
    """The contents of a LoRA or embedding file, without loading its weights.

    Raises:
        InputError: no such file, not safetensors, or neither a LoRA nor an embedding.
    """
    shapes, header, alphas = _opened(Path(file))
    spelling = _spelling(shapes)
    embeddings = {k.removeprefix(BUNDLE): s for k, s in shapes.items() if k.startswith(BUNDLE)}
    if spelling is None and not embeddings:
        if not all(len(s) in (1, 2) for s in shapes.values()) or len(shapes) > 4:
            problem = f"{file}: {len(shapes)} tensors, neither a LoRA nor an embedding"
            raise InputError(problem, "name a LoRA or an embedding", field="file")
        embeddings = {k: s if len(s) == 2 else (1, *s) for k, s in shapes.items()}
    ours = any(k.startswith("words.") for k in shapes)
    words = "A1111, Forge, ComfyUI; diffusers by load_textual_inversion" + ", an encoder at a time" * (len(shapes) > 1)
    words = "magictailor" if ours else words
    ending, naming, readers = spelling or ("", "", words)
    ranks = {k.removesuffix(ending): s[0] for k, s in shapes.items() if ending and k.endswith(ending)}
    return Contents(
        kind=f"LoRA, {naming}'s names" if spelling else "embedding",
        family=_family(shapes, embeddings, header),
        layers=dict(Counter(map(_network, ranks))),
        ranks=dict(Counter(ranks.values())),
        alphas=_alphas(ranks, alphas, header) if ranks else {},
        embeddings=embeddings,
        trigger=header.get("modelspec.trigger_phrase", ""),
        readers=readers,
    )
