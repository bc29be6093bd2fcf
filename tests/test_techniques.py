"""Each equation against numbers worked out by hand."""

from collections.abc import Callable, Sequence
from typing import Literal

import pytest
import torch
from torch import Tensor

from magictailor.data.training_images import shrink
from magictailor.recipe import DMDeg, MaskOut, NoDegradation
from magictailor.techniques.attention import attention_error
from magictailor.techniques.balancing import diffusion_weights, preserve_weights, sample_means, worst
from magictailor.techniques.degradation import degraded_latents, degraded_pixels, intensity
from magictailor.techniques.diffusion import masked_error
from tiny import Rig, pair, recipe


def half_masked() -> tuple[Tensor, Tensor, Tensor]:
    """An image, a mask of its left half, and noise; enough pixels to measure a spread."""
    random = torch.Generator().manual_seed(0)
    image = torch.rand(3, 128, 128, generator=random) * 2 - 1
    mask = torch.zeros(1, 128, 128)
    mask[..., :64] = 1
    return image, mask, torch.randn(image.shape, generator=random)


def given(noise: Tensor) -> Callable[[Sequence[int]], Tensor]:
    """Always this noise, whatever shape is asked for."""
    return lambda _: noise


@pytest.mark.parametrize("step", [0, 450, 499])
def test_dm_deg_adds_noise_of_alpha_outside_the_mask_and_nothing_inside(step: int) -> None:
    image, mask, noise = half_masked()
    out = degraded_pixels(image, mask, given(noise), DMDeg(), step / 500)
    assert torch.equal(out[..., :64], image[..., :64])
    alpha = 0.5 * (1 - (step / 500) ** 32)
    added = (out - image)[..., 64:]
    assert float(added.std()) == pytest.approx(alpha, rel=0.02)
    assert float(added.mean()) == pytest.approx(0, abs=0.01)


def test_dm_deg_weighs_noise_by_a_grey_mask() -> None:
    image, noise, config = torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 2.0), DMDeg(schedule="fixed", alpha=0.4)
    out = degraded_pixels(image, torch.full((1, 1, 1), 0.75), given(noise), config, 0)
    assert out.flatten().tolist() == pytest.approx([0.4 * 2 * 0.25 + 0.5] * 3)


def test_noise_in_latents_begins_where_the_loss_reads_nothing() -> None:
    """A cell that the mask touches, even by a hundredth, keeps its value exactly; pixels are left as they are."""
    random, config = torch.Generator().manual_seed(0), DMDeg(space="latents", schedule="fixed", alpha=0.4)
    latents, mask = torch.randn(2, 4, 64, 64, generator=random), torch.zeros(2, 1, 64, 64)
    mask[..., :20], mask[..., 20] = 1, 0.01
    noise = torch.randn(latents.shape, generator=random)
    out = degraded_latents(latents, mask, given(noise), config, 0)
    assert torch.equal(out[..., :21], latents[..., :21])
    assert float((out - latents)[..., 21:].std()) == pytest.approx(0.4, rel=0.02)
    image, pixel_mask, _ = half_masked()
    assert degraded_pixels(image, pixel_mask, given(noise), config, 0) is image
    for other in (DMDeg(), MaskOut(), NoDegradation()):
        assert degraded_latents(latents, mask, given(noise), other, 0) is latents


def test_the_target_inside_the_mask_is_the_undegraded_images_only_with_noise_in_latents() -> None:
    """The autoencoder mixes pixels, so that noise outside the mask changes latents inside it."""
    latents = {}
    kinds: tuple[Literal["none", "pixels", "latents"], ...] = ("none", "pixels", "latents")
    for kind in kinds:
        rig = Rig(recipe(), pair())
        degradation = NoDegradation() if kind == "none" else DMDeg(space=kind)
        maker = rig.objective.maker
        latents[kind], _, masks = maker._latents(rig.examples.rows(0), degradation)
    read = shrink(masks.amax(1, keepdim=True), maker.latent_grid) > 0
    assert 0 < float(read.float().mean()) < 1
    change = {kind: (latents[kind] - latents["none"]).abs() * read for kind in ("pixels", "latents")}
    assert float(change["latents"].max()) == 0
    assert float(change["pixels"].max()) > 1e-3
    assert float(((latents["latents"] - latents["none"]).abs() * ~read).max()) > 0.1


@pytest.mark.parametrize(
    ("step", "value"),
    [(0, 0.5), (250, 0.5), (400, 0.499604), (450, 0.482831), (475, 0.403144), (490, 0.238058), (500, 0.0)],
)
def test_intensity_is_equation_5(step: int, value: float) -> None:
    assert intensity(step / 500, DMDeg()) == pytest.approx(value, abs=1e-6)


def test_intensity_falls_all_the_way_and_sooner_with_a_smaller_gamma() -> None:
    values = [intensity(d / 500, DMDeg()) for d in range(501)]
    assert values == sorted(values, reverse=True)
    assert len(set(values[250:])) == 251
    sooner = [intensity(d / 500, DMDeg(gamma=8)) for d in range(1, 500)]
    assert all(a < b for a, b in zip(sooner[200:], values[201:]))


@pytest.mark.parametrize(
    ("schedule", "values"),
    [("fixed", [0.6, 0.6, 0.6]), ("ascending", [0, 0.15, 0.6]), ("descending", [0.6, 0.45, 0])],
)
def test_the_ablations_schedules(schedule: str, values: list[float]) -> None:
    config = DMDeg.model_validate({"schedule": schedule, "alpha": 0.6})
    assert [intensity(d / 400, config) for d in (0, 100, 400)] == pytest.approx(values)


