"""The server's side of `suggest`: one process, started when it is needed and ended when it is idle."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from magictailor.common.errors import InputError

IDLE = 300.0  # seconds
WAIT = 600.0  # for one answer: models are loaded, on a slow disk
# What each name needs: weights at the hub, and what may be done with it. Repeated from `magictailor.segmentation`, which imports torch.
WEIGHTS: Mapping[str, tuple[str, ...]] = {
    "embedded": (),
    "clipseg": ("CIDAS/clipseg-rd64-refined",),
    "dino+sam": ("IDEA-Research/grounding-dino-tiny", "facebook/sam-vit-base"),
    "dino+sam2": ("IDEA-Research/grounding-dino-tiny", "facebook/sam2.1-hiera-small"),
    "sam3": ("facebook/sam3",),  # reads words, and takes clicks
    "sam": ("facebook/sam-vit-base",),
    "sam2": ("facebook/sam2.1-hiera-small",),
}
SUMMARIES = {
    "embedded": "knows the world's characters, nothing else",
    "clipseg": "small and coarse",
    "dino+sam": "the paper's way",
    "dino+sam2": "the paper's way, with SAM 2",
    "sam3": "reads words itself",
    "sam": "clicks",
    "sam2": "clicks",
    "grabcut": "what stands out in a box or around clicks",
}
BY_WORDS = ("embedded", "clipseg", "dino+sam", "dino+sam2", "sam3")
BY_CLICKS = ("embedded", "grabcut", "sam", "sam2", "sam3")


def _in_cache(repository: str) -> bool:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    return any((cache / f"models--{repository.replace('/', '--')}" / "snapshots").glob("*"))


def models() -> list[dict[str, Any]]:
    """Every model by name: whether it takes words, boxes or clicks, whether it is installed, and what it lacks."""
    found = []
    for name in dict.fromkeys((*BY_WORDS, *BY_CLICKS)):
        if name == "grabcut":
            missing = "" if find_spec("cv2") else "pip install 'magictailor[masks]'"
        else:
            absent = [repository for repository in WEIGHTS[name] if not _in_cache(repository)]
            missing = f"hf download {absent[0]}" if absent else ""
        takes = [kind for kind, names in (("words", BY_WORDS), ("clicks", BY_CLICKS)) if name in names]
        takes += ["box"] if name == "grabcut" else []
        found.append({"name": name, "summary": SUMMARIES[name], "takes": takes, "missing": missing})
    return found


class MaskSuggester:
    """Asks the process for masks, one at a time; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._timer: threading.Timer | None = None

    def mask(self, photo: Path, **request: Any) -> tuple[bytes, str]:
        """A PNG of the photo's size, and a note; ``request``: see `suggest`.

        Raises:
            InputError: nothing was found, or the process died.
        """
        with self._lock, TemporaryDirectory(prefix="magictailor-mask-") as folder:
            output = Path(folder) / "mask.png"
            answer = self._ask({"photo": str(photo), "output": str(output), **request})
            if "problem" in answer:
                raise InputError(answer["problem"], answer["fix"])
            return output.read_bytes(), answer["note"]

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._timer is not None:
            self._timer.cancel()
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = subprocess.Popen(
                [sys.executable, "-m", "magictailor.studio.suggest"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        guard = threading.Timer(WAIT, process.kill)
        guard.start()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            answer: dict[str, Any] = json.loads(process.stdout.readline())
        except (OSError, ValueError) as error:
            self.close()
            raise InputError("the model's process ended", "try again, or another model") from error
        finally:
            guard.cancel()
            self._timer = threading.Timer(IDLE, self._rest)
            self._timer.daemon = True
            self._timer.start()
        return answer

    def _rest(self) -> None:
        """End the idle process, unless it is at work again."""
        if self._lock.acquire(blocking=False):
            try:
                self.close()
            finally:
                self._lock.release()
