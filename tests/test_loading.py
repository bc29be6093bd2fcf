"""Models as creators have them: a file, a folder, a name of the hub; and what is refused, with one line that says why."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers
from accelerate import init_empty_weights
from safetensors.torch import load_file, save_file

import magictailor.backbones.single_file as reading
from magictailor import InputError, personalize
from magictailor.backbones import load_backbone
from magictailor.backbones.clip_tokenizer import END, clip_tokenizer
from magictailor.backbones.configurations import BANG, CONFIGURATIONS, Configuration
from magictailor.backbones.single_file import ALLOW_PICKLE, Detected, family_of
from magictailor.common.tensors import write_tensors
from magictailor.exports.single_file import single_file
from magictailor.world.pairs import world_pair, write_pair
from tiny import SIZE, Call, pair, recipe, sdxl, vae_config

SMALL = {"intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
WIDTHS = {"text_encoder": 16, "text_encoder_2": 24}  # diffusers tells SDXL's two apart by them
UNETS: dict[str, dict[str, Any]] = {
    "sd1": {"cross_attention_dim": 16},
    "sd2": {"cross_attention_dim": 16, "use_linear_projection": True},
    "sd2-v": {"cross_attention_dim": 16, "use_linear_projection": True, "sample_size": SIZE // 2},
    "sdxl": {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2),
        "cross_attention_dim": 16 + 24,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 24,
    },
}


def shrunk(family: str) -> Configuration:
    """The family's configuration with every size small and everything else as it is; 49,408 words remain."""
    own = CONFIGURATIONS[family]
    sizes = {"block_out_channels": (16, 32), "attention_head_dim": 2, "norm_num_groups": 8, "sample_size": SIZE // 2}
    types = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    encoders = {
        n: (k, {**c, **SMALL, "hidden_size": WIDTHS[n], "projection_dim": WIDTHS[n]})
        for n, (k, c) in own.encoders.items()
    }
    vae = {**own.vae, **vae_config(), "layers_per_block": 2}
    return replace(own, unet={**own.unet, **types, **sizes, **UNETS[family]}, encoders=encoders, vae=vae)


def built(configuration: Configuration) -> Any:
    """A pipeline of this configuration with random weights."""
    torch.manual_seed(0)
    parts: dict[str, Any] = {
        "unet": diffusers.UNet2DConditionModel(**configuration.unet),
        "vae": diffusers.AutoencoderKL(**configuration.vae),
        "scheduler": diffusers.DDIMScheduler(**reading.NOISE),
    }
    for name, (kind, config) in configuration.encoders.items():
        parts[name] = getattr(transformers, kind)(transformers.CLIPTextConfig(**config))
        tokenizer = name.replace("text_encoder", "tokenizer")
        parts[tokenizer] = clip_tokenizer(configuration.pads.get(tokenizer, END))
    if configuration.pipeline == "StableDiffusionPipeline":
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return getattr(diffusers, configuration.pipeline)(**parts)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, Configuration]:
    """The product's configurations, shrunk."""
    configurations = {family: shrunk(family) for family in CONFIGURATIONS}
    monkeypatch.setattr(reading, "CONFIGURATIONS", configurations)
    return configurations


def saved(pipeline: Any, file: Path, **header: str) -> Path:
    write_tensors(file, single_file(pipeline.components, 49_408), header)
    return file


def test_the_configurations_are_the_published_models() -> None:
    """Numbers of parameters, as published; nothing is allocated."""
    counts = {}
    with init_empty_weights():
        for family, configuration in CONFIGURATIONS.items():
            networks = [
                diffusers.UNet2DConditionModel(**configuration.unet),
                diffusers.AutoencoderKL(**configuration.vae),
            ]
            networks += [
                getattr(transformers, k)(transformers.CLIPTextConfig(**c)) for k, c in configuration.encoders.values()
            ]
            counts[family] = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert counts == {
        "sd1": [859_520_964, 83_653_863, 123_060_480],
        "sd2": [865_910_724, 83_653_863, 340_387_840],
        "sd2-v": [865_910_724, 83_653_863, 340_387_840],
        "sdxl": [2_567_463_684, 83_653_863, 123_060_480, 694_659_840],
    }


