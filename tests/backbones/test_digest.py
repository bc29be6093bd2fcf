"""A base is known by its digest: a change of any network is seen, what is added to it is not."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from magictailor import InputError, Run, load, personalize
from magictailor.backbones import load_backbone
from tiny import opened, pair, recipe


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return personalize(pair(), tmp_path_factory.mktemp("runs") / "run", model=str(tiny_folder), recipe=recipe())


def changed_base(tiny_folder: Path, folder: Path, network: str, file: str, layer: str) -> Path:
    """The tiny base with one layer's weights changed."""
    opened(tiny_folder).save_pretrained(folder)
    tensors = load_file(folder / network / file)
    tensors[layer] = tensors[layer] + 0.01
    save_file(tensors, folder / network / file, {"format": "pt"})
    return folder


def moved(run: Run, base: Path, folder: Path) -> Path:
    """The run, as if its base had been at this path."""
    folder.mkdir()
    for file in run.folder.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    text = (run.folder / "run.json").read_text("utf-8")
    (folder / "run.json").write_text(text.replace(run.info.model, str(base)), "utf-8")
    return folder


@pytest.mark.parametrize(
    ("network", "file", "layer"),
    [
        ("unet", "diffusion_pytorch_model.safetensors", "conv_in.weight"),
        ("vae", "diffusion_pytorch_model.safetensors", "decoder.conv_in.weight"),
        ("text_encoder", "model.safetensors", "final_layer_norm.weight"),
    ],
)
def test_a_base_that_has_changed_is_refused(
    network: str, file: str, layer: str, run: Run, tiny_folder: Path, tmp_path: Path
) -> None:
    base = changed_base(tiny_folder, tmp_path / "base", network, file, layer)
    with pytest.raises(InputError, match="its weights have changed") as refused:
        load(moved(run, base, tmp_path / "run"))
    assert str(base) in str(refused.value)
    assert refused.value.field == "model"
    opened(tiny_folder).save_pretrained(base)  # back again
    (here,), (there,) = load(tmp_path / "run").generate("<person>"), run.generate("<person>")
    assert here.image.tobytes() == there.image.tobytes()


def test_what_is_added_to_a_base_does_not_change_what_it_is(run: Run, tiny_folder: Path) -> None:
    assert run.info.base is not None
    assert run.info.base == load_backbone(str(tiny_folder)).digest_as_loaded == run.backbone.digest_as_loaded
