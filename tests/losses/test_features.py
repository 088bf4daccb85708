from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from medrecon.contract import Features, LayerInfo
from medrecon.encoders import (
    DeepbetEncoder,
    FrozenEncoder,
    MedicalNetEncoder,
    PlainEncoder,
    ResNetEncoder,
    VGGEncoder,
)
from medrecon.errors import ModelError
from medrecon.losses import FeatureConsistencyLoss, PerceptualLoss

both = pytest.mark.parametrize("loss_class", [PerceptualLoss, FeatureConsistencyLoss])


def eyes(dims: int = 2) -> FrozenEncoder:
    torch.manual_seed(0)
    return FrozenEncoder(PlainEncoder(dims, channels=(6, 8)))


class Blind(nn.Module):
    """An encoder that sees nothing: features of zero everywhere."""

    def layers(self) -> list[LayerInfo]:
        return [LayerInfo("dark", 4, (1, 1), (1, 1))]

    def forward(self, image: torch.Tensor, names: object = None) -> Features:
        return {"dark": 0 * image.expand(-1, 4, -1, -1)}


@both
def test_random_slices_in_training_the_same_in_evaluation(loss_class: type) -> None:
    loss = loss_class(eyes(), ["level1"], slices_per_axis=2)
    pred, target = torch.rand(1, 1, 24, 24, 24), torch.rand(1, 1, 24, 24, 24)
    assert len({loss.train()(pred, target).item() for _ in range(5)}) > 1
    assert len({loss.eval()(pred, target).item() for _ in range(5)}) == 1
    torch.manual_seed(4)
    first = loss.train()(pred, target).item()
    torch.manual_seed(4)
    assert loss(pred, target).item() == first


@both
def test_never_nan(loss_class: type) -> None:
    assert loss_class(Blind(), ["dark"])(torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8)) == 0
    for shape in ((1, 1, 1, 1, 1), (1, 1, 40, 40, 1), (2, 1, 3, 3, 3)):
        loss = loss_class(eyes(), ["level1", "level2"], slices_per_axis=1).train()
        pred = torch.zeros(shape, requires_grad=True)
        value = loss(pred, torch.ones(shape))
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(pred.grad).all()


@both
def test_weights_choose_and_mean_layers(loss_class: type) -> None:
    pred, target = torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 16)
    one, two = (loss_class(eyes(), [name])(pred, target).item() for name in ("level1", "level2"))
    assert loss_class(eyes(), {"level1": 3.0, "level2": 1.0})(pred, target).item() == pytest.approx(
        (3 * one + two) / 4, rel=1e-5
    )
    assert loss_class(eyes(), ["level1", "level2"])(pred, target).item() == pytest.approx(
        (one + two) / 2, rel=1e-5
    )


@both
def test_the_encoder_is_never_trained_and_the_target_gets_no_gradient(loss_class: type) -> None:
    class Norm(Blind):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(4).requires_grad_(False)

        def forward(self, image: torch.Tensor, names: object = None) -> Features:
            return {"dark": self.norm(image.expand(-1, 4, -1, -1))}

    encoder = Norm()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    loss = loss_class(encoder, ["dark"]).train()
    pred, target = (torch.rand(2, 1, 8, 8, requires_grad=True) for _ in range(2))
    loss(pred, target).backward()
    assert not encoder.norm.training
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert pred.grad.abs().sum() > 0
    assert target.grad is None


@cache
def drawn(encoder_class: type) -> nn.Module:
    """A real network with random weights, which no loss changes; to draw them takes seconds."""
    torch.manual_seed(0)
    return encoder_class()


SIDES = {MedicalNetEncoder: 16, VGGEncoder: 16}
"""In voxels, of the networks whose deep features take long: as fine as its first ones, or 512 channels."""


@both
@pytest.mark.parametrize("encoder_class", [VGGEncoder, ResNetEncoder, DeepbetEncoder, MedicalNetEncoder])
@pytest.mark.parametrize("value", [0.0, pytest.param(0.7, marks=pytest.mark.slow)])
def test_real_networks_have_finite_gradients_on_constant_patches(
    loss_class: type, encoder_class: type, value: float
) -> None:
    """2D networks by slices along all axes, 3D networks whole, in mixed precision."""
    encoder = drawn(encoder_class)
    names = [info.name for info in encoder.layers()]
    loss = loss_class(encoder, [names[0], names[-1]], slices_per_axis=1)
    side = SIDES.get(encoder_class, 32)
    pred = torch.full((1, 1, side, side, side), value, requires_grad=True)
    for target in (torch.zeros_like(pred), torch.rand(pred.shape)):
        pred.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            found = loss(pred, target)
        found.backward()
        assert torch.isfinite(found)
        assert torch.isfinite(pred.grad).all()


