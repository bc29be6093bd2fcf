"""The Python interface: `personalize` and `load` return a `Run`, which generates and exports."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

from PIL import Image

from magictailor.attachments import AttachmentSpec
from magictailor.backbones import Backbone, RuntimeOptions, load_backbone
from magictailor.backbones.community_lora import community_lora
from magictailor.common.errors import InputError
from magictailor.common.events import Listener, ignore
from magictailor.common.files import output_folder
from magictailor.data import Pair, read_pair
from magictailor.generation import generate, transfer
from magictailor.generation.images import Generated
from magictailor.generation.loading import load_trained
from magictailor.generation.transfer import TransferOptions
from magictailor.recipe import Recipe
from magictailor.training.metrics import read_metrics
from magictailor.training.run_folder import finished_run
from magictailor.training.start import read_start
from magictailor.training.train import make_recipe, train


class Run:
    """A finished run. Its model is loaded when it is first needed.

    Attributes:
        folder: the run's folder.
        words: ``{pseudo-word: label}``, the concept first.
        recipe: all settings of the training.
    """

    def __init__(self, folder: Path | str, loras: Sequence[str] = (), **options: Unpack[RuntimeOptions]) -> None:
        self.folder, self.info = finished_run(folder)
        self.words, self.recipe = self.info.words, self.info.recipe
        self._loras, self._options = loras, options

    @cached_property
    def backbone(self) -> Backbone:
        """The base with the run's LoRA, pseudo-words and weights."""
        return load_trained(self.folder, self._loras, **self._options)[0]

    @property
    def pipeline(self) -> Any:
        """A plain diffusers pipeline that knows the pseudo-words; nothing of it is patched."""
        return self.backbone.as_pipeline()

    @property
    def history(self) -> list[dict[str, float]]:
        """The metrics of every step: step, loss and its terms, gradient norm, learning rate."""
        return read_metrics(self.folder)

    def generate(
        self,
        prompts: str | Sequence[str],
        *,
        number: int = 1,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        emphasis: float | None = None,
        scheduler: str | None = None,
        batch: int | None = None,
        attachments: Sequence[AttachmentSpec] = (),
        listen: Listener = ignore,
    ) -> Iterator[Generated]:
        """Images of the prompts, lazily: ``number`` of each, image i from seed ``seed + i``, for any batch size.

        Args:
            steps: of the denoising; the recipe's, unless given.
            guidance: of the prompt; the recipe's, unless given.
            emphasis: of the components, 0 .. 2: where they are in the image, guidance leads away from the prompt without them,
                and elsewhere towards it. The recipe's, unless given. An image takes half as long again.
            scheduler: by default the family's own; ddim, dpm++, dpm++-karras or sde-dpm++ for diffusion, own, euler or
                dpm++ for flow matching.
            batch: images at a time; the preset's, unless given.
            attachments: what joins in, see `magictailor.attachments`: a picture to start from. The run does not change.
            listen: is called with every event.

        Raises:
            InputError: before anything is generated: an unknown pseudo-word or scheduler, a number out of range, an
                attachment that does not fit the model.
        """
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        return generate.generate(
            self.backbone, self.folder, self.info, texts, number=number, seed=seed, steps=steps, guidance=guidance,
            emphasis=emphasis, scheduler_name=scheduler, batch=batch, attachments=attachments, listen=listen,
        )  # fmt: skip

    def transfer(
        self,
        image: Path | str,
        region: Path | str,
        *,
        word: str | None = None,
        prompt: str | None = None,
        number: int = 1,
        seed: int = 0,
        options: TransferOptions | None = None,
        listen: Listener = ignore,
    ) -> Iterator[Image.Image]:
        """Generate a component inside ``region`` (a mask, white inside) of ``image``; outside, the image stays.

        Blended diffusion with CLiC's pull: within the region, latents move to where the word's attention should be.

        Args:
            word: the pseudo-word; the last one, unless given.
            prompt: the word's training prompt, unless given; it must hold the word.
            number: images, from seeds ``seed``, ``seed + 1`` and so on.

        Returns:
            Squares of the model's size around the region, lazily.

        Raises:
            InputError: no such word, images that cannot be read, an empty region, numbers out of range.
        """
        return transfer.transfer(
            self.backbone,
            self.info,
            image,
            region,
            word=word,
            prompt=prompt,
            number=number,
            seed=seed,
            options=options or TransferOptions(),
            listen=listen,
        )

    def export(
        self, output: Path | str, format: str = "diffusers", *, bundle: bool = False, half: bool = False
    ) -> Path:
        """Write files for other tools, see `magictailor.export`."""
        from magictailor.exports import export

        return export(self.folder, output, format, bundle=bundle, half=half)


def personalize(
    pair: Pair | Path | str,
    output: Path | str,
    *,
    model: str | Backbone = "embedded",
    method: str | None = None,
    settings: Sequence[str] = (),
    recipe: Recipe | None = None,
    loras: Sequence[str] = (),
    start: Path | str | None = None,
    listen: Listener = ignore,
    **options: Unpack[RuntimeOptions],
) -> Run:
    """Fine-tune on a pair; the same call resumes after any interruption.

    Args:
        pair: a `Pair`, or the path of a folder or TOML file.
        output: the run's folder: new, empty, or this run's.
        model: ``embedded``, a folder in diffusers format, a .safetensors file, a hub's name, or a loaded backbone that
            nothing was added to.
        method: by default ``magictailor``.
        settings: ``key=value`` changes of the method's recipe.
        recipe: instead of ``method`` and ``settings``.
        loras: community LoRAs merged into a model that is given by name, ``FILE`` or ``FILE=STRENGTH``.
        start: a finished run or an exported folder, whose LoRA and pseudo-words training starts from.
        listen: is called with every event, see `magictailor.common.events`.
        options: of a model that is given by name, see `RuntimeOptions`.

    Returns:
        The finished run. It loads its model by name when it is first used.

    Raises:
        InputError: bad pair, model, recipe or folder, or arguments that would have no effect; nothing has been written.
        RunError: a loss that is not finite, or a full disk; the last checkpoint is kept.
        RunStopped: another process asked for it (`magictailor ask`).
    """
    if recipe is not None and (method is not None or settings):
        raise InputError("has no effect next to a recipe", "leave it out", field="method" if method else "settings")
    if isinstance(model, Backbone) and (loras or any(v for v in options.values())):
        name = "loras" if loras else next(k for k, v in options.items() if v)
        raise InputError("has no effect on a backbone that is loaded already", "give it when loading", field=name)
    source = None if isinstance(pair, Pair) or not Path(pair).is_dir() else Path(pair)
    pair = pair if isinstance(pair, Pair) else read_pair(pair)
    folder = output_folder(output, outside=source)
    if isinstance(model, str):
        model = load_backbone(model, [community_lora(text) for text in loras], listen, **options)
    started = None if start is None else read_start(start)
    recipe = recipe or make_recipe(model, method or "magictailor", settings)
    return Run(train(pair, folder, model, recipe, start=started, listen=listen), **options)


def load(
    run: Path | str, loras: Sequence[str] = (), listen: Listener = ignore, **options: Unpack[RuntimeOptions]
) -> Run:
    """A finished run, ready to generate.

    Args:
        loras: community LoRAs to generate with, ``FILE`` or ``FILE=STRENGTH``, next to those of the training.
        options: see `RuntimeOptions`; the run's precision, unless given.

    Raises:
        InputError: no run there, or not finished; its base has changed; no such device; a LoRA that does not fit.
    """
    loaded = Run(run, loras, **options)
    loaded.backbone = load_trained(run, loras, listen=listen, **options)[0]
    return loaded
