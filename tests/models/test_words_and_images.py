"""Prompts and images of today's families, as their pipelines read and decode them."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from families import SIZE, sd3
from family_inputs import GUIDED, PROMPTS, base, every_family
from magictailor.backbones.families import backbone_class
from magictailor.backbones.sampling import SamplingOptions, sample
from magictailor.common.errors import InputError
from magictailor.training.setup import build
from magictailor.training.step import train_step
from magictailor.training.train import make_recipe
from tiny import pair


@every_family
def test_spans_show_the_tokens_of_the_text_that_a_word_stands_for(family: str) -> None:
    """Changing the text of a word changes the encoded sequence there, and nowhere before it."""
    backbone = base(family)
    (span,) = backbone.encode_text([PROMPTS[1]], ["<hair>"]).spans
    first = backbone.encode_text([PROMPTS[1]]).tensors["sequence"]
    backbone.add_words({"<hair>": "ktn hat"})
    second = backbone.encode_text([PROMPTS[1]]).tensors["sequence"]
    length = min(first.shape[1], second.shape[1])
    changed = (first[0, :length] != second[0, :length]).any(1).nonzero()[:, 0].tolist()
    assert span["<hair>"]
    assert set(changed) & set(span["<hair>"])
    if family not in ("sd3", "flux", "sana"):  # their encoders look both ways, or pad differently
        assert min(changed) >= min(span["<hair>"])


def test_without_t5_stable_diffusion_3_has_pseudo_words_to_train() -> None:
    torch.manual_seed(0)
    made = sd3(with_t5=False)
    backbone = backbone_class("StableDiffusion3Pipeline")("sd3", made)
    assert backbone.family == "embedded-dit"  # by the size of its vocabulary
    assert backbone.trainable == {"lora", "pseudo-words"}
    backbone.use_size(16)
    training = build(pair(), make_recipe(backbone, settings=["data.size=16", "sampling.preview_every=0"]), backbone)
    with torch.no_grad():
        for parameter in training.trained.lora.values():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    with training.objective.reading_attention():
        train_step(training.objective, 0, None)
    assert set(training.trained.words) == {f"<{w}>.{e}" for w in ("person", "hair") for e in ("clip_l", "clip_g")}
    assert all(row.grad is not None and float(row.grad.abs().max()) > 0 for row in training.trained.words.values())


@every_family
def test_latents_are_what_the_pipeline_decodes(family: str) -> None:
    """The pipeline, given our latents as the noise of a denoising of one step that does nothing, decodes the same image."""
    backbone = base(family)
    pixels = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    noise = torch.zeros(1, *backbone.latent_shape(SIZE, SIZE))
    with torch.no_grad():
        latents = backbone.encode_images(pixels, noise)
        again = backbone.encode_images(pixels, noise)
        decoded = backbone.decode_latents(latents)
        vae = backbone.pipeline.vae
        plain = pixels[:, :, None] if family == "qwen-image" else pixels
        found = vae.encode(plain)
        mean = found.latent if family == "sana" else found.latent_dist.mode()
        expected = vae.decode(mean).sample
    expected = expected[:, :, 0] if family == "qwen-image" else expected
    assert latents.shape == noise.shape
    assert torch.equal(latents, again)
    torch.testing.assert_close(decoded, expected, rtol=1e-4, atol=1e-4)


@every_family
def test_the_flow_leads_from_noise_to_the_image(family: str) -> None:
    backbone = base(family)
    latents, noise = torch.randn(2, 3, *backbone.latent_shape(SIZE, SIZE))
    times = backbone.times(torch.tensor([0.0, 0.31, 0.99]))
    noisy, velocity = backbone.add_noise(latents, noise, times), backbone.target(latents, noise, times)
    torch.testing.assert_close(noisy - times[:, None, None, None] * velocity, latents, rtol=1e-4, atol=1e-4)
    assert float(times.diff().min()) > 0
    assert 0 <= float(times.min()) <= float(times.max()) <= 1


@every_family
@torch.no_grad()
def test_the_prediction_is_the_one_that_the_pipeline_makes(family: str) -> None:
    """One Euler step of the pipeline from t = 1 subtracts our prediction, whatever the family packs, inverts or negates."""
    backbone = base(family)
    seen: list[Tensor] = []
    own = backbone.pipeline.scheduler.step

    def step(output: Tensor, time: Tensor, sample: Tensor, **kwargs: Any) -> Any:
        seen.extend([output.clone(), torch.as_tensor(time).clone(), sample.clone()])
        return own(output, time, sample, **kwargs)

    backbone.pipeline.scheduler.step = step
    call = backbone.pipeline_inputs([PROMPTS[0]], {"z-image": 0.0, **GUIDED}.get(family, 1.0))
    backbone.pipeline(
        **call, num_inference_steps=1, height=SIZE, width=SIZE, output_type="latent",
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    output, time, sample = seen[:3]
    shape = backbone.latent_shape(SIZE, SIZE)

    def unpacked(x: Tensor) -> Tensor:
        if x.ndim == 4:
            return x
        if family.startswith("flux2"):
            return x.transpose(1, 2).reshape(1, *shape)
        return backbone._output(x, torch.zeros(1, *shape))

    condition = backbone.encode_text([PROMPTS[0]])
    predicted = backbone.predict(unpacked(sample).float(), time.reshape(1) / 1000, condition).output
    torch.testing.assert_close(predicted, unpacked(output).float(), rtol=1e-3, atol=1e-4)


@every_family
@torch.no_grad()
def test_emphasis_changes_an_image_or_is_refused(family: str) -> None:
    backbone = base(family)
    if family != "sd3":
        with pytest.raises(InputError, match="with and without the prompt at once"):
            backbone.check_emphasis(4.0)
        return
    backbone.check_emphasis(4.0)
    with pytest.raises(InputError, match="no effect"):
        backbone.check_emphasis(1.0)

    def image(*without: str) -> Any:
        options = SamplingOptions(2, 4.0, emphasis=0.8)
        return np.asarray(next(sample(backbone, [PROMPTS[0]], [3], options, without=without)), int)

    assert np.abs(image("<person>") - image()).max() > 2
    assert (image("") == image()).all()
