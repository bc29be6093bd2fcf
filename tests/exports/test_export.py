"""Exports: every name that the tools know, the strength that was trained, and the same image without our code."""

import json
import lzma
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import init_empty_weights
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from magictailor import InputError, load, personalize
from magictailor.backbones.configurations import CONFIGURATIONS
from magictailor.backbones.lora import Layer
from magictailor.backbones.lora_names import comfyui_name, kohya_name
from magictailor.backbones.stable_diffusion import LORA_TARGETS
from magictailor.common.tensors import read_metadata
from magictailor.exports import FORMATS, export, inspect
from magictailor.exports.single_file import single_file
from magictailor.recipe import LoRA, PseudoWords
from magictailor.training.run_folder import LORA_FILE, WORDS_FILE
from tiny import PROMPT, drawn, opened, pair, recipe

NAMES = Path(__file__).parent / "names"


def names_of(family: str) -> list[str]:
    """Lines of a module's name in diffusers and in the original code."""
    return lzma.open(NAMES / f"{family}.txt.xz", "rt").read().splitlines()


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rank 4 and alpha 16: a reader that loses alpha generates another image."""
    strong = recipe("phases.0.lr=0.02", "phases.1.lr=0.02", "train.0.alpha=16")
    output = tmp_path_factory.mktemp("runs") / "ada"
    return personalize(pair(), output, model=str(tiny_folder), recipe=strong).folder


@pytest.fixture(scope="module")
def ours(run: Path) -> np.ndarray:
    (item,) = load(run).generate(PROMPT, seed=9)
    return np.asarray(item.image, int)


@pytest.mark.parametrize(("format", "file"), [("diffusers", LORA_FILE), ("kohya", "ada.safetensors")])
def test_plain_diffusers_generates_the_same_from_the_files(
    format: str, file: str, run: Path, ours: np.ndarray, tiny_folder: Path, tmp_path: Path
) -> None:
    made = export(run, tmp_path / "out", format)
    pipeline = opened(tiny_folder)
    bare = drawn(pipeline)
    pipeline.load_lora_weights(made, weight_name=file)
    for word in ("person", "hair"):
        pipeline.load_textual_inversion(made / f"ada-{word}.safetensors", token=f"<{word}>")
    assert np.abs(drawn(pipeline) - ours).max() <= 1
    assert np.abs(bare - ours).max() > 20


def test_a_merged_pipeline_needs_no_lora(run: Path, ours: np.ndarray, tmp_path: Path) -> None:
    pipeline = opened(export(run, tmp_path / "out", "merged"))
    assert not [n for n, _ in pipeline.unet.named_parameters() if "lora" in n]
    assert np.abs(drawn(pipeline) - ours).max() <= 2


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_a_checkpoint_in_one_file_comes_back_whole(
    activation: str, run: Path, ours: np.ndarray, tiny_folder: Path, tmp_path: Path
) -> None:
    """Read by diffusers' own converter: Stable Diffusion 1's layout, and 2's with its fused matrices and spare layer."""
    merged = opened(export(run, tmp_path / "merged", "merged"))
    merged.text_encoder.config.hidden_act = activation
    count = len(merged.tokenizer) - 2
    tensors = single_file(merged.components, count)
    assert sum(".resblocks.2." in k for k in tensors) == (
        12 if activation == "gelu" else 0
    )  # two layers, and the spare
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, tmp_path / "model.safetensors")
    again = StableDiffusionPipeline.from_single_file(
        str(tmp_path / "model.safetensors"), config=str(tiny_folder), local_files_only=True
    )
    for part in ("unet", "vae"):
        wanted, got = (dict(getattr(p, part).state_dict()) for p in (merged, again))
        assert set(wanted) == set(got)
        for name, tensor in wanted.items():
            torch.testing.assert_close(got[name], tensor, rtol=0, atol=0)
    theirs = again.text_encoder.state_dict()
    for name, tensor in merged.text_encoder.state_dict().items():
        torch.testing.assert_close(
            theirs[name], tensor[:count] if "token_embedding" in name else tensor, rtol=0, atol=0
        )


