"""Images with a record of how each was made, and their files."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4
from zlib import crc32

from PIL import Image

from magictailor.common.pictures import fit_cell, grid, save_png

CELL, MOST_ROWS, MOST_COLUMNS = 128, 100, 50  # of the contact sheet: pixels, prompts, images of each


@dataclass(frozen=True)
class Record:
    """What an image is, keyed by (pair, prompt, seed, method)."""

    pair: str
    prompt: str
    seed: int
    method: str
    model: str
    steps: int
    guidance: float
    scheduler: str
    attached: Mapping[str, Any] = field(default_factory=dict)  # what joined in, by name, with digests
    trained: str = ""  # the digest of what the run and its community LoRAs change in the base
    precision: str = ""
    emphasis: float | None = None  # of components; None for none

    def metadata(self) -> dict[str, str]:
        """As texts; what is empty is left out."""
        kept = {k: v if isinstance(v, str) else json.dumps(v) for k, v in asdict(self).items()}
        return {name: text for name, text in kept.items() if text not in ("", "{}", "null")}


@dataclass(frozen=True)
class Generated:
    """An image and its record."""

    image: Image.Image
    record: Record


def slug(prompt: str) -> str:
    """A prompt as a file's name; two prompts may have the same."""
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:80] or "prompt"


def image_name(prompt: str, seed: int) -> str:
    """A file's name that no other (prompt, seed) has."""
    return f"{slug(prompt)}-{crc32(prompt.encode()):08x}-{seed}.png"


def _written(path: Path) -> dict[str, str]:
    """The texts in a PNG file; none if there is no such file or it is another kind of file."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            image.load()
            return {key: text for key, text in getattr(image, "text", {}).items() if isinstance(text, str)}
    except (OSError, SyntaxError, ValueError):
        return {}


def _own_file(folder: Path, stem: str, metadata: Mapping[str, str], end: str = "") -> Path:
    """A name that is free, or whose file says the same: nothing else is written over."""
    number = crc32(repr(sorted(metadata.items())).encode())
    for name in (stem, f"{stem}-{number:08x}"):
        path = folder / f"{name}{end}.png"
        if not os.path.lexists(path) or _written(path) == dict(metadata):
            return path
    return folder / f"{stem}-{number:08x}-{uuid4().hex[:8]}{end}.png"


def save_images(images: Iterator[Generated], folder: Path) -> list[Path]:
    """PNGs with their records in their metadata, and a contact sheet of all (as many as fit) in ``folder``.

    A file with other settings is never written over: then the new image gets another name.
    """
    rows: dict[str, list[Image.Image]] = {}
    paths: list[Path] = []
    for item in images:
        metadata = item.record.metadata()
        path = _own_file(folder, slug(item.record.prompt), metadata, f"-{item.record.seed}")
        if path in paths:  # asked for twice
            continue
        save_png(item.image, path, metadata)
        paths.append(path)
        row = rows.setdefault(item.record.prompt, []) if len(rows) < MOST_ROWS else rows.get(item.record.prompt, [])
        if len(row) < MOST_COLUMNS:
            row.append(fit_cell(item.image.convert("RGB"), CELL))
    content = sha256("\n".join(path.name for path in paths).encode()).hexdigest()
    sheet = _own_file(folder, "sheet", {"images": content})
    save_png(grid(list(rows.values()), row_titles=list(rows), cell=CELL), sheet, {"images": content})
    return paths
