"""Each method trains what it says and nothing else, saves that, resumes exactly, and generates by the same command."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from magictailor import load, personalize
from magictailor.backbones import attention
from magictailor.backbones.presets import NAMES, Preset
from magictailor.backbones.runtime import Runtime
from magictailor.common.errors import InputError
from magictailor.common.events import Event, Progress, ignore
from magictailor.common.tensors import read_tensors
from magictailor.methods import COMPARED, VARIANTS
from magictailor.recipe import LoRA, Recipe
from magictailor.recipe.naming import Naming
from magictailor.training.loop import learning_rate, preview
from magictailor.training.run_folder import LORA_FILE, STATE_FILE, WEIGHTS_FILE, WORDS_FILE
from magictailor.training.setup import build, prepare
from magictailor.training.trainables import Trainables
from tiny import (
    DEFAULTS,
    advance,
    backbone,
    base_weights,
    interrupted_and_resumed,
    opened,
    pair,
    pipeline,
    sdxl,
    short,
    train,
)

KEYS_VALUES = ("to_k", "to_v")
ALL_FOUR = ("to_q", "to_k", "to_v", "to_out.0")
ALL = [*COMPARED, *VARIANTS]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGICTAILOR_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def moves(name: str, method: str) -> bool:
    """Whether this weight of the base is the method's to train."""
    cross = name.startswith("unet") and "attn2" in name
    if method == "custom-diffusion":
        return cross and any(f".{layer}." in name for layer in KEYS_VALUES)
    if method.startswith("clic"):
        return cross and any(f".{layer}." in name for layer in ALL_FOUR)
    if method.startswith("break-a-scene"):
        return name.startswith("unet") or (name.startswith("text_encoder") and "token_embedding" not in name)
    return False


@pytest.mark.parametrize("method", [m for m in ALL if m != "magictailor-reference"])
def test_what_a_method_does_not_train_stays_bit_equal(method: str, tmp_path: Path) -> None:
    base = backbone()
    rows = len(base.pipeline.tokenizer)
    before = base_weights(base, rows)
    train(pair((2, 1)), tmp_path / "run", model=base, recipe=short(method))
    after = base_weights(base, rows)
    changed = {n for n, v in before.items() if not torch.equal(v, after[n])}
    assert {n for n in changed if not moves(n, method)} == set()
    still = {n for n in before if moves(n, method)} - changed
    assert {n for n in still if before[n].is_floating_point() and "position_ids" not in n} == set()

    kept = tmp_path / "run"
    files = {p.name for p in kept.glob("*.safetensors")} - {STATE_FILE}
    trains_words = method != "dreambooth"
    trains_weights = any(moves(n, method) for n in before)
    expected = {WORDS_FILE} if trains_words else set()
    expected |= {WEIGHTS_FILE} if trains_weights else set()
    on_a_lora = (
        "dreambooth",
        "magictailor",
        "magictailor-emphasis",
        "magictailor-in-context",
        "magictailor-latent",
        "plain-lora",
    )
    expected |= {LORA_FILE} if method in on_a_lora else set()
    assert files == expected
    if trains_weights:
        saved = {
            n.replace("denoiser.", "unet.").replace("text.clip.", "text_encoder.")
            for n in read_tensors(kept / WEIGHTS_FILE)
        }
        assert saved == {n for n in before if moves(n, method) and "position_ids" not in n}
    if trains_words:
        assert set(read_tensors(kept / WORDS_FILE)) == {"words.<person>.clip", "words.<hair>.clip"}


