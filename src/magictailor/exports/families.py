"""The tools' names of each model family; see the table in docs/export.md."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    version: str  # kohya's ss_base_model_version
    architecture: str  # modelspec's, before the slash
    embedding_keys: Mapping[str, str]  # ComfyUI's name of a pseudo-word's tensor, by text encoder
    implementation: str = "diffusers"  # modelspec's, of a LoRA
    web_uis: str = "A1111 and Forge"  # that read kohya's files of it


FLUX = "https://github.com/black-forest-labs/flux"
SGM = "https://github.com/Stability-AI/generative-models"
BOTH = {"clip_l": "clip_l", "clip_g": "clip_g"}
CLIP_L, CLIP_H = {"clip": "clip_l"}, {"clip": "clip_h"}
FAMILIES = {
    "embedded": Family("magictailor_embedded", "magictailor-embedded", CLIP_L),
    "embedded-dit": Family("magictailor_embedded_dit", "magictailor-embedded-dit", BOTH, web_uis=""),
    "sd1": Family("sd_v1", "stable-diffusion-v1", CLIP_L),
    "sd2": Family("sd_v2", "stable-diffusion-v2-512", CLIP_H),
    "sd2-v": Family("sd_v2_v", "stable-diffusion-v2-768-v", CLIP_H),
    "sdxl": Family("sdxl_base_v1-0", "stable-diffusion-xl-v1-base", BOTH, SGM),
    "sd3": Family("sd3_m", "stable-diffusion-3-medium", BOTH, web_uis=""),
    "sd3-clip": Family("sd3_m", "stable-diffusion-3-medium", BOTH, web_uis=""),
    "flux": Family("flux1", "flux-1-dev", {}, FLUX, web_uis="Forge"),
    "flux2-klein-4b": Family("flux2_klein_4b", "flux-2-klein-4b", {}, web_uis=""),
    "flux2-klein-9b": Family("flux2_klein_9b", "flux-2-klein-9b", {}, web_uis=""),
    "flux2-dev": Family("flux2_dev", "flux-2-dev", {}, web_uis=""),
    "z-image": Family("z_image", "z-image", {}, web_uis=""),
    "qwen-image": Family("qwen_image", "qwen-image", {}, web_uis=""),
    "sana": Family("sana", "sana", {}, web_uis=""),
}
