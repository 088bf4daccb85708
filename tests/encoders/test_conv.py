"""The own encoder beyond what every encoder promises: its declaration, and no absolute intensity."""

from __future__ import annotations

import pytest
import torch

from medrecon.encoders import ConvEncoder
from medrecon.errors import ModelError

LEVELS = ["level1", "level2", "level3", "level4"]


def build(dims: int, widths: tuple[int, int, int] = (8, 8, 8)) -> ConvEncoder:
    """An encoder whose corrections are there, as training would make them."""
    torch.manual_seed(0)
    encoder = ConvEncoder(dims, widths=widths)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.normal_(std=(2 / parameter[0].numel()) ** 0.5)
    return encoder.eval()


@pytest.mark.parametrize("dims", [2, 3])
def test_the_deepest_level_holds_a_sixteenth_of_the_voxels(dims: int) -> None:
    layers = ConvEncoder(dims).layers()
    assert [layer.name for layer in layers] == LEVELS
    assert [layer.stride for layer in layers] == [(2**k,) * dims for k in range(1, 5)]
    assert [layer.values_per_voxel for layer in layers] == [1, 1 / 2, 3 / 16, 1 / 16]
    assert layers[0].receptive_field == (2,) * dims, "level1 is complete and sees its own block alone"


@pytest.mark.parametrize("level", ["level3", "level4"])
def test_receptive_field_in_3d(level: str) -> None:
    """By gradient, from one feature position: neither more nor less than declared, along each axis."""
    encoder = build(3, widths=(4, 4, 4))
    info = next(layer for layer in encoder.layers() if layer.name == level)
    image = torch.rand(1, 1, 96, 96, 96, requires_grad=True)
    features = encoder(image, [level])[level]
    middle = tuple(n // 2 for n in features.shape[2:])
    features[(0, slice(None), *middle)].square().sum().backward()
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        seen = image.grad[0, 0].abs().amax(others).nonzero().flatten()
        assert int(seen.max() - seen.min()) + 1 == info.receptive_field[axis]
        centre = (middle[axis] + 0.5) * info.stride[axis] - 0.5
        assert float(seen.max() + seen.min()) / 2 == centre, "as far to one side as to the other"


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("size", [1, 3, 15, 17, 33])
def test_every_level_covers_any_size(dims: int, size: int) -> None:
    shape = (size, 7, 20)[:dims]
    with torch.no_grad():
        features = build(dims)(torch.rand(2, 1, *shape))
    for layer in build(dims).layers():
        padded = [-(-n // 16) * 16 for n in shape]
        expected = [n // s for n, s in zip(padded, layer.stride, strict=True)]
        assert features[layer.name].shape == (2, layer.channels, *expected)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("gain", "offset"), [(3.0, 0.0), (0.01, 0.0), (1.0, 5.0), (4095.0, -1024.0)])
def test_it_follows_any_change_of_window(dims: int, gain: float, offset: float) -> None:
    """f(a x + b) = a f(x), but for the mean of each block, which moves by b."""
    encoder = build(dims)
    image = torch.rand(1, 1, *(37, 32, 18)[:dims])
    with torch.no_grad():
        plain, changed = encoder(image), encoder(gain * image + offset)
    for layer in encoder.layers():
        expected = gain * plain[layer.name]
        expected[:, 0] += offset * layer.stride[0] ** (dims / 2)
        error = (changed[layer.name] - expected).abs().max()
        assert error < 2e-5 * max(gain, abs(offset)) * layer.stride[0] ** (dims / 2), layer.name


def test_the_corrections_are_there_in_these_tests() -> None:
    trained, untrained = build(2), ConvEncoder(2, widths=(8, 8, 8))
    image = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        ours, linear = trained(image), untrained(image)
    assert torch.equal(ours["level1"], linear["level1"])
    for level in LEVELS[1:]:
        assert (ours[level] - linear[level]).abs().max() > 0.01


def test_a_level_costs_only_what_it_needs() -> None:
    """The trunk is not run for the complete level, and no deeper than the deepest level asked for."""
    encoder = build(2)
    ran: list[int] = []
    for number, stage in enumerate(encoder.trunk):
        stage.register_forward_hook(lambda *_, number=number: ran.append(number))
    image = torch.rand(1, 1, 16, 16)
    encoder(image, ["level1"])
    assert ran == []
    encoder(image, ["level1", "level3"])
    assert ran == [0, 1]


def test_wrong_names_are_answered_with_near_ones() -> None:
    with pytest.raises(ModelError, match=r"there is no layer 'levle3'; did you mean .*level3"):
        build(2)(torch.rand(1, 1, 16, 16), ["levle3"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"spatial_dims": 1},
        {"spatial_dims": 2, "widths": (8, 8)},
        {"spatial_dims": 2, "values_per_voxel": (1, 1, 1)},
        {"spatial_dims": 3, "values_per_voxel": (2, 1, 1, 1)},
        {"spatial_dims": 3, "values_per_voxel": (1, 1, 1, 0)},
    ],
)
def test_numbers_that_make_no_encoder_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"ConvEncoder wants|values_per_voxel"):
        ConvEncoder(**wrong)
