"""Masks from words: a segmenter finds regions, `make_masks` turns them into mask files."""

from collections.abc import Callable, Sequence

from magictailor.common.errors import InputError
from magictailor.segmentation.contract import Segmenter
from magictailor.segmentation.grabcut import GrabCut, read_box
from magictailor.segmentation.masks import MaskResult, make_masks

__all__ = ["MODELS", "MaskResult", "Segmenter", "load_segmenter", "make_masks", "read_box"]


def _clipseg(weights: str | None, detector: str | None) -> Segmenter:
    from magictailor.segmentation.clipseg import DEFAULT, CLIPSeg

    return CLIPSeg(weights or DEFAULT)


def _grounded(version: str) -> Callable[[str | None, str | None], Segmenter]:
    def load(weights: str | None, detector: str | None) -> Segmenter:
        from magictailor.segmentation.grounded import DETECTOR, GroundedSAM

        return GroundedSAM(version, detector or DETECTOR, weights)

    return load


def _sam3(weights: str | None, detector: str | None) -> Segmenter:
    from magictailor.segmentation.sam3 import DEFAULT, SAM3

    return SAM3(weights or DEFAULT)


def _embedded(weights: str | None, detector: str | None) -> Segmenter:
    from magictailor.segmentation.embedded import Embedded

    return Embedded()


MODELS: dict[str, Callable[[str | None, str | None], Segmenter]] = {
    "clipseg": _clipseg,
    "dino+sam": _grounded("sam"),
    "dino+sam2": _grounded("sam2"),
    "sam3": _sam3,
    "embedded": _embedded,
}


def load_segmenter(
    model: str, *, boxes: Sequence[str] = (), weights: str | None = None, detector: str | None = None
) -> Segmenter:
    """Load a segmenter by name.

    Args:
        model: ``clipseg``, ``dino+sam`` (the paper's), ``dino+sam2`` or ``sam3``; ``embedded`` for the world; or
            ``grabcut`` with boxes.
        boxes: for ``grabcut``, see `read_box`.
        weights: folder or hub id to use instead of the model's usual one.
        detector: the same for GroundingDINO.

    Raises:
        InputError: the name is unknown, weights are missing, or an option does not go with the model.
    """
    ignored = {
        "weights": weights is not None and model in ("grabcut", "embedded"),
        "detector": detector is not None and not model.startswith("dino"),
    }
    for option, is_given in ignored.items():
        if is_given:
            raise InputError(f"has no effect with {model}", "leave it out", field=option)
    if model == "grabcut":
        if not boxes:
            raise InputError(
                "grabcut: needs the box of each image", "give boxes as FILE=left,top,right,bottom", field="model"
            )
        return GrabCut(dict(read_box(text) for text in boxes))
    if boxes:
        raise InputError(
            f"{boxes[0]}: {model} takes words, not boxes", "choose model grabcut, or leave the boxes out", field="boxes"
        )
    if model not in MODELS:
        raise InputError(f"{model}: unknown model", f"choose one of grabcut, {', '.join(MODELS)}", field="model")
    return MODELS[model](weights, detector)
