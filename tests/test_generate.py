"""Images of a run: one seed each, records inside, and a pipeline with nothing of ours in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import PNDMScheduler, StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor2_0
from PIL import Image

import magictailor.generation.generate as module
from magictailor import Generated, InputError, Record, Run, load, personalize
from magictailor.backbones.process import Diffusion
from magictailor.common.tensors import read_tensors
from magictailor.generation.images import save_images
from magictailor.training.run_folder import LORA_FILE, RUN_FILE, STATE_FILE, WORDS_FILE
from tiny import MAPS, PROMPT, SIZE, in_child, opened, pair, recipe

# Strong enough that a LoRA or words that were not loaded would show.
STRONG = ("phases.0.lr=0.05", "phases.1.lr=0.05", "train.0.alpha=16", "sampling.preview_every=4")


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("magictailor.backbones.stable_diffusion.MAP_SIDE", MAPS)
        return personalize(pair(), output, model=str(tiny_folder), recipe=recipe(*STRONG)).folder


@pytest.fixture(scope="module")
def loaded(run: Path) -> Run:
    return load(run)


def pixels(item: Generated | Image.Image) -> np.ndarray:
    return np.asarray(item if isinstance(item, Image.Image) else item.image, int)


def differ(left: Generated | Image.Image, right: Generated | Image.Image) -> int:
    return int(np.abs(pixels(left) - pixels(right)).max())


def test_a_seeds_image_is_the_same_in_any_batch(loaded: Run) -> None:
    (alone,) = loaded.generate(PROMPT, seed=5, batch=1)
    four = list(loaded.generate(PROMPT, number=4, seed=3, batch=4))
    threes = list(loaded.generate(["<hair>", PROMPT], number=4, seed=3, batch=3))
    assert [item.record.seed for item in four] == [3, 4, 5, 6]
    assert [(item.record.prompt, item.record.seed) for item in threes[3:5]] == [("<hair>", 6), (PROMPT, 3)]
    assert differ(alone, four[2]) <= 2
    assert differ(alone, threes[6]) <= 2
    assert min(differ(four[a], four[b]) for a in range(4) for b in range(a)) > 20


def test_the_result_is_in_the_image(run: Path, loaded: Run) -> None:
    """LoRA and each word's row change what is generated, so the equalities here mean something."""
    (whole,) = loaded.generate(PROMPT)
    plain = load(run)
    plain.pipeline.unload_lora_weights()
    (without_lora,) = plain.generate(PROMPT)
    assert differ(whole, without_lora) > 2
    other = load(run)
    table = other.pipeline.text_encoder.get_input_embeddings().weight
    table.data[other.pipeline.tokenizer.convert_tokens_to_ids("<hair>")] = 0
    (without_word,) = other.generate(PROMPT)
    assert differ(whole, without_word) > 2


def test_plain_diffusers_generates_the_same(run: Path, loaded: Run, tiny_folder: Path) -> None:
    """Without a line of ours: the LoRA file by diffusers' own loader, the words' rows put in by hand."""
    pipeline = opened(tiny_folder)
    pipeline.load_lora_weights(str(run), weight_name=LORA_FILE)
    words = read_tensors(run / WORDS_FILE)
    pipeline.tokenizer.add_tokens(["<person>", "<hair>"])
    pipeline.text_encoder.resize_token_embeddings(len(pipeline.tokenizer))
    for word in ("<person>", "<hair>"):
        row = pipeline.tokenizer.convert_tokens_to_ids(word)
        pipeline.text_encoder.get_input_embeddings().weight.data[row] = words[f"words.{word}.clip"][0]
    scales = {m.scaling["default_0"] for m in pipeline.unet.modules() if hasattr(m, "scaling")}
    assert scales == {16 / 4}  # alpha comes with the file
    pipeline.set_progress_bar_config(disable=True)
    random = torch.Generator().manual_seed(9)
    image = pipeline(PROMPT, num_inference_steps=3, guidance_scale=3.0, generator=random).images[0]
    (ours,) = loaded.generate(PROMPT, seed=9)
    assert image.size == (SIZE, SIZE)
    assert differ(image, ours) <= 1


