"""The form that a result's values get: the source's where they fit."""

from __future__ import annotations

import numpy as np

from medrecon.errors import OutputError
from medrecon.io.scan import Scan
from medrecon.io.value_form import ValueForm

_WHOLE = (np.uint8, np.int16, np.uint16, np.int32)
_LARGE = (np.uint32, np.int64)  # for whole numbers alone: other results are written as float32


def choose_form(volume: np.ndarray, scan: Scan, scaling: bool = True) -> ValueForm:
    """The source's data type and scaling where the values fit, else the narrowest that holds them.

    Args:
        volume: (X, Y, Z) values in the source's units.
        scan: the source.
        scaling: whether the format to write knows a slope and an intercept; NRRD and MetaImage do not.

    Raises:
        OutputError: values are not finite, and the source's data type cannot say so.
    """
    low, high = float(volume.min()), float(volume.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        count = int(np.count_nonzero(~np.isfinite(volume)))
        raise OutputError(
            f"{count} voxels of the result are not finite numbers", remedy="check the model and its weights"
        )
    source = source_form(scan, whole=volume.dtype.kind in "iu")
    form = source if scaling or not source.scaled else _unscaled(source, wide=volume.dtype == np.float64)
    kind, slope, intercept = form.dtype, form.slope, form.intercept
    if kind.kind == "f":
        return ValueForm(np.dtype(np.float64 if kind.itemsize > 4 else np.float32))
    ends = np.rint([(low - intercept) / slope, (high - intercept) / slope])
    limits = np.iinfo(kind)
    if limits.min <= ends.min() and ends.max() <= limits.max:
        return form
    if not form.scaled:
        for wider in map(np.dtype, _WHOLE if volume.dtype.kind == "f" else _WHOLE + _LARGE):
            limits = np.iinfo(wider)
            if limits.min <= ends.min() and ends.max() <= limits.max and wider.itemsize >= kind.itemsize:
                expected = scan.format == "dicom" or source.scaled
                return ValueForm(wider, warning="" if expected else _warning(kind, wider))
    return ValueForm(np.dtype(np.float32), warning=_warning(kind, np.dtype(np.float32)))


def source_form(scan: Scan, whole: bool = False) -> ValueForm:
    """How the source of a result stores its values; for DICOM the plain numbers that stand for them.

    Args:
        scan: the source.
        whole: whether the values of a DICOM source are known to be whole numbers.
    """
    if scan.stored is not None:
        return scan.stored
    scales = [float(v) for frame in scan.recipe or () for v in (frame.slope, frame.intercept)]
    whole = whole or (bool(scales) and all(v.is_integer() for v in scales))
    return ValueForm(np.dtype(np.int16 if whole else np.float32))


def _unscaled(form: ValueForm, wide: bool) -> ValueForm:
    """A form for the same values without slope and intercept; `wide` where they were read as float64."""
    if form.dtype.kind in "iu" and form.slope.is_integer() and form.intercept.is_integer():
        return ValueForm(form.dtype)
    return ValueForm(np.dtype(np.float64 if wide or form.dtype.itemsize > 2 else np.float32))


def _warning(kind: np.dtype, chosen: np.dtype) -> str:
    return f"values do not fit the source's {kind.name}: written as {chosen.name}"
