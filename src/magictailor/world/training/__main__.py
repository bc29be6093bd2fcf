"""``python -m magictailor.world.training``: the whole training, with only those packages that a GPU machine needs."""

import argparse
import os
import time
from pathlib import Path

FIELDS = ("minutes", "start", "steps", "pictures", "seed")  # of the recipe, as options of their own


def main() -> None:
    """Read options and train; fields of the recipe that are not given have the device's values."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(
        description="Train the embedded base. After an interruption, run the same command again."
    )
    parser.add_argument("--output", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pack", help="folder for all results as pieces under 16 MiB")
    parser.add_argument("--renders", type=Path, help="folder for renders, which another training may share")
    parser.add_argument("--workers", type=int, help="rendering processes; 0: the other training renders")
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of the recipe")
    for field in FIELDS:
        parser.add_argument(f"--{field}")
    given = vars(parser.parse_args())

    import json

    import torch

    from magictailor.common.events import Event, Notice, Progress
    from magictailor.world.training import WorldTraining, train_world

    values = {}
    if given["device"].startswith("cuda"):
        values = {
            "pictures": 600_000, "autoencoder_pictures": 160_000, "held_out": 512, "autoencoder_batch": 256,
            "batch": 512, "save_seconds": 45, "captions": 8,
        }  # fmt: skip
    values |= {field: given[field] for field in FIELDS if given[field] is not None}
    values |= dict(pair.split("=", 1) for pair in given["set"])
    if given["threads"]:
        torch.set_num_threads(given["threads"])

    def listen(event: Event) -> None:
        match event:
            case Progress() if event.metrics or event.done == event.total:
                row = json.dumps({k: round(v, 4) for k, v in event.metrics.items()})
                print(f"{time.monotonic() - started:7.1f} s  {event.task} {event.done} {row}", flush=True)
            case Notice():
                print(event.text, flush=True)

    recipe = WorldTraining.model_validate(values)
    packed = Path(given["pack"]) if given["pack"] else None
    base = train_world(
        Path(given["output"]), recipe, given["device"], listen=listen, started=started, packed=packed,
        renders=given["renders"], workers=given["workers"],
    )  # fmt: skip
    print(f"{time.monotonic() - started:7.1f} s  the base is in {base}", flush=True)
    os._exit(0)  # a worker that still renders must not delay the end


if __name__ == "__main__":
    main()
