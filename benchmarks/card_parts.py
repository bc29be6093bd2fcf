"""The parts of `benchmarks/card.py`: each prints its results as lines of JSON, the most wanted ones first."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent / "tests")]

import torch  # noqa: E402

Row = dict[str, Any]

# The largest relative difference of a step's losses from the CPU's in float32 that is still called right.
TOLERANCE = {"fp32": 2e-3, "bf16": 0.1, "fp16": 0.05, "int8": 0.15, "nf4": 0.5}
ALIKE = ["phases.0.degradation.alpha=0", "phases.1.degradation.alpha=0"]  # a card draws this noise by itself
SHORT = ["phases.0.steps=2", "phases.1.steps=2", "sampling.preview_every=0"]
PEAK_TFLOPS = {
    "H100": 989,
    "H200": 989,
    "A100": 312,
    "4090": 165,
    "L40S": 362,
}  # dense bf16, by the makers' data sheets


def _losses(model: Path, folder: Path, **options: Any) -> list[float]:
    """The loss of every step of a short training."""
    from magictailor import personalize
    from tiny import pair

    settings = [*SHORT, *ALIKE, *options.pop("settings", [])]
    run = personalize(pair(), folder, model=str(model), settings=settings, **options)
    return [row["loss"] for row in run.history]


def _largest(found: list[float], wanted: list[float]) -> float:
    return max(abs(a / b - 1) for a, b in zip(found, wanted, strict=True))


def _checkpoints(work: Path, tiny: bool) -> Iterator[tuple[str, Path]]:
    """A tiny checkpoint of each family, in diffusers format."""
    import families
    from tiny import sd1, sdxl

    for name, made in {"sd1": sd1, "sdxl": sdxl}.items():
        made().save_pretrained(work / name)
        yield name, work / name
        if tiny:
            return
    for name in families.BUILDERS:
        yield name, families.save(name, work / name)


def correct(options: argparse.Namespace) -> Iterator[Row]:
    """Losses on the device in every precision against the CPU's, and what resuming changes."""
    from tiny import interrupted_and_resumed

    ways: list[tuple[str, dict[str, Any]]] = [
        *((precision, {"precision": precision}) for precision in TOLERANCE),
        ("checkpointing", {"precision": "fp32", "settings": ["optimisation.checkpointing=true"]}),
    ]
    compiled = [("compiled", {"precision": "fp32", "compiled": True})] if options.device.startswith("cuda") else []
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for family, model in _checkpoints(work, options.tiny):
            wanted = _losses(model, work / f"{family}-cpu", device="cpu", precision="fp32")
            for way, given in [*ways, *(compiled if family == "sd1" else [])]:
                row: Row = {"family": family, "way": way}
                try:
                    found = _losses(model, work / f"{family}-{way}", device=options.device, **given)
                    row["difference"] = _largest(found, wanted)
                    row["right"] = row["difference"] <= TOLERANCE.get(way, TOLERANCE["fp32"])
                except Exception as error:  # one way that fails must not hide the others
                    row["error"] = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                yield row
        yield _resumed(work, options, interrupted_and_resumed)


def _resumed(work: Path, options: argparse.Namespace, interrupted_and_resumed: Any) -> Row:
    """How far a killed and resumed run is from an undisturbed one on this device."""
    from magictailor.backbones import load_backbone
    from magictailor.common.tensors import read_tensors
    from magictailor.training.run_folder import LORA_FILE
    from tiny import pair, short, train

    def opened() -> Any:
        return load_backbone(str(work / "sd1"), device=options.device, precision="fp32")

    plan = short("magictailor")
    whole = train(pair(), work / "undisturbed", model=opened(), recipe=plan)
    cut = interrupted_and_resumed(work / "cut", opened, 2, plan)
    first, second = read_tensors(whole / LORA_FILE), read_tensors(cut / LORA_FILE)
    difference = max(float((first[name] - second[name]).abs().max()) for name in first)
    return {"family": "sd1", "way": "killed and resumed", "difference": difference, "right": difference < 1e-4}


def _peak_tflops() -> float | None:
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((float(v) for k, v in PEAK_TFLOPS.items() if k in name), None)


def _shape(options: argparse.Namespace) -> list[str]:
    """The step's arguments: Stable Diffusion 2.1 as it is, or tiny."""
    on_card = ["--width", "1", "--precision", "bf16", "--steps", "20", "--warm", "5"]
    peak = _peak_tflops()
    peaks = [] if peak is None else ["--peak-tflops", str(peak)]
    few = ["--width", "0.0625", "--size", "64", "--steps", "2", "--warm", "1"]
    return ["--device", options.device, *(few if options.tiny else [*on_card, *peaks])]


