"""Pictures of a run: one seed each, records inside, and a pipeline with nothing of ours in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import PNDMScheduler, StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor2_0
from PIL import Image

import magictailor.generation.pictures as module
from magictailor import personalize
from magictailor.backbones.sampling import SCHEDULERS
from magictailor.backbones.stable_diffusion import StableDiffusion
from magictailor.common.errors import InputError
from magictailor.common.tensors import read_tensors
from magictailor.generation.pictures import Generated, Record, generate, load, save_pictures
from magictailor.training.checkpoint import LORA_FILE, RUN_FILE, STATE_FILE, WORDS_FILE
from tiny import DEFAULTS, MAPS, SIZE, in_child, pair, recipe

PROMPT = "<person> with <hair>, on the beach"
# Strong enough that a LoRA or words that were not loaded would show.
STRONG = ("phases.0.lr=0.05", "phases.1.lr=0.05", "train.0.alpha=16", "preview_every=4")


def opened(folder: Path) -> Any:
    return StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = StableDiffusion(str(tiny_folder), opened(tiny_folder), DEFAULTS, map_side=MAPS)
    return personalize(pair(), tmp_path_factory.mktemp("runs") / "run", model=base, recipe=recipe(*STRONG))


@pytest.fixture(scope="module")
def loaded(run: Path) -> Any:
    return load(run)


def pixels(item: Generated | Image.Image) -> np.ndarray:
    return np.asarray(item if isinstance(item, Image.Image) else item.image, int)


def differ(left: Generated | Image.Image, right: Generated | Image.Image) -> int:
    return int(np.abs(pixels(left) - pixels(right)).max())


def test_a_seeds_image_is_the_same_in_any_batch(run: Path, loaded: Any) -> None:
    (alone,) = generate(run, PROMPT, seed=5, batch=1, pipeline=loaded)
    four = list(generate(run, PROMPT, number=4, seed=3, batch=4, pipeline=loaded))
    threes = list(generate(run, ["<hair>", PROMPT], number=4, seed=3, batch=3, pipeline=loaded))
    assert [item.record.seed for item in four] == [3, 4, 5, 6]
    assert [(item.record.prompt, item.record.seed) for item in threes[3:5]] == [("<hair>", 6), (PROMPT, 3)]
    assert differ(alone, four[2]) <= 2
    assert differ(alone, threes[6]) <= 2
    assert min(differ(four[a], four[b]) for a in range(4) for b in range(a)) > 20


def test_the_result_is_in_the_picture(run: Path, loaded: Any, tiny_folder: Path) -> None:
    """LoRA and each word's row change what is drawn, so the equalities here mean something."""
    (whole,) = generate(run, PROMPT, pipeline=loaded)
    plain = load(run)
    plain.unload_lora_weights()
    (without_lora,) = generate(run, PROMPT, pipeline=plain)
    assert differ(whole, without_lora) > 5
    other = load(run)
    table = other.text_encoder.get_input_embeddings().weight
    table.data[other.tokenizer.convert_tokens_to_ids("<hair>")] = 0
    (without_word,) = generate(run, PROMPT, pipeline=other)
    assert differ(whole, without_word) > 5


def test_plain_diffusers_draws_the_same(run: Path, loaded: Any, tiny_folder: Path) -> None:
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
    (ours,) = generate(run, PROMPT, seed=9, pipeline=loaded)
    assert image.size == (SIZE, SIZE)
    assert differ(image, ours) <= 1


def test_the_loaded_pipeline_is_plain(loaded: Any) -> None:
    assert type(loaded) is StableDiffusionPipeline
    assert {type(p) for p in loaded.unet.attn_processors.values()} == {AttnProcessor2_0}
    ours = [m for part in (loaded.unet, loaded.text_encoder) for m in part.modules() if m._forward_hooks]
    assert ours == []


def test_the_last_preview_equals_a_generated_picture(run: Path, loaded: Any) -> None:
    texts = ("a photo of <person> with <hair>", "a photo of <person>", "a photo of <hair>")
    for number, item in enumerate(generate(run, list(texts), pipeline=loaded)):
        with Image.open(run / "previews" / f"000004-{number}.png") as preview:
            assert preview.info["prompt"] == texts[number]
            assert differ(preview.convert("RGB"), item) <= 2
        with Image.open(run / "previews" / f"000000-{number}.png") as preview:
            assert differ(preview.convert("RGB"), item) > 5


def test_previews_and_pictures_agree_whatever_scheduler_the_base_came_with(tmp_path: Path) -> None:
    base = opened_with_pndm(tmp_path / "base")
    run = personalize(pair(), tmp_path / "run", model=base, recipe=recipe(*STRONG))
    (item,) = generate(run, "a photo of <hair>")
    with Image.open(run / "previews" / "000004-2.png") as preview:
        assert differ(preview.convert("RGB"), item) <= 2


