"""CSGO's second pass, by a stand-in of its code with the real calls, on a tiny SDXL in half precision."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import csgo_checkout
from attaching import OPTIONS, PROMPT, attached, built, differ, pictures, plain, wrapped
from magictailor import load
from magictailor.attachments import CSGO, AttachmentSpec, FromImage
from magictailor.attachments.contract import records
from magictailor.attachments.csgo import CODE, CONTROLNET, ENCODER, FIRST_LAYER, WEIGHTS
from magictailor.attachments.loading import load_attachment
from magictailor.attachments.sampling import load_attachments, sample_attached
from magictailor.backbones import Backbone
from magictailor.backbones.runtime import Runtime
from magictailor.common.errors import InputError
from magictailor.common.tensors import read_tensors, write_tensors
from tiny import FAMILIES, MAPS, pair, recipe, train


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Each test imports its checkout anew."""
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "ip_adapter"]:
        del sys.modules[name]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return csgo_checkout.save(built("sdxl"), tmp_path / "CSGO")


@pytest.fixture
def backbone() -> Backbone:
    made = wrapped("sdxl", built("sdxl"))
    made.to(Runtime(torch.device("cpu"), "fp16"))
    return made


def calls() -> list[tuple[bytes, str, int]]:
    """What the stand-in was called with."""
    seen: list[tuple[bytes, str, int]] = sys.modules["ip_adapter"].CSGO.seen
    return seen


def test_a_finished_picture_is_restyled_and_the_model_stays(backbone: Backbone, checkout: Path, tmp_path: Path) -> None:
    files = pictures(tmp_path)
    Image.fromarray(np.full((16, 16, 3), (250, 20, 20), np.uint8)).save(tmp_path / "red.png")
    before, names = plain(backbone), [name for name, _ in backbone.denoiser.named_modules()]
    weights = {name: tensor.clone() for name, tensor in backbone.denoiser.state_dict().items()}
    free = np.frombuffer(before, np.uint8).reshape(16, 16, 3).astype(int)
    (loaded,) = load_attachments(backbone, [CSGO(files["picture"], checkout)], OPTIONS.steps)
    first, other, again = (
        np.asarray(image, int)
        for image in sample_attached(backbone, [PROMPT, "a hat", PROMPT], (3, 4, 3), OPTIONS, [loaded])
    )
    seen = calls()
    assert seen[0] == (before, PROMPT, 3)  # its content is what the run generates without it, to the byte
    assert seen[1][1:] == ("a hat", 4)
    assert np.array_equal(first, again)
    assert min(differ(first, free), differ(first, other)) > 2
    assert differ(first, attached(backbone, CSGO(tmp_path / "red.png", checkout))[0]) > 2  # the style is read
    assert differ(first, attached(backbone, CSGO(files["picture"], checkout, 0.1))[0]) > 2
    assert plain(backbone) == before
    assert [name for name, _ in backbone.denoiser.named_modules()] == names
    assert all(torch.equal(tensor, weights[name]) for name, tensor in backbone.denoiser.state_dict().items())


def test_outside_a_region_nothing_is_restyled(backbone: Backbone, checkout: Path, tmp_path: Path) -> None:
    files = pictures(tmp_path)
    start, style = FromImage(files["picture"], region=files["region"]), CSGO(files["picture"], checkout)
    region: Any = load_attachment(start, backbone)
    shown, outside = np.asarray(region.picture, int), np.asarray(region.region) == 0
    alone, restyled = attached(backbone, start)[0], attached(backbone, style, start)[0]
    assert np.array_equal(restyled[outside], shown[outside])
    assert differ(restyled, alone) > 2


def test_a_run_is_restyled_with_what_it_learned(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("magictailor.backbones.stable_diffusion.MAP_SIDE", MAPS)
    FAMILIES["sdxl"]().save_pretrained(tmp_path / "base")
    steps = ("phases.0.steps=1", "phases.1.steps=1")
    run = load(train(pair(), tmp_path / "run", model=str(tmp_path / "base"), recipe=recipe(*steps)), precision="fp16")
    style = CSGO(pictures(tmp_path)["picture"], checkout)
    prompt, passes = "<person> with <hair>", 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    run.backbone.denoiser.register_forward_hook(count)
    (before,) = run.generate(prompt)
    once, passes = passes, 0
    (restyled,) = run.generate(prompt, attachments=[style])
    assert passes == 2 * once > 0  # its own U-Net, with its LoRA, does both
    (after,) = run.generate(prompt)
    assert before.image.tobytes() == after.image.tobytes() != restyled.image.tobytes()
    ((content, text, seed),) = calls()
    assert (content, seed) == (before.image.tobytes(), 0)
    assert all(word in text for word in run.words)  # and so are its words
    record = restyled.record.attached["csgo"]
    assert (record["file"], record["strength"], len(record["sha256"])) == ("picture.png", 1.0, 64)


def test_records_change_with_what_they_name(backbone: Backbone, checkout: Path, tmp_path: Path) -> None:
    spec = CSGO(pictures(tmp_path)["picture"], checkout)

    def record() -> dict[str, Any]:
        return dict(records(load_attachments(backbone, [spec], 4))["csgo"])

    first = record()
    tensors = read_tensors(checkout / WEIGHTS)
    tensors["style_image_proj.latents"] += 1
    write_tensors(checkout / WEIGHTS, tensors)
    (checkout / CODE).write_text((checkout / CODE).read_text("utf-8") + "\n# newer\n", "utf-8")
    second = record()
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"model digest", "code sha256"}


