"""Training of the ControlNet for line drawings, next to the frozen embedded base."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from magictailor.attachments.lines import canny
from magictailor.backbones import Backbone, load_backbone
from magictailor.common.events import Listener, ignore
from magictailor.common.files import write_json
from magictailor.common.logging import quiet_loading
from magictailor.common.pretrained import load_pretrained
from magictailor.world.embedded import SIZE
from magictailor.world.training.adapter import AdapterTrainer, AdapterTraining, Renders, compact, train_adapter
from magictailor.world.training.bank import SCENERY
from magictailor.world.training.control_scores import control_scores
from magictailor.world.training.denoiser import Velocity
from magictailor.world.training.line_maps import as_maps, varied
from magictailor.world.training.output import replace_folder
from magictailor.world.training.rendering import token_ids
from magictailor.world.training.state import generator

EMBEDDING = (16, 24, 48, 96)  # channels of the convolutions that read the drawing
WITHOUT_CAPTION = 0.2  # share of the examples, on top of those whose caption is empty


class ControlTraining(AdapterTraining):
    """The recipe. ``start``: a ControlNet's folder, to begin with its weights instead of the base's."""

    start: str | None = None


def new_controlnet(unet: Any) -> ControlNetModel:
    """Begins as a copy of the U-Net's way down, which adds nothing. 4.9 M parameters for the embedded base's."""
    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=EMBEDDING)


def _first(base: Backbone, recipe: ControlTraining) -> Any:
    """What the training begins with."""
    if recipe.start is None:
        torch.manual_seed(recipe.seed)
        return new_controlnet(dict(base.networks)["unet"])
    fix = "give a folder that train-control made"
    return load_pretrained(ControlNetModel, recipe.start, fix, local=True, field="start", torch_dtype=torch.float32)


class Controlled:
    """The frozen U-Net with what the ControlNet adds for `lines`, [N, 3, S, S] in 0 .. 1."""

    def __init__(self, unet: Any, controlnet: Any) -> None:
        self.unet, self.controlnet = unet, controlnet
        self.lines = torch.zeros(0)

    def __call__(self, noisy: Tensor, times: Tensor, encoder_hidden_states: Tensor, return_dict: bool) -> Any:
        down, middle = self.controlnet(noisy, times, encoder_hidden_states, self.lines, return_dict=False)
        return self.unet(
            noisy, times, encoder_hidden_states, down_block_additional_residuals=down,
            mid_block_additional_residual=middle, return_dict=return_dict,
        )  # fmt: skip


class ControlTrainer(AdapterTrainer):
    """The ControlNet. It sees a drawing of the render that it denoises."""

    kind = "control"

    def __init__(
        self, folder: Path, renders: Renders, recipe: ControlTraining, base: Backbone, controlnet: Any
    ) -> None:
        networks = dict(base.networks)
        self.recipe, self.controlnet = recipe, controlnet.to(base.device).train()
        self.controlnet.to(memory_format=torch.channels_last)
        if base.device.type == "cpu":  # there the backward pass of fused attention is slow at these small sizes
            self.controlnet.set_attn_processor(AttnProcessor())
        self.task = Velocity({"unet": networks["unet"], "text_encoder": networks["text_encoder"]})
        self.controlled = Controlled(networks["unet"], self.controlnet)
        self.task.predict = self.controlled
        self.no_caption = torch.from_numpy(token_ids([""])).long().to(base.device)
        super().__init__(folder, recipe, renders, [self.controlnet])

    def step(self) -> dict[str, Tensor]:
        recipe, examples, device = self.recipe, self.renders.examples, self.task.device
        random = generator(recipe.seed, self.trainee.step, device)
        chosen, wording = examples.choose(recipe.batch, random)
        latents, tokens, weights = examples.rows(chosen, wording)
        silent = torch.rand(recipe.batch, generator=random, device=device) < WITHOUT_CAPTION
        tokens = torch.where(silent[:, None], self.no_caption, tokens)
        self.controlled.lines = self._drawings(chosen, weights)
        loss = self.task.loss(latents, tokens, weights, *self.task.draws(latents, random))
        self.trainee.update(loss)
        return {"loss": loss.detach()}

    def _drawings(self, chosen: Tensor, weights: Tensor) -> Tensor:
        near = interpolate(weights, size=(SIZE, SIZE))[:, 0].cpu() > SCENERY + 0.1
        random = np.random.default_rng((self.recipe.seed, self.trainee.step, 11))
        images = self.renders.examples.images[chosen].cpu()
        maps = as_maps([varied(i.numpy(), n.numpy(), random) for i, n in zip(images, near, strict=True)])
        return maps.to(self.task.device)

    def held_out(self) -> dict[str, float]:
        """With whole drawings, and without any."""
        held, latents = self.renders.held, self.renders.held_latents
        device = self.task.device
        tokens, maps = torch.from_numpy(held.tokens[:, 0]).long(), as_maps([canny(image) for image in held.images])
        tokens, maps = tokens.to(device), maps.to(device)
        found = {}
        with self.trainee.averaged():
            for name, lines in (("held out", maps), ("held out without", torch.zeros_like(maps))):
                self.controlled.lines = lines
                found[name] = self.task.held_out(latents, tokens, len(latents))
        return found

    def write(self, target: Path, record: Mapping[str, Any]) -> None:
        """As ``ControlNetModel.from_pretrained`` reads it.

        Matrices have 8 bits: on 32 pictures the lines are followed as well as with 16 (docs/experiments/controlnet.md).
        """
        network = new_controlnet(self.controlled.unet)
        network.load_state_dict(self.trainee.state_dict(0, average=True))
        new = target.with_name(f".{target.name}.new")
        network.requires_grad_(False)
        for weight in network.parameters():
            weight.data = compact(weight)
        network.save_pretrained(new)
        write_json(new / "training.json", record)
        replace_folder(new, target)

    def scores(self, target: Path, count: int) -> tuple[str, dict[str, float], Image.Image]:
        return "edge overlap", *control_scores(target, count)


def train_control(
    output: Path, recipe: ControlTraining, device: str = "cpu", *, workers: int = 2, listen: Listener = ignore
) -> dict[str, Any]:
    """Train in ``output``; writes ``control/`` with the ControlNet and its record, and ``samples.png``.

    Args:
        workers: number of rendering processes.

    Returns:
        The record: recipe, base, losses, and how far pictures follow lines with and without it.

    Raises:
        InputError: the folder holds other files or another training, the start is not a ControlNet's folder, or
            OpenCV is missing; nothing has been written.
    """
    quiet_loading()
    canny(np.zeros((8, 8, 3), np.uint8))  # refuses a missing OpenCV
    base = load_backbone("embedded", device=device, precision="fp32")
    controlnet = _first(base, recipe)
    about = {"kind": "lines", "base": base.digest_as_loaded}
    make = partial(ControlTrainer, recipe=recipe, base=base, controlnet=controlnet)
    return train_adapter(output, recipe, make, about, base.device, workers, listen)
