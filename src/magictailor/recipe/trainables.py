"""What is trained."""

from typing import Annotated, Literal

from pydantic import Field

from magictailor.recipe.part import Part


class LoRA(Part):
    """Low-rank adapters on the backbone's LoRA targets; ``alpha`` equals the rank unless given.

    ``layers``: all targets, or the projections of its attention alone.
    """

    kind: Literal["lora"] = "lora"
    rank: int = Field(32, ge=1, le=1024)
    alpha: float | None = Field(None, gt=0)
    layers: Literal["all", "attention"] = "all"


class PseudoWords(Part):
    """The pseudo-words' embedding rows, and no other row; ``rate`` times the phase's rate."""

    kind: Literal["pseudo-words"] = "pseudo-words"
    rate: float = Field(1.0, gt=0)


class EmbeddingMatrix(Part):
    """The whole embedding matrix, as the reference trains (and decays) it: its defect 2."""

    kind: Literal["embedding-matrix"] = "embedding-matrix"


class CrossAttentionWeights(Part):
    """The weights of these projections of the denoiser's cross-attention, themselves."""

    kind: Literal["cross-attention"] = "cross-attention"
    layers: tuple[Literal["to_q", "to_k", "to_v", "to_out.0"], ...] = Field(("to_k", "to_v"), min_length=1)


class Denoiser(Part):
    """All weights of the denoiser."""

    kind: Literal["denoiser"] = "denoiser"


class TextEncoder(Part):
    """All weights of the text encoders but their tables of words."""

    kind: Literal["text-encoder"] = "text-encoder"


Trainable = Annotated[
    LoRA | PseudoWords | EmbeddingMatrix | CrossAttentionWeights | Denoiser | TextEncoder, Field(discriminator="kind")
]
Kind = Literal["lora", "pseudo-words", "embedding-matrix", "cross-attention", "denoiser", "text-encoder"]
