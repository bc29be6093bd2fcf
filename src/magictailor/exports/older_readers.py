"""What readers of before transformers 5, and A1111, look for next to what today's write."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from magictailor.common.files import write_json, write_text
from magictailor.common.tensors import read_metadata, read_tensors, write_tensors

CLIP = ("CLIPTextModel", "CLIPTextModelWithProjection")


def _add_vocabulary(folder: Path) -> None:
    """``vocab.json``, ``merges.txt`` and ``added_tokens.json`` from ``tokenizer.json``."""
    tree: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    vocabulary: dict[str, int] = tree["model"]["vocab"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in tree["model"]["merges"]]
    added = {token["content"]: token["id"] for token in tree["added_tokens"] if token["content"] not in vocabulary}
    write_text(folder / "vocab.json", json.dumps(vocabulary, ensure_ascii=False))
    write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *merges, ""]))
    if added:
        write_json(folder / "added_tokens.json", added)


def _prefix_encoder(file: Path) -> None:
    """CLIP's tensors by ``text_model.``, as published checkpoints have them; transformers 5 reads them as well."""
    tensors = {
        name if name.startswith(("text_model.", "text_projection.")) else f"text_model.{name}": tensor
        for name, tensor in read_tensors(file).items()
    }
    write_tensors(file, tensors, read_metadata(file))


def add_for_older_readers(folder: Path) -> None:
    """Make a pipeline's folder readable by transformers 4 as well: its CLIP encoders and their tokenizers."""
    index: dict[str, Any] = json.loads((folder / "model_index.json").read_text("utf-8"))
    for part, kind in index.items():
        if not isinstance(kind, list):
            continue
        if kind[1] in CLIP:
            for file in (folder / part).glob("*.safetensors"):
                _prefix_encoder(file)
        if str(kind[1]).startswith("CLIPTokenizer") and (folder / part / "tokenizer.json").is_file():
            _add_vocabulary(folder / part)


def _yaml(tree: Mapping[str, Any], depth: int = 0) -> list[str]:
    lines = []
    for key, value in tree.items():
        if isinstance(value, dict):
            lines += [f"{'  ' * depth}{key}:", *_yaml(value, depth + 1)]
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            lines.append(f"{'  ' * depth}{key}: {text}")
    return lines


def v_configuration(large_text: bool) -> str:
    """The configuration that A1111 and ComfyUI read from ``NAME.yaml``, of a model that predicts v.

    ``large_text``: Stable Diffusion 2's text encoder and projections, instead of 1's.
    """
    own: dict[str, Any] = (
        {"num_head_channels": 64, "use_linear_in_transformer": True, "context_dim": 1024}
        if large_text
        else {"num_heads": 8, "context_dim": 768}
    )
    unet = {
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "attention_resolutions": [4, 2, 1],
        "num_res_blocks": 2, "channel_mult": [1, 2, 4, 4], "use_spatial_transformer": True, "transformer_depth": 1,
        "legacy": False, "use_checkpoint": False, **own,
    }  # fmt: skip
    autoencoder = {
        "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
        "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
    }  # fmt: skip
    text = (
        {
            "target": "ldm.modules.encoders.modules.FrozenOpenCLIPEmbedder",
            "params": {"freeze": True, "layer": "penultimate"},
        }
        if large_text
        else {"target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder"}
    )
    first_stage = {"embed_dim": 4, "ddconfig": autoencoder, "lossconfig": {"target": "torch.nn.Identity"}}
    params = {
        "parameterization": "v", "linear_start": 0.00085, "linear_end": 0.012, "num_timesteps_cond": 1, "timesteps": 1000,
        "first_stage_key": "jpg", "cond_stage_key": "txt", "image_size": 64, "channels": 4, "cond_stage_trainable": False,
        "conditioning_key": "crossattn", "scale_factor": 0.18215, "use_ema": False,
        "unet_config": {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": unet},
        "first_stage_config": {"target": "ldm.models.autoencoder.AutoencoderKL", "params": first_stage},
        "cond_stage_config": text,
    }  # fmt: skip
    tree = {"model": {"target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": params}}
    return "\n".join([*_yaml(tree), ""])
