"""Image files of any kind become RGB; squares keep the mask."""

import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from magictailor.common.errors import InputError
from magictailor.data.images import EXTENSIONS, expand, fit_square, image_files, load_grey, load_image

ORIENTATION = 0x0112


def plain(size: tuple[int, int] = (40, 30), color: tuple[int, ...] = (200, 60, 20)) -> Image.Image:
    return Image.new("RGB", size, color)


def png_header(path: Path, width: int, height: int) -> Path:
    """A PNG that claims a size and has no pixels: whoever decodes it fails."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_the_content_decides_and_not_the_extension(tmp_path: Path, kind: str) -> None:
    plain().save(tmp_path / "a.jpg", kind)
    image, alpha = load_image(tmp_path / "a.jpg")
    assert (image.mode, image.size, alpha) == ("RGB", (40, 30), None)
    assert np.abs(np.asarray(image, int) - (200, 60, 20)).max() < 12


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = plain()
    image.paste((0, 0, 255), (0, 0, 40, 10))  # a blue band on top
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # shown turned by 90 degrees clockwise: the top comes to the right
    image.save(tmp_path / "a.png", exif=exif)
    image, _ = load_image(tmp_path / "a.png")
    assert image.size == (30, 40)
    assert image.getpixel((29, 20)) == (0, 0, 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, kind: str) -> None:
    ramp = np.linspace(0, 65535, 400).reshape(20, 20).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "a.png", kind)
    for image in (load_image(tmp_path / "a.png")[0].getchannel("R"), load_grey(tmp_path / "a.png")):
        assert np.array_equal(np.asarray(image), np.rint(ramp / 257))


@pytest.mark.parametrize(("mode", "kind"), [("1", "PNG"), ("L", "PNG"), ("P", "PNG"), ("CMYK", "TIFF")])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, kind: str) -> None:
    plain(color=(255, 255, 255)).convert(mode).save(tmp_path / "a.png", kind)
    image, alpha = load_image(tmp_path / "a.png")
    assert (image.mode, image.getpixel((3, 3)), alpha) == ("RGB", (255, 255, 255), None)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_alpha_is_returned_and_composited_on_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (20, 20), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 20, 5))
    image.convert(mode).save(tmp_path / "a.png")
    image, alpha = load_image(tmp_path / "a.png")
    assert alpha is not None
    assert [alpha.getpixel((0, y)) for y in (4, 5)] == [0, 255]
    assert [image.getpixel((0, y)) for y in (4, 5)] == [(255, 255, 255), (0, 0, 0)]


def test_an_opaque_alpha_channel_is_no_mask(tmp_path: Path) -> None:
    plain().convert("RGBA").save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png")[1] is None


@pytest.mark.parametrize("side", [40_000, 10_001, 12_000])  # refused by Pillow; over the limit; Pillow warns
def test_a_huge_image_is_refused_from_its_header(tmp_path: Path, side: int, recwarn: pytest.WarningsRecorder) -> None:
    path = png_header(tmp_path / "huge.png", side, side)
    started = time.perf_counter()
    with pytest.raises(InputError, match=r"huge\.png: .*more than 100 megapixels; scale it down"):
        load_image(path)
    assert time.perf_counter() - started < 0.5
    assert not recwarn.list


def test_a_tiny_image_is_refused(tmp_path: Path) -> None:
    plain((100, 15)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="100 x 15; use an image of at least 16"):
        load_image(tmp_path / "a.png")


def test_broken_files_are_refused_by_name(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    contents = {
        "text.png": b"not an image",
        "empty.jpg": b"",
        "cut.png": whole[: len(whole) // 2],
        "cut.jpg": (tmp_path / "whole.jpg").read_bytes()[:900],
        "headless.png": whole[:20],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: not a readable image.*save it again") as caught:
            load_image(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"none\.png: does not exist"):
        load_image(tmp_path / "none.png")


def test_32_bit_pixels_are_refused(tmp_path: Path) -> None:
    Image.new("F", (20, 20), 0.5).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="save it with 8 or 16 bits"):
        load_image(tmp_path / "a.tif")


def test_a_folder_lists_images_only_in_natural_order(tmp_path: Path) -> None:
    for name in ("a10.jpg", "a2.JPG", "a1.WebP", ".hidden.png", "Thumbs.db", "a1.txt", "a1-masklabel.png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in image_files(tmp_path)] == ["a1.WebP", "a2.JPG", "a10.jpg"]
    assert [path.name for path in expand(tmp_path, "*.jpg")] == ["a2.JPG", "a10.jpg"]
    assert {".png", ".webp"} <= EXTENSIONS


def test_photos_of_a_kind_we_cannot_read_are_not_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.HEIC").touch()
    with pytest.raises(InputError, match=r"a\.HEIC: .*save it as JPEG or PNG"):
        image_files(tmp_path)


def squared(size: tuple[int, int], box: tuple[int, int, int, int], out: int) -> tuple[np.ndarray, np.ndarray]:
    """An image whose red is x and green is y, and a mask white in the box, through fit_square."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    image = Image.fromarray(np.stack([x, y, 0 * x], -1).astype(np.uint8))
    mask = Image.new("L", size)
    mask.paste(255, box)
    return fit_square(image, mask, out)


