"""How a generative decoder learns: flow matching on the residuals of a network that stays as it is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer
from monai.networks.schedulers import RFlowScheduler
from torch import nn

from medrecon.blocks.bands import BANDS, split_bands
from medrecon.blocks.weights import fingerprint, fit_weights, read_weights
from medrecon.inversion import ResidualFlow
from medrecon.reconstructor import Reconstructor, parse_layers

WIDENED, MOST = 2, 3.0
"""Times that the widening is measured, and the most that each can change."""

FARTHEST = 8.0
"""Scales beyond which a residual counts as this: a few voxels must not rule a step."""


class FlowStep(NamedTuple):
    """What one step of flow matching gives.

    Attributes:
        velocity: as the network says it, for each image as often as noise was drawn.
        wanted: the residual / scale less the noise.
        residual: image less base, in [0, 1].
        scale: of the residual, as the network says it.
    """

    velocity: torch.Tensor
    wanted: torch.Tensor
    residual: torch.Tensor
    scale: torch.Tensor


class FlowMatching(Inferer):
    """While training: each call draws a result, a share of noise for each image, and the noise.

    Drawn from torch's global generator.

    Args:
        reconstructor: encoder and decoder, trained; they stay as they are.
        results: result -> weight, such as {"level4": 2, "level5": 1}.
        drawn_again: seed from which every call draws the same, for validations; None: from where it stands.
        draws: shares of noise and noises for each image of a batch, which goes through encoder and decoder
            once: more than one where these take longer than the flow.
    """

    def __init__(
        self,
        reconstructor: Reconstructor,
        results: Mapping[str, float],
        drawn_again: int | None = None,
        draws: int = 1,
    ) -> None:
        self.reconstructor = reconstructor
        self.results = list(results)
        for result in self.results:
            parse_layers(result)
        self.weights = torch.tensor([float(weight) for weight in results.values()])
        self.scheduler = RFlowScheduler(use_discrete_timesteps=False)
        self.drawn_again, self.draws = drawn_again, draws

    def __call__(  # type: ignore[override]  # MONAI's is for any network
        self, inputs: torch.Tensor, network: ResidualFlow, *args: Any, **kwargs: Any
    ) -> FlowStep:
        """(B, 1, *spatial) -> one step for it."""
        if self.drawn_again is None:
            result = self.results[int(torch.multinomial(self.weights, 1))]
            return self.step(inputs, network, result)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.drawn_again)
            steps = [self.step(inputs, network, result) for result in self.results]
        return FlowStep(*(torch.cat(parts) for parts in zip(*steps, strict=True)))

    def step(self, image: torch.Tensor, network: ResidualFlow, result: str) -> FlowStep:
        """One step for one result."""
        with torch.no_grad():
            base = self.reconstructor(image, layers=result)
        residual = image - base
        with self.reconstructor.precision(image.device):
            scale = network.scale(base, result)
        target = (residual / scale.detach()).clamp(-FARTHEST, FARTHEST)
        target, base = target.repeat_interleave(self.draws, 0), base.repeat_interleave(self.draws, 0)
        noise = torch.randn_like(target)
        times = self.scheduler.sample_timesteps(target)
        noisy = self.scheduler.add_noise(target, noise, times)
        share = times.float() / self.scheduler.num_train_timesteps
        with self.reconstructor.precision(image.device):
            velocity = network(noisy, base, share, result)
        return FlowStep(velocity, target - noise, residual, scale)


class FlowLoss(nn.Module):
    """Squared error of the velocity, and the scale's negative log-likelihood of the residual.

    Called as loss(step, image); the image is not looked at.
    """

    def forward(self, step: FlowStep, image: torch.Tensor) -> torch.Tensor:
        """Scalar: what the flow lacks, and the scale's nats for each voxel."""
        return self.of_flow(step) + self.of_scale(step)

    @staticmethod
    def of_flow(step: FlowStep) -> torch.Tensor:
        """Mean squared error of the velocity, in variances of noise."""
        return (step.velocity - step.wanted).square().mean()

    @staticmethod
    def of_scale(step: FlowStep) -> torch.Tensor:
        """Mean negative log-likelihood of normal residuals of this scale, but for a constant."""
        return (step.scale.log() + 0.5 * (step.residual / step.scale).square()).mean()


def flow_terms(output: Mapping[str, Any]) -> dict[str, float]:
    """What is logged of a step, from an engine's output."""
    step = output["pred"]
    return {"flow": FlowLoss.of_flow(step).item(), "scale": FlowLoss.of_scale(step).item()}


