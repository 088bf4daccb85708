"""The own encoder beyond what every encoder promises: a hierarchy of dense levels, no absolute intensity."""

from __future__ import annotations

import pytest
import torch

from medrecon.encoders import HierarchicalEncoder, hierarchical
from medrecon.errors import ModelError

LEVELS = ["level1", "level2", "level3", "level4", "level5"]


def build(dims: int, widths: tuple[int, ...] = (8, 8, 8, 8)) -> HierarchicalEncoder:
    """An encoder whose network adds something, as training would make it."""
    torch.manual_seed(0)
    encoder = HierarchicalEncoder(dims, widths=widths)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.normal_(std=(2 / parameter[0].numel()) ** 0.5)
    return encoder.eval()


@pytest.mark.parametrize("dims", [2, 3])
def test_levels_are_dense_grow_in_stride_and_field_and_fall_in_values(dims: int) -> None:
    layers = HierarchicalEncoder(dims).layers()
    assert [layer.name for layer in layers] == LEVELS
    assert [layer.stride for layer in layers] == [(2**k,) * dims for k in range(1, 6)]
    assert [layer.values_per_voxel for layer in layers] == [1, 1 / 2, 3 / 16, 1 / 16, 1 / 64]
    assert not any(layer.sparse for layer in layers)
    assert [layer.receptive_field for layer in layers] == [(n,) * dims for n in (2, 12, 32, 72, 88)]


@pytest.mark.parametrize(("level", "side"), [("level2", 64), ("level4", 160), ("level5", 160)])
def test_receptive_field_by_gradient(level: str, side: int) -> None:
    """From one feature position: neither more nor less than declared."""
    encoder = build(2)
    info = next(layer for layer in encoder.layers() if layer.name == level)
    image = torch.rand(1, 1, side, side, requires_grad=True)
    features = encoder(image, [level])[level]
    middle = tuple(n // 2 for n in features.shape[2:])
    features[(0, slice(None), *middle)].square().sum().backward()
    for axis in range(2):
        seen = image.grad[0, 0].abs().amax(1 - axis).nonzero().flatten()
        assert int(seen.max() - seen.min()) + 1 == info.receptive_field[axis]


@pytest.mark.parametrize("dims", [2, 3])
def test_each_level_is_computed_from_the_one_before_alone(dims: int) -> None:
    """Two images with the same level: all deeper levels are the same too."""
    encoder = build(dims)
    image = torch.rand(1, 1, *[32] * dims)
    kernel = encoder.get_buffer("kernel_level1")
    with torch.no_grad():
        features = encoder(image)
        x = features["level1"]
        for name in LEVELS[1:]:
            x = encoder._next(name, x)
            torch.testing.assert_close(x, features[name], rtol=0, atol=1e-5)
    assert len(kernel) == 2**dims


@pytest.mark.parametrize("dims", [2, 3])
def test_row_after_row_gives_the_same(dims: int, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, image = build(dims), torch.rand(2, 1, *(133, 40, 33)[:dims])
    with torch.no_grad():
        whole = encoder(image)
        monkeypatch.setattr(hierarchical, "_AT_ONCE", 300)
        parts = encoder(image)
    for name in LEVELS:
        size = float(whole[name].abs().max())
        torch.testing.assert_close(parts[name], whole[name], rtol=0, atol=3e-6 * size)


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
        assert error < 1e-4 * max(gain, abs(offset)) * layer.stride[0] ** (dims / 2), layer.name


def test_what_is_learned_is_there_in_these_tests() -> None:
    trained, untrained = build(2), HierarchicalEncoder(2, widths=(8, 8, 8, 8))
    image = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        ours, linear = trained(image), untrained(image)
    assert torch.equal(ours["level1"], linear["level1"])
    for level in LEVELS[1:]:
        assert (ours[level] - linear[level]).abs().max() > 0.01


def test_a_level_costs_only_what_it_needs() -> None:
    encoder = build(2)
    ran: list[str] = []
    for name, trunk in encoder.trunks.items():
        trunk.register_forward_hook(lambda *_, name=name: ran.append(name))
    image = torch.rand(1, 1, 32, 32)
    encoder(image, ["level1"])
    assert ran == []
    assert list(encoder(image, ["level3", "level1"])) == ["level3", "level1"]
    assert ran == ["level2", "level3"]


def test_wrong_names_are_answered_with_near_ones() -> None:
    with pytest.raises(ModelError, match=r"there is no layer 'levle3'; did you mean .*level3"):
        build(2)(torch.rand(1, 1, 32, 32), ["levle3"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"spatial_dims": 1},
        {"spatial_dims": 2, "widths": (8, 8)},
        {"spatial_dims": 2, "channels": (4,), "widths": ()},
        {"spatial_dims": 3, "channels": (8, 65), "widths": (8,)},
        {"spatial_dims": 3, "channels": (8, 0), "widths": (8,)},
    ],
)
def test_numbers_that_make_no_encoder_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"HierarchicalEncoder wants|channels at most"):
        HierarchicalEncoder(**wrong)
