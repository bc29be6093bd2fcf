"""What a run trains and what it leaves alone; what stops it; whose folder it is."""

import json
import math
import resource
import signal
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from magictailor import load, personalize
from magictailor.backbones import attention
from magictailor.common.errors import InputError, RunError
from magictailor.common.events import CheckpointSaved, Done, Event, Notice, PhaseStarted, PreviewSaved, Progress, ignore
from magictailor.common.tensors import read_metadata, read_tensors
from magictailor.methods import METHODS
from magictailor.recipe import Recipe
from magictailor.training import loop
from magictailor.training.checkpoint import State
from magictailor.training.loop import learning_rate
from magictailor.training.metrics import read_metrics
from magictailor.training.run_folder import LORA_FILE, RUN_FILE, STATE_FILE, WORDS_FILE, read_run
from magictailor.training.setup import build, prepare
from magictailor.training.step import train_step
from tiny import DEFAULTS, PREDICTIONS, advance, backbone, base_weights, in_child, pair, pipeline, recipe, train

SHORT = ("phases.0.steps=1", "phases.1.steps=1", "sampling.steps=2")


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("method", ["magictailor", "plain-lora"])
def test_only_lora_and_the_words_rows_are_trained(prediction: str, method: str, tmp_path: Path) -> None:
    base = backbone(prediction)
    rows = len(base.pipeline.tokenizer)
    before = base_weights(base, rows)
    train(pair((2, 1)), tmp_path / "run", model=base, recipe=recipe(method=method))
    after = base_weights(base, rows)
    assert before.keys() == after.keys()
    assert len(before) > 200
    assert [n for n, v in before.items() if not torch.equal(v, after[n])] == []
    lora = read_tensors(tmp_path / "run" / LORA_FILE)
    layers = {n.split(".lora_")[0].split(".")[-1] for n in lora}
    assert layers == {"to_q", "to_k", "to_v", "0", "proj_in", "proj_out", "2"}
    assert all(bool(v.any()) for v in lora.values())
    words = read_tensors(tmp_path / "run" / WORDS_FILE)
    assert set(words) == {"words.<person>.clip", "words.<hair>.clip"}
    table = base.pipeline.text_encoder.get_input_embeddings().weight
    for word in ("<person>", "<hair>"):
        start = table[base.pipeline.tokenizer.convert_tokens_to_ids(word)]  # the frozen row still is the start
        moved = (words[f"words.{word}.clip"][0] - start).abs()
        assert 0 < float(moved.max()) < 0.1


def test_the_reference_trains_the_whole_matrix(tmp_path: Path) -> None:
    base = backbone()
    before = base.pipeline.text_encoder.get_input_embeddings().weight.detach().clone()
    train(pair(), tmp_path / "run", model=base, recipe=recipe(method="magictailor-reference"))
    words = read_tensors(tmp_path / "run" / WORDS_FILE)
    assert set(words) == {"embedding.clip"}
    after = words["embedding.clip"]
    assert len(after) == len(before) + 2
    # AdamW decays even rows that no prompt holds; by the first phase's rate thrice: its rate returns.
    rates = [learning_rate(recipe(method="magictailor-reference"), step, 2) for step in range(4)]
    assert rates == pytest.approx([2e-3, 2e-3, 2e-4, 2e-3])
    unused = base.pipeline.tokenizer("ocean", add_special_tokens=False).input_ids[0]
    decay = math.prod(1 - rate * 1e-2 for rate in rates)
    torch.testing.assert_close(after[unused], before[unused] * decay, rtol=1e-6, atol=0)


def test_rates_are_the_phases_times_the_images() -> None:
    plan = recipe("phases.1.lr_per_image=false", "phases.1.lr=0.5")
    assert [learning_rate(plan, step, 6) for step in range(4)] == pytest.approx([6e-3, 6e-3, 0.5, 0.5])
    assert learning_rate(plan, 0, 12) == learning_rate(plan, 0, 6)  # the paper's pairs have no more
    assert learning_rate(plan, 0, 5) == pytest.approx(5e-3)


def test_the_words_may_have_a_rate_of_their_own() -> None:
    """AdamW's first step is as long as the rate, whatever the gradient."""
    moved = {}
    for scale in (1, 5):
        run = build(pair(), recipe(f"train.1.lr_scale={scale}", "optimisation.weight_decay=0"), backbone())
        before = {n: p.detach().clone() for n, p in run.trained.named().items()}
        advance(run)
        moved[scale] = {n: float((p - before[n]).abs().max()) for n, p in run.trained.named().items()}
    for name, step in moved[1].items():
        assert moved[5][name] == pytest.approx(step * (5 if name.startswith("words") else 1), rel=1e-3), name
    assert any(step > 0 for name, step in moved[1].items() if name.startswith("words"))


