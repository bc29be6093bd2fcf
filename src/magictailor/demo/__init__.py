"""The demo: a pair of the world, a run on it, and one page that shows what happened."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from magictailor.demo.page import write_page
from magictailor.errors import InputError
from magictailor.files import json_text, output_folder, write_json
from magictailor.generation.pictures import generate, load, save_pictures
from magictailor.training.loop import personalize
from magictailor.world.pairs import world_pair, write_pair

# How the prompt ends, and the true composite's name in the pair's folder.
PLACES = {"": "composite", ", in the snow": "composite-snow", ", on the beach": "composite-beach",
          ", watercolor painting": "composite-watercolor"}  # fmt: skip
NUMBER = 4
Watch = Callable[[int, int, Mapping[str, float], str], None]


def run_demo(folder: Path, seed: int, watch: Watch) -> Path:
    """Draw the pair, train with the default recipe, generate, write `index.html`; returns its path.

    The same call goes on after an interruption.

    Raises:
        InputError: ``folder`` holds something else, or another seed's demo.
    """
    pair = world_pair(seed)
    folder = output_folder(folder)
    mark = folder / "demo.json"
    if folder.exists() and any(folder.iterdir()):
        if not mark.is_file() or mark.read_bytes() != json_text({"seed": seed}).encode():
            raise InputError(
                f"--output {folder}: holds something else than the demo of seed {seed}; choose another folder"
            )
    else:
        write_json(mark, {"seed": seed})
    if not (folder / "pair").exists():
        write_pair(pair, folder / "pair")
    watch(1, 1, {}, "pair")
    personalize(folder / "pair", folder / "run", watch=lambda i, n, figures: watch(i, n, figures, "training"))
    pipeline = load(folder / "run")
    concept, component = pair.words
    subjects = {"composite": f"{concept} with {component}", "concept": concept, "component": component}
    prompts = {name: [subject + place for place in PLACES] for name, subject in subjects.items()}
    for done, (name, texts) in enumerate(prompts.items()):
        target = folder / "images" / name
        if not (target / "sheet.png").exists():
            shutil.rmtree(target, ignore_errors=True)
            save_pictures(generate(folder / "run", texts, number=NUMBER, pipeline=pipeline), target)
        watch(done + 1, len(subjects), {}, "drawing")
    return write_page(folder, pair, prompts, list(PLACES.values()))
