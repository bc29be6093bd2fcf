"""`inspect` names kind, family and readers of files of all kinds, as their tools write them, or says that it does not know."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from magictailor.common.errors import InputError
from magictailor.exports.inspection import inspect

Shapes = dict[str, tuple[int, ...]]


def header_only(path: Path, shapes: Shapes, metadata: dict[str, str] | None = None) -> Path:
    """A safetensors file of zeros: half precision, sparse on disk."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path


def kohya(name: str, inputs: int, outputs: int, rank: int = 8) -> Shapes:
    return {f"{name}.lora_down.weight": (rank, inputs), f"{name}.lora_up.weight": (outputs, rank), f"{name}.alpha": ()}


def ab(name: str, inputs: int, outputs: int, rank: int = 8, default: str = "") -> Shapes:
    return {f"{name}.lora_A{default}.weight": (rank, inputs), f"{name}.lora_B{default}.weight": (outputs, rank)}


UP = "up_blocks_1_attentions_0_transformer_blocks_0_attn"
CROSS = "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
KNOWN: dict[str, tuple[Shapes, str, str, str]] = {
    "kohya, SD 1": (kohya(f"lora_unet_{UP}2_to_k", 768, 320), "LoRA, kohya", "Stable Diffusion 1.x", "A1111"),
    "kohya, SD 2": (kohya(f"lora_unet_{UP}2_to_k", 1024, 320), "LoRA, kohya", "Stable Diffusion 2.x", "A1111"),
    "kohya, SDXL": (
        kohya("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", 2048, 640), "LoRA, kohya", "SDXL", "sd-scripts",
    ),
    "kohya, SDXL without cross-attention": (
        kohya("lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q", 640, 640), "LoRA, kohya", "SDXL", "A1111",
    ),
    "kohya, SD 1 or 2 without cross-attention": (
        kohya(f"lora_unet_{UP}1_to_q", 320, 320), "LoRA", "Stable Diffusion 1.x or Stable Diffusion 2.x", "A1111",
    ),
    "kohya, text encoder alone": (
        kohya("lora_te_text_model_encoder_layers_0_self_attn_q_proj", 768, 768), "LoRA", "Stable Diffusion 1.x", "A1111",
    ),
    "kohya, SDXL's text encoders": (
        kohya("lora_te2_text_model_encoder_layers_0_self_attn_q_proj", 1280, 1280), "LoRA", "SDXL", "A1111",
    ),
    "diffusers, SD 1": (ab(CROSS, 768, 320), "LoRA, diffusers", "Stable Diffusion 1.x", "diffusers (ComfyUI drops"),
    "diffusers of 2024, SDXL": (
        {f"{CROSS}.lora.down.weight": (4, 2048), f"{CROSS}.lora.up.weight": (640, 4)}, "LoRA, diffusers", "SDXL", "diffusers",
    ),
    "old attention processors": (
        {f"{CROSS.replace('.to_k', '.processor.to_k_lora')}.down.weight": (4, 768),
         f"{CROSS.replace('.to_k', '.processor.to_k_lora')}.up.weight": (320, 4)},
        "LoRA, old diffusers", "Stable Diffusion 1.x", "2023",
    ),
    "ComfyUI, SDXL": (
        ab("diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k", 2048, 640), "LoRA, ComfyUI", "SDXL", "OneTrainer",
    ),
    "PEFT": (ab(f"base_model.model.{CROSS[5:]}", 768, 320), "LoRA, PEFT", "Stable Diffusion 1.x", "peft only"),
    "PEFT with its adapter's name": (
        ab(f"base_model.model.{CROSS[5:]}", 768, 320, default=".default"), "LoRA, PEFT", "Stable Diffusion 1.x", "peft only",
    ),
    "DoRA of kohya": (
        kohya(f"lora_unet_{UP}2_to_k", 768, 320) | {f"lora_unet_{UP}2_to_k.dora_scale": (320, 1)}, "DoRA", "1.x", "ComfyUI",
    ),
    "DoRA of diffusers": (
        ab(CROSS, 768, 320) | {f"{CROSS}.lora_magnitude_vector": (320,)}, "DoRA, diffusers", "1.x", "ComfyUI",
    ),
    "LoHa": (
        {f"lora_unet_{UP}2_to_k.hada_w{i}_{f}": s for i in (1, 2) for f, s in (("a", (320, 4)), ("b", (4, 768)))},
        "LoHa, kohya", "Stable Diffusion 1.x", "A1111",
    ),
    "LoKr": (
        {f"lycoris_{UP}2_to_k.lokr_w1": (16, 16), f"lycoris_{UP}2_to_k.lokr_w2_a": (20, 4)}, "LoKr, LyCORIS", "", "ComfyUI",
    ),
    "OFT": ({f"lora_unet_{UP}1_to_q.oft_blocks": (4, 80, 80)}, "OFT, kohya", "Stable Diffusion", "ComfyUI"),
    "IA3": (
        {f"lora_unet_{UP}2_to_k.weight": (320,), f"lora_unet_{UP}2_to_k.on_input": ()}, "IA3, kohya", "Stable Diffusion", "A1111",
    ),
    "full difference": ({"diffusion_model.input_blocks.4.1.transformer_blocks.1.attn1.to_q.diff": (640, 640)}, "full", "SDXL", ""),
    "FLUX.1, kohya": (
        kohya("lora_unet_single_blocks_0_linear1", 3072, 21504) | kohya("lora_unet_double_blocks_0_img_attn_qkv", 3072, 9216),
        "LoRA, kohya", "FLUX.1", "Forge, ComfyUI, sd-scripts",
    ),
    "FLUX.1, diffusers": (
        ab("transformer.single_transformer_blocks.0.attn.to_q", 3072, 3072), "LoRA, diffusers", "FLUX.1", "diffusers",
    ),
    "FLUX.2 dev, ComfyUI": (
        ab("diffusion_model.double_blocks.0.img_attn.qkv", 6144, 18432), "LoRA, ComfyUI", "FLUX.2 dev", "ComfyUI, diffusers",
    ),
    "FLUX.2 klein 9B, diffusers": (
        ab("transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj", 4096, 36864), "LoRA", "FLUX.2 klein 9B", "diffusers",
    ),
    "FLUX.2 klein 4B, ComfyUI": (
        ab("diffusion_model.single_blocks.0.linear1", 3072, 27648), "LoRA", "FLUX.2 klein 4B", "ComfyUI",
    ),
    "SD 3, kohya": (
        kohya("lora_unet_joint_blocks_0_x_block_attn_qkv", 1536, 4608), "LoRA, kohya", "Stable Diffusion 3", "sd-scripts",
    ),
    "SD 3, diffusers": (
        ab("transformer.transformer_blocks.0.attn.add_q_proj", 1536, 1536), "LoRA", "Stable Diffusion 3", "diffusers",
    ),
    "Qwen-Image": (
        ab("transformer.transformer_blocks.30.attn.add_q_proj", 3072, 3072)
        | ab("transformer.transformer_blocks.30.img_mlp.net.0.proj", 3072, 12288),
        "LoRA, diffusers", "Qwen-Image", "ComfyUI",
    ),
    "Qwen-Image or FLUX.1": (
        ab("transformer.transformer_blocks.0.attn.add_q_proj", 3072, 3072), "LoRA", "FLUX.1 or Qwen-Image", "diffusers",
    ),
    "Z-Image, ComfyUI": (
        ab("diffusion_model.layers.0.attention.qkv", 3840, 11520), "LoRA, ComfyUI", "Z-Image", "ComfyUI, diffusers",
    ),
    "Lumina 2": (ab("diffusion_model.layers.0.attention.qkv", 2304, 4608), "LoRA", "Lumina 2", "ComfyUI"),
    "Sana": (ab("transformer.transformer_blocks.0.attn1.to_q", 2240, 2240), "LoRA, diffusers", "Sana", "diffusers"),
    "Wan": (ab("diffusion_model.blocks.0.self_attn.q", 5120, 5120), "LoRA, ComfyUI", "Wan", "ComfyUI"),
    "HunyuanVideo": (
        kohya("lora_unet_double_blocks_0_img_mlp_fc1", 3072, 12288), "LoRA, kohya", "HunyuanVideo", "ComfyUI",
    ),
    "Chroma": (
        ab("diffusion_model.distilled_guidance_layer.layers.0.in_layer", 5120, 5120), "LoRA, ComfyUI", "Chroma", "ComfyUI",
    ),
    "embedding, SD 1": ({"emb_params": (4, 768)}, "embedding", "Stable Diffusion 1.x", "A1111"),
    "embedding, SD 2": ({"clip_h": (1, 1024)}, "embedding", "Stable Diffusion 2.x", "ComfyUI"),
    "embedding, SDXL": ({"clip_l": (2, 768), "clip_g": (2, 1280)}, "embedding", "SDXL", "an encoder at a time"),
    "embedding, FLUX.1": ({"clip_l": (2, 768), "t5xxl": (2, 4096)}, "embedding", "FLUX.1", "ComfyUI"),
    "checkpoint, SDXL": (
        {"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3), "first_stage_model.a": (1,),
         "conditioner.embedders.1.model.a": (1,)},
        "checkpoint, a whole model", "SDXL", "A1111",
    ),
    "checkpoint, SD 2": (
        {"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3), "first_stage_model.a": (1,),
         "cond_stage_model.model.a": (1,)},
        "checkpoint, a whole model", "Stable Diffusion 2.x", "A1111",
    ),
    "checkpoint, FLUX.1's denoiser": (
        {"model.diffusion_model.double_blocks.0.img_attn.qkv.weight": (9216, 3072),
         "model.diffusion_model.single_blocks.0.linear1.weight": (21504, 3072)},
        "checkpoint, the denoiser only", "FLUX.1", "",
    ),
    "ControlNet": ({"control_model.input_blocks.0.0.weight": (320, 4, 3, 3)}, "ControlNet", "unknown", "not known"),
    "IP-Adapter": ({"ip_adapter.1.to_k_ip.weight": (320, 768), "image_proj.norm.weight": (768,)}, "IP-Adapter", "", ""),
    "text encoder": ({"text_model.encoder.layers.0.mlp.fc1.weight": (3072, 768)}, "text encoder", "unknown", ""),
    "autoencoder": ({"encoder.conv_in.weight": (128, 3, 3, 3)}, "autoencoder", "unknown", ""),
    "empty": ({}, "nothing", "unknown", "not known"),
    "a lone matrix": ({"weight": (320, 320)}, "not known", "unknown", "not known"),
    "anything else": ({f"block.{i}.weight": (3, 3) for i in range(9)}, "not known (9 tensors", "unknown", "not known"),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_kind_family_and_readers(name: str, tmp_path: Path) -> None:
    shapes, kind, family, readers = KNOWN[name]
    found = inspect(header_only(tmp_path / "a.safetensors", shapes))
    assert found.kind.startswith(kind)
    assert family in found.family
    assert readers in found.readers
    if kind.startswith("LoRA, kohya"):
        exact = found.family
        assert exact == family  # no more than is known


def test_there_are_forty_kinds() -> None:
    assert len(KNOWN) >= 40


def test_a_text_encoders_alpha_is_its_own(tmp_path: Path) -> None:
    shapes = ab(CROSS, 768, 320) | ab("text_encoder.text_model.encoder.layers.0.self_attn.q_proj", 768, 768, rank=4)
    config = json.dumps({"unet.lora_alpha": 16, "text_encoder.lora_alpha": 2})
    found = inspect(header_only(tmp_path / "a.safetensors", shapes, {"lora_adapter_metadata": config}))
    assert (found.ranks, found.text_ranks) == ({8: 1}, {4: 1})
    assert (found.alphas, found.text_alphas) == ({16.0: 1}, {2.0: 1})
    assert found.lines()["alpha"] == "16; text encoder 2"


def test_bundled_embeddings_name_the_one_tool_that_reads_them(tmp_path: Path) -> None:
    shapes = kohya(f"lora_unet_{UP}2_to_k", 768, 320) | {"bundle_emb.ada-hair.clip_l": (1, 768)}
    found = inspect(header_only(tmp_path / "a.safetensors", shapes))
    assert found.embeddings == {"ada-hair.clip_l": (1, 768)}
    assert found.readers.startswith("A1111, with its embeddings")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"), (b"12345", "cut short"), (b"\xff" * 100, "cut short"), ((90 * 2**20).to_bytes(8, "little"), "cut short"),
        ((2).to_bytes(8, "little") + b"[]", "not safetensors"), ((4).to_bytes(8, "little") + b"nope", "not safetensors"),
    ],
)  # fmt: skip
def test_what_is_no_safetensors_is_one_line(content: bytes, word: str, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=word) as caught:
        inspect(tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value)
    assert "name a .safetensors file" in str(caught.value)


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    whole = header_only(tmp_path / "a.safetensors", kohya(f"lora_unet_{UP}2_to_k", 768, 320)).read_bytes()
    for end in range(0, len(whole), 4096):
        (tmp_path / "cut.safetensors").write_bytes(whole[:end])
        with pytest.raises(InputError):
            inspect(tmp_path / "cut.safetensors")


def test_inspection_imports_no_torch(tmp_path: Path) -> None:
    file = header_only(tmp_path / "a.safetensors", kohya(f"lora_unet_{UP}2_to_k", 768, 320))
    code = (
        "import sys; from magictailor.cli import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, "inspect", file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Stable Diffusion 1.x" in done.stdout
