"""The interface of all segmenters."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from magictailor.segmentation.regions import Region


class Segmenter(ABC):
    """Finds regions in images by words."""

    def check(self, images: Mapping[Path, Image.Image], labels: Sequence[str]) -> None:  # noqa: B027
        """Raise InputError for what cannot work on these images, before any work."""

    @abstractmethod
    def find(self, image: Image.Image, path: Path, words: Sequence[str]) -> dict[str, list[Region]]:
        """The regions of each word in an RGB image, in any order, uncertain ones too. ``path``: the image's file."""
