"""Each method trains what it says and nothing else, saves that, resumes exactly, and draws by the same command."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import magictailor.training.loop
from magictailor import generate, load, personalize
from magictailor.common.errors import InputError
from magictailor.common.tensors import read_tensors
from magictailor.generation.pictures import loaded
from magictailor.methods import COMPARED, VARIANTS
from magictailor.recipe import LoRA, Recipe
from magictailor.training.checkpoint import LORA_FILE, STATE_FILE, WEIGHTS_FILE, WORDS_FILE
from magictailor.training.loop import Run
from magictailor.weights import EMBEDDED
from tiny import DEFAULTS, backbone, base_weights, interrupted_and_resumed, opened, pair, pipeline, sdxl, short

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
    personalize(pair((2, 1)), tmp_path / "run", model=base, recipe=short(method))
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
    expected |= (
        {LORA_FILE} if method in ("dreambooth", "magictailor", "magictailor-in-context", "plain-lora") else set()
    )
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
    monkeypatch.setattr(magictailor.training.loop, "SAVE_SECONDS", -1.0)
    how = short(method)
    whole = personalize(pair(), tmp_path / "whole", model=backbone(), recipe=how)
    for at in range(1, how.steps):
        parts = interrupted_and_resumed(tmp_path / str(at), backbone, at, how)
        for file in ("metrics.jsonl", *(p.name for p in whole.glob("*.safetensors") if p.name != STATE_FILE)):
            assert (parts / file).read_bytes() == (whole / file).read_bytes(), (file, at)


@pytest.mark.parametrize("method", [m for m in ALL if m != "magictailor-reference"])
def test_a_run_draws_by_the_same_command_and_loads_again(method: str, tmp_path: Path) -> None:
    base = tmp_path / "base"
    pipeline().save_pretrained(base)
    run = personalize(pair(), tmp_path / "run", model=str(base), recipe=short(method))
    (drawn,) = generate(run, "<person> with <hair>", steps=4)
    (again,) = generate(run, "<person> with <hair>", steps=4)
    (labels,) = generate(run, "person with hair", steps=4)
    assert np.array_equal(drawn.image, again.image)
    assert not np.array_equal(drawn.image, labels.image) or method == "dreambooth"
    assert drawn.record.prompt == "<person> with <hair>"
    own = dict(loaded(run, (), {}).denoiser.named_parameters())
    if (run / WEIGHTS_FILE).exists():
        tensors = read_tensors(run / WEIGHTS_FILE)
        assert all(
            torch.equal(own[n.removeprefix("denoiser.")], v) for n, v in tensors.items() if n.startswith("denoiser.")
        )
    assert type(load(run)) is type(opened(base))


@pytest.mark.parametrize("method", ["custom-diffusion", "break-a-scene", "clic", "dreambooth"])
def test_on_sdxl(method: str, tmp_path: Path) -> None:
    """Two text encoders, pooled vectors, blocks without attention: trained, saved, drawn."""
    sdxl().save_pretrained(tmp_path / "base")
    how = short(method, "sampling_steps=3")
    run = personalize(pair(), tmp_path / "run", model=str(tmp_path / "base"), recipe=how)
    if method == "break-a-scene":
        names = set(read_tensors(run / WEIGHTS_FILE))
        assert {n.split(".")[1] for n in names if n.startswith("text.")} == {"clip_l", "clip_g"}
    with torch.no_grad():
        (drawn,) = generate(run, "<person> with <hair>")
        (plain,) = generate(run, "a bottle")
    assert not np.array_equal(drawn.image, plain.image)


def test_break_a_scene_trains_words_first_and_begins_anew(tmp_path: Path) -> None:
    run = Run(pair(), tmp_path / "run", short("break-a-scene"), backbone())
    words, unet = run.trained.words, run.trained.online
    start = {n: p.detach().clone() for n, p in (words | unet).items()}
    for _ in range(2):
        run.advance()
    assert all(torch.equal(p, start[n]) for n, p in unet.items())
    assert any(not torch.equal(p, start[n]) for n, p in words.items())
    run.advance()
    steps = {int(entry["step"]) for entry in run.state.optimizer.state.values()}
    assert steps == {1}
    assert any(not torch.equal(p, start[n]) for n, p in unet.items())


def test_dreambooths_words_are_rare_ones_beside_their_labels(tmp_path: Path) -> None:
    run = Run(pair(), tmp_path / "run", short("dreambooth"), backbone())
    table = run.backbone.pipeline.text_encoder.get_input_embeddings().weight  # type: ignore[attr-defined]
    tokenizer: Any = run.backbone.pipeline.tokenizer  # type: ignore[attr-defined]
    for word, rare in (("<person>", "sks"), ("<hair>", "ktn")):
        (own,), (other,) = (tokenizer(text, add_special_tokens=False).input_ids for text in (word, rare))
        assert torch.equal(table[own], table[other])
    assert run.naming.prompts("<person>") == ["a photo of <person> person"]
    assert run.naming.written("<person> with <hair>, on the beach") == "<person> person with <hair> hair, on the beach"
    assert run.naming.written("a <person> person") == "a <person> person"
    lora = {n.split(".lora_")[0].split("attn")[-1][2:] for n in run.trained.lora}
    assert lora == set(ALL_FOUR)
    with pytest.raises(InputError, match="rare words for 4 samples"):
        magictailor.training.loop.Naming(short("dreambooth"), {f"<w{i}>": "person" for i in range(5)}).starts()


def test_clic_draws_its_first_steps_with_the_base_and_the_rest_with_the_run(tmp_path: Path) -> None:
    base = tmp_path / "base"
    pipeline().save_pretrained(base)
    run = personalize(pair(), tmp_path / "run", model=str(base), recipe=short("clic"))
    own: Any = load(run)
    name = "up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    plain = opened(base).unet.get_submodule(name).weight.detach()
    tuned = read_tensors(run / WEIGHTS_FILE)[f"denoiser.{name}.weight"]
    assert not torch.equal(plain, tuned)
    seen: list[tuple[str, Tensor]] = []

    def look(module: Any, inputs: Any) -> None:
        which = "base" if torch.equal(module.weight, plain) else "run" if torch.equal(module.weight, tuned) else "?"
        seen.append((which, inputs[0][-1].clone()))

    own.unet.get_submodule(name).register_forward_pre_hook(look)
    list(generate(run, "<person> with <hair>", steps=4, pipeline=own))
    assert [which for which, _ in seen] == ["base", "run", "run", "run"]
    texts = ("person with hair", "<person> with <hair> style")
    told = [own.encode_prompt(text, "cpu", 1, False)[0][0] for text in texts]
    assert torch.allclose(seen[0][1], told[0], atol=1e-5)
    assert torch.allclose(seen[1][1], told[1], atol=1e-5)
    with pytest.raises(InputError, match="draw with more"):
        generate(run, "<person>", steps=1, pipeline=own)


def test_prior_pictures_are_the_bases_own_and_shared_between_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAGICTAILOR_CACHE", str(tmp_path / "cache"))
    drawn: list[tuple[int, int]] = []

    def draws(done: int, total: int) -> None:
        drawn.append((done, total))

    how = short("dreambooth")
    personalize(pair(), tmp_path / "one", model=backbone(), recipe=how, draws=draws)
    assert drawn == [(1, 4), (2, 4), (3, 4), (4, 4)]  # two of each label
    pictures = {p: p.read_bytes() for p in (tmp_path / "cache").rglob("*.png")}
    assert len(pictures) == 4
    gone = sorted(pictures)[0]
    gone.unlink()
    drawn.clear()
    personalize(pair(start=7), tmp_path / "two", model=backbone(), recipe=how, draws=draws)
    assert drawn == [(1, 1)]  # an interruption's rest
    assert gone.read_bytes() == pictures[gone]
    monkeypatch.setenv("MAGICTAILOR_CACHE", str(gone))
    with pytest.raises(InputError, match="MAGICTAILOR_CACHE"):
        personalize(pair(), tmp_path / "three", model=backbone(), recipe=how)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("method", list(COMPARED))
def test_every_method_trains_in_half_precision(method: str, precision: str, tmp_path: Path) -> None:
    """Previews and prior pictures included; weights that are trained stay in full."""
    from magictailor.backbones.placement import Placement

    base = backbone()
    base.put(Placement(torch.device("cpu"), precision))
    how = short(method, "preview_every=1", "sampling_steps=3", "prior.images=2" if "prior" in method else "seed=0")
    run = Run(pair(), tmp_path / "run", how, base)
    assert all(p.dtype == torch.float32 for p in run.trained.parameters())
    run.preview()
    before = {n: p.detach().clone() for n, p in run.trained.named().items()}
    for _ in range(how.steps):
        assert all(np.isfinite(v) for v in run.advance().values())
    run.preview()
    moved = {n for n, p in run.trained.named().items() if not torch.equal(p, before[n])}
    assert len(moved) > 0.9 * len(before)


def test_attention_is_read_in_full_under_autocast(tmp_path: Path) -> None:
    from magictailor.backbones.placement import Placement

    base = backbone()
    base.put(Placement(torch.device("cpu"), "fp16"))
    run = Run(pair(), tmp_path / "run", short("clic"), base)
    maps = run.objective.maps
    assert maps is not None
    seen = []
    mean = maps.mean

    def looked() -> Tensor:
        seen.append(mean())
        return seen[-1]

    maps.mean = looked  # type: ignore[method-assign]
    run.advance()
    assert {m.dtype for m in seen} == {torch.float32}


def test_priors_are_drawn_by_the_base_even_where_training_begins_from_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = personalize(pair(), tmp_path / "first", model=backbone(), recipe=short("magictailor", "phases.0.lr=0.1"))
    found = []
    for name, start in (("plain", None), ("started", first)):
        monkeypatch.setenv("MAGICTAILOR_CACHE", str(tmp_path / f"cache-{name}"))
        how = short("magictailor", 'prior={"images": 1}')
        personalize(pair(), tmp_path / name, model=backbone(), recipe=how, start=start)
        found.append([p.read_bytes() for p in sorted((tmp_path / f"cache-{name}").rglob("*.png"))])
    assert len(found[0]) == 2
    assert found[0] == found[1]


def test_a_bases_digest_knows_its_schedule_and_its_weights() -> None:
    from magictailor.training.trainables import Trainables

    plain = backbone()
    known = plain.digest()
    assert backbone().digest() == known
    assert backbone("v_prediction").digest() != known
    changed = backbone()
    with torch.no_grad():
        changed.denoiser.get_submodule("mid_block").resnets[0].conv1.weight.mul_(2)  # type: ignore[index, union-attr, operator]
    assert changed.digest() != known
    how = short("magictailor")
    Trainables(plain, how, plain.add_words({"<person>": "person"}))
    assert plain.digest() == known


def test_what_would_be_lost_in_a_runs_own_weights_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    run = personalize(pair(), tmp_path / "run", model=str(tiny_folder), recipe=short("custom-diffusion"))
    for more, words in (({"loras": ["a.safetensors"]}, "train --lora"), ({"precision": "nf4"}, "bf16 or fp32")):
        with pytest.raises(InputError, match=words):
            load(run, **more)  # type: ignore[arg-type]


def test_own_weights_are_refused_where_they_could_not_move(tmp_path: Path) -> None:
    from magictailor.backbones.placement import Placement
    from magictailor.backbones.presets import NAMES, Preset
    from magictailor.training.trainables import Trainables

    def refused(method: str, place: Placement) -> str:
        base = backbone()
        base.place = place
        with pytest.raises(InputError) as caught:
            Trainables(base, short(method), {})
        return str(caught.value)

    cpu = torch.device("cpu")
    assert "--precision bf16" in refused("custom-diffusion", Placement(cpu, "nf4"))
    away = Placement(cpu, "fp32", Preset(name="8gb", offload=True))
    assert "--preset 24gb" in refused("break-a-scene", away)
    assert "24gb" in NAMES


def test_published_rates_are_multiplied_by_what_was_found_for_a_base() -> None:
    from dataclasses import replace

    plain: Recipe = COMPARED["clic"].make(DEFAULTS)
    found = COMPARED["clic"].make(replace(DEFAULTS, rate_factors={"clic": 10.0}))
    assert (plain.rate_factor, found.rate_factor) == (1, 10)
    assert found.phases == plain.phases
    assert magictailor.training.loop.learning_rate(found, 0, 1) == pytest.approx(5e-4)
    assert isinstance(COMPARED["magictailor"].make(DEFAULTS).train[0], LoRA)
    assert EMBEDDED.exists()
