"""What a run's prompts call its samples: pseudo-words alone, or with their labels, by the recipe."""

import re
from collections.abc import Mapping

from magictailor.common.errors import InputError
from magictailor.recipe.recipe import Recipe

JOINING = "with|and|in|wearing|including|containing|has|having"
WORD_KINDS = {"pseudo-words", "embedding-matrix"}


class Naming:
    """``words``: ``{word: label}`` of the pair, the concept first."""

    def __init__(self, recipe: Recipe, words: Mapping[str, str]) -> None:
        self.words, self.method, self.config = dict(words), recipe.method, recipe.prompts
        self.concept = next(iter(words))
        self.trains_words = bool(recipe.kinds & WORD_KINDS)

    def initial_texts(self) -> dict[str, str]:
        """For each pseudo-word the text whose embedding it starts as, or that it stands for.

        Where a rare word is not trained, its label has to say what it is: ``sks hair``.

        Raises:
            InputError: more samples than the recipe has initial words.
        """
        initial = self.config.initial_words
        if not initial:
            return self.words
        if len(self.words) > len(initial):
            raise InputError(
                f"{self.method}: has rare words for {len(initial)} samples, this pair has {len(self.words)}",
                "name more with prompts.initial_words=[...], or [] for the labels",
                field="method",
            )
        if self.trains_words:
            return dict(zip(self.words, initial))
        texts = zip(self.words.items(), initial)
        return {w: rare if label in self.name(w).split() else f"{rare} {label}" for (w, label), rare in texts}

    def name(self, word: str) -> str:
        """A sample's name in a prompt: ``<hair>``, ``<hair> hair`` or ``<hair> style``."""
        own = self.config.component_name
        template = self.config.name if own is None or word == self.concept else own
        return template.format(word=word, label=self.words[word])

    def training_prompts(self, word: str) -> list[str]:
        """The prompts that a sample alone is trained with: one, or the recipe's list of templates."""
        own = self.config.component_template
        template = self.config.template if own is None or word == self.concept else own
        return [self.fill(text, word) for text in self.config.templates or (template,)]

    def fill(self, template: str, word: str) -> str:
        """A template with a sample's name."""
        return template.format(self.name(word), concept=self.words[self.concept])

    def joint_prompt(self, words: list[str]) -> str:
        """The training prompt of several samples side by side: ``a photo of <person> and <hair>``."""
        names = " and ".join(map(self.name, words))
        return self.config.template.format(names, concept=self.words[self.concept])

    def composite_prompt(self) -> str:
        """``a photo of <person> with <hair>``, as a user writes it."""
        components = " and ".join(w for w in self.words if w != self.concept)
        subject = f"{self.concept} with {components}" if components else self.concept
        return self.config.template.format(subject, concept=self.words[self.concept])

    def expand(self, prompt: str) -> str:
        """A user's prompt with each pseudo-word named as in training."""
        for word in self.words:
            name = self.name(word)
            prompt = name.join(part.replace(word, name) for part in prompt.split(name))
        return prompt

    def without_components(self, prompt: str) -> str:
        """A user's prompt without its components and the words that join them to the concept; empty without one of both."""
        words = [word for word in self.words if word != self.concept and word in prompt]
        if not words or self.concept not in prompt:
            return ""
        for word in words:
            names = "|".join(map(re.escape, (self.name(word), word)))
            prompt = re.sub(rf"(?:\s+(?:{JOINING}))?(?:\s+(?:a|an|the))?\s*(?:{names})", "", prompt)
        return prompt.strip()

    def with_labels(self, prompt: str) -> str:
        """A user's prompt with labels instead of pseudo-words, which the untrained base understands."""
        for word, label in self.words.items():
            prompt = prompt.replace(self.name(word), label).replace(word, label)
        return prompt
