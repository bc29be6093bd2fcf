"""Today's families on tiny checkpoints: one table, the same promises for each."""

import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from diffusers import (
    DiffusionPipeline,
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    ZImageTransformer2DModel,
)
from torch import Tensor

import magictailor
from families import BUILDERS, NATIVE, SIZE, native_state, pipeline, save, sd3
from magictailor.backbones import load_backbone
from magictailor.backbones.community_lora import community_lora
from magictailor.backbones.families import backbone_class, family_on_disk
from magictailor.backbones.lora import Layer
from magictailor.backbones.transformer import Transformer
from magictailor.common.errors import InputError
from magictailor.common.events import CheckpointSaved
from magictailor.common.tensors import read_tensors, write_tensors
from magictailor.data import Pair, ReferenceImage, Sample
from magictailor.evaluate.bench import run_bench
from magictailor.evaluate.sources import sources
from magictailor.evaluate.spec import Spec
from magictailor.exports import export
from magictailor.generation.reference_only import ReferenceOnly
from magictailor.recipe import Sampling
from magictailor.training.setup import build
from magictailor.training.start import read_start
from magictailor.training.step import train_step
from magictailor.training.train import make_recipe
from magictailor.weights import EMBEDDED
from tiny import in_child, pair, train

SHORT = [
    f"data.size={SIZE}", "phases.0.steps=2", "phases.1.steps=2", "sampling.steps=2", "sampling.preview_every=0",
    "train.0.rank=2", "phases.0.lr=1e-2",
]  # fmt: skip
PROMPTS = ("a photo of <person> with <hair>", "a photo of <hair>")
WORDS = (("<person>", "<hair>"), ("<hair>",))
GUIDED = {"flux": 3.5, "flux2-dev": 3.5}  # an input of the denoiser, and its value in training
TEXTS = {"<person>": "sks person", "<hair>": "ktn hair"}

