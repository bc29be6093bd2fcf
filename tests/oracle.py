"""A judge that is always right: judgements made from a scene's labels, to test what is computed from judgements."""

import numpy as np

from magictailor.world.judge import ANSWERS
from magictailor.world.judgement import Judgement, Reading
from magictailor.world.labels import CONTEXT_NAMES, HEADS, TREATMENT_NAMES, UNKNOWN, VIEW_NAMES, label_scene
from magictailor.world.scene import Scene


def oracle(scene: Scene) -> Judgement:
    """What a judge without faults says of the scene's picture; of what does not apply, nothing for sure."""
    labels = label_scene(scene)
    beliefs = np.zeros((len(HEADS), ANSWERS), np.float32)
    for i, head in enumerate(HEADS):
        known = labels.targets[i] != UNKNOWN
        beliefs[i, : len(head.classes)] = 0 if known else 1 / len(head.classes)
        if known:
            beliefs[i, labels.targets[i]] = 1
    context, treatment, view = (int(t) for t in labels.targets[len(HEADS) :])
    reading = Reading(labels.image, labels.classes, beliefs)
    features = labels.image[8::16, 8::16].reshape(-1) / 255 - 0.5
    names = CONTEXT_NAMES[context], TREATMENT_NAMES[treatment], VIEW_NAMES[0 if view == UNKNOWN else view]
    return Judgement(*names, reading.concepts(), reading.components(), features / np.linalg.norm(features))
