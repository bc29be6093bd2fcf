"""What a card shows, in the order of worth: right results, speed, memory, a profile; then the embedded bases are trained on.

    python benchmarks/card.py --minutes 8 --output DIR
    python benchmarks/card.py --minutes 8 --output DIR --parts step memory --skip-done
    python benchmarks/card.py --device cpu --tiny --minutes 5 --output DIR     # all of it without a card, on tiny shapes

Needs this repository, torch with CUDA, transformers, peft, and diffusers; nothing is downloaded and no version of torch is
asked for. Where the package is not installed, set PYTHONPATH=src. Every part is a process of its own with a time limit of its
own, and DIR/card.json is written after each line that it prints: what is cut off has its results up to there.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

# Shares of the time that is left when a part begins, and what it answers.
PARTS = {
    "correct": (0.25, "short trainings of every family and precision against the CPU's, and a resumed one"),
    "step": (0.30, "our step against the reference's way: seconds, peak memory, utilisation"),
    "variants": (
        0.30,
        "our step with what might be faster: memory layouts, shared latents, CUDA graphs, torch.compile",
    ),
    "memory": (0.40, "the peak of each preset beside what was expected"),
    "pair": (0.35, "a whole pair from photos to images: seconds, images a second"),
    "profile": (0.30, "where a step's time goes: launches, synchronisations, the largest kernels"),
    "bases": (1.0, "the embedded bases trained on, for the minutes that are left"),
}
LEAST = 20.0  # seconds: a part that has less is left out


def machine(device: str) -> dict[str, Any]:
    """What the figures were taken on."""
    import diffusers
    import torch
    import transformers

    card = torch.cuda.get_device_name() if device.startswith("cuda") else None
    versions = {
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }
    return {"card": card, "cores": os.cpu_count(), "python": platform.python_version(), **versions}


def _write(path: Path, tree: Any) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(tree, indent=1))
    os.replace(temporary, path)


def run_part(name: str, seconds: float, options: argparse.Namespace, report: dict[str, Any], file: Path) -> None:
    """The part in a process of its own; its lines of JSON go into the report as they come."""
    part: dict[str, Any] = {"limit": round(seconds, 1), "rows": []}
    report["parts"][name] = part
    command = [
        sys.executable, "-u", str(Path(__file__).with_name("card_parts.py")), name, "--device", options.device,
        "--seconds", f"{seconds:.1f}", "--output", str(options.output), *(["--tiny"] if options.tiny else []),
    ]  # fmt: skip
    started = time.monotonic()
    errors = options.output / f"{name}.log"
    with errors.open("w") as err, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True) as process:
        clock = threading.Timer(seconds, process.kill)
        clock.start()
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                part["rows"].append(json.loads(line))
                print(f"{name}: {line.rstrip()}", flush=True)
                _write(file, report)
        process.wait()
        clock.cancel()
    part["seconds"] = round(time.monotonic() - started, 1)
    if process.returncode:
        cut = part["seconds"] >= seconds
        last = errors.read_text().strip().splitlines()[-1:] or [""]
        part["ended"] = "cut off at its limit" if cut else f"exit {process.returncode}: {last[0][:300]}"
        print(f"{name}: {part['ended']}", flush=True)
    _write(file, report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="all parts together")
    parser.add_argument("--output", type=Path, required=True, help="card.json, each part's log, the bases")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, to try the command itself")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--skip-done", action="store_true", help="leave out parts that card.json has whole")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "card.json"
    report: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"parts": {}}
    report |= {"machine": machine(options.device), "tiny": options.tiny}
    end = time.monotonic() + 60 * options.minutes
    for name in options.parts:
        known = report["parts"].get(name)
        if options.skip_done and known and "ended" not in known:
            continue
        seconds = PARTS[name][0] * (end - time.monotonic())
        if seconds < LEAST:
            report["parts"].setdefault(name, {"ended": "no time was left", "rows": []})
            _write(file, report)
            continue
        run_part(name, seconds, options, report, file)


if __name__ == "__main__":
    main()
