"""How close a reconstruction is to its source, in the source's units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medrecon.evaluation.msssim import MultiScaleSSIM
from medrecon.evaluation.relative_error import check_pair
from medrecon.evaluation.ssim import SSIM
from medrecon.intensity_range import intensity_range

_SLAB = 1 << 22  # voxels compared in one go


@dataclass(frozen=True)
class Fidelity:
    """What was lost between a source and its reconstruction.

    Attributes:
        mae: mean absolute error, in `units`.
        rmse: root of the mean squared error, in `units`.
        bias: mean of reconstruction - source, in `units`.
        max_error: largest absolute error, in `units`.
        psnr: peak signal-to-noise ratio over `data_range`, in dB; infinite where nothing was lost.
        ssim: mean structural similarity in 3D, see `medrecon.evaluation.ssim.SSIM`.
        sharpness: mean length of the reconstruction's intensity gradient over that of the source: below 1 for
            a blurred reconstruction (noise counts as detail); NaN for a constant source.
        data_range: (low, high) in `units`: the range of `psnr` and `ssim`.
        units: "HU", or the source's.
        voxels: how many were compared.
    """

    mae: float
    rmse: float
    bias: float
    max_error: float
    psnr: float
    ssim: float
    sharpness: float
    data_range: tuple[float, float]
    units: str
    voxels: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which has neither infinity nor NaN: both become null."""
        values = asdict(self) | {"data_range": list(self.data_range)}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def fidelity(
    source: np.ndarray,
    recon: np.ndarray,
    *,
    units: str,
    spacing: Sequence[float] | None = None,
    data_range: tuple[float, float] | None = None,
    similarity: Callable[[tuple[int, int, int]], SSIM | MultiScaleSSIM] = SSIM,
) -> Fidelity:
    """Compare a reconstruction with its source, voxel by voxel on the same grid.

    PSNR and SSIM need a range, and it is the one that networks see as [0, 1]
    (`medrecon.intensity_range`): for HU -1024 to 3071, 4095 in all, with both volumes clipped to it; for
    other units the source's 0.5 to 99.5 percentile (a dominant background left out), with nothing clipped. HU
    below -1024 count as -1024 in every figure: that is padding outside the field of view, not density.

    Both volumes are gone through in slabs; memory beyond them is a few hundred MiB, whatever their size.

    Args:
        source: (X, Y, Z) in `units`, any dtype; (X, Y) is taken as one slice.
        recon: the same shape and units.
        units: "HU", or anything else.
        spacing: voxel size in mm along each axis, for `sharpness`; all alike where not given.
        data_range: (low, high), overrules the range above.
        similarity: what is fed for `ssim`, made from a shape: `MultiScaleSSIM` gives MS-SSIM on the way.

    Raises:
        UsageError: the shapes differ, or are not those of an image.
        ValueError: the source holds no finite value, or the range is empty.
    """
    source, recon = np.asarray(source), np.asarray(recon)
    check_pair(source, recon)
    low, high = intensity_range(source, units) if data_range is None else data_range
    if not low < high:
        raise ValueError(f"data_range {low, high}: the low end must be below the high end")
    step = [*([1.0] * source.ndim if spacing is None else spacing), 1.0][:3]
    if source.ndim == 2:
        source, recon = source[..., None], recon[..., None]
    # slabs along the axis that memory stores slowest are read without jumping
    order = sorted(range(3), key=lambda axis: -abs(source.strides[axis]))
    ours, theirs = source.transpose(order), recon.transpose(order)
    step = [float(step[axis]) for axis in order]
    sums = _Sums(low, high, clip=units == "HU", step=step, single=len(ours) == 1)
    planes = max(1, _SLAB // (ours.shape[1] * ours.shape[2]))
    with similarity(ours.shape) as ssim:
        for start in range(0, len(ours), planes):
            ssim.add(*sums.add(ours[start : start + planes], theirs[start : start + planes]))
    mse = sums.clipped_squares / source.size
    return Fidelity(
        mae=sums.absolute / source.size,
        rmse=math.sqrt(sums.squares / source.size),
        bias=sums.signed / source.size,
        max_error=sums.largest,
        psnr=math.inf if mse == 0 else 10 * math.log10((high - low) ** 2 / mse),
        ssim=ssim.mean,
        sharpness=sums.gradients[1] / sums.gradients[0] if sums.gradients[0] else math.nan,
        data_range=(float(low), float(high)),
        units=units,
        voxels=source.size,
    )


class _Sums:
    """The sums over slabs that every figure but SSIM needs."""

    def __init__(self, low: float, high: float, clip: bool, step: Sequence[float], single: bool) -> None:
        self.single = single
        self.low, self.high, self.clip, self.step = low, high, clip, step
        self.signed = self.absolute = self.squares = self.clipped_squares = self.largest = 0.0
        self.gradients = [0.0, 0.0]
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, source: np.ndarray, recon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take in one slab; return it scaled to [0, 1] over the range, float32."""
        wide = any(np.promote_types(v.dtype, np.float32) != np.float32 for v in (source, recon))
        dtype: type[np.floating] = np.float64 if wide else np.float32
        x: np.ndarray = np.array(source, dtype=dtype, order="C")
        y: np.ndarray = np.array(recon, dtype=dtype, order="C")
        if self.clip:
            np.maximum(x, self.low, out=x)
            np.maximum(y, self.low, out=y)
        squares = self._errors(y - x)
        if self.clip and max(float(x.max()), float(y.max())) > self.high:
            np.minimum(x, self.high, out=x)
            np.minimum(y, self.high, out=y)
            squares = float(np.square(y - x, dtype=np.float64).sum())
        self.clipped_squares += squares
        width = self.high - self.low
        for v in (x, y):
            v -= self.low
            v /= width
        scaled = x.astype(np.float32, copy=False), y.astype(np.float32, copy=False)
        for which, v in enumerate(scaled):
            joined = v if self._last is None else np.concatenate([self._last[which], v])
            if len(joined) > 1 or self.single:
                self.gradients[which] += _gradient_sum(joined, self.step)
        self._last = scaled[0][-1:].copy(), scaled[1][-1:].copy()
        return scaled

    def _errors(self, error: np.ndarray) -> float:
        """Add up what the differences say; return their sum of squares."""
        self.signed += float(error.sum(dtype=np.float64))
        np.abs(error, out=error)
        self.absolute += float(error.sum(dtype=np.float64))
        self.largest = max(self.largest, float(error.max()))
        squares = float(np.square(error, dtype=np.float64).sum())
        self.squares += squares
        return squares


def _gradient_sum(values: np.ndarray, step: Sequence[float]) -> float:
    """Sum the lengths of forward differences; axes of one voxel, and each axis's last voxel, have none."""
    axes = [axis for axis in range(3) if values.shape[axis] > 1]
    lengths = np.zeros(1, np.float32)
    for axis in axes:
        inner = tuple(slice(0, -1) if a in axes and a != axis else slice(None) for a in range(3))
        along = np.diff(values[inner], axis=axis)
        along /= step[axis]
        along *= along
        lengths = along if axis == axes[0] else np.add(lengths, along, out=lengths)
    return float(np.sqrt(lengths, out=lengths).sum(dtype=np.float64))
