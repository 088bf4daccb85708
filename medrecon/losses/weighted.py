"""One loss made of named terms, each of which can be logged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from monai.data import MetaTensor
from torch import nn

from medrecon.errors import ModelError


class WeightedSum(nn.Module):
    """Sum of weight * loss over named terms: a loss as MONAI's trainers call it, `loss(pred, target)`.

    A term of weight 0 is only watched: computed without gradient, and logged. Terms see float32 images also
    under autocast.

    Args:
        terms: name -> (weight, loss), the loss called as loss(pred, target) and giving a scalar. A weight
            alone is a term that a configuration has disabled (MONAI leaves out what is `_disabled_`).
        starts: name -> the first epoch (`set_epoch`, from 1) in which the term counts; it is not computed
            before. The other terms count from the beginning.

    Raises:
        ModelError: no term, a weight that is negative or not a number, or the start of an unknown term.
    """

    def __init__(self, terms: Mapping[str, Sequence], starts: Mapping[str, int] | None = None) -> None:
        super().__init__()
        if not terms:
            raise ModelError(
                "a weighted sum needs at least one term", remedy="give terms: {name: [weight, loss]}"
            )
        self.weights: dict[str, float] = {}
        self.losses: dict[str, nn.Module] = {}
        self.starts = dict(starts or {})
        self.epoch = 1
        if unknown := sorted(set(self.starts) - set(terms)):
            raise ModelError(f"there is no term {unknown[0]!r} to start", remedy="mend starts")
        for name, (weight, *losses) in terms.items():
            if not losses:
                continue
            (loss,) = losses
            if not 0 <= float(weight) < float("inf"):
                raise ModelError(f"the weight of {name!r} is {weight}", remedy="give a number from 0 up")
            self.weights[name] = float(weight)
            self.losses[name] = loss
            if isinstance(loss, nn.Module):
                self.add_module(f"term_{name}".replace(".", "_"), loss)
        self._last: dict[str, torch.Tensor] = {}

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins: its number alone decides, so that a resumed run repeats the other."""
        self.epoch = int(epoch)

    @property
    def last(self) -> dict[str, float]:
        """Each term's value, before its weight, in the last call; empty before the first."""
        return {name: value.item() for name, value in self._last.items()}

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Scalar loss of two images (B, C, *spatial) of one shape.

        Raises:
            ModelError: shapes that differ, which torch would broadcast.
        """
        if pred.shape != target.shape:
            raise ModelError(
                f"the result has shape {tuple(pred.shape)}, its target {tuple(target.shape)}",
                remedy="compare images of one shape",
            )
        pred, target = plain(pred), plain(target)
        total = pred.new_zeros(())
        self._last = {}
        for name, loss in self.losses.items():
            if self.epoch < self.starts.get(name, 0):
                continue
            weight = self.weights[name]
            with torch.set_grad_enabled(torch.is_grad_enabled() and weight > 0):
                value = loss(pred, target)
            self._last[name] = value.detach()
            if weight > 0:
                total = total + weight * value
        return total


class LogTerms:
    """`output_transform` of MONAI's StatsHandler and TensorBoardStatsHandler: the last value of every term.

    Args:
        losses: losses that have `.last`: `WeightedSum`, `GeneratorLoss`, `DiscriminatorLoss`.
    """

    def __init__(self, losses: Sequence[nn.Module]) -> None:
        self.losses = list(losses)

    def __call__(self, output: object = None) -> dict[str, float]:
        """Name -> value; `output` is the engine's, and not needed."""
        return {name: value for loss in self.losses for name, value in loss.last.items()}  # type: ignore


def plain(image: torch.Tensor) -> torch.Tensor:
    """Float32 (float64 stays), and without MONAI's metadata, which slows each operation down."""
    image = image.as_tensor() if isinstance(image, MetaTensor) else image
    return image if image.dtype == torch.float64 else image.float()
