"""What a training is expected to take, on cards that are not there: only what was counted."""

import re
from pathlib import Path
from typing import Any

import pytest

from magictailor.backbones.presets import EXPECTED, NAMES
from magictailor.methods import recipe_for
from magictailor.studio.expectation import Expectation, expect
from magictailor.studio.jobs import TrainSpec


def expected(family: str | None, gigabytes: float, method: str = "magictailor", **spec: Any) -> Expectation:
    cards = [{"name": "a card", "gigabytes": gigabytes}] if gigabytes else []
    recipe = recipe_for(family or "sd1", method)
    return expect(TrainSpec(pair="a", model="models/x", method=method, **spec), recipe, family, 6, (), cards)


@pytest.mark.parametrize(
    ("gigabytes", "preset"), [(8.0, "8gb"), (11.8, "12gb"), (15.8, "16gb"), (25.4, "24gb"), (80, "fast")]
)
def test_the_card_proposes_a_preset_whose_memory_was_counted(gigabytes: float, preset: str) -> None:
    found = expected("sdxl", gigabytes)
    assert (found.preset, found.proposed) == (preset, True)
    assert found.memory_gb == EXPECTED["sdxl"][preset]
    assert found.seconds is None
    assert found.steps == 500


def test_the_user_has_the_last_word() -> None:
    found = expected("sd1", 80, preset="8gb")
    assert (found.preset, found.proposed, found.memory_gb) == ("8gb", False, EXPECTED["sd1"]["8gb"])


@pytest.mark.parametrize(
    ("family", "gigabytes", "spec", "why"),
    [
        ("sd1", 0, {}, "CPU"), ("sd1", 24, {"device": "cpu"}, "CPU"), (None, 24, {}, "not downloaded"),
        ("sd1", 24, {"method": "dreambooth"}, "LoRA"), ("sd1", 24, {"precision": "fp32"}, "fp32"), ("sd3-clip", 24, {}, "sd3-clip"),
        ("sd1", 24, {"settings": ("optimisation.micro_batch=1",)}, "settings"),
    ],
)  # fmt: skip
def test_what_was_not_counted_is_said_to_be_unknown(family: str | None, gigabytes: float, spec: Any, why: str) -> None:
    found = expected(family, gigabytes, **spec)
    assert found.memory_gb is None
    assert why in found.unknown


def test_every_counted_preset_is_one() -> None:
    assert all(set(counted) <= set(NAMES) for counted in EXPECTED.values())


def test_the_numbers_are_those_of_the_report() -> None:
    report = (Path(__file__).parents[2] / "docs" / "experiments" / "memory.md").read_text("utf-8")
    rows = {
        "Stable Diffusion 1.x, 512 px": "sd1", "Stable Diffusion 2.x, 512 px": "sd2", "Stable Diffusion 2.x, 768 px": "sd2-v",
        "SDXL, 1024 px": "sdxl", "Sana 1.6B": "sana", "Stable Diffusion 3.5 medium": "sd3", "FLUX.2 klein 4B": "flux2-klein-4b",
        "Z-Image": "z-image", "FLUX.2 klein 9B": "flux2-klein-9b", "FLUX.1": "flux", "Qwen-Image": "qwen-image",
        "FLUX.2 dev": "flux2-dev",
    }  # fmt: skip
    assert set(rows.values()) == set(EXPECTED)
    for title, family in rows.items():
        (line,) = [line for line in report.splitlines() if line.startswith(f"| {title} |")]
        numbers = [float(re.match(r"[\d.]*\d", cell.strip(" *"))[0]) for cell in line.split("|")[2:-1]]  # type: ignore[index]
        assert numbers == list(EXPECTED[family].values()), title
