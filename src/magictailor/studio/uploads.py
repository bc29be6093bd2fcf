"""What people upload: checked for size and kind, and decoded in a process of its own."""

import json
import os
import re
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from magictailor.common.errors import InputError
from magictailor.studio.decode import decode_mask, decode_photo

MAX_BYTES = 64 * 2**20
SECONDS = 60  # a decoder that takes longer is ended
_SLOTS = threading.BoundedSemaphore(2)  # decoders at a time
BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF", b"BM", b"II*\x00", b"MM\x00*")


@contextmanager
def decoded(
    kind: Literal["photo", "mask"], content: bytes, *, trusted: bool = False
) -> Iterator[tuple[dict[str, Any], Path]]:
    """What `decode` says of the content, and the folder of what it wrote, which is gone after the block.

    Args:
        trusted: our own image, which is decoded here and at once.

    Raises:
        InputError: too large, not an image, or one that the decoder refused or died of.
    """
    if len(content) > MAX_BYTES:
        raise InputError(f"the file has more than {MAX_BYTES // 2**20} MB", "scale the image down first")
    if not content.startswith(BEGINNINGS):
        raise InputError("not an image that can be read here", "save it as JPEG, PNG or WebP")
    with TemporaryDirectory(prefix="magictailor-upload-") as name:
        folder = Path(name)
        (folder / "source").write_bytes(content)
        if trusted:
            yield (decode_photo if kind == "photo" else decode_mask)(folder / "source", folder), folder
        else:
            yield _run(kind, folder), folder


def _run(kind: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "magictailor.studio.decode", kind, str(folder / "source"), str(folder)]
    few = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # each thread takes address space
    refused = InputError("the image could not be decoded", "save it again as JPEG or PNG")
    with _SLOTS:
        try:
            ended = subprocess.run(
                command, capture_output=True, timeout=SECONDS, check=False, env={**os.environ, **few}
            )
        except subprocess.TimeoutExpired as error:
            raise refused from error
    try:
        found: dict[str, Any] = json.loads(ended.stdout)
    except ValueError as error:  # it died: out of memory, out of time, or a fault of a decoder
        raise refused from error
    if "problem" in found:
        raise InputError(found["problem"], found["fix"])
    return found


def stem_of(filename: str) -> str:
    """A plain stem for a file that a user names: ``ada-1`` of ``C:\\fotos\\Ada 1.JPG``."""
    last = re.split(r"[/\\]", filename)[-1]
    base = last.rpartition(".")[0] or last
    plain = unicodedata.normalize("NFKD", base).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-").lower()[:40] or "photo"
