"""Generating with attachments."""

from collections.abc import Iterator, Sequence

import torch
from PIL import Image

from magictailor.attachments.contract import Attachment
from magictailor.attachments.control import LoadedControl
from magictailor.attachments.from_image import LoadedImage
from magictailor.attachments.joining import combined, joined, joint_class
from magictailor.attachments.loading import load_attachment
from magictailor.attachments.pipelines import ONE_AT_A_TIME, SEVERAL_MAPS
from magictailor.attachments.specs import AttachmentSpec
from magictailor.backbones import Backbone
from magictailor.backbones.sampling import SamplingOptions, sample
from magictailor.common.errors import InputError


def load_attachments(backbone: Backbone, specs: Sequence[AttachmentSpec], steps: int) -> list[Attachment]:
    """Load all of them.

    Args:
        steps: of the whole denoising.

    Raises:
        InputError: one does not fit the backbone or the others; nothing has been generated.
    """
    for spec in specs:
        spec.check()
    loaded = [load_attachment(spec, backbone) for spec in specs]
    starts = [a for a in loaded if isinstance(a, LoadedImage)]
    if len(starts) > 1:
        raise InputError("two pictures to start from", "give one", field="image")
    if starts and int(steps * starts[0].strength) < 1:
        raise InputError(
            f"{starts[0].strength}: leaves none of the {steps} steps", "choose a higher strength", field="strength"
        )
    _check_controls(backbone, [a for a in loaded if isinstance(a, LoadedControl)])
    if loaded:
        kind = joint_class(backbone, loaded)
        for attachment in loaded:
            attachment.check(kind)
    return loaded


def _check_controls(backbone: Backbone, controls: Sequence[LoadedControl]) -> None:
    if len(controls) > 1 and type(backbone.pipeline).__name__ not in SEVERAL_MAPS:
        raise InputError(f"{len(controls)} maps: {backbone.family} takes one", "give one", field="control")
    if "union" in {role for control in controls for role in control.roles}:
        if len({control.model for control in controls}) > 1:
            raise InputError("a union model next to another ControlNet", "give all to the union", field="control_model")
        for control in controls:  # all maps go through it together
            control.network = controls[0].network


def sample_attached(
    backbone: Backbone,
    prompts: Sequence[str],
    seeds: Sequence[int],
    options: SamplingOptions,
    attachments: Sequence[Attachment],
    without: Sequence[str] = (),
) -> Iterator[Image.Image]:
    """One image for each (prompt, seed), lazily; see `sample`. The backbone is as before whenever an image is yielded."""
    alone = joint_class(backbone, attachments).__name__ in ONE_AT_A_TIME
    batch = 1 if alone else options.batch or backbone.runtime.preset.sample_batch_size

    def inputs(count: int) -> dict[str, object]:
        return combined([a.inputs(count) for a in attachments])

    for start in range(0, len(prompts), batch):
        part = slice(start, start + batch)
        with joined(backbone, attachments) as pipeline, torch.random.fork_rng():
            torch.manual_seed(0)  # for what a pipeline draws without the pictures' own generators
            made = list(
                sample(
                    backbone,
                    prompts[part],
                    seeds[part],
                    options,
                    pipeline=pipeline,
                    inputs=inputs,
                    without=without[part],
                )
            )
        for picture, prompt, seed in zip(made, prompts[part], seeds[part], strict=True):
            for attachment in attachments:
                picture = attachment.second_pass(picture, prompt, seed, options)
            for attachment in attachments:
                picture = attachment.finish(picture)
            yield picture
