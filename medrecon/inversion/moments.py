"""Linear regression from sums alone: its memory does not grow with what it is fitted to."""

from __future__ import annotations

import math

import torch

from medrecon.errors import ModelError

RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Strengths that are tried, as shares of the mean variance of the inputs."""


class Moments:
    """The sums over rows (inputs, outputs) that least squares need.

    Args:
        inputs: numbers of a row's left side.
        outputs: of its right side.
        device: where the sums are held, in float64.
    """

    def __init__(self, inputs: int, outputs: int, device: torch.device) -> None:
        self.inputs = inputs
        self.gram = torch.zeros(inputs + 1, inputs + 1, dtype=torch.float64, device=device)
        self.cross = torch.zeros(inputs + 1, outputs, dtype=torch.float64, device=device)
        self.square = 0.0

    def add(self, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        """Add rows (N, inputs) and (N, outputs)."""
        rows = torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1)
        self.gram += rows.T @ rows
        self.cross += rows.T @ outputs
        self.square += float(outputs.double().square().sum())

    @property
    def count(self) -> int:
        """Rows so far."""
        return int(self.gram[-1, -1])

    def error(self, solution: torch.Tensor) -> float:
        """Mean squared error of a linear map (inputs + 1, outputs) on these rows."""
        explained = (solution * (self.gram @ solution - 2 * self.cross)).sum()
        return (float(explained) + self.square) / max(1, self.count * self.cross.shape[1])


def best_ridge(seen: Moments, aside: Moments) -> tuple[torch.Tensor, torch.Tensor]:
    """Ridge regression with a free constant, of the strength that is best on rows kept aside.

    Args:
        seen: what is fitted to.
        aside: other images; without any, generalised cross-validation on what was seen decides (Golub,
            Heath & Wahba 1979).

    Returns:
        The map (inputs, outputs) and its constant (outputs,), float64.

    Raises:
        ModelError: the inputs are not finite.
    """
    if not bool(torch.isfinite(seen.gram).all()):
        raise ModelError("these features are not finite", remedy="check the encoder and its weights")
    count = max(1, seen.count)
    mean, level = seen.gram[-1, :-1] / count, seen.cross[-1] / count
    centred = seen.gram[:-1, :-1] - count * mean[:, None] * mean
    cross = seen.cross[:-1] - count * mean[:, None] * level
    strength = float(centred.diagonal().mean()) or 1.0
    best, least = torch.cat([torch.zeros_like(cross), level[None]]), math.inf
    for relative in RIDGES:
        added = relative * strength
        factor, failed = torch.linalg.cholesky_ex(centred + added * torch.eye(len(centred)).to(centred))
        if bool(failed):
            continue
        weight = torch.cholesky_solve(cross, factor)
        solution = torch.cat([weight, (level - mean @ weight)[None]])
        if aside.count:
            error = aside.error(solution)
        else:
            freedom = 1 + len(centred) - added * float(torch.cholesky_inverse(factor).diagonal().sum())
            error = seen.error(solution) / max(1e-3, 1 - freedom / count) ** 2
        if error < least:
            best, least = solution, error
    return best[:-1], best[-1]
