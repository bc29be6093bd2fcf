"""``python -m magictailor.world.training``: the whole training with what a card's machine needs, and nothing else."""

import argparse
import os
import time


def main() -> None:
    """Read options and train; fields of the recipe that are not given have the device's values."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(description="Train the embedded base. The same command goes on after a kill.")
    parser.add_argument("--output", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pack", help="folder for all results as pieces under 16 MiB")
    parser.add_argument("--threads", type=int, help="of a CPU")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of the recipe")
    for field in ("minutes", "start", "steps", "pictures", "seed"):
        parser.add_argument(f"--{field}")
    given = vars(parser.parse_args())

    import json
    from pathlib import Path

    import torch

    from magictailor.world.training import WorldTraining, train_world

    values = {}
    if given["device"].startswith("cuda"):
        values = {
            "pictures": 600_000, "autoencoder_pictures": 160_000, "held_out": 512, "autoencoder_batch": 256,
            "batch": 512, "save_seconds": 45, "captions": 8,
        }  # fmt: skip
    values |= {k: given[k] for k in ("minutes", "start", "steps", "pictures", "seed") if given[k] is not None}
    for pair in given["set"]:
        name, value = pair.split("=", 1)
        values[name] = value
    if given["threads"]:
        torch.set_num_threads(given["threads"])

    def watch(phase: str, step: int, steps: int, metrics: dict[str, float]) -> None:
        if metrics or step == steps:
            row = {k: round(v, 4) for k, v in metrics.items()}
            print(f"{time.monotonic() - started:7.1f} s  {phase} {step} {json.dumps(row)}", flush=True)

    recipe = WorldTraining.model_validate(values)
    packed = Path(given["pack"]) if given["pack"] else None
    base = train_world(Path(given["output"]), recipe, given["device"], watch, started=started, packed=packed)
    print(f"{time.monotonic() - started:7.1f} s  the base is in {base}", flush=True)
    os._exit(0)  # a worker that still draws must not delay the end


if __name__ == "__main__":
    main()
