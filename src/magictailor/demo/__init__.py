"""The demo: a pair of the world, a run on it, and an HTML page with the results."""

import shutil
from pathlib import Path

from magictailor.api import personalize
from magictailor.common.errors import InputError
from magictailor.common.events import Listener, Progress, ignore, with_task
from magictailor.common.files import json_text, output_folder, write_json
from magictailor.demo.page import write_page
from magictailor.generation.images import save_images
from magictailor.generation.protocol import PROMPTS
from magictailor.weights import BASES
from magictailor.world.pairs import world_pair, write_pair

METHOD = "magictailor"
PREVIEWS = 50  # steps between them
PAIR = 100_000_060  # a tuning pair with a good result; docs/experiments/by-eye.md has others
SHOWN = ("snow", "beach", "comic", "watercolor")  # the names of the protocol's prompts
NUMBER = 4  # images of each prompt


def run_demo(output: Path, pair_seed: int, listen: Listener = ignore, *, model: str = "embedded") -> Path:
    """Render the pair of this seed, train with the default recipe, generate, and write ``index.html``; returns its path.

    After an interruption, the same call resumes.

    Args:
        model: an embedded base: no other knows the world.

    Raises:
        InputError: no such seed or base, or ``output`` has other contents, or the demo of another pair or base.
    """
    if model not in BASES:
        raise InputError(f"{model}: does not know the demo's world", f"choose {' or '.join(BASES)}", field="model")
    try:
        pair = world_pair(pair_seed)
    except InputError as error:
        raise error.about("pair_seed") from error
    output = output_folder(output)
    marker, content = output / "demo.json", {"pair": pair_seed, "method": METHOD, "model": model}
    if output.exists() and any(output.iterdir()):
        if not marker.is_file() or marker.read_bytes() != json_text(content).encode():
            problem = f"{output}: holds something other than the demo of pair {pair_seed} on {model}"
            raise InputError(problem, "choose another folder", field="output")
    else:
        write_json(marker, content)
    if not (output / "pair").exists():
        write_pair(pair, output / "pair")
    listen(Progress("pair", 1, 1))
    settings = [f"sampling.preview_every={PREVIEWS}"]
    run = personalize(output / "pair", output / "run", model=model, method=METHOD, settings=settings, listen=listen)
    concept, component = pair.words
    prompts = {
        "composite": [f"a photo of {concept} with {component}"],
        "prompts": [f"{concept} with {component}, {PROMPTS[name]}" for name in SHOWN],
        "alone": [f"a photo of {concept}", f"a photo of {component}"],
    }
    for name, texts in prompts.items():
        folder = output / "images" / name
        if not (folder / "sheet.png").exists():
            shutil.rmtree(folder, ignore_errors=True)
            save_images(run.generate(texts, number=NUMBER, listen=with_task(f"generating {name}", listen)), folder)
    return write_page(output, pair, prompts, SHOWN)
