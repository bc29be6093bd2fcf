"""Pictures into pictures and ControlNet on every family, by tiny networks of the real classes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import controlnets
from attaching import BUILDERS, OPTIONS, PROMPT, attached, built, differ, pictures, plain, ready_map, wrapped
from magictailor.attachments import AttachmentSpec, Control, FromImage
from magictailor.attachments.contract import records
from magictailor.attachments.lines import canny, overlap
from magictailor.attachments.loading import load_attachment
from magictailor.attachments.sampling import load_attachments
from magictailor.backbones.sampling import sample
from magictailor.common.errors import InputError

STARTS = [name for name in BUILDERS if name not in ("flux2-dev", "sana")]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return pictures(tmp_path)


@pytest.mark.parametrize("family", STARTS)
def test_a_picture_starts_another_and_the_model_stays(family: str, files: dict[str, Path]) -> None:
    backbone = wrapped(family, built(family))
    before = plain(backbone)
    first, other, again = attached(backbone, FromImage(files["picture"]), seeds=(3, 4, 3))
    (alone,) = attached(backbone, FromImage(files["picture"]))
    assert differ(first, other) > 20
    assert max(differ(first, again), differ(first, alone)) <= 1  # whatever the batch
    little, much = (attached(backbone, FromImage(files["picture"], strength))[0] for strength in (0.25, 1.0))
    assert differ(little, much) > 20
    assert plain(backbone) == before


@pytest.mark.parametrize("family", STARTS)
def test_only_a_region_changes(family: str, files: dict[str, Path]) -> None:
    backbone = wrapped(family, built(family))
    before = plain(backbone)
    spec = FromImage(files["picture"], region=files["region"])
    loaded: Any = load_attachment(spec, backbone)
    shown, inside = np.asarray(loaded.picture, int), np.asarray(loaded.region)
    (made,) = attached(backbone, spec)
    assert np.array_equal(made[inside == 0], shown[inside == 0])
    assert differ(made[inside > 0], shown[inside > 0]) > 20
    assert (inside == 0).any()
    assert plain(backbone) == before


@pytest.mark.parametrize("name", controlnets.BUILDERS)
def test_a_controlnet_changes_the_picture_and_leaves_the_model(
    name: str, files: dict[str, Path], tmp_path: Path
) -> None:
    family = name.removesuffix("-union")
    pipeline = built(family)
    folder = controlnets.save(name, pipeline, tmp_path / "control")
    backbone = wrapped(family, pipeline)
    before = plain(backbone)
    first = Control("canny", files["picture"], model=str(folder))
    controlled, other, again = attached(backbone, first, seeds=(3, 4, 3))
    assert max(differ(controlled, again), differ(controlled, attached(backbone, first)[0])) <= 1
    assert differ(controlled, other) > 20
    (silent,) = attached(backbone, Control("canny", files["picture"], strength=0, model=str(folder)))
    assert differ(controlled, silent) > 2
    if family not in ("flux", "qwen-image"):  # there the map's encoding takes from the picture's own random numbers
        assert silent.astype(np.uint8).tobytes() == before
    if family in ("sd1", "sdxl", "sd3"):
        strong = attached(backbone, first, emphasis=40.0)[0]  # tiny networks hardly read the text
        assert differ(strong, controlled) > 2
        assert plain(backbone) == before
    second = Control("depth", ready_map(backbone, tmp_path), ready=True, strength=0.5, model=str(folder))
    if family in ("sd1", "sdxl", "sd3", "flux"):
        assert differ(attached(backbone, first, second)[0], controlled) > 2
    else:
        with pytest.raises(InputError, match="takes one"):
            attached(backbone, first, second)
    if family in ("sd1", "sdxl", "flux"):
        start, fill = FromImage(files["picture"]), FromImage(files["picture"], region=files["region"])
        assert differ(attached(backbone, first, start)[0], attached(backbone, first, fill)[0]) > 20
    assert plain(backbone) == before


def test_control_ends_where_it_is_told_to(files: dict[str, Path], tmp_path: Path) -> None:
    """In the first half alone it changes less than in all steps, and in the last quarter yet less."""
    pipeline = built("sd1")
    folder = str(controlnets.save("sd1", pipeline, tmp_path / "control"))
    backbone = wrapped("sd1", pipeline)
    (free,) = (np.asarray(image, int) for image in sample(backbone, [PROMPT], [3], OPTIONS))
    parts = [
        attached(backbone, Control("canny", files["picture"], start=a, end=b, model=folder))[0]
        for a, b in ((0, 1), (0.75, 1))
    ]
    changes = [np.abs(part - free).mean() for part in parts]
    assert changes[0] > changes[1] > 0


def test_records_say_what_was_attached(files: dict[str, Path], tmp_path: Path) -> None:
    pipeline = built("sd1")
    folder = str(controlnets.save("sd1", pipeline, tmp_path / "control"))
    backbone = wrapped("sd1", pipeline)
    specs = [
        Control("canny", files["picture"], strength=0.5, model=folder),
        Control("depth", ready_map(backbone, tmp_path), ready=True, model=folder),
        FromImage(files["picture"], region=files["region"]),
    ]
    found = records(load_attachments(backbone, specs, 4))
    assert [each["kind"] for each in found["control"]] == ["canny", "depth"]
    assert found["image"]["sha256"] == found["control"][0]["sha256"] != found["image"]["region sha256"]
    assert found["control"][0]["model digest"] == found["control"][1]["model digest"]
    assert found["image"]["strength"] == 1.0


def test_what_does_not_fit_is_one_line(files: dict[str, Path], tmp_path: Path) -> None:
    backbone, picture = wrapped("sd1", built("sd1")), files["picture"]
    other = str(controlnets.save("sdxl", built("sdxl"), tmp_path / "sdxl"))
    flux = str(controlnets.save("flux", built("flux"), tmp_path / "flux"))
    empty = tmp_path / "empty"
    empty.mkdir()
    start = FromImage(picture)
    cases: list[tuple[list[AttachmentSpec], str]] = [
        ([Control("canny", picture, model=other)], "belongs to another family than embedded"),
        ([Control("canny", picture, model=flux)], "belongs to another family than embedded"),
        ([Control("canny", picture, model=str(empty))], "config.json"),
        ([Control("canny", picture, model=str(tmp_path / "none"))], "cannot be found or downloaded"),
        ([Control("edges", picture)], "choose one of canny"),
        ([Control("depth", ready_map(backbone, empty), ready=True)], "no standard ControlNet for it on embedded"),
        ([Control("canny", ready_map(backbone, tmp_path, 24), ready=True)], "24 x 24, but pictures are 16 x 16"),
        ([Control("canny", tmp_path / "none.png")], "none.png"),
        ([Control("canny", picture, strength=3)], "choose 0 .. 2"),
        ([Control("canny", picture, start=0.5, end=0.5)], "no part of the denoising"),
        ([Control("pose", picture)], "controlnet-aux"),
        ([FromImage(picture, 0)], "choose above 0"),
        ([FromImage(picture, 0.1)], "leaves none of the 4 steps"),
        ([FromImage(picture, region=ready_map(backbone, tmp_path, 24))], "make them the same size"),
        ([start, start], "two pictures to start from"),
    ]
    for specs, words in cases:
        with pytest.raises(InputError, match=words):
            load_attachments(backbone, specs, 4)
    for family in ("flux2-dev", "sana"):
        with pytest.raises(InputError, match=f"image: diffusers has no pipeline for it on {family}"):
            load_attachments(wrapped(family, built(family)), [start], 4)
    with pytest.raises(InputError, match="has no ControlNet in diffusers"):
        load_attachments(wrapped("flux2-klein-4b", built("flux2-klein-4b")), [Control("canny", picture)], 4)


def test_edges_overlap_with_themselves_and_not_with_others() -> None:
    square = np.zeros((128, 128, 3), np.uint8)
    square[30:90, 40:100] = 255
    edges = canny(square)
    assert overlap(edges, edges) == 1
    assert overlap(edges, np.roll(edges, 1, 0)) > 0.95  # one pixel off
    assert overlap(edges, np.roll(edges, 20, 1)) < 0.6
    assert overlap(edges, np.zeros_like(edges)) == 0
