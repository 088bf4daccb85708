"""Structural similarity and spectrum."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from medrecon.evaluation.similarity import K1, K2, SIGMA, WINDOW, exponents, gaussian, halvings


class SSIMLoss(nn.Module):
    """1 - SSIM with a Gaussian window (Wang et al. 2004), equal to MONAI's `SSIMLoss`, made for training.

    MONAI convolves volumes with the dense window, 1331 products a voxel where 33 do, and under autocast it
    does so in bfloat16, where a variance taken as the difference of two large numbers is noise. Here the
    window is applied axis by axis, in float32.

    Args:
        data_range: the span of the image's values.
        win_size: voxels of the window along each axis; it shrinks where the image is smaller (a thin slab).
        sigma: standard deviation of the window in voxels.
        k1, k2: stabilisers, relative to the data range.
    """

    def __init__(
        self,
        data_range: float = 1.0,
        win_size: int = WINDOW,
        sigma: float = SIGMA,
        k1: float = K1,
        k2: float = K2,
    ) -> None:
        super().__init__()
        self.win_size = win_size
        self.sigma = sigma
        self.c1 = (k1 * data_range) ** 2
        self.c2 = (k2 * data_range) ** 2

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """1 - mean SSIM of two images (B, C, *spatial) of one shape."""
        with torch.autocast(pred.device.type, enabled=False):
            luminance, structure = self._terms(pred.float(), target.float())
            return 1 - (luminance * structure).mean()

    def _terms(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Luminance, and contrast times structure, at each window: (B, C, *windows) both."""
        moments = self._blur(torch.stack([x, y, x * x, y * y, x * y]))
        mean_x, mean_y, xx, yy, xy = moments.unbind()
        var_x, var_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
        luminance = (2 * mean_x * mean_y + self.c1) / (mean_x**2 + mean_y**2 + self.c1)
        return luminance, (2 * covariance + self.c2) / (var_x + var_y + self.c2)

    def _blur(self, maps: torch.Tensor) -> torch.Tensor:
        """Windowed means of (5, B, C, *spatial) where the whole window fits."""
        for axis in range(3, maps.ndim):
            # A product with a banded matrix: the fastest one-dimensional convolution of one channel there is.
            band = self._band(maps.shape[axis]).to(maps.device)
            maps = torch.matmul(maps.movedim(axis, -1), band).movedim(-1, axis)
        return maps

    def _band(self, size: int) -> torch.Tensor:
        """(size, positions): column k holds the window that starts at voxel k."""
        window = gaussian(size, self.win_size, self.sigma)
        band = torch.zeros(size, size - len(window) + 1)
        for place, weight in enumerate(window):
            band.diagonal(-place).fill_(float(weight))
        return band


class MSSSIMLoss(SSIMLoss):
    """1 - MS-SSIM (Wang, Simoncelli & Bovik 2003): contrast and structure at up to five resolutions.

    The measure is `medrecon.evaluation.ms_ssim`'s, mean over the batch: MONAI's `MultiScaleSSIMMetric` where
    each axis has 176 voxels or more. Smaller and thinner images get fewer halvings (see
    `evaluation.similarity.halvings`), down to one scale, where it is `SSIMLoss`: a patch of 64 voxels a side
    has three. A smaller `win_size` gives more.

    MONAI cuts a scale's mean off at 0, where its root has an infinite gradient; here it goes on below `eps`
    as a hyperbola, small and rising, so that an image that correlates negatively has a way back.

    Args:
        data_range, win_size, sigma, k1, k2: see `SSIMLoss`.
        eps: mean of a scale below which it is replaced.
    """

    def __init__(
        self,
        data_range: float = 1.0,
        win_size: int = WINDOW,
        sigma: float = SIGMA,
        k1: float = K1,
        k2: float = K2,
        eps: float = 0.01,
    ) -> None:
        super().__init__(data_range, win_size, sigma, k1, k2)
        self.eps = eps

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """1 - mean MS-SSIM of two images (B, C, *spatial) of one shape."""
        steps = halvings(pred.shape[2:], self.win_size)
        weights = exponents(len(steps) + 1)
        with torch.autocast(pred.device.type, enabled=False):
            x, y = pred.float(), target.float()
            product = torch.ones(len(x), device=x.device)
            for step, weight in zip(steps, weights, strict=False):
                _, structure = self._terms(x, y)
                product = product * self._power(structure.flatten(1).mean(1), weight)
                x, y = _halved(x, step), _halved(y, step)
            luminance, structure = self._terms(x, y)
            coarsest = (luminance * structure).flatten(1).mean(1)
            return 1 - (product * self._power(coarsest, weights[-1])).mean()

    def _power(self, mean: torch.Tensor, weight: float) -> torch.Tensor:
        """mean ** weight; below eps the base is a hyperbola of the same value and slope there."""
        below = self.eps**2 / (2 * self.eps - mean.clamp_max(self.eps))
        return torch.where(mean > self.eps, mean, below) ** weight


def _halved(image: torch.Tensor, step: tuple[bool, ...]) -> torch.Tensor:
    """Means of two voxels along the axes that are halved; an odd last one is left out."""
    pool = functional.avg_pool3d if len(step) == 3 else functional.avg_pool2d
    return pool(image, [2 if half else 1 for half in step])


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
