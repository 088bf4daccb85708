"""What a generative decoder promises: a finite reach, variance one, and whose residuals it knows."""

from __future__ import annotations

import pytest
import torch

from medrecon.errors import ModelError
from medrecon.inversion import ResidualFlow

SMALL = {2: {"widths": (6, 8, 8), "depths": (1, 1, 1)}, 3: {"widths": (4, 6), "depths": (1, 1)}}


def build(dims: int, trained: bool = True) -> ResidualFlow:
    torch.manual_seed(0)
    flow = ResidualFlow(dims, ["level4", "level5"], scale_width=6, **SMALL[dims])
    flow.remember("ab" * 32, [0.02, 0.08])
    if trained:
        with torch.no_grad():
            for parameter in flow.parameters():  # what starts at zero would hide what it does
                parameter.normal_(std=0.2)
    return flow.eval()


def images(dims: int, side: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, 1, *(side + 3 * k for k in range(dims)))
    return torch.randn(shape, generator=generator), torch.rand(shape, generator=generator)


both = pytest.mark.parametrize("dims", [2, 3])


@both
def test_any_size_gives_a_velocity_and_a_scale_of_that_size(dims: int) -> None:
    flow, (noisy, base) = build(dims), images(dims, 13, batch=2)
    with torch.no_grad():
        velocity = flow.velocity(noisy, base, torch.tensor([0.3, 0.9]), "level4")
        scale = flow.scale(base, "level4")
    assert velocity.shape == scale.shape == noisy.shape
    assert torch.isfinite(velocity).all()
    assert (scale > 0).all()


@both
def test_each_image_of_a_batch_has_its_own_share_of_noise(dims: int) -> None:
    flow, (noisy, base) = build(dims), images(dims, 16, batch=2)
    with torch.no_grad():
        together = flow.velocity(noisy, base, torch.tensor([0.3, 0.9]), "level5")
        alone = flow.velocity(noisy[1:], base[1:], torch.tensor([0.9]), "level5")
        other = flow.velocity(noisy[1:], base[1:], torch.tensor([0.3]), "level5")
    assert torch.allclose(together[1:], alone, atol=1e-5)
    assert (alone - other).abs().max() > 1e-2


@both
def test_untrained_noise_stays_noise_of_the_residuals_size(dims: int) -> None:
    flow, (noisy, base) = build(dims, trained=False), images(dims, 16)
    with torch.no_grad():
        x = noisy
        for step in range(20):
            share = 1 - step / 20
            x = x + flow.velocity(x, base, torch.tensor([share]), "level5") / 20
        scale = flow.scale(base, "level5")
    assert torch.corrcoef(torch.stack([x.flatten(), noisy.flatten()]))[0, 1] > 0.999
    assert float(x.std()) == pytest.approx(1, abs=0.1)
    assert torch.allclose(scale, torch.full_like(scale, 0.08 + 1e-3))


@both
def test_it_looks_no_farther_than_it_says(dims: int) -> None:
    flow = build(dims)
    side = 2 * flow.reach + 3 * flow.multiple
    side += -side % flow.multiple
    generator = torch.Generator().manual_seed(2)
    noisy, base = (torch.rand(1, 1, *(side,) * dims, generator=generator) for _ in range(2))
    middle = (side // 2) // flow.multiple * flow.multiple
    block: list[slice] = [slice(middle, middle + flow.multiple)] * dims
    noisy.requires_grad_()
    base.requires_grad_()
    made = flow.velocity(noisy, base, torch.tensor([0.5]), "level4") + flow.scale(base, "level4")
    seen = torch.autograd.grad(made[(0, 0, *block)].sum(), [noisy, base])
    for gradient in seen:
        for axis in range(dims):
            others = [k for k in range(dims) if k != axis]
            along = gradient[0, 0].abs().amax(others).nonzero().flatten()
            assert along.min() >= middle - flow.reach
            assert along.max() < middle + flow.multiple + flow.reach


@both
def test_a_layer_says_how_much_it_leaves_open(dims: int) -> None:
    flow, (_, base) = build(dims), images(dims, 16)
    with torch.no_grad():
        assert (flow.scale(base, "level4") != flow.scale(base, "level5")).all()


def test_an_unknown_result_is_refused() -> None:
    flow, (noisy, base) = build(2), images(2, 16)
    for call in (
        lambda: flow.scale(base, "level1"),
        lambda: flow.velocity(noisy, base, torch.tensor([0.5]), "level1"),
    ):
        with pytest.raises(ModelError, match="no generative decoder for 'level1'"):
            call()


def test_it_remembers_its_network_with_its_weights() -> None:
    flow, again = build(2), ResidualFlow(2, ["level4", "level5"], scale_width=6, **SMALL[2])
    assert again.network_fingerprint == ""
    again.load_state_dict(flow.state_dict())
    assert again.network_fingerprint == "ab" * 32
    assert torch.equal(again.spreads, torch.tensor([0.02, 0.08]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"spatial_dims": 4, "results": ["level4"]},
        {"spatial_dims": 2, "results": ["level4"], "widths": (), "depths": ()},
        {"spatial_dims": 2, "results": ["level4"], "widths": (4, 8), "depths": (1,)},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="ResidualFlow wants"):
        ResidualFlow(**wrong)
