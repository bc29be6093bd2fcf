"""What an attachment is: it joins the generation of pictures, and nothing of the run changes.

A user writes a spec (`FromImage`, `Control`, `Style`, `CSGO`). Loading makes it an attachment: it reads files and models and
refuses what does not fit, before anything is generated.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from PIL import Image

if TYPE_CHECKING:
    from magictailor.backbones.sampling import SamplingOptions

Role = Literal["image", "region", "control", "union", "style"]  # what a pipeline of diffusers has to be able to do


class Attachment(ABC):
    """One that is loaded, for one backbone."""

    name: ClassVar[str]  # in the pictures' records

    @property
    @abstractmethod
    def roles(self) -> frozenset[Role]:
        """What the pipeline has to be able to do."""

    @abstractmethod
    def record(self) -> Mapping[str, Any]:
        """What a picture's record says of it: files and models by digest, and all settings. JSON."""

    @abstractmethod
    def inputs(self, count: int) -> dict[str, Any]:
        """Arguments of the pipeline's call for ``count`` pictures."""

    def modules(self) -> dict[str, Any]:
        """Networks that the pipeline needs next to the backbone's, by argument of its constructor."""
        return {}

    def check(self, pipeline: Any) -> None:  # noqa: B027  (most have nothing to do)
        """Raises InputError for settings that this class of pipeline does not have."""

    def attach(self, pipeline: Any) -> None:  # noqa: B027
        """Change the pipeline's networks; `detach` undoes it."""

    def detach(self, pipeline: Any) -> None:  # noqa: B027
        """The networks are as they were, to the byte."""

    def second_pass(self, picture: Image.Image, prompt: str, seed: int, options: "SamplingOptions") -> Image.Image:
        """What becomes of a picture in a denoising of its own, after the pipeline's."""
        return picture

    def finish(self, picture: Image.Image) -> Image.Image:
        """What becomes of a picture at the end, after all second passes."""
        return picture


def records(attachments: Sequence[Attachment]) -> dict[str, Any]:
    """What a picture's record says of all of them; one name may be there more than once."""
    found: dict[str, list[Any]] = {}
    for attachment in attachments:
        found.setdefault(attachment.name, []).append(dict(attachment.record()))
    return {name: each[0] if len(each) == 1 else each for name, each in found.items()}
