"""The demo on the embedded base: a complete page, and nothing is generated twice."""

import re
from pathlib import Path

import pytest

import magictailor.demo as demo
from magictailor.methods.base_defaults import BY_FAMILY, BaseDefaults
from magictailor.weights import BASES

SEED = 100_000_000


@pytest.mark.parametrize("model", BASES)
def test_the_page_is_complete_and_a_second_call_generates_nothing(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = BaseDefaults((1, 1), (1e-4, 1e-4), rank=2, guidance=4.0, sampling_steps=2)
    monkeypatch.setitem(BY_FAMILY, model, quick)
    monkeypatch.setattr(demo, "NUMBER", 1)
    page = demo.run_demo(tmp_path / "demo", SEED, model=model)
    text = page.read_text("utf-8")
    assert text.count("<figcaption>the true answer<") == 1 + len(demo.SHOWN)
    for prompt in (
        "&lt;person&gt; with &lt;hair&gt;, in the snow",
        "&lt;person&gt; with &lt;hair&gt;, watercolor painting",
    ):
        assert f"<code>{prompt}</code>" in text
    # The page works offline: all images are inline. Two photos, the composite twice, 4 prompts, each subject alone, 5 true
    # images, the overview, and previews at steps 0 and 2.
    sources = re.findall(r'src="([^"]+)"', text)
    assert len(sources) == 2 + 2 + 4 + 2 + 5 + 1 + 2 * 3
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in text
    assert len(re.findall(r'polyline points="[0-9]', text)) == 2
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.png")}
    demo.run_demo(tmp_path / "demo", SEED, model=model)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.png") if p.name != "pair.png"} == {
        p: t for p, t in before.items() if p.name != "pair.png"
    }