def step(options: argparse.Namespace) -> Iterator[Row]:
    """The two ways in turn, in both stages; then ours with other settings."""
    started, rows = time.monotonic(), dict[tuple[str, str], Row]()

    def timed(way: str, stage: str, *more: str) -> Row:
        command = [sys.executable, str(HERE / "step.py"), *_shape(options), "--way", way, "--stage", stage, *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return {"way": way, "stage": stage, "error": (done.stderr.strip().splitlines() or ["?"])[-1][:200]}
        return {"way": way, "stage": stage, **json.loads(done.stdout.splitlines()[-1])}

    for stage in ("balance",) if options.tiny else ("balance", "warm-up"):
        for way in ("ours", "peer"):
            rows[way, stage] = timed(way, stage)
            yield rows[way, stage]
        ours, other = rows["ours", stage], rows["peer", stage]
        if "seconds" in ours and "seconds" in other:
            yield {
                "stage": stage, "times as fast": other["seconds"] / ours["seconds"],
                "share of memory": ours["gigabytes"] / other["gigabytes"],
            }  # fmt: skip
    if options.tiny:
        return
    for settings in (["data.resample_every=4"], ["optimisation.checkpointing=true"], ["optimisation.micro_batch=3"]):
        if time.monotonic() - started > 0.8 * options.seconds:
            return
        yield timed("ours", "balance", "--set", *settings) | {"settings": settings}


def variants(options: argparse.Namespace) -> Iterator[Row]:
    """Our step in both stages, with one thing more that might be faster in each row."""
    from graphed import Graphed
    from step import STAGES
    from ways import Ours

    backbone = _full_size("sd2", options)
    ours, on_card = Ours(backbone, []), options.device.startswith("cuda")
    warm, steps = (1, 1) if options.tiny else (3, 12)

    def timed(variant: str) -> Row:
        row: Row = {"variant": variant}
        for stage, first in STAGES.items():
            seconds = []
            for number in range(warm + steps):
                started = time.monotonic()
                ours.backward(first + number)
                ours.update(first + number)
                if on_card:
                    torch.cuda.synchronize()
                seconds.append(time.monotonic() - started)
            row[stage] = sorted(seconds[warm:])[steps // 2]
        return row

    yield timed("as it is")
    backbone.autoencoder.to(memory_format=torch.channels_last)
    yield timed("autoencoder's channels last")
    backbone.denoiser.to(memory_format=torch.channels_last)
    yield timed("denoiser's channels last, too")
    if on_card:
        eager, backbone._denoise = backbone._denoise, Graphed(backbone)
        yield timed("CUDA graphs, too")
    maker, known = ours.objective.maker, dict[Any, Any]()
    encode = maker._encode

    def encoded_once(rows: Any, config: Any) -> Any:
        if len(rows) not in known:
            known[len(rows)] = encode(rows, config)
        return known[len(rows)]

    maker._encode = encoded_once  # type: ignore[method-assign]
    yield timed("latents shared by all steps, too")
    if on_card:
        backbone._denoise = eager
        backbone.compile()
        yield timed("the same, compiled instead of CUDA graphs")


def _full_size(family: str, options: argparse.Namespace, preset: str | None = None) -> Any:
    """A base of the family with random weights on the device; tiny if asked for."""
    from bases import base

    from magictailor.backbones.runtime import make_runtime, with_preset

    width, size = (0.0625, 64) if options.tiny else (1, None)
    precision = "fp32" if options.tiny else "bf16"
    backbone = base(family, width, options.device, precision, size=size)
    chosen = with_preset(make_runtime(options.device, precision), family, {"preset": preset})
    backbone.to(chosen)
    return backbone


def _trained(backbone: Any, folder: Path, settings: list[str]) -> Any:
    """The run's record of a training on the backbone."""
    from bases import pair

    from magictailor.common.records import read_json
    from magictailor.training.run_folder import RUN_FILE
    from magictailor.training.train import make_recipe, train

    recipe = make_recipe(backbone, "magictailor", ["sampling.preview_every=0", *settings])
    return read_json(train(pair(backbone.size), folder, backbone, recipe) / RUN_FILE, "train again")


def memory(options: argparse.Namespace) -> Iterator[Row]:
    """The peak of a short training on each preset, beside what is expected of it."""
    from bases import pair

    from magictailor.backbones.presets import NAMES
    from magictailor.training.setup import build
    from magictailor.training.train import make_recipe

    with tempfile.TemporaryDirectory() as work:
        for family in ("sd2",) if options.tiny else ("sd2", "sdxl"):
            for preset in NAMES[:1] if options.tiny else NAMES:
                row: Row = {"family": family, "preset": preset}
                try:
                    backbone = _full_size(family, options, preset)
                    recipe = make_recipe(backbone, "magictailor", SHORT)
                    row["expected"] = build(pair(backbone.size), recipe, backbone).expected_gb
                    backbone = _full_size(family, options, preset)
                    if torch.cuda.is_available():
                        torch.cuda.empty_cache()
                        torch.cuda.reset_peak_memory_stats()
                    record = _trained(backbone, Path(work) / f"{family}-{preset}", SHORT)
                    row |= {"seen": record["peak_gb"], "seconds": record["seconds"]}
                except Exception as error:  # out of memory, no bitsandbytes: the other presets are still of interest
                    row["error"] = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                backbone = None
                yield row
    yield from _transformers(options)


def _transformers(options: argparse.Namespace) -> Iterator[Row]:
    """The peak of a step of today's transformers at their full width and depth, beside the counted one."""
    from memory_transformers import SHAPES, seen_peak

    from magictailor.backbones.presets import cost_of

    if options.tiny:
        return
    for family in ("sana", "flux2-klein-4b", "sd3", "z-image"):
        assert family in SHAPES
        cost = cost_of(family, 1024)
        row: Row = {"family": family, "images": 1, "counted": cost and cost.of_step(1, True)}
        try:
            row["seen"] = seen_peak(family, 1024, 1, options.device)
        except Exception as error:
            row["error"] = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        yield row


def pair(options: argparse.Namespace) -> Iterator[Row]:
    """A whole pair at the shape of Stable Diffusion 2.1: the recipe's own steps, then images."""
    from magictailor.generation.generate import generate
    from magictailor.training.run_folder import read_run

    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "run"
        backbone = _full_size("sd2", options)
        started = time.monotonic()
        record = _trained(backbone, folder, SHORT if options.tiny else [])
        yield {"training": time.monotonic() - started, "steps": sum(p["steps"] for p in record["recipe"]["phases"]),
               "peak": record["peak_gb"]}  # fmt: skip
        info = read_run(folder)
        number, steps = (2, 2) if options.tiny else (16, 50)
        prompt = " with ".join(info.words)
        for _ in generate(backbone, folder, info, [prompt], number=1, steps=2):
            pass  # warm
        started = time.monotonic()
        count = sum(1 for _ in generate(backbone, folder, info, [prompt], number=number, steps=steps))
        yield {"images": count, "denoising steps": steps, "images a second": count / (time.monotonic() - started)}


def profile(options: argparse.Namespace) -> Iterator[Row]:
    """A few steps under torch's profiler."""
    from step import STAGES
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled
    from ways import Ours

    ours, steps = Ours(_full_size("sd2", options), []), 3
    on_card = options.device.startswith("cuda")
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_card else [])]
    for stage, first in STAGES.items():
        for number in range(2):
            ours.backward(first + number)
            ours.update(first + number)
        with profiled(activities=kinds) as seen:
            started = time.monotonic()
            for number in range(2, 2 + steps):
                ours.backward(first + number)
                ours.update(first + number)
            if on_card:
                torch.cuda.synchronize()
            seconds = (time.monotonic() - started) / steps
        events = seen.key_averages()
        waits = ("aten::item", "aten::_local_scalar_dense", "cudaStreamSynchronize", "aten::nonzero")
        busy = sum(e.self_device_time_total for e in events) / 1e6 / steps
        yield {
            "stage": stage, "seconds": seconds, "share that the card works": busy / seconds if on_card else None,
            "launches": sum(e.count for e in events if e.key.startswith("cudaLaunchKernel")) / steps,
            "operations": sum(e.count for e in events if e.key.startswith("aten::")) / steps,
            "waits": {name: sum(e.count for e in events if e.key == name) / steps for name in waits},
        }  # fmt: skip
        own = (lambda e: e.self_device_time_total) if on_card else (lambda e: e.self_cpu_time_total)
        for event in sorted(events, key=own, reverse=True)[:12]:
            yield {"stage": stage, "kernel": event.key[:120], "milliseconds": own(event) / 1e3 / steps,
                   "times": event.count / steps}  # fmt: skip


