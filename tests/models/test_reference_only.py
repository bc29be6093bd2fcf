"""The model that is only given the photos."""

from collections.abc import Callable
from pathlib import Path

import pytest

from family_inputs import SHORT, base
from magictailor.common.errors import InputError
from magictailor.data import Pair, ReferenceImage, Sample
from magictailor.evaluate.bench import run_bench
from magictailor.evaluate.sources import sources
from magictailor.evaluate.spec import Spec
from magictailor.generation.reference_only import ReferenceOnly
from magictailor.recipe import Sampling
from tiny import pair


def test_a_bench_compares_with_the_model_that_is_only_given_the_photos(
    folders: Callable[[str], Path], tmp_path: Path
) -> None:
    spec = Spec(
        model=str(folders("flux2-klein-4b")), pairs=("world:100000060",), methods=("reference-only", "plain-lora"),
        prompts=("{concept} with {component}",), seeds=1, settings=tuple(SHORT), metrics=("quality",),
    )  # fmt: skip
    run_bench(spec, sources(spec, tmp_path), tmp_path / "bench", device="cpu")
    images = {p.parent.name: p.read_bytes() for p in (tmp_path / "bench" / "images").rglob("*.png")}
    assert set(images) >= {"reference-only", "plain-lora"}
    assert not (tmp_path / "bench" / "runs" / "world-100000060" / "reference-only").exists()
    refused = spec.model_copy(update={"model": str(folders("z-image"))})
    with pytest.raises(InputError, match="z-image takes no reference images"):
        run_bench(refused, sources(refused, tmp_path), tmp_path / "other", device="cpu")


def large(given: Pair) -> Pair:
    """The pipeline takes no photo below 64 pixels."""

    def enlarged(sample: Sample) -> Sample:
        photos = (
            [r.image.resize((64, 64)) for r in sample.references],
            [r.mask.resize((64, 64)) for r in sample.references],
        )
        references = tuple(ReferenceImage.of(Path("x.png"), image, mask) for image, mask in zip(*photos))
        return Sample(sample.label, sample.word, references)

    return Pair(given.name, tuple(map(enlarged, given.samples)))


def test_the_photos_decide_the_image_and_the_prompt_says_which_is_which() -> None:
    backbone = base("flux2-klein-4b")
    sampling = Sampling(steps=1, guidance=1.0)
    first, second = (ReferenceOnly(large(pair(start=start)), backbone, sampling) for start in (0, 5))
    assert (
        first.prompt("<person> with <hair>, on the beach")
        == "the person in image 1 with the hair in image 2, on the beach"
    )
    images = [
        next(iter(one.generate("<person> with <hair>", seed=seed))).image
        for one, seed in ((first, 3), (first, 3), (second, 3), (first, 4))
    ]
    assert images[0].tobytes() == images[1].tobytes()
    assert len({image.tobytes() for image in images}) == 3
