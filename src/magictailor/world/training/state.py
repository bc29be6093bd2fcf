"""What both trainings share: the schedule, the average of weights, and state that survives an interruption."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from magictailor.common.errors import InputError
from magictailor.common.files import output_folder, write_json
from magictailor.common.tensors import (
    optimizer_tensors,
    prefixed,
    read_tensors,
    restore_optimizer,
    unprefixed,
    write_tensors,
)
from magictailor.recipe import Part
from magictailor.world.training.optimisers import is_matrix, new_optimisers

Report = Callable[[int, int, dict[str, float]], None]
Progress = Callable[[int], float]  # from the number of steps done to the share of the training done, 1 at its end


def lr_scale(step: int, done: float, warmup: int = 200, decay: float = 0.25) -> float:
    """Linear warm-up over ``warmup`` steps, a plateau, then linear decay to 0 over the last ``decay`` of the training.

    ``done``: the share of the training that is done, 0 .. 1.
    """
    return min(1.0, (step + 1) / warmup, max(0.0, (1 - done) / decay))


def generator(seed: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Random numbers that depend on (seed, step) alone, for tensors on ``device``."""
    return torch.Generator(device).manual_seed(seed * 10_000_019 + step)


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


class Clock:
    """Seconds of this training over all its sessions, and when each phase began. ``path`` keeps both."""

    def __init__(self, path: Path, minutes: float | None, started: float) -> None:
        self.path, self.limit, self.started = path, minutes and minutes * 60, started
        kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
        self.before: float = kept.get("seconds", 0.0)
        self.began: dict[str, float] = kept.get("began", {})

    def seconds(self) -> float:
        return self.before + time.monotonic() - self.started

    def left(self) -> float:
        """Seconds until the limit; infinite without one."""
        return float("inf") if self.limit is None else self.limit - self.seconds()

    def begin(self, phase: str) -> float:
        """When this phase began, in this session or an earlier one."""
        began = self.began.setdefault(phase, round(self.seconds(), 2))
        self.save()
        return began

    def save(self) -> None:
        write_json(self.path, {"seconds": round(self.seconds(), 2), "began": self.began})


class Trainee:
    """Networks in training, their optimisers and the running average of their weights.

    Args:
        path: where its state is kept; what an earlier session left there is read.
        progress: the share of the training done, from the number of steps done.
        half: run the networks in bfloat16, beside single-precision weights that the optimisers change.
        moments: whether the kept state holds the optimisers' (a session goes on exactly as if never interrupted).
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        path: Path,
        lr: float,
        ema: float,
        progress: Progress,
        *,
        warmup: int = 200,
        decay: float = 0.25,
        half: bool = False,
        moments: bool = True,
    ) -> None:
        self.path, self.lr, self.ema, self.progress, self.warmup, self.decay = path, lr, ema, progress, warmup, decay
        self.half, self.moments, self.step = half, moments, 0
        named = [(f"{i}.{n}", p) for i, module in enumerate(modules) for n, p in module.named_parameters()]
        self.names = [name for name, _ in named]
        self.weights: list[Tensor] = [p.detach().clone().float() if half else p for _, p in named]
        if half:
            for module in modules:
                module.to(torch.bfloat16)
        self.parameters: list[Tensor] = [p for module in modules for p in module.parameters()]
        large = [is_matrix(w) and "embedding" not in n for n, w in zip(self.names, self.weights, strict=True)]
        matrices = [w for w, yes in zip(self.weights, large, strict=True) if yes]
        others = [w for w, yes in zip(self.weights, large, strict=True) if not yes]
        self.optimisers = new_optimisers(matrices, others, lr)
        self.average = [w.detach().clone() for w in self.weights]
        if path.exists():
            self._load(read_tensors(path))

    def done(self) -> bool:
        return self.progress(self.step) >= 1

    def _load(self, state: dict[str, Tensor]) -> None:
        self.step = int(state["step"])
        with torch.no_grad():
            for name, w, a, p in zip(self.names, self.weights, self.average, self.parameters, strict=True):
                w.copy_(state[f"weights.{name}"])
                a.copy_(state[f"average.{name}"])
                if self.half:
                    p.copy_(w)
        for i, (optimiser, _) in enumerate(self.optimisers):
            if kept := unprefixed(f"optimiser{i}", state):
                restore_optimizer(optimiser, kept)

    def save(self) -> None:
        state: dict[str, Tensor] = {f"weights.{n}": w for n, w in zip(self.names, self.weights, strict=True)}
        state |= {f"average.{n}": a for n, a in zip(self.names, self.average, strict=True)}
        for i, (optimiser, _) in enumerate(self.optimisers if self.moments else ()):
            state |= prefixed(f"optimiser{i}", optimizer_tensors(optimiser))
        write_tensors(self.path, {**state, "step": torch.tensor(self.step)})

    def update(self, loss: Tensor) -> None:
        """One step on this loss. Nothing waits for the accelerator: `check` looks at the loss now and then."""
        scale = lr_scale(self.step, self.progress(self.step), self.warmup, self.decay)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.half:
            for weight, parameter in zip(self.weights, self.parameters, strict=True):
                weight.grad = None if parameter.grad is None else parameter.grad.float()
                parameter.grad = None
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        for optimiser, lr in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = lr * scale
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.weights, 1 - min(self.ema, self.step / (self.step + 10)))
            if self.half:
                torch._foreach_copy_(self.parameters, self.weights)

    def check(self, loss: Tensor) -> float:
        """The loss as a number; waits for the accelerator.

        Raises:
            FloatingPointError: it is not finite.
        """
        value = loss.item()
        if value != value or value in (float("inf"), float("-inf")):
            raise FloatingPointError(f"the loss at step {self.step} is not finite; lower the learning rate")
        return value

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the networks have the averaged weights."""
        with torch.no_grad():
            kept = [p.detach().clone() for p in self.parameters]
            torch._foreach_copy_(self.parameters, self.average)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, kept)

    def state_dict(self, module: int, *, average: bool) -> dict[str, Tensor]:
        """Weights of one of the networks by its own names, single precision, on the CPU."""
        source = self.average if average else self.weights
        mark = f"{module}."
        return {
            name[len(mark) :]: value.detach().float().cpu()
            for name, value in zip(self.names, source, strict=True)
            if name.startswith(mark)
        }
