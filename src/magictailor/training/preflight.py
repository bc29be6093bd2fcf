"""What of a training can be refused by reading a few bytes, before torch is imported and a model is loaded.

Whatever passes here is checked in full later: this only makes the usual mistakes cheap.
"""

from collections.abc import Sequence
from pathlib import Path

from magictailor.backbones.community_lora import community_lora
from magictailor.backbones.families import family_on_disk
from magictailor.backbones.sources import check_source
from magictailor.common.errors import InputError
from magictailor.common.headers import read_header
from magictailor.methods import recipe_for
from magictailor.training.run_folder import START_FIX, trained_files

ANY = (
    "sd1",
    "flux",
    "z-image",
    "embedded",
)  # families whose recipes differ in their keys, for a model that is not here


def _check_recipe(model: str, method: str, settings: Sequence[str]) -> None:
    refused: InputError | None = None
    known = family_on_disk(model)
    for family in (known,) if known else ANY:
        try:
            recipe_for(family, method, settings)
            return
        except InputError as error:
            refused = refused or error
    if refused is not None:
        raise refused


def check_training(
    model: str, method: str, settings: Sequence[str], loras: Sequence[str], start: Path | str | None
) -> None:
    """Refuse what is wrong with the arguments of a training by themselves.

    Raises:
        InputError: an unknown method or key, a value out of range, a damaged file, a folder without weights.
    """
    check_source(model)
    _check_recipe(model, method, settings)
    for text in loras:
        community_lora(text)
    if start is not None:
        for file in trained_files(start):
            read_header(file, START_FIX, field="start")
