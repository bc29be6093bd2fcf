"""What a run trains and what it leaves alone; what stops it; whose folder it is."""

import json
import math
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from magictailor import load, personalize
from magictailor.common.errors import InputError, RunError
from magictailor.common.tensors import read_numbers, read_tensors
from magictailor.methods import METHODS
from magictailor.recipe import Recipe
from magictailor.training.checkpoint import LORA_FILE, RUN_FILE, STATE_FILE, WORDS_FILE, State, read_run
from magictailor.training.loop import Run, learning_rate
from magictailor.training.objective import Objective
from tiny import DEFAULTS, PREDICTIONS, backbone, base_weights, in_child, pair, pipeline, recipe

SHORT = ("phases.0.steps=1", "phases.1.steps=1", "sampling_steps=2")


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("method", ["magictailor", "plain-lora"])
def test_only_lora_and_the_words_rows_are_trained(prediction: str, method: str, tmp_path: Path) -> None:
    base = backbone(prediction)
    rows = len(base.pipeline.tokenizer)
    before = base_weights(base, rows)
    personalize(pair((2, 1)), tmp_path / "run", model=base, recipe=recipe(method=method))
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
    personalize(pair(), tmp_path / "run", model=base, recipe=recipe(method="magictailor-reference"))
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


def test_the_words_may_have_a_rate_of_their_own(tmp_path: Path) -> None:
    """AdamW's first step is as long as the rate, whatever the gradient."""
    moved = {}
    for scale in (1, 5):
        run = Run(pair(), tmp_path / str(scale), recipe(f"train.1.rate={scale}", "weight_decay=0"), backbone())
        before = {n: p.detach().clone() for n, p in run.trained.named().items()}
        run.advance()
        moved[scale] = {n: float((p - before[n]).abs().max()) for n, p in run.trained.named().items()}
    for name, step in moved[1].items():
        assert moved[5][name] == pytest.approx(step * (5 if name.startswith("words") else 1), rel=1e-3), name
    assert any(step > 0 for name, step in moved[1].items() if name.startswith("words"))


