"""The linear inverse of a layer, fitted in closed form: where a learned decoder starts from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from medrecon.contract import LayerInfo
from medrecon.errors import ModelError
from medrecon.inversion.upsample import fit_size, shuffle, unshuffle

MOST_INPUTS = 2500
"""Above this many numbers for each position only the position itself is seen, not its neighbours."""

MOST_OUTPUTS = 512
"""At most so many voxels are made of a position; a larger block is made coarser, and interpolated."""

RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class LinearInverse(nn.Module):
    """Each position of a layer, with its neighbours, makes its own block of voxels; nothing is trained.

    Ridge regression, its strength chosen on rows kept aside. Until `fit` it gives 0.

    Args:
        info: the layer.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, info: LayerInfo) -> None:
        super().__init__()
        dims = len(info.stride)
        self.stride = info.stride
        self.kernel = 3 if info.channels * 3**dims <= MOST_INPUTS else 1
        self.cells = cells_of(info.stride)
        outputs = math.prod(self.cells)
        self.register_buffer("weight", torch.zeros(outputs, info.channels, *(self.kernel,) * dims))
        self.register_buffer("bias", torch.zeros(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised features (B, C, *positions) -> (B, 1, *(positions * stride)), float32."""
        conv = functional.conv2d if x.ndim == 4 else functional.conv3d
        with torch.autocast(x.device.type, enabled=False):
            blocks = conv(self._padded(x.float()), self.weight, self.bias)
            image = shuffle(blocks, self.cells)
            size = [n * s for n, s in zip(x.shape[2:], self.stride, strict=True)]
            if list(image.shape[2:]) == size:
                return image
            mode = "bilinear" if x.ndim == 4 else "trilinear"
            return functional.interpolate(image, size=size, mode=mode, align_corners=False)

    def fit(self, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Fit to normalised features (B, C, *positions) and their images (B, 1, *spatial).

        Raises:
            ModelError: nothing was given, or the features are not finite.
        """
        unknowns = self.weight[0].numel() + 1
        each = math.ceil(max(20_000, 10 * unknowns) / max(1, len(pairs)))
        rows = [self._rows(x.float(), image.float(), each) for x, image in pairs]
        if not rows:
            raise ModelError("there are no features to fit an inverse to", remedy="give training images")
        inputs, outputs = torch.cat([a for a, _ in rows]), torch.cat([b for _, b in rows])
        if not bool(torch.isfinite(inputs).all()):
            raise ModelError("these features are not finite", remedy="check the encoder and its weights")
        solution = ridge(inputs, outputs)
        self.weight.copy_(solution[:-1].T.reshape(self.weight.shape))
        self.bias.copy_(solution[-1])

    def _padded(self, x: torch.Tensor) -> torch.Tensor:
        margin = self.kernel // 2
        return functional.pad(x, (margin,) * (2 * (x.ndim - 2)), mode="replicate") if margin else x

    def _rows(self, x: torch.Tensor, image: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Some positions, spread evenly: what each sees, (N, inputs), and its block, (N, outputs)."""
        size = [n * s for n, s in zip(x.shape[2:], self.stride, strict=True)]
        target = fit_size(image, size)
        rest = [s // c for s, c in zip(self.stride, self.cells, strict=True)]
        if max(rest) > 1:
            pool = functional.avg_pool2d if x.ndim == 4 else functional.avg_pool3d
            target = pool(target, rest)
        blocks = unshuffle(target, self.cells)
        windows: Any = self._padded(x)
        for axis in range(2, x.ndim):
            windows = windows.unfold(axis, self.kernel, 1)
        total = x.shape[0] * math.prod(x.shape[2:])
        flat = torch.linspace(0, total - 1, min(most, total), device=x.device).round().long()
        where = torch.unravel_index(flat, (x.shape[0], *x.shape[2:]))
        index: Any = (where[0], slice(None), *where[1:])
        return windows[index].flatten(1), blocks[index]


def ridge(inputs: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    """Linear regression with a constant, (inputs + 1, outputs), by the ridge that is best on rows kept aside.

    Those are the last fifth: other images, not neighbours of what is fitted.

    Args:
        inputs: (N, inputs).
        outputs: (N, outputs).
    """
    rows = torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1)
    aside = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    aside[-max(1, len(rows) // 5) :] = True
    seen, wanted = rows[~aside], outputs[~aside]
    gram, cross = (seen.T @ seen).double(), (seen.T @ wanted).double()
    strength = float(gram.diagonal().mean())
    best, least = cross.new_zeros(cross.shape), math.inf
    for relative in RIDGES:
        damped = gram + relative * strength * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if bool(failed):
            continue
        solution = torch.cholesky_solve(cross, factor)
        error = float((rows[aside] @ solution.float() - outputs[aside]).square().mean())
        if error < least:
            best, least = solution, error
    return best.to(inputs.dtype)


def cells_of(stride: Sequence[int]) -> tuple[int, ...]:
    """How many voxels along each axis are made of one position: the stride, or a part of it."""
    cells = list(stride)
    while math.prod(cells) > MOST_OUTPUTS:
        axis = cells.index(max(cells))
        divisor = next(d for d in range(2, cells[axis] + 1) if cells[axis] % d == 0)
        cells[axis] //= divisor
    return tuple(cells)
