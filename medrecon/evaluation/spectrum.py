"""Error by spatial frequency, in line pairs per mm of the patient."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from scipy.fft import fftfreq, rfftfreq, rfftn
from scipy.signal.windows import hann

from medrecon.evaluation.scores import Spectrum

BANDS = 24
LIMIT = 0.5
"""Share of the source's power from which on a frequency counts as gone."""

_BLOCK_MM = 64.0
_SHORTEST, _LONGEST = 16, 128  # voxels of a block along an axis
_MOST_VOXELS = 1 << 23


class SpectrumMeter:
    """The spectra of one scan's errors, for any number of reconstructions.

    Welch's method (Welch 1967) in three dimensions: half-overlapping blocks of about 64 mm from the body,
    their mean taken off, under a Hann window along each axis, their power averaged; then pooled by the length
    of the frequency vector in cycles (line pairs) per mm, so that voxels that are longer than wide count as
    they should. Bands reach from zero to the Nyquist frequency of the finest axis. Beyond the Nyquist
    frequency of a coarser axis a band holds the directions that the grid still has.

    At most 2**23 voxels are transformed: blocks spread evenly over those that lie mostly in the body.

    Args:
        source: (X, Y, Z), any dtype.
        spacing: mm along each axis.
        body: (X, Y, Z) bool.
    """

    def __init__(self, source: np.ndarray, spacing: Sequence[float], body: np.ndarray) -> None:
        self._source = source
        self.block = tuple(
            min(n, int(np.clip(round(_BLOCK_MM / mm), _SHORTEST, _LONGEST)))
            for n, mm in zip(source.shape, spacing, strict=True)
        )
        self.places = _places(body, self.block)
        steps = [fftfreq(n, mm) for n, mm in zip(self.block[:2], spacing[:2], strict=True)]
        steps.append(rfftfreq(self.block[2], spacing[2]))
        squared = np.asarray(sum(f**2 for f in np.meshgrid(*steps, indexing="ij")))
        top = 0.5 / min(mm for n, mm in zip(self.block, spacing, strict=True) if n > 1)
        self.edges = np.linspace(0.0, top, BANDS + 1)
        self._band = np.digitize(np.sqrt(squared), self.edges[1:-1]).astype(np.intp)
        self._band[squared > top**2] = BANDS
        self._weight = np.full(self._band.shape, 2.0)  # rfft keeps one of each conjugate pair
        self._weight[..., 0] = 1.0
        if self.block[2] % 2 == 0:
            self._weight[..., -1] = 1.0
        self._window = np.ones(self.block, dtype=np.float32)
        for axis, n in enumerate(self.block):
            if n > 2:
                shape = [-1 if a == axis else 1 for a in range(3)]
                self._window = self._window * hann(n, sym=False).astype(np.float32).reshape(shape)
        self._power = self._measure(None)

    def error(self, recon: np.ndarray) -> Spectrum:
        """The error power of a reconstruction over the power of the source, band by band."""
        power = self._measure(recon)
        filled = self._power > 0
        centres = (self.edges[1:] + self.edges[:-1]) / 2
        ratio = power[filled] / self._power[filled]
        frequencies = centres[filled]
        return Spectrum(
            tuple(float(f) for f in frequencies),
            tuple(float(r) for r in ratio),
            limit_of(frequencies, ratio),
        )

    def _measure(self, recon: np.ndarray | None) -> np.ndarray:
        total = np.zeros(self._band.shape)
        for place in self.places:
            part = tuple(slice(start, start + n) for start, n in zip(place, self.block, strict=True))
            block = self._source[part].astype(np.float32)
            if recon is not None:
                block = recon[part].astype(np.float32) - block
            block -= block.mean(dtype=np.float64)
            block *= self._window
            spectrum = rfftn(block)
            total += spectrum.real**2 + spectrum.imag**2
        total *= self._weight
        return np.bincount(self._band.ravel(), weights=total.ravel(), minlength=BANDS + 1)[:BANDS]


def limit_of(frequencies: np.ndarray, ratio: np.ndarray) -> float | None:
    """The frequency from which on `ratio` stays above `LIMIT`, interpolated; None if it never does."""
    above = np.asarray(ratio) > LIMIT
    if not len(above) or not above[-1]:
        return None
    first = int(len(above) - np.argmin(above[::-1])) if not above.all() else 0
    if first == 0:
        return float(frequencies[0])
    low, high = ratio[first - 1], ratio[first]
    share = (LIMIT - low) / (high - low)
    return float(frequencies[first - 1] + share * (frequencies[first] - frequencies[first - 1]))


def _places(body: np.ndarray, block: Sequence[int]) -> list[tuple[int, ...]]:
    """Corners of the blocks that are measured, those with the most body first where none is half full."""
    grid = list(
        itertools.product(
            *(
                [round(s) for s in np.linspace(0, n - b, max(1, 2 * n // b - 1))]
                for n, b in zip(body.shape, block, strict=True)
            )
        )
    )
    share = [
        body[tuple(slice(start, start + n) for start, n in zip(place, block, strict=True))].mean()
        for place in grid
    ]
    inside = [place for place, filled in zip(grid, share, strict=True) if filled >= 0.5]
    inside = inside or [grid[int(np.argmax(share))]]
    most = max(1, _MOST_VOXELS // int(np.prod(block)))
    if len(inside) <= most:
        return inside
    return [inside[int(k)] for k in np.linspace(0, len(inside) - 1, most).round()]
