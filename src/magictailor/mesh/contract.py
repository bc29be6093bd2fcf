"""What a backend is: one picture of one object becomes a mesh."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from PIL import Image

from magictailor.common.errors import InputError


class Backend(ABC):
    """Loaded when it is made.

    Attributes:
        licence: of its code and weights, in a few words.
    """

    licence: ClassVar[str]

    @abstractmethod
    def mesh(self, picture: Image.Image, seed: int, steps: int | None) -> Any:
        """A `trimesh.Trimesh` with colours at its vertices or a texture, y up.

        Args:
            picture: RGBA; transparent where the object is not.
            steps: of the denoising; None: the backend's own.
        """


def on_white(picture: Image.Image) -> Image.Image:
    """A picture RGBA as RGB, white where it is transparent."""
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, picture).convert("RGB")


def import_trimesh() -> Any:
    """Raises InputError if it is not installed."""
    try:
        import trimesh
    except ImportError as error:
        raise InputError("meshes need trimesh", "run `pip install 'magictailor[mesh]'`") from error
    return trimesh
