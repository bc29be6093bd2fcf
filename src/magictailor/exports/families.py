"""What the tools call each family, as data; see the table in docs/export.md."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """``version``: kohya's ``ss_base_model_version``; ``architecture``: modelspec's, before the slash."""

    version: str
    architecture: str
    embedding_key: str  # of a pseudo-word's tensor in ComfyUI's files
    sgm_names: bool = False  # in kohya's LoRA files


FAMILIES = {
    "embedded": Family("magictailor_embedded", "magictailor-embedded", "clip_l"),
    "sd1": Family("sd_v1", "stable-diffusion-v1", "clip_l"),
    "sd2": Family("sd_v2", "stable-diffusion-v2-512", "clip_h"),
    "sd2-v": Family("sd_v2", "stable-diffusion-v2-768-v", "clip_h"),
}
