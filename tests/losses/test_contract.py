"""What every loss of two images promises. A new one joins by one line in LOSSES."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from monai.networks.nets import PatchDiscriminator
from torch import nn

from medrecon import losses
from medrecon.encoders import FrozenEncoder, PlainEncoder
from medrecon.losses import (
    CharbonnierLoss,
    DiscriminatorLoss,
    FeatureConsistencyLoss,
    GeneratorLoss,
    MSSSIMLoss,
    PerceptualLoss,
    PSNRLoss,
    SpectralLoss,
    SSIMLoss,
    WeightedSum,
)


def eyes(dims: int) -> nn.Module:
    torch.manual_seed(3)
    return FrozenEncoder(PlainEncoder(dims, channels=(6, 8, 8)))


class Judged(nn.Module):
    """An adversarial term as a loss of two images: what a discriminator says of the one, or of both."""

    def __init__(self, dims: int, loss: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.critic = PatchDiscriminator(dims, channels=4, in_channels=1, num_layers_d=1, norm=None)
        self.loss = loss

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        judged = self.critic(pred)
        return (
            self.loss(judged)
            if isinstance(self.loss, GeneratorLoss)
            else self.loss(self.critic(target), judged)
        )


# name -> (how to build it for 2 or 3 dimensions, its value where both images are equal)
LOSSES: dict[str, tuple[Callable[[int], nn.Module], float]] = {
    "l1": (lambda dims: nn.L1Loss(), 0.0),
    "mse": (lambda dims: nn.MSELoss(), 0.0),
    "charbonnier": (lambda dims: CharbonnierLoss(), 0.0),
    "psnr": (lambda dims: PSNRLoss(), -100.0),
    "ssim": (lambda dims: SSIMLoss(), 0.0),
    "ms_ssim": (lambda dims: MSSSIMLoss(win_size=5), 0.0),
    "spectral": (lambda dims: SpectralLoss(), 0.0),
    "perceptual": (lambda dims: PerceptualLoss(eyes(dims), ["level1", "level3"]), 0.0),
    "perceptual_2.5d": (lambda dims: PerceptualLoss(eyes(2), {"level1": 1.0, "level2": 0.5}), 0.0),
    "consistency": (lambda dims: FeatureConsistencyLoss(eyes(dims), ["level2"]), 0.0),
    "consistency_2.5d": (lambda dims: FeatureConsistencyLoss(eyes(2), ["level2"]), 0.0),
    "sum": (lambda dims: WeightedSum({"l1": (1, nn.L1Loss()), "ssim": (0.1, SSIMLoss())}), 0.0),
}

# terms that judge images by a network of their own, which are not least where both are equal
ADVERSARIAL: dict[str, Callable[[int], nn.Module]] = {
    "generator_hinge": lambda dims: Judged(dims, GeneratorLoss(1.0, "hinge")),
    "generator_least_squares": lambda dims: Judged(dims, GeneratorLoss(1.0, "least_squares")),
    "discriminator_hinge": lambda dims: Judged(dims, DiscriminatorLoss("hinge")),
    "discriminator_least_squares": lambda dims: Judged(dims, DiscriminatorLoss("least_squares")),
}

every = pytest.mark.parametrize(("name", "dims"), [(name, dims) for name in LOSSES for dims in (2, 3)])
with_adversarial = pytest.mark.parametrize(
    ("name", "dims"), [(name, dims) for name in [*LOSSES, *ADVERSARIAL] for dims in (2, 3)]
)


def build(name: str, dims: int) -> nn.Module:
    return (ADVERSARIAL[name] if name in ADVERSARIAL else LOSSES[name][0])(dims).eval()


def test_each_loss_is_here() -> None:
    built = {type(part).__name__ for name in [*LOSSES, *ADVERSARIAL] for part in build(name, 2).modules()}
    offered = {name for name in losses.__all__ if issubclass(getattr(losses, name), nn.Module)}
    assert offered - {"FeatureLoss"} <= built, "from FeatureLoss the others derive"


def noise(dims: int, seed: int = 0, side: int = 20) -> torch.Tensor:
    return torch.rand(2, 1, *(side,) * dims, generator=torch.Generator().manual_seed(seed))


@every
def test_least_at_equality_and_larger_the_further_away(name: str, dims: int) -> None:
    loss, image = build(name, dims), noise(dims)
    at_best = loss(image, image.clone())
    assert at_best.shape == ()
    assert at_best.item() == pytest.approx(LOSSES[name][1], abs=1e-5)
    values = [loss(image + step * (noise(dims, seed=1) - 0.5), image).item() for step in (0.1, 0.4, 1.0)]
    assert at_best.item() + 1e-6 < values[0] < values[1] < values[2]


@every
def test_descending_it_leads_to_the_target(name: str, dims: int) -> None:
    loss, target = build(name, dims), noise(dims)
    image = (target + 0.3 * (noise(dims, seed=1) - 0.5)).requires_grad_()
    before = loss(image, target)
    before.backward()
    assert torch.isfinite(image.grad).all()
    step = 0.01 * image.grad / image.grad.abs().max()
    assert loss(image.detach() - step, target) < before


@with_adversarial
@pytest.mark.parametrize("values", [(0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (-3.0, 5.0), (0.5, 0.5)])
@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_are_finite_on_constant_patches(
    name: str, dims: int, values: tuple[float, float], autocast: bool
) -> None:
    pred = torch.full((2, 1, *(16,) * dims), values[0], requires_grad=True)
    target = torch.full_like(pred, values[1])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        value = build(name, dims)(pred, target.detach())
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(pred.grad).all()


@with_adversarial
def test_mixed_precision_changes_little(name: str, dims: int) -> None:
    loss, target = build(name, dims), noise(dims)
    pred = (target + 0.2 * (noise(dims, seed=1) - 0.5)).requires_grad_()
    exact = loss(pred, target)
    exact.backward()
    wanted, pred.grad = pred.grad, None
    with torch.autocast("cpu", torch.bfloat16):
        fast = loss(pred, target)
    fast.backward()
    assert fast.item() == pytest.approx(exact.item(), rel=0.03)
    similarity = torch.nn.functional.cosine_similarity(pred.grad.flatten(), wanted.flatten(), dim=0)
    assert similarity > 0.97


@every
def test_half_precision_images(name: str, dims: int) -> None:
    target = noise(dims)
    pred = target.bfloat16().requires_grad_()
    if name in ("l1", "mse", "psnr", "charbonnier", "spectral", "ssim", "ms_ssim", "sum"):
        value = build(name, dims)(pred, target)
        value.backward()
        assert torch.isfinite(pred.grad).all()


@every
def test_the_target_gets_no_say_in_shape(name: str, dims: int) -> None:
    """A mean over images: two copies of a batch give the value of one."""
    loss, target = build(name, dims), noise(dims)
    pred = noise(dims, seed=1)
    one = loss(pred, target)
    two = loss(torch.cat([pred, pred]), torch.cat([target, target]))
    assert two.item() == pytest.approx(one.item(), rel=1e-4)
