"""What a step sees: its images and their prompts. Every random choice depends only on (pair, seed, step)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from magictailor.common.randomness import CPU, generator, normal, pair_seed, uniform
from magictailor.data.arrangement import COLLAGE_DRAWS, Scaling, collage
from magictailor.data.training_images import TrainingImage, augmented, unmasked_image
from magictailor.recipe import Augment, Recipe
from magictailor.recipe.naming import Naming


@dataclass(frozen=True)
class Row:
    """One image of a step, with its prompt and its source of random numbers.

    Attributes:
        number: of the row in its step.
        image_step: the step whose random numbers make the image; an earlier one where steps share images.
        subjects: the reference images that it shows; several in a collage; none in a prior image.
        region_prompt: for the loss on the masked image alone.
        prior: the file of an image that the base generated, instead of subjects.
    """

    seed: int
    step: int
    image_step: int
    number: int
    subjects: tuple[TrainingImage, ...]
    prompt: str
    region_prompt: str
    scaling: Scaling | None = None
    prior: Path | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The pseudo-words of its prompt whose attention is read."""
        return tuple(image.word for image in self.subjects)

    @property
    def samples(self) -> tuple[int, ...]:
        return tuple(image.sample for image in self.subjects)

    def normal(self, shape: tuple[int, ...], purpose: str) -> Tensor:
        return normal(shape, self.seed, self.step, self.number, purpose)

    def image_normal(self, shape: tuple[int, ...], purpose: str, device: torch.device = CPU) -> Tensor:
        return normal(shape, self.seed, self.image_step, self.number, purpose, device)

    def render(self, size: int, config: Augment, shared: bool, device: torch.device) -> tuple[Tensor, Tensor]:
        """Its pixels [3, S, S] in [-1, 1], and the mask of each subject in them, [n, S, S].

        ``shared``: all rows of a step are augmented alike.
        """
        if self.prior is not None:
            with Image.open(self.prior) as image:
                prior = unmasked_image(image.convert("RGB"), size).on(device)
            return prior.pixels, prior.mask
        step, index, views = self.image_step, 0 if shared else self.number, []
        for i, subject in enumerate(self.subjects):
            draws = uniform(4, self.seed, step, index, f"augment{i or ''}")
            views.append(augmented(subject.on(device), config, draws))
        if len(views) > 1:
            background, each = COLLAGE_DRAWS
            count = background + each * len(views)
            return collage(views, uniform(count, self.seed, step, self.number, "collage"))
        pixels, masks = views[0]
        return self.scaling.of(pixels, masks) if self.scaling else (pixels, masks)


