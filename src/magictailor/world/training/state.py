"""Shared by both trainings: the learning rate, averaged weights, and state that survives an interruption."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from magictailor.common.errors import InputError
from magictailor.common.files import is_empty, output_folder, remove_temporaries, write_json
from magictailor.common.locks import only_process
from magictailor.common.records import read_json
from magictailor.common.tensors import (
    optimizer_tensors,
    prefixed,
    read_tensors,
    restore_optimizer,
    unprefixed,
    write_tensors,
)
from magictailor.recipe import ConfigModel
from magictailor.world.training.optimizers import is_matrix, new_optimizers

METRICS_FILE = "metrics.jsonl"
Log = Callable[[int, Mapping[str, float]], None]  # of a step and its metrics
FractionDone = Callable[[int], float]  # the fraction of the training that is done after so many steps, 1 at its end


def lr_scale(step: int, fraction_done: float, warmup: int = 200, decay: float = 0.25) -> float:
    """Linear warm-up over ``warmup`` steps, a plateau, then linear decay to 0 over the last fraction ``decay``."""
    return min(1.0, (step + 1) / warmup, max(0.0, (1 - fraction_done) / decay))


def generator(seed: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Random numbers that depend only on (seed, step), for tensors on ``device``."""
    return torch.Generator(device).manual_seed(seed * 10_000_019 + step)


def autocast(device: torch.device, enabled: bool = True) -> torch.autocast:
    """Inside, a device other than the CPU computes in bfloat16. Most CPUs emulate it, which is slower."""
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled and device.type != "cpu")


@contextmanager
def acquired(folder: Path, recipe: ConfigModel, changeable: Sequence[str]) -> Iterator[Path]:
    """Inside, the folder is only this training's. Its recipe is in it; only ``changeable`` fields may differ from before.

    Raises:
        InputError: the folder holds other files or another training, or another process works in it.
    """
    folder = output_folder(folder)
    mark, new = folder / "recipe.json", recipe.model_dump(mode="json")
    if folder.exists() and not is_empty(folder):
        if not mark.is_file():
            raise InputError(f"{folder}: exists and is not a training", "choose a new or empty folder", field="output")
        kept = read_json(mark, "choose another folder", field="output")
        differs = [
            k for k, v in new.items() if k not in changeable and (not isinstance(kept, dict) or kept.get(k) != v)
        ]
        if differs:
            raise InputError(
                f"{folder}: holds another training ({', '.join(differs)} differ{'s' * (len(differs) == 1)})",
                "choose another folder",
                field="output",
            )
    with only_process(folder):
        for place in (folder, *(path for path in folder.iterdir() if path.is_dir())):
            remove_temporaries(place)
        write_json(mark, new)
        yield folder


class Trainee:
    """Networks in training, their optimizers and the exponential moving average of their weights.

    Args:
        path: file of its state; the state of an earlier session is read.
        half: run the networks in bfloat16, while the optimizers change single-precision weights.
        moments: whether the state includes the optimizers' moments, so that an interruption changes nothing.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        path: Path,
        lr: float,
        ema: float,
        fraction_done: FractionDone,
        *,
        warmup: int = 200,
        decay: float = 0.25,
        half: bool = False,
        moments: bool = True,
    ) -> None:
        self.path, self.lr, self.ema, self.fraction_done = path, lr, ema, fraction_done
        self.warmup, self.decay, self.half, self.moments, self.step = warmup, decay, half, moments, 0
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
        self.optimizers = new_optimizers(matrices, others, lr)
        self.average = [w.detach().clone() for w in self.weights]
        if path.exists():
            self._load(read_tensors(path))

    def done(self) -> bool:
        return self.fraction_done(self.step) >= 1

    def _load(self, state: dict[str, Tensor]) -> None:
        self.step = int(state["step"])
        with torch.no_grad():
            for name, w, a, p in zip(self.names, self.weights, self.average, self.parameters, strict=True):
                w.copy_(state[f"weights.{name}"])
                a.copy_(state[f"average.{name}"])
                if self.half:
                    p.copy_(w)
        for i, (optimizer, _) in enumerate(self.optimizers):
            if kept := unprefixed(f"optimiser{i}", state):
                restore_optimizer(optimizer, kept)

    def save(self) -> None:
        state: dict[str, Tensor] = {f"weights.{n}": w for n, w in zip(self.names, self.weights, strict=True)}
        state |= {f"average.{n}": a for n, a in zip(self.names, self.average, strict=True)}
        for i, (optimizer, _) in enumerate(self.optimizers if self.moments else ()):
            state |= prefixed(f"optimiser{i}", optimizer_tensors(optimizer))
        write_tensors(self.path, {**state, "step": torch.tensor(self.step)})

    def update(self, loss: Tensor) -> None:
        """One step on this loss. Does not wait for the accelerator; `check` does."""
        loss.backward()  # type: ignore[no-untyped-call]
        self.descend()
        self.clear()

    def clear(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def descend(self) -> None:
        """One step on the gradients that the parameters have."""
        scale = lr_scale(self.step, self.fraction_done(self.step), self.warmup, self.decay)
        if self.half:
            used = [(w, p.grad) for w, p in zip(self.weights, self.parameters, strict=True) if p.grad is not None]
            single = [torch.empty_like(weight) for weight, _ in used]
            torch._foreach_copy_(single, [gradient for _, gradient in used])
            for (weight, _), gradient in zip(used, single, strict=True):
                weight.grad = gradient
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        for optimizer, lr in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * scale
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.weights, 1 - min(self.ema, self.step / (self.step + 10)))
            if self.half:
                torch._foreach_copy_(self.parameters, self.weights)

    def check(self, loss: Tensor) -> float:
        """The loss as a number; waits for the accelerator.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        value = loss.item()
        if value != value or value in (float("inf"), float("-inf")):
            raise FloatingPointError(f"the loss at step {self.step} is not finite; lower the learning rate")
        return value

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside the block, the networks have the averaged weights."""
        with torch.no_grad():
            kept = [p.detach().clone() for p in self.parameters]
            torch._foreach_copy_(self.parameters, self.average)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, kept)

    def state_dict(self, module: int, *, average: bool) -> dict[str, Tensor]:
        """The weights of one of the networks by its own names, single precision, on the CPU."""
        source = self.average if average else self.weights
        prefix = f"{module}."
        return {
            name.removeprefix(prefix): value.detach().float().cpu()
            for name, value in zip(self.names, source, strict=True)
            if name.startswith(prefix)
        }
