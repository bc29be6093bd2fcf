"""What pictures are scored by: all metrics by name. Another one is a file beside these and a line here."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from magictailor.common.errors import InputError
from magictailor.evaluate.metrics.contract import Metric
from magictailor.evaluate.metrics.cutouts import Cutter
from magictailor.evaluate.metrics.embedders import Clip, Dino, DreamSim
from magictailor.evaluate.metrics.judging import TruthByJudge, judge_name
from magictailor.evaluate.metrics.quality import QualityByJudge
from magictailor.evaluate.metrics.similarity import ClipQuality, ClipText, IdentityOf
from magictailor.segmentation import load_segmenter

WEIGHTS = {
    "clip": "openai/clip-vit-base-patch32",
    "dino": "facebook/dino-vits16",  # DreamBooth's protocol
    "dinov2": "facebook/dinov2-base",  # the paper's citation
    "dreamsim": "~/.cache/dreamsim",
}


def _made(weights: Mapping[str, str], segmenter: str) -> dict[str, Callable[[], Metric]]:
    models = {**WEIGHTS, **weights}
    clip = Clip(models["clip"])
    named = judge_name() if segmenter == "embedded" else segmenter
    identity = partial(IdentityOf, cutter=Cutter(named, partial(load_segmenter, segmenter)))
    return {
        "judge": TruthByJudge,
        "quality": QualityByJudge,
        "clip-t": lambda: ClipText(clip),
        "clip-i": lambda: identity("clip-i", clip),
        "dino": lambda: identity("dino", Dino(models["dino"])),
        "dinov2": lambda: identity("dinov2", Dino(models["dinov2"])),
        "dreamsim": lambda: identity("dreamsim", DreamSim(models["dreamsim"]), distance=True),
        "clip-iqa": lambda: ClipQuality(clip),
    }


def metrics_named(names: Sequence[str], weights: Mapping[str, str], segmenter: str) -> dict[str, Metric]:
    """Metrics by name. ``weights``: folders or hub ids instead of the usual ones; ``segmenter``: cuts subjects out.

    Raises:
        InputError: a name that is not known.
    """
    made = _made(weights, segmenter)
    for kind, given, known in (("metrics", names, made), ("weights", weights, WEIGHTS)):
        unknown = [name for name in given if name not in known]
        if unknown:
            raise InputError(f"{kind}: {unknown[0]!r} is not known; choose from {', '.join(known)}")
    return {name: made[name]() for name in names}


def ready(metrics: Mapping[str, Metric]) -> tuple[dict[str, Metric], list[str]]:
    """Those whose models are there, loaded; and a line about each that is left out, with what it needs.

    Raises:
        InputError: none is left.
    """
    usable, notes = {}, []
    for name, metric in metrics.items():
        try:
            metric.prepare()
            usable[name] = metric
        except InputError as error:
            notes.append(f"{name} is left out: {error}")
    if not usable:
        raise InputError("; ".join(notes))
    return usable, notes


def directions() -> dict[str, bool]:
    """Whether more is better, of each figure, in the order of columns."""
    return {figure: up for metric in _made({}, "embedded").values() for figure, up in metric().higher.items()}