def test_the_loaded_pipeline_is_plain(loaded: Run) -> None:
    pipeline = loaded.pipeline
    assert type(pipeline) is StableDiffusionPipeline
    assert {type(p) for p in pipeline.unet.attn_processors.values()} == {AttnProcessor2_0}
    ours = [m for part in (pipeline.unet, pipeline.text_encoder) for m in part.modules() if m._forward_hooks]
    assert ours == []


def test_a_run_knows_its_words_recipe_and_history(run: Path, loaded: Run) -> None:
    assert loaded.folder == run
    assert loaded.words == {"<person>": "person", "<hair>": "hair"}
    assert loaded.recipe == recipe(*STRONG)
    assert [row["step"] for row in loaded.history] == [0, 1, 2, 3]
    assert all({"loss", "gradient_norm", "lr"} <= row.keys() for row in loaded.history)


def test_a_model_is_loaded_only_when_it_is_needed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("nobody asked for it")

    monkeypatch.setattr("magictailor.api.load_trained", refuse)
    finished = Run(run)
    assert finished.words == {"<person>": "person", "<hair>": "hair"}
    with pytest.raises(AssertionError, match="nobody asked"):
        _ = finished.pipeline


def test_the_last_preview_equals_a_generated_image(run: Path, loaded: Run) -> None:
    texts = ("a photo of <person> with <hair>", "a photo of <person>", "a photo of <hair>")
    for number, item in enumerate(loaded.generate(list(texts))):
        with Image.open(run / "previews" / f"000004-{number}.png") as preview:
            assert preview.info["prompt"] == texts[number]
            assert differ(preview.convert("RGB"), item) <= 2
        with Image.open(run / "previews" / f"000000-{number}.png") as preview:
            assert differ(preview.convert("RGB"), item) > 5


def test_previews_and_images_agree_whatever_scheduler_the_base_came_with(tiny_folder: Path, tmp_path: Path) -> None:
    base = opened(tiny_folder)
    base.scheduler = PNDMScheduler.from_config(base.scheduler.config, skip_prk_steps=True)
    base.save_pretrained(tmp_path / "base")
    run = personalize(pair(), tmp_path / "run", model=str(tmp_path / "base"), recipe=recipe(*STRONG))
    (item,) = run.generate("a photo of <hair>")
    with Image.open(run.folder / "previews" / "000004-2.png") as preview:
        assert differ(preview.convert("RGB"), item) <= 2


@pytest.mark.parametrize("method", ["magictailor", "magictailor-reference"])
def test_what_is_loaded_is_what_was_trained_to_the_bit(method: str, tiny_folder: Path, tmp_path: Path) -> None:
    own = recipe("train.0.alpha=8", method=method)
    run = personalize(pair(), tmp_path / "run", model=str(tiny_folder), recipe=own)
    trained = read_tensors(run.folder / STATE_FILE)
    pipeline = run.pipeline
    there = dict(pipeline.unet.named_parameters())
    lora = {n.removeprefix("trained.lora."): v for n, v in trained.items() if n.startswith("trained.lora.")}
    assert len(lora) > 50
    for name, value in lora.items():
        assert torch.equal(there[name.replace(".default.", ".default_0.")], value), name
    scalings = {m.scaling["default_0"] for m in pipeline.unet.modules() if hasattr(m, "scaling")}
    assert scalings == {8 / 4}
    table = pipeline.text_encoder.get_input_embeddings().weight
    if method == "magictailor":
        for word in ("<person>", "<hair>"):
            row = table[pipeline.tokenizer.convert_tokens_to_ids(word)]
            assert torch.equal(row, trained[f"trained.words.{word}.clip"][0])
    else:
        assert torch.equal(table, trained["trained.embedding.clip"])


