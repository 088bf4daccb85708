"""How a file stores its values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medrecon.io.axes import turned


@dataclass(frozen=True)
class ValueForm:
    """How values are stored: `value = stored * slope + intercept`.

    Attributes:
        dtype: of the stored numbers.
        slope: scl_slope of NIfTI, as `intercept` is scl_inter.
        warning: what must be said, "" for nothing.
    """

    dtype: np.dtype
    slope: float = 1.0
    intercept: float = 0.0
    warning: str = ""

    @property
    def scaled(self) -> bool:
        """Whether the stored numbers are not the values themselves."""
        return (self.slope, self.intercept) != (1, 0)

    @property
    def words(self) -> str:
        """The form in words."""
        scaling = f", slope {self.slope:g}, intercept {self.intercept:g}" if self.scaled else ""
        return f"{self.dtype.name}{scaling}"

    def store(self, volume: np.ndarray) -> np.ndarray:
        """The volume (X, Y, Z) as stored numbers (Z, Y, X), little endian."""
        return turned(volume, self.dtype.newbyteorder("<"), self._convert)

    def _convert(self, volume: np.ndarray) -> np.ndarray:
        if self.dtype.kind == "f" or (volume.dtype.kind in "iu" and not self.scaled):
            return volume
        wide = volume.astype(np.float64) if volume.dtype.kind in "iu" or self.dtype.itemsize > 2 else volume
        if self.scaled:
            wide = (volume.astype(np.float64) - self.intercept) / self.slope
        return np.rint(wide)
