"""The contents of a file of tensors, read only from its header and shapes. Needs no torch."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from magictailor.common.headers import BUNDLE, LORA_CONFIG, WORD, read_header, read_scalars
from magictailor.exports.recognition import (
    BY_EMBEDDING,
    FLUX,
    FLUX2,
    KLEIN_4B,
    KLEIN_9B,
    QWEN,
    SD3,
    SDXL,
    UNETS,
    UNKNOWN,
    Z_IMAGE,
    Shapes,
    family_of_layers,
    whole_model,
)

# An adapter's kind by the ending of one of its tensors, and which dimension of it is the rank; the first match decides.
ENDINGS: dict[str, tuple[str, int | None]] = {
    ".hada_w1_a": ("LoHa", 1),
    ".lokr_w1": ("LoKr", None),
    ".lokr_w1_a": ("LoKr", 1),
    ".oft_blocks": ("OFT", None),
    ".oft_diag": ("OFT", None),
    ".oft_R.weight": ("OFT", None),
    ".on_input": ("IA3", None),
    ".ia3_l": ("IA3", None),
    ".b2.weight": ("GLoRA", 0),
    ".lora_down.weight": ("LoRA", 0),
    "_lora.down.weight": ("LoRA", 0),
    ".lora.down.weight": ("LoRA", 0),
    ".lora_A.weight": ("LoRA", 0),
    ".lora_A.default.weight": ("LoRA", 0),
    ".lora_linear_layer.down.weight": ("LoRA", 0),
    ".diff": ("full difference", None),
}
UPS = {
    ".lora_down.weight": ".lora_up.weight", "_lora.down.weight": "_lora.up.weight", ".lora.down.weight": ".lora.up.weight",
    ".lora_A.weight": ".lora_B.weight", ".lora_A.default.weight": ".lora_B.default.weight",
    ".lora_linear_layer.down.weight": ".lora_linear_layer.up.weight",
}  # fmt: skip
DORA = ("dora_scale", "lora_magnitude_vector")
NETWORKS = {
    "text encoder": ("lora_te", "text_encoder", "text_model."),
    "U-Net": ("lora_unet_", "unet.", "diffusion_model."),
    "transformer": ("transformer.", "lora_transformer_"),
}
EMBEDDING_DIMENSIONS, MOST_VECTORS = 2, 75
NO_READER = "not known"


@dataclass(frozen=True)
class Contents:
    """The contents of a file. ``ranks``, ``alphas``: of the denoiser, the number of layers with each value.

    ``text_ranks``, ``text_alphas``: of the text encoders.
    """

    kind: str  # "LoRA, kohya's names", "embedding", "checkpoint, a whole model", "not known (...)"
    family: str
    layers: dict[str, int]  # by network
    ranks: dict[int, int]
    alphas: dict[float, int]
    embeddings: dict[str, tuple[int, ...]]  # [n, dim], by name
    trigger: str
    readers: str
    text_ranks: dict[int, int] = field(default_factory=dict)
    text_alphas: dict[float, int] = field(default_factory=dict)

    def lines(self) -> dict[str, str]:
        """Labels and texts to print, without empty ones."""

        def counted(
            counts: Mapping[int, int] | Mapping[float, int], text: Mapping[int, int] | Mapping[float, int]
        ) -> str:
            own = ", ".join(f"{v:g}" if len(counts) == 1 else f"{v:g} ({n} layers)" for v, n in counts.items())
            other = ", ".join(f"{v:g}" for v in text)
            return f"{own or 'none'}; text encoder {other}" if other and set(text) != set(counts) else own or other

        rows = {
            "holds": self.kind,
            "family": self.family,
            "layers": ", ".join(f"{n} of the {network}" for network, n in self.layers.items()),
            "rank": counted(self.ranks, self.text_ranks),
            "alpha": counted(self.alphas, self.text_alphas),
            "embeddings": ", ".join(f"{n} ({s[0]} x {s[-1]})" for n, s in self.embeddings.items()),
            "prompt": self.trigger,
            "read by": self.readers,
        }
        return {k: v for k, v in rows.items() if v}


def _naming(keys: list[str]) -> str:
    """Whose names an adapter's layers have."""
    if any(".processor." in key for key in keys):
        return "old diffusers"
    starts = {"base_model.model.": "PEFT", "diffusion_model.": "ComfyUI", "lycoris_": "LyCORIS"}
    for start, whose in starts.items():
        if any(key.startswith(start) for key in keys):
            return whose
    if any(key.startswith(("lora_unet_", "lora_te", "lora_transformer_", "lora_prior_")) for key in keys):
        return "kohya"
    return "diffusers" if any(key.startswith(("unet.", "transformer.", "text_encoder")) for key in keys) else "unknown"