def test_a_run_with_everything_off_is_plain_lora(tmp_path: Path) -> None:
    off = ["loss.masked=off"]
    for phase in (0, 1):
        off += [
            f'phases.{phase}.degradation={{"kind": "none"}}',
            f"phases.{phase}.attention=none",
            f"phases.{phase}.preserve=none",
            f"phases.{phase}.reduce=mean",
        ]
    for name, plan in (("off", recipe(*off)), ("plain", recipe(method="plain-lora"))):
        train(pair((2, 1)), tmp_path / name, model=backbone(), recipe=plan)
    for file in (LORA_FILE, WORDS_FILE, "metrics.jsonl"):
        assert (tmp_path / "off" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes(), file


@pytest.mark.parametrize(("micro_batch", "counts"), [("none", (1, 1)), ("3", (3, 2))])
def test_a_phase_without_attention_loss_may_follow_one_with(
    micro_batch: str, counts: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There no map is computed any more, inside one reading of attention for the whole run."""
    plan = recipe("phases.1.attention=none", "phases.1.steps=3", f"optimisation.micro_batch={micro_batch}")
    run, read = build(pair(counts), plan, backbone()), []
    read_maps = attention.read_maps
    monkeypatch.setattr(attention, "read_maps", lambda *inputs: read.append(1) or read_maps(*inputs))
    with run.objective.reading_attention():
        first = [loop.advance(run) for _ in range(2)]
        assert all(metrics["attention"] > 0 for metrics in first)
        assert len(read) > 0
        read.clear()
        second = [loop.advance(run) for _ in range(3)]
    assert [metrics["attention"] for metrics in second] == [0, 0, 0]
    assert read == []


@pytest.mark.parametrize("fails", [False, True])
def test_every_layer_has_its_own_processor_again_after_training(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same objects, whether training ended or failed; inside, the layers that are read have others."""
    base = backbone()
    unet = base.pipeline.unet
    before = unet.attn_processors
    replaced: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Progress):
            replaced.extend(n for n, processor in unet.attn_processors.items() if processor is not before[n])

    if fails:
        explode(monkeypatch, 3)
    with pytest.raises(RunError) if fails else nullcontext():
        train(pair(), tmp_path / "run", model=base, recipe=recipe(), listen=listen)
    assert {name.split(".attentions")[0] for name in replaced} == {"down_blocks.1", "up_blocks.0"}
    assert all(".attn2." in name for name in replaced)
    after = unet.attn_processors
    assert after.keys() == before.keys()
    assert all(after[name] is processor for name, processor in before.items())


@pytest.mark.parametrize("counts", [(1,), (1, 1), (2, 1, 1)])
def test_previews_are_generated_between_steps_and_change_nothing(counts: tuple[int, ...], tmp_path: Path) -> None:
    for name, every in (("none", 0), ("some", 2)):
        train(pair(counts), tmp_path / name, model=backbone(), recipe=recipe(f"sampling.preview_every={every}"))
    files = sorted(p.name for p in (tmp_path / "some" / "previews").iterdir())
    each = len(counts) + (len(counts) > 1)  # the composite, and each sample alone
    assert files == [f"{step:06d}-{n}.png" for step in (0, 2, 4) for n in range(each)]
    assert (tmp_path / "some" / LORA_FILE).read_bytes() == (tmp_path / "none" / LORA_FILE).read_bytes()
    with Image.open(tmp_path / "some" / "previews" / "000002-0.png") as image:
        expected = "a photo of <person>" + {1: "", 2: " with <hair>", 3: " with <hair> and <hat>"}[len(counts)]
        assert image.info["prompt"] == expected
        assert image.size == (16, 16)


def test_the_momentum_network_starts_at_the_end_of_the_warm_up() -> None:
    """L_pres is 0 at the balance's first step and then not; two steps with the reference's hard start."""
    for hard, zeros in (("false", [True, False, False]), ("true", [True, True, False])):
        plan = recipe("phases.1.steps=3", "phases.1.lr=1e-2", f"quirks.hard_momentum_start={hard}")
        run = build(pair(), plan, backbone())
        figures = [advance(run) for _ in range(5)]
        assert [f["preserve"] for f in figures[:2]] == [0, 0]
        assert [f["preserve"] < 1e-12 for f in figures[2:]] == zeros


@pytest.mark.parametrize("regulariser", ["momentum", "frozen", "last-step"])
def test_the_regularisers_over_real_steps(regulariser: str) -> None:
    plan = recipe("phases.1.steps=3", f"phases.1.preserve.regulariser={regulariser}", "phases.1.preserve.decay=0.5")
    run = build(pair(), plan, backbone())
    online = []
    for _ in range(5):
        advance(run)
        online.append({n: p.detach().clone() for n, p in run.trained.lora.items()})
    assert run.state.momentum is not None
    for name, weight in run.state.momentum.weights.items():
        average = online[1][name]
        for later in online[2:]:
            average = average * 0.5 + later[name] * 0.5
        expected = {"momentum": average, "frozen": online[1][name], "last-step": online[3][name]}[regulariser]
        torch.testing.assert_close(weight, expected, rtol=1e-5, atol=1e-8)


def explode(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    def bad(objective: Any, at: int, momentum: Any) -> dict[str, torch.Tensor]:
        losses = train_step(objective, at, momentum)
        return {**losses, "loss": torch.tensor(math.nan)} if at == step else losses

    monkeypatch.setattr("magictailor.training.loop.train_step", bad)


def test_a_loss_that_is_not_finite_stops_before_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("magictailor.training.loop.SAVE_SECONDS", 0.0)
    train(pair(), tmp_path / "whole", model=backbone(), recipe=recipe())
    with monkeypatch.context() as patch:
        explode(patch, 3)
        with pytest.raises(RunError, match=r"step 3: the loss .*not finite") as caught:
            train(pair(), tmp_path / "run", model=backbone(), recipe=recipe())
    assert "\n" not in str(caught.value)
    with safe_open(tmp_path / "run" / STATE_FILE, "pt") as file:
        assert file.metadata()["step"] == "3"
    assert all(bool(v.isfinite().all()) for v in read_tensors(tmp_path / "run" / STATE_FILE).values())
    train(pair(), tmp_path / "run", model=backbone(), recipe=recipe())
    assert (tmp_path / "run" / LORA_FILE).read_bytes() == (tmp_path / "whole" / LORA_FILE).read_bytes()


def test_a_gradient_that_is_not_finite_does_not_reach_the_checkpoint(tmp_path: Path) -> None:
    """A finite loss may still have a gradient that is not."""
    run = build(pair(), recipe(), backbone())
    prepare(run, tmp_path / "run", ignore)
    next(iter(run.trained.lora.values())).register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(RunError, match="step 0"), run.objective.reading_attention():
        loop.run_loop(run, tmp_path / "run", ignore)
    assert all(bool(p.isfinite().all()) for p in run.trained.parameters())
    assert read_metadata(tmp_path / "run" / STATE_FILE)["step"] == "0"
    assert all(bool(v.isfinite().all()) for v in read_tensors(tmp_path / "run" / STATE_FILE).values())
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"

    def filled_up() -> None:
        loop.SAVE_SECONDS = 0.0

        def listen(event: Event) -> None:
            if isinstance(event, Progress) and event.done == 3:
                size = (folder / STATE_FILE).stat().st_size
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

        try:
            train(pair(), folder, model=backbone(), recipe=recipe("phases.1.steps=4"), listen=listen)
        except RunError as error:
            print(f"one line: {error}", flush=True)
            raise SystemExit(1) from error

    assert in_child(filled_up) == 1
    out, err = capfd.readouterr()
    assert STATE_FILE in out
    assert "free some space" in out
    assert len(out.strip().splitlines()) == 1
    assert "Traceback" not in err
    with safe_open(folder / STATE_FILE, "pt") as file:
        assert file.metadata()["step"] == "2"
    assert [p.name for p in folder.iterdir() if p.name.endswith(".tmp")] == []
    train(pair(), folder, model=backbone(), recipe=recipe("phases.1.steps=4"))
    assert (folder / LORA_FILE).exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_folder_of_another_run_is_refused_and_untouched(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(pair(), folder, model=backbone(), recipe=recipe())
    before = contents(folder)
    others = [
        (pair(), recipe("seed=1"), "tiny", "recipe"),
        (pair(start=7), recipe(), "tiny", "pair"),
        (pair(), recipe(), "another", "model"),
    ]
    for data, plan, name, word in others:
        with pytest.raises(InputError, match=f"another run.*{word}"):
            train(data, folder, model=backbone(name=name), recipe=plan)
        assert contents(folder) == before


def test_other_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="not a run"):
        train(pair(), tmp_path, model=backbone(), recipe=recipe())
    with pytest.raises(InputError, match="is a file"):
        train(pair(), tmp_path / "letter.txt", model=backbone(), recipe=recipe())
    assert contents(tmp_path) == {"letter.txt": b"dear"}


def test_arguments_that_would_have_no_effect_are_refused(tmp_path: Path) -> None:
    model, plan, output = backbone(), recipe(), tmp_path / "run"
    refusals: list[tuple[dict[str, Any], str]] = [
        ({"recipe": plan, "method": "clic"}, "method has no effect next to a recipe"),
        ({"recipe": plan, "settings": ["seed=1"]}, "settings has no effect next to a recipe"),
        ({"loras": ["a.safetensors"]}, "loras has no effect on a backbone that is loaded already"),
        ({"device": "cpu"}, "device has no effect on a backbone"),
        ({"precision": "bf16"}, "precision has no effect on a backbone"),
        ({"preset": "8gb"}, "preset has no effect on a backbone"),
        ({"compiled": True}, "compiled has no effect on a backbone"),
    ]
    for options, words in refusals:
        with pytest.raises(InputError, match=words):
            train(pair(), output, model=model, **options)
        with pytest.raises(InputError, match=words):
            personalize(pair(), output, model=model, **options)
    assert not output.exists()


def test_listeners_hear_of_phases_steps_checkpoints_and_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("magictailor.training.loop.SAVE_SECONDS", 0.0)
    events: list[Event] = []
    plan = recipe("phases.0.steps=1", "phases.1.steps=2", "sampling.preview_every=2")
    folder = train(pair(), tmp_path / "run", model=backbone(), recipe=plan, listen=events.append)
    previews = folder / "previews"
    expected: list[Any] = [
        CheckpointSaved(0), PreviewSaved(0, tuple(previews / f"000000-{i}.png" for i in range(3))),
        PhaseStarted(0, 2, 0), Progress("training", 1, 3, {}), CheckpointSaved(1),
        PhaseStarted(1, 2, 1), Progress("training", 2, 3, {}),
        PreviewSaved(2, tuple(previews / f"000002-{i}.png" for i in range(3))), CheckpointSaved(2),
        Progress("training", 3, 3, {}), PreviewSaved(3, tuple(previews / f"000003-{i}.png" for i in range(3))),
        CheckpointSaved(3), Done(folder),
    ]  # fmt: skip
    without_metrics = [replace(e, metrics={}) if isinstance(e, Progress) else e for e in events]
    assert [e for e in without_metrics if not isinstance(e, Notice)] == expected
    measured = [e.metrics for e in events if isinstance(e, Progress)]
    assert [{"step": n, **metrics} for n, metrics in enumerate(measured)] == read_metrics(folder)


def test_personalize_returns_the_run_ready_to_generate(tiny_folder: Path, tmp_path: Path) -> None:
    settings = ["sampling.preview_every=0", *SHORT]
    run = personalize(pair(), tmp_path / "run", model=str(tiny_folder), settings=settings)
    assert run.folder == tmp_path / "run"
    assert run.words == {"<person>": "person", "<hair>": "hair"}
    assert run.recipe == read_run(run.folder).recipe
    assert [row["step"] for row in run.history] == [0, 1]
    (generated,) = run.generate("<person> with <hair>")
    (again,) = load(run.folder).generate("<person> with <hair>")
    assert generated.image.tobytes() == again.image.tobytes()
    assert (run.export(tmp_path / "out") / "README.md").exists()


def test_run_json_says_all_that_the_run_depends_on(tmp_path: Path) -> None:
    plan = recipe("seed=3", "phases.1.preserve.decay=0.9")
    train(pair((2, 1)), tmp_path / "run", model=backbone(), recipe=plan)
    info = read_run(tmp_path / "run")
    assert info.recipe == plan
    assert info.words == {"<person>": "person", "<hair>": "hair"}
    tree = json.loads((tmp_path / "run" / RUN_FILE).read_text())
    digests = [image["sha256"] for sample in tree["pair"]["samples"] for image in sample["images"]]
    assert digests == [r.digest for s in pair((2, 1)).samples for r in s.references]
    assert tree["finished"] is True
    assert tree["versions"]["torch"] == torch.__version__


def test_every_recipe_is_valid_and_names_itself() -> None:
    for name, make in METHODS.items():
        made = make(DEFAULTS)
        assert made.method == name
        assert Recipe.model_validate_json(made.model_dump_json()) == made
        assert (made.sampling.guidance, made.sampling.steps) == (3.0, 3)


@pytest.mark.parametrize("skip", [True, False])
def test_clipping_skips_the_words_only_on_request(skip: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = recipe("optimisation.max_grad_norm=1e-6", f"quirks.clip_skips_words={str(skip).lower()}")
    run = build(pair(), plan, backbone())
    with torch.no_grad():  # off the zero start, where the words' gradient is the base's alone
        for parameter in run.trained.lora.values():
            parameter.add_(0.05)
    norms: dict[str, float] = {}

    def step() -> None:
        for kind in ("lora", "words"):
            grads = [
                p.grad.flatten() for n, p in run.trained.named().items() if n.startswith(kind) and p.grad is not None
            ]
            norms[kind] = float(torch.cat(grads).norm())

    monkeypatch.setattr(run.state.optimizer, "step", step)
    advance(run)
    assert 0 < norms["lora"] <= 1.01e-6
    assert (norms["words"] > 1e-4) == skip


def test_a_mask_that_is_empty_at_the_maps_size_is_refused_only_where_maps_are_read(tmp_path: Path) -> None:
    one = pair((1, 1), (1 / 16, 0.5), skew=14)  # two pixels: half of a latent pixel, an eighth of a map's
    two = pair((1, 1), (1 / 16, 0.5), skew=15)  # one pixel: a quarter, and a sixteenth
    off = ("phases.0.attention=none", "phases.1.attention=none")
    build(one, recipe(), backbone())
    build(two, recipe(*off), backbone())
    with pytest.raises(InputError, match="the mask is empty at the model's 4 x 4 resolution; crop the photo closer"):
        train(two, tmp_path / "two", model=backbone(), recipe=recipe())
    assert not (tmp_path / "two").exists()


def test_a_word_beyond_the_text_encoders_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="comes after the text encoder's last token; shorten the training prompt"):
        train(pair(), tmp_path / "run", model=backbone(), recipe=recipe(f"prompts.template={'photo ' * 80}of {{}}"))
    assert not (tmp_path / "run").exists()


def test_each_phase_has_its_own_regulariser() -> None:
    frozen = 'phases.0.preserve={"regulariser": "frozen"}'
    run = build(pair(), recipe(frozen, "phases.1.preserve.decay=0"), backbone())
    advance(run)
    advance(run)
    momentum = run.state.momentum
    assert momentum is not None
    kept = {n: w.clone() for n, w in momentum.weights.items()}
    assert any(not torch.equal(kept[n], p) for n, p in run.trained.lora.items())
    advance(run)
    for name, parameter in run.trained.lora.items():
        torch.testing.assert_close(momentum.weights[name], parameter.detach())  # decay 0: the online network's
        assert name not in kept or run.state.step == 3


def test_a_half_precision_folder_trains_and_loads(tmp_path: Path) -> None:
    base = pipeline()
    base.to(dtype=torch.float16)
    base.save_pretrained(tmp_path / "base")
    run = train(pair(), tmp_path / "run", model=str(tmp_path / "base"), settings=["sampling.preview_every=0", *SHORT])
    plain = load(run).pipeline
    assert {p.dtype for part in (plain.unet, plain.text_encoder, plain.vae) for p in part.parameters()} == {
        torch.float32
    }
    image = plain("<person>", num_inference_steps=2, output_type="np").images[0]
    assert image.shape == (16, 16, 3)
    assert not bool((image == 0).all())


def test_the_loras_header_has_one_order_in_every_process(tmp_path: Path) -> None:
    run = train(pair(), tmp_path / "run", model=backbone(), recipe=recipe())
    header = json.loads(read_metadata(run / LORA_FILE)["lora_adapter_metadata"])
    assert header["unet.target_modules"] == sorted(header["unet.target_modules"])
    assert len(header["unet.target_modules"]) == 7


def test_checkpoints_that_take_long_are_rarer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("magictailor.training.loop.SAVE_SECONDS", 0.0)
    saved: list[int] = []
    save = State.save

    def saving(state: State, folder: Path) -> None:
        save(state, folder)
        saved.append(state.step)
        state.save_seconds = 3600.0

    monkeypatch.setattr(State, "save", saving)
    for share, steps in ((0.0, [0, 1, 2, 3, 4]), (10.0, [0, 4])):
        monkeypatch.setattr("magictailor.training.loop.SAVE_SHARE", share)
        saved.clear()
        train(pair(), tmp_path / str(share), model=backbone(), recipe=recipe())
        assert saved == steps
