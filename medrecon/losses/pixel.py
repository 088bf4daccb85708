"""Losses voxel by voxel, beside torch's own `L1Loss` and `MSELoss`."""

from __future__ import annotations

import torch
from torch import nn


class CharbonnierLoss(nn.Module):
    """Mean of sqrt(d^2 + eps^2) - eps: L1 with a smooth foot (Charbonnier et al. 1994).

    Args:
        eps: where it turns from quadratic to linear, in units of the image.
    """

    def __init__(self, eps: float = 1e-3) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Scalar loss of two images of one shape; 0 where they are equal."""
        difference = pred.float() - target.float()
        return (difference.square() + self.eps**2).sqrt().mean() - self.eps


class PSNRLoss(nn.Module):
    """Mean over the batch of the negative PSNR in dB: 10 log10(MSE / data_range^2 + eps).

    The mean of decibels, not the decibels of the mean: a sample that is nearly right counts as much as one
    that is far off, where MSE would only see the latter.

    Args:
        data_range: the peak in the units of the image; 1 for images in [0, 1].
        eps: floor of the MSE; 1e-10 stops at -100 dB.
    """

    def __init__(self, data_range: float = 1.0, eps: float = 1e-10) -> None:
        super().__init__()
        self.data_range = data_range
        self.eps = eps

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Scalar loss, dB, of two images (B, ...) of one shape."""
        difference = (pred.float() - target.float()) / self.data_range
        mse = difference.square().flatten(1).mean(1)
        return 10 * torch.log10(mse + self.eps).mean()
