"""The tools' names of each model family; see the table in docs/export.md."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    version: str  # kohya's ss_base_model_version
    architecture: str  # modelspec's, before the slash
    embedding_keys: Mapping[str, str]  # ComfyUI's name of a pseudo-word's tensor, by text encoder
    sgm_names: bool = False  # kohya's LoRA files name layers as the original code does


CLIP_L, CLIP_H = {"clip": "clip_l"}, {"clip": "clip_h"}
FAMILIES = {
    "embedded": Family("magictailor_embedded", "magictailor-embedded", CLIP_L),
    "sd1": Family("sd_v1", "stable-diffusion-v1", CLIP_L),
    "sd2": Family("sd_v2", "stable-diffusion-v2-512", CLIP_H),
    "sd2-v": Family("sd_v2", "stable-diffusion-v2-768-v", CLIP_H),
    "sdxl": Family(
        "sdxl_base_v1-0", "stable-diffusion-xl-v1-base", {"clip_l": "clip_l", "clip_g": "clip_g"}, sgm_names=True
    ),
}
