"""Structural similarity and spectrum."""

from __future__ import annotations

import torch
from monai.losses import SSIMLoss as MonaiSSIMLoss
from torch import nn


class SSIMLoss(MonaiSSIMLoss):
    """MONAI's `SSIMLoss`, kept in float32 and fitted to small images.

    Under autocast MONAI's convolutions run in bfloat16, where a variance taken as the difference of two
    large numbers is noise; and images smaller than the window fail. Arguments are MONAI's; the window shrinks
    to the image along the axes where it does not fit (a slice, a thin slab).
    """

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """1 - SSIM of two images (B, C, *spatial) of one shape."""
        fitting = zip(self.kernel_size, pred.shape[2:], strict=True)
        self.ssim_metric.kernel_size = [min(window, size) for window, size in fitting]
        with torch.autocast(pred.device.type, enabled=False):
            return super().forward(pred.float(), target.float())


class SpectralLoss(nn.Module):
    """Mean magnitude of the difference of two spectra (orthonormal FFT over the spatial axes).

    Complex differences, so phase counts too. Unlike MONAI's `JukeboxLoss` its gradient is finite where a
    coefficient is zero, as nearly all are in a constant patch.

    Args:
        eps: magnitude at which it turns from linear to quadratic.
    """

    def __init__(self, eps: float = 1e-4) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Scalar loss of two images (B, C, *spatial) of one shape; 0 where they are equal."""
        with torch.autocast(pred.device.type, enabled=False):
            difference = torch.fft.rfftn(
                pred.float() - target.float(), dim=tuple(range(2, pred.ndim)), norm="ortho"
            )
            power = torch.view_as_real(difference).square().sum(-1)
            return (power + self.eps**2).sqrt().mean() - self.eps
