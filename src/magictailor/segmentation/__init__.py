"""Masks from words: a segmenter finds regions, one place makes masks of them."""

from collections.abc import Callable, Sequence

from magictailor.common.errors import InputError
from magictailor.segmentation.contract import Segmenter
from magictailor.segmentation.grabcut import GrabCut, read_box
from magictailor.segmentation.writing import Made, make_masks

__all__ = ["MODELS", "Made", "Segmenter", "load_segmenter", "make_masks", "read_box"]


def _clipseg(weights: str | None, boxes: str | None) -> Segmenter:
    from magictailor.segmentation.clipseg import DEFAULT, CLIPSeg

    return CLIPSeg(weights or DEFAULT)


def _grounded(masks: str) -> Callable[[str | None, str | None], Segmenter]:
    def load(weights: str | None, boxes: str | None) -> Segmenter:
        from magictailor.segmentation.grounded import BOXES, GroundedSAM

        return GroundedSAM(masks, boxes or BOXES, weights)

    return load


def _sam3(weights: str | None, boxes: str | None) -> Segmenter:
    from magictailor.segmentation.sam3 import DEFAULT, SAM3

    return SAM3(weights or DEFAULT)


def _embedded(weights: str | None, boxes: str | None) -> Segmenter:
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
    """A segmenter by name: ``clipseg``, ``dino+sam`` (the paper's), ``dino+sam2``, ``sam3``; ``embedded`` for
    the world; or ``grabcut`` with boxes.

    Args:
        boxes: of ``grabcut``, see `read_box`.
        weights, detector: folders or hub ids instead of the usual ones; the detector is GroundingDINO's.

    Raises:
        InputError: an unknown name, weights that are not there, boxes without ``grabcut`` or the reverse.
    """
    if model == "grabcut":
        if not boxes:
            raise InputError("--model grabcut: give each image's box, --box FILE=left,top,right,bottom")
        return GrabCut(dict(read_box(text) for text in boxes))
    if boxes:
        raise InputError(f"--box: only --model grabcut takes boxes, {model} takes words; leave one out")
    if model not in MODELS:
        raise InputError(f"--model {model}: choose one of grabcut, {', '.join(MODELS)}")
    return MODELS[model](weights, detector)
