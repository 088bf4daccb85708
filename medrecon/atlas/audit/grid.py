"""Scans on common ground: one orientation, spacing and size, the body in the middle; and second views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import SpatialResample
from torch.nn import functional

from medrecon.errors import UsageError
from medrecon.io import read_scan
from medrecon.io.meta import scan_meta
from medrecon.io.scan import Scan

VIEWS = {
    "noise": "Gaussian noise of 5 % of the scan's range",
    "crop": "an eighth of the field of view lost on one side of each axis",
    "resample": "through voxels of twice the size and back",
    "shift": "moved by one and a half voxels",
    "intensity": "another contrast: a power between 0.7 and 1.4 of the values in their range",
}
"""Second views that can be made of a scan where nobody was scanned twice: name -> what is done."""

_PERCENTILES = (1.0, 99.0)


def check_views(names: Sequence[str]) -> list[str]:
    """The names of second views, each once.

    Raises:
        UsageError: one is unknown.
    """
    unknown = [name for name in names if name not in VIEWS]
    if unknown:
        raise UsageError(f"'{unknown[0]}' is no second view", remedy=f"there are {', '.join(VIEWS)}")
    return list(dict.fromkeys(names))


def on_common_grid(scan: Scan, size: int, spacing: float, labels: np.ndarray | None = None) -> MetaTensor:
    """A scan on a cube of voxels, RAS, the centre of what is brighter than its mean in the middle.

    Averaged over as many voxels as go into a coarser one, then linear between them; what lies outside the
    scan gets its least value.

    Args:
        scan: as it is found.
        size: voxels along each side.
        spacing: mm between them.
        labels: put these, (X, Y, Z) on the scan's grid, into the same place instead.

    Returns:
        (1, size, size, size) float32 in the scan's units, with the metadata that a network's preprocessing
        asks for.

    Raises:
        ScanError: it cannot be read.
    """
    values = torch.as_tensor(np.ascontiguousarray(read_scan(scan), np.float32))
    image, affine = _coarse(values, scan.affine, spacing)
    centre = _centre(image, affine)
    if labels is not None:
        image, affine = _coarse(
            torch.as_tensor(np.ascontiguousarray(labels, np.float32)), scan.affine, spacing
        )
    least = image.min()
    target = np.diag([spacing, spacing, spacing, 1.0])
    target[:3, 3] = centre - spacing * (size - 1) / 2
    resample = SpatialResample(mode="bilinear", padding_mode="zeros", dtype=np.float32)
    placed: Any = resample(
        MetaTensor(image[None] - least, affine=torch.as_tensor(affine)),
        dst_affine=torch.as_tensor(target),
        spatial_size=(size,) * 3,
    )
    meta = {**scan_meta(scan), "affine": torch.as_tensor(target), "spatial_shape": np.array((size,) * 3)}
    return MetaTensor(placed.as_tensor() + least, meta=meta)


def _coarse(values: torch.Tensor, affine: np.ndarray, spacing: float) -> tuple[torch.Tensor, np.ndarray]:
    """Means over whole numbers of voxels, as many as go into `spacing`, and where they lie."""
    own = np.linalg.norm(affine[:3, :3], axis=0)
    step = [int(min(max(1, round(spacing / s)), n)) for s, n in zip(own, values.shape, strict=True)]
    moved = np.array(affine, float)
    moved[:3, 3] = affine[:3, 3] + affine[:3, :3] @ ((np.array(step) - 1) / 2)
    moved[:3, :3] = affine[:3, :3] * step
    return functional.avg_pool3d(values[None, None], step)[0, 0], moved


def _centre(image: torch.Tensor, affine: np.ndarray) -> np.ndarray:
    """The centre of the voxels above the mean, in mm; of the grid, where none is."""
    body = (image > image.mean()).nonzero().double()
    middle = body.mean(0).numpy() if len(body) else (np.array(image.shape) - 1) / 2
    return np.asarray(affine[:3, :3] @ middle + affine[:3, 3])


def second_view(name: str, image: MetaTensor, rng: np.random.Generator) -> MetaTensor:
    """A second view of a scan on the common grid, by what `VIEWS` says.

    Args:
        name: of the view.
        image: (1, n, n, n); left as it is.
        rng: of what is drawn.
    """
    values = image.as_tensor().clone()
    low, high = np.percentile(values.numpy(), _PERCENTILES)
    width = max(float(high - low), 1e-6)
    least = float(values.min())
    if name == "noise":
        values += torch.as_tensor(rng.normal(0, 0.05 * width, values.shape), dtype=torch.float32)
    elif name == "crop":
        for axis in (1, 2, 3):
            lost = max(1, values.shape[axis] // 8)
            start = 0 if rng.random() < 0.5 else values.shape[axis] - lost
            values.narrow(axis, start, lost).fill_(least)
    elif name == "resample":
        half = functional.avg_pool3d(values[None], 2, ceil_mode=True)
        values = functional.interpolate(half, size=values.shape[1:], mode="trilinear")[0]
    elif name == "shift":
        values = _moved(values - least, rng) + least
    else:
        power = float(np.exp(rng.uniform(np.log(0.7), np.log(1.4))))
        values = ((values - low) / width).clamp(min=0) ** power * width + low
    return MetaTensor(values.float()).copy_meta_from(image)


def _moved(values: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """(1, n, n, n) moved by one and a half voxels in a direction by chance; zeros come in."""
    direction = rng.normal(size=3)
    direction *= 1.5 / np.linalg.norm(direction)
    sizes = np.array(values.shape[:0:-1], float)  # grid_sample counts axes from the last
    theta = torch.eye(3, 4)[None]
    theta[0, :, 3] = torch.as_tensor(2 * direction / sizes)
    grid = functional.affine_grid(theta, [1, *values.shape], align_corners=False)
    return functional.grid_sample(values[None], grid, align_corners=False)[0]
