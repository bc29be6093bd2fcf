"""The whole walk in a real browser: pair, masks, training, pictures, export. Needs Debian's Chromium and playwright."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from magictailor.studio.jobs.store import status_of

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


def test_photos_dropped_in_become_a_pair(site: Site, browser: Any, tmp_path: Path) -> None:
    page = site.page(browser, 390)
    page.get_by_role("button", name="New pair").click()
    for label, text in (("Name", "Mine"), ("What is the concept?", "cat"), ("What is the component?", "hat")):
        page.get_by_label(label).fill(text)
    page.get_by_role("button", name="Make it").click()
    page.get_by_role("heading", name="Concept: cat").wait_for()
    content = io.BytesIO()
    Image.new("RGB", (300, 200), "orange").save(content, "PNG")
    numbers = list(content.getvalue())
    page.evaluate(
        """(bytes) => { const data = new DataTransfer(); data.items.add(new File([new Uint8Array(bytes)], "Tom 1.png", {type: "image/png"}));
        document.querySelector(".sample").dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})); }""",
        numbers,
    )
    page.get_by_text("tom-1.png").wait_for()
    assert (site.root / "pairs" / "mine" / "photos" / "tom-1.png").read_bytes() == content.getvalue()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.context.close()


def test_the_walk_from_a_pair_to_files(site: Site, browser: Any) -> None:
    page = site.page(browser, 1400)
    page.get_by_label("Pair", exact=True).select_option(label="figure with hat 100000060")
    pair = next((site.root / "pairs").glob("figure*"))
    mask = pair / "masks" / "0-figure-a0.png"
    before = np.asarray(Image.open(mask).convert("L")).astype(int)
    go(page, "masks")
    page.wait_for_selector(".stage[data-ready='0-figure-a0.png']")
    # A stroke of the brush, 24 pixels wide, over the upper left corner, where nothing was trained.
    box = page.locator(".cursor-layer").bounding_box()
    scale = page.evaluate(
        "Math.min(document.querySelector('.stage').clientWidth, document.querySelector('.stage').clientHeight) * 0.96 / 128"
    )
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
    with page.expect_response(lambda r: r.url.endswith("/suggest"), timeout=SLOW):
        page.get_by_role("button", name="This photo").click()
    page.wait_for_selector(".stage:not([aria-busy])")

    go(page, "train")
    page.get_by_text("Advanced settings").click()
    for key, value in {
        "phases.0.steps": "4",
        "phases.1.steps": "4",
        "sampling.steps": "2",
        "sampling.preview_every": "4",
    }.items():
        page.locator(f"[id='s-{key}']").fill(value)
    page.locator("form button[type=submit]").click()
    page.wait_for_selector(".film img", timeout=SLOW)
    page.get_by_text("/ 8").first.wait_for(timeout=SLOW)  # live: nothing is reloaded
    page.wait_for_selector("h1 .state.done", timeout=SLOW)
    assert page.locator(".film figure").count() == 3

    page.get_by_role("link", name="Generate", exact=True).last.click()
    page.get_by_text("Guidance, steps, sampler").click()
    page.get_by_role("spinbutton", name="Steps").fill("2")
    page.get_by_label("Pictures of each").fill("2")
    page.locator("form button[type=submit]").click()
    page.wait_for_selector(".gallery .tile >> nth=1", timeout=SLOW)
    page.locator(".gallery .tile button").first.click()
    page.get_by_role("button", name="Compare").click()
    page.wait_for_selector(".compare img")

    go(page, "export")
    page.locator("form button[type=submit]").click()
    page.get_by_role("link", name="Download").wait_for(timeout=SLOW)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    names = zipfile.ZipFile(download.value.path()).namelist()
    assert "comfyui/README.md" in names
    assert any(name.endswith("-hat.safetensors") for name in names)
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
