"""Our training step against the same step written another way: seconds, peak memory, and equal gradients.

    python benchmarks/step.py                                   # an eighth of Stable Diffusion 2.1's widths, on the CPU
    python benchmarks/step.py --peer dreambooth                 # against diffusers' script; or fused, textual-inversion
    python benchmarks/step.py --width 1 --device cuda --precision bf16 --steps 20 --warm 5 --rounds 2 --peak-tflops 989
    python benchmarks/step.py --family sdxl --way ours --width 1 --device cuda --precision bf16 --steps 10 \
        --set optimisation.micro_batch=2 optimisation.checkpointing=true

`ways.py` describes the peers. U-Net, autoencoder and text encoder have random weights of Stable Diffusion 2.1's shape, scaled
alike; 512 pixels, two samples of three images. First one process checks that losses and gradients are equal from identical
tensors; then both ways are timed in turn, each in a process of its own, so that a peak is its own.
"""

import argparse
import json
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bases import FAMILIES, base
from torch.utils.flop_counter import FlopCounterMode
from ways import PEERS, Ours

STAGES = {"warm-up": 0, "balance": 300}  # the first step of each


def stages(peer: str) -> list[str]:
    """Those of the peer's method that differ."""
    return list(STAGES) if PEERS[peer].method == "magictailor" else ["warm-up"]


def equal(options: argparse.Namespace) -> dict[str, float]:
    """The largest difference of losses and gradients between the two ways, relative to the gradients' own size."""
    worst, peer = {}, PEERS[options.peer]
    for stage in stages(options.peer):
        ours, step = Ours(base("sd2", options.width, options.device), peer.settings, peer.method), STAGES[stage]
        first, gradients = ours.backward(step), ours.gradients()
        ours.optimizer.zero_grad(set_to_none=True)
        other: Any = peer(ours)
        second, others = other.backward(step), other.gradients()
        size = max(float(g.abs().max()) for g in gradients.values())
        worst[f"{stage}, losses"] = max(abs(first[k] / second[k] - 1) for k in second)
        worst[f"{stage}, gradients"] = max(float((gradients[n] - others[n]).abs().max()) / size for n in gradients)
    return worst


def own_peak() -> int:
    """Bytes, of this process since its program began: what getrusage says is its parent's where that was larger."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def timed(options: argparse.Namespace) -> dict[str, float]:
    """Median seconds a step and the process's peak, of one way in one stage."""
    peer = PEERS[options.peer]
    backbone = base(options.family, options.width, options.device, options.precision, size=options.size)
    way: Any = Ours(backbone, [*peer.settings, *options.settings], peer.method)
    if options.way == "peer":
        way = peer(way)
    on_card = way.backbone.device.type == "cuda"
    first, seconds, flop = STAGES[options.stage], [], 0
    for number in range(options.warm + options.steps):
        started = time.monotonic()
        with FlopCounterMode(display=False) if number == 0 else nullcontext() as counter:
            way.backward(first + number)
        flop = counter.get_total_flops() if counter is not None else flop
        way.update(first + number)
        if on_card:
            torch.cuda.synchronize()
        seconds.append(time.monotonic() - started)
    peak = torch.cuda.max_memory_allocated() if on_card else own_peak()
    middle = float(np.median(seconds[options.warm :]))
    row = {"seconds": middle, "gigabytes": peak / 1e9, "tflop": flop / 1e12}
    return row | ({"utilisation": flop / 1e12 / middle / options.peak_tflops} if options.peak_tflops else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=tuple(PEERS), default="reference", help="what ours is compared with")
    parser.add_argument("--width", type=float, default=1 / 8, help="of Stable Diffusion 2.1's")
    parser.add_argument("--family", choices=FAMILIES, default="sd2", help="another than sd2 goes with --way ours")
    parser.add_argument("--size", type=int, help="of the images in pixels; default: the family's own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--warm", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="how often the two take turns")
    parser.add_argument(
        "--set", dest="settings", nargs="*", default=[], help="of the recipe, for instance optimisation.micro_batch=1"
    )
    parser.add_argument("--peak-tflops", type=float, help="of the hardware in this precision: adds the utilisation")
    parser.add_argument("--way", choices=("ours", "peer"), help="one way only, as JSON")
    parser.add_argument("--stage", choices=tuple(STAGES), default="warm-up")
    options = parser.parse_args()
    if options.way:
        print(json.dumps(timed(options)))
        return
    for name, difference in equal(options).items():
        print(f"{name}: largest relative difference {difference:.1e}", flush=True)
        assert difference < 1e-3, "the two ways differ"
    for stage in stages(options.peer):
        found: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
        for _ in range(options.rounds):
            for way, rows in found.items():
                command = [sys.executable, __file__, *sys.argv[1:], "--way", way, "--stage", stage]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                rows.append(json.loads(done.stdout.splitlines()[-1]))
        means = {w: {k: float(np.median([r[k] for r in rows])) for k in rows[0]} for w, rows in found.items()}
        for way, row in means.items():
            used = f", {row['utilisation']:.0%} of the hardware" if "utilisation" in row else ""
            print(
                f"{stage}, {way}: {row['seconds']:.2f} s a step, {1 / row['seconds']:.2f} a second, "
                f"peak {row['gigabytes']:.2f} GB, {row['tflop']:.2f} TFLOP a step{used}"
            )
        ratios = {k: means["peer"][k] / means["ours"][k] for k in ("seconds", "gigabytes")}
        print(
            f"{stage}: {ratios['seconds']:.1f} times as fast, {1 / ratios['gigabytes']:.2f} of the memory", flush=True
        )


if __name__ == "__main__":
    main()