def _lora_readers(naming: str, family: str) -> str:
    """The tools that read a plain LoRA in these names."""
    unet = any(name in family for name in UNETS)
    match naming:
        case "PEFT":
            return "peft only (diffusers and ComfyUI load nothing from it)"
        case "old diffusers":
            return "diffusers of 2023 (load_attn_procs)"
        case "ComfyUI" if unet:
            return "ComfyUI, Forge, OneTrainer"
        case "ComfyUI":
            both = family in (FLUX, FLUX2, KLEIN_4B, KLEIN_9B, Z_IMAGE, QWEN, "Wan")
            return "ComfyUI, diffusers" if both else "ComfyUI"
        case "diffusers" if unet:
            return "diffusers (ComfyUI drops its attention layers)"
        case "diffusers":
            return "diffusers, ComfyUI" if family != UNKNOWN else "diffusers"
        case "kohya" if unet:
            return "A1111, Forge, ComfyUI, sd-scripts, diffusers"
        case "kohya" if FLUX in family:
            return "Forge, ComfyUI, sd-scripts, diffusers"
        case "kohya" if family == SD3:
            return "ComfyUI, sd-scripts"
        case "kohya" if family != UNKNOWN:
            return "ComfyUI"
    return NO_READER


def _readers(kind: str, naming: str, family: str) -> str:
    if kind == "LoRA":
        return _lora_readers(naming, family)
    if naming in ("PEFT", "unknown"):
        return "peft only" if naming == "PEFT" else NO_READER
    webuis = "A1111, Forge, " if any(name in family for name in UNETS) and naming in ("kohya", "LyCORIS") else ""
    return {"IA3": "A1111" if webuis else NO_READER, "OFT": f"{webuis}ComfyUI of 2025 and later"}.get(
        kind, f"{webuis}ComfyUI"
    )


def _network(key: str, transformer: bool) -> str:
    plain = key.removeprefix("base_model.model.")
    found = next((name for name, starts in NETWORKS.items() if plain.startswith(starts)), "model")
    return "transformer" if transformer and found == "U-Net" else found


def _header_alphas(header: Mapping[str, str]) -> dict[str, float]:
    """diffusers' alphas for whole networks: of the denoiser (``""``), and of the text encoders (``"text"``)."""
    try:
        config = dict(json.loads(header.get(LORA_CONFIG, "{}")))
        named = {k: float(v) for k, v in config.items() if k.endswith("lora_alpha") and type(v) in (int, float)}
    except (ValueError, TypeError, RecursionError):
        return {}
    return {("text" if k.startswith("text") else ""): v for k, v in named.items()}


