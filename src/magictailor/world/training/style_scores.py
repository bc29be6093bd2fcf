"""How often the embedded base draws in the treatment of a picture that it is shown, with its IP-Adapter and without."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from magictailor.attachments import Style
from magictailor.attachments.sampling import load_attachments, sample_attached
from magictailor.backbones import load_backbone
from magictailor.backbones.sampling import SamplingOptions, sample
from magictailor.common.pictures import grid, save_png
from magictailor.generation.protocol import TREATMENTS
from magictailor.world.captions import full_caption
from magictailor.world.judge import load_judge
from magictailor.world.judgement import judged
from magictailor.world.render import SIZE, render
from magictailor.world.scene import Concept, Scene, random_scene
from magictailor.world.training.rendering import HELD_OUT

STEPS, GUIDANCE, SHOWN, FIRST = 25, 4.0, 4, HELD_OUT + 200_000


def _whole_scenes(count: int, first: int) -> list[Scene]:
    """Scenes of one whole character without treatment."""
    found: list[Scene] = []
    while len(found) < count:
        scene = random_scene(first)
        if scene.focus is None and len(scene.subjects) == 1 and isinstance(scene.subjects[0], Concept):
            found.append(replace(scene, treatment=None, view=None))
        first += 1
    return found


def style_scores(style: Path, count: int) -> tuple[dict[str, float], Image.Image]:
    """For each treatment ``count`` held-out scenes, each drawn from its caption while another scene's picture in that
    treatment is shown: the fraction in which the judge sees the treatment and the category, with the adapter and without;
    and a sheet with a row for each treatment: the picture shown, and what was drawn."""
    base, judge = load_backbone("embedded", device="cpu", precision="fp32"), load_judge()
    scenes, others = _whole_scenes(count, FIRST), _whole_scenes(len(TREATMENTS), FIRST + 100_000)
    texts, seeds = [full_caption(scene) for scene in scenes], range(count)
    options = SamplingOptions(STEPS, GUIDANCE, batch=count)
    wanted = [scene.subjects[0].category for scene in scenes]
    right: dict[str, list[bool]] = {"with": [], "without": [], "category with": [], "category without": []}
    plain = list(sample(base, texts, seeds, options))
    rows = []
    with TemporaryDirectory() as folder:
        for treatment, other in zip(TREATMENTS, others, strict=True):
            file = Path(folder) / f"{treatment}.png"
            save_png(Image.fromarray(render(replace(other, treatment=treatment), SIZE).image), file)
            request = Style(
                file, model=str(style / "ip-adapter.safetensors"), encoder=str(style / "image_encoder"), layers="all"
            )
            (loaded,) = load_attachments(base, [request], STEPS)
            drawn = list(sample_attached(base, texts, seeds, options, [loaded]))
            for name, images in (("with", drawn), ("without", plain)):
                seen = judged(judge, images)
                right[name] += [j.treatment == treatment for j in seen]
                right[f"category {name}"] += [j.category == c for j, c in zip(seen, wanted, strict=True)]
            with Image.open(file) as shown:
                rows.append([shown.convert("RGB"), *drawn[:SHOWN]])
    blank = Image.new("RGB", rows[0][0].size, "white")
    sheet = grid([[blank, *plain[:SHOWN]], *rows], ["without", *TREATMENTS])
    return {name: float(np.mean(values)) for name, values in right.items()}, sheet
