"""CLIPSeg (Lüddecke 2022): one map a word, small and fast, soft at the edges."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from transformers import CLIPSegForImageSegmentation, CLIPTokenizer

from magictailor.segmentation.contract import Segmenter
from magictailor.segmentation.loading import enlarged, loaded, square
from magictailor.segmentation.regions import Region, box_of

DEFAULT = "CIDAS/clipseg-rd64-refined"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE = 352  # pixels that its own processor shows it; the positions are interpolated
EDGE = 0.5  # of the map's peak: its values are lower than a probability's


class CLIPSeg(Segmenter):
    """``weights``: a folder or hub id."""

    def __init__(self, weights: str = DEFAULT) -> None:
        self.model = loaded(CLIPSegForImageSegmentation, weights, "CLIPSeg").eval()
        self.tokenizer = loaded(CLIPTokenizer, weights, "CLIPSeg's tokenizer")

    @torch.no_grad()
    def find(self, image: Image.Image, path: Path, words: Sequence[str]) -> dict[str, list[Region]]:
        text = self.tokenizer(list(words), padding=True, truncation=True, return_tensors="pt")
        pixels = square(image, SIDE, MEAN, STD).expand(len(words), -1, -1, -1)
        logits = self.model(**text, pixel_values=pixels).logits.reshape(len(words), SIDE, SIDE)
        found = {}
        for word, heat in zip(words, enlarged(logits.sigmoid(), image.size), strict=True):
            peak = float(heat.max())
            mask = ((heat - EDGE * peak) / (0.2 * peak) + 0.5).clip(0, 1)  # a soft step at the edge
            found[word] = [Region(peak, box_of(mask), mask)]
        return found
