"""Pixels and plane of a derived image."""

from __future__ import annotations

import numpy as np
from pydicom import DataElement, Dataset
from pydicom.tag import Tag
from pydicom.valuerep import format_number_as_ds

from medrecon.io.series_plan import SeriesPlan

_PADDING = Tag("PixelPaddingValue")


def write_pixels(header: Dataset, index: int, plan: SeriesPlan, rescale: list, rescale_type: object) -> None:
    """Set the Image Pixel module and the rescale of one image (PS3.3 C.7.6.3, C.11.1).

    Args:
        header: the image.
        index: its place in the stack.
        plan: what the series shares.
        rescale: the source's RescaleIntercept and RescaleSlope elements, as they are in its file.
        rescale_type: the source's RescaleType, None where it has none.
    """
    encoded = plan.encoded
    form = encoded.form
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = plan.photometric
    header.Rows, header.Columns = encoded.stored.shape[1:]
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, form.bits, form.bits - 1
    header.PixelRepresentation = int(form.signed)
    slope, intercept = float(form.slopes[index]), float(form.intercepts[index])
    if encoded.as_source:
        for element in rescale:
            header[element.tag] = element
    elif header.get("Modality") in ("CT", "PT") or slope != 1:
        header.RescaleIntercept = format_number_as_ds(intercept)
        header.RescaleSlope = format_number_as_ds(slope)
    if rescale_type and "RescaleSlope" in header:
        header.RescaleType = rescale_type
    if plan.padding is not None:
        header.add(DataElement(_PADDING, "SS" if form.signed else "US", plan.padding))
    little = encoded.stored[index].astype("<i2" if form.signed else "<u2", copy=False)
    header.add(DataElement(0x7FE00010, "OW", little.tobytes()))


def write_geometry(header: Dataset, index: int, affine: np.ndarray) -> None:
    """Set the Image Plane module from an LPS affine (PS3.3 C.7.6.2)."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    position = (affine @ [0, 0, index, 1])[:3]
    normal = affine[:3, 2] / spacing[2]

    def ds(values: np.ndarray) -> list[str]:
        return [format_number_as_ds(round(float(v), 9) + 0.0) for v in values]

    header.ImagePositionPatient = ds(position)
    header.ImageOrientationPatient = ds((affine[:3, :2] / spacing[:2]).T.ravel())
    header.PixelSpacing = ds(spacing[[1, 0]])
    header.SliceThickness = header.SpacingBetweenSlices = ds(spacing[2:])[0]
    header.SliceLocation = ds(np.array([position @ normal]))[0]
