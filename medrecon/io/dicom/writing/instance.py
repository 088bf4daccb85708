"""One derived image: what is kept of its source, what is new, as the bytes of its file."""

from __future__ import annotations

import struct
import warnings

import numpy as np
from pydicom import DataElement, Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_dataset, write_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from medrecon.io.dicom.writing.carried import PATIENT
from medrecon.io.dicom.writing.modules import KEPT
from medrecon.io.dicom.writing.plan import SeriesPlan
from medrecon.io.dicom.writing.provenance import source_references
from medrecon.io.dicom.writing.shared import DEPENDS_ON, shared_elements
from medrecon.io.dicom.writing.source import SourceSlice
from medrecon.io.files.publish import IMPLEMENTATION_VERSION

IMPLEMENTATION_UID = "2.25.329800735698586698629295641978511506172918"
_RESCALE = ("RescaleIntercept", "RescaleSlope")


def derived_file(source: SourceSlice, index: int, plan: SeriesPlan) -> tuple[bytes, memoryview]:
    """The file of one derived image, in two parts: all up to the pixels, and the pixels.

    Args:
        source: the slice; its header is changed.
        index: place along the stack, from 0.
        plan: what the series shares.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the source's attributes get wrong is kept as it is
        image = derive(source, index, plan)
        buffer = _explicit()
        buffer.write(b"\0" * 128 + b"DICM")
        write_file_meta_info(buffer, image.file_meta)
        buffer.write(_encoded(image, source))
    pixels = plan.encoded.stored[index]
    data = memoryview(pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)).cast("B")
    padded = memoryview(bytes(data) + b"\0") if len(data) % 2 else data
    buffer.write(struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, len(padded)))
    return buffer.getvalue(), padded


def _encoded(image: Dataset, source: SourceSlice) -> bytes:
    """The data set as bytes; what pydicom cannot encode of the source is taken out, and noted there."""
    buffer = _explicit()
    try:
        write_dataset(buffer, image)
    except Exception:  # pydicom raises whatever a broken value leads to
        for tag in list(image.keys()):
            try:
                write_data_element(_explicit(), image[tag], image.get("SpecificCharacterSet"))
            except Exception:
                del image[tag]
                source.lost |= {keyword_for_tag(tag) or str(tag)}
        buffer = _explicit()
        write_dataset(buffer, image)
    return buffer.getvalue()


def _explicit() -> DicomBytesIO:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    return buffer


def derive(source: SourceSlice, index: int, plan: SeriesPlan) -> Dataset:
    """Turn a source header into that of the derived image, without pixels.

    Args:
        source: the slice; its header is changed and returned.
        index: place along the stack, from 0.
        plan: what the series shares.
    """
    header = source.header
    rescale = [header.get_item(keyword) for keyword in _RESCALE if keyword in header]
    shared = _shared(header, source, plan)
    _keep_allowed(header)
    for element in shared:
        header[element.tag] = element
    origin = source.uid or f"{plan.source_id}/{index}"
    header.SOPInstanceUID = plan.derivation.uid("image", origin, str(source.frame), plan.volume, str(index))
    header.InstanceNumber = str(index + 1)
    if source.uid:
        images, series = source_references(source, plan.source_series, same_grid=plan.geometry is None)
        header.SourceImageSequence = images
        if series:
            header.ReferencedSeriesSequence = series
    _rescale(header, index, plan, rescale)
    if plan.geometry is not None:
        write_geometry(header, index, plan.geometry)
    _file_meta(header)
    return header


def _shared(header: Dataset, source: SourceSlice, plan: SeriesPlan) -> list:
    key: list[object] = [source.sop_class, source.frame > 0]
    for tag in DEPENDS_ON:
        value = header.get_item(tag).value if tag in header else None
        key.append(value if value is None or isinstance(value, bytes) else str(value))
    known = plan.shared.get(tuple(key))
    if known is None:
        known = plan.shared[tuple(key)] = shared_elements(header, source, plan)
    return known


def _keep_allowed(header: Dataset) -> None:
    for tag in list(header.keys()):
        if tag not in KEPT and tag.group not in PATIENT:
            del header[tag]


def _rescale(header: Dataset, index: int, plan: SeriesPlan, source: list[DataElement]) -> None:
    """Rescale slope and intercept: the source's own elements where its encoding is reused (PS3.3 C.11.1)."""
    form = plan.encoded.form
    if plan.encoded.as_source:
        for element in source:
            header[element.tag] = element
        if len(source) == 1:  # the other one is read as what changes nothing
            missing = "RescaleIntercept" if "RescaleSlope" in header else "RescaleSlope"
            setattr(header, missing, "0" if missing == "RescaleIntercept" else "1")
    elif header.get("Modality") in ("CT", "PT") or form.slopes[index] != 1:
        header.RescaleIntercept = format_number_as_ds(float(form.intercepts[index]))
        header.RescaleSlope = format_number_as_ds(float(form.slopes[index]))
    if "RescaleSlope" not in header:
        header.pop("RescaleType", None)


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


def _file_meta(header: Dataset) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = header.SOPClassUID
    meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    header.file_meta = meta
