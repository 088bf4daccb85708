from __future__ import annotations

import pytest
import torch
from monai.losses import SSIMLoss as MonaiSSIMLoss
from monai.metrics import MultiScaleSSIMMetric
from skimage.metrics import structural_similarity

from medrecon.evaluation import ms_ssim
from medrecon.evaluation.similarity import EXPONENTS, exponents
from medrecon.losses import MSSSIMLoss, SpectralLoss, SSIMLoss


def pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(1, 1, *shape, generator=generator)
    return (target + 0.2 * torch.rand(target.shape, generator=generator)).clamp(0, 1), target


@pytest.mark.parametrize("shape", [(24, 24), (16, 18, 20)])
def test_ssim_is_monais_and_near_scikit_images(shape: tuple[int, ...]) -> None:
    pred, target = pair(*shape)
    value = SSIMLoss()(pred, target).item()
    assert value == pytest.approx(MonaiSSIMLoss(len(shape))(pred, target).item(), abs=1e-5)
    reference = structural_similarity(
        pred[0, 0].numpy(),
        target[0, 0].numpy(),
        data_range=1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert 1 - value == pytest.approx(reference, abs=0.02)


def test_ssim_under_autocast_is_that_of_float32() -> None:
    pred, target = pair(24, 24)
    exact = SSIMLoss()(pred, target).item()
    with torch.autocast("cpu", torch.bfloat16):
        assert SSIMLoss()(pred, target).item() == exact
        assert abs(MonaiSSIMLoss(2)(pred, target).item() - exact) > 1e-3, "MONAI's needs no help any more"


def test_ssim_of_small_images() -> None:
    for shape in ((24, 5), (16, 16, 1), (1, 1)):
        pred, target = pair(*shape)
        loss = SSIMLoss()
        assert 0 < loss(pred, target).item() < 2
        assert loss(target, target).item() == pytest.approx(0, abs=1e-6)


def test_ssim_gradient_is_monais_and_channels_count_alike() -> None:
    pred, target = (image.reshape(1, 2, 12, 18, 20) for image in pair(24, 18, 20))
    grads = []
    for loss in (SSIMLoss(data_range=2.0), MonaiSSIMLoss(3, data_range=2.0)):
        image = pred.clone().requires_grad_()
        loss(image, target).backward()
        grads.append(image.grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-3, atol=1e-7)


def textured(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A wave with noise, and a weaker copy with other noise."""
    generator = torch.Generator().manual_seed(0)
    wave = 0.5 + 0.3 * torch.sin(0.3 * torch.arange(shape[-1])).expand(2, 1, *shape)
    target = wave + 0.1 * torch.randn(wave.shape, generator=generator)
    return 0.9 * target + 0.1 * torch.randn(wave.shape, generator=generator), target


@pytest.mark.parametrize(
    ("shape", "weights"), [((176, 181), EXPONENTS), ((50, 47), exponents(3)), ((46, 44, 49), exponents(3))]
)
def test_ms_ssim_is_monais_and_that_of_the_evaluation(
    shape: tuple[int, ...], weights: tuple[float, ...]
) -> None:
    pred, target = textured(*shape)
    value = MSSSIMLoss()(pred, target).item()
    metric = MultiScaleSSIMMetric(len(shape), data_range=1.0, weights=weights)
    assert 1 - value == pytest.approx(metric(pred, target).mean().item(), abs=2e-5)
    ours = [ms_ssim(t[0].numpy(), p[0].numpy(), data_range=1.0) for p, t in zip(pred, target, strict=True)]
    assert 1 - value == pytest.approx(sum(ours) / 2, abs=2e-5)
    assert 0.02 < value < 0.9


def test_ms_ssim_of_small_and_thin_images() -> None:
    for shape in ((20, 5), (16, 16, 1), (1, 1)):
        pred, target = pair(*shape)
        assert MSSSIMLoss()(pred, target).item() == pytest.approx(SSIMLoss()(pred, target).item(), abs=1e-5)
    pred, target = pair(50, 60, 6)
    assert MSSSIMLoss()(target, target).item() == pytest.approx(0, abs=1e-6)
    in_plane = MSSSIMLoss()(pred, target).item()
    assert in_plane != pytest.approx(SSIMLoss()(pred, target).item(), abs=1e-2), "halved in its plane"


def test_ms_ssim_has_a_way_back_from_the_negative() -> None:
    """Every scale of the negative correlates below zero: MONAI's metric is flat there, or NaN at its edge."""
    _, target = textured(50, 50)
    pred = (1 - target).requires_grad_()
    loss = MSSSIMLoss()
    loss(pred, target).backward()
    assert torch.isfinite(pred.grad).all()
    assert (pred.grad * (target - pred)).sum() < -1e-6, "towards the target it falls"
    mean = torch.linspace(-1, 1, 2001, requires_grad=True)
    power = loss._power(mean, 0.3)
    slope = torch.autograd.grad(power.sum(), mean)[0]
    assert (slope > 0).all()
    assert slope.max() < 2 * 0.3 * loss.eps**-0.7
    above = mean > loss.eps
    torch.testing.assert_close(power[above], mean[above] ** 0.3)
    assert (power.diff() - 0.001 * slope[1:]).abs().max() < 0.002, "no step where it is replaced"


def test_ms_ssim_under_autocast_is_that_of_float32() -> None:
    pred, target = textured(50, 50)
    exact = MSSSIMLoss()(pred, target).item()
    with torch.autocast("cpu", torch.bfloat16):
        assert MSSSIMLoss()(pred, target).item() == exact


def test_spectrum_sees_a_shift_and_a_missing_frequency() -> None:
    x = torch.linspace(0, 2 * torch.pi, 33)[:-1].expand(1, 1, 32, 32)
    wave = 0.5 + 0.5 * torch.sin(4 * x)
    loss = SpectralLoss()
    assert loss(wave.roll(4, -1), wave) > 10 * loss(wave + 0.001, wave)
    assert loss(torch.full_like(wave, 0.5), wave) > 0
