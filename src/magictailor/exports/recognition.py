"""Which model a file of tensors belongs to, by the names and shapes of its layers: tables and rules, no tensors read.

A rule that is not sure names all families that it could be. Names are compared with ``_`` for every ``.``, as kohya's
files have them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

Shapes = Mapping[str, tuple[int, ...]]
EMBEDDED, SD1, SD2, SDXL = "magictailor's embedded base", "Stable Diffusion 1.x", "Stable Diffusion 2.x", "SDXL"
SD3, FLUX, QWEN, SANA, Z_IMAGE = "Stable Diffusion 3", "FLUX.1", "Qwen-Image", "Sana", "Z-Image"
KLEIN_4B, KLEIN_9B, FLUX2 = "FLUX.2 klein 4B", "FLUX.2 klein 9B", "FLUX.2 dev"
UNKNOWN = "unknown"
UNETS = (EMBEDDED, SD1, SD2, SDXL)

# By the width of the text features that a U-Net's cross-attention reads, and of an embedding.
BY_TEXT = {128: EMBEDDED, 768: SD1, 1024: SD2, 1280: "SDXL's refiner", 2048: SDXL}
BY_EMBEDDING = {128: EMBEDDED, 768: SD1, 1024: SD2, 1280: SDXL, 4096: FLUX}
# By a name that no other family has; the first match decides.
BY_NAME = {
    r"distilled_guidance_layer": "Chroma",
    r"individual_token_refiner|double_blocks_\d+_(img|txt)_mlp_fc[12]": "HunyuanVideo",
    r"double_stream_blocks": "HiDream",
    r"joint_transformer_blocks": "AuraFlow",
    r"attn\d?_Wqkv": "HunyuanDiT",
    r"lora_prior_|prior_unet": "Stable Cascade",
    r"joint_blocks_\d+_(x_block|context_block)": SD3,
    r"transformer_blocks_\d+_(img|txt)_(mlp|mod)": QWEN,
    r"attn_to_qkv_mlp_proj": "FLUX.2",
    r"blocks_\d+_(self|cross)_attn_[qkvo]$": "Wan",
    r"(?<!transformer_)blocks_\d+_(attn[12]_to_[qkv]|ffn_)": "Wan",
}
# By the inputs of the layers whose names several families share.
TRANSFORMER_WIDTHS = {
    1152: f"{SANA} or PixArt", 1920: "CogVideoX", 2048: "LTX-Video", 2240: SANA, 3072: "CogVideoX",
}  # fmt: skip
REFINED_WIDTHS = {2304: "Lumina 2", 3840: Z_IMAGE}
FLUX2_WIDTHS = {3072: KLEIN_4B, 4096: KLEIN_9B, 6144: FLUX2}


def flat(name: str) -> str:
    return name.replace(".", "_")


def _joined(families: Iterable[str]) -> str:
    return " or ".join(sorted(set(families))) or UNKNOWN


def _streams(names: Sequence[str], widths: Mapping[str, tuple[int, int]]) -> str:
    """FLUX.1 or FLUX.2, by a layer's outputs per input: FLUX.2's feed-forward has gates, three times the width."""
    inputs = {a for n, (a, _) in widths.items() if re.search(r"(qkv|to_q|linear1|proj_mlp)$", n)}
    ratios = {b / a for n, (a, b) in widths.items() if re.search(r"linear1$|img_mlp_0$", n) and a}
    if inputs & {4096, 6144} or ratios & {9.0, 6.0}:
        return _joined(FLUX2_WIDTHS[i] for i in inputs if i in FLUX2_WIDTHS) if inputs else "FLUX.2"
    if ratios & {7.0, 4.0} or any("single_transformer_blocks" in n and "proj_mlp" in n for n in names):
        return FLUX
    return FLUX if inputs - {3072} or not inputs else f"{FLUX} or {KLEIN_4B}"


def _joint(names: Sequence[str], inputs: set[int]) -> str:
    """diffusers' names of joint attention: Stable Diffusion 3, FLUX.1 and Qwen-Image share them."""
    if any("single_transformer_blocks" in n for n in names):
        return FLUX
    if inputs and not inputs & {3072}:
        return SD3
    blocks = [int(m[1]) for n in names if (m := re.search(r"transformer_blocks_(\d+)_", n))]
    return QWEN if max(blocks, default=0) >= 24 else f"{FLUX} or {QWEN}"


