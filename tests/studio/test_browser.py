"""The whole walk in a real browser: pair, masks, training, pictures, export. Needs Debian's Chromium and playwright."""

import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image

from magictailor.common.files import json_lines
from magictailor.studio.jobs.store import status_of
from magictailor.studio.live import run_facts
from magictailor.weights import EMBEDDED
from magictailor.world.pairs import world_pair, write_pair

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("no Chromium here (apt-get install chromium)", allow_module_level=True)
SLOW = 240_000  # milliseconds: a training on shared cores


class Site:
    """A studio with its demo, served by the real command, and what went wrong in the browser."""

    def __init__(self, root: Path) -> None:
        self.root, self.errors = root, list[str]()
        self.start()

    def start(self, *options: str) -> None:
        command = [sys.executable, "-m", "magictailor", "studio", str(self.root), "--demo", "--port", "0", "--no-open"]
        self.server = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
        assert self.server.stdout is not None
        for line in self.server.stdout:
            if line.startswith("http"):
                self.address = line.strip()
                return
        raise AssertionError("the studio did not start")

    def pictures(self) -> list[dict[str, Any]]:
        """The records of all pictures, with their jobs."""
        files = sorted((self.root / "jobs").glob("*/images.jsonl"))
        return [{**row, "job": file.parent.name} for file in files for row in json_lines(file.read_text("utf-8"))]

    def page(self, browser: Any, width: int) -> Any:
        page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on(
            "request",
            lambda r: self.errors.append(r.url) if not re.match(r"(http://127\.0\.0\.1:|blob:|data:)", r.url) else None,
        )
        page.goto(self.address)
        page.wait_for_selector(".sample")
        return page


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("browser"))
    yield site
    site.server.terminate()
    site.server.wait(30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def go(page: Any, step: str) -> None:
    page.evaluate(f"location.hash = '#/{step}'")


DROP = """([where, files, paste]) => { const data = new DataTransfer();
for (const [name, bytes] of files) data.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
document.querySelectorAll(where)[0].dispatchEvent(paste ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true})
  : new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})); }"""


def drop(page: Any, where: str, *photos: Path, paste: bool = False) -> None:
    """Drop files on an element, or paste them."""
    page.evaluate(DROP, [where, [[path.name, list(path.read_bytes())] for path in photos], paste])


def photos_dropped_in(page: Any, site: Site, tmp_path: Path) -> Path:
    """A pair of the page's own making: photos dropped and pasted, masks by words; returns its folder."""
    written = write_pair(world_pair(100_000_003), tmp_path / "photos")
    photos = sorted(path for path in written.glob("*.png") if path.name[0] in "01")
    concept = [path for path in photos if path.name.startswith("0")]
    component = [path for path in photos if path.name.startswith("1")]
    labels = world_pair(100_000_003).labels
    page.get_by_role("button", name="New pair").click()
    for label, text in zip(("Name", "What is the concept?", "What is the component?"), ("Mine", *labels), strict=True):
        page.get_by_label(label).fill(text)
    page.get_by_role("button", name="Create").click()
    page.get_by_role("heading", name=f"Concept: {labels[0]}").wait_for()
    drop(page, ".sample.concept", *concept[:2])
    page.wait_for_selector(".sample.concept .photo >> nth=1")
    drop(page, "body", component[0], paste=True)  # into the sample with the fewest photos
    page.wait_for_selector(".sample:not(.concept) .photo")
    folder = site.root / "pairs" / "mine"
    kept = sorted((folder / "photos").iterdir())
    assert [path.read_bytes() for path in kept] == [path.read_bytes() for path in (*concept[:2], component[0])]
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    go(page, "masks")
    page.wait_for_selector(".stage[data-ready]")
    page.get_by_role("button", name="All photos, by labels").click()
    go(page, "pair")
    page.get_by_text("Ready to train").wait_for(timeout=SLOW)
    assert len(list((folder / "masks").glob("*.png"))) >= 3
    return folder


def correct_by_brush(page: Any, pair: Path) -> None:
    """A stroke, 24 pixels wide, over the upper left corner, where nothing is trained; then undone."""
    photo = min((pair / "photos").iterdir())
    mask = pair / "masks" / f"{photo.stem}.png"
    before = np.asarray(Image.open(mask).convert("L")).astype(int)
    go(page, "masks")
    page.wait_for_selector(f".stage[data-ready='{photo.name}']")
    page.locator(".cursor-layer").scroll_into_view_if_needed()
    box = page.locator(".cursor-layer").bounding_box()
    scale = min(box["width"], box["height"]) * 0.96 / 128
    left, top = box["x"] + box["width"] / 2 - 64 * scale, box["y"] + box["height"] / 2 - 64 * scale
    with page.expect_response(lambda r: r.request.method == "PUT" and r.url.endswith("/mask")):
        page.mouse.move(left + 14 * scale, top + 14 * scale)
        page.mouse.down()
        page.mouse.move(left + 30 * scale, top + 14 * scale, steps=6)
        page.mouse.up()
    after = np.asarray(Image.open(mask).convert("L")).astype(int)
    assert (after[10:18, 12:32] == 255).all()
    assert (before[10:18, 12:32] == 0).all()
    untouched = np.ones_like(after, bool)
    untouched[:30, :46] = False
    assert (after[untouched] == before[untouched]).all()
    with page.expect_response(lambda r: r.request.method == "PUT" and r.url.endswith("/mask")):
        page.keyboard.press("Control+z")
    assert (np.asarray(Image.open(mask).convert("L")) == before).all()


def train_shortly(page: Any) -> str:
    """Four steps in two phases, with a checkpoint in their middle; losses and previews arrive. Returns the job."""
    go(page, "train")
    page.wait_for_selector(".expected dd")
    page.get_by_text("Advanced settings").click()
    settings = {"phases.0.steps": "2", "phases.1.steps": "2", "sampling.steps": "2", "sampling.preview_every": "2"}
    for key, value in settings.items():
        page.locator(f"[id='s-{key}']").fill(value)
    page.get_by_label("Keep a checkpoint every").fill("2")
    page.locator("form button[type=submit]").click()
    page.wait_for_selector(".film img", timeout=SLOW)
    page.get_by_text("/ 4").first.wait_for(timeout=SLOW)  # live: nothing is reloaded
    page.wait_for_selector("h1 .state.done", timeout=SLOW)
    assert page.locator(".film figure").count() == 3
    return str(page.url.rpartition("/")[2])


def draw_both_checkpoints(page: Any, prompt: str) -> None:
    """Pictures of the checkpoint and of the end, side by side."""
    page.get_by_role("link", name="Generate", exact=True).last.click()
    page.get_by_label("step 2", exact=True).first.check()  # the newest training comes first
    page.get_by_label("Prompts").fill(prompt)
    page.get_by_text("Guidance, steps, sampler").click()
    page.get_by_role("spinbutton", name="Steps").fill("2")
    page.get_by_label("Images per prompt").fill("1")
    page.locator("form button[type=submit]").click()
    page.wait_for_selector(".compare tbody tr:nth-child(2) img", timeout=SLOW)
    heads = page.locator(".compare tbody th").all_inner_texts()
    assert "step 2" in heads[0] + heads[1]
    page.locator(".gallery .tile button").first.click()
    page.get_by_role("button", name="☆ Favourite").wait_for()
    page.keyboard.press("s")
    page.get_by_role("button", name="★ Favourite").wait_for()
    page.keyboard.press("Delete")
    page.get_by_role("button", name="Undo").click()
    page.wait_for_selector(".gallery .tile >> nth=1")


def plain_diffusers(folder: Path, words: Sequence[str], prompt: str) -> np.ndarray:
    """The same picture from the exported files, without our code."""
    pipeline: Any = StableDiffusionPipeline.from_pretrained(
        EMBEDDED, safety_checker=None, local_files_only=True, dtype=torch.float32
    )
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(str(folder), weight_name="pytorch_lora_weights.safetensors", local_files_only=True)
    for word in words:
        (file,) = folder.glob(f"*-{word.strip('<>')}.safetensors")
        pipeline.load_textual_inversion(str(file), token=word)
    generator = torch.Generator().manual_seed(0)
    size = {"height": 128, "width": 128}
    made = pipeline(prompt, num_inference_steps=2, guidance_scale=4.0, generator=generator, **size).images[0]
    return np.asarray(made, int)


MASK = """async ([width, height, start, other]) => {
  const { Mask } = await import("/static/mask.js"), mask = new Mask(width, height), found = {};
  const now = () => Array.from(mask.data);
  mask.change(mask.whole, () => mask.data.set(start));
  found.share = mask.share();
  const taken = new Mask(width, height); taken.data.set(other);
  mask.without(taken); found.minus = mask.share(); mask.without(null);
  const blob = await mask.png(), bitmap = await createImageBitmap(blob);
  const again = new Mask(width, height).draw(bitmap); found.png = Array.from(again.data);
  for (const kind of ["grow", "shrink", "feather"]) { await mask.morph(kind, 5); found[kind] = now(); mask.undo(); }
  found.undone = now();
  mask.invert(); found.invert = now(); mask.redo(); found.redone = now(); mask.undo();
  mask.fill(60, 50); found.fill = now(); mask.undo();
  mask.polygon([[10, 10], [40, 10], [40, 30], [10, 30]], false); found.polygon = now(); mask.undo();
  mask.begin(); mask.stroke([20, 100], [120, 90], 7, false); mask.stroke([120, 90], [140, 60], 7, true); mask.end();
  found.stroke = now(); mask.undo(); found.last = now(); found.steps = [mask.done.length, mask.undone.length];
  return found; }"""


def test_what_the_editor_does_to_a_mask(site: Site, browser: Any) -> None:
    """Each change against numpy's, on sides that are no multiples of a tile; and all are undone."""
    page = site.page(browser, 1400)
    rows, columns = np.mgrid[:130, :150]
    ring = np.hypot(columns + 0.5 - 60, rows + 0.5 - 50)
    start = np.where((ring > 15) & (ring < 40), 255, 0)
    other = np.where(columns < 60, 255, 0)
    found = page.evaluate(MASK, [150, 130, start.ravel().tolist(), other.ravel().tolist()])
    image = {name: np.reshape(value, (130, 150)) for name, value in found.items() if np.size(value) == start.size}
    assert found["share"] == pytest.approx(start.mean() / 255)
    assert found["minus"] == pytest.approx((start * (255 - other) / 255).mean() / 255)
    for name in ("png", "undone", "last"):
        assert (image[name] == start).all(), name
    inside = np.argwhere(start > 0)
    near = np.array([np.square(inside - point).sum(1).min() for point in np.ndindex(start.shape)]).reshape(start.shape)
    outside = np.argwhere(start == 0)
    far = np.array([np.square(outside - point).sum(1).min() for point in np.ndindex(start.shape)]).reshape(start.shape)
    assert (image["grow"] == 255 * (near <= 25)).all()
    assert (image["shrink"] == 255 * (far > 25)).all()
    soft = image["feather"]
    assert soft.mean() == pytest.approx(start.mean(), rel=0.01)
    assert len(np.unique(soft)) > 50
    assert (image["invert"] == 255 - start).all()
    assert (image["redone"] == image["invert"]).all()  # there was nothing to redo
    assert (image["fill"] == np.where(ring < 40, 255, 0)).all()
    square = start.copy()
    square[10:30, 10:40] = 255
    assert (image["polygon"] == square).all()
    along = np.clip(((columns + 0.5 - 20) * 100 - (rows + 0.5 - 100) * 10) / (100**2 + 10**2), 0, 1)
    line = np.hypot(columns + 0.5 - 20 - 100 * along, rows + 0.5 - 100 + 10 * along)
    erased = np.hypot(columns + 0.5 - 140, rows + 0.5 - 60) < 6
    painted = (line < 6) & (columns < 105)
    assert (image["stroke"][painted] == 255).all()
    assert (image["stroke"][erased] == 0).all()
    untouched = (line > 9) & (columns < 105)
    assert (image["stroke"][untouched] == start[untouched]).all()
    assert found["steps"] == [1, 1]
    page.context.close()


def test_a_mask_is_corrected_by_brush_on_a_large_screen(site: Site, browser: Any) -> None:
    page = site.page(browser, 1400)
    page.get_by_label("Pair", exact=True).select_option(label="figure with hat 100000060")
    correct_by_brush(page, next((site.root / "pairs").glob("figure*")))
    assert site.errors == []
    page.context.close()


def test_the_walk_from_photos_to_files(site: Site, browser: Any, tmp_path: Path) -> None:
    page, width = site.page(browser, width=390), 390
    correct_by_brush(page, photos_dropped_in(page, site, tmp_path))
    job = train_shortly(page)
    words = list(run_facts(site.root / "jobs" / job)["words"])
    prompt = " with ".join(words)
    draw_both_checkpoints(page, prompt)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    go(page, "export")
    page.get_by_role("checkbox", name="diffusers: a folder").check()
    downloads = page.get_by_role("link", name="Download")
    earlier = downloads.count()
    page.locator("form button[type=submit]").click()
    downloads.nth(earlier).wait_for(timeout=SLOW)
    with page.expect_download() as download:
        downloads.first.click()
    zipfile.ZipFile(download.value.path()).extractall(tmp_path / "export")
    assert (tmp_path / "export" / "comfyui" / "README.md").is_file()
    rows = [row for row in site.pictures() if row["run"] == job]
    shown = Image.open(site.root / "jobs" / rows[0]["job"] / "images" / f"{rows[0]['name']}.png")
    plain = plain_diffusers(tmp_path / "export" / "diffusers", words, prompt)
    assert np.abs(plain - np.asarray(shown.convert("RGB"), int)).max() <= 1
    assert site.errors == []
    page.context.close()


def test_the_page_shows_the_truth_after_server_and_job_are_killed(site: Site, browser: Any) -> None:
    page = site.page(browser, 1400)
    page.get_by_label("Pair", exact=True).select_option(label="figure with hat 100000060")
    go(page, "train")
    page.get_by_text("Advanced settings").click()
    page.locator("[id='s-sampling.steps']").fill("2")
    page.locator("form button[type=submit]").click()
    page.wait_for_selector(".film img", timeout=SLOW)
    job = page.url.rpartition("/")[2]
    site.server.send_signal(signal.SIGKILL)
    site.server.wait()
    ending = status_of(site.root / "jobs" / job).ending
    assert ending is not None
    os.kill(ending.pid, signal.SIGKILL)
    site.start()
    page = site.page(browser, 1400)
    go(page, f"train/{job}")
    page.wait_for_selector("h1 .state.interrupted")
    page.get_by_role("button", name="Resume").click()
    page.wait_for_selector("h1 .state.running", timeout=SLOW)
    page.get_by_role("button", name="Stop", exact=True).click()
    page.wait_for_selector("h1 .state.stopped", timeout=SLOW)
    page.context.close()
