"""Emphasis of the components: where they are, guidance leads away from the prompt without them; elsewhere, towards it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from magictailor import Generated, InputError, Run, load, personalize
from magictailor.backbones.families import backbone_class
from magictailor.backbones.guidance import AREA, most_different
from magictailor.recipe.naming import Naming
from tiny import FAMILIES, MAPS, PROMPT, pair, recipe, short, train

STRONG = ("phases.0.lr=0.05", "phases.1.lr=0.05", "train.0.alpha=16")
WORDS = {"<person>": "person", "<hair>": "hair", "<hat>": "hat"}


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    output = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("magictailor.backbones.stable_diffusion.MAP_SIDE", MAPS)
        return load(personalize(pair(), output, model=str(tiny_folder), recipe=recipe(*STRONG)).folder)


def differ(left: Generated, right: Any) -> int:
    return int(np.abs(np.asarray(left.image, int) - np.asarray(getattr(right, "image", right), int)).max())


@pytest.mark.parametrize(
    ("prompt", "without"),
    [
        ("a photo of <person> with <hair>, in the snow", "a photo of <person>, in the snow"),
        ("<person> with <hair> and <hat>, on the beach", "<person>, on the beach"),
        ("<hat> and <hair> on <person>", "on <person>"),
        ("<person> wearing a <hat>", "<person>"),
        ("a photo of <person> with long hair", ""),  # names no component
        ("a photo of <hair>", ""),  # nor the concept
    ],
)
def test_the_prompt_without_its_components(prompt: str, without: str) -> None:
    assert Naming(recipe(), WORDS).without_components(prompt) == without


def test_rare_words_go_with_their_labels() -> None:
    named = Naming(short("dreambooth"), WORDS)
    text = named.expand("<person> with <hair>, at night")
    assert named.without_components(text) == named.expand("<person>, at night")


def test_full_emphasis_everywhere_is_the_concept_alone_as_negative_prompt(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (focused,) = run.generate(PROMPT, seed=9, emphasis=1)
    monkeypatch.setattr("magictailor.backbones.guidance.most_different", lambda full, other: torch.ones_like(full))
    (everywhere,) = run.generate(PROMPT, seed=9, emphasis=1)
    (plain,) = run.generate(PROMPT, seed=9)
    pipeline = run.pipeline
    pipeline.set_progress_bar_config(disable=True)
    random, without = torch.Generator().manual_seed(9), PROMPT.replace(" with <hair>", "")
    assert without != PROMPT
    same = pipeline(
        PROMPT, negative_prompt=without, num_inference_steps=3, guidance_scale=3.0, generator=random
    ).images[0]
    assert differ(everywhere, same) <= 1
    assert differ(everywhere, plain) > 5
    assert differ(focused, everywhere) > 2
    (half,) = run.generate(PROMPT, seed=9, emphasis=0.5)
    assert min(differ(half, plain), differ(half, everywhere)) > 2


def test_it_acts_where_the_difference_is() -> None:
    random = torch.Generator().manual_seed(0)
    first = torch.randn(2, 4, 10, 10, generator=random)
    second = first + 0.01 * torch.randn(first.shape, generator=random)
    second[0, :, 2:6, 3:7] += 1.0  # 16 positions of 100
    second[1, :, 7:, :5] -= 1.0
    found = most_different(first, second)[:, 0] > 0
    assert found[0, 2:6, 3:7].all()
    assert found[1, 7:, :5].all()
    for own in found:
        assert own.float().mean() == pytest.approx(AREA, abs=0.02)
    assert not found[0, 8:].any()


def test_a_prompt_without_both_is_not_changed(run: Run) -> None:
    for prompt in ("a photo of <person>", "a photo of <hair>"):
        (left,), (right,) = run.generate(prompt), run.generate(prompt, emphasis=0.8)
        assert differ(left, right) == 0
    mixed = list(run.generate([PROMPT, "<person>"], emphasis=0.8, batch=2))
    (alone,) = run.generate("<person>")
    assert differ(alone, mixed[1]) <= 2


def test_the_image_tells_its_emphasis(run: Run) -> None:
    (plain,), (emphasised,) = run.generate(PROMPT), run.generate(PROMPT, emphasis=0.6)
    assert "emphasis" not in plain.record.metadata()
    assert emphasised.record.metadata()["emphasis"] == "0.6"


def test_a_recipe_has_its_own(tiny_folder: Path, tmp_path: Path) -> None:
    """In previews, and as the default of `generate`."""
    own = recipe(*STRONG, "sampling.emphasis=0.8", "sampling.preview_every=4")
    run = load(train(pair(), tmp_path / "run", model=str(tiny_folder), recipe=own))
    (image,), (none,) = run.generate("a photo of <person> with <hair>"), run.generate(PROMPT, emphasis=0)
    assert image.record.emphasis == 0.8
    assert none.record.emphasis is None
    from PIL import Image

    with Image.open(tmp_path / "run" / "previews" / "000004-0.png") as preview:
        assert differ(image, preview.convert("RGB")) <= 2


def text_inputs(backbone: Any, prompts: list[str]) -> dict[str, Any]:
    return backbone._text_inputs(backbone.encode_text(prompts).tensors)  # type: ignore[no-any-return]


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_inside_it_leads_away_from_the_prompt_without_and_outside_towards_it(family: str) -> None:
    pipeline = FAMILIES[family]()
    backbone = backbone_class(type(pipeline).__name__)(family, pipeline)
    backbone.add_words({"<person>": "person", "<hair>": "hair"})
    full, alone = "a <person> with <hair>", "a <person>"
    side = backbone.latent_shape(backbone.size, backbone.size)
    noisy = torch.randn(1, *side, generator=torch.Generator().manual_seed(0))

    def denoised(*prompts: str) -> torch.Tensor:
        inputs = text_inputs(backbone, list(prompts))
        rows = noisy.expand(len(prompts), -1, -1, -1)
        return backbone.denoiser(rows, torch.tensor(500), **inputs, return_dict=False)[0]  # type: ignore[no-any-return]

    free, own, other = (denoised(text) for text in ("", full, alone))
    inside = most_different(own, other)
    assert 0 < inside.mean() < 0.5
    for strength, outer in ((0.8, 0.8), (1.5, 1.0)):
        with backbone.emphasizing([alone], strength):
            empty, led = denoised("", full).chunk(2)
        torch.testing.assert_close(empty, free + strength * inside * (other - free), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(led, own + outer * (1 - inside) * (other - own), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(denoised("", full), torch.cat([free, own]), rtol=1e-4, atol=1e-5)
    assert not backbone.denoiser._forward_hooks


@pytest.mark.parametrize(
    ("match", "options"),
    [
        ("emphasis 2.5", {"emphasis": 2.5}),
        ("emphasis -0.1", {"emphasis": -0.1}),
        ("no effect with guidance 1", {"emphasis": 0.5, "guidance": 1.0}),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(match: str, options: dict[str, float], run: Run) -> None:
    with pytest.raises(InputError, match=match) as caught:
        run.generate(PROMPT, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_pair_without_component_is_refused_before_it_is_trained(tiny_folder: Path, tmp_path: Path) -> None:
    own = recipe(*STRONG, "sampling.emphasis=0.8")
    with pytest.raises(InputError, match="no component to emphasise"):
        train(pair((2,)), tmp_path / "run", model=str(tiny_folder), recipe=own)
    assert not (tmp_path / "run").exists()


def test_two_stages_cannot_be_emphasised(tiny_folder: Path, tmp_path: Path) -> None:
    run = load(train(pair(), tmp_path / "run", model=str(tiny_folder), recipe=short("clic", "sampling.steps=4")))
    with pytest.raises(InputError, match="two stages"):
        run.generate(PROMPT, emphasis=0.5)