every_family = pytest.mark.parametrize("family", BUILDERS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Each family's checkpoint, saved once."""
    root, saved = tmp_path_factory.mktemp("families"), dict[str, Path]()

    def folder(family: str) -> Path:
        if family not in saved:
            saved[family] = save(family, root / family)
        return saved[family]

    return folder


def base(family: str) -> Any:
    """In memory, at the tests' size, with words."""
    made = pipeline(family)
    backbone = backbone_class(type(made).__name__)(family, made)
    backbone.use_size(SIZE)
    backbone.add_words(TEXTS)
    return backbone


def inputs(backbone: Any, height: int = SIZE, width: int = SIZE) -> tuple[Tensor, Tensor, Any]:
    random = torch.Generator().manual_seed(3)
    noisy = torch.randn(2, *backbone.latent_shape(height, width), generator=random)
    return noisy, backbone.times(torch.tensor([0.2, 0.7])), backbone.encode_text(PROMPTS, list(TEXTS))


# --- loading


@every_family
def test_a_family_is_known_by_its_files(family: str, folders: Callable[[str], Path]) -> None:
    folder = folders(family)
    assert family_on_disk(str(folder)) == load_backbone(str(folder)).family


def test_bases_in_one_file_or_none_are_known_or_not() -> None:
    assert family_on_disk("embedded") == family_on_disk(str(EMBEDDED)) == "embedded"
    assert family_on_disk("nobody/has-this") is None
    assert family_on_disk(__file__) is None


@every_family
def test_a_folder_is_recognised_by_its_checkpoint(family: str, folders: Callable[[str], Path]) -> None:
    loaded = load_backbone(str(folders(family)), device="cpu")
    assert loaded.family == family
    assert isinstance(loaded, Transformer)
    assert loaded.digest_as_loaded == load_backbone(str(folders(family)), device="cpu").digest()
    assert not any(p.requires_grad for network in loaded.networks.values() for p in network.parameters())


@pytest.mark.parametrize("family", NATIVE)
def test_a_transformer_in_one_file_is_the_same_with_the_rest_of_its_model(
    family: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, file = folders(family), tmp_path / "own.safetensors"
    other = pipeline(family).transformer
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    write_tensors(file, native_state(family, other))
    loaded: Any = load_backbone(f"{file}@{folder}", device="cpu")
    assert loaded.family == family
    state = loaded.denoiser.state_dict()
    assert state.keys() == other.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in other.state_dict().items())
    assert loaded.name == f"{file}@{folder}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "missing"),
        ({"double_blocks.0.img_attn.qkv.weight": torch.zeros(4, 4).to(torch.float8_e4m3fn)}, "F8_E4M3, which cannot be trained"),
        ({"double_blocks.0.img_attn.qkv.weight": torch.zeros(4, 4), "double_blocks.0.img_attn.qkv.scale_weight": torch.zeros(1)}, "quantised"),
        ({"unknown.weight": torch.zeros(4, 4)}, "not a transformer of"),
    ],
)  # fmt: skip
def test_a_transformer_that_cannot_be_trained_is_refused_in_one_line(
    content: Any, message: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    file = tmp_path / "own.safetensors"
    if content is not None:
        write_tensors(file, content)
    with pytest.raises(InputError, match=message):
        load_backbone(f"{file}@{folders('flux2-klein-4b')}", device="cpu")


def test_a_model_without_its_text_encoder_is_refused_by_name(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(folders("z-image"), folder)
    shutil.rmtree(folder / "text_encoder")
    with pytest.raises(InputError, match="has no text_encoder"):
        load_backbone(str(folder), device="cpu")


# --- words


@every_family
def test_spans_show_the_tokens_of_the_text_that_a_word_stands_for(family: str) -> None:
    """Changing the text of a word changes the encoded sequence there, and nowhere before it."""
    backbone = base(family)
    (span,) = backbone.encode_text([PROMPTS[1]], ["<hair>"]).spans
    first = backbone.encode_text([PROMPTS[1]]).tensors["sequence"]
    backbone.add_words({"<hair>": "ktn hat"})
    second = backbone.encode_text([PROMPTS[1]]).tensors["sequence"]
    length = min(first.shape[1], second.shape[1])
    changed = (first[0, :length] != second[0, :length]).any(1).nonzero()[:, 0].tolist()
    assert span["<hair>"]
    assert set(changed) & set(span["<hair>"])
    if family not in ("sd3", "flux", "sana"):  # their encoders look both ways, or pad differently
        assert min(changed) >= min(span["<hair>"])


def test_without_t5_stable_diffusion_3_has_pseudo_words_to_train() -> None:
    torch.manual_seed(0)
    made = sd3(with_t5=False)
    backbone = backbone_class("StableDiffusion3Pipeline")("sd3", made)
    assert backbone.family == "embedded-dit"  # by the size of its vocabulary
    assert backbone.trainable == {"lora", "pseudo-words"}
    backbone.use_size(16)
    training = build(pair(), make_recipe(backbone, settings=["data.size=16", "sampling.preview_every=0"]), backbone)
    with torch.no_grad():
        for parameter in training.trained.lora.values():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    with training.objective.reading_attention():
        train_step(training.objective, 0, None)
    assert set(training.trained.words) == {f"<{w}>.{e}" for w in ("person", "hair") for e in ("clip_l", "clip_g")}
    assert all(row.grad is not None and float(row.grad.abs().max()) > 0 for row in training.trained.words.values())


# --- images


@every_family
def test_latents_are_what_the_pipeline_decodes(family: str) -> None:
    """The pipeline, given our latents as the noise of a denoising of one step that does nothing, decodes the same image."""
    backbone = base(family)
    pixels = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    noise = torch.zeros(1, *backbone.latent_shape(SIZE, SIZE))
    with torch.no_grad():
        latents = backbone.encode_images(pixels, noise)
        again = backbone.encode_images(pixels, noise)
        decoded = backbone.decode_latents(latents)
        vae = backbone.pipeline.vae
        plain = pixels[:, :, None] if family == "qwen-image" else pixels
        found = vae.encode(plain)
        mean = found.latent if family == "sana" else found.latent_dist.mode()
        expected = vae.decode(mean).sample
    expected = expected[:, :, 0] if family == "qwen-image" else expected
    assert latents.shape == noise.shape
    assert torch.equal(latents, again)
    torch.testing.assert_close(decoded, expected, rtol=1e-4, atol=1e-4)


@every_family
def test_the_flow_leads_from_noise_to_the_image(family: str) -> None:
    backbone = base(family)
    latents, noise = torch.randn(2, 3, *backbone.latent_shape(SIZE, SIZE))
    times = backbone.times(torch.tensor([0.0, 0.31, 0.99]))
    noisy, velocity = backbone.add_noise(latents, noise, times), backbone.target(latents, noise, times)
    torch.testing.assert_close(noisy - times[:, None, None, None] * velocity, latents, rtol=1e-4, atol=1e-4)
    assert float(times.diff().min()) > 0
    assert 0 <= float(times.min()) <= float(times.max()) <= 1


@every_family
@torch.no_grad()
def test_the_prediction_is_the_one_that_the_pipeline_makes(family: str) -> None:
    """One Euler step of the pipeline from t = 1 subtracts our prediction, whatever the family packs, inverts or negates."""
    backbone = base(family)
    seen: list[Tensor] = []
    own = backbone.pipeline.scheduler.step

    def step(output: Tensor, time: Tensor, sample: Tensor, **kwargs: Any) -> Any:
        seen.extend([output.clone(), torch.as_tensor(time).clone(), sample.clone()])
        return own(output, time, sample, **kwargs)

    backbone.pipeline.scheduler.step = step
    call = backbone.pipeline_inputs([PROMPTS[0]], {"z-image": 0.0, **GUIDED}.get(family, 1.0))
    backbone.pipeline(
        **call, num_inference_steps=1, height=SIZE, width=SIZE, output_type="latent",
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    output, time, sample = seen[:3]
    shape = backbone.latent_shape(SIZE, SIZE)

    def unpacked(x: Tensor) -> Tensor:
        if x.ndim == 4:
            return x
        if family.startswith("flux2"):
            return x.transpose(1, 2).reshape(1, *shape)
        return backbone._output(x, torch.zeros(1, *shape))

    condition = backbone.encode_text([PROMPTS[0]])
    predicted = backbone.predict(unpacked(sample).float(), time.reshape(1) / 1000, condition).output
    torch.testing.assert_close(predicted, unpacked(output).float(), rtol=1e-3, atol=1e-4)


# --- training


@every_family
def test_every_term_of_a_step_reaches_the_lora(family: str) -> None:
    backbone = base(family)
    training = build(pair((2, 1)), make_recipe(backbone, settings=SHORT), backbone)
    with torch.no_grad():
        for parameter in training.trained.lora.values():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    from magictailor.training.momentum import Momentum

    momentum = Momentum({n: p * 1.1 for n, p in training.trained.online.items()})
    with training.objective.reading_attention():
        losses = train_step(training.objective, 2, momentum)
    metrics = training.objective.to_numbers(training.recipe.phase(2), losses)
    assert all(metrics[name] > 0 for name in ("loss", "attention", "preserve"))
    reached = [n for n, p in training.trained.lora.items() if p.grad is not None and float(p.grad.abs().max()) > 0]
    assert len(reached) >= 0.9 * len(training.trained.lora)  # the last block's text stream changes nothing


def killed_and_resumed(folder: Path, output: Path) -> Path:
    class Killed(Exception):
        pass

    def kill(event: object) -> None:
        if isinstance(event, CheckpointSaved) and event.step == 3:
            raise Killed

    settings = [*SHORT, "sampling.preview_every=0"]
    import magictailor.training.loop as loop

    saved, loop.SAVE_SECONDS = loop.SAVE_SECONDS, 0.0
    try:
        with pytest.raises(Killed):
            train(pair((2, 1)), output, model=str(folder), settings=settings, listen=kill, device="cpu")
    finally:
        loop.SAVE_SECONDS = saved
    return train(pair((2, 1)), output, model=str(folder), settings=settings, device="cpu")


@every_family
def test_a_killed_run_that_goes_on_equals_one_that_was_left_alone(
    family: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    """And a finished run generates, exports, and gives the same image in plain diffusers."""
    folder = folders(family)
    alone = train(pair((2, 1)), tmp_path / "alone", model=str(folder), settings=SHORT, device="cpu")
    resumed = killed_and_resumed(folder, tmp_path / "resumed")
    name = "pytorch_lora_weights.safetensors"
    assert (alone / name).read_bytes() == (resumed / name).read_bytes()
    assert (alone / "metrics.jsonl").read_text() == (resumed / "metrics.jsonl").read_text()

    run = magictailor.load(alone, device="cpu")
    (item,) = run.generate(PROMPTS[0], seed=5)
    text = "a photo of sks person with ktn hair"
    export(alone, tmp_path / "out")
    readme = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert text in readme
    assert "<" not in readme.split("pipe(")[1]

    plain: Any = DiffusionPipeline.from_pretrained(str(folder))
    plain.set_progress_bar_config(disable=True)
    plain.load_lora_weights(str(tmp_path / "out"), weight_name=name)
    call = run.backbone.guidance_inputs(run.recipe.sampling.guidance)
    more = {"use_resolution_binning": False} if family == "sana" else {}
    image = plain(
        prompt=text,
        **call,
        **more,
        num_inference_steps=2,
        height=SIZE,
        width=SIZE,
        generator=[torch.Generator().manual_seed(5)],
    ).images[0]
    difference = max(abs(a - b) for a, b in zip(item.image.tobytes(), image.tobytes(), strict=True))
    assert difference <= 1  # our decoder works in float32 whatever the rest does


@pytest.mark.parametrize("settings", [["optimisation.micro_batch=1"], ["optimisation.checkpointing=true"]])
@every_family
def test_micro_batches_and_checkpointing_give_the_same_gradients(family: str, settings: list[str]) -> None:
    found = []
    for more in ([], settings):
        backbone = base(family)
        training = build(pair((2, 1)), make_recipe(backbone, settings=[*SHORT, *more]), backbone)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in training.trained.lora.values():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        with training.objective.reading_attention():
            train_step(training.objective, 0, None)
        found.append({n: p.grad for n, p in training.trained.lora.items()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-3, atol=1e-5, msg=name)


@every_family
def test_the_text_encoder_leaves_memory_once_the_prompts_are_encoded(
    family: str, folders: Callable[[str], Path]
) -> None:
    backbone: Any = load_backbone(str(folders(family)), device="cpu")
    build(pair(), make_recipe(backbone, settings=SHORT), backbone)
    assert not backbone.text_encoders
    known = backbone.encode_text([""]).tensors["sequence"]
    new = backbone.encode_text(["a photo of a hat"]).tensors[
        "sequence"
    ]  # it comes back for a new prompt, and goes again
    assert float((known - new[:, : known.shape[1]] if new.shape[1] >= known.shape[1] else new).abs().max()) > 0
    assert not backbone.text_encoders


@pytest.mark.parametrize("method", ["textual-inversion", "custom-diffusion", "break-a-scene", "clic"])
def test_methods_that_need_what_a_family_does_not_have_are_refused_in_one_line(method: str) -> None:
    backbone = base("z-image")
    with pytest.raises(InputError, match="which is not possible on z-image"):
        build(pair(), make_recipe(backbone, method, ["data.size=32"]), backbone)
    assert not getattr(backbone.denoiser, "peft_config", None)


@pytest.mark.parametrize("method", ["dreambooth", "plain-lora", "without-dm-deg", "without-ds-bal"])
def test_methods_that_make_sense_there_train(method: str, tmp_path: Path) -> None:
    backbone = base("flux")
    settings = [s for s in SHORT if not s.startswith("phases.1")] if method == "dreambooth" else SHORT
    more = ["loss.prior.images=2"] if method == "dreambooth" else []
    run = train(pair(), tmp_path / "run", model=backbone, method=method, settings=[*settings, *more])
    assert json.loads((run / "run.json").read_text())["finished"]


def test_prodigy_goes_on_with_the_rate_that_it_had_found(tmp_path: Path, folders: Callable[[str], Path]) -> None:
    resumed = killed_and_resumed(folders("z-image"), tmp_path / "run")
    assert json.loads((resumed / "run.json").read_text())["recipe"]["optimisation"]["optimizer"] == "prodigy"


# --- attention


@pytest.mark.parametrize("over", ["all", "text"])
@every_family
@torch.no_grad()
def test_maps_equal_a_computation_by_hand(family: str, over: Any) -> None:
    backbone = base(family)
    noisy, times, condition = inputs(backbone)
    with backbone.reading_attention("all", over):
        read = backbone.predict(noisy, times, condition, attend=WORDS)
    (name,) = backbone.attention_layers("all")
    query, key, image, text, mask = queries_and_keys(family, backbone, name, noisy, times, condition)
    scores = query[:, :, image] @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    scores = scores if mask is None else scores + mask
    shown = scores[..., text].softmax(-1) if over == "text" else scores.softmax(-1)[..., text]
    side = read.attention.shape[-1]
    for row, words in enumerate(WORDS):
        for number, word in enumerate(words):
            columns = shown[row, :, :, condition.spans[row][word]].mean(-1).mean(0)
            torch.testing.assert_close(read.attention[row, number], columns.reshape(side, side), rtol=1e-3, atol=1e-6)
    assert bool((read.attention[1, 1] == 0).all())
    assert float(read.attention[0].std()) > 0


def queries_and_keys(family: str, backbone: Any, name: str, *arguments: Any) -> tuple[Any, ...]:
    """From a hook on the layer, by the family's own published formulas: projections, norms, rotations."""
    layer, kept = backbone.denoiser.get_submodule(name), dict[str, Any]()

    def keep(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kept.update(kwargs, hidden_states=args[0] if args else kwargs["hidden_states"])

    hook = layer.register_forward_pre_hook(keep, with_kwargs=True)
    backbone.predict(*arguments)
    hook.remove()
    hidden, encoded = kept["hidden_states"], kept.get("encoder_hidden_states")
    heads = layer.heads

    def split(x: Tensor, norm: Any) -> Tensor:
        divided = x.unflatten(-1, (heads, -1))
        return divided if norm is None else norm(divided)

    if family == "sana":
        query = layer.to_q(hidden) if layer.norm_q is None else layer.norm_q(layer.to_q(hidden))
        key = layer.to_k(encoded) if layer.norm_k is None else layer.norm_k(layer.to_k(encoded))
        mask = kept["attention_mask"]
        everything = slice(None)
        return (
            split(query, None).transpose(1, 2), split(key, None).transpose(1, 2), everything, everything,
            None if mask is None else mask[:, None],
        )  # fmt: skip
    query, key = split(layer.to_q(hidden), layer.norm_q), split(layer.to_k(hidden), layer.norm_k)
    if family == "z-image":
        tokens = 64

        def turned(x: Tensor) -> Tensor:
            pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
            return torch.view_as_real(pairs * kept["freqs_cis"][:, :, None]).flatten(3)

        query, key, mask = turned(query), turned(key), kept["attention_mask"]
        added = None if mask is None else torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)[:, None, None]
        length = arguments[2].tensors["sequence"].shape[1]
        return query.transpose(1, 2), key.transpose(1, 2), slice(0, tokens), slice(tokens, tokens + length), added
    added_query = split(layer.add_q_proj(encoded), layer.norm_added_q)
    added_key = split(layer.add_k_proj(encoded), layer.norm_added_k)
    length, tokens = encoded.shape[1], hidden.shape[1]
    if family == "sd3":
        query, key = torch.cat([query, added_query], 1), torch.cat([key, added_key], 1)
        return query.transpose(1, 2), key.transpose(1, 2), slice(0, tokens), slice(tokens, None), None
    rotation = kept["image_rotary_emb"]
    if family == "qwen-image":

        def turned_by(x: Tensor, angles: Tensor) -> Tensor:
            pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
            return torch.view_as_real(pairs * angles[:, None]).flatten(3)

        query, key = (turned_by(x, rotation[0]) for x in (query, key))
        added_query, added_key = (turned_by(x, rotation[1]) for x in (added_query, added_key))
    query, key = torch.cat([added_query, query], 1), torch.cat([added_key, key], 1)
    if family.startswith("flux"):
        cos, sin = (part[None, :, None] for part in rotation)

        def rotated(x: Tensor) -> Tensor:
            real, imaginary = x.unflatten(-1, (-1, 2)).unbind(-1)
            return x * cos + torch.stack([-imaginary, real], -1).flatten(3) * sin

        query, key = rotated(query), rotated(key)
    mask = kept.get("encoder_hidden_states_mask")
    added = None
    if mask is not None:
        whole = torch.cat([mask, torch.ones(len(mask), tokens, dtype=torch.bool)], 1)
        added = torch.zeros(whole.shape).masked_fill(~whole, -torch.inf)[:, None, None]
    return query.transpose(1, 2), key.transpose(1, 2), slice(length, None), slice(0, length), added


@pytest.mark.parametrize("family", ["flux", "sana", "z-image"])
def test_maps_of_large_images_are_read_head_by_head_with_the_same_gradients(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for limit in (2**40, 0):
        monkeypatch.setattr("magictailor.backbones.attention.MANY_SCORES", limit)
        backbone = base(family)
        training = build(pair(), make_recipe(backbone, settings=[*SHORT, "phases.0.attention.weight=10"]), backbone)
        with torch.no_grad():
            for parameter in training.trained.lora.values():
                parameter.fill_(0.05)
        with training.objective.reading_attention():
            train_step(training.objective, 0, None)
        found.append({n: p.grad for n, p in training.trained.lora.items()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@every_family
@torch.no_grad()
def test_reading_maps_changes_nothing(family: str) -> None:
    backbone = base(family)
    noisy, times, condition = inputs(backbone)
    before = backbone.predict(noisy, times, condition).output
    processors = {n: id(m.processor) for n, m in backbone.denoiser.named_modules() if hasattr(m, "processor")}
    with backbone.reading_attention("up"):
        read = backbone.predict(noisy, times, condition, attend=WORDS)
    after = {n: id(m.processor) for n, m in backbone.denoiser.named_modules() if hasattr(m, "processor")}
    assert torch.equal(read.output, before)
    assert processors == after


@every_family
def test_blocks_are_chosen_by_their_numbers(family: str) -> None:
    backbone = base(family)
    (layer,) = backbone.attention_layers((1,))
    assert ".1." in layer
    with pytest.raises(InputError, match="has blocks 0 to"):
        backbone.attention_layers((77,))


@pytest.mark.parametrize("family", [family for family in BUILDERS if family != "qwen-image"])
@torch.no_grad()
def test_maps_equal_those_of_an_independent_viewer(family: str) -> None:
    """attention-map-diffusers watches one step of the pipeline (it does not know Qwen-Image's layers)."""
    viewer = pytest.importorskip(
        "attention_map_diffusers",
        reason="its torchvision may not fit torch: pip install --no-deps attention-map-diffusers ftfy",
    )
    backbone = base(family)
    seen: list[Tensor] = []
    own = backbone.denoiser.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        seen.append(args[0] if args else kwargs["hidden_states"])
        return own(*args, **kwargs)

    backbone.denoiser.forward = forward
    call = backbone.pipeline_inputs([PROMPTS[0]], {"z-image": 0.0, **GUIDED}.get(family, 1.0))
    with viewer.AttentionCapture(backbone.pipeline, mode="exact", heads="mean") as capture:
        backbone.pipeline(
            **call, num_inference_steps=1, height=SIZE, width=SIZE, output_type="latent",
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
    del backbone.denoiser.forward
    (layer,) = backbone.attention_layers("all")
    (record,) = [r for r in capture.compute().records if r.layer_id == f"transformer.{layer}"]
    first = seen[0]
    noisy = first[0][:, 0][None] if isinstance(first, list) else first
    shape = backbone.latent_shape(SIZE, SIZE)
    if noisy.ndim == 3:
        flat = family.startswith("flux2")
        noisy = noisy.transpose(1, 2).reshape(1, *shape) if flat else backbone._output(noisy, torch.zeros(1, *shape))
    time = torch.tensor([record.timestep])
    time = 1 - time if family == "z-image" else time if family.startswith("flux") else time / 1000
    condition = backbone.encode_text([PROMPTS[0]], list(TEXTS))
    with backbone.reading_attention("all"):
        read = backbone.predict(noisy.float(), time, condition, attend=[list(TEXTS)])
    side = read.attention.shape[-1]
    for number, word in enumerate(TEXTS):
        expected = record.data[0, 0][:, condition.spans[0][word]].mean(-1).reshape(side, side)
        torch.testing.assert_close(read.attention[0, number], expected, rtol=2e-3, atol=1e-6)


# --- precision and processes


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8", "nf4"])
@every_family
def test_a_step_in_few_bits_is_near_the_one_in_single_precision(
    family: str, precision: str, folders: Callable[[str], Path]
) -> None:
    if family == "z-image" and precision == "fp16":
        pytest.skip("its published pipeline overflows in fp16, and so do weights this large")
    losses = []
    for name in ("fp32", precision):
        backbone = load_backbone(str(folders(family)), device="cpu", precision=name)
        training = build(pair((2, 1)), make_recipe(backbone, settings=SHORT), backbone)
        assert all(p.dtype == torch.float32 for p in training.trained.parameters())
        with training.objective.reading_attention():
            losses.append(
                training.objective.to_numbers(training.recipe.phase(0), train_step(training.objective, 0, None))
            )
    assert losses[1]["loss"] == pytest.approx(losses[0]["loss"], rel=0.2)
    assert losses[1]["attention"] == pytest.approx(
        losses[0]["attention"], rel=0.3
    )  # through up to 31 random layers of text


@pytest.mark.parametrize("precision", ["int8", "nf4"])
@every_family
def test_the_blocks_weights_have_fewer_bits(family: str, precision: str, folders: Callable[[str], Path]) -> None:
    backbone = load_backbone(str(folders(family)), device="cpu", precision=precision)
    inside = tuple(backbone.blocks)  # type: ignore[attr-defined]
    for name, module in backbone.denoiser.named_modules():
        if type(module).__name__ in ("Linear", "Linear4bit", "Linear8bitLt"):
            quantised = type(module).__module__.startswith("bitsandbytes")
            assert quantised == any(f".{name}".startswith(f".{block}") for block in inside), name


@every_family
def test_a_step_shared_by_two_processes_is_the_step_of_one(family: str, tmp_path: Path) -> None:
    def step(more: list[str]) -> dict[str, Tensor]:
        backbone = base(family)
        training = build(pair((2, 1)), make_recipe(backbone, settings=[*SHORT, *more]), backbone)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in training.trained.lora.values():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        with training.objective.reading_attention():
            train_step(training.objective, 0, None)
        return {n: p.grad for n, p in training.trained.lora.items() if p.grad is not None}

    alone = step([])
    shared_by_two(lambda: step(["optimisation.micro_batch=2"]), tmp_path)
    for rank in range(2):
        there = read_tensors(tmp_path / f"{rank}.safetensors")
        for name, gradient in alone.items():
            torch.testing.assert_close(there[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def shared_by_two(work: Callable[[], dict[str, Tensor]], folder: Path) -> None:
    """Each of two processes writes what the work gives it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"

    def one(rank: int) -> None:
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
        write_tensors(folder / f"{rank}.safetensors", work())
        dist.destroy_process_group()

    child = os.fork()
    if child == 0:
        os._exit(in_child(lambda: one(1)))
    assert in_child(lambda: one(0)) == 0
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# --- names at the real sizes, on tensors without values

REAL: dict[str, tuple[Any, dict[str, Any], int]] = {  # the class, its published configuration, LoRA layers in the own code
    "sd3": (SD3Transformer2DModel, {"num_layers": 24, "num_attention_heads": 24, "qk_norm": "rms_norm", "caption_projection_dim": 1536, "dual_attention_layers": tuple(range(13))}, 24 * 4 - 1 + 13 * 2),
    "flux": (FluxTransformer2DModel, {}, 19 * 8 + 38),
    "flux2-klein-4b": (Flux2Transformer2DModel, {"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680}, 5 * 2 + 20 * 2),
    "z-image": (ZImageTransformer2DModel, {}, 34 * 2),
    "qwen-image": (QwenImageTransformer2DModel, {}, 60 * 4),
}  # fmt: skip


@pytest.mark.parametrize("family", REAL)
def test_every_layer_of_a_lora_has_its_name_in_the_original_code(family: str) -> None:
    kind, config, count = REAL[family]
    with torch.device("meta"):
        transformer = kind(**config)
    backbone = base(family)
    backbone.pipeline.transformer = transformer
    ends = tuple(f".{target}" for target in backbone.lora_targets)
    modules = [n for n, m in transformer.named_modules() if isinstance(m, torch.nn.Linear) and f".{n}".endswith(ends)]
    with torch.device("meta"):
        adapter = {
            n: Layer(torch.empty(4, m.in_features), torch.empty(m.out_features, 4), 4.0)
            for n, m in transformer.named_modules()
            if n in modules
        }
        native = backbone.spellings.comfyui(adapter)
    layers = {key.removesuffix(".lora_B.weight"): v for key, v in native.items() if key.endswith(".lora_B.weight")}
    assert len(layers) == count
    for name, up in layers.items():  # as many outputs as the fused layer has
        parts = native_layer_of(backbone, name)
        assert up.shape[0] == sum(transformer.get_submodule(part).out_features for part in parts)


def native_layer_of(backbone: Any, name: str) -> tuple[str, ...]:
    pattern = {
        k.replace("{}", number): v for k, v in backbone.native.items() for number in re.findall(r"\d+", name)[:1]
    }
    number = re.findall(r"\d+", name)[0]
    return tuple(part.format(number) for part in pattern[name.removeprefix("diffusion_model.")])


@pytest.mark.parametrize("format", ["kohya", "comfyui", "merged"])
@every_family
def test_an_export_is_read_back_as_what_was_trained(
    family: str, format: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    run = train(pair(), tmp_path / "run", model=str(folders(family)), settings=SHORT, device="cpu")
    trained = read_tensors(run / "pytorch_lora_weights.safetensors")
    if family == "sana" and format != "merged":
        with pytest.raises(InputError, match="choose diffusers"):
            export(run, tmp_path / "out", format)
        return
    export(run, tmp_path / "out", format)
    if format == "merged":
        plain: Any = DiffusionPipeline.from_pretrained(str(tmp_path / "out"))
        layer = sorted(k for k in trained if ".lora_A." in k)[0]
        name = layer.removeprefix("transformer.").removesuffix(".lora_A.weight")
        start = DiffusionPipeline.from_pretrained(str(folders(family))).transformer.get_submodule(name).weight
        change = trained[layer.replace("lora_A", "lora_B")] @ trained[layer]
        torch.testing.assert_close(plain.transformer.get_submodule(name).weight - start, change, rtol=1e-3, atol=1e-5)
        return
    (file,) = (tmp_path / "out").glob("*.safetensors")
    modules = [k.removeprefix("transformer.").removesuffix(".lora_A.weight") for k in trained if ".lora_A." in k]
    adapter = base(family).spellings.read(read_tensors(file), modules)
    assert set(adapter) == set(modules)
    for name, layer_read in adapter.items():
        change = trained[f"transformer.{name}.lora_B.weight"] @ trained[f"transformer.{name}.lora_A.weight"]
        torch.testing.assert_close(layer_read.folded().up @ layer_read.down, change, rtol=1e-4, atol=1e-6)
    prompt = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "a photo of sks person with ktn hair" in prompt
    if format == "comfyui" and family.startswith(("flux2", "qwen")):  # diffusers' loader knows ComfyUI's names of these
        loaded: Any = DiffusionPipeline.from_pretrained(str(folders(family)))
        loaded.load_lora_weights(read_tensors(file))
        assert loaded.get_list_adapters()


# --- without training


def test_a_bench_compares_with_the_model_that_is_only_given_the_photos(
    folders: Callable[[str], Path], tmp_path: Path
) -> None:
    spec = Spec(
        model=str(folders("flux2-klein-4b")), pairs=("world:100000060",), methods=("reference-only", "plain-lora"),
        prompts=("{concept} with {component}",), seeds=1, settings=tuple(SHORT), metrics=("quality",),
    )  # fmt: skip
    run_bench(spec, sources(spec, tmp_path), tmp_path / "bench", device="cpu")
    images = {p.parent.name: p.read_bytes() for p in (tmp_path / "bench" / "images").rglob("*.png")}
    assert set(images) >= {"reference-only", "plain-lora"}
    assert not (tmp_path / "bench" / "runs" / "world-100000060" / "reference-only").exists()
    refused = spec.model_copy(update={"model": str(folders("z-image"))})
    with pytest.raises(InputError, match="z-image takes no reference images"):
        run_bench(refused, sources(refused, tmp_path), tmp_path / "other", device="cpu")


def large(given: Pair) -> Pair:
    """The pipeline takes no photo below 64 pixels."""

    def enlarged(sample: Sample) -> Sample:
        photos = (
            [r.image.resize((64, 64)) for r in sample.references],
            [r.mask.resize((64, 64)) for r in sample.references],
        )
        references = tuple(ReferenceImage.of(Path("x.png"), image, mask) for image, mask in zip(*photos))
        return Sample(sample.label, sample.word, references)

    return Pair(given.name, tuple(map(enlarged, given.samples)))


def test_the_photos_decide_the_image_and_the_prompt_says_which_is_which() -> None:
    backbone = base("flux2-klein-4b")
    sampling = Sampling(steps=1, guidance=1.0)
    first, second = (ReferenceOnly(large(pair(start=start)), backbone, sampling) for start in (0, 5))
    assert (
        first.prompt("<person> with <hair>, on the beach")
        == "the person in image 1 with the hair in image 2, on the beach"
    )
    images = [
        next(iter(one.generate("<person> with <hair>", seed=seed))).image
        for one, seed in ((first, 3), (first, 3), (second, 3), (first, 4))
    ]
    assert images[0].tobytes() == images[1].tobytes()
    assert len({image.tobytes() for image in images}) == 3


# --- LoRAs that exist already


@every_family
def test_a_run_starts_from_another_runs_lora_and_from_its_exports(
    family: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    first = train(pair(), tmp_path / "first", model=str(folders(family)), settings=SHORT, device="cpu")
    trained = read_tensors(first / "pytorch_lora_weights.safetensors")
    formats = ["diffusers"] if family == "sana" else ["diffusers", "comfyui", "kohya"]
    for source in (first, *(export(first, tmp_path / format, format) for format in formats)):
        backbone: Any = load_backbone(str(folders(family)), device="cpu")
        training = build(pair(), make_recipe(backbone, settings=SHORT), backbone, read_start(source))
        own = training.trained.lora
        for key, down in trained.items():
            if ".lora_A." in key:
                name = key.removeprefix("transformer.")
                a = own[name.replace(".lora_A.", ".lora_A.default.")]
                b = own[name.replace(".lora_A.", ".lora_B.default.")]
                change = trained[key.replace("lora_A", "lora_B")] @ down
                torch.testing.assert_close(b @ a, change, rtol=1e-4, atol=1e-6)


@every_family
def test_a_community_lora_is_merged_at_its_strength(
    family: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    first = train(pair(), tmp_path / "first", model=str(folders(family)), settings=SHORT, device="cpu")
    file = first / "pytorch_lora_weights.safetensors"
    trained = read_tensors(file)
    plain: Any = load_backbone(str(folders(family)), device="cpu")
    merged: Any = load_backbone(str(folders(family)), [community_lora(f"{file}=0.5")], device="cpu")
    assert merged.digest_as_loaded == plain.digest_as_loaded
    for key, down in trained.items():
        if ".lora_A." in key:
            name = key.removeprefix("transformer.").replace(".lora_A.weight", ".weight")
            before, after = (dict(b.denoiser.named_parameters())[name] for b in (plain, merged))
            change = 0.5 * trained[key.replace("lora_A", "lora_B")] @ down
            torch.testing.assert_close(after - before, change, rtol=1e-3, atol=1e-6)
    other = next(f for f in ("z-image", "sana") if f != family)
    with pytest.raises(InputError, match="not a LoRA for this model"):
        load_backbone(str(folders(other)), [community_lora(str(file))], device="cpu")


@every_family
def test_a_size_that_a_model_does_not_take_is_refused_with_one_that_it_takes(family: str) -> None:
    backbone = base(family)
    with pytest.raises(InputError, match="takes multiples of") as refused:
        backbone.use_size(SIZE + 1)
    assert str(SIZE) in refused.value.fix
