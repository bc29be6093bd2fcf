"""A CLIPTokenizer with the world's vocabulary: one token per word, bytes for all else."""

from transformers import CLIPTokenizer

from magictailor.weights import EMBEDDED

LENGTH = 77
SHIPPED = EMBEDDED / "tokenizer"


def build_tokenizer(length: int = LENGTH) -> CLIPTokenizer:
    """Load the shipped tokenizer, for texts of ``length`` tokens at most.

    Token ids are frozen with the weights. Learning them again would give another order, since ties between merges are
    resolved differently in each process.
    """
    return CLIPTokenizer.from_pretrained(SHIPPED, local_files_only=True, model_max_length=length)
