"""Masks are found by stem, read from any mode, checked, and taken from one another."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.data.masks import ReferenceImage, find_excluded, find_mask, mask_of, read_mask, without

SIZE = (40, 30)


def half(mode: str = "L", size: tuple[int, int] = SIZE) -> Image.Image:
    """White on the left half, black on the right."""
    mask = Image.new("L", size)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    return mask.convert(mode)


def saved(image: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_every_mode_reads_as_the_same_mask(tmp_path: Path, mode: str) -> None:
    path = saved(half(mode), tmp_path / "m.png")
    assert read_mask(path, Path("a.jpg"), SIZE).tobytes() == half().tobytes()


def test_a_16_bit_mask_keeps_its_greys(tmp_path: Path) -> None:
    grey = saved(Image.fromarray(np.full((30, 40), 32896, np.uint16)), tmp_path / "m.png")
    assert read_mask(grey, Path("a.jpg"), SIZE).getextrema() == (128, 128)


def test_transparent_parts_of_a_mask_file_are_not_trained(tmp_path: Path) -> None:
    white = Image.new("RGBA", SIZE, (255, 255, 255, 255))
    white.putalpha(half())
    path = saved(white, tmp_path / "m.png")
    assert read_mask(path, Path("a.jpg"), SIZE).tobytes() == half().tobytes()


def test_masks_are_searched_in_order(tmp_path: Path) -> None:
    image, folder, alpha = tmp_path / "a.jpg", tmp_path / "masks", half()
    assert find_mask(image, folder, alpha) is alpha
    beside = saved(half(), tmp_path / "a-masklabel.png")
    assert find_mask(image, folder, alpha) == beside
    saved(half(), folder / "a1.png")  # another stem with the same beginning
    saved(half(), folder / "others" / "a.png")
    assert find_mask(image, folder, alpha) == beside
    inside = saved(half(), folder / "a.PNG")
    assert find_mask(image, folder, alpha) == inside


def test_no_mask_says_where_to_put_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.jpg: no mask; .*masks/a\.png .*a-masklabel\.png.*alpha channel"):
        find_mask(tmp_path / "a.jpg", tmp_path / "masks", None)


def test_two_masks_are_ambiguous(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg"):
        saved(half(), tmp_path / "masks" / name)
    with pytest.raises(InputError, match=r"a\.jpg: a\.png could also be the mask of a\.webp; keep one"):
        find_mask(tmp_path / "a.webp", tmp_path / "masks", None)


def test_another_size_is_refused_with_a_hint_at_exif(tmp_path: Path) -> None:
    turned = saved(half(size=(30, 40)), tmp_path / "turned.png")
    with pytest.raises(InputError, match=r"turned\.png: is 30 x 40 but a\.jpg is 40 x 30; .*EXIF rotation"):
        read_mask(turned, Path("a.jpg"), SIZE)
    small = saved(half(size=(20, 20)), tmp_path / "small.png")
    with pytest.raises(InputError, match=r"20 x 20 but a\.jpg is 40 x 30; make the mask"):
        read_mask(small, Path("a.jpg"), SIZE)


@pytest.mark.parametrize("brightest", [0, 1, 127])
def test_an_empty_mask_is_refused(tmp_path: Path, brightest: int) -> None:
    path = saved(Image.new("L", SIZE, brightest), tmp_path / "m.png")
    with pytest.raises(InputError, match=rf"m\.png: an empty mask \(at most {brightest} of 255\); paint the region"):
        mask_of(Path("a.jpg"), SIZE, path)
    with pytest.raises(InputError, match=r"a\.jpg \(alpha channel\): an empty mask"):
        mask_of(Path("a.jpg"), SIZE, Image.new("L", SIZE, brightest))


def test_an_excluded_mask_is_subtracted(tmp_path: Path) -> None:
    everything = Image.new("L", SIZE, 255)
    path = saved(half(), tmp_path / "hair.png")
    left = mask_of(Path("a.jpg"), SIZE, everything, [path])
    assert [left.getpixel((x, 0)) for x in (19, 20)] == [0, 255]
    soft = without(everything, [Image.new("L", SIZE, 100)])
    assert soft.getextrema() == (155, 155)
    nothing = saved(Image.new("L", SIZE), tmp_path / "nothing.png")  # the component is not in this image
    assert mask_of(Path("a.jpg"), SIZE, everything, [nothing]).getextrema() == (255, 255)


def test_excluding_everything_is_refused(tmp_path: Path) -> None:
    path = saved(half(), tmp_path / "hair.png")
    with pytest.raises(InputError, match=r"hair\.png: nothing is left after subtracting hair\.png"):
        mask_of(Path("a.jpg"), SIZE, path, [path])


def test_excluded_masks_are_named_by_label(tmp_path: Path) -> None:
    hair = saved(half(), tmp_path / "a.long_hair.png")
    saved(half(), tmp_path / "a.png")
    saved(half(), tmp_path / "a.v2.png")  # the mask of an image a.v2.jpg
    assert find_excluded(Path("a.jpg"), tmp_path, ["long hair", "hat"], {"a", "a.v2"}) == [hair]
    with pytest.raises(InputError, match=r"a\.v2\.png: no other sample has this label; rename it to a\.long hair\.png"):
        find_excluded(Path("a.jpg"), tmp_path, ["long hair"], {"a"})


def test_the_digest_follows_pixels_mask_and_size() -> None:
    image = Image.new("RGB", SIZE, (1, 2, 3))
    one = ReferenceImage.of(Path("a.jpg"), image, half())
    assert one.coverage == pytest.approx(0.5)
    assert one == ReferenceImage.of(Path("a.jpg"), image.copy(), half())
    others = [
        ReferenceImage.of(Path("a.jpg"), Image.new("RGB", SIZE, (1, 2, 4)), half()),
        ReferenceImage.of(Path("a.jpg"), image, half().rotate(180)),
        ReferenceImage.of(Path("a.jpg"), image.resize((30, 40)), half().resize((30, 40))),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 4
