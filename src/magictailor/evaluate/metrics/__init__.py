"""All scorers by name. To add one, add a file in this folder and a line in `_factories`."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from magictailor.common.errors import InputError
from magictailor.evaluate.metrics.cutouts import Cutter
from magictailor.evaluate.metrics.embedders import Clip, Dino, DreamSim
from magictailor.evaluate.metrics.judging import JudgeScorer, judge_name
from magictailor.evaluate.metrics.quality import JudgeQuality
from magictailor.evaluate.metrics.scorer import Scorer
from magictailor.evaluate.metrics.similarity import ClipQuality, ClipText, SubjectSimilarity
from magictailor.segmentation import load_segmenter

WEIGHTS = {
    "clip": "openai/clip-vit-base-patch32",
    "dino": "facebook/dino-vits16",  # DreamBooth's protocol
    "dinov2": "facebook/dinov2-base",  # the paper's citation
    "dreamsim": "~/.cache/dreamsim",
}


def _factories(weights: Mapping[str, str], segmenter: str) -> dict[str, Callable[[], Scorer]]:
    models = {**WEIGHTS, **weights}
    clip = Clip(models["clip"])
    model = judge_name() if segmenter == "embedded" else segmenter
    similarity = partial(SubjectSimilarity, cutter=Cutter(model, partial(load_segmenter, segmenter)))
    return {
        "judge": JudgeScorer,
        "quality": JudgeQuality,
        "clip-t": lambda: ClipText(clip),
        "clip-i": lambda: similarity("clip-i", clip),
        "dino": lambda: similarity("dino", Dino(models["dino"])),
        "dinov2": lambda: similarity("dinov2", Dino(models["dinov2"])),
        "dreamsim": lambda: similarity("dreamsim", DreamSim(models["dreamsim"]), distance=True),
        "clip-iqa": lambda: ClipQuality(clip),
    }


def make_scorers(names: Sequence[str], weights: Mapping[str, str], segmenter: str) -> dict[str, Scorer]:
    """Scorers by name.

    Args:
        weights: folders or hub ids that replace `WEIGHTS`.
        segmenter: the model that cuts subjects out.

    Raises:
        InputError: an unknown name.
    """
    factories = _factories(weights, segmenter)
    for key, given, known in (("metrics", names, factories), ("weights", weights, WEIGHTS)):
        if unknown := [name for name in given if name not in known]:
            raise InputError(f"{key}: {unknown[0]!r} is unknown", f"choose from {', '.join(known)}")
    return {name: factories[name]() for name in names}


def load_scorers(scorers: Mapping[str, Scorer]) -> tuple[dict[str, Scorer], list[str]]:
    """The scorers that have their models, loaded; and a line for each other one, with the fix.

    Raises:
        InputError: none has its model.
    """
    usable, notes = {}, []
    for name, scorer in scorers.items():
        try:
            scorer.prepare()
            usable[name] = scorer
        except InputError as error:
            notes.append(f"{name} is left out: {error}")
    if not usable:
        raise InputError("; ".join(notes))
    return usable, notes


def higher_is_better() -> dict[str, bool]:
    """Of every metric by name, in the order of a table's columns."""
    factories = _factories({}, "embedded").values()
    return {metric: higher for make in factories for metric, higher in make().higher_is_better.items()}
