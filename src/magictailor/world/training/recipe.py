"""The recipe of the embedded base."""

from pydantic import Field

from magictailor.recipe import Part


class WorldTraining(Part):
    """``steps``, ``batch``, ``lr`` are the denoiser's; a picture's seed is its number.

    With ``minutes`` the whole training takes that long, the autoencoder ``autoencoder_share`` of it, whatever the
    numbers of steps are; pictures are taken in while it goes on, ``pictures`` at most. Without, steps decide, and an
    interrupted training equals an uninterrupted one.
    """

    pictures: int = Field(80_000, ge=16, lt=100_000_000)
    captions: int = Field(6, ge=1, le=64)  # of each picture
    held_out: int = Field(256, ge=8, le=100_000)
    autoencoder_pictures: int = Field(20_000, ge=16)
    autoencoder_steps: int = Field(6_000, ge=0)  # 0: the autoencoder of ``start`` stays as it is
    autoencoder_batch: int = Field(16, ge=4)  # crops of 64 pixels; near the end a quarter as many whole pictures
    autoencoder_lr: float = Field(2e-3, gt=0, le=1)
    autoencoder_share: float = Field(0.25, ge=0, lt=1)
    steps: int = Field(20_000, ge=0)
    batch: int = Field(64, ge=1, le=65_536)
    lr: float = Field(2e-3, gt=0, le=1)  # AdamW's; Muon's is ten times as large
    ema: float = Field(0.998, ge=0, lt=1)
    seed: int = Field(0, ge=0, lt=2**32)
    start: str = "scratch"  # or "embedded", or the folder of an earlier training: its weights, with a new warm-up
    minutes: float | None = Field(None, gt=0, le=100_000)
    half: bool = False  # networks in bfloat16 instead of autocast
    compile: bool = False
    chunk: int = Field(256, ge=8)  # pictures that a worker draws at a time
    samples: int = Field(64, ge=0, le=256)
    save_seconds: float = Field(60, gt=0)

    @property
    def trains_autoencoder(self) -> bool:
        return self.autoencoder_share > 0 and self.autoencoder_steps > 0