def test_mask_out_is_grey_outside_and_without_degradation_nothing_changes() -> None:
    image, mask, noise = half_masked()
    out = degraded_pixels(image, mask, given(noise), MaskOut(), 0)
    assert torch.equal(out[..., :64], image[..., :64])
    assert not out[..., 64:].any()
    assert torch.equal(degraded_pixels(image, mask, given(noise), NoDegradation(), 0), image)


def test_degraded_pixels_are_clamped_only_on_request() -> None:
    """As the autoencoder sees them; an image without degradation is in its range anyway."""
    encoded = {}
    for clamped in (False, True):
        rig = Rig(recipe(f"quirks.clamp_degraded={str(clamped).lower()}", "data.augment.jitter=0"), pair())
        encode = rig.backbone.encode_images

        def encoding(
            pixels: Tensor, noise: Tensor, clamped: bool = clamped, encode: Callable[..., Tensor] = encode
        ) -> Tensor:
            encoded[clamped] = pixels
            return encode(pixels, noise)

        rig.backbone.encode_images = encoding  # type: ignore[method-assign]
        rig.objective.maker.batch(rig.examples.rows(0), rig.examples.times(0), rig.recipe.phase(0))
    assert float(encoded[False].abs().max()) > 1.5
    assert torch.equal(encoded[True], encoded[False].clamp(-1, 1))


def test_masked_error_by_hand() -> None:
    error = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 2.0], [1.0, 5.0]]]])
    mask = torch.tensor([[[[1.0, 0.5], [0.0, 0.0]]]])
    # Within the mask: 1 * (1 + 0) + 0.5 * (4 + 4) = 5, over 2 channels * 1.5.
    assert masked_error(error, mask, "mask").tolist() == pytest.approx([5 / 3])
    # (M e)^2: 1 + 0 + 1 + 1 = 3, over 8 numbers.
    assert masked_error(error, mask, "whole").tolist() == pytest.approx([3 / 8])
    assert masked_error(error, mask, "off").tolist() == pytest.approx([(1 + 4 + 9 + 16 + 0 + 4 + 1 + 25) / 8])


def test_the_mean_over_the_mask_does_not_depend_on_its_area() -> None:
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, :6], mask[1, :, :1] = 1, 1
    error = torch.full((2, 4, 8, 8), 3.0)
    assert masked_error(error, mask, "mask").tolist() == pytest.approx([9, 9])
    assert masked_error(error, mask, "whole").tolist() == pytest.approx([9 * 6 / 8, 9 / 8])


def test_error_outside_the_mask_does_not_count() -> None:
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    error = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    other = error + (1 - mask) * 100
    assert torch.equal(masked_error(error, mask, "mask"), masked_error(other, mask, "mask"))
    assert torch.equal(masked_error(error, mask, "whole"), masked_error(other, mask, "whole"))


def test_attention_error_is_zero_where_the_map_is_the_mask_at_any_scale() -> None:
    mask = torch.tensor([[[1.0, 0.5], [0.0, 1.0]], [[0.0, 0.0], [1.0, 0.0]]])
    scale = torch.tensor([0.01, 7.0])[:, None, None]
    assert attention_error(mask * scale, mask).tolist() == pytest.approx([0, 0], abs=1e-12)


def test_attention_error_by_hand() -> None:
    maps = torch.tensor([[[0.2, 0.1], [0.05, 0.0]]])  # over its maximum: 1, .5, .25, 0
    mask = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    assert attention_error(maps, mask).tolist() == pytest.approx([(0 + 0.25 + 0.0625 + 1) / 4])


def test_means_over_samples_with_unequal_numbers_of_images() -> None:
    per_image = torch.tensor([1.0, 10.0, 3.0, 5.0, 20.0])
    assert sample_means(per_image, [0, 1, 0, 0, 1], 2).tolist() == pytest.approx([3, 15])


@pytest.mark.parametrize(
    ("losses", "index", "preserved"),
    [([2.0], 0, [0]), ([1.0, 3.0], 1, [1, 0]), ([5.0, 3.0], 0, [0, 1]), ([1.0, 4.0, 2.0], 1, [0.5, 0, 0.5])],
)
def test_balancing(losses: list[float], index: int, preserved: list[float]) -> None:
    values = torch.tensor(losses)
    assert worst(values).tolist() == [n == index for n in range(len(losses))]
    assert diffusion_weights(values, "max").tolist() == [float(n == index) for n in range(len(losses))]
    assert diffusion_weights(values, "mean").tolist() == pytest.approx([1 / len(losses)] * len(losses))
    assert preserve_weights(values).tolist() == pytest.approx(preserved)


def test_of_equal_losses_one_is_the_worst() -> None:
    assert worst(torch.tensor([1.0, 2.0, 2.0])).tolist() == [False, True, False]


def test_the_worst_sample_is_the_worse_predicted_one_and_not_the_larger_one() -> None:
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, :6], mask[1, :, :1] = 1, 1
    error = torch.stack([torch.full((4, 8, 8), 1.0), torch.full((4, 8, 8), 1.5)])
    assert worst(sample_means(masked_error(error, mask, "mask"), [0, 1], 2)).tolist() == [False, True]
    assert worst(sample_means(masked_error(error, mask, "whole"), [0, 1], 2)).tolist() == [
        True,
        False,
    ]  # the reference's quirk 5