def _unet(names: Sequence[str], widths: Mapping[str, tuple[int, int]]) -> str:
    text = {a for n, (a, _) in widths.items() if a and re.search(r"attn2_(processor_)?to_[kv]", n)}
    if found := [BY_TEXT[a] for a in text if a in BY_TEXT]:
        return _joined(found)
    if text:  # another U-Net
        return UNKNOWN
    if any(re.search(r"transformer_blocks_[1-9]", n) for n in names):  # only SDXL has several in a layer
        return SDXL
    return f"{SD1} or {SD2}"


def family_of_layers(widths: Mapping[str, tuple[int, int]]) -> str:
    """The family of an adapter or a denoiser.

    Args:
        widths: inputs and outputs of each layer, by its name; 0 where they are not known.
    """
    widths = {flat(name): sizes for name, sizes in widths.items()}
    own = {name: sizes for name, sizes in widths.items() if not name.startswith(("lora_te", "text_encoder"))}
    widths = own or widths  # text encoders are alike in many families
    names = list(widths)
    found = next((family for p, family in BY_NAME.items() if any(re.search(p, n) for n in names)), None)
    inputs = {a for n, (a, _) in widths.items() if re.search(r"(attn\d?|attention)_(to_|add_)?(q|k|v|qkv)(_proj)?$", n)}
    if found == "FLUX.2":
        return _joined(FLUX2_WIDTHS[a] for a in inputs | {a for a, _ in widths.values()} if a in FLUX2_WIDTHS)
    if found is not None:
        return found
    if any("double_blocks_" in n or re.search(r"(?<!_transformer)single_blocks_", n) for n in names):
        return _streams(names, widths)
    if any("noise_refiner" in n or "context_refiner" in n or re.search(r"layers_\d+_attention_", n) for n in names):
        return _joined(REFINED_WIDTHS[a] for a in inputs if a in REFINED_WIDTHS)
    if any("single_transformer_blocks" in n or "attn_add_" in n for n in names):
        return _joint(names, inputs)
    if any(re.search(r"(down|up|mid)_blocks?_|(input|output)_blocks_|middle_block_", n) for n in names):
        return _unet(names, widths)
    if any(re.search(r"transformer_blocks_\d+_attn1_", n) for n in names):
        return _joined(TRANSFORMER_WIDTHS[a] for a in inputs if a in TRANSFORMER_WIDTHS)
    if any(re.match(r"lora_te[12]_", n) for n in names):
        return SDXL
    encoders = {a for n, (a, _) in widths.items() if n.startswith(("lora_te_", "text_encoder_"))}
    return _joined(BY_TEXT[a] for a in encoders if a in (768, 1024))


def whole_model(shapes: Shapes) -> tuple[str, str] | None:
    """What a file of plain weights is, and its family; None for anything else."""
    keys = list(shapes)

    def any_starts(*starts: str) -> bool:
        return any(key.startswith(starts) for key in keys)

    if any_starts("control_model.", "controlnet_cond_embedding.", "controlnet_blocks."):
        return "ControlNet", UNKNOWN
    if any_starts("ip_adapter.", "image_proj."):
        return "IP-Adapter", UNKNOWN
    if any("motion_modules." in key for key in keys):
        return "motion module", UNKNOWN
    parts = ("model.diffusion_model.", "diffusion_model.", "")
    widths = {
        re.sub(r"\.weight$", "", k.removeprefix(next(p for p in parts if k.startswith(p)))): (s[1], s[0])
        for k, s in shapes.items()
        if len(s) >= 2 and k.endswith(".weight")
    }
    if any_starts("model.diffusion_model."):
        if any_starts("conditioner.embedders.1.model."):
            family = SDXL
        elif any_starts("conditioner.embedders.0.model."):
            family = "SDXL's refiner"
        elif any_starts("cond_stage_model.model."):
            family = SD2
        elif any_starts("cond_stage_model.transformer."):
            family = EMBEDDED if BY_TEXT.get(_text_width(widths)) == EMBEDDED else SD1
        else:
            family = family_of_layers(widths)
        whole = any_starts("first_stage_model.", "vae.")
        return ("checkpoint, a whole model" if whole else "checkpoint, the denoiser only"), family
    if any_starts("text_model.encoder.layers.", "transformer.resblocks.", "encoder.block.0.layer."):
        return "text encoder", UNKNOWN
    if any_starts("encoder.conv_in.", "decoder.conv_in.", "first_stage_model.encoder."):
        return "autoencoder", UNKNOWN
    family = family_of_layers(widths)
    return ("denoiser only", family) if family != UNKNOWN and len(keys) > 50 else None


def _text_width(widths: Mapping[str, tuple[int, int]]) -> int:
    return next((a for n, (a, _) in widths.items() if n.endswith("attn2.to_k")), 0)
