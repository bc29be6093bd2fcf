"""The world's segmenter: what each pixel is, what it finds from words alone, and that its training goes on."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import magictailor.world.training.segmenter as training
from magictailor.data import read_pair
from magictailor.errors import InputError
from magictailor.recipe import part_from
from magictailor.segmentation import load_segmenter, make_masks
from magictailor.segmentation.embedded import class_of
from magictailor.world.checks import FIRST_SEED
from magictailor.world.pairs import world_pair, write_pair
from magictailor.world.render import render
from magictailor.world.scene import Component, Concept, Scene, Surface
from magictailor.world.segmenter import CLASSES, classes_of

GRAY = Surface("white", (128, 128, 128), "plain", (0, 0, 0))


def test_each_pixel_is_of_what_covers_most_of_it() -> None:
    roof = Component("roof", "flat", GRAY, 1.0)
    scene = Scene((Concept("tower", GRAY, (1, 1, 1), (0, 0, 0), (roof,)),))
    rendering = render(scene)
    classes = classes_of(scene, rendering)
    assert set(np.unique(classes)) == {0, CLASSES.index("tower"), CLASSES.index("roof")}
    for name, owner in (("tower", 1), ("roof", 2)):
        covered = rendering.mask(owner) > 140
        assert (classes[covered] == CLASSES.index(name)).all()
    alone = Scene((roof,))
    assert set(np.unique(classes_of(alone, render(alone)))) == {0, CLASSES.index("roof")}


def test_labels_name_classes_by_their_last_word() -> None:
    assert [class_of(w) for w in ("person", "long hair", "ear", "Wheels", "red cat")] == [
        "person", "hair", "ears", "wheels", "cat"
    ]  # fmt: skip
    for word in ("dog", "", "nothing"):
        with pytest.raises(InputError, match="not of the drawn world"):
            class_of(word)


def test_its_training_runs_resumes_and_keeps_to_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "HELD_OUT", 4)
    few = {"pictures": 100, "batch": 2}
    for steps in (1, 2):
        recipe = part_from(training.SegmenterTraining, {**few, "steps": steps})
        score = training.train_segmenter(tmp_path / "run", recipe, lambda *_: None, lambda *_: None)
    assert 0 <= score["all"] <= 1
    other = part_from(training.SegmenterTraining, {**few, "steps": 2, "rate": 0.5})
    with pytest.raises(InputError, match="holds something else"):
        training.train_segmenter(tmp_path / "run", other, lambda *_: None, lambda *_: None)


def test_masks_from_words_alone_equal_the_truth(tmp_path: Path) -> None:
    """Pairs of seeds that no training has seen; a mask here is what `train` reads, nothing is drawn by hand."""
    segmenter, overlaps = load_segmenter("embedded"), []
    for seed in range(FIRST_SEED + 5000, FIRST_SEED + 5008):
        folder = write_pair(world_pair(seed), tmp_path / str(seed))
        truth = {r.path.name: r.mask for s in read_pair(folder).samples for r in s.references}
        shutil.rmtree(folder / "masks")
        for made in make_masks(folder, segmenter):
            if made.mask is None:
                overlaps.append(0.0)
                continue
            found, wanted = (np.asarray(i) > 127 for i in (Image.open(made.mask), truth[made.image.name]))
            overlaps.append(float((found & wanted).sum() / (found | wanted).sum()))
        assert len(read_pair(folder).samples) == 2  # nothing was drawn by hand
    assert overlaps.count(0.0) == 0
    assert np.mean(overlaps) >= 0.85  # over more pairs, and what fails: docs/masks.md