def test_nothing_is_generated_before_it_is_asked_for(loaded: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    generated: list[int] = []

    def counted(backbone: Any, prompts: list[str], seeds: list[int], *_: Any, **__: Any) -> Iterator[Image.Image]:
        for seed in seeds:
            generated.append(seed)
            yield Image.new("RGB", (SIZE, SIZE))

    monkeypatch.setattr(module, "sample", counted)
    images = loaded.generate(PROMPT, number=3)
    assert generated == []
    next(images)
    assert generated == [0]


def test_a_batch_is_generated_only_when_its_first_image_is_asked_for(run: Path) -> None:
    fresh = load(run)
    calls: list[int] = []
    fresh.pipeline.unet.register_forward_pre_hook(lambda m, i: calls.append(len(i[0])))
    images = fresh.generate(PROMPT, number=3, steps=1, batch=2)
    for expected in ([4], [4], [4, 2]):  # twice for guidance
        next(images)
        assert calls == expected


def test_every_scheduler_runs_and_the_choice_before_leaves_no_trace(run: Path, loaded: Run) -> None:
    def generated(name: str, by: Run) -> Generated:
        (item,) = by.generate(PROMPT, steps=6, scheduler=name)
        return item

    fresh = {name: generated(name, load(run)) for name in Diffusion.schedulers}
    names = list(Diffusion.schedulers)
    assert [fresh[n].record.scheduler for n in names] == names
    assert min(differ(fresh[a], fresh[b]) for a in names for b in names if a < b) > 2
    changes = {a: differ(generated(a, loaded), fresh[a]) for a in [*reversed(names), *names]}
    assert changes == dict.fromkeys(names, 0)


@pytest.mark.parametrize(
    ("match", "arguments"),
    [
        ("<hat>.*it knows <person>, <hair>", {"prompts": "<person> with <hat>"}),
        ("empty", {"prompts": ["<person>", " "]}),
        ("scheduler euler: .*ddim", {"scheduler": "euler"}),
        ("number 0", {"number": 0}),
        ("steps 0", {"steps": 0}),
        ("steps 1001", {"steps": 1001}),
        ("guidance -1", {"guidance": -1}),
        ("seed -1", {"seed": -1}),
        ("seed 4294967295", {"seed": 2**32 - 1, "number": 2}),
    ],
)
def test_bad_input_is_refused_before_anything_is_generated(
    match: str, arguments: dict[str, Any], loaded: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "sample", None)
    with pytest.raises(InputError, match=match) as caught:
        loaded.generate(**{"prompts": PROMPT, **arguments})
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    for open_run in (load, Run):
        with pytest.raises(InputError, match="not a run"):
            open_run(tmp_path)


def test_a_run_that_is_not_finished_is_refused(run: Path, tmp_path: Path) -> None:
    text = (run / RUN_FILE).read_text()
    (tmp_path / RUN_FILE).write_text(text.replace('"finished": true', '"finished": false'))
    for open_run in (load, Run):
        with pytest.raises(InputError, match="not finished"):
            open_run(tmp_path)


def test_files_hold_their_records(loaded: Run, tmp_path: Path) -> None:
    paths = save_images(loaded.generate(PROMPT, number=2, seed=7, steps=2, guidance=1.5), tmp_path)
    assert [p.name for p in paths] == ["person-with-hair-on-the-beach-7.png", "person-with-hair-on-the-beach-8.png"]
    with Image.open(paths[1]) as image:
        assert image.info["prompt"] == PROMPT
        assert (image.info["seed"], image.info["steps"], image.info["guidance"]) == ("8", "2", "1.5")
        assert (image.info["pair"], image.info["method"]) == ("tiny", "magictailor")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 2 * 128


@pytest.mark.parametrize(
    "prompts",
    [
        ("<person> with <hair>", "<person>, with <hair>!"),
        (f"{'very ' * 30}old <person>", f"{'very ' * 30}young <person>"),
    ],
)
def test_two_prompts_never_share_a_file(prompts: tuple[str, str], tmp_path: Path) -> None:
    made = [
        Generated(Image.new("RGB", (16, 16), (90 * i, 0, 0)), Record("p", text, 0, "m", "b", 1, 1.0, "ddim"))
        for i, text in enumerate(prompts)
    ]
    paths = save_images(iter(made), tmp_path)
    assert len(set(paths)) == 2
    for path, text in zip(paths, prompts):
        with Image.open(path) as image:
            assert image.info["prompt"] == text


def test_load_needs_no_state_of_the_training_process(run: Path, loaded: Run) -> None:
    (here,) = loaded.generate(PROMPT)
    here.image.save(run / "here.png")

    def there() -> None:
        (item,) = load(run).generate(PROMPT)
        with Image.open(run / "here.png") as image:
            assert differ(item, image) == 0

    assert in_child(there) == 0
