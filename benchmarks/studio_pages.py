"""A studio's server and a page of Chromium on it, for the benchmarks."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright


@contextmanager
def served(root: Path, *options: str) -> Iterator[tuple[str, int]]:
    """The server's address with its token, and its process."""
    command = [sys.executable, "-m", "magictailor", "studio", str(root), *options, "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield next(line.strip() for line in server.stdout if line.startswith("http")), server.pid
        finally:
            server.terminate()


@contextmanager
def opened(address: str) -> Iterator[Page]:
    """A wide page; ``gc()`` can be called in it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--js-flags=--expose-gc"]
        )
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(address)
        yield page
        browser.close()
