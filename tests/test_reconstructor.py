"""Encoder and inversion as one network: names, results, precision, halo."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from medrecon.contract import Decoder, Features, LayerInfo, Progress
from medrecon.errors import ModelError
from medrecon.reconstructor import Reconstructor, has_native_bfloat16, parse_layers

from .small_bundles import small_network, starts_at_zero


def build(dims: int = 2, mixed_precision: bool | None = False) -> Reconstructor:
    torch.manual_seed(0)
    network = small_network(dims, depth=3, width=6, mixed_precision=mixed_precision)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.normal_(std=(0.02 if starts_at_zero(name) else 2) / parameter[0].numel() ** 0.5)
    return network.eval()


@pytest.mark.parametrize(
    ("result", "names"),
    [
        ("level3", ("level3",)),
        ("level2+level4", ("level2", "level4")),
        (" level4 + level2 ", ("level4", "level2")),
        ("input", ("input",)),
        ("features.29", ("features.29",)),
    ],
)
def test_a_results_name_joins_layers(result: str, names: tuple[str, ...]) -> None:
    assert parse_layers(result) == names


@pytest.mark.parametrize(
    ("result", "why"),
    [
        ("", "empty layer"),
        ("level1+", "empty layer"),
        ("level1++level2", "empty layer"),
        ("level2+level2", "twice"),
        ("input+level2", "joins the image itself"),
    ],
)
def test_names_that_mean_nothing_are_refused(result: str, why: str) -> None:
    with pytest.raises(ModelError, match=why) as refused:
        parse_layers(result)
    assert refused.value.remedy


def test_the_deepest_layer_is_the_default() -> None:
    network, image = build(), torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(image), network(image, "level4"))
        named = Reconstructor(network.encoder, network.inversion, layers="level2", mixed_precision=False)
        assert torch.equal(named(image), network(image, ["level2"]))


def test_an_unknown_layer_is_answered_with_near_ones() -> None:
    for result in ("level5", "level2+levl4", ["level33"]):
        with pytest.raises(ModelError, match=r"there is no layer .*; did you mean .*level"):
            build()(torch.rand(1, 1, 16, 16), result)


def test_the_encoder_runs_once_for_many_results() -> None:
    network, image = build(), torch.rand(1, 1, 32, 32)
    asked: list[list[str]] = []
    forward = network.encoder.forward
    network.encoder.forward = lambda image, names: asked.append(list(names)) or forward(image, names)
    with torch.no_grad():
        results = list(network.reconstruct(image, ["level4", "input", "level2+level4", "level2"]))
    assert asked == [["level2", "level4"]]
    assert results[1] is image
    with torch.no_grad():
        for name, result in zip(
            ("level4", "level2+level4", "level2"), results[:1] + results[2:], strict=True
        ):
            assert torch.equal(result, network(image, name)), name


def test_the_image_itself_needs_no_network() -> None:
    network, image = build(), torch.rand(1, 1, 5, 5, dtype=torch.float64)
    network.encoder.forward = None
    assert next(network.reconstruct(image, ["input"])) is image


def test_mixed_precision_changes_little_and_never_the_units() -> None:
    exact, mixed = build(mixed_precision=False), build(mixed_precision=True)
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        one, other = exact(image, "level4"), mixed(image, "level4")
    assert one.dtype == other.dtype == torch.float32
    assert 0 < (one - other).abs().max() < 0.1 * (one - image).abs().max()
    with torch.no_grad():
        assert (mixed(image, "level1") - image).abs().max() < 1e-6, "the linear part stays in float32"


def test_mixed_precision_is_chosen_by_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for native in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda native=native: {"avx512_bf16": native})
        assert has_native_bfloat16(torch.device("cpu")) is native
        network = build(mixed_precision=None)
        seen: list[bool] = []
        network.encoder.register_forward_pre_hook(
            lambda *_, seen=seen: seen.append(torch.is_autocast_enabled("cpu"))
        )
        network(torch.rand(1, 1, 16, 16))
        assert seen == [native]
        torch.jit.trace(network, torch.rand(1, 1, 16, 16), check_trace=False)
        assert seen[1] is False, "what is exported keeps its precision"


@pytest.mark.parametrize("dims", [2, 3])
def test_halo_holds_all_that_a_block_depends_on(dims: int) -> None:
    """By gradient: no voxel farther than the halo is felt, for any level; and the halo is no wider than that
    to the next block."""
    network = build(dims)
    halo, stride = network.halo, network.stride
    assert halo is not None
    assert stride == 16
    side = 2 * (halo + 48) // 16 * 16 + 16
    shape = (side, 16, 16)[:dims]
    block = slice(side // 2 - 8, side // 2 + 8)
    farthest = 0
    for result in ("level1", "level2", "level3", "level4", "level2+level3+level4"):
        image = torch.rand(1, 1, *shape, requires_grad=True)
        network(image, result)[:, :, block].square().sum().backward()
        felt = image.grad.abs().amax([d for d in range(image.ndim) if d != 2]).nonzero().flatten()
        farthest = max(farthest, block.start - int(felt.min()), int(felt.max()) + 1 - block.stop)
    assert halo - stride < farthest <= halo


def test_an_inversion_that_does_not_tell_its_reach_gets_the_whole_image() -> None:
    class Whole(Decoder):
        def forward(
            self, features: Features, shape: Sequence[int], progress: Progress | None = None
        ) -> torch.Tensor:
            return torch.zeros(1, 1, *shape)

    network = Reconstructor(build().encoder, Whole())
    assert network.halo is None
    assert [type(layer) for layer in network.layers()] == [LayerInfo] * 4
