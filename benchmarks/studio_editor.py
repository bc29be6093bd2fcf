"""The mask editor on a photo of 4,000 x 4,000 pixels in Chromium: how long input waits for its picture, undo, memory.

    python benchmarks/studio_editor.py --output DIR [--side 4000] [--strokes 60]

Latency is the browser's own: from an input event to the frame that shows its effect (Event Timing). Exit code 1 if the slowest
twentieth of all moves of the brush waits longer than 100 ms, or if a stroke that can be undone keeps a megabyte.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from studio_pages import opened, served

from magictailor.studio.pairs import PairStore
from magictailor.studio.workspace import Workspace

OBSERVE = """window.seen = []; new PerformanceObserver((list) => { for (const e of list.getEntries())
  seen.push([e.name, e.duration, e.processingEnd - e.processingStart, e.startTime]); }).observe({type: "event", durationThreshold: 16, buffered: false})"""


UNDONE = 4  # strokes; they have eight places, and one that changes nothing is not there to be undone


def fill(root: Path, side: int) -> None:
    """A pair with one large photo: noise that is smooth, as photos are."""
    store = PairStore(Workspace(root))
    pair = store.create("Large", ["person"])
    noise = np.random.default_rng(0).integers(0, 255, (side // 40, side // 40, 3), np.uint8)
    photo = Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)
    photo.save(root / "large.jpg", quality=90)
    store.add(pair, 0, "large.jpg", (root / "large.jpg").read_bytes(), trusted=True)


def renderer_megabytes(browser_pid: int) -> float:
    """Resident memory of the largest process of the browser: the page's."""
    children = subprocess.run(["ps", "-eo", "pid,ppid,rss,args"], capture_output=True, text=True, check=True).stdout
    sizes = [int(line.split()[2]) for line in children.splitlines()[1:] if "--type=renderer" in line]
    return max(sizes) / 1024


class Watch:
    """What the browser says of its events since the last look."""

    def __init__(self, page: Any) -> None:
        self.page = page
        page.evaluate(OBSERVE)

    def take(self, *names: str) -> list[float]:
        """Milliseconds from input to frame, of the events that took more than one frame."""
        self.page.wait_for_timeout(300)
        found = self.page.evaluate("seen.splice(0)")
        return [row[1] for row in found if row[0] in names]


def stroke(page: Any, number: int, moves: int = 40) -> int:
    """A wave across the photo, at the speed of a hand; returns how many moves."""
    box = page.locator(".cursor-layer").bounding_box()
    side = min(box["width"], box["height"]) * 0.8
    left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2 + side * (number % 8) / 8
    page.mouse.move(left, top)
    page.mouse.down()
    for at in range(moves):
        page.mouse.move(left + side * at / moves, top + side / 8 * np.sin(at / 4) ** 2)
        time.sleep(0.012)
    page.mouse.up()
    return moves


def spread(values: list[float], count: int) -> str:
    """Median, 95th percentile and slowest of ``count`` events, of which those not listed took one frame."""
    full = sorted([*values, *[16.0] * max(0, count - len(values))])
    return f"median {full[len(full) // 2]:.0f}, 95 % {full[int(len(full) * 0.95)]:.0f}, slowest {full[-1]:.0f} ms"


def measure(address: str, strokes: int) -> bool:
    with opened(address) as page:
        page.wait_for_selector(".sample")
        began = time.monotonic()
        page.evaluate("location.hash = '#/masks'")
        page.wait_for_selector(".stage[data-ready]")
        print(f"the photo is open after {time.monotonic() - began:.2f} s", flush=True)
        watch = Watch(page)
        page.get_by_label("Brush size").evaluate("(box) => { box.value = 200; box.dispatchEvent(new Event('input')); }")
        stroke(page, 0)
        page.wait_for_timeout(3000)
        page.evaluate("gc()")
        before = renderer_megabytes(0)
        watch.take()
        count = sum(stroke(page, number) for number in range(strokes))
        moves = watch.take("pointermove", "pointerdown", "pointerup")
        page.wait_for_timeout(3000)
        page.evaluate("gc()")
        after = renderer_megabytes(0)
        print(f"{strokes} strokes: {spread(moves, count)} from input to frame", flush=True)
        each = (after - before) / strokes
        print(f"the page's process: {before:.0f} MB before, {after:.0f} MB after: {each:.2f} MB a stroke", flush=True)
        page.locator(".cursor-layer").focus()
        for _ in range(UNDONE):
            page.keyboard.press("Control+z")
            page.wait_for_timeout(60)
        print(f"undo: {spread(watch.take('keydown'), UNDONE)}", flush=True)
        for _ in range(10):
            page.mouse.wheel(0, -60)
            page.wait_for_timeout(60)
        print(f"zoom: {spread(watch.take('wheel', 'pointermove'), 10)}", flush=True)
        for name in ("Invert", "Invert", "Grow"):
            began = time.monotonic()
            with page.expect_response(lambda r: r.request.method == "PUT" and r.url.endswith("/mask")):
                page.get_by_role("button", name=name, exact=True).click()
            print(
                f"{name}: saved after {time.monotonic() - began:.1f} s; {spread(watch.take('click', 'pointerup'), 1)}"
            )
        waits = sorted([*moves, *[16.0] * max(0, count - len(moves))])
        return waits[int(len(waits) * 0.95)] <= 100 and each < 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--side", type=int, default=4000)
    parser.add_argument("--strokes", type=int, default=60)
    options = parser.parse_args()
    fill(options.output, options.side)
    with served(options.output) as (address, _):
        good = measure(address, options.strokes)
    sys.exit(not good)


if __name__ == "__main__":
    main()
