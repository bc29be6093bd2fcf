"""The embedded segmenter: classes of labels, and regions from the judge's pixel classes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import magictailor.segmentation.embedded as embedded
from magictailor.common.errors import InputError
from magictailor.segmentation.embedded import Embedded, class_indices, match_label
from magictailor.world.labels import BODIES, CLASSES, label_scene
from magictailor.world.pairs import concept_scene, world_pair
from magictailor.world.render import masks

PAIR = world_pair(10**8 + 6, "plain")


def test_labels_name_a_category_or_a_kind_by_their_last_word() -> None:
    words = ("person", "curly hair", "horn", "Robots", "red kid", "crown", "clown nose", "dark glasses")
    names = ["person", "hair", "horns", "robot", "kid", "accessory", "accessory", "glasses"]
    assert [match_label(word) for word in words] == names
    for word in ("dog", "", "nothing"):
        with pytest.raises(InputError, match="not in the embedded world"):
            match_label(word)


def test_a_kind_is_that_of_all_categories_and_a_category_includes_its_components() -> None:
    assert {CLASSES[i] for i in class_indices("hair")} == {"person hair", "kid hair", "figure hair", "hero hair"}
    of_robot = {CLASSES[i] for i in class_indices("robot")}
    assert {"robot", "robot panel", "figure hat"} <= of_robot
    assert not {"nothing", "person"} & of_robot


@pytest.mark.parametrize("factor", [1, 2])
def test_regions_are_the_pixels_of_the_named(factor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a judge that classifies every pixel correctly, at any image size."""
    scene = concept_scene(PAIR)
    labels = label_scene(scene)
    logits = 20 * torch.nn.functional.one_hot(torch.from_numpy(labels.classes).long(), len(CLASSES)).float()
    network: Any = lambda _: SimpleNamespace(classes=logits.permute(2, 0, 1)[None])  # noqa: E731
    monkeypatch.setattr(embedded, "load_judge", lambda: network)
    side = factor * len(labels.classes)
    image = Image.fromarray(labels.image).resize((side, side))
    absent = next(category for category in BODIES if category != PAIR.concept.category)
    found = Embedded().find(image, Path("a.png"), [PAIR.concept.category, f"red {PAIR.kind}", absent])
    true = masks(scene, PAIR.kind)
    wanted = {PAIR.concept.category: true["concept"] | true["component"], f"red {PAIR.kind}": true["component"]}
    for word, mask in wanted.items():
        (region,) = found[word]
        inside = np.kron(mask > 127, np.ones((factor, factor), bool))
        assert region.mask.shape == inside.shape
        assert ((region.mask > 0.5) & inside).sum() / ((region.mask > 0.5) | inside).sum() > 0.9
        assert region.score > 0.9
    assert found[absent] == []
