"""Backends from a user's own checkout or package. Nothing of them is in this package."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image

from magictailor.common.checkouts import importable
from magictailor.common.errors import InputError
from magictailor.common.text import reason
from magictailor.mesh.contract import Backend

GREY = 127


@contextmanager
def _loading(model: str) -> Iterator[None]:
    """Raises InputError for weights that the backend's own code cannot load."""
    try:
        yield
    except Exception as error:  # no network, no such name, damaged files: other people's code raises anything
        raise InputError(
            f"{model}: cannot be loaded ({reason(error)})", "check the name and the network", field="model"
        ) from error


class TripoSR(Backend):
    """TripoSR of Tripo AI and Stability AI, from a checkout."""

    licence = "MIT, code and weights"
    install = "git clone https://github.com/VAST-AI-Research/TripoSR && pip install -r TripoSR/requirements.txt, then --checkout TripoSR"

    def __init__(self, model: str | None, device: str, checkout: str | None) -> None:
        if checkout is None:
            raise InputError("TripoSR is not a package", self.install, field="checkout")
        with importable(checkout, "tsr/", "TripoSR", self.install):
            from tsr.system import TSR

        with _loading(model or "stabilityai/TripoSR"):  # its own code unpickles these weights
            self.model: Any = TSR.from_pretrained(
                model or "stabilityai/TripoSR", config_name="config.yaml", weight_name="model.ckpt"
            )
        self.model.renderer.set_chunk_size(8192)
        self.model.to(device)
        self.device = device

    @torch.no_grad()
    def mesh(self, picture: Image.Image, seed: int, steps: int | None) -> Any:
        grey = Image.new("RGBA", picture.size, (GREY, GREY, GREY, 255))
        codes = self.model([Image.alpha_composite(grey, picture).convert("RGB")], device=self.device)
        (made,) = self.model.extract_mesh(codes, True, resolution=256)
        return made


class Hunyuan3D(Backend):
    """Hunyuan3D-2 of Tencent, from the package hy3dgen: the shape, without a texture."""

    licence = "Tencent Hunyuan community licence, not for the European Union, the United Kingdom and South Korea"
    install = "git clone https://github.com/Tencent-Hunyuan/Hunyuan3D-2 && pip install -r Hunyuan3D-2/requirements.txt -e Hunyuan3D-2"

    def __init__(self, model: str | None, device: str, checkout: str | None) -> None:
        with importable(checkout, "hy3dgen/", "Hunyuan3D-2", self.install):
            from hy3dgen.shapegen import Hunyuan3DDiTFlowMatchingPipeline

        with _loading(model or "tencent/Hunyuan3D-2"):
            self.pipeline: Any = Hunyuan3DDiTFlowMatchingPipeline.from_pretrained(
                model or "tencent/Hunyuan3D-2", device=device, use_safetensors=True
            )

    @torch.no_grad()
    def mesh(self, picture: Image.Image, seed: int, steps: int | None) -> Any:
        options = {} if steps is None else {"num_inference_steps": steps}
        return self.pipeline(image=picture, generator=torch.manual_seed(seed), **options)[0]