@dataclass(frozen=True)
class _Adapter:
    """``modules``: by a layer's name, the tensor that shows the adapter's kind, and the ending of its name."""

    kind: str
    modules: Mapping[str, tuple[str, str]]

    @classmethod
    def found(cls, shapes: Shapes) -> "_Adapter | None":
        for ending, (kind, _) in ENDINGS.items():
            if any(key.endswith(ending) for key in shapes):
                same = [e for e, (k, _) in ENDINGS.items() if k == kind]
                modules = {k.removesuffix(e): (k, e) for e in same for k in shapes if k.endswith(e)}
                return cls(kind, modules)
        return None

    def rank(self, module: str, shapes: Shapes) -> int | None:
        key, ending = self.modules[module]
        dimension = ENDINGS[ending][1]
        return None if dimension is None or len(shapes[key]) <= dimension else shapes[key][dimension]

    def widths(self, shapes: Shapes) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the layers; 0 where the file does not show them."""
        out = {}
        for module, (key, ending) in self.modules.items():
            shape, up = shapes[key], shapes.get(module + UPS.get(ending, "?"), ())
            inputs = shape[1] if ending in UPS and len(shape) > 1 else 0
            if ending == ".hada_w1_a":
                inputs = shapes.get(f"{module}.hada_w1_b", (0, 0))[-1]
            out[module.removeprefix("base_model.model.")] = inputs, up[0] if up else 0
        return out


def _adapter(adapter: _Adapter, file: Path, shapes: Shapes, header: Mapping[str, str]) -> Contents:
    family = family_of_layers(adapter.widths(shapes))
    naming = _naming(list(adapter.modules))
    unet = any(name in family for name in UNETS) or family == UNKNOWN
    networks = {module: _network(module, not unet) for module in adapter.modules}
    scalars = read_scalars(
        file, read_header(file, field="file"), [f"{m}.alpha" for m in adapter.modules if f"{m}.alpha" in shapes]
    )
    whole = _header_alphas(header)
    ranks: dict[bool, Counter[int]] = {False: Counter(), True: Counter()}
    alphas: dict[bool, Counter[float]] = {False: Counter(), True: Counter()}
    for module, network in networks.items():
        text, rank = network == "text encoder", adapter.rank(module, shapes)
        own = scalars.get(f"{module}.alpha", whole.get("text" if text else "", rank))
        if rank is not None:
            ranks[text][rank] += 1
        if own is not None:
            alphas[text][float(own)] += 1
    kind = adapter.kind
    if kind == "LoRA" and any(mark in key for key in shapes for mark in DORA):
        kind = "DoRA"
    bundled = {k.removeprefix(BUNDLE): s for k, s in shapes.items() if k.startswith(BUNDLE)}
    readers = _readers(kind, naming, family)
    if bundled:
        readers = f"A1111, with its embeddings; {'Forge, ' if len(bundled) <= 12 else ''}ComfyUI, without them"
    return Contents(
        kind=f"{kind}, {naming}'s names" if naming != "unknown" else f"{kind}, in names of its own",
        family=_declared(family, header),
        layers=dict(Counter(networks.values())),
        ranks=dict(ranks[False]),
        alphas=dict(alphas[False]),
        embeddings=bundled,
        trigger=header.get("modelspec.trigger_phrase", ""),
        readers=readers,
        text_ranks=dict(ranks[True]),
        text_alphas=dict(alphas[True]),
    )


def _declared(family: str, header: Mapping[str, str]) -> str:
    declared = header.get("modelspec.architecture") or header.get("ss_base_model_version")
    return f"{family} (its header says {declared})" if declared else family


def _embedding(shapes: Shapes, header: Mapping[str, str]) -> Contents | None:
    """One matrix of a few vectors per encoder, of a width that an encoder has."""
    rows = {k: s if len(s) == EMBEDDING_DIMENSIONS else (1, *s) for k, s in shapes.items() if len(s) in (1, 2)}
    ours = all(re.match(r"words\.|embedding\.", key) for key in shapes)
    widths = {s[-1] for s in rows.values()}
    fits = len(rows) == len(shapes) <= 4 and all(0 < s[0] <= MOST_VECTORS for s in rows.values())
    stated = WORD in header or "textual-inversion" in header.get("modelspec.architecture", "")
    if not ours and not (fits and (widths <= set(BY_EMBEDDING) or stated)):
        return None
    telling = widths & {1280, 4096} or widths  # SDXL's and FLUX's files hold CLIP-L's 768 as well
    family = " or ".join(sorted({BY_EMBEDDING[n] for n in telling if n in BY_EMBEDDING})) or UNKNOWN
    readers = "A1111, Forge, ComfyUI; diffusers by load_textual_inversion"
    if family == FLUX:
        readers = "ComfyUI; diffusers by load_textual_inversion"
    return Contents(
        kind="pseudo-words of a run" if ours else "embedding",
        family=_declared(family, header),
        layers={},
        ranks={},
        alphas={},
        embeddings=rows,
        trigger=header.get("modelspec.trigger_phrase", ""),
        readers="magictailor" if ours else readers + ", an encoder at a time" * (len(shapes) > 1),
    )


def _plain(kind: str, family: str, readers: str, header: Mapping[str, str]) -> Contents:
    return Contents(kind, family, {}, {}, {}, {}, header.get("modelspec.trigger_phrase", ""), readers)


def inspect(file: Path | str) -> Contents:
    """The contents of a file of tensors, by its header: what it is, of which family, and which tools read it.

    Where the names are of no kind that is known here, ``kind`` says so.

    Raises:
        InputError: no such file, or not safetensors.
    """
    path = Path(file)
    fix = "name a .safetensors file; pickled .pt and .ckpt files can run code and are not opened"
    read = read_header(path, fix, field="file")
    shapes, header = read.shapes, read.metadata
    if not shapes:
        return _plain("nothing: no tensors", UNKNOWN, NO_READER, header)
    if (adapter := _Adapter.found(shapes)) is not None:
        return _adapter(adapter, path, shapes, header)
    if (embedding := _embedding(shapes, header)) is not None:
        return embedding
    if (whole := whole_model(shapes)) is not None:
        kind, family = whole
        webuis = "A1111, Forge, ComfyUI" if any(f in family for f in UNETS) or family == SDXL else "ComfyUI"
        readers = f"{webuis}; diffusers by from_single_file" if kind == "checkpoint, a whole model" else NO_READER
        return _plain(kind, _declared(family, header), readers, header)
    first = ", ".join(list(shapes)[:2])
    return _plain(
        f"not known ({len(shapes)} tensors: {first}{', ...' * (len(shapes) > 2)})", UNKNOWN, NO_READER, header
    )
