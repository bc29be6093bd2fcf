"""The benchmark for a card, tried without one: a card is lent for minutes, and the command must work then."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CARD = Path(__file__).parent.parent / "benchmarks" / "card.py"


def run(output: Path, *more: str) -> dict[str, dict[str, object]]:
    command = [sys.executable, str(CARD), "--device", "cpu", "--tiny", "--output", str(output), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    parts: dict[str, dict[str, object]] = json.loads((output / "card.json").read_text())["parts"]
    return parts


@pytest.mark.slow
def test_every_part_gives_its_results(tmp_path: Path) -> None:
    parts = run(tmp_path, "--minutes", "20")
    assert list(parts) == ["correct", "step", "variants", "memory", "pair", "profile", "bases"]
    for name, part in parts.items():
        assert "ended" not in part, (name, part)
        assert part["rows"], name
        assert not [row for row in part["rows"] if "error" in row], name  # type: ignore[attr-defined]
    assert all(row["right"] for row in parts["correct"]["rows"])  # type: ignore[attr-defined]
    assert parts["bases"]["rows"][0]["exit"] == 0  # type: ignore[index]


def test_what_is_cut_off_is_said_and_the_rest_is_kept(tmp_path: Path) -> None:
    """A minute is not enough: parts end at their limits, what they had printed stays, and a second call goes on."""
    (tmp_path / "card.json").write_text(json.dumps({"parts": {"step": {"rows": [{"way": "ours"}]}}}))
    parts = run(tmp_path, "--minutes", "0.4", "--parts", "step", "memory", "--skip-done")
    assert parts["step"] == {"rows": [{"way": "ours"}]}
    assert "ended" in parts["memory"]


@pytest.mark.slow
def test_a_benchs_trials_come_home_as_lines(tmp_path: Path) -> None:
    """What was done before an interruption is not done again; merged, the bench has nothing left to do."""
    spec, script = tmp_path / "spec.toml", CARD.with_name("card_bench.py")
    spec.write_text(
        'pairs = ["world:100000160+1"]\nmethods = ["magictailor"]\nseeds = 1\n'
        'prompts = ["a photo of {concept} with {component}"]\n'
        'settings = ["phases.0.steps=1", "phases.1.steps=1", "sampling.steps=2"]\n'
    )
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(script), "run", str(spec), "--output", str(tmp_path / "card")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert "left" not in done.stdout
    lines = tmp_path / "card" / "trials.jsonl"
    assert len(lines.read_text().splitlines()) == 5  # four anchors and the method
    merge = [sys.executable, str(script), "merge", str(spec), str(lines), "--output", str(tmp_path / "bench")]
    assert "5 trials merged" in subprocess.run(merge, capture_output=True, text=True, check=True).stdout
    bench = [sys.executable, "-m", "magictailor", "bench"]
    dry = subprocess.run(
        [*bench, "run", str(spec), "--output", str(tmp_path / "bench"), "--dry-run"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "0 not finished" in " ".join(dry.stdout.split())
