"""A gallery of 10,000 pictures in Chromium: time to the first paint, elements and memory while it is scrolled to its end.

    python benchmarks/studio_gallery.py --output DIR [--pictures 10000]

Pictures are copies of one of 128 pixels. Exit code 1 if the first paint takes a second or the number of elements grows.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from studio_pages import opened, served

from magictailor.studio.jobs import GenerateSpec, JobStore
from magictailor.studio.jobs.job import OUTCOME_FILE, JobOutcome
from magictailor.studio.workspace import Workspace

# The page's policy forbids wait_for_function, which evaluates text.
SHOWN = "[...document.querySelectorAll('.gallery img')].filter(i => i.complete && i.naturalWidth).length"


def fill(root: Path, count: int) -> None:
    """One finished job with this many pictures."""
    store = JobStore(Workspace(root))
    job = store.add(GenerateSpec(runs=("00000-train",), prompts=("<figure> with <hat>",)), "many").job
    folder = store.folder(job.id)
    (folder / "images").mkdir()
    picture = folder / "images" / "00001.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)).save(picture)
    rows = []
    for number in range(1, count + 1):
        name = f"{number:05d}"
        if number > 1:
            shutil.copy(picture, folder / "images" / f"{name}.png")
        rows.append({
            "name": name, "width": 128, "height": 128, "run": "00000-train", "pair": "many", "method": "magictailor",
            "prompt": f"<figure> with <hat>, {number % 20}", "seed": number, "model": "embedded", "steps": 25,
            "guidance": 4.0, "scheduler": "ddim",
        })  # fmt: skip
    (folder / "images.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / OUTCOME_FILE).write_text(JobOutcome(attempt=1, outcome="done").model_dump_json())


def measure(address: str) -> bool:
    with opened(address) as page:
        page.wait_for_selector("h1")
        began = time.monotonic()
        page.evaluate("location.hash = '#/generate'")
        while page.evaluate(SHOWN) < 12:
            time.sleep(0.02)
        first = time.monotonic() - began
        total = page.locator(".gallery").get_attribute("data-total")
        print(f"{total} pictures; the first row after {first:.2f} s", flush=True)
        elements, heap = [], []
        for part in range(11):
            page.evaluate(f"const g = document.querySelector('.gallery'); g.scrollTop = g.scrollHeight * {part / 10}")
            page.wait_for_timeout(700)
            elements.append(page.locator(".gallery .tile").count())
            heap.append(page.evaluate("(gc(), Math.round(performance.memory.usedJSHeapSize / 1e5) / 10)"))
        print(f"elements at each tenth: {elements}\nMB of JavaScript's heap: {heap}")
        return first < 1 and 0 < max(elements) < 200 and heap[-1] < heap[0] + 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=10_000)
    options = parser.parse_args()
    fill(options.output, options.pictures)
    with served(options.output) as (address, _):
        good = measure(address)
    sys.exit(not good)


if __name__ == "__main__":
    main()
