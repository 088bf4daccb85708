"""What is done to features before they leave does what it says."""

from __future__ import annotations

import pytest
import torch

from medrecon.atlas.audit.defences import DEFAULT, Defence, parse_defences
from medrecon.errors import UsageError


@pytest.fixture
def field() -> torch.Tensor:
    scales = torch.tensor([1.0, 10.0, 0.1, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    return torch.randn(10, 8, 8, 8, generator=torch.Generator().manual_seed(0)) * scales[:, None, None, None]


def left(text: str, field: torch.Tensor, seed: int = 1) -> torch.Tensor:
    (defence,) = parse_defences(text)
    return defence.on("level3", field, torch.Generator().manual_seed(seed))


def test_noise_is_as_strong_as_each_channel(field: torch.Tensor) -> None:
    ratio = (left("noise:2", field) - field).flatten(1).std(1) / field.flatten(1).std(1)
    assert ratio.tolist() == pytest.approx([2.0] * 10, rel=0.15)
    assert not torch.equal(left("noise:2", field), left("noise:2", field, seed=2))


@pytest.mark.parametrize("bits", [1, 3])
def test_so_many_bits_are_so_many_values(bits: int, field: torch.Tensor) -> None:
    made = left(f"bits:{bits}", field)
    assert max(len(channel.unique()) for channel in made) <= 2**bits
    assert (made - field).abs().flatten(1).amax(1).tolist() == pytest.approx(
        ((field.flatten(1).amax(1) - field.flatten(1).amin(1)) / (2**bits - 1) / 2).tolist(), rel=0.2
    )


def test_a_constant_channel_survives_its_rounding() -> None:
    assert torch.equal(left("bits:2", torch.full((2, 2, 2, 2), 3.0)), torch.full((2, 2, 2, 2), 3.0))


def test_the_same_channels_are_dropped_of_every_scan(field: torch.Tensor) -> None:
    made = left("drop:0.7", field)
    kept = made.flatten(1).abs().amax(1) > 0
    assert kept.sum() == 3
    assert torch.equal(made[kept], field[kept])
    assert torch.equal(kept, left("drop:0.7", 2 * field, seed=5).flatten(1).abs().amax(1) > 0)
    assert left("drop:0.99", field[:1]).any(), "one channel stays"


def test_pooling_leaves_means(field: torch.Tensor) -> None:
    made = left("pool:1", field)
    assert made.shape == field.shape
    assert torch.allclose(made, field.mean((1, 2, 3), keepdim=True).expand_as(field), atol=1e-5)
    assert torch.allclose(left("pool:2", field)[:, 0, 0, 0], field[:, :4, :4, :4].mean((1, 2, 3)), atol=1e-5)
    assert torch.equal(left("pool:99", field), field)


def test_only_noise_cannot_be_repeated() -> None:
    assert [each.repeatable for each in parse_defences(DEFAULT)] == [False, True, True, True]


def test_they_are_typed_as_they_are_named() -> None:
    assert [each.name for each in parse_defences(",".join(DEFAULT))] == list(DEFAULT)
    assert parse_defences("none") == []
    assert parse_defences("bits:2, bits:2") == [Defence("bits", 2.0)]
    assert "90% of the channels" in parse_defences("drop:0.9")[0].words


@pytest.mark.parametrize(
    "text", ["noise", "noise:0", "bits:2.5", "bits:17", "drop:1", "blur:3", "noise:nan", "pool:0.5"]
)
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no defence"):
        parse_defences(text)
