from __future__ import annotations

import pytest
import torch
from monai.losses import SSIMLoss as MonaiSSIMLoss
from skimage.metrics import structural_similarity

from medrecon.losses import SpectralLoss, SSIMLoss


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


def test_spectrum_sees_a_shift_and_a_missing_frequency() -> None:
    x = torch.linspace(0, 2 * torch.pi, 33)[:-1].expand(1, 1, 32, 32)
    wave = 0.5 + 0.5 * torch.sin(4 * x)
    loss = SpectralLoss()
    assert loss(wave.roll(4, -1), wave) > 10 * loss(wave + 0.001, wave)
    assert loss(torch.full_like(wave, 0.5), wave) > 0
