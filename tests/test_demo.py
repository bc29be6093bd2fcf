"""The demo on the embedded base: one page that shows it all, and nothing drawn twice."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

import magictailor.demo as demo
from magictailor.backbones import Defaults, load

SEED = 100_000_000


def quiet(done: int, total: int, figures: Mapping[str, float], title: str) -> None:
    pass


def test_the_demos_page_is_whole_and_a_second_call_draws_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "EMBEDDED", Defaults((1, 1), (1e-4, 1e-4), rank=2, guidance=4.0, sampling_steps=2))
    monkeypatch.setattr(demo, "NUMBER", 1)
    page = demo.run_demo(tmp_path / "demo", SEED, quiet)
    text = page.read_text("utf-8")
    assert text.count("<figcaption>the true answer<") == 1 + len(demo.SHOWN)
    for prompt in (
        "&lt;person&gt; with &lt;hair&gt;, in the snow",
        "&lt;person&gt; with &lt;hair&gt;, watercolor painting",
    ):
        assert f"<code>{prompt}</code>" in text
    # Offline: every picture is inside the page. Two photos, the composite twice, 4 prompts, both alone, 5 truths, the overview, and
    # previews at steps 0 and 2.
    sources = re.findall(r'src="([^"]+)"', text)
    assert len(sources) == 2 + 2 + 4 + 2 + 5 + 1 + 2 * 3
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in text
    assert len(re.findall(r'polyline points="[0-9]', text)) == 2
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.png")}
    demo.run_demo(tmp_path / "demo", SEED, quiet)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.png") if p.name != "pair.png"} == {
        p: t for p, t in before.items() if p.name != "pair.png"
    }
