"""How images turn into noise: diffusion with betas, and flow matching. Both count time as the family's denoiser reads it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

Schedulers = Mapping[str, tuple[Any, Mapping[str, Any]]]  # a class of diffusers and its options, by our name
_FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}


class NoiseProcess(ABC):
    """See `Backbone` for the methods' arguments. ``schedulers``: that generate from it, its own first."""

    schedulers: Schedulers

    @abstractmethod
    def times(self, uniform: Tensor) -> Tensor: ...

    @abstractmethod
    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor: ...

    @abstractmethod
    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor: ...

    @abstractmethod
    def level(self, times: Tensor) -> Tensor:
        """How far a time is on the way from the image (0) to noise (1)."""


class Diffusion(NoiseProcess):
    """Whole times of a schedule of diffusers'; the denoiser predicts the noise or the velocity."""

    # Each sets every option: a base's own configuration may hold another scheduler's.
    schedulers = {
        "ddim": (DDIMScheduler, {}),
        "dpm++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "use_karras_sigmas": False}),
        "dpm++-karras": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True}),
        "sde-dpm++": (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": False}),
    }

    def __init__(self, schedule: Any) -> None:
        self.schedule = schedule
        self.count: int = schedule.config.num_train_timesteps

    def times(self, uniform: Tensor) -> Tensor:
        return (uniform * self.count).long().clamp(max=self.count - 1)  # just below 1 may have been rounded to 1

    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        return self.schedule.add_noise(latents, noise, times)

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        if self.schedule.config.prediction_type == "v_prediction":
            return self.schedule.get_velocity(latents, noise, times)
        return noise

    def level(self, times: Tensor) -> Tensor:
        return times / self.count


class FlowMatching(NoiseProcess):
    """x_t = (1 - t) x_0 + t noise, and the denoiser predicts noise - x_0 (Lipman 2022, Esser 2024).

    Args:
        density: of the training times before the shift: uniform, or logit-normal (Esser 2024, section 3.1).
        shift: s t / (1 + (s - 1) t), towards noise for s > 1 (Esser 2024, equation 23).
    """

    def __init__(self, own: Any, density: Literal["uniform", "logit-normal"] = "uniform", shift: float = 1.0) -> None:
        """``own``: the pipeline's scheduler."""
        self.density, self.shift = density, shift
        sizes = {"flow_shift": own.config.get("shift", own.config.get("flow_shift", 1.0))}
        euler = {"shift": sizes["flow_shift"]}
        self.schedulers = {
            "own": (type(own), {}),
            "euler": (FlowMatchEulerDiscreteScheduler, euler),
            "dpm++": (DPMSolverMultistepScheduler, _FLOW | sizes | {"algorithm_type": "dpmsolver++"}),
        }

    def times(self, uniform: Tensor) -> Tensor:
        t = uniform if self.density == "uniform" else torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6)).sigmoid()
        return self.shift * t / (1 + (self.shift - 1) * t)

    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        t = times.reshape(-1, *[1] * (latents.ndim - 1))
        return (1 - t) * latents + t * noise

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        return noise - latents

    def level(self, times: Tensor) -> Tensor:
        return times
