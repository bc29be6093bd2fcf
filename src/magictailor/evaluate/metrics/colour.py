"""Truth by colour, without a trained judge: whether colours are nearest to the true composite's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from magictailor.evaluate.metrics.asked import NIGHT, asked
from magictailor.evaluate.metrics.contract import Drawn, Figure, Subject
from magictailor.world.embedded import SIZE
from magictailor.world.truth import alternatives, cielab, nearest_alternative


@dataclass(frozen=True)
class TruthByColour:
    """On composites of the world, in places that leave colours alone. It takes shreds of the right colours for right."""

    model: str = "templates of the true composite, CIELAB (world/truth.py)"
    higher: dict[str, bool] = field(default_factory=lambda: {"composite": True, "distance": False})

    def prepare(self) -> None:
        """Needs nothing."""

    def score(self, subject: Subject, pictures: Sequence[Drawn]) -> Iterator[Figure]:
        if (
            subject.world is None or subject.world.difficulty == "category"
        ):  # there the concept has no such part to be mistaken for
            return
        choices = alternatives(subject.world, ())
        for drawn in pictures:
            what = asked(drawn.prompt, subject.words)
            if what is None or not what.both or what.treatment or what.view or what.context == NIGHT:
                continue
            image = drawn.image.convert("RGB")
            if image.size != (SIZE, SIZE):  # templates are drawn at the world's own size
                image = image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
            lab = cielab(np.asarray(image))
            distance = min(template.distance(lab) for template in choices["composite"])
            yield Figure(drawn.prompt, drawn.seed, "distance", distance)
            right = nearest_alternative(image, choices) == "composite"
            yield Figure(drawn.prompt, drawn.seed, "composite", float(right))
