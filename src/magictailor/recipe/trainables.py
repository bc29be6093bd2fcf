"""What a run can train."""

from typing import Annotated, Literal

from pydantic import Field

from magictailor.recipe.config import ConfigModel


class LoRA(ConfigModel):
    """Low-rank adapters on the backbone's LoRA targets; ``alpha`` equals the rank unless given.

    ``layers``: all targets, or only the projections of its attention.
    """

    kind: Literal["lora"] = "lora"
    rank: int = Field(32, ge=1, le=1024)
    alpha: float | None = Field(None, gt=0)
    layers: Literal["all", "attention"] = "all"


class PseudoWords(ConfigModel):
    """The embedding rows of the pseudo-words, and no other row; their learning rate is ``lr_scale`` times the phase's."""

    kind: Literal["pseudo-words"] = "pseudo-words"
    lr_scale: float = Field(1.0, gt=0)


class EmbeddingMatrix(ConfigModel):
    """The whole embedding matrix, as the reference script trains it, with weight decay (quirk 2)."""

    kind: Literal["embedding-matrix"] = "embedding-matrix"


class CrossAttentionWeights(ConfigModel):
    """The denoiser's own weights in these projections of its cross-attention."""

    kind: Literal["cross-attention"] = "cross-attention"
    layers: tuple[Literal["to_q", "to_k", "to_v", "to_out.0"], ...] = Field(("to_k", "to_v"), min_length=1)


class Denoiser(ConfigModel):
    """All weights of the denoiser."""

    kind: Literal["denoiser"] = "denoiser"


class TextEncoder(ConfigModel):
    """All weights of the text encoders except their token embeddings."""

    kind: Literal["text-encoder"] = "text-encoder"


Trainable = Annotated[
    LoRA | PseudoWords | EmbeddingMatrix | CrossAttentionWeights | Denoiser | TextEncoder, Field(discriminator="kind")
]
Kind = Literal["lora", "pseudo-words", "embedding-matrix", "cross-attention", "denoiser", "text-encoder"]
