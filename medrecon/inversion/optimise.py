"""Inversion without training: the image itself is optimised until its features are those wanted."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from monai.networks.utils import eval_mode
from torch import nn

from medrecon.contract import Decoder, Encoder, Features, Progress, untold
from medrecon.errors import ModelError, UsageError
from medrecon.inversion.minimise import OPTIMISERS, Budget, Minimum, minimise
from medrecon.inversion.parameterisation import Parameterisation, parameterisation
from medrecon.inversion.priors import outside, total_variation

GREY = 0.25
"""Where an image starts that no decoder has made: between air and soft tissue, as much as it matters."""

GREYS = 40
"""Where that leads nowhere: into so many steps [0, 1] is divided to find another one."""

FAINT = 0.01
"""Standard deviation of the noise that is then added."""


@dataclass(frozen=True)
class Outcome:
    """How the optimisation of one image ended.

    Attributes:
        steps: evaluations of the encoder and its gradient.
        distance: of the features reached from those wanted, 0 same, 1 as features of zero; mean over layers.
        loss: that and the priors.
        seconds: wall time.
        converged: whether the loss had stopped to fall before the steps were spent.
        diverged: whether it was left early because the loss was no number any more.
    """

    steps: int
    distance: float
    loss: float
    seconds: float
    converged: bool
    diverged: bool


class ImageOptimiser(Decoder):
    """Find the image whose features are those given (Mahendran & Vedaldi 2015, arXiv:1412.0035).

    The loss is the mean over the layers given of |features - wanted|^2 / |wanted|^2, plus priors. Each image
    of a batch is optimised by itself, so no result depends on its company. It runs in float32
    (but for `mixed_precision`) whatever autocast says, also under `torch.inference_mode`, leaves the encoder
    as it is, and gives the best image seen.

    Args:
        encoder: whose features are given. It is no part of this module: its weights stay out of the state
            dict, and whoever made it moves it to a device.
        start: a decoder whose result is the first image ("decode, then refine"); even grey when None.
        parameterisation: "pixels", "multiscale", "fourier", "prior" (deep image prior), or what makes one.
        optimiser: "lbfgs" or "adam"; None: adam for the deep image prior, lbfgs for all else.
        steps: most evaluations of the encoder for each image.
        tv: weight of the total variation.
        intensity: weight of what lies outside [0, 1].
        layer_weights: weight of each layer's distance; 1 for those not named.
        rate: Adam's learning rate.
        history: of L-BFGS.
        tolerance: stop when the loss fell by less than this share of itself over the last
        window: steps.
        seed: of the deep image prior's weights and noise; the same image comes out each time.
        channels: images that are found together, each a channel of what the encoder takes.
        mixed_precision: run the encoder in bfloat16 (autocast) for the first two thirds of the steps; the
            distance that is told is always float32's.

    Attributes:
        outcomes: of the last call, one for each image.

    Raises:
        UsageError: an unknown optimiser or parameterisation, or a setting out of its range.
    """

    def __init__(
        self,
        encoder: Encoder,
        start: Decoder | None = None,
        parameterisation: str | Parameterisation = "fourier",
        optimiser: str | None = None,
        steps: int = 300,
        tv: float = 0.1,
        intensity: float = 1.0,
        layer_weights: Mapping[str, float] | None = None,
        rate: float = 0.02,
        history: int = 20,
        tolerance: float = 1e-3,
        window: int = 20,
        seed: int = 0,
        channels: int = 1,
        mixed_precision: bool = False,
    ) -> None:
        super().__init__()
        if optimiser is None:
            optimiser = "adam" if parameterisation == "prior" else "lbfgs"
        if optimiser not in OPTIMISERS:
            raise UsageError(f"there is no optimiser '{optimiser}'", remedy="choose lbfgs or adam")
        if steps < 1 or window < 1 or history < 1 or min(tv, intensity, tolerance, rate) < 0:
            raise UsageError(
                "steps, window and history start at 1, weights, rate and tolerance at 0",
                remedy="mend the settings of the optimisation",
            )
        self._encoder = (encoder,)  # in a tuple: torch would take it for a part of this module
        self.start = start
        self.parameterisation = _parameterisation(parameterisation)
        self._named = parameterisation if isinstance(parameterisation, str) else "own"
        self.budget = Budget(optimiser, steps, rate, history, tolerance, window)
        self.tv, self.intensity = tv, intensity
        self.layer_weights = dict(layer_weights or {})
        self.seed, self.channels, self.mixed_precision = seed, channels, mixed_precision
        self.outcomes: list[Outcome] = []

    def settings(self) -> dict[str, Any]:
        """All that decides about the result, but for the encoder and the start, for a record of it."""
        priors = {"tv": self.tv, "intensity": self.intensity, "seed": self.seed}
        precision = {"mixed_precision": self.mixed_precision}
        named = {"parameterisation": self._named, **asdict(self.budget)}
        return {**named, **priors, **precision, **self._weights()}

    def _weights(self) -> dict[str, float]:
        return {f"weight_{name}": weight for name, weight in self.layer_weights.items()}

    def forward(
        self, features: Features, shape: Sequence[int], progress: Progress | None = None
    ) -> torch.Tensor:
        """The images behind the features.

        Args:
            features: {layer name: (B, C, *positions)}, one or more layers of the encoder.
            shape: spatial size of the images wanted.
            progress: told (steps done, steps in all).

        Returns:
            (B, channels, *shape), float32, about [0, 1], finite, detached.

        Raises:
            ModelError: no features, features that are not finite, or not this encoder's for this shape.
        """
        if not features:
            raise ModelError("no features to invert", remedy="name a layer")
        first = next(iter(features.values()))
        steps, count, tell = self.budget.steps, len(first), progress or untold
        images: list[torch.Tensor] = []
        self.outcomes = []
        with (
            torch.inference_mode(False),
            torch.autocast(first.device.type, enabled=False),
            eval_mode(self._encoder[0]),
        ):
            wanted = {name: value.detach().float().clone() for name, value in features.items()}
            for name, value in wanted.items():
                if not torch.isfinite(value).all():
                    raise ModelError(f"features of {name} are not finite numbers", remedy="check the encoder")
            starts = self._starts(wanted, shape)
            for item in range(count):
                one = {name: value[item : item + 1] for name, value in wanted.items()}

                def tick(done: int, before: int = item * steps) -> None:
                    tell(before + done, count * steps)

                images.append(self._invert(one, starts[item : item + 1], tick))
        tell(count * steps, count * steps)
        return torch.cat(images)

    def _starts(self, wanted: Features, shape: Sequence[int]) -> torch.Tensor:
        first = next(iter(wanted.values()))
        if self.start is None:
            return torch.full((len(first), self.channels, *shape), GREY, device=first.device)
        with torch.no_grad():
            return self.start(wanted, shape).float()

    def _other_start(self, start: torch.Tensor, distance: _Distance) -> torch.Tensor:
        """The grey that comes nearest, with faint noise, the same for a seed."""
        with torch.no_grad():
            greys = [torch.full_like(start, level / GREYS) for level in range(GREYS + 1)]
            nearest = min(greys, key=lambda grey: float(distance(grey)))
        generator = torch.Generator().manual_seed(self.seed)
        return nearest + FAINT * torch.randn(start.shape, generator=generator).to(start)

    def _invert(self, wanted: Features, start: torch.Tensor, tick: Callable[[int], None]) -> torch.Tensor:
        began = time.perf_counter()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            parts = [self.parameterisation(start.shape[2:]) for _ in range(start.shape[1])]
            corrections = nn.ModuleList(parts).to(start.device)
        distance = _Distance(self._encoder[0], wanted, self.layer_weights)
        kind = start.device.type

        exact_from = 2 * self.budget.steps // 3 if self.mixed_precision else 0
        evaluations = itertools.count()

        def objective() -> tuple[torch.Tensor, torch.Tensor]:
            image = start + torch.cat([part() for part in corrections], dim=1)
            with torch.autocast(kind, torch.bfloat16, enabled=next(evaluations) < exact_from):
                apart = distance(image)
            loss = apart + self.tv * total_variation(image) + self.intensity * outside(image)
            return loss, image

        with torch.enable_grad():
            found: Minimum = minimise(objective, list(corrections.parameters()), self.budget, tick)
            if found.steps == 1 < self.budget.steps and not found.diverged and self.start is None:
                # This grey leads nowhere where a window cuts it off, or a network normalises it away.
                start = self._other_start(start, distance)
                found = minimise(objective, list(corrections.parameters()), self.budget, tick)
        image = start if found.image is None else found.image
        with torch.no_grad():
            reached = float(distance(image))
        seconds = time.perf_counter() - began
        self.outcomes.append(
            Outcome(found.steps, reached, found.loss, seconds, found.converged, found.diverged)
        )
        return image


_SILENT = 1e-4


class _Distance:
    """How far the features of an image are from those wanted, in units of their own mean square."""

    def __init__(self, encoder: Encoder, wanted: Features, weights: Mapping[str, float]) -> None:
        self.encoder, self.wanted, self.weights = encoder, wanted, weights
        squares = {name: float(value.double().square().mean()) for name, value in wanted.items()}
        # A layer that is silent everywhere wants silence: any scale would do, none must be infinite.
        self.scales = {name: math.sqrt(square) or _SILENT for name, square in squares.items()}

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        found = self.encoder(image, list(self.wanted))
        total = image.new_zeros(())
        for name, value in self.wanted.items():
            if found[name].shape != value.shape:
                raise ModelError(
                    f"features of {name} have shape {tuple(value.shape)}, an image of "
                    f"{tuple(image.shape[2:])} gives {tuple(found[name].shape)}",
                    remedy="use the encoder and the size that the features come from",
                )
            error = ((found[name].float() - value) / self.scales[name]).square().mean()
            total = total + self.weights.get(name, 1.0) * error
        return total / len(self.wanted)


_parameterisation = parameterisation  # the argument of the same name hides it