@pytest.mark.parametrize("method", ALL)
def test_interrupted_and_resumed_equals_uninterrupted(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("magictailor.training.loop.SAVE_SECONDS", -1.0)
    recipe = short(method)
    whole = train(pair(), tmp_path / "whole", model=backbone(), recipe=recipe)
    for at in range(1, recipe.steps):
        parts = interrupted_and_resumed(tmp_path / str(at), backbone, at, recipe)
        for file in ("metrics.jsonl", *(p.name for p in whole.glob("*.safetensors") if p.name != STATE_FILE)):
            assert (parts / file).read_bytes() == (whole / file).read_bytes(), (file, at)


@pytest.mark.parametrize("method", [m for m in ALL if m != "magictailor-reference"])
def test_a_run_generates_by_the_same_command_and_loads_again(method: str, tmp_path: Path) -> None:
    base = tmp_path / "base"
    pipeline().save_pretrained(base)
    run = personalize(pair(), tmp_path / "run", model=str(base), recipe=short(method))
    (generated,) = run.generate("<person> with <hair>", steps=4)
    (again,) = load(run.folder).generate("<person> with <hair>", steps=4)
    (labels,) = run.generate("person with hair", steps=4)
    assert np.array_equal(generated.image, again.image)
    assert not np.array_equal(generated.image, labels.image) or method == "dreambooth"
    assert generated.record.prompt == "<person> with <hair>"
    own = dict(run.backbone.denoiser.named_parameters())
    if (run.folder / WEIGHTS_FILE).exists():
        tensors = read_tensors(run.folder / WEIGHTS_FILE)
        assert all(
            torch.equal(own[n.removeprefix("denoiser.")], v) for n, v in tensors.items() if n.startswith("denoiser.")
        )
    assert type(run.pipeline) is type(opened(base))


@pytest.mark.parametrize("method", ["custom-diffusion", "break-a-scene", "clic", "dreambooth"])
def test_on_sdxl(method: str, tmp_path: Path) -> None:
    """Two text encoders, pooled vectors, blocks without attention: trained, saved, generated with."""
    sdxl().save_pretrained(tmp_path / "base")
    recipe = short(method, "sampling.steps=3")
    run = personalize(pair(), tmp_path / "run", model=str(tmp_path / "base"), recipe=recipe)
    if method == "break-a-scene":
        names = set(read_tensors(run.folder / WEIGHTS_FILE))
        assert {n.split(".")[1] for n in names if n.startswith("text.")} == {"clip_l", "clip_g"}
    (generated,) = run.generate("<person> with <hair>")
    (plain,) = run.generate("a bottle")
    assert not np.array_equal(generated.image, plain.image)


def test_break_a_scene_trains_words_first_and_then_all_with_a_new_optimizer() -> None:
    training = build(pair(), short("break-a-scene"), backbone())
    words, unet = training.trained.words, training.trained.online
    start = {n: p.detach().clone() for n, p in (words | unet).items()}
    for _ in range(2):
        advance(training)
    assert all(torch.equal(p, start[n]) for n, p in unet.items())
    assert any(not torch.equal(p, start[n]) for n, p in words.items())
    advance(training)
    steps = {int(entry["step"]) for entry in training.state.optimizer.state.values()}
    assert steps == {1}
    assert any(not torch.equal(p, start[n]) for n, p in unet.items())


def test_dreambooths_words_are_rare_ones_beside_their_labels() -> None:
    training = build(pair(), short("dreambooth"), backbone())
    table = training.backbone.pipeline.text_encoder.get_input_embeddings().weight  # type: ignore[attr-defined]
    tokenizer: Any = training.backbone.pipeline.tokenizer  # type: ignore[attr-defined]
    naming = training.examples.naming
    for word, rare in (("<person>", "sks"), ("<hair>", "ktn")):
        (own,), (other,) = (tokenizer(text, add_special_tokens=False).input_ids for text in (word, rare))
        assert torch.equal(table[own], table[other])
    assert naming.training_prompts("<person>") == ["a photo of <person> person"]
    assert naming.expand("<person> with <hair>, on the beach") == "<person> person with <hair> hair, on the beach"
    assert naming.expand("a <person> person") == "a <person> person"
    lora = {n.split(".lora_")[0].split("attn")[-1][2:] for n in training.trained.lora}
    assert lora == set(ALL_FOUR)
    with pytest.raises(InputError, match="rare words for 4 samples"):
        Naming(short("dreambooth"), {f"<w{i}>": "person" for i in range(5)}).initial_texts()


def test_clic_generates_its_first_steps_with_the_base_and_the_rest_with_the_run(tmp_path: Path) -> None:
    base = tmp_path / "base"
    pipeline().save_pretrained(base)
    run = personalize(pair(), tmp_path / "run", model=str(base), recipe=short("clic"))
    own: Any = run.pipeline
    name = "up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    plain = opened(base).unet.get_submodule(name).weight.detach()
    tuned = read_tensors(run.folder / WEIGHTS_FILE)[f"denoiser.{name}.weight"]
    assert not torch.equal(plain, tuned)
    seen: list[tuple[str, Tensor]] = []

    def look(module: Any, inputs: Any) -> None:
        which = "base" if torch.equal(module.weight, plain) else "run" if torch.equal(module.weight, tuned) else "?"
        seen.append((which, inputs[0][-1].clone()))

    own.unet.get_submodule(name).register_forward_pre_hook(look)
    list(run.generate("<person> with <hair>", steps=4))
    assert [which for which, _ in seen] == ["base", "run", "run", "run"]
    texts = ("person with hair", "<person> with <hair> style")
    expected = [own.encode_prompt(text, "cpu", 1, False)[0][0] for text in texts]
    assert torch.allclose(seen[0][1], expected[0], atol=1e-5)
    assert torch.allclose(seen[1][1], expected[1], atol=1e-5)
    with pytest.raises(InputError, match="steps 1: the first 1 are the base's own with this method; choose at least 2"):
        run.generate("<person>", steps=1)


def test_prior_images_are_the_bases_own_and_shared_between_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAGICTAILOR_CACHE", str(tmp_path / "cache"))
    progress: list[tuple[int, int]] = []

    def listen(event: Event) -> None:
        if isinstance(event, Progress) and event.task == "prior images":
            progress.append((event.done, event.total))

    recipe = short("dreambooth")
    train(pair(), tmp_path / "one", model=backbone(), recipe=recipe, listen=listen)
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]  # two of each label
    images = {p: p.read_bytes() for p in (tmp_path / "cache").rglob("*.png")}
    assert len(images) == 4
    gone = sorted(images)[0]
    gone.unlink()
    progress.clear()
    train(pair(start=7), tmp_path / "two", model=backbone(), recipe=recipe, listen=listen)
    assert progress == [(1, 1)]  # an interruption's rest
    assert gone.read_bytes() == images[gone]
    monkeypatch.setenv("MAGICTAILOR_CACHE", str(gone))
    with pytest.raises(InputError, match="MAGICTAILOR_CACHE"):
        train(pair(), tmp_path / "three", model=backbone(), recipe=recipe)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("method", list(COMPARED))
