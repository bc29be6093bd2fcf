"""GroundingDINO's boxes (Liu 2023), and SAM's or SAM 2's masks in them: what the paper does."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    BertTokenizerFast,
    GroundingDinoForObjectDetection,
    GroundingDinoProcessor,
    Sam2Model,
    SamModel,
)
from transformers.models.grounding_dino.image_processing_pil_grounding_dino import GroundingDinoImageProcessorPil

from magictailor.segmentation.contract import Segmenter
from magictailor.segmentation.loading import enlarged, loaded, square
from magictailor.segmentation.regions import Floats, Region

BOXES = "IDEA-Research/grounding-dino-tiny"
MASKS = {"sam": "facebook/sam-vit-base", "sam2": "facebook/sam2.1-hiera-small"}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LEAST = 0.05  # boxes that are less sure are not worth a mask


class GroundedSAM(Segmenter):
    """``masks``: sam or sam2. ``boxes`` and ``weights``: folders or hub ids of the detector and of the segmenter."""

    def __init__(self, masks: str = "sam2", boxes: str = BOXES, weights: str | None = None) -> None:
        self.detector = loaded(GroundingDinoForObjectDetection, boxes, "GroundingDINO").eval()
        images = loaded(GroundingDinoImageProcessorPil, boxes, "GroundingDINO's image processor")
        words = loaded(BertTokenizerFast, boxes, "GroundingDINO's tokenizer")
        self.processor = GroundingDinoProcessor(images, words)
        kind = {"sam": SamModel, "sam2": Sam2Model}[masks]
        self.segmenter = loaded(kind, weights or MASKS[masks], masks.upper()).eval()
        self.keeps_shape = masks == "sam"  # SAM pads the shorter side, SAM 2 stretches it

    @torch.no_grad()
    def find(self, image: Image.Image, path: Path, words: Sequence[str]) -> dict[str, list[Region]]:
        """Each word is asked for alone, so that none takes another's boxes."""
        return {word: self._masked(image, *self._boxes(image, word)) for word in words}

    def _boxes(self, image: Image.Image, word: str) -> tuple[Tensor, Tensor]:
        """Scores [N] and boxes [N, 4] in pixels."""
        inputs = self.processor(images=image, text=f"{word.lower()}.", return_tensors="pt")
        (found,) = self.processor.post_process_grounded_object_detection(
            self.detector(**inputs),
            inputs.input_ids,
            threshold=LEAST,
            text_threshold=LEAST,
            target_sizes=[image.size[::-1]],
        )
        best = found["scores"].argsort(descending=True)[:8]
        return found["scores"][best], found["boxes"][best]

    def _masked(self, image: Image.Image, scores: Tensor, boxes: Tensor) -> list[Region]:
        if not len(scores):
            return []
        side = self.segmenter.config.prompt_encoder_config.image_size
        shown = (padded if self.keeps_shape else stretched)(image, side)
        scales = torch.tensor([shown.width, shown.height] * 2) / torch.tensor([*image.size, *image.size])
        inputs = {"pixel_values": shown.pixels, "input_boxes": (boxes * scales)[None]}
        masks = shown.back(self.segmenter(**inputs, multimask_output=False).pred_masks[0, :, 0], image.size)
        return [
            Region(float(score), tuple(box.tolist()), 1 / (1 + np.exp(-mask)))
            for score, box, mask in zip(scores, boxes, masks, strict=True)
        ]


@dataclass(frozen=True)
class Shown:
    """A square that the segmenter sees, [1, 3, side, side], and how much of it is the picture."""

    pixels: Tensor
    width: int
    height: int

    def back(self, logits: Tensor, size: tuple[int, int]) -> Floats:
        """Logits [N, h, w] of the square to [N, height, width] of the picture."""
        side = self.pixels.shape[-1]
        whole = torch.nn.functional.interpolate(
            logits[None].float(), (side, side), mode="bilinear", align_corners=False
        )
        return enlarged(whole[0, :, : self.height, : self.width], size)


def stretched(image: Image.Image, side: int) -> Shown:
    """As SAM 2 is shown pictures."""
    return Shown(square(image, side, MEAN, STD), side, side)


def padded(image: Image.Image, side: int) -> Shown:
    """As SAM is shown pictures: the longer side fills the square, the rest is zero."""
    scale = side / max(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    canvas = Image.new("RGB", (side, side))
    canvas.paste(image.resize((width, height), Image.Resampling.BILINEAR))
    pixels = square(canvas, side, MEAN, STD)
    pixels[..., height:, :] = 0
    pixels[..., width:] = 0
    return Shown(pixels, width, height)