class Examples:
    """The rows of every step of one pair's run. ``digests``: of the pair's images, see `pair_seed`."""

    def __init__(
        self, images: Sequence[TrainingImage], recipe: Recipe, naming: Naming, digests: Sequence[str] = ()
    ) -> None:
        self.images, self.recipe, self.naming = images, recipe, naming
        self.seed = pair_seed(recipe.seed, digests)
        self.whole_pair = recipe.data.batch is None and not recipe.data.collage
        self.pair_rows = recipe.data.batch or len(images)  # of a step, without prior images
        self._priors: Mapping[str, Sequence[Path]] = {}

    @property
    def row_count(self) -> int:
        """Of a step, with prior images."""
        return self.pair_rows * (2 if self.recipe.loss.prior else 1)

    @property
    def samples(self) -> list[int]:
        """The sample of each image."""
        return [image.sample for image in self.images]

    def use_priors(self, priors: Mapping[str, Sequence[Path]]) -> None:
        """``priors``: images by prompt, see `prior_prompt`."""
        self._priors = priors

    def prior_prompt(self, word: str) -> str:
        assert self.recipe.loss.prior is not None
        return self.recipe.loss.prior.prompt.format(self.naming.words[word])

    def rows(self, step: int) -> list[Row]:
        """The rows of a step: the pair's, then as many prior images of the same labels."""
        rows = [self._row(step, number, subjects) for number, subjects in enumerate(self._subjects(step))]
        if self.recipe.loss.prior is None:
            return rows
        return rows + [self._prior(step, len(rows) + i, row.words[0]) for i, row in enumerate(rows)]

    def _subjects(self, step: int) -> list[tuple[TrainingImage, ...]]:
        if self.whole_pair:
            return [(image,) for image in self.images]
        random = generator(self.seed, step, 0, "choice")
        collage = self.recipe.data.collage
        return [self._subset(random) if collage else (self._any(random),) for _ in range(self.pair_rows)]

    def _any(self, random: torch.Generator, sample: int | None = None) -> TrainingImage:
        """One of all images, or of a sample's."""
        choice = [image for image in self.images if sample in (None, image.sample)]
        return choice[int(torch.randint(len(choice), (1,), generator=random))]

    def _subset(self, random: torch.Generator) -> tuple[TrainingImage, ...]:
        """Break-A-Scene's union sampling: k ~ U{1 .. N} of the samples, an image of each."""
        samples = list(dict.fromkeys(self.samples))
        size = 1 + int(torch.randint(len(samples), (1,), generator=random))
        chosen = torch.randperm(len(samples), generator=random)[:size].tolist()
        return tuple(self._any(random, samples[i]) for i in chosen)

    def _row(self, step: int, number: int, subjects: tuple[TrainingImage, ...]) -> Row:
        scaling = None
        if len(subjects) > 1:
            prompt = self.naming.joint_prompt([image.word for image in subjects])
        else:
            prompts = self.naming.training_prompts(subjects[0].word)
            choice = int(uniform(1, self.seed, step, number, "template") * len(prompts)) if len(prompts) > 1 else 0
            if self.recipe.data.augment.scale:
                scaling = Scaling.drawn(uniform(5, self.seed, step, number, "scale"))
            prompt = (scaling.prefix if scaling else "") + prompts[choice]
        image_step = step - step % self.recipe.data.resample_every
        return Row(
            self.seed, step, image_step, number, subjects, prompt, self._region_prompt(step, subjects[0].word), scaling
        )

    def _region_prompt(self, step: int, word: str) -> str:
        region = self.recipe.phase(step).region
        return region.prompt.format(word) if region else ""

    def _prior(self, step: int, number: int, word: str) -> Row:
        prompt = self.prior_prompt(word)
        choice = self._priors[prompt]
        image = choice[int(uniform(1, self.seed, step, number, "prior") * len(choice))]
        return Row(self.seed, step, step, number, (), prompt, prompt, prior=image)

    def times(self, step: int) -> Tensor:
        """A number in [0, 1) for each row of a step.

        Stratified: one from each of as many equal parts. Matched: the n-th image of a sample takes that of the first sample's.
        """
        count, config = self.row_count, self.recipe.loss
        u = torch.cat([uniform(1, self.seed, step, number, "time") for number in range(count)])
        if config.stratified_times:
            u = (torch.randperm(count, generator=generator(self.seed, step, 0, "strata")) + u) / count
        return u[self._matching_rows()] if config.matched_times else u

    def _matching_rows(self) -> list[int]:
        """For each row of a step, the first row whose image has the same place in its sample."""
        places = [self.samples[:number].count(sample) for number, sample in enumerate(self.samples)]
        return [*(places.index(place) for place in places), *range(len(places), self.row_count)]

    def preview_prompts(self) -> list[str]:
        """The composite, if there are several samples, and each sample alone."""
        alone = [self.naming.training_prompts(word)[0] for word in self.naming.words]
        return [self.naming.expand(self.naming.composite_prompt()), *alone] if len(alone) > 1 else alone

    def every_text(self) -> list[str]:
        """Every prompt that training, previews and prior images need; the empty one is for guidance."""
        priors = [self.prior_prompt(word) for word in self.naming.words] if self.recipe.loss.prior else []
        return list(dict.fromkeys([*self.all_prompts(), *self.preview_prompts(), *priors, ""]))

    def all_prompts(self) -> list[str]:
        """Every prompt with a pseudo-word that any step may have."""
        words = list(self.naming.words)
        texts = [text for word in words for text in self.naming.training_prompts(word)]
        if self.recipe.data.collage:
            texts.append(self.naming.joint_prompt(words))
        texts += [p.region.prompt.format(w) for p in self.recipe.phases if p.region for w in words]
        prefixes = ("", "a far away ") if self.recipe.data.augment.scale else ("",)
        return list(dict.fromkeys(prefix + text for prefix in prefixes for text in texts))
