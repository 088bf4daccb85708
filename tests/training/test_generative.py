"""Flow matching: what a step gives, that it learns, and that the network beside it stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from medrecon.blocks.bands import split_bands
from medrecon.blocks.weights import fingerprint
from medrecon.contract import Decoder, Features, Progress
from medrecon.encoders import HierarchicalEncoder
from medrecon.errors import ModelError
from medrecon.inference.sampler import Sampler
from medrecon.inference.tiling import SliceInferer
from medrecon.inversion import ResidualFlow
from medrecon.reconstructor import Reconstructor
from medrecon.training.generative import (
    FlowLoss,
    FlowMatching,
    begin_flow,
    flow_gain,
    flow_terms,
    frozen,
    measure_residuals,
    widen,
)

LEVEL = "level1"
SMALL: dict[str, Any] = {"widths": (8, 8), "depths": (1, 1), "scale_width": 8}


class Flat(Decoder):
    """Answers with the middle of the range: the residual is the image less that."""

    names = (LEVEL,)

    def forward(self, features: Features, shape: Any, progress: Progress | None = None) -> torch.Tensor:
        """(B, 1, *shape) of one half."""
        return torch.full((features[LEVEL].shape[0], 1, *shape), 0.5)


def network() -> Reconstructor:
    torch.manual_seed(0)
    return Reconstructor(HierarchicalEncoder(2, (4, 4), (4,)), Flat(), LEVEL, mixed_precision=False)


def striped(batch: int = 8) -> torch.Tensor:
    """Images of stripes two pixels wide that begin anywhere: far from white."""
    phase = torch.randint(0, 4, (batch,))
    place = torch.arange(16)[None] + phase[:, None]
    row = torch.where(place % 4 < 2, 0.6, 0.4)
    return row[:, None, :, None].expand(batch, 1, 16, 16).contiguous()


def test_a_step_mixes_residual_and_noise() -> None:
    flow, image = ResidualFlow(2, [LEVEL], **SMALL), striped()
    flow.remember("ab" * 32, [0.1])
    torch.manual_seed(1)
    step = FlowMatching(frozen(network()), {LEVEL: 1.0})(image, flow)
    assert torch.equal(step.residual, image - 0.5)
    noise = step.residual / step.scale.detach() - step.wanted
    assert abs(float(noise.mean())) < 0.1
    assert float(noise.std()) == pytest.approx(1, abs=0.1)
    assert step.velocity.requires_grad
    assert not step.wanted.requires_grad


def test_it_learns_what_the_residuals_look_like() -> None:
    torch.manual_seed(2)
    flow, beside = ResidualFlow(2, [LEVEL], **SMALL), network()
    before = {key: value.clone() for key, value in beside.state_dict().items()}
    matching = FlowMatching(frozen(beside), {LEVEL: 1.0})
    measure_residuals(flow, beside, [{"image": striped()}], torch.device("cpu"), 1)
    optimizer, losses = torch.optim.Adam(flow.parameters(), 3e-3), []
    for _ in range(80):
        step = matching(striped(), flow)
        optimizer.zero_grad()
        FlowLoss()(step, striped()).backward()
        optimizer.step()
        losses.append(flow_terms({"pred": step}))
    first, last = losses[0]["flow"], sum(loss["flow"] for loss in losses[-10:]) / 10
    assert last < 0.7 * first  # white noise of this size would stay where it began
    assert losses[-1]["scale"] < losses[0]["scale"] + 1e-3
    assert all(torch.equal(before[key], value) for key, value in beside.state_dict().items())
    assert not any(parameter.requires_grad for parameter in beside.parameters())


def test_validations_draw_the_same_and_leave_the_stream_alone() -> None:
    flow, image = ResidualFlow(2, [LEVEL], **SMALL), striped()
    matching = FlowMatching(frozen(network()), {LEVEL: 1.0}, drawn_again=5)
    torch.manual_seed(3)
    one = flow_gain({"pred": matching(image, flow)})
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert flow_gain({"pred": matching(image, flow)}) == one
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), drawn)


def test_it_remembers_network_and_residuals() -> None:
    flow, beside = ResidualFlow(2, [LEVEL], **SMALL), network()
    measure_residuals(flow, beside, [{"image": striped()}] * 3, torch.device("cpu"), 2)
    assert flow.network_fingerprint == fingerprint(beside)
    assert float(flow.spreads) == pytest.approx(0.1, rel=1e-3)


def test_it_can_begin_at_another_which_keeps_its_own_facts(tmp_path: Path) -> None:
    other, flow = ResidualFlow(2, ["a", "b"], **SMALL), ResidualFlow(2, [LEVEL], **SMALL)
    other.remember("cd" * 32, [0.3, 0.4])
    torch.save(other.state_dict(), tmp_path / "other.pt")
    begun = begin_flow(flow, tmp_path / "other.pt")
    assert torch.equal(begun.enter.weight, other.enter.weight)
    assert begun.network_fingerprint == ""
    assert begun.spreads.shape == (1,)
    with pytest.raises(ModelError, match="do not fit"):
        begin_flow(ResidualFlow(2, [LEVEL], widths=(4, 4), depths=(1, 1)), tmp_path / "other.pt")


def test_samples_vary_as_much_as_the_images_do() -> None:
    flow, beside = ResidualFlow(2, [LEVEL], **SMALL), network().eval()
    flow.remember("ab" * 32, [0.02])  # a fifth of the stripes' residual
    sampler = Sampler(beside, flow.eval(), SliceInferer([LEVEL]), corrections=0)
    with torch.inference_mode():
        widen(flow, sampler, [{"image": striped()}] * 3, 2)
        drawn = sampler.draw(torch.full((1, 1, 64, 64), 0.5), LEVEL, number=3) - 0.5
    assert bool((flow.widening(LEVEL) > 1).any())
    assert float(drawn.std()) == pytest.approx(0.1, rel=0.15)
    assert torch.equal(flow.state_dict()["widenings"][0], flow.widening(LEVEL)), "kept with the weights"


def test_each_band_is_widened_by_its_own_factor() -> None:
    """The images differ in stripes of four voxels; the untrained flow draws white noise."""
    flow, beside = ResidualFlow(2, [LEVEL], **SMALL), network().eval()
    flow.remember("ab" * 32, [0.1])
    sampler = Sampler(beside, flow.eval(), SliceInferer([LEVEL]), corrections=0)
    widen(flow, sampler, [{"image": striped()}] * 4, 4)
    drawn = sampler.draw(torch.full((1, 1, 64, 64), 0.5), LEVEL, number=9) - 0.5
    images = torch.cat([striped() for _ in range(8)]) - 0.5
    for made, wanted in zip(split_bands(drawn), split_bands(images), strict=True):
        power, want = float(made.square().mean()), float(wanted.square().mean())
        assert power == pytest.approx(want, rel=0.35, abs=3e-4)


def test_an_image_goes_through_the_network_once_for_many_draws() -> None:
    flow, image = ResidualFlow(2, [LEVEL], **SMALL), striped(2)
    step = FlowMatching(frozen(network()), {LEVEL: 1.0}, draws=3)(image, flow)
    assert step.residual.shape == image.shape
    assert step.velocity.shape == step.wanted.shape == (6, 1, 16, 16)
    assert not torch.equal(step.wanted[0], step.wanted[1])
    FlowLoss()(step, image).backward()
