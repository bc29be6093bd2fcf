"""What both trainings share: rates, the average of weights, and state that survives an interruption."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from magictailor.errors import InputError
from magictailor.files import output_folder, write_json
from magictailor.recipe import Part
from magictailor.tensors import optimizer_tensors, prefixed, read_tensors, restore_optimizer, unprefixed, write_tensors

SAVE_SECONDS = 60


def rate(step: int, steps: int, peak: float, warmup: int = 200, decay: float = 0.3) -> float:
    """Linear warm-up, a plateau, then linear decay to 2 % over the last ``decay`` of the steps.

    The plateau does not depend on ``steps``: a run can be prolonged while it lasts.
    """
    left = (steps - step) / max(1.0, decay * steps)
    return peak * min(1.0, (step + 1) / warmup, max(left, 0.02))


def claim_folder(folder: Path, recipe: Part, changeable: Sequence[str] = ("steps",)) -> Path:
    """Make ``folder`` this training's, or check that it is; of its recipe only what is ``changeable`` may differ.

    Raises:
        InputError: the folder holds other files or another training.
    """
    folder, mark = output_folder(folder), folder / "recipe.json"
    if folder.exists() and any(folder.iterdir()):
        kept = json.loads(mark.read_text("utf-8")) if mark.is_file() else {}
        new = recipe.model_dump(mode="json")
        differs = [k for k, v in new.items() if k not in changeable and kept.get(k) != v]
        if differs:
            raise InputError(f"--output {folder}: holds something else ({', '.join(differs)}); choose another folder")
    write_json(mark, recipe.model_dump(mode="json"))
    return folder


class Trainee:
    """Networks in training, their optimizer and the running average of their weights."""

    def __init__(self, modules: Sequence[nn.Module], path: Path, peak: float, ema: float, steps: int) -> None:
        self.modules, self.path, self.peak, self.ema, self.steps = modules, path, peak, ema, steps
        self.step = 0
        self.parameters = [p for m in modules for p in m.parameters()]
        fused = self.parameters[0].device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.AdamW(self.parameters, lr=peak, betas=(0.9, 0.99), fused=fused)
        self.average = [p.detach().clone() for p in self.parameters]
        self._saved = time.monotonic()
        if path.exists():
            self._load(read_tensors(path))

    def _load(self, state: dict[str, Tensor]) -> None:
        self.step = int(state["step"])
        with torch.no_grad():
            for i, (p, a) in enumerate(zip(self.parameters, self.average, strict=True)):
                p.copy_(state[f"weights.{i}"])
                a.copy_(state[f"average.{i}"])
        restore_optimizer(self.optimizer, unprefixed("optimizer", state))

    def save(self) -> None:
        state: dict[str, Tensor] = {f"weights.{i}": p for i, p in enumerate(self.parameters)}
        state |= {f"average.{i}": a for i, a in enumerate(self.average)}
        state |= prefixed("optimizer", optimizer_tensors(self.optimizer))
        write_tensors(self.path, {**state, "step": torch.tensor(self.step)})
        self._saved = time.monotonic()

    def update(self, loss: Tensor) -> None:
        """One step on this loss. A loss that is not finite stops the run before the step."""
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss at step {self.step} is not finite; lower the rate")
        for group in self.optimizer.param_groups:
            group["lr"] = rate(self.step, self.steps, self.peak)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        weight = 1 - min(self.ema, self.step / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, list[Tensor](self.parameters), weight)
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self.save()

    def swap(self) -> None:
        """Exchange the weights and their average; a second call undoes the first."""
        with torch.no_grad():
            for p, a in zip(self.parameters, self.average, strict=True):
                kept = p.clone()
                p.copy_(a)
                a.copy_(kept)


def generator(seed: int, step: int, device: str = "cpu") -> torch.Generator:
    """Random numbers that depend on (seed, step) alone."""
    return torch.Generator(device).manual_seed(seed * 10_000_019 + step)


Report = Callable[[int, int, dict[str, float]], None]
