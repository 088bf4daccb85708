"""What every inversion promises. A new one joins by one line in INVERSIONS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import pytest
import torch

from medrecon import inversion
from medrecon.contract import Decoder, Encoder, Features, LayerInfo
from medrecon.errors import ModelError
from medrecon.inversion import (
    AdaptiveDecoder,
    FusionDecoder,
    HierarchicalDecoder,
    LinearDecoder,
    PlainDecoder,
    TransposedDecoder,
)
from medrecon.reconstructor import Reconstructor


def pyramid(dims: int) -> list[LayerInfo]:
    """Layers of a made-up encoder with strides 2, 4, 8 and 16."""
    values = (1, 1 / 2, 3 / 16, 1 / 16)
    return [
        LayerInfo(f"level{k}", max(2, round(v * 2 ** (k * dims))), (2**k,) * dims, (2**k,) * dims)
        for k, v in enumerate(values, start=1)
    ]


def blocks(dims: int, size: int) -> list[LayerInfo]:
    """Layers of a made-up encoder that keeps a part of each block's coefficients."""
    side = (size,) * dims
    return [LayerInfo(f"level{k}", size**dims, side, side, rate) for k, rate in enumerate((0.5, 0.1), 1)]


ODD = [LayerInfo("odd", 5, (6, 3), (9, 9)), LayerInfo("odder", 7, (12, 15), (40, 40))]
ANISOTROPIC = [LayerInfo("thin", 4, (1, 2, 1)), LayerInfo("thick", 6, (4, 4, 2))]
SMALL = {"width": 4, "max_width": 8}
Build = Callable[[Sequence[LayerInfo]], Decoder]

# name -> (the layers, how to build the decoder for them, the subset of the layers it takes, or "any")
INVERSIONS: dict[str, tuple[list[LayerInfo], Build, str | list[str]]] = {
    "hierarchical2d": (
        pyramid(2),
        lambda layers: HierarchicalDecoder(layers, widths=(4, 4, 4), depths=(1, 1, 1)),
        "any",
    ),
    "hierarchical3d": (
        pyramid(3)[:3],
        lambda layers: HierarchicalDecoder(layers, widths=(4, 4), depths=(1, 1)),
        "any",
    ),
    "adaptive2d": (
        blocks(2, 16),
        lambda layers: AdaptiveDecoder(layers, widths=(4, 6), depth=1, coarse_depth=1),
        "any",
    ),
    "adaptive3d": (
        blocks(3, 8),
        lambda layers: AdaptiveDecoder(layers, widths=(4, 6), depth=1, coarse_depth=1),
        "any",
    ),
    "transposed2d": (pyramid(2), lambda layers: TransposedDecoder(layers, **SMALL), ["level4"]),
    "transposed3d": (pyramid(3), lambda layers: TransposedDecoder(layers, "level3", **SMALL), ["level3"]),
    "transposed_odd": (ODD, lambda layers: TransposedDecoder(layers, "odd", **SMALL), ["odd"]),
    "plain2d": (pyramid(2), lambda layers: PlainDecoder(layers, "level1", **SMALL), ["level1"]),
    "plain3d": (pyramid(3), lambda layers: PlainDecoder(layers, **SMALL), ["level4"]),
    "fusion2d": (pyramid(2), lambda layers: FusionDecoder(layers, widths=(4, 6, 8), depth=1), "any"),
    "fusion3d": (
        pyramid(3),
        lambda layers: FusionDecoder(layers, ["level1", "level3"], (4, 6), 1, "transposed", "sigmoid"),
        ["level1", "level3"],
    ),
    "fusion_odd": (ODD, lambda layers: FusionDecoder(layers, widths=(4, 6), activation="silu"), "any"),
    "fusion_anisotropic": (
        ANISOTROPIC,
        lambda layers: FusionDecoder(layers, widths=(4, 6), depth=1, upsampling="resize"),
        "any",
    ),
    "linear2d": (pyramid(2), lambda layers: LinearDecoder(layers), "any"),
    "linear_odd": (ODD, lambda layers: LinearDecoder(layers), "any"),
    "linear_anisotropic": (ANISOTROPIC, lambda layers: LinearDecoder(layers, ["thick"]), ["thick"]),
    "plain_odd": (ODD, lambda layers: PlainDecoder(layers, **SMALL), ["odder"]),
}

OTHERS = {"ImageOptimiser", "SingleLayerDecoder"}
"""Which needs an encoder, and which is what others derive from; their tests are their own."""


def test_each_inversion_is_here() -> None:
    offered = {name for name in inversion.__all__ if issubclass(getattr(inversion, name), Decoder)}
    assert offered - OTHERS == {type(make(layers)).__name__ for layers, make, _ in INVERSIONS.values()}


def build(name: str) -> Decoder:
    torch.manual_seed(0)
    layers, make, _ = INVERSIONS[name]
    decoder = make(layers)
    with torch.no_grad():
        for parameter in decoder.parameters():  # what starts at zero would hide what it does
            parameter.normal_(std=0.1)
        for key, buffer in decoder.named_buffers():
            if key.startswith("linear") and buffer.is_floating_point():  # fitted, not trained
                buffer.normal_(std=0.1)
    return decoder.eval()


def subsets(name: str) -> list[tuple[str, ...]]:
    layers, _, taken = INVERSIONS[name]
    if taken != "any":
        return [tuple(taken)]
    names = [info.name for info in layers]
    return [group for size in range(1, len(names) + 1) for group in combinations(names, size)]


