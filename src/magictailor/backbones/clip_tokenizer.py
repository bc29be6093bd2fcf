"""CLIP's tokenizer, which Stable Diffusion's checkpoints in one file do not hold."""

import gzip
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

MERGES = Path(__file__).parent / "clip_merges.txt.gz"  # OpenAI's, MIT (NOTICE)
LENGTH = 77
START, END = "<|startoftext|>", "<|endoftext|>"


def _alphabet() -> list[str]:
    """The 256 byte tokens in CLIP's order: bytes that can be printed come first, each by its own character."""
    printable = [chr(b) for spans in ((33, 126), (161, 172), (174, 255)) for b in range(spans[0], spans[1] + 1)]
    others = [chr(256 + i) for i in range(256 - len(printable))]
    assert set(printable + others) == set(ByteLevel.alphabet())
    return printable + others


def clip_tokenizer(pad: str = END) -> CLIPTokenizer:
    """49,408 tokens: bytes, bytes at a word's end, merges, two marks. ``pad``: ``!`` for OpenCLIP's encoders."""
    lines = gzip.decompress(MERGES.read_bytes()).decode().split("\n")
    merges = [(a, b) for a, b in (line.split() for line in lines)]
    letters = _alphabet()
    tokens = [*letters, *(f"{b}</w>" for b in letters), *(a + b for a, b in merges), START, END]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, merges=merges, bos_token=START, eos_token=END,
        unk_token=END, pad_token=pad, model_max_length=LENGTH,
    )  # fmt: skip
