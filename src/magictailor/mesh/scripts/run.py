"""python run.py REQUEST: run one backend's ``load`` and ``make``, and write the mesh that they give.

Exits with 3 if something is not installed, and with 4 if the weights cannot be loaded; the last line on stderr says why.
"""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

from PIL import Image

NOT_INSTALLED, NOT_LOADED = 3, 4


def _stop(code: int, error: Exception) -> None:
    print(f"\n{' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
    sys.exit(code)


def main(request: dict[str, Any]) -> None:
    sys.path[0] = request["checkout"]  # instead of this folder, as if a script of theirs were run
    backend = runpy.run_path(request["script"])
    try:
        loaded = backend["load"](Path(request["checkout"]), request["model"], request["device"])
    except ImportError as error:
        _stop(NOT_INSTALLED, error)
    except Exception as error:  # no network, no such name, damaged files: other people's code raises anything
        _stop(NOT_LOADED, error)
    mesh = backend["make"](loaded, Image.open(request["picture"]), request["seed"], request["steps"])
    mesh.export(request["output"], file_type="glb")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text("utf-8")))
