"""A style image on the families that take one, by tiny IP-Adapters in their authors' format."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import adapters
import controlnets
from attaching import attached, built, differ, pictures, plain, wrapped
from magictailor.attachments import AttachmentSpec, Control, FromImage, Style
from magictailor.attachments.contract import records
from magictailor.attachments.sampling import load_attachments
from magictailor.common.errors import InputError
from magictailor.common.tensors import write_tensors


@pytest.mark.parametrize("family", ["sd1", "sdxl", "sd3", "flux"])
def test_a_style_image_changes_the_picture_and_leaves_the_model(family: str, tmp_path: Path) -> None:
    pipeline, files = built(family), pictures(tmp_path)
    model, encoder = adapters.save(family, pipeline, tmp_path)
    control = Control("canny", files["picture"], model=str(controlnets.save(family, pipeline, tmp_path / "control")))
    backbone = wrapped(family, pipeline)
    before, names = plain(backbone), {name for name, _ in backbone.denoiser.named_modules()}
    Image.fromarray(np.full((16, 16, 3), (250, 20, 20), np.uint8)).save(tmp_path / "red.png")
    whole = Style(files["picture"], layers="all", model=model, encoder=encoder)
    styled, other, again = attached(backbone, whole, seeds=(3, 4, 3))
    assert max(differ(styled, again), differ(styled, attached(backbone, whole)[0])) <= 1
    assert differ(styled, other) > 20
    red = Style(tmp_path / "red.png", layers="all", model=model, encoder=encoder)
    assert differ(styled, attached(backbone, red)[0]) > 2  # it is read
    assert {name for name, _ in backbone.denoiser.named_modules()} == names
    silent = attached(backbone, Style(files["picture"], 0, "all", model, encoder))[0]
    assert differ(silent, styled) > 2
    few = attached(backbone, Style(files["picture"], model=model, encoder=encoder))[0]
    assert (differ(few, styled) > 2) == (family in ("sd1", "sdxl"))  # InstantStyle's layers alone
    assert differ(attached(backbone, whole, control)[0], attached(backbone, control)[0]) > 2
    assert differ(attached(backbone, whole, FromImage(files["picture"]))[0], styled) > 2
    assert plain(backbone) == before


def test_records_and_what_does_not_fit(tmp_path: Path) -> None:
    pipeline, files = built("sd1"), pictures(tmp_path)
    model, encoder = adapters.save("sd1", pipeline, tmp_path)
    backbone, picture = wrapped("sd1", pipeline), files["picture"]
    record = records(load_attachments(backbone, [Style(picture, 0.5, model=model, encoder=encoder)], 4))["style"]
    assert (record["file"], record["strength"], record["layers"]) == ("picture.png", 0.5, "style")
    other, folder = built("flux"), tmp_path / "flux"
    folder.mkdir()
    flux, _ = adapters.save("flux", other, folder)
    write_tensors(tmp_path / "lora.safetensors", {"a": torch.zeros(1)})
    before = plain(backbone)
    cases: list[tuple[AttachmentSpec, str]] = [
        (Style(picture, model=flux, encoder=encoder), "does not fit embedded"),
        (Style(picture, model=str(tmp_path / "lora.safetensors"), encoder=encoder), "not an IP-Adapter"),
        (Style(picture, model="adapter.bin", encoder=encoder), "not a .safetensors file"),
        (Style(picture, model=model, encoder=str(tmp_path)), "holds no CLIPVisionModelWithProjection"),
        (Style(picture, 3, model=model, encoder=encoder), "choose 0 .. 2"),
        (Style(tmp_path / "none.png", model=model, encoder=encoder), "none.png"),
    ]
    for spec, words in cases:
        with pytest.raises(InputError, match=words):
            load_attachments(backbone, [spec], 4)
    assert plain(backbone) == before
    with pytest.raises(InputError, match="takes no style image"):
        load_attachments(wrapped("qwen-image", built("qwen-image")), [Style(picture)], 4)
