"""Adversarial terms for MONAI's `AdversarialTrainer` with its `PatchDiscriminator`.

The trainer adds `recon_loss_function(fake, real)` and `g_loss_function(logits)` as they are, so the weight
and its warm-up live in `GeneratorLoss`. MONAI's discriminators return every intermediate map; the criterion
is for the logits alone. Without AMP the trainer's output has no "loss": log by `LogTerms`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import PatchAdversarialLoss
from torch import nn

from medrecon.errors import ModelError

Outputs = torch.Tensor | Sequence


class _AdversarialLoss(nn.Module):
    """What both sides share: the criterion, computed in float32, and a schedule that survives a resume."""

    def __init__(self, weight: float, criterion: str, start: int, ramp: int) -> None:
        super().__init__()
        if weight < 0 or start < 0 or ramp < 0:
            raise ModelError(
                f"adversarial weight {weight}, start {start}, ramp {ramp}", remedy="give numbers from 0 up"
            )
        if criterion not in ("hinge", "least_squares", "bce"):
            raise ModelError(
                f"there is no criterion {criterion!r}", remedy="choose hinge, least_squares or bce"
            )
        self.weight = weight
        self.start = start
        self.ramp = ramp
        self.criterion = PatchAdversarialLoss(criterion=criterion)
        self.step = 0
        self._last: dict[str, torch.Tensor | float] = {}

    @property
    def last(self) -> dict[str, float]:
        """Values of the last call; empty before the first."""
        return {name: float(value) for name, value in self._last.items()}

    def get_extra_state(self) -> dict[str, int]:
        """What the state dict keeps: the step, as a number, so that no step waits for the GPU."""
        return {"step": self.step}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Go on from a saved step."""
        self.step = int(state["step"])

    def factor(self) -> float:
        """The weight at this step: 0 before `start`, then rising in a line over `ramp` steps."""
        done = self.step - self.start
        if done < 0:
            return 0.0
        return self.weight * min(1.0, (done + 1) / (self.ramp + 1))

    def _judge(self, outputs: Outputs, real: bool, for_discriminator: bool) -> torch.Tensor:
        logits = final_logits(outputs)
        with torch.autocast(logits[0].device.type, enabled=False):
            return self.criterion([x.float() for x in logits], real, for_discriminator)

    def _advance(self) -> None:
        if self.training and torch.is_grad_enabled():
            self.step += 1


class GeneratorLoss(_AdversarialLoss):
    """How far the result is from being taken for real: `g_loss_function` of the trainer.

    Each call while training is one step.

    Args:
        weight: of this term beside the reconstruction loss.
        criterion: "hinge", "least_squares" or "bce", as MONAI's `PatchAdversarialLoss`.
        start: steps of reconstruction alone, before this term counts.
        ramp: steps over which its weight then rises.

    Raises:
        ModelError: unknown criterion or a number below zero.
    """

    def __init__(
        self, weight: float = 0.01, criterion: str = "least_squares", start: int = 0, ramp: int = 0
    ) -> None:
        super().__init__(weight, criterion, start, ramp)

    def forward(self, outputs: Outputs) -> torch.Tensor:
        """Weighted scalar loss of the discriminator's outputs for the results."""
        value = self._judge(outputs, real=True, for_discriminator=False)
        factor = self.factor()
        self._last = {"adversarial": value.detach(), "adversarial_weight": factor}
        self._advance()
        return factor * value


class DiscriminatorLoss(_AdversarialLoss):
    """How well real and reconstructed are told apart: `d_loss_function` of the trainer.

    Args:
        criterion: the same as the generator's.
        start: steps before the discriminator learns; let it start earlier than the generator listens.

    Raises:
        ModelError: unknown criterion or a number below zero.
    """

    def __init__(self, criterion: str = "least_squares", start: int = 0) -> None:
        super().__init__(1.0, criterion, start, 0)

    def forward(self, real: Outputs, fake: Outputs) -> torch.Tensor:
        """Scalar loss: the mean of those for real and for reconstructed images."""
        on_real = self._judge(real, real=True, for_discriminator=True)
        on_fake = self._judge(fake, real=False, for_discriminator=True)
        self._last = {"discriminator_real": on_real.detach(), "discriminator_fake": on_fake.detach()}
        factor = self.factor()
        self._advance()
        return factor * (on_real + on_fake) / 2


def final_logits(outputs: Outputs) -> list[torch.Tensor]:
    """The logits among a discriminator's outputs: one map, or one a scale.

    Takes a tensor, `PatchDiscriminator`'s list of maps (the last one), or the pair of
    `MultiScalePatchDiscriminator` (logits of each scale, intermediate maps).
    """
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    if isinstance(outputs, tuple) and len(outputs) == 2 and isinstance(outputs[0], (list, tuple)):
        return list(outputs[0])
    return [outputs[-1]]