def test_every_method_trains_in_half_precision(method: str, precision: str, tmp_path: Path) -> None:
    """Previews and prior images included; weights that are trained stay in full."""
    base, folder = backbone(), tmp_path / "run"
    base.to(Runtime(torch.device("cpu"), precision))
    training = build(pair(), short(method, "sampling.steps=3"), base)
    prepare(training, folder, ignore)
    assert all(p.dtype == torch.float32 for p in training.trained.parameters())
    preview(training, folder)
    before = {n: p.detach().clone() for n, p in training.trained.named().items()}
    for _ in range(training.recipe.steps):
        assert all(np.isfinite(v) for v in advance(training).values())
    preview(training, folder)
    assert len(list((folder / "previews").iterdir())) == 6
    moved = {n for n, p in training.trained.named().items() if not torch.equal(p, before[n])}
    assert len(moved) > 0.9 * len(before)


def test_attention_is_read_in_full_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    base = backbone()
    base.to(Runtime(torch.device("cpu"), "fp16"))
    training = build(pair(), short("clic"), base)
    read_maps, maps = attention.read_maps, list[Tensor]()

    def reading(*inputs: Any) -> Tensor:
        assert torch.is_autocast_enabled("cpu")
        maps.append(read_maps(*inputs))
        return maps[-1]

    monkeypatch.setattr(attention, "read_maps", reading)
    advance(training)
    assert len(maps) == len(base.attention_layers("up"))
    assert {m.dtype for m in maps} == {torch.float32}


def test_priors_are_generated_by_the_base_even_where_training_starts_from_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(pair(), tmp_path / "first", model=backbone(), recipe=short("magictailor", "phases.0.lr=0.1"))
    found = []
    for name, start in (("plain", None), ("started", first)):
        monkeypatch.setenv("MAGICTAILOR_CACHE", str(tmp_path / f"cache-{name}"))
        recipe = short("magictailor", 'loss.prior={"images": 1}')
        train(pair(), tmp_path / name, model=backbone(), recipe=recipe, start=start)
        found.append([p.read_bytes() for p in sorted((tmp_path / f"cache-{name}").rglob("*.png"))])
    assert len(found[0]) == 2
    assert found[0] == found[1]


def test_a_bases_digest_knows_its_schedule_and_its_weights() -> None:
    plain = backbone()
    known = plain.digest()
    assert backbone().digest() == known
    assert backbone("v_prediction").digest() != known
    changed = backbone()
    with torch.no_grad():
        changed.denoiser.get_submodule("mid_block").resnets[0].conv1.weight.mul_(2)  # type: ignore[index, union-attr, operator]
    assert changed.digest() != known
    Trainables(plain, short("magictailor"), plain.add_words({"<person>": "person"}))
    assert plain.digest() == known


def test_what_would_be_lost_in_a_runs_own_weights_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    run = train(pair(), tmp_path / "run", model=str(tiny_folder), recipe=short("custom-diffusion"))
    with pytest.raises(InputError, match=r"loras .* has its own weights .*; give the LoRA to the training instead"):
        load(run, ["a.safetensors"])
    for bits in ("nf4", "int8"):
        with pytest.raises(InputError, match=f"precision {bits}: .* has its own weights; choose bf16 or fp32"):
            load(run, precision=bits)


def test_own_weights_are_refused_where_they_could_not_move() -> None:
    def refused(method: str, runtime: Runtime) -> str:
        base = backbone()
        base.runtime = runtime
        with pytest.raises(InputError) as caught:
            Trainables(base, short(method), {})
        return str(caught.value)

    cpu = torch.device("cpu")
    quantized = refused("custom-diffusion", Runtime(cpu, "nf4"))
    assert quantized.startswith("precision nf4: ")
    assert quantized.endswith("choose bf16")
    offloading = refused("break-a-scene", Runtime(cpu, "fp32", Preset(name="8gb", offload=True)))
    assert offloading.startswith("preset 8gb: ")
    assert "24gb" in offloading
    assert "24gb" in NAMES


def test_published_rates_are_multiplied_by_what_was_found_for_a_base() -> None:
    plain: Recipe = COMPARED["clic"].make(DEFAULTS)
    found = COMPARED["clic"].make(replace(DEFAULTS, lr_scales={"clic": 10.0}))
    assert (plain.optimisation.lr_scale, found.optimisation.lr_scale) == (1, 10)
    assert found.phases == plain.phases
    assert learning_rate(found, 0, 1) == pytest.approx(5e-4)
    assert isinstance(COMPARED["magictailor"].make(DEFAULTS).train[0], LoRA)
