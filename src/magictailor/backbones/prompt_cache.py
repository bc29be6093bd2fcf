"""Prompts encoded once: in memory for a run, on disk for all runs on the same base."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from magictailor.common.cache import cache_folder
from magictailor.common.errors import InputError
from magictailor.common.files import output_folder
from magictailor.common.tensors import read_tensors, to_device, write_tensors

Encoded = dict[str, Tensor]
MASK = "mask"


class PromptCache:
    """``encode``: texts to tensors [N, ...]. ``identity``: of all that a text's tensors depend on; empty: not on disk."""

    def __init__(self, encode: Callable[[Sequence[str]], Encoded], identity: Callable[[str], str]) -> None:
        self._encode, self._identity = encode, identity
        self._kept: dict[str, Encoded] = {}

    def get(
        self, texts: Sequence[str], device: torch.device, with_encoders: Callable[[], AbstractContextManager[None]]
    ) -> Encoded:
        """The texts' tensors [N, ...] on ``device``, padded to the longest; encoders are needed only for new texts."""
        new = [text for text in dict.fromkeys(texts) if text not in self._kept and not self._read(text)]
        if new:
            with with_encoders():
                for text in new:  # one at a time: in a batch of another size it might differ by a rounding
                    self._kept[text] = {k: v.detach().cpu() for k, v in self._encode([text]).items()}
            for text in new:
                self._write(text)
        return {k: to_device(v, device) for k, v in joined([self._kept[text] for text in texts]).items()}

    def _file(self, text: str) -> Path | None:
        if not (identity := self._identity(text)):
            return None
        name = sha256(f"{identity}\n{text}".encode()).hexdigest()[:24]
        return cache_folder() / "prompts" / f"{name}.safetensors"

    def _read(self, text: str) -> bool:
        if (file := self._file(text)) is None:
            return False
        try:
            self._kept[text] = read_tensors(file)
        except InputError:  # not there, or damaged: encode it again
            return False
        return True

    def _write(self, text: str) -> None:
        if (file := self._file(text)) is None:
            return
        try:
            output_folder(file.parent)
            write_tensors(file, self._kept[text])
        except (OSError, InputError):  # a cache that cannot be written costs time, nothing else
            return


def joined(rows: Sequence[Mapping[str, Tensor]]) -> Encoded:
    """Rows of [1, ...] as one; those with a mask are padded with zeros to the longest."""
    if MASK not in rows[0]:
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    length = max(row[MASK].shape[1] for row in rows)

    def padded(tensor: Tensor) -> Tensor:
        filled = tensor.new_zeros(1, length, *tensor.shape[2:])
        filled[:, : tensor.shape[1]] = tensor
        return filled

    return {name: torch.cat([padded(row[name]) for row in rows]) for name in rows[0]}
