"""A CLIPTokenizer with the world's vocabulary: one token per word, bytes for all else."""

import json

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Whitespace
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

from magictailor.weights import EMBEDDED
from magictailor.world.captions import vocabulary

LENGTH = 77
SHIPPED = EMBEDDED / "tokenizer"
START, END = "<|startoftext|>", "<|endoftext|>"


def _merges(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, learned from the words until each is one token."""
    tokenizer = Tokenizer(BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.train_from_iterator(words, BpeTrainer(vocab_size=100_000, end_of_word_suffix="</w>", show_progress=False))
    return [(a, b) for a, b in json.loads(tokenizer.to_str())["model"]["merges"]]


def learn_tokenizer() -> CLIPTokenizer:
    """A new tokenizer for a new vocabulary: 512 byte tokens, then merges, then the start and end tokens."""
    alphabet = sorted(ByteLevel.alphabet())
    merges = _merges(vocabulary())
    tokens = [*alphabet, *(f"{b}</w>" for b in alphabet), *dict.fromkeys(a + b for a, b in merges), START, END]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(
        vocab=vocab, merges=merges, bos_token=START, eos_token=END, unk_token=END, pad_token=END,
        model_max_length=LENGTH,
    )  # fmt: skip


def build_tokenizer(length: int = LENGTH) -> CLIPTokenizer:
    """Load the shipped tokenizer, for texts of ``length`` tokens at most.

    Token ids are frozen with the weights. Learning them again would give another order, since ties between merges are
    resolved differently in each process.
    """
    return CLIPTokenizer.from_pretrained(SHIPPED, local_files_only=True, model_max_length=length)