def opened_with_pndm(folder: Path) -> StableDiffusion:
    from tiny import pipeline

    made = pipeline()
    made.scheduler = PNDMScheduler.from_config(made.scheduler.config, skip_prk_steps=True)
    made.save_pretrained(folder)
    return StableDiffusion(str(folder), opened(folder), DEFAULTS, map_side=MAPS)


@pytest.mark.parametrize("method", ["magictailor", "magictailor-reference"])
def test_what_is_loaded_is_what_was_trained_to_the_bit(method: str, tiny_folder: Path, tmp_path: Path) -> None:
    base = StableDiffusion(str(tiny_folder), opened(tiny_folder), DEFAULTS, map_side=MAPS)
    run = personalize(pair(), tmp_path / "run", model=base, recipe=recipe("train.0.alpha=8", method=method))
    trained = read_tensors(run / STATE_FILE)
    pipeline = load(run)
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


def test_nothing_is_drawn_before_it_is_asked_for(run: Path, loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def counted(pipeline: Any, prompts: list[str], seeds: list[int], *_: Any, **how: Any) -> Iterator[Image.Image]:
        for seed in seeds:
            drawn.append(seed)
            yield Image.new("RGB", (SIZE, SIZE))

    monkeypatch.setattr(module, "sample", counted)
    pictures = generate(run, PROMPT, number=3, pipeline=loaded)
    assert drawn == []
    next(pictures)
    assert drawn == [0]


def test_a_batch_is_drawn_only_when_its_first_picture_is_asked_for(run: Path) -> None:
    pipeline = load(run)
    calls: list[int] = []
    pipeline.unet.register_forward_pre_hook(lambda m, i: calls.append(len(i[0])))
    pictures = generate(run, PROMPT, number=3, steps=1, batch=2, pipeline=pipeline)
    for expected in ([4], [4], [4, 2]):  # twice for guidance
        next(pictures)
        assert calls == expected


def test_every_scheduler_runs_and_the_choice_before_leaves_no_trace(run: Path, loaded: Any) -> None:
    def drawn(name: str, pipeline: Any) -> Generated:
        (item,) = generate(run, PROMPT, steps=6, scheduler_name=name, pipeline=pipeline)
        return item

    fresh = {name: drawn(name, load(run)) for name in SCHEDULERS}
    names = list(SCHEDULERS)
    assert [fresh[n].record.scheduler for n in names] == names
    assert min(differ(fresh[a], fresh[b]) for a in names for b in names if a < b) > 2
    assert {a: differ(drawn(a, loaded), fresh[a]) for a in [*reversed(names), *names]} == dict.fromkeys(names, 0)


def test_bad_input_is_refused_before_anything_is_drawn(run: Path, loaded: Any, tmp_path: Path) -> None:
    def refused(match: str, where: Path = run, prompt: str = PROMPT, **options: Any) -> None:
        with pytest.raises(InputError, match=match) as caught:
            generate(where, prompt, pipeline=loaded, **options)
        assert "\n" not in str(caught.value)

    refused("<hat>.*it knows <person>, <hair>", prompt="<person> with <hat>")
    refused("empty", prompt=" ")
    refused("ddim", scheduler_name="euler")
    refused("number", number=0)
    refused("steps", steps=0)
    refused("seed", seed=-1)
    refused("not a run", where=tmp_path)


def test_a_run_that_is_not_finished_is_refused(run: Path, tmp_path: Path) -> None:
    text = (run / RUN_FILE).read_text()
    (tmp_path / RUN_FILE).write_text(text.replace('"finished": true', '"finished": false'))
    with pytest.raises(InputError, match="not finished"):
        load(tmp_path)


def test_files_hold_their_records(run: Path, loaded: Any, tmp_path: Path) -> None:
    paths = save_pictures(generate(run, PROMPT, number=2, seed=7, steps=2, guidance=1.5, pipeline=loaded), tmp_path)
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
    paths = save_pictures(iter(made), tmp_path)
    assert len(set(paths)) == 2
    for path, text in zip(paths, prompts):
        with Image.open(path) as image:
            assert image.info["prompt"] == text


def test_load_needs_no_state_of_the_training_process(run: Path, loaded: Any) -> None:
    (here,) = generate(run, PROMPT, pipeline=loaded)
    here.image.save(run / "here.png")

    def there() -> None:
        (item,) = generate(run, PROMPT)
        with Image.open(run / "here.png") as image:
            assert differ(item, image) == 0

    assert in_child(there) == 0


def test_the_documented_import_gives_functions_whatever_was_imported_before() -> None:
    from magictailor import generate, load, personalize

    assert [callable(f) for f in (generate, load, personalize)] == [True] * 3
