"""The header of a safetensors file, checked before anything else of the file is read. Needs no torch."""

import json
import math
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from magictailor.common.errors import InputError
from magictailor.common.opening import open_regular

MAX_HEADER = 32 * 2**20  # bytes; files of other tools list their captions in it
MAX_TENSORS, MAX_DIMENSIONS = 200_000, 8
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
    "C64": 64,
}  # fmt: skip
FLOATS = {"F16": "<e", "F32": "<f", "F64": "<d"}
# Keys of metadata, and the beginning of a tensor's name.
LORA_CONFIG = "lora_adapter_metadata"  # peft's configuration of a LoRA, as diffusers keeps it
WORD = "magictailor.word"  # the pseudo-word of an exported embedding
BUNDLE = "bundle_emb."  # an embedding in a LoRA file of kohya's


@dataclass(frozen=True)
class Entry:
    """One tensor. ``begin``, ``end``: its bytes, from the file's start."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """All tensors by name, and the header's strings."""

    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: entry.shape for name, entry in self.entries.items()}


class _Damaged(ValueError):
    """What is wrong with a file; `read_header` says which file."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) < len(pairs):
        raise _Damaged("its header has a name twice")
    return named


def _entry(name: str, value: Any, first: int) -> Entry:
    try:
        dtype, shape, (begin, end) = value["dtype"], value["shape"], value["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise _Damaged(f"its header says nothing about the tensor {name!r}") from None
    if dtype not in BITS:
        raise _Damaged(f"the tensor {name!r} is of an unknown type ({dtype!r})")
    numbers = [*shape, begin, end] if isinstance(shape, list) else [None]
    if len(numbers) > MAX_DIMENSIONS + 2 or any(type(n) is not int or n < 0 for n in numbers):
        raise _Damaged(f"the tensor {name!r} has an impossible shape")
    if end - begin != -(-math.prod(shape) * BITS[dtype] // 8):
        raise _Damaged(f"the tensor {name!r} has {end - begin} bytes, and its shape asks for another number")
    return Entry(dtype, tuple(shape), first + begin, first + end)


def _parse(file: BinaryIO) -> Header:
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise _Damaged("empty")
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise _Damaged("cut short, or not safetensors")
    if length > MAX_HEADER:
        raise _Damaged(f"its header has {length // 2**20} MB, and {MAX_HEADER // 2**20} are the most")
    try:
        tree = json.loads(file.read(length), object_pairs_hook=_unique)
    except _Damaged:
        raise
    except (ValueError, RecursionError):
        raise _Damaged("not safetensors") from None
    if not isinstance(tree, dict):
        raise _Damaged("not safetensors")
    metadata = tree.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise _Damaged("its header's metadata are not all strings")
    if len(tree) > MAX_TENSORS:
        raise _Damaged(f"its header lists {len(tree)} tensors; at most {MAX_TENSORS} are allowed")
    entries = {name: _entry(name, value, 8 + length) for name, value in tree.items()}
    end = 8 + length
    for entry in sorted(entries.values(), key=lambda e: (e.begin, e.end)):
        if entry.begin != end:
            raise _Damaged("its tensors overlap or leave gaps")
        end = entry.end
    if end != size:
        raise _Damaged(f"{size} bytes, and its header describes {end}: cut short or changed")
    return Header(entries, metadata)


def read_header(path: Path | str, fix: str = "get the file again", *, field: str = "") -> Header:
    """What a file holds, by its header only.

    Args:
        fix: what to do about a file that cannot be used.
        field: the caller's name of the argument, for the error.

    Raises:
        InputError: no such file, a folder or a pipe, not safetensors, cut short, or a header that contradicts itself.
    """
    try:
        with open_regular(Path(path)) as file:
            return _parse(file)
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing", fix, field=field) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror})", fix, field=field) from error
    except ValueError as error:
        raise InputError(f"{path}: damaged or another kind of file ({error})", fix, field=field) from error


def read_scalars(path: Path, header: Header, names: Iterable[str]) -> dict[str, float]:
    """The values of tensors of one number each; others are left out."""
    found = {}
    with open_regular(path) as file:
        for name in names:
            entry = header.entries[name]
            if math.prod(entry.shape) != 1 or entry.dtype not in (*FLOATS, "BF16", "I64", "I32"):
                continue
            file.seek(entry.begin)
            data = file.read(entry.end - entry.begin)
            if entry.dtype == "BF16":  # the upper half of a float32
                found[name] = float(struct.unpack("<f", b"\0\0" + data)[0])
            elif entry.dtype in FLOATS:
                found[name] = float(struct.unpack(FLOATS[entry.dtype], data)[0])
            else:
                found[name] = float(int.from_bytes(data, "little", signed=True))
    return found