def test_a_square_image_is_only_scaled() -> None:
    pixels, mask = squared((64, 64), (10, 20, 30, 40), 64)
    assert (pixels.dtype.name, pixels.shape) == ("uint8", (64, 64, 3))
    assert (mask.dtype.name, mask.shape) == ("float32", (64, 64))
    assert np.array_equal(pixels[..., 0], np.arange(64)[None].repeat(64, 0))
    assert mask[20:40, 10:30].all()
    assert mask.sum() == 400


@pytest.mark.parametrize(
    ("box", "first_column"),
    [((90, 10, 110, 30), 75), ((0, 10, 10, 30), 0), ((180, 0, 200, 50), 150)],
    ids=["centred on the mask", "left end", "right end"],
)
def test_the_square_lies_on_the_mask_and_in_the_image(box: tuple[int, int, int, int], first_column: int) -> None:
    pixels, mask = squared((200, 50), box, 50)
    assert pixels[0, 0, 0] == first_column
    assert mask.sum() == (box[2] - box[0]) * (box[3] - box[1])


def test_the_square_grows_to_hold_a_wide_mask() -> None:
    pixels, mask = squared((200, 50), (20, 0, 120, 50), 100)
    assert mask.sum() == 100 * 50  # nothing of the mask is lost
    assert pixels[50, 0, 0] == 20
    assert not mask[:25].any()  # the padding is not trained
    assert not mask[75:].any()
    assert (pixels[:25, :, 1] == 0).all()  # and repeats the edges: y = 0 above, y = 49 below
    assert (pixels[75:, :, 1] == 49).all()


def test_padding_leaves_an_off_centre_mask_as_central_as_can_be() -> None:
    _, mask = squared((200, 50), (0, 0, 150, 10), 150)
    rows = np.flatnonzero(mask.any(1))
    assert (rows[0], rows[-1]) == (70, 79)


def test_the_mask_is_averaged_by_area() -> None:
    _, mask = squared((64, 64), (0, 0, 33, 64), 32)
    assert mask[:, 16] == pytest.approx(0.5)
    assert mask.mean() == pytest.approx(33 / 64)


def test_compression_noise_in_a_mask_does_not_widen_the_square() -> None:
    mask = Image.new("L", (200, 50), 4)
    mask.paste(255, (140, 10, 160, 30))
    pixels, _ = fit_square(Image.linear_gradient("L").rotate(90).resize((200, 50)).convert("RGB"), mask, 50)
    assert np.ptp(pixels[25, :, 0].astype(int)) < 100  # a quarter of the gradient, not all of it


def test_a_very_long_image_is_made_smaller_before_it_is_squared() -> None:
    image, mask = plain((60_000, 100)), Image.new("L", (60_000, 100), 255)
    pixels, weight = fit_square(image, mask, 64)  # its square would have 3.6 gigapixels
    assert pixels.shape == (64, 64, 3)
    assert 0 < weight.sum() < 64 * 2
