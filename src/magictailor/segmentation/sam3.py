"""SAM 3's concept prompts: the boxes and masks of every instance of a word."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPTokenizer, Sam3Model

from magictailor.segmentation.contract import Segmenter
from magictailor.segmentation.loading import load_model, to_square, upsample
from magictailor.segmentation.regions import Region

DEFAULT = "facebook/sam3"
MEAN = STD = (0.5, 0.5, 0.5)
LENGTH = 32  # tokens of the text encoder
MIN_SCORE = 0.05


class SAM3(Segmenter):
    """``weights``: a folder or hub id."""

    def __init__(self, weights: str = DEFAULT) -> None:
        self.model = load_model(Sam3Model, weights).eval()
        self.tokenizer = load_model(CLIPTokenizer, weights)

    @torch.no_grad()
    def find(self, image: Image.Image, path: Path, words: Sequence[str]) -> dict[str, list[Region]]:
        return {word: self._regions(image, word) for word in words}

    def _regions(self, image: Image.Image, word: str) -> list[Region]:
        side = self.model.config.vision_config.backbone_config.image_size
        text = self.tokenizer([word], padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
        out = self.model(pixel_values=to_square(image, side, MEAN, STD), **text)
        scores = (out.pred_logits.sigmoid() * out.presence_logits.sigmoid())[0]
        best = scores.argsort(descending=True)[:8]
        best = best[scores[best] > MIN_SCORE]
        if not len(best):
            return []
        boxes = out.pred_boxes[0, best] * torch.tensor([*image.size, *image.size])
        masks = upsample(out.pred_masks[0, best], image.size)
        return [
            Region(float(scores[i]), tuple(box.tolist()), 1 / (1 + np.exp(-mask)))
            for i, box, mask in zip(best, boxes, masks, strict=True)
        ]
