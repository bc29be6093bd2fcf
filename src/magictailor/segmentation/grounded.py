"""The paper's segmentation: GroundingDINO's boxes (Liu 2023), and SAM's or SAM 2's masks in them."""

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
from magictailor.segmentation.loading import IMAGENET_MEAN, IMAGENET_STD, load_model, to_square, upsample
from magictailor.segmentation.regions import Floats, Region

DETECTOR = "IDEA-Research/grounding-dino-tiny"
MASKS = {"sam": "facebook/sam-vit-base", "sam2": "facebook/sam2.1-hiera-small"}
MIN_SCORE = 0.05  # boxes with lower scores get no mask


class GroundedSAM(Segmenter):
    """``version``: sam or sam2. ``detector`` and ``weights``: folders or hub ids of GroundingDINO and of SAM."""

    def __init__(self, version: str = "sam2", detector: str = DETECTOR, weights: str | None = None) -> None:
        self.detector = load_model(GroundingDinoForObjectDetection, detector).eval()
        images = load_model(GroundingDinoImageProcessorPil, detector)
        tokenizer = load_model(BertTokenizerFast, detector)
        self.processor = GroundingDinoProcessor(images, tokenizer)
        model_class = {"sam": SamModel, "sam2": Sam2Model}[version]
        self.segmenter = load_model(model_class, weights or MASKS[version]).eval()
        self.to_input = pad if version == "sam" else stretch

    @torch.no_grad()
    def find(self, image: Image.Image, path: Path, words: Sequence[str]) -> dict[str, list[Region]]:
        """Each word is a prompt of its own, so that no word takes another's boxes."""
        return {word: self._masks(image, *self._boxes(image, word)) for word in words}

    def _boxes(self, image: Image.Image, word: str) -> tuple[Tensor, Tensor]:
        """Scores [N] and boxes [N, 4] in pixels."""
        inputs = self.processor(images=image, text=f"{word.lower()}.", return_tensors="pt")
        (found,) = self.processor.post_process_grounded_object_detection(
            self.detector(**inputs),
            inputs.input_ids,
            threshold=MIN_SCORE,
            text_threshold=MIN_SCORE,
            target_sizes=[image.size[::-1]],
        )
        best = found["scores"].argsort(descending=True)[:8]
        return found["scores"][best], found["boxes"][best]

    def _masks(self, image: Image.Image, scores: Tensor, boxes: Tensor) -> list[Region]:
        if not len(scores):
            return []
        square = self.to_input(image, self.segmenter.config.prompt_encoder_config.image_size)
        scales = torch.tensor([square.width, square.height] * 2) / torch.tensor([*image.size, *image.size])
        inputs = {"pixel_values": square.pixels, "input_boxes": (boxes * scales)[None]}
        logits = self.segmenter(**inputs, multimask_output=False).pred_masks[0, :, 0]
        return [
            Region(float(score), tuple(box.tolist()), 1 / (1 + np.exp(-mask)))
            for score, box, mask in zip(scores, boxes, square.to_image(logits, image.size), strict=True)
        ]


@dataclass(frozen=True)
class SquareInput:
    """SAM's input, [1, 3, side, side]; the image covers ``width`` x ``height`` of it from the upper left corner."""

    pixels: Tensor
    width: int
    height: int

    def to_image(self, logits: Tensor, size: tuple[int, int]) -> Floats:
        """Logits [N, h, w] of the square, scaled to [N, height, width] of the image; ``size``: (width, height)."""
        side = self.pixels.shape[-1]
        whole = torch.nn.functional.interpolate(
            logits[None].float(), (side, side), mode="bilinear", align_corners=False
        )
        return upsample(whole[0, :, : self.height, : self.width], size)


def stretch(
    image: Image.Image, side: int, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD
) -> SquareInput:
    """SAM 2's input: the image stretched to the square. SAM 3 has another mean and deviation."""
    return SquareInput(to_square(image, side, mean, std), side, side)


def pad(image: Image.Image, side: int) -> SquareInput:
    """SAM's input: the longer side fills the square, the rest is zero."""
    scale = side / max(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    canvas = Image.new("RGB", (side, side))
    canvas.paste(image.resize((width, height), Image.Resampling.BILINEAR))
    pixels = to_square(canvas, side, IMAGENET_MEAN, IMAGENET_STD)
    pixels[..., height:, :] = 0
    pixels[..., width:] = 0
    return SquareInput(pixels, width, height)
