"""A run's state: saved so that an interrupted run equals an uninterrupted one, and the result of a finished one."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from magictailor.backbones.contract import Backbone
from magictailor.common.errors import InputError
from magictailor.common.files import new_folder
from magictailor.common.headers import LORA_CONFIG
from magictailor.common.tensors import (
    optimizer_tensors,
    prefixed,
    read_metadata,
    read_tensors,
    restore_optimizer,
    unprefixed,
    write_tensors,
)
from magictailor.training.momentum import Momentum
from magictailor.training.run_folder import (
    LORA_FILE,
    RETRAIN_FIX,
    STATE_FILE,
    WEIGHTS_FILE,
    WORDS_FILE,
    RunInfo,
    checkpoint_folder,
    write_run,
)
from magictailor.training.trainables import MATRIX, WORDS, Trainables

NUMBERS = (bool, int, float)


@dataclass
class State:
    """All that changes during a run. ``step``: the number of steps done."""

    trained: Trainables
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    momentum: Momentum | None = None
    step: int = 0
    seconds: float = 0.0
    saved_at: float = field(default_factory=time.monotonic)
    save_seconds: float = 0.0  # of the last checkpoint

    def save(self, folder: Path) -> None:
        began = time.monotonic()
        groups = [{k: v for k, v in g.items() if isinstance(v, NUMBERS)} for g in self.optimizer.param_groups]
        tensors = prefixed("trained", self.trained.named()) | prefixed("optimizer", optimizer_tensors(self.optimizer))
        if self.momentum is not None:
            tensors |= prefixed("momentum", self.momentum.weights)
        copies = int(self.momentum is not None and self.momentum.copies_next)
        numbers = {"step": self.step, "copies_next": copies, "seconds": self.seconds}
        texts = {k: repr(v) for k, v in numbers.items()}
        texts |= {"scaler": json.dumps(self.scaler.state_dict()), "groups": json.dumps(groups)}
        write_tensors(folder / STATE_FILE, tensors, texts)
        self.saved_at = time.monotonic()
        self.save_seconds = self.saved_at - began

    def restore(self, folder: Path) -> None:
        """The last checkpoint in ``folder``, if there is one, with the momentum network if it had started."""
        path = folder / STATE_FILE
        if not path.exists():
            return
        numbers, tensors, online = read_metadata(path), read_tensors(path), self.trained.online
        self._check(path, tensors)
        try:
            self.trained.restore(unprefixed("trained", tensors))
            restore_optimizer(self.optimizer, unprefixed("optimizer", tensors))
            for group, kept_numbers in zip(self.optimizer.param_groups, json.loads(numbers["groups"]), strict=True):
                group.update(kept_numbers)  # prodigy's estimate of the rate is among them
            kept = {n: t.to(online[n].device) for n, t in unprefixed("momentum", tensors).items()}
            self.momentum = Momentum(kept, bool(int(numbers["copies_next"]))) if kept else None
            if self.scaler.is_enabled():
                self.scaler.load_state_dict(json.loads(numbers["scaler"]))
            self.step, self.seconds = int(numbers["step"]), float(numbers["seconds"])
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise InputError(f"{path}: damaged ({error!r})", RETRAIN_FIX) from error
        if self.step < 0 or not 0 <= self.seconds < float("inf"):
            raise InputError(f"{path}: damaged (step {self.step} after {self.seconds} seconds)", RETRAIN_FIX)

    def _check(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        """Raises InputError for weights of other names or shapes than this run trains."""
        for prefix, weights in (("trained", self.trained.named()), ("momentum", self.trained.online)):
            found = unprefixed(prefix, tensors)
            if prefix == "momentum" and not found:
                continue
            if {n: t.shape for n, t in found.items()} != {n: p.shape for n, p in weights.items()}:
                raise InputError(f"{path}: damaged ({prefix} weights of another run)", RETRAIN_FIX)


def save_result(folder: Path, backbone: Backbone, trained: Trainables) -> None:
    """What a finished run is loaded from: the LoRA as diffusers loads it, embeddings of pseudo-words, trained weights of the base."""
    from peft import get_peft_model_state_dict

    if trained.lora:
        weights = get_peft_model_state_dict(backbone.denoiser, save_embedding_layers=False)
        denoiser: Any = backbone.denoiser
        part = backbone.denoiser_part
        config = {f"{part}.{k}": v for k, v in denoiser.peft_config["default"].to_dict().items()}
        # Without this metadata diffusers loses alpha silently.
        header = {"format": "pt", LORA_CONFIG: json.dumps(config, sort_keys=True, default=sorted)}
        write_tensors(folder / LORA_FILE, prefixed(part, weights), header)
    words = prefixed(WORDS, trained.words) | prefixed(MATRIX, trained.matrices)
    if words:
        write_tensors(folder / WORDS_FILE, words)
    if trained.weights:
        write_tensors(folder / WEIGHTS_FILE, trained.weights)


def keep_checkpoint(folder: Path, info: RunInfo, state: State, backbone: Backbone) -> None:
    """Keep the result so far as a run of its own, see `checkpoint_folder`; one that is there already has the same bytes."""
    kept = checkpoint_folder(folder, state.step)
    if kept.exists():
        return
    with new_folder(kept) as work:
        save_result(work, backbone, state.trained)
        write_run(work, info, state.seconds, finished=True)