def flow_gain(output: Mapping[str, Any]) -> float:
    """The validations' figure, higher is better: less the loss of a step, from an engine's output."""
    return -sum(flow_terms(output).values())


def frozen(reconstructor: Reconstructor, weights: str | Path | None = None) -> Reconstructor:
    """A trained network that stays as it is: in evaluation mode, no parameter with a gradient.

    Args:
        reconstructor: as `network_def` builds it.
        weights: a file of its state; None where it has its weights already.

    Raises:
        ModelError: the file is missing or unsafe, or a tensor does not fit.
    """
    if weights is not None:
        fit_weights(reconstructor, read_weights(weights), weights)
    return reconstructor.eval().requires_grad_(False)


def begin_flow(network: ResidualFlow, weights: str | Path | None) -> ResidualFlow:
    """Begin at what another generative decoder learned, of other results too; or untrained.

    Args:
        network: as `generative_def` builds it; keeps how large its own results' residuals are.
        weights: of the other.

    Raises:
        ModelError: the file is missing or unsafe, or a tensor does not fit.
    """
    if weights is not None:
        own = network.state_dict()
        kept = {key: own[key] for key in ("spreads", "widenings", "made_for")}
        fit_weights(network, {**read_weights(weights), **kept}, weights)
    return network


def measure_residuals(
    network: ResidualFlow,
    reconstructor: Reconstructor,
    batches: Iterable[Mapping[str, torch.Tensor]],
    device: torch.device,
    count: int,
) -> None:
    """Have a generative decoder remember its network, and how large each result's residuals are.

    Args:
        network: what is to be trained.
        reconstructor: encoder and decoder.
        batches: {"image": (B, 1, *spatial)}; read from their beginning.
        device: where both are.
        count: batches to look at.
    """
    squares: dict[str, list[float]] = {result: [] for result in network.results}
    with torch.no_grad():
        for number, batch in enumerate(batches):
            if number == count:
                break
            image = batch["image"].to(device)
            for result, found in squares.items():
                found.append(float((image - reconstructor(image, layers=result)).square().mean()))
    spreads: Sequence[float] = [math.sqrt(sum(found) / len(found)) for found in squares.values()]
    network.remember(fingerprint(reconstructor), spreads)


def widen_when_completed(
    trainer: Engine,
    network: ResidualFlow,
    sampler: Any,
    batches: Iterable[Mapping[str, torch.Tensor]],
    count: int,
) -> None:
    """Have samples vary, when the training has ended, as much as the images differ from the decoder's answer.

    A few steps from noise, a flow that has not learned all, and pulling samples to the features leave
    residuals too small, and by other factors at coarse frequencies than at fine ones. Call this before
    `keep_checkpoints`, which writes the weights.

    Args:
        trainer: whose end is waited for.
        network: what is trained, as it is kept.
        sampler: a `medrecon.inference.sampler.Sampler` that draws from it.
        batches: {"image": (B, 1, *spatial)}; read from their beginning.
        count: batches to look at.
    """
    trainer.add_event_handler(Events.COMPLETED, lambda _: widen(network, sampler, batches, count))


def widen(
    network: ResidualFlow, sampler: Any, batches: Iterable[Mapping[str, torch.Tensor]], count: int
) -> None:
    """The same at once, see `widen_when_completed`.

    Each band of frequency gets the factor by which the variance of what is drawn, over the local scale, fell
    short of that of the images; measured on samples as they are handed out, and once more with the first
    factors, since bands overlap and corrections answer to what they are given.
    """
    images = [image for batch in itertools.islice(batches, count) for image in batch["image"].cpu().split(1)]
    for result in network.results:
        network.widen(result, torch.ones(BANDS))
        for number in range(WIDENED):
            squares = torch.zeros(2, BANDS, dtype=torch.float64)
            for image in images:
                base = sampler.base(image, result)
                drawn = sampler.draw(base, result, number, image=image)
                with torch.no_grad():
                    device = network.spreads.device
                    scale = network.scale(base.to(device), result).cpu()
                for row, made in zip(squares, (image, drawn), strict=True):
                    clipped = ((made - base) / scale).clamp(-FARTHEST, FARTHEST)
                    row += torch.stack([band.square().sum() for band in split_bands(clipped)])
            lacking = (squares[0] / squares[1].clamp(min=1e-12)).sqrt().clamp(1 / MOST, MOST)
            network.widen(result, network.widening(result) * lacking.to(network.widenings))
