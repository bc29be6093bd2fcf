"""What a training is expected to take, before it is started: only what was measured here, or counted for its preset."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magictailor.backbones.presets import EXPECTED, GIGABYTE, preset_for
from magictailor.recipe import Recipe
from magictailor.studio.jobs.job import TrainSpec
from magictailor.studio.jobs.store import Status
from magictailor.studio.live import run_facts
from magictailor.studio.machine import machine

# Settings that change neither the time of a step nor its memory.
LIGHT = re.compile(
    r"(phases\.\d+\.(steps|lr)|seed|sampling\..*|optimisation\.(lr_scale|betas|weight_decay|max_grad_norm))=.*"
)
MEASURED_LIKE = ("model", "method", "precision", "device", "loras")  # of a specification, next to the preset in use


@dataclass(frozen=True)
class Expectation:
    """``preset``: in use; ``proposed``: whether the card chose it. ``seconds``: of training only, without loading and
    previews. ``memory_gb``: on the card, or of the process on a CPU. ``measured``: the job that both come from; None:
    memory was counted, and time is not known. ``unknown``: why memory is not known, or an empty text.
    """

    preset: str
    proposed: bool
    steps: int
    seconds: float | None = None
    memory_gb: float | None = None
    measured: str | None = None
    unknown: str = ""


def expect(
    spec: TrainSpec,
    recipe: Recipe,
    family: str | None,
    photos: int,
    earlier: Iterable[tuple[Status, Path]],
    cards: Sequence[dict[str, Any]],
) -> Expectation:
    """What is known about a training that has not begun.

    Args:
        family: of the base, see `family_on_disk`. photos: of the pair.
        earlier: trainings with their folders. One counts if it ended on this machine and had the same base, method,
            preset, precision, device, number of photos and settings, apart from those that a step's cost does not
            depend on.
    """
    on_card = bool(cards) and spec.device != "cpu"
    card_bytes = int(cards[0]["gigabytes"] * GIGABYTE) if on_card else None
    preset = preset_for(family or "", spec.preset, card_bytes).name
    known = Expectation(preset, spec.preset is None, recipe.steps)
    wanted = _kind(spec, preset, photos)
    for status, folder in sorted(earlier, key=lambda pair: -pair[0].job.order):
        found = _measured(status, folder, wanted)
        if found is not None:
            seconds, memory = found
            return Expectation(
                preset, known.proposed, recipe.steps, seconds * recipe.steps, memory, status.job.id,
                "" if memory is not None else "it was not measured",
            )  # fmt: skip
    counted, unknown = _counted(spec, recipe, family, preset, on_card)
    return Expectation(preset, known.proposed, recipe.steps, None, counted, None, unknown)


def _kind(spec: TrainSpec, preset: str, photos: int) -> tuple[Any, ...]:
    heavy = tuple(sorted(text for text in spec.settings if not LIGHT.fullmatch(text)))
    return (*(getattr(spec, name) for name in MEASURED_LIKE), preset, photos, heavy)


def _measured(status: Status, folder: Path, wanted: tuple[Any, ...]) -> tuple[float, float | None] | None:
    """Seconds a step and GB of a training of the wanted kind that ended on this machine."""
    spec, ending = status.job.spec, status.ending
    if not isinstance(spec, TrainSpec) or ending is None or status.state != "done":
        return None
    facts = run_facts(folder)
    if ending.result.get("machine") != machine() or not facts or not facts["steps"] or not facts["seconds"]:
        return None
    if _kind(spec, facts["preset"], facts["photos"]) != wanted:
        return None
    return facts["seconds"] / facts["steps"], facts["peak_gb"]


def _counted(
    spec: TrainSpec, recipe: Recipe, family: str | None, preset: str, on_card: bool
) -> tuple[float | None, str]:
    """GB by `EXPECTED`, or None and why."""
    if not on_card:
        return None, "on a CPU, it is measured, not calculated"
    if family is None:
        return None, "the base is not downloaded yet"
    if recipe.kinds - {"lora", "pseudo-words"} or recipe.loss.prior or recipe.data.batch or recipe.data.collage:
        return None, "calculated only for a LoRA that trains on all photos at once"
    if any(not LIGHT.fullmatch(text) for text in spec.settings):
        return None, "calculated only for the method's own settings"
    if spec.precision in ("fp32", "int8") or (spec.precision == "nf4" and family != "sdxl"):
        return None, f"not calculated in {spec.precision}"
    found = EXPECTED.get(family, {}).get(preset)
    return found, "" if found is not None else f"not calculated for {family} on preset {preset}"
