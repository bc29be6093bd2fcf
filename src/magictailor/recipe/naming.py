"""What a run's prompts call its samples: pseudo-words alone, or with their labels, by the recipe."""

from collections.abc import Mapping

from magictailor.common.errors import InputError
from magictailor.recipe import Recipe

RARE = ("sks", "ktn", "pll", "ucd")  # words that CLIP knows as one token each, and nobody uses
# Textual Inversion's templates (Gal 2022), the noun phrase without its article.
TEMPLATES = (
    "a photo of a {}",
    "a rendering of a {}",
    "a cropped photo of the {}",
    "the photo of a {}",
    "a photo of a clean {}",
    "a photo of a dirty {}",
    "a dark photo of the {}",
    "a photo of my {}",
    "a photo of the cool {}",
    "a close-up photo of a {}",
    "a bright photo of the {}",
    "a cropped photo of a {}",
    "a photo of the {}",
    "a good photo of the {}",
    "a photo of one {}",
    "a close-up photo of the {}",
    "a rendition of the {}",
    "a photo of the clean {}",
    "a rendition of a {}",
    "a photo of a nice {}",
    "a good photo of a {}",
    "a photo of the nice {}",
    "a photo of the small {}",
    "a photo of the weird {}",
    "a photo of the large {}",
    "a photo of a cool {}",
    "a photo of a small {}",
)


class Naming:
    """``words``: ``{word: label}`` of the pair, the concept first."""

    def __init__(self, recipe: Recipe, words: Mapping[str, str]) -> None:
        self.words, self._recipe = dict(words), recipe
        self.concept = next(iter(words))

    def starts(self) -> dict[str, str]:
        """The text that each pseudo-word begins as.

        Raises:
            InputError: more samples than there are rare words.
        """
        rare = self._recipe.rare_words
        if not rare:
            return self.words
        if len(self.words) > len(rare):
            raise InputError(
                f"--method {self._recipe.method}: has rare words for {len(rare)} samples, this pair has {len(self.words)}; "
                "name more with --set 'rare_words=[...]', or [] for the labels"
            )
        return dict(zip(self.words, rare))

    def called(self, word: str) -> str:
        """``<hair>``, ``<hair> hair`` or ``<hair> style``."""
        own = self._recipe.component_called
        how = self._recipe.called if own is None or word == self.concept else own
        return how.format(word=word, label=self.words[word])

    def prompts(self, word: str) -> list[str]:
        """The prompts that a sample alone is trained under: one, or the templates."""
        own = self._recipe.component_prompt
        plain = self._recipe.prompt if own is None or word == self.concept else own
        return [self.of(text, word) for text in self._recipe.templates or (plain,)]

    def of(self, template: str, word: str) -> str:
        """A template with a sample in it."""
        return template.format(self.called(word), concept=self.words[self.concept])

    def together(self, words: list[str]) -> str:
        """The training prompt of several side by side: ``a photo of <person> and <hair>``."""
        called = " and ".join(map(self.called, words))
        return self._recipe.prompt.format(called, concept=self.words[self.concept])

    def composite(self) -> str:
        """``a photo of <person> with <hair>``: what the run is for, with bare pseudo-words, as a user writes it."""
        components = [w for w in self.words if w != self.concept]
        said = " with ".join([self.concept, " and ".join(components)] if components else [self.concept])
        return self._recipe.prompt.format(said, concept=self.words[self.concept])

    def written(self, prompt: str) -> str:
        """A user's prompt with each pseudo-word called as it was in training."""
        for word in self.words:
            called = self.called(word)
            prompt = called.join(part.replace(word, called) for part in prompt.split(called))
        return prompt

    def plain(self, prompt: str) -> str:
        """A user's prompt with labels for pseudo-words: what the base itself understands."""
        for word, label in self.words.items():
            prompt = prompt.replace(self.called(word), label).replace(word, label)
        return prompt
