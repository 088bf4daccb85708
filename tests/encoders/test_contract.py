"""What every encoder promises. A new one joins by one line in ENCODERS."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from medrecon import encoders
from medrecon.contract import Encoder
from medrecon.encoders import (
    AdaptiveEncoder,
    DeepbetEncoder,
    FrozenEncoder,
    HierarchicalEncoder,
    MedicalNetEncoder,
    PlainEncoder,
    ResNetEncoder,
    VGGEncoder,
)
from medrecon.errors import ModelError

# name -> (how to build it, the layers whose receptive field is small enough to be measured here)
ENCODERS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "plain2d": (lambda: PlainEncoder(2), ["level1", "level2", "level4"]),
    "plain3d": (lambda: PlainEncoder(3, channels=(8, 8, 8)), ["level1", "level2", "level3"]),
    "hierarchical2d": (lambda: HierarchicalEncoder(2, widths=(8, 8, 8, 8)), ["level1", "level2", "level3"]),
    "hierarchical3d": (lambda: HierarchicalEncoder(3, widths=(8, 8, 8, 8)), ["level1", "level2"]),
    "adaptive2d": (lambda: AdaptiveEncoder(2), ["level2", "level4"]),
    "adaptive3d": (lambda: AdaptiveEncoder(3, orders=4, steps=8), ["level1", "level3"]),
    "frozen3d": (lambda: FrozenEncoder(PlainEncoder(3, channels=(4, 4))), ["level1", "level2"]),
    "vgg16": (lambda: VGGEncoder(16), ["relu1_1", "relu1_2", "relu2_2", "relu3_3"]),
    "vgg19": (lambda: VGGEncoder(19), ["relu2_2"]),
    "deepbet": (DeepbetEncoder, []),
    "resnet18": (ResNetEncoder, ["stem", "layer1.0", "layer1", "layer2", "layer3.0"]),
    "resnet50": (lambda: ResNetEncoder(50), ["layer1.0", "layer2.0", "layer3.0"]),
    "medicalnet10": (MedicalNetEncoder, []),
    "medicalnet18_plain": (lambda: MedicalNetEncoder(18, normalisation="none"), ["stem", "layer1.0"]),
}
OWN = ["plain2d", "plain3d", "hierarchical2d", "hierarchical3d", "adaptive2d", "adaptive3d", "frozen3d"]


@pytest.fixture(scope="module")
def encoder(request: pytest.FixtureRequest) -> nn.Module:
    """An encoder with weights that let everything through: what is at zero says nothing of its reach."""
    torch.manual_seed(0)
    made = ENCODERS[request.param][0]()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=(2 / parameter[0].numel()) ** 0.5)
    return made.eval()


@pytest.fixture(autouse=True)
def same_pictures() -> None:
    torch.manual_seed(1)


def picture(encoder: nn.Module, side: int, batch: int = 1) -> torch.Tensor:
    dims = len(encoder.layers()[0].stride)
    return torch.rand(batch, 1, *(side,) * dims)


LARGER = {"vgg19", "resnet50", "medicalnet18_plain"}
"""Deeper ones of a family that is here: for the slow tests."""
CHOSEN = [pytest.param(name, marks=pytest.mark.slow) if name in LARGER else name for name in ENCODERS]
every = pytest.mark.parametrize("encoder", CHOSEN, indirect=True)
WRAPPERS = {"Frozen", "CachedEncoder", "ChannelsEncoder", "ScansBeside", "TappedEncoder"}
"""They have the layers of the network that they are given, and tests of their own."""


def test_each_encoder_is_here() -> None:
    offered = {name for name in encoders.__all__ if is_a(getattr(encoders, name), Encoder)}
    assert offered - WRAPPERS == {type(make()).__name__ for make, _ in ENCODERS.values()}


def is_a(value: object, kind: type) -> bool:
    return isinstance(value, type) and issubclass(value, kind)


@every
def test_layers_are_declared_as_they_are(encoder: nn.Module) -> None:
    image = picture(encoder, 64, batch=2)
    with torch.no_grad():
        features = encoder(image)
    infos = encoder.layers()
    assert list(features) == [info.name for info in infos], (
        "all layers when no name is given, shallow to deep"
    )
    assert len(set(features)) == len(infos)
    for info in infos:
        shape = tuple(-(-side // step) for side, step in zip(image.shape[2:], info.stride, strict=True))
        assert features[info.name].shape == (2, info.channels, *shape), info.name
        assert torch.isfinite(features[info.name]).all()
    volumes = [torch.tensor(info.stride).prod().item() for info in infos]
    assert volumes == sorted(volumes)


@every
@pytest.mark.parametrize("side", [1, 17, 50])
def test_any_size_is_covered_whole(encoder: nn.Module, side: int) -> None:
    with torch.no_grad():
        features = encoder(picture(encoder, side))
    for info in encoder.layers():
        covered = [n * step for n, step in zip(features[info.name].shape[2:], info.stride, strict=True)]
        assert min(covered) >= side, info.name


@every
def test_a_layer_does_not_depend_on_its_company(encoder: nn.Module) -> None:
    image = picture(encoder, 33)
    names = [info.name for info in encoder.layers()]
    with torch.no_grad():
        together = encoder(image)
        for one in (names[0], names[-1]):
            alone = encoder(image, [one])
            assert list(alone) == [one]
            torch.testing.assert_close(alone[one], together[one], rtol=1e-5, atol=1e-5)
        swapped = encoder(image, [names[-1], names[0], names[-1]])
    assert set(swapped) == {names[0], names[-1]}


@every
def test_samples_of_a_batch_do_not_mix_and_calls_repeat(encoder: nn.Module) -> None:
    image = picture(encoder, 32, batch=2)
    with torch.no_grad():
        both, again = encoder(image), encoder(image)
        second = encoder(image[1:])
    for layer, value in both.items():
        assert torch.equal(value, again[layer])
        scale = value.abs().max().item()
        torch.testing.assert_close(value[1:], second[layer], rtol=1e-4, atol=1e-5 * scale)


@every
def test_a_wrong_name_is_answered_with_near_ones(encoder: nn.Module) -> None:
    right = encoder.layers()[-1].name
    with pytest.raises(ModelError, match=f"there is no layer '{right}x'; did you mean .*{right}") as caught:
        encoder(picture(encoder, 32), [right + "x"])
    assert caught.value.exit_code == 4


@every
def test_gradients_flow_to_the_image(encoder: nn.Module) -> None:
    image = picture(encoder, 32).requires_grad_()
    sum(value.square().mean() for value in encoder(image).values()).backward()
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()
    assert image.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("encoder", "layer"),
    [(name, layer) for name, (_, layers) in ENCODERS.items() for layer in layers],
    indirect=["encoder"],
)
def test_receptive_field_is_what_gradients_reach(encoder: nn.Module, layer: str) -> None:
    info = next(i for i in encoder.layers() if i.name == layer)
    side = -(-(max(info.receptive_field) + 3 * max(info.stride)) // 32) * 32
    seen: list[set[int]] = [set() for _ in info.stride]
    for _ in range(12):  # max-pooling passes a gradient to one voxel of each window only
        image = picture(encoder, side).requires_grad_()
        features = encoder(image, [layer])[layer]
        middle = tuple(n // 2 for n in features.shape[2:])
        features[(0, slice(None), *middle)].square().sum().backward()
        for axis, found in enumerate(seen):
            others = [a for a in range(len(seen)) if a != axis]
            found.update(image.grad[0, 0].abs().sum(others).nonzero().flatten().tolist())
        reach = tuple(max(found) - min(found) + 1 for found in seen)
        assert all(r <= f for r, f in zip(reach, info.receptive_field, strict=True)), (
            "sees more than declared"
        )
        if reach == info.receptive_field:
            return
    pytest.fail(f"declared {info.receptive_field}, but gradients reach {reach}")


@pytest.mark.parametrize("encoder", OWN, indirect=True)
def test_no_statistics_over_the_window(encoder: nn.Module) -> None:
    """A change far away leaves the middle of a large image alone, to the last bit."""
    dims = len(encoder.layers()[0].stride)
    reach = max(max(info.receptive_field) for info in encoder.layers())
    side = -(-2 * (reach + 32) // 16) * 16
    image = torch.rand(1, 1, side, *(32,) * (dims - 1))
    changed = image.clone()
    changed[:, :, :16] = 7.0
    changed[:, :, -16:] = -7.0
    # what an encoder takes from its whole image it holds while it is given pieces
    hold = encoder.conditioned_on
    with torch.no_grad(), hold(image):
        before, after = encoder(image), encoder(changed)
    for info in encoder.layers():
        middle = before[info.name].shape[2] // 2
        assert torch.equal(before[info.name][:, :, middle], after[info.name][:, :, middle]), info.name
        assert not torch.equal(before[info.name][:, :, 0], after[info.name][:, :, 0]), info.name