def test_weights_may_have_a_first_layer_of_their_own(backbone: Backbone, checkout: Path, tmp_path: Path) -> None:
    spec, before = CSGO(pictures(tmp_path)["picture"], checkout), plain(backbone)
    (usual,) = attached(backbone, spec)
    own = backbone.pipeline.unet.conv_in.state_dict()
    more = {f"{FIRST_LAYER}.{name}": tensor.float() * 2 for name, tensor in own.items()}
    write_tensors(checkout / WEIGHTS, {**read_tensors(checkout / WEIGHTS), **more})
    assert differ(attached(backbone, spec)[0], usual) > 2
    assert plain(backbone) == before


def test_what_does_not_fit_is_one_line(backbone: Backbone, checkout: Path, tmp_path: Path) -> None:
    picture = pictures(tmp_path)["picture"]
    before, names = plain(backbone), [name for name, _ in backbone.denoiser.named_modules()]
    full = wrapped("sdxl", built("sdxl"))
    tensors = read_tensors(checkout / WEIGHTS)
    for name, changes in (
        ("few", {name: t for name, t in tensors.items() if not name.startswith("style")}),
        ("gap", {name: t for name, t in tensors.items() if not name.startswith("ip_adapter.1.to_v")}),
        ("wide", {name: t.repeat(2, 1) if name.endswith("to_k_ip.weight") else t for name, t in tensors.items()}),
    ):
        write_tensors(tmp_path / f"{name}.safetensors", changes)
    (tmp_path / "csgo_4_32.bin").write_bytes(b"")
    cases: list[tuple[Backbone, AttachmentSpec, str]] = [
        (wrapped("sd1", built("sd1")), CSGO(picture, checkout), "CSGO is for SDXL, not for embedded"),
        (full, CSGO(picture, checkout), "computes only in fp16, not in fp32; choose precision fp16"),
        (backbone, CSGO(picture, tmp_path), "so it is not a checkout of CSGO; git clone"),
        (backbone, CSGO(picture, checkout, model=str(tmp_path / "csgo_4_32.bin")), "a pickle, which can run code"),
        (backbone, CSGO(picture, checkout, model=str(tmp_path / "no.safetensors")), "no.safetensors"),
        (backbone, CSGO(picture, checkout, model=str(tmp_path / "few.safetensors")), r"not CSGO's weights \(no style"),
        (backbone, CSGO(picture, checkout, model=str(tmp_path / "gap.safetensors")), "do not fit sdxl"),
        (backbone, CSGO(picture, checkout, model=str(tmp_path / "wide.safetensors")), "do not fit sdxl"),
        (backbone, CSGO(picture, checkout, encoder=str(tmp_path / "none")), "none: the image encoder is missing"),
        (backbone, CSGO(picture, checkout, 3), "choose 0 .. 2"),
        (backbone, CSGO(tmp_path / "none.png", checkout), "none.png"),
    ]
    for base, spec, words in cases:
        with pytest.raises(InputError, match=words) as caught:
            load_attachments(base, [spec], 4)
        assert "\n" not in str(caught.value)
    (checkout / CONTROLNET).rename(tmp_path / "moved")
    with pytest.raises(InputError, match="the tile ControlNet is missing"):
        load_attachments(backbone, [CSGO(picture, checkout)], 4)
    (tmp_path / "moved").rename(checkout / CONTROLNET)
    (checkout / ENCODER / "model.safetensors").rename(checkout / ENCODER / "pytorch_model.bin")
    with pytest.raises(InputError, match="its weights are pickles"):
        load_attachments(backbone, [CSGO(picture, checkout)], 4)
    (checkout / ENCODER / "pytorch_model.bin").rename(checkout / ENCODER / "model.safetensors")
    for name in [name for name in sys.modules if name.split(".")[0] == "ip_adapter"]:
        del sys.modules[name]
    (checkout / CODE).write_text("import einops_that_is_missing", "utf-8")
    with pytest.raises(InputError, match=r"CSGO is not installed \(No module named 'einops_that_is_missing'\); git"):
        load_attachments(backbone, [CSGO(picture, checkout)], 4)
    assert plain(backbone) == before
    assert [name for name, _ in backbone.denoiser.named_modules()] == names
