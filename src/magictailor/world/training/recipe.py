"""The recipe of the embedded base."""

from typing import Literal

from pydantic import Field

from magictailor.recipe import ConfigModel


class WorldTraining(ConfigModel):
    """``steps``, ``batch``, ``lr`` are the denoiser's. ``pictures``: number of renders, with successive seeds from ``first``.

    With ``minutes`` the whole training takes that long, the autoencoder ``autoencoder_share`` of it; the numbers of steps
    have no effect, and renders are added during the training, ``pictures`` at most. Without ``minutes`` the steps decide,
    and an interrupted training gives the same result as an uninterrupted one.
    """

    architecture: Literal["unet", "dit"] = "unet"  # dit: a transformer with joint attention
    pictures: int = Field(80_000, ge=16, lt=100_000_000)
    first: int = Field(0, ge=0, lt=100_000_000)
    captions: int = Field(6, ge=1, le=64)  # per render
    held_out: int = Field(256, ge=8, le=100_000)
    autoencoder_pictures: int = Field(20_000, ge=16)
    autoencoder_steps: int = Field(6_000, ge=0)  # 0: keep the autoencoder of ``start``
    autoencoder_batch: int = Field(16, ge=4)  # crops of 64 pixels; near the end a quarter as many whole images
    autoencoder_lr: float = Field(2e-3, gt=0, le=1)
    autoencoder_share: float = Field(0.25, ge=0, lt=1)
    steps: int = Field(20_000, ge=0)
    batch: int = Field(64, ge=1, le=65_536)
    lr: float = Field(2e-3, gt=0, le=1)  # AdamW's; Muon's is ten times as large
    ema: float = Field(0.998, ge=0, lt=1)
    seed: int = Field(0, ge=0, lt=2**32)
    start: str = "scratch"  # or "embedded", "embedded-dit", or the folder of an earlier training: its weights, with a new warm-up
    minutes: float | None = Field(None, gt=0, le=100_000)
    half: bool = False  # networks in bfloat16 instead of autocast
    compile: bool = False
    chunk: int = Field(256, ge=8)  # renders per job of a worker
    samples: int = Field(64, ge=0, le=256)
    save_seconds: float = Field(60, gt=0)

    @property
    def trains_autoencoder(self) -> bool:
        return self.autoencoder_share > 0 and self.autoencoder_steps > 0