@both
def test_refusals(loss_class: type) -> None:
    with pytest.raises(ModelError, match="FrozenEncoder"):
        loss_class(PlainEncoder(2), ["level1"])
    with pytest.raises(ModelError, match="no layer 'level9'; choose from level1, level2"):
        loss_class(eyes(), ["level1", "level9"])
    with pytest.raises(ModelError, match="no layer was asked for"):
        loss_class(eyes(), [])
    with pytest.raises(ModelError, match="must be positive"):
        loss_class(eyes(), {"level1": -1.0})
    with pytest.raises(ModelError, match="a 3D encoder cannot compare 2D images"):
        loss_class(eyes(3), ["level1"])(torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8))


def test_a_window_is_drawn_in_training_alone() -> None:
    loss = PerceptualLoss(eyes(), ["level1"], window=16)
    sizes: list[tuple[int, ...]] = []
    loss.encoder.register_forward_pre_hook(lambda _, given: sizes.append(tuple(given[0].shape)))
    images = torch.rand(2, 1, 40, 24), torch.rand(2, 1, 40, 24)
    torch.manual_seed(0)
    first, second = (float(loss.train()(*images)) for _ in range(2))
    assert set(sizes) == {(2, 1, 16, 16)}
    assert first != second, "another part each time"
    sizes.clear()
    assert float(loss.eval()(*images)) == float(loss.eval()(*images))
    assert set(sizes) == {(2, 1, 40, 24)}


def test_mixed_precision_changes_little() -> None:
    images = torch.rand(1, 1, 32, 32), torch.rand(1, 1, 32, 32)
    network = VGGEncoder(16)
    full, mixed = (
        float(PerceptualLoss(network, ["relu1_2", "relu2_2"], mixed_precision=kind).eval()(*images))
        for kind in (False, True)
    )
    assert mixed != full
    assert mixed == pytest.approx(full, rel=0.03)


def test_consistency_is_the_normalised_error() -> None:
    pred, target = torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16)
    encoder = eyes()
    p, t = (encoder(image, ["level1"])["level1"].flatten(1) for image in (pred, target))
    wanted = ((p - t).square().sum(1) / t.square().sum(1)).mean().item()
    assert FeatureConsistencyLoss(encoder, ["level1"])(pred, target).item() == pytest.approx(wanted, rel=1e-3)


def test_perceptual_does_not_depend_on_the_scale_of_features() -> None:
    class Louder(FrozenEncoder):
        def forward(self, image: torch.Tensor, names: object = None) -> Features:
            return {k: 1000 * v for k, v in self.encoder(image, names).items()}

    pred, target = torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 16)
    quiet = PerceptualLoss(eyes(), ["level1"])(pred, target).item()
    assert PerceptualLoss(Louder(eyes()), ["level1"])(pred, target).item() == pytest.approx(quiet, rel=1e-3)


def test_metatensors() -> None:
    loss = PerceptualLoss(eyes(), ["level1"]).eval()
    pred, target = torch.rand(1, 1, 12, 12, 12), torch.rand(1, 1, 12, 12, 12)
    assert loss(MetaTensor(pred), MetaTensor(target)).item() == pytest.approx(loss(pred, target).item())


@pytest.mark.real_data
def test_vgg16_tells_structure_from_brightness(shared_dir: Path) -> None:
    """Blurring hurts what VGG16 sees more than a change of brightness with twice its squared error."""
    path = shared_dir / "weights" / "vgg16_features.safetensors"
    if not path.is_file():
        pytest.skip("no VGG16 file here")
    torch.manual_seed(0)
    coarse = nn.functional.interpolate(torch.rand(1, 1, 12, 12, 12), size=(48, 48, 48), mode="nearest")
    blurred = nn.functional.avg_pool3d(coarse, 5, stride=1, padding=2, count_include_pad=False)
    shifted = coarse + (2 * (blurred - coarse).square().mean()).sqrt()
    loss = PerceptualLoss(
        VGGEncoder(weights=path), ["relu1_2", "relu2_2", "relu3_3"], slices_per_axis=2
    ).eval()
    assert loss(blurred, coarse) > 2 * loss(shifted, coarse) > 0