def features_of(name: str, group: Sequence[str], shape: Sequence[int], batch: int = 1) -> Features:
    """Random features as an encoder gives them for an image padded to a multiple of all its strides."""
    layers = INVERSIONS[name][0]
    unit = [max(info.stride[axis] for info in layers) for axis in range(len(shape))]
    padded = [-(-size // step) * step for size, step in zip(shape, unit, strict=True)]
    generator = torch.Generator().manual_seed(5)
    features: Features = {}
    for info in layers:
        places = [p // s for p, s in zip(padded, info.stride, strict=True)]
        values = torch.randn(batch, info.channels, *places, generator=generator)
        if info.mean_rate is not None:
            left_out = torch.rand(values.shape, generator=generator) > info.mean_rate
            left_out[:, 0] = False
            values[left_out] = 0
        if info.name in group:
            features[info.name] = values
    return features


every = pytest.mark.parametrize("name", INVERSIONS)
every_subset = pytest.mark.parametrize(("name", "group"), [(n, g) for n in INVERSIONS for g in subsets(n)])


def shape_for(name: str) -> tuple[int, ...]:
    return (33, 17, 18)[: len(INVERSIONS[name][0][0].stride)]


@every_subset
def test_each_subset_gives_an_image_of_the_shape_asked(name: str, group: tuple[str, ...]) -> None:
    shape = shape_for(name)
    with torch.no_grad():
        image = build(name)(features_of(name, group, shape, batch=2), shape)
    assert image.shape == (2, 1, *shape)
    assert torch.isfinite(image).all()
    assert image.dtype == torch.float32


@every_subset
def test_each_layer_given_is_used_and_gradients_reach_it(name: str, group: tuple[str, ...]) -> None:
    decoder, shape = build(name), shape_for(name)
    features = {k: v.requires_grad_() for k, v in features_of(name, group, shape).items()}
    decoder(features, shape).square().mean().backward()
    for layer, value in features.items():
        if "level1" in group and layer != "level1" and name.startswith(("pyramid", "hierarchical")):
            continue  # level1 holds the whole image: the pyramid needs nothing more
        assert torch.isfinite(value.grad).all()
        assert value.grad.abs().sum() > 0, f"{layer} is ignored"


@every
def test_every_parameter_can_learn(name: str) -> None:
    decoder, shape = build(name).train(), shape_for(name)
    for group in subsets(name):
        image = decoder(features_of(name, group, shape), shape)
        if image.requires_grad:  # the pyramid has nothing to learn where level1 is given
            image.square().mean().backward()
    idle = [key for key, p in decoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not idle


@every
@pytest.mark.parametrize("size", [1, 16, 31])
def test_any_shape(name: str, size: int) -> None:
    shape = (size,) * len(shape_for(name))
    for group in subsets(name)[-2:]:
        with torch.no_grad():
            assert build(name)(features_of(name, group, shape), shape).shape == (1, 1, *shape)


@every
def test_samples_do_not_mix_and_calls_repeat(name: str) -> None:
    decoder, shape = build(name), shape_for(name)
    group = subsets(name)[-1]
    features = features_of(name, group, shape, batch=2)
    with torch.no_grad():
        both = decoder(features, shape)
        assert torch.equal(both, decoder(features, shape))
        second = decoder({k: v[1:] for k, v in features.items()}, shape)
    torch.testing.assert_close(both[1:], second, rtol=1e-4, atol=1e-5)


@every
def test_no_statistics_over_the_window(name: str) -> None:
    decoder, layers = build(name), INVERSIONS[name][0]
    dims = len(layers[0].stride)
    shape = (720 if "odd" in name else 512, *(32,) * (dims - 1))
    for group in subsets(name)[-2:]:
        features = features_of(name, group, shape)
        with torch.no_grad():
            before = decoder(features, shape)
            for value in features.values():
                value[:, :, :1] += 9
                value[:, :, -1:] -= 9
            after = decoder(features, shape)
        middle = slice(shape[0] // 2 - 8, shape[0] // 2 + 8)
        assert torch.equal(before[:, :, middle], after[:, :, middle])
        assert not torch.equal(before, after)


@every
def test_bfloat16_autocast(name: str) -> None:
    decoder, shape = build(name), shape_for(name)
    group = subsets(name)[-1]
    features = features_of(name, group, shape)
    with torch.no_grad():
        exact = decoder(features, shape)
        with torch.autocast("cpu", torch.bfloat16):
            fast = decoder({k: v.bfloat16() for k, v in features.items()}, shape)
    assert (fast.float() - exact).abs().max() < 0.05 * exact.abs().max() + 0.01


@every
def test_unknown_features_are_refused(name: str) -> None:
    decoder, shape = build(name), shape_for(name)
    for features in ({}, {"elsewhere": torch.zeros(1, 1, *shape)}):
        with pytest.raises(ModelError) as caught:
            decoder(features, shape)
        assert caught.value.exit_code == 4
        assert caught.value.remedy


class FakeEncoder(Encoder):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def layers(self) -> list[LayerInfo]:
        return INVERSIONS[self.name][0]

    def forward(self, image: torch.Tensor, names: Sequence[str]) -> Features:
        return features_of(self.name, names, image.shape[2:], len(image))


@every
def test_inside_a_reconstructor(name: str) -> None:
    result = "+".join(subsets(name)[-1])
    network = Reconstructor(FakeEncoder(name), build(name), layers=result)
    image = torch.rand(1, 1, *shape_for(name))
    with torch.no_grad():
        assert network(image).shape == image.shape
        assert torch.equal(network(image), network(image, result))
