"""How values in a scanner's units become stored integers of 16 bits (PS3.3 C.7.6.3, C.11.1)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from pydicom.valuerep import format_number_as_ds

from medrecon.errors import OutputError
from medrecon.io.axes import turned

_CLIP_AT_MOST = 0.01  # share of voxels that may be clipped before a coarser step is the lesser evil


@dataclass(frozen=True)
class StoredForm:
    """Integers and the line that turns them into values: `value = stored * slope + intercept`.

    Attributes:
        bits: Bits Stored.
        signed: Pixel Representation.
        slopes: one for each slice; `intercepts` likewise.
    """

    bits: int
    signed: bool
    slopes: np.ndarray
    intercepts: np.ndarray

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest stored integer."""
        if self.signed:
            return -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1
        return 0, (1 << self.bits) - 1

    def holds(self, low: np.ndarray, high: np.ndarray) -> bool:
        """Whether values from `low` to `high` (one pair for each slice) fit."""
        if self.bits > 16 or not np.all(self.slopes):
            return False
        ends = np.stack([(low - self.intercepts) / self.slopes, (high - self.intercepts) / self.slopes])
        ends = np.rint(ends)
        return bool(ends.min() >= self.limits[0] and ends.max() <= self.limits[1])


@dataclass(frozen=True)
class Encoded:
    """A volume as stored integers.

    Attributes:
        stored: (slices, rows, columns) int16 or uint16.
        form: what they mean.
        as_source: whether that is the source's own form.
        clipped: number of voxels that did not fit and were set to the nearest value that does.
        coarse: whether the steps are coarser than the source's.
    """

    stored: np.ndarray = field(repr=False)
    form: StoredForm
    as_source: bool
    clipped: int = 0
    coarse: bool = False

    def values(self, index: int) -> np.ndarray:
        """The values of one slice that a reader will get, (rows, columns) float64."""
        slope, intercept = float(self.form.slopes[index]), float(self.form.intercepts[index])
        return self.stored[index] * slope + intercept


def encode(volume: np.ndarray, source: StoredForm, *, shift: bool = True) -> Encoded:
    """Store a volume as its source is stored where the values fit, else as int16.

    In this order: the source's form; where the source counts in whole units, int16 (or uint16) with slope 1
    and intercept 0; uint16 with slope 1 and the smallest value as intercept; the first again with up to 1 %
    of the voxels clipped; int16 with one slope for the series.

    Args:
        volume: (X, Y, Z) values in the source's units, any real dtype.
        source: how the source stores them; as many slopes as there are slices.
        shift: whether a new intercept may be other than 0 (PET forbids it, PS3.3 C.8.9.4).

    Raises:
        OutputError: values are not finite.
    """
    low = volume.min(axis=(0, 1)).astype(np.float64)
    high = volume.max(axis=(0, 1)).astype(np.float64)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        count = int(np.count_nonzero(~np.isfinite(volume)))
        raise OutputError(
            f"{count} voxels of the result are not finite numbers", remedy="check the model and its weights"
        )
    if source.holds(low, high):
        return Encoded(_store(volume, source), source, True)
    whole = bool(np.all(source.slopes == 1) and np.all(source.intercepts == np.rint(source.intercepts)))
    if whole:
        plain = [_form(16, True, 1.0, len(low)), _form(16, False, 1.0, len(low))]
        if shift:
            plain.append(_form(16, False, 1.0, len(low), float(np.rint(low.min()))))
        for form in plain:
            if form.holds(low, high):
                return Encoded(_store(volume, form), form, False)
        form = plain[0] if source.signed or low.min() + high.max() < 0 else plain[1]
        first, last = form.limits
        outside = int(np.count_nonzero((volume < first - 0.5) | (volume > last + 0.5)))
        if outside <= _CLIP_AT_MOST * volume.size:
            return Encoded(_store(np.clip(volume, first, last), form), form, False, outside)
    largest: float = max(-float(low.min()) / 32768, float(high.max()) / 32767, 1e-30)
    form = _form(16, True, _round_up(largest), len(low))
    coarse = bool(form.slopes[0] > np.abs(source.slopes).max())
    return Encoded(_store(volume, form), form, False, coarse=coarse)


def _form(bits: int, signed: bool, slope: float, count: int, intercept: float = 0.0) -> StoredForm:
    return StoredForm(bits, signed, np.full(count, slope), np.full(count, intercept))


def _round_up(slope: float) -> float:
    """The next number that a decimal string of 16 characters can hold (PS3.5 6.2)."""
    text = float(format_number_as_ds(slope))
    return text if text >= slope else float(format_number_as_ds(slope * (1 + 1e-9)))


def _store(volume: np.ndarray, form: StoredForm) -> np.ndarray:
    """Round (X, Y, Z) values to stored integers (slices, rows, columns)."""
    whole = bool(np.all(form.slopes == 1) and np.all(form.intercepts == np.rint(form.intercepts)))

    def convert(part: np.ndarray) -> np.ndarray:
        if whole:
            return _shifted(part, form.intercepts)
        ints = (part.astype(np.float64) - form.intercepts) / form.slopes
        np.rint(ints, out=ints)
        return np.clip(ints, *form.limits, out=ints)

    return turned(volume, np.dtype(np.int16 if form.signed else np.uint16), convert)


def _shifted(part: np.ndarray, intercepts: np.ndarray) -> np.ndarray:
    """Values (X, Y, Z) less whole-numbered intercepts, rounded, in a type that holds both."""
    large = np.abs(intercepts).max(initial=0) >= 1 << 23  # float32 cannot count further
    if part.dtype.kind not in "iu":
        part = np.rint(part, dtype=np.float64 if part.itemsize > 4 or large else np.float32)
    if not intercepts.any():
        return part
    if part.dtype.kind in "iu":
        wide = np.int64 if part.itemsize > 2 or large else np.int32
        return part.astype(wide) - intercepts.astype(wide)
    return part - intercepts.astype(part.dtype)
