"""Pseudo-words of CLIP text encoders: rows of their embedding tables, and positions in prompts."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from magictailor.backbones.contract import WordVectors
from magictailor.common.errors import InputError


class ClipWords:
    """Tokenizers and token embeddings of a base's text encoders, by the encoders' names."""

    def __init__(self, base: str, encoders: Mapping[str, Any], tokenizers: Mapping[str, Any]) -> None:
        self.base, self.encoders, self.tokenizers = base, encoders, tokenizers

    def embeddings(self, encoder: str) -> Tensor:
        """The encoder's token embeddings, [words, dim]."""
        return self.encoders[encoder].get_input_embeddings().weight.detach()

    def fit_together(self) -> bool:
        """Whether each tokenizer belongs to its encoder, by their sizes."""
        sizes = [(len(self.embeddings(name)), len(self.tokenizers[name])) for name in self.encoders]
        return all(rows // 2 < words <= rows for rows, words in sizes)

    def add(self, texts: Mapping[str, str]) -> dict[str, WordVectors]:
        """See `Backbone.add_words`."""
        known = [w for w in texts for tokenizer in self.tokenizers.values() if w in tokenizer.get_vocab()]
        if known:
            raise InputError(f"{known[0]} is already a word of {self.base}", "choose another pseudo-word")
        starts: dict[str, WordVectors] = {word: {} for word in texts}
        for name, tokenizer in self.tokenizers.items():
            for word, text in texts.items():
                ids = tokenizer(text, add_special_tokens=False).input_ids
                starts[word][name] = self.embeddings(name)[ids].mean(0, keepdim=True).clone()
            tokenizer.add_tokens(list(texts))
            self.encoders[name].resize_token_embeddings(len(tokenizer), mean_resizing=False)
            self.encoders[name].requires_grad_(False)
        self.set(starts)
        return starts

    def set(self, vectors: Mapping[str, WordVectors]) -> None:
        """See `Backbone.set_words`."""
        for word, by_encoder in vectors.items():
            for name, rows in by_encoder.items():
                self.embeddings(name)[self.tokenizers[name].convert_tokens_to_ids(word)] = rows[0]

    def token_ids(self, encoder: str, prompts: Sequence[str]) -> Tensor:
        """[N, L], padded and truncated to the encoder's length; on the CPU."""
        tokenizer = self.tokenizers[encoder]
        length = tokenizer.model_max_length
        out = tokenizer(list(prompts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        ids: Tensor = out.input_ids
        return ids

    def spans(self, encoder: str, ids: Tensor, words: Sequence[str]) -> list[dict[str, list[int]]]:
        """For each prompt, the positions of each word's tokens."""
        number = {word: self.tokenizers[encoder].convert_tokens_to_ids(word) for word in words}
        return [{word: (row == number[word]).nonzero()[:, 0].tolist() for word in words} for row in ids]


class TextWords:
    """Pseudo-words that stand for other text, ``<hair>`` for ``sks hair``: for encoders too large to train a row in."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def add(self, texts: Mapping[str, str]) -> dict[str, WordVectors]:
        """See `Backbone.add_words`; nothing of them is trained."""
        self.texts |= texts
        return {word: {} for word in texts}

    def set(self, vectors: Mapping[str, WordVectors]) -> None:
        """See `Backbone.set_words`; there are none."""

    def written_out(self, prompt: str) -> str:
        """The prompt as encoders read it."""
        for word, text in self.texts.items():
            prompt = prompt.replace(word, text)
        return prompt.strip()


def positions(text: str, phrase: str, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """The tokens that show any part of ``phrase``. ``offsets``: where in ``text`` each token begins and ends."""
    text, phrase = text.lower(), phrase.lower()
    starts = [i for i in range(len(text)) if text.startswith(phrase, i)]
    places = [(start, start + len(phrase)) for start in starts]
    return [i for i, (a, b) in enumerate(offsets) if any(a < end and b > start for start, end in places)]
