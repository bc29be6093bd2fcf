"""Seconds from `magictailor studio --demo` to the first previews of a training with the default recipe.

    python benchmarks/studio_start.py --output DIR

The request that the page's button sends is sent as soon as the server answers. Exit code 1 if it takes a minute.
"""

import argparse
import json
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from studio_pages import served


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    began = time.monotonic()
    with served(options.output, "--demo") as (page, _):
        address = urlsplit(page)
        base, token = f"http://{address.netloc}/api", address.query.removeprefix("token=")
        headers = {"Authorization": f"Bearer {token}", "x-studio": "1", "Content-Type": "application/json"}

        def ask(path: str, body: object = None) -> object:
            content = None if body is None else json.dumps(body).encode()
            with urllib.request.urlopen(urllib.request.Request(base + path, content, headers)) as answer:
                return json.load(answer)

        pair = ask("/pairs")[0]["id"]  # type: ignore[index]
        opened = time.monotonic() - began
        job = ask("/jobs", {"spec": {"kind": "train", "pair": pair}})["id"]  # type: ignore[index]
        try:
            while not ask(f"/jobs/{job}/previews"):
                time.sleep(0.1)
            took = time.monotonic() - began
        finally:
            ask(f"/jobs/{job}/stop", {})
            while ask(f"/jobs/{job}")["state"] in ("running", "stopping"):  # type: ignore[index]
                time.sleep(0.2)
    print(f"the page is ready after {opened:.1f} s, the first previews after {took:.1f} s")
    sys.exit(took >= 60)


if __name__ == "__main__":
    main()
