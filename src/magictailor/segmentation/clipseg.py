"""CLIPSeg (Lüddecke 2022): one heat map per word, small and fast, with soft edges."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from transformers import CLIPSegForImageSegmentation, CLIPTokenizer

from magictailor.segmentation.contract import Segmenter
from magictailor.segmentation.loading import IMAGENET_MEAN, IMAGENET_STD, load_model, to_square, upsample
from magictailor.segmentation.regions import Region, bounding_box

DEFAULT = "CIDAS/clipseg-rd64-refined"
SIDE = 352  # pixels, as in the model's own processor
EDGE = 0.5  # fraction of the map's peak: its values are lower than probabilities


class CLIPSeg(Segmenter):
    """``weights``: a folder or hub id."""

    def __init__(self, weights: str = DEFAULT) -> None:
        self.model = load_model(CLIPSegForImageSegmentation, weights).eval()
        self.tokenizer = load_model(CLIPTokenizer, weights)

    @torch.no_grad()
    def find(self, image: Image.Image, path: Path, words: Sequence[str]) -> dict[str, list[Region]]:
        text = self.tokenizer(list(words), padding=True, truncation=True, return_tensors="pt")
        pixels = to_square(image, SIDE, IMAGENET_MEAN, IMAGENET_STD).expand(len(words), -1, -1, -1)
        logits = self.model(**text, pixel_values=pixels).logits.reshape(len(words), SIDE, SIDE)
        found = {}
        for word, heat in zip(words, upsample(logits.sigmoid(), image.size), strict=True):
            peak = float(heat.max())
            mask = ((heat - EDGE * peak) / (0.2 * peak) + 0.5).clip(0, 1)  # a soft step at the edge
            found[word] = [Region(peak, bounding_box(mask), mask)]
        return found
