"""The demo: a pair of the world, a run on it, and one page that shows what happened."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from magictailor.common.errors import InputError
from magictailor.common.files import json_text, output_folder, write_json
from magictailor.demo.page import write_page
from magictailor.generation.pictures import generate, load, save_pictures
from magictailor.generation.protocol import PROMPTS
from magictailor.training.loop import personalize
from magictailor.world.pairs import world_pair, write_pair

METHOD = "magictailor"
PAIR = 100_000_060  # a tuning pair, chosen since it comes out well; docs/world.md has one that does not
SHOWN = ("snow", "beach", "comic", "watercolor")  # of the protocol's prompts
NUMBER = 4  # pictures of each prompt
Watch = Callable[[int, int, Mapping[str, float], str], None]


def run_demo(folder: Path, seed: int, watch: Watch) -> Path:
    """Draw the pair, train with the default recipe, generate, write `index.html`; returns its path.

    The same call goes on after an interruption.

    Raises:
        InputError: ``folder`` holds something else, or another pair's demo.
    """
    pair = world_pair(seed)
    folder = output_folder(folder)
    mark, content = folder / "demo.json", {"pair": seed, "method": METHOD}
    if folder.exists() and any(folder.iterdir()):
        if not mark.is_file() or mark.read_bytes() != json_text(content).encode():
            raise InputError(
                f"--output {folder}: holds something else than the demo of pair {seed}; choose another folder"
            )
    else:
        write_json(mark, content)
    if not (folder / "pair").exists():
        write_pair(pair, folder / "pair")
    watch(1, 1, {}, "pair")
    personalize(
        folder / "pair", folder / "run", method=METHOD, watch=lambda i, n, losses: watch(i, n, losses, "training")
    )
    concept, component = pair.words
    prompts = {
        "composite": [f"a photo of {concept} with {component}"],
        "prompts": [f"{concept} with {component}, {PROMPTS[name]}" for name in SHOWN],
        "alone": [f"a photo of {concept}", f"a photo of {component}"],
    }
    pipeline = load(folder / "run")
    for done, (name, texts) in enumerate(prompts.items()):
        target = folder / "images" / name
        if not (target / "sheet.png").exists():
            shutil.rmtree(target, ignore_errors=True)
            save_pictures(generate(folder / "run", texts, number=NUMBER, pipeline=pipeline), target)
        watch(done + 1, len(prompts), {}, "pictures")
    return write_page(folder, pair, prompts, SHOWN)