def bases(options: argparse.Namespace) -> Iterator[Row]:
    """Both embedded bases trained on at the same time, on the same renders; packed in pieces of under 16 MiB."""
    left = options.seconds - 15
    sizes = ["pictures=64", "autoencoder_pictures=64", "held_out=8", "chunk=16", "batch=8", "steps=2", "samples=1"]
    full = ["half=true", "compile=true", "batch=1024", "chunk=64", "samples=0"]
    cores = max(1, (os.cpu_count() or 1) - 3)
    running = {}
    for architecture, workers in (("dit", cores), ("unet", 0)):
        folder = options.output / architecture
        settings = [f"architecture={architecture}", "autoencoder_steps=0", *(sizes if options.tiny else full)]
        command = [
            sys.executable, "-m", "magictailor.world.training", "--output", str(folder), "--device", options.device,
            "--start", "embedded", *(x for s in settings for x in ("--set", s)), "--pack", f"{folder}-packed",
            "--renders", str(options.output / "renders"), "--workers", str(workers),
            *([] if options.tiny else ["--minutes", f"{left / 60:.2f}"]),
        ]  # fmt: skip
        running[architecture] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for architecture, process in running.items():
        output, _ = process.communicate(timeout=left + 60)
        last = (output.strip().splitlines() or [""])[-1]
        yield {"architecture": architecture, "exit": process.returncode, "last line": last[:300]}


PARTS = {p.__name__: p for p in (correct, step, variants, memory, pair, profile, bases)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    for row in PARTS[options.part](options):
        rounded = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}
        print(json.dumps(rounded), flush=True)


if __name__ == "__main__":
    main()
