"""What a segmenter is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from magictailor.segmentation.regions import Region


class Segmenter(ABC):
    """Finds what words name."""

    def check(self, pictures: Mapping[Path, Image.Image], labels: Sequence[str]) -> None:  # noqa: B027
        """Refuse what cannot work on these pictures, before any work. Raises InputError."""

    @abstractmethod
    def find(self, image: Image.Image, path: Path, words: Sequence[str]) -> dict[str, list[Region]]:
        """The regions of each word in an RGB image, in any order, unsure ones too. ``path``: the image's file."""