def test_the_tokenizer_is_clips() -> None:
    tokenizer = clip_tokenizer()
    assert len(tokenizer) == 49_408
    assert tokenizer("A photo of a cat").input_ids == [49_406, 320, 1125, 539, 320, 2368, 49_407]
    text = "naïve café, 12 🙂"
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True).replace(" ", "") == text.replace(
        " ", ""
    )
    assert [clip_tokenizer(p).pad_token_id for p in (END, BANG)] == [49_407, 0]


@pytest.mark.parametrize("family", CONFIGURATIONS)
def test_a_checkpoint_in_one_file_is_opened_whole(
    family: str, small: dict[str, Configuration], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the hub: any call of it would fail here."""
    monkeypatch.setattr(socket.socket, "connect", None)
    wanted = built(small[family])
    header = {"modelspec.architecture": "stable-diffusion-v2-768-v"} if family == "sd2-v" else {}
    base = load_backbone(str(saved(wanted, tmp_path / "model.safetensors", **header)))
    assert base.family == family
    assert base.size == SIZE
    assert family in base.assumption
    for name in ("unet", "vae", *small[family].encoders):
        got = getattr(base.pipeline, name).state_dict()
        for key, tensor in getattr(wanted, name).state_dict().items():
            torch.testing.assert_close(got[key], tensor, rtol=0, atol=0)
    assert (base.noise_schedule["prediction_type"] == "v_prediction") == (family == "sd2-v")


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_run_on_a_file_is_the_run_on_the_folder(family: str, small: dict[str, Configuration], tmp_path: Path) -> None:
    pipeline = built(small[family])
    pipeline.save_pretrained(tmp_path / "folder")
    file = saved(pipeline, tmp_path / "model.safetensors")
    images = {}
    for model in (file, tmp_path / "folder"):
        run = personalize(pair(), tmp_path / f"run-{model.stem}", model=str(model), recipe=recipe("phases.0.lr=0.01"))
        (item,) = run.generate("<person> with <hair>", seed=3)
        images[model.stem] = np.asarray(item.image, int)
    assert np.abs(images["model"] - images["folder"]).max() <= 1


def test_what_a_checkpoint_predicts_is_told_by_itself_or_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "sd2.safetensors"
    tensors = {"cond_stage_model.model.ln_final.weight": torch.ones(4), reading.FIRST_LAYER: torch.zeros(8, 4, 3, 3)}
    save_file(tensors, file)
    assert family_of(file) == Detected("sd2")
    save_file({**tensors, "v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, file)
    assert family_of(file) == Detected("sd2-v", v=True, zero_snr=True)
    save_file(tensors, file, {"modelspec.prediction_type": "v"})
    assert family_of(file) == Detected("sd2-v", v=True)
    shifts = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    for spread, v in ((0.12, True), (0.05, False)):
        save_file({**tensors, reading.LAST_SHIFTS: spread * shifts}, file)
        assert family_of(file) == Detected("sd2-v" if v else "sd2", v)
    beside = tmp_path / "sd2.yaml"
    for text, v in (('model:\n  params:\n    parameterization: "v"\n', True), ("parameterization: eps\n", False)):
        beside.write_text(text)
        assert family_of(file) == Detected("sd2-v" if v else "sd2", v)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_file_as_it_is_found_in_the_wild_is_opened(
    family: str, small: dict[str, Configuration], tmp_path: Path
) -> None:
    """Half precision, averages beside the weights, schedules, position numbers, a mark that it predicts v."""
    wanted = built(small[family])
    tensors = {k: v.half().contiguous() for k, v in single_file(wanted.components, 49_408).items()}
    inner = "cond_stage_model" if family == "sd1" else "conditioner.embedders.0"
    tensors |= {
        "model_ema.decay": torch.tensor(0.99),
        "model_ema.diffusion_modelinput_blocks00weight": torch.zeros(16, 4, 3, 3),
        "alphas_cumprod": torch.linspace(1, 0, 1000),
        f"{inner}.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
        "v_pred": torch.zeros(0),
        "ztsnr": torch.zeros(0),
    }
    save_file({k: v.clone() for k, v in tensors.items()}, tmp_path / "wild.safetensors")
    base = load_backbone(str(tmp_path / "wild.safetensors"))
    assert base.family == family
    assert base.noise_schedule["prediction_type"] == "v_prediction"
    latents, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(base.add_noise(latents, noise, torch.tensor([999])), noise, rtol=0, atol=1e-3)
    got = base.denoiser.state_dict()
    for key, tensor in wanted.unet.state_dict().items():
        torch.testing.assert_close(got[key], tensor.half().float(), rtol=0, atol=0)


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_a_file_of_the_first_months_is_the_same_model(
    suffix: str, small: dict[str, Configuration], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names CLIP's tensors without ``text_model.``, and has position numbers."""
    monkeypatch.setenv(ALLOW_PICKLE, "1")
    wanted = built(small["sd1"])
    clip = "cond_stage_model.transformer."
    tensors = {k.replace(f"{clip}text_model.", clip): v for k, v in single_file(wanted.components, 49_408).items()}
    tensors[f"{clip}embeddings.position_ids"] = torch.arange(77)[None]
    file = tmp_path / f"old{suffix}"
    torch.save({"state_dict": tensors}, file) if suffix == ".ckpt" else write_tensors(file, tensors)
    base = load_backbone(str(file))
    for key, tensor in wanted.text_encoder.state_dict().items():
        torch.testing.assert_close(base.pipeline.text_encoder.state_dict()[key], tensor, rtol=0, atol=0)
    if suffix == ".safetensors":
        del tensors[f"{clip}final_layer_norm.weight"]
        write_tensors(file, tensors)
        with pytest.raises(InputError, match="text encoder is not complete"):
            load_backbone(str(file))


def test_what_a_base_predicts_survives_its_export(
    small: dict[str, Configuration], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that predicts v gives a checkpoint that says so, and code for diffusers that says so."""
    file = tmp_path / "v.safetensors"
    write_tensors(
        file,
        {**single_file(built(small["sdxl"]).components, 49_408), "v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)},
    )
    run = personalize(pair(), tmp_path / "run", model=str(file), recipe=recipe())
    assert family_of(run.export(tmp_path / "one", "checkpoint") / "run.safetensors") == Detected("sdxl", True, True)
    text = (run.export(tmp_path / "out", "diffusers") / "README.md").read_text()
    assert f"StableDiffusionXLPipeline.from_single_file('{file}')" in text
    assert 'prediction_type="v_prediction"' in text


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", "holds only a transformer"),
        ("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", "after an @"),
        ("conditioner.embedders.0.model.ln_final.weight", "SDXL's refiner"),
        ("lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight", "a LoRA, which needs a base next to it"),
        ("edm_mean", "Playground 2.5"),
        ("a_tensor", "none of the known text encoders"),
    ],
)
def test_another_family_is_named_and_refused(key: str, message: str, tmp_path: Path) -> None:
    save_file({key: torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=message) as refused:
        load_backbone(str(tmp_path / "model.safetensors"))
    assert "Stable Diffusion 1.x, 2.x and SDXL" in str(refused.value) or "@" in str(refused.value)


def test_damaged_and_inpainting_files_are_refused(small: dict[str, Configuration], tmp_path: Path) -> None:
    whole = saved(built(small["sd1"]), tmp_path / "whole.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:-1000])
    tensors = load_file(whole)
    save_file({**tensors, reading.FIRST_LAYER: torch.zeros(16, 9, 3, 3)}, tmp_path / "inpainting.safetensors")
    del tensors["model.diffusion_model.input_blocks.1.1.proj_in.weight"]
    save_file(tensors, tmp_path / "lacking.safetensors")
    for name, message in (("cut", "download it again"), ("inpainting", "inpainting"), ("lacking", "lacking")):
        with pytest.raises(InputError, match=message) as refused:
            load_backbone(str(tmp_path / f"{name}.safetensors"))
        assert "\n" not in str(refused.value)


class Attack:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("attacked",))


def test_a_pickle_is_opened_only_when_allowed_and_then_without_code(
    small: dict[str, Configuration], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = built(small["sd1"])
    torch.save({"state_dict": single_file(pipeline.components, 49_408)}, tmp_path / "model.ckpt")
    torch.save({"state_dict": {"weight": Attack()}}, tmp_path / "attack.ckpt")
    monkeypatch.chdir(tmp_path)
    for name in ("model", "attack"):
        with pytest.raises(InputError, match=f"can run code; convert it to safetensors, or trust it: {ALLOW_PICKLE}=1"):
            load_backbone(str(tmp_path / f"{name}.ckpt"))
    monkeypatch.setenv(ALLOW_PICKLE, "1")
    base: Any = load_backbone(str(tmp_path / "model.ckpt"))
    for key, tensor in pipeline.unet.state_dict().items():
        torch.testing.assert_close(base.denoiser.state_dict()[key], tensor, rtol=0, atol=0)
    with pytest.raises(InputError, match="not a plain state dict, or damaged; convert it to"):
        load_backbone(str(tmp_path / "attack.ckpt"))
    assert not (tmp_path / "attacked").exists()


def test_a_name_of_the_hub_is_found_in_its_cache_and_otherwise_refused(tmp_path: Path) -> None:
    cached = tmp_path / "hub" / "models--tiny--sdxl"
    sdxl().save_pretrained(cached / "snapshots" / ("0" * 40))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0" * 40)
    code = (
        "from magictailor.backbones import load_backbone\n"
        "base = load_backbone('tiny/sdxl')\n"
        "print(base.name, base.family)\n"
        "from magictailor.cli import main\n"
        "import sys; sys.argv = ['magictailor', 'train', sys.argv[1], '--model', 'tiny/other', '--output', 'run']; main()"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    from magictailor.world.pairs import world_pair, write_pair

    folder = write_pair(world_pair(3), tmp_path / "pair")
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], env=environment, capture_output=True, text=True, cwd=tmp_path, check=False
    )  # fmt: skip
    assert done.stdout.splitlines()[0] == "tiny/sdxl sdxl", done.stderr
    assert done.returncode == 2
    assert "tiny/other" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


class Card(dict[str, str]):
    """As much of a hub's model card as is read."""


def hub(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[str]:
    """A hub without a network: nothing is cached, and every question gets this answer. Returns what is downloaded."""
    import diffusers
    import huggingface_hub

    asked: list[str] = []

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(name)
        raise OSError("no network here")

    monkeypatch.setattr("magictailor.backbones.load.hub_answers", lambda: True)
    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", missing)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", missing)
    monkeypatch.setattr(huggingface_hub, "model_info", answer)
    return asked


def test_a_gated_model_is_refused_with_the_page_where_its_licence_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx2
    from huggingface_hub.errors import GatedRepoError

    def gated(name: str) -> Any:
        raise GatedRepoError(
            "403", response=httpx2.Response(403, request=httpx2.Request("GET", "https://huggingface.co"))
        )

    hub(monkeypatch, gated)
    with pytest.raises(InputError) as refused:
        load_backbone("black-forest-labs/FLUX.2-dev", device="cpu")
    assert "https://huggingface.co/black-forest-labs/FLUX.2-dev" in refused.value.fix
    assert "hf auth login" in refused.value.fix


def test_the_licence_is_said_before_anything_is_downloaded(
    monkeypatch: pytest.MonkeyPatch, call: Call, tmp_path: Path
) -> None:
    class Info:
        card_data = Card(license="other", license_name="flux-non-commercial-license")

    asked = hub(monkeypatch, lambda name: Info())
    write_pair(world_pair(100000060), tmp_path / "pair")
    result = call("train", tmp_path / "pair", "--model", "black-forest-labs/FLUX.2-dev", "--output", tmp_path / "run")
    assert result.code == 2
    assert "flux-non-commercial-license" in result.err
    assert "neither a folder or file here" in result.err
    assert asked[0] == "black-forest-labs/FLUX.2-dev"