def test_a_run_with_everything_off_is_plain_lora(tmp_path: Path) -> None:
    off = ["masked=off"]
    for phase in (0, 1):
        off += [
            f'phases.{phase}.degradation={{"kind": "none"}}',
            f"phases.{phase}.attention=none",
            f"phases.{phase}.preserve=none",
            f"phases.{phase}.reduce=mean",
        ]
    for name, plan in (("off", recipe(*off)), ("plain", recipe(method="plain-lora"))):
        personalize(pair((2, 1)), tmp_path / name, model=backbone(), recipe=plan)
    for file in (LORA_FILE, WORDS_FILE, "metrics.jsonl"):
        assert (tmp_path / "off" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes(), file


@pytest.mark.parametrize(("micro_batch", "counts"), [("none", (1, 1)), ("3", (3, 2))])
def test_a_phase_without_attention_loss_may_follow_one_with(
    micro_batch: str, counts: tuple[int, int], tmp_path: Path
) -> None:
    """Nothing of the first phase's reading is left: no crash at another batch size, no maps kept with their graphs."""
    plan = recipe("phases.1.attention=none", "phases.1.steps=3", f"micro_batch={micro_batch}")
    run = Run(pair(counts), tmp_path / "run", plan, backbone())
    for _ in range(plan.steps):
        figures = run.advance()
    assert figures["attention"] == 0
    assert run.objective.maps is not None
    assert len(run.objective.maps._maps) <= len(run.backbone.attention_layers())


@pytest.mark.parametrize("counts", [(1,), (1, 1), (2, 1, 1)])
def test_previews_are_drawn_between_steps_and_change_nothing(counts: tuple[int, ...], tmp_path: Path) -> None:
    for name, every in (("none", 0), ("some", 2)):
        personalize(pair(counts), tmp_path / name, model=backbone(), recipe=recipe(f"preview_every={every}"))
    drawn = sorted(p.name for p in (tmp_path / "some" / "previews").iterdir())
    each = len(counts) + (len(counts) > 1)  # the composite, and each sample alone
    assert drawn == [f"{step:06d}-{n}.png" for step in (0, 2, 4) for n in range(each)]
    assert (tmp_path / "some" / LORA_FILE).read_bytes() == (tmp_path / "none" / LORA_FILE).read_bytes()
    with Image.open(tmp_path / "some" / "previews" / "000002-0.png") as image:
        expected = "a photo of <person>" + {1: "", 2: " with <hair>", 3: " with <hair> and <hat>"}[len(counts)]
        assert image.info["prompt"] == expected
        assert image.size == (16, 16)


def test_the_momentum_network_starts_at_the_end_of_the_warm_up(tmp_path: Path) -> None:
    """L_pres is 0 at the balance's first step and then not; two steps with the reference's hard start."""
    for hard, zeros in (("false", [True, False, False]), ("true", [True, True, False])):
        plan = recipe("phases.1.steps=3", "phases.1.lr=1e-2", f"reference.hard_start={hard}")
        run = Run(pair(), tmp_path / hard, plan, backbone())
        figures = [run.advance() for _ in range(5)]
        assert [f["preserve"] for f in figures[:2]] == [0, 0]
        assert [f["preserve"] < 1e-12 for f in figures[2:]] == zeros


@pytest.mark.parametrize("regulariser", ["momentum", "frozen", "last-step"])
def test_the_regularisers_over_real_steps(regulariser: str, tmp_path: Path) -> None:
    plan = recipe("phases.1.steps=3", f"phases.1.preserve.regulariser={regulariser}", "phases.1.preserve.decay=0.5")
    run = Run(pair(), tmp_path / "run", plan, backbone())
    online = []
    for _ in range(5):
        run.advance()
        online.append({n: p.detach().clone() for n, p in run.trained.lora.items()})
    assert run.state.momentum is not None
    for name, weight in run.state.momentum.weights.items():
        average = online[1][name]
        for later in online[2:]:
            average = average * 0.5 + later[name] * 0.5
        expected = {"momentum": average, "frozen": online[1][name], "last-step": online[3][name]}[regulariser]
        torch.testing.assert_close(weight, expected, rtol=1e-5, atol=1e-8)


def explode(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    backward = Objective.backward

    def bad(self: Objective, at: int, momentum: Any) -> dict[str, float]:
        figures = backward(self, at, momentum)
        return {**figures, "loss": math.nan} if at == step else figures

    monkeypatch.setattr(Objective, "backward", bad)


def test_a_loss_that_is_not_finite_stops_before_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("magictailor.training.loop.SAVE_SECONDS", 0.0)
    personalize(pair(), tmp_path / "whole", model=backbone(), recipe=recipe())
    with monkeypatch.context() as patch:
        explode(patch, 3)
        with pytest.raises(RunError, match=r"step 3: the loss .*not finite") as caught:
            personalize(pair(), tmp_path / "run", model=backbone(), recipe=recipe())
    assert "\n" not in str(caught.value)
    with safe_open(tmp_path / "run" / STATE_FILE, "pt") as file:
        assert file.metadata()["step"] == "3"
    assert all(bool(v.isfinite().all()) for v in read_tensors(tmp_path / "run" / STATE_FILE).values())
    personalize(pair(), tmp_path / "run", model=backbone(), recipe=recipe())
    assert (tmp_path / "run" / LORA_FILE).read_bytes() == (tmp_path / "whole" / LORA_FILE).read_bytes()


def test_a_gradient_that_is_not_finite_does_not_reach_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finite loss may still have a gradient that is not."""
    monkeypatch.setattr("magictailor.training.loop.SAVE_SECONDS", 0.0)
    run = Run(pair(), tmp_path / "run", recipe(), backbone())
    next(iter(run.trained.lora.values())).register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(RunError, match="step 0"):
        run.advance()
    assert all(bool(p.isfinite().all()) for p in run.trained.parameters())


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"

    def filled_up() -> None:
        import magictailor.training.loop as train

        train.SAVE_SECONDS = 0.0

        def watch(step: int, steps: int, figures: dict[str, float]) -> None:
            if step == 3:
                size = (folder / STATE_FILE).stat().st_size
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

        try:
            personalize(pair(), folder, model=backbone(), recipe=recipe("phases.1.steps=4"), watch=watch)
        except RunError as error:
            print(f"one line: {error}", flush=True)
            raise SystemExit(1) from error

    assert in_child(filled_up) == 1
    out, err = capfd.readouterr()
    assert "checkpoint.safetensors" in out
    assert "free some space" in out
    assert len(out.strip().splitlines()) == 1
    assert "Traceback" not in err
    with safe_open(folder / STATE_FILE, "pt") as file:
        assert file.metadata()["step"] == "2"
    assert [p.name for p in folder.iterdir() if p.name.endswith(".tmp")] == []
    personalize(pair(), folder, model=backbone(), recipe=recipe("phases.1.steps=4"))
    assert (folder / LORA_FILE).exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_folder_of_another_run_is_refused_and_untouched(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    personalize(pair(), folder, model=backbone(), recipe=recipe())
    before = contents(folder)
    others = [
        (pair(), recipe("seed=1"), "tiny", "recipe"),
        (pair(start=7), recipe(), "tiny", "pair"),
        (pair(), recipe(), "another", "model"),
    ]
    for data, plan, name, word in others:
        with pytest.raises(InputError, match=f"another run.*{word}"):
            personalize(data, folder, model=backbone(name=name), recipe=plan)
        assert contents(folder) == before


def test_other_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="not a run"):
        personalize(pair(), tmp_path, model=backbone(), recipe=recipe())
    with pytest.raises(InputError, match="is a file"):
        personalize(pair(), tmp_path / "letter.txt", model=backbone(), recipe=recipe())
    assert contents(tmp_path) == {"letter.txt": b"dear"}


def test_run_json_says_all_that_the_run_depends_on(tmp_path: Path) -> None:
    plan = recipe("seed=3", "phases.1.preserve.decay=0.9")
    personalize(pair((2, 1)), tmp_path / "run", model=backbone(), recipe=plan)
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
        assert (made.guidance, made.sampling_steps) == (3.0, 3)


@pytest.mark.parametrize("skip", [True, False])
def test_clipping_skips_the_words_only_on_request(skip: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = recipe("clip=1e-6", f"reference.clip_skips_words={str(skip).lower()}")
    run = Run(pair(), tmp_path / "run", plan, backbone())
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
    run.advance()
    assert 0 < norms["lora"] <= 1.01e-6
    assert (norms["words"] > 1e-4) == skip


def test_a_mask_that_vanishes_at_the_maps_size_is_refused_only_where_maps_are_read(tmp_path: Path) -> None:
    one = pair((1, 1), (1 / 16, 0.5), skew=14)  # two pixels: half of a latent pixel, an eighth of a map's
    two = pair((1, 1), (1 / 16, 0.5), skew=15)  # one pixel: a quarter, and a sixteenth
    off = ("phases.0.attention=none", "phases.1.attention=none")
    Run(one, tmp_path / "one", recipe(), backbone())
    Run(two, tmp_path / "off", recipe(*off), backbone())
    with pytest.raises(InputError, match="vanishes at 4 x 4"):
        Run(two, tmp_path / "two", recipe(), backbone())
    assert not (tmp_path / "two").exists()


def test_a_word_beyond_the_text_encoders_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shorten the prompt"):
        Run(pair(), tmp_path / "run", recipe(f"prompt={'photo ' * 80}of {{}}"), backbone())
    assert not (tmp_path / "run").exists()


def test_each_phase_has_its_own_regulariser(tmp_path: Path) -> None:
    frozen = 'phases.0.preserve={"regulariser": "frozen"}'
    run = Run(pair(), tmp_path / "run", recipe(frozen, "phases.1.preserve.decay=0"), backbone())
    run.advance()
    run.advance()
    momentum = run.state.momentum
    assert momentum is not None
    kept = {n: w.clone() for n, w in momentum.weights.items()}
    assert any(not torch.equal(kept[n], p) for n, p in run.trained.lora.items())
    run.advance()
    for name, parameter in run.trained.lora.items():
        torch.testing.assert_close(momentum.weights[name], parameter.detach())  # decay 0: the online network's
        assert name not in kept or run.state.step == 3


def test_a_half_precision_folder_trains_and_loads(tmp_path: Path) -> None:
    base = pipeline()
    base.to(dtype=torch.float16)
    base.save_pretrained(tmp_path / "base")
    run = personalize(pair(), tmp_path / "run", model=str(tmp_path / "base"), settings=["preview_every=0", *SHORT])
    loaded = load(run)
    assert {p.dtype for part in (loaded.unet, loaded.text_encoder, loaded.vae) for p in part.parameters()} == {
        torch.float32
    }
    image = loaded("<person>", num_inference_steps=2, output_type="np").images[0]
    assert image.shape == (16, 16, 3)
    assert not bool((image == 0).all())


def test_the_loras_header_has_one_order_in_every_process(tmp_path: Path) -> None:
    run = personalize(pair(), tmp_path / "run", model=backbone(), recipe=recipe())
    header = json.loads(read_numbers(run / LORA_FILE)["lora_adapter_metadata"])
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
        personalize(pair(), tmp_path / str(share), model=backbone(), recipe=recipe())
        assert saved == steps
