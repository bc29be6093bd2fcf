"""What a segmenter is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from PIL import Image

from magictailor.segmentation.regions import Region


class Segmenter(Protocol):
    """Finds what words name."""

    def find(self, image: Image.Image, path: Path, words: Sequence[str]) -> dict[str, list[Region]]:
        """The regions of each word in an RGB image, in any order, unsure ones too. ``path``: the image's file."""
        ...
