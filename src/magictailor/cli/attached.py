"""The options of ``generate`` that attach something, as attachment specs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from magictailor.cli.shared import given
from magictailor.common.errors import InputError

if TYPE_CHECKING:
    from magictailor.attachments import AttachmentSpec

ImageOption = Annotated[Path | None, typer.Option("--image", help="Start from this picture.")]
Strength = Annotated[
    float | None, typer.Option(help="How much of the picture may change, 0 .. 1; default: 0.6, or 1 with a region.")
]
Region = Annotated[Path | None, typer.Option(help="A mask of the picture's size: only what is white changes.")]
Controls = Annotated[
    list[str] | None,
    typer.Option("--control", help="Follow a picture: KIND=FILE, repeatable; canny, depth, pose or lines."),
]
ControlMaps = Annotated[
    list[str] | None, typer.Option("--control-map", help="Like --control, with a finished control map: KIND=FILE.")
]
ControlModel = Annotated[str | None, typer.Option(help="The ControlNet; default: the family's usual one.")]
ControlStrength = Annotated[float, typer.Option(help="ControlNet scale, 0 .. 2.")]
ControlStart = Annotated[float, typer.Option(help="Fraction of the denoising at which control starts, 0 .. 1.")]
ControlEnd = Annotated[float, typer.Option(help="Fraction of the denoising at which control ends, 0 .. 1.")]

StyleImage = Annotated[Path | None, typer.Option("--style", help="Take the style of this picture.")]
StyleStrength = Annotated[float | None, typer.Option(help="IP-Adapter scale, 0 .. 2; default: 1.")]
StyleLayers = Annotated[
    str | None, typer.Option(help="Layers that take the style: style (InstantStyle's) or all; default: style.")
]
StyleModel = Annotated[str | None, typer.Option(help="The IP-Adapter; default: the family's usual one.")]
StyleEncoder = Annotated[str | None, typer.Option(help="The IP-Adapter's image encoder; default: the usual one.")]
StyleCheckout = Annotated[
    Path | None, typer.Option(help="A checkout of CSGO, which restyles the picture instead of an IP-Adapter; on SDXL.")
]


def starting_picture(image: Path | None, strength: float | None, region: Path | None) -> list["AttachmentSpec"]:
    """A spec if a picture was named.

    Raises:
        InputError: an option that has no effect without one.
    """
    from magictailor.attachments import FromImage

    if image is None and (strength is not None or region is not None):
        option = "region" if region is not None else "strength"
        raise InputError(f"--{option} has no effect without a picture", "give --image as well")
    return [] if image is None else [FromImage(image, strength, region)]


def controls(
    pictures: Sequence[str], maps: Sequence[str], model: str | None, strength: float, start: float, end: float
) -> list["AttachmentSpec"]:
    """One spec for each ``KIND=FILE``.

    Raises:
        InputError: another form, or a model without a picture.
    """
    from magictailor.attachments import Control

    given_too = {"model": model is not None, "strength": strength != 1, "start": start != 0, "end": end != 1}
    if not (pictures or maps) and any(given_too.values()):
        option = next(name for name, is_given in given_too.items() if is_given)
        raise InputError("has no effect without --control", "give it as well", field=f"control_{option}")
    found: list[AttachmentSpec] = []
    for texts, ready, field in ((pictures, False, "control"), (maps, True, "control_map")):
        for text in texts:
            kind, separator, file = text.partition("=")
            if not (kind and separator and file):
                raise InputError(f"{text}: not KIND=FILE", "write for instance canny=photo.png", field=field)
            found.append(Control(kind, file, ready, strength, start, end, model))
    return found


def style_image(
    image: Path | None,
    strength: float | None,
    layers: str | None,
    model: str | None,
    encoder: str | None,
    checkout: Path | None,
) -> list["AttachmentSpec"]:
    """A spec if a picture was named.

    Raises:
        InputError: an option that has no effect without one.
    """
    from magictailor.attachments import CSGO, Style

    options = given(strength=strength, layers=layers, model=model, encoder=encoder, checkout=checkout)
    if image is None and options:
        raise InputError("has no effect without --style", "give it as well", field=f"style_{next(iter(options))}")
    if checkout is not None and layers is not None:
        raise InputError("has no effect on CSGO", "leave it out", field="style_layers")
    kind = Style if checkout is None else CSGO
    return [] if image is None else [kind(image, **options)]  # type: ignore[arg-type]