def test_a_checkpoint_and_its_embeddings_generate_the_same(
    run: Path, ours: np.ndarray, tiny_folder: Path, tmp_path: Path
) -> None:
    made = export(run, tmp_path / "out", "checkpoint")
    pipeline = StableDiffusionPipeline.from_single_file(
        str(made / "ada.safetensors"), config=str(tiny_folder), local_files_only=True, safety_checker=None
    )
    for word in ("person", "hair"):
        pipeline.load_textual_inversion(made / f"ada-{word}.safetensors", token=f"<{word}>")
    assert np.abs(drawn(pipeline) - ours).max() <= 2


def changes(tensors: Mapping[str, Tensor], down: str, up: str) -> dict[str, Tensor]:
    """What each layer's weight gains at strength 1, as kohya and ComfyUI compute it: alpha / rank."""
    names = [k.removesuffix(down) for k in tensors if k.endswith(down)]
    return {
        n: tensors[n + up].flatten(1) @ tensors[n + down].flatten(1) * tensors[f"{n}.alpha"] / len(tensors[n + down])
        for n in names
    }


@pytest.mark.parametrize(
    ("format", "down", "up"),
    [("kohya", ".lora_down.weight", ".lora_up.weight"), ("comfyui", ".lora_A.weight", ".lora_B.weight")],
)
def test_every_trained_layer_gains_what_was_trained(
    format: str, down: str, up: str, run: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """Against the weights of a pipeline that diffusers has merged, minus the base's."""
    merged, base = opened(export(run, tmp_path / "merged", "merged")).unet, opened(tiny_folder).unet
    tensors = load_file(export(run, tmp_path / "out", format) / "ada.safetensors")
    gained = changes(tensors, down, up)
    assert len(tensors) == 3 * len(gained)  # nothing unknown
    name = {"kohya": lambda n: kohya_name(n, 1, False), "comfyui": lambda n: comfyui_name(n, 1)}[format]
    before = dict(base.named_parameters())
    moved = {n.removesuffix(".weight"): (p - before[n]).detach() for n, p in merged.named_parameters()}
    trained = {n: change.flatten(1) for n, change in moved.items() if change.abs().max() > 1e-6}
    assert set(gained) == {name(n) for n in trained}
    for module, change in trained.items():
        torch.testing.assert_close(gained[name(module)], change, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_names_are_the_tools_own(family: str) -> None:
    """The lists come from ComfyUI's published rule (comfy/utils.py, unet_to_diffusers, 2026-02); SD 2 has SD 1's."""
    known = dict(line.split() for line in names_of(family))
    for module, native in known.items():
        assert comfyui_name(module, 2) == f"diffusion_model.{native}"
        assert kohya_name(module, 2, sgm=True) == f"lora_unet_{native.replace('.', '_')}"
        assert kohya_name(module, 2, sgm=False) == f"lora_unet_{module.replace('.', '_')}"
    assert len({comfyui_name(module, 2) for module in known}) == len(known)


@pytest.mark.parametrize(("family", "listed"), [("sd1", "sd1"), ("sd2", "sd1"), ("sd2-v", "sd1"), ("sdxl", "sdxl")])
def test_the_tools_know_every_layer_that_is_trained(family: str, listed: str) -> None:
    """Of the full models, by the tools' lists; nothing is allocated. Attention, its projections, the feed-forward's end."""
    known = {line.split()[0] for line in names_of(listed)}
    with init_empty_weights():
        unet = UNet2DConditionModel(**CONFIGURATIONS[family].unet)
    trained = {n for n, m in unet.named_modules() if n.endswith(LORA_TARGETS) and hasattr(m, "weight")}
    blocks = {"sd1": 16, "sd2": 16, "sd2-v": 16, "sdxl": 70}[family]
    projected = {"sdxl": 11}.get(family, 16)
    assert len(trained) == blocks * 9 + projected * 2  # twice q, k, v, out, and ff.net.2; proj_in, proj_out
    assert trained <= known


def test_a_layer_outside_the_transformers_has_no_name() -> None:
    with pytest.raises(ValueError, match=r"conv_in: not in"):
        comfyui_name("conv_in", 2)


def test_folding_alpha_changes_no_weight() -> None:
    layer = Layer(torch.randn(4, 6), torch.randn(5, 4), alpha=16.0)
    folded = layer.folded()
    assert (folded.alpha, folded.rank) == (4.0, 4)
    torch.testing.assert_close(folded.up @ folded.down, layer.up @ layer.down * 16 / 4)


def test_kohyas_header_and_bundle(run: Path, tmp_path: Path) -> None:
    made = export(run, tmp_path / "out", "kohya", bundle=True, half=True)
    header, tensors = read_metadata(made / "ada.safetensors"), load_file(made / "ada.safetensors")
    assert (header["ss_network_dim"], header["ss_network_alpha"]) == ("4", "16")
    assert header["modelspec.trigger_phrase"] == "a photo of ada-person with ada-hair"
    assert header["modelspec.architecture"] == "magictailor-embedded/lora"
    words = load_file(run / WORDS_FILE)
    for word in ("person", "hair"):
        torch.testing.assert_close(
            tensors[f"bundle_emb.ada-{word}.clip_l"].float(), words[f"words.<{word}>.clip"], rtol=1e-3, atol=1e-3
        )
        assert list(load_file(made / f"ada-{word}.safetensors")) == ["emb_params"]
    floats = {v.dtype for k, v in tensors.items() if not k.endswith(".alpha")}
    assert floats == {torch.float16}


@pytest.mark.parametrize("format", FORMATS)
def test_the_readme_holds_the_prompt(format: str, run: Path, tmp_path: Path) -> None:
    made = export(run, tmp_path / "out", format)
    text = (made / "README.md").read_text()
    prompts = {
        "kohya": "a photo of ada-person with ada-hair <lora:ada:1>",
        "checkpoint": "a photo of ada-person with ada-hair\n",
        "comfyui": "embedding:ada-person with embedding:",
    }
    assert prompts.get(format, "a photo of <person> with <hair>") in text
    assert not [p.name for p in made.rglob("*") if "<" in p.name]
    for named in ("ada-person.safetensors", "ada-hair.safetensors"):
        assert (named in text) == (made / named).exists()


def test_bad_exports_write_nothing(run: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("keep")
    for arguments, message in (
        ((run, tmp_path / "a", "onnx"), "format onnx: not a format; choose one of diffusers, kohya"),
        ((run, full), "not empty"),
        ((tmp_path, tmp_path / "a"), "not a run"),
    ):
        with pytest.raises(InputError, match=message):
            export(*arguments)
    with pytest.raises(InputError, match="only kohya's"):
        export(run, tmp_path / "a", "diffusers", bundle=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full"]


@pytest.mark.parametrize("format", ["diffusers", "kohya"])
def test_a_lora_alone_is_exported_with_the_words_it_was_trained_with(
    format: str, tiny_folder: Path, tmp_path: Path
) -> None:
    alone = recipe("train.0.alpha=16", "phases.0.lr=0.05").model_copy(update={"train": (LoRA(rank=4, alpha=16),)})
    run = personalize(pair(), tmp_path / "bea", model=str(tiny_folder), recipe=alone)
    made = run.export(tmp_path / "out", format)
    pipeline = opened(tiny_folder)
    pipeline.load_lora_weights(made, weight_name=LORA_FILE if format == "diffusers" else "bea.safetensors")
    for word in ("person", "hair"):
        pipeline.load_textual_inversion(made / f"bea-{word}.safetensors", token=f"<{word}>")
    (item,) = run.generate(PROMPT, seed=9)
    assert np.abs(drawn(pipeline) - np.asarray(item.image, int)).max() <= 1


def test_words_alone_name_no_lora(tiny_folder: Path, tmp_path: Path) -> None:
    settings = [f"phases.{i}.preserve=none" for i in (0, 1)]
    words = recipe(*settings).model_copy(update={"train": (PseudoWords(),)})
    run = personalize(pair(), tmp_path / "bea", model=str(tiny_folder), recipe=words)
    for format in ("kohya", "comfyui", "diffusers"):
        made = run.export(tmp_path / format, format)
        assert sorted(p.name for p in made.glob("*.safetensors")) == ["bea-hair.safetensors", "bea-person.safetensors"]
        text = (made / "README.md").read_text()
        assert not [t for t in ("lora", "LoRA") if t in text]
    with pytest.raises(InputError, match="bundle needs a LoRA"):
        run.export(tmp_path / "bundle", "kohya", bundle=True)


def test_the_loras_below_a_run_are_named_once(tiny_folder: Path, run: Path, tmp_path: Path) -> None:
    """A community LoRA must be loaded with the files; a whole model has it in its weights."""
    style = export(run, tmp_path / "style", "kohya", bundle=True) / "ada.safetensors"
    on_top = personalize(pair(), tmp_path / "bea", model=str(tiny_folder), recipe=recipe(), loras=[f"{style}=0.5"])
    for format in FORMATS:
        text = (on_top.export(tmp_path / format, format) / "README.md").read_text()
        assert ("at strength 0.5: load that too" in text) == (format not in ("merged", "checkpoint"))


def test_half_precision_is_half_everywhere(run: Path, tmp_path: Path) -> None:
    for format in FORMATS:
        for file in export(run, tmp_path / format, format, half=True).rglob("*.safetensors"):
            kinds = {v.dtype for k, v in load_file(file).items() if not k.endswith((".alpha", "position_ids"))}
            assert kinds == {torch.float16}, (format, file.name)


def test_a_run_of_the_whole_matrix_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    whole = recipe(method="magictailor-reference")
    run = personalize(pair(), tmp_path / "run", model=str(tiny_folder), recipe=whole)
    with pytest.raises(InputError, match="magictailor-reference trains the whole embedding matrix"):
        run.export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_inspect_identifies_each_file(run: Path, tmp_path: Path) -> None:
    kinds, triggers = {}, {"diffusers": "<hair>", "kohya": "ada-hair", "comfyui": "embedding:ada-hair"}
    for format, file in (("diffusers", LORA_FILE), ("kohya", "ada.safetensors"), ("comfyui", "ada.safetensors")):
        made = export(run, tmp_path / format, format)
        found = inspect(made / file)
        kinds[format] = found.kind
        layers = json.loads(read_metadata(run / LORA_FILE)["lora_adapter_metadata"])
        assert layers["unet.r"] == 4
        assert list(found.ranks) == [4]
        assert list(found.alphas) == [4.0 if format == "diffusers" else 16.0]  # folded for diffusers
        assert list(found.layers) == ["U-Net"]
        assert found.ranks == {4: found.layers["U-Net"]}
        word = inspect(made / "ada-hair.safetensors")
        assert (word.kind, list(word.embeddings.values()), word.trigger) == ("embedding", [(1, 16)], triggers[format])
    assert list(kinds.values()) == [f"LoRA, {whose}'s names" for whose in ("diffusers", "kohya", "ComfyUI")]
    assert inspect(tmp_path / "kohya" / "ada.safetensors").lines()["prompt"].startswith("a photo of ada-person")


def test_inspect_identifies_families_by_their_sizes_and_refuses_the_rest(tmp_path: Path) -> None:
    for width, family in ((768, "Stable Diffusion 1.x"), (1024, "Stable Diffusion 2.x"), (2048, "SDXL")):
        name = "lora_unet_middle_block_1_transformer_blocks_0_attn2_to_k"
        layer = {f"{name}.lora_down.weight": torch.zeros(8, width), f"{name}.lora_up.weight": torch.zeros(320, 8)}
        save_file(layer, tmp_path / "a.safetensors")
        found = inspect(tmp_path / "a.safetensors")
        assert (found.family, found.alphas) == (family, {8.0: 1})  # no alpha in the file: as the rank
    (tmp_path / "a.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="not safetensors"):
        inspect(tmp_path / "a.pt")
    with pytest.raises(InputError, match="missing"):
        inspect(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="too long"):
        inspect("x" * 300)
    with pytest.raises(InputError, match="not a run"):
        export("x" * 300, tmp_path / "out")
    save_file({str(i): torch.zeros(2, 2, 2) for i in range(9)}, tmp_path / "model.safetensors")
    assert inspect(tmp_path / "model.safetensors").kind.startswith("not known (9 tensors: ")
