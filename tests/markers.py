"""Scans with markers in every text of their headers and in their names, and the search for the markers."""

from __future__ import annotations

import base64
import gzip
import io
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.datadict import DicomDictionary, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from .conftest import write_ct

NAME, OTHER = "Zörgblatt", "Qwixel"
MARKS = ("zorgblatt", "zörgblatt", "qwixel", "19470131", "1947-01-31", "0815-4711", "cq77xz")
"""Of the patient: name, another one, birth date in two ways, ID, a name of few letters with digits."""

TEXTS = {"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT", "CS", "AS"}
KEPT = """
    SpecificCharacterSet ImageType Modality PhotometricInterpretation PatientPosition RescaleType
    FrameOfReferenceTransformationType PatientOrientation LossyImageCompression BodyPartExamined
"""
NEEDED = KEPT.split()


def mark(path: Path) -> None:
    """Put a marker in each text of the header that the reading does not depend on."""
    ds = pydicom.dcmread(path)
    ds.SpecificCharacterSet = "ISO_IR 192"
    for tag, (vr, vm, _, _, keyword) in DicomDictionary.items():
        if (
            vr not in TEXTS
            or vm != "1"
            or keyword in NEEDED
            or not keyword
            or not 0x0008 <= tag >> 16 <= 0x0040
        ):
            continue
        if tag >> 16 & 1 == 0:
            ds.add_new(
                tag,
                vr,
                {"CS": "ZORGBLATT CQ77XZ", "AE": "Qwixel", "AS": "cq77xz"}.get(
                    vr, f"{NAME} {OTHER} 0815-4711"
                ),
            )
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = f"{NAME}^{OTHER}=cq77xz", "0815-4711", "19470131"
    ds.OtherPatientIDs = [NAME, "0815-4711"]
    item = Dataset()
    item.PatientID, item.ReferencedSOPInstanceUID = "0815-4711", "1.2.3.19470131"
    ds.ReferencedPatientSequence = Sequence([item])
    block = ds.private_block(0x0041, NAME, create=True)
    block.add_new(1, "LO", NAME)
    ds[tag_for_keyword("SeriesDescription")].value = f"{NAME}, {OTHER} geb. 1947-01-31 1.2.840.{19470131}"
    ds.save_as(path)


def write_sources(root: Path) -> Path:
    """A CT series, NIfTI, NRRD and MHA, and what is left out; each name and each text with a marker."""
    write_ct(root / f"{NAME}_{OTHER}" / "CT cq77xz", (32, 32, 8))
    for number, path in enumerate(sorted((root / f"{NAME}_{OTHER}" / "CT cq77xz").iterdir())):
        mark(path)
        path.rename(path.with_name(f"{NAME}_19470131_{number}.dcm"))
    values = np.random.default_rng(0).integers(0, 900, (32, 32, 16)).astype(np.int16)
    image = nib.Nifti1Image(values, np.diag([1.0, 1, 2, 1]))
    for field in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[field] = b"Zorgblatt Qwixel"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", f"{NAME} 0815-4711".encode()))
    nib.save(image, root / f"{OTHER}_19470131_ID0815-4711.nii.gz")
    itk = sitk.GetImageFromArray(values.T)
    itk.SetMetaData("PatientName", NAME)
    itk.SetMetaData("0010|0010", OTHER)
    for ending in ("nrrd", "mha"):
        sitk.WriteImage(itk, root / f"{NAME}-cq77xz.{ending}")
    (root / f"{NAME}.txt").write_text(f"{OTHER}")
    return root


def unpacked(data: bytes, name: str = "", depth: int = 0) -> Iterator[tuple[str, bytes]]:
    """The bytes, and all that is packed in them."""
    yield name, data
    if depth > 4:
        return
    if data[:2] == b"\x1f\x8b":
        yield from unpacked(gzip.decompress(data), f"{name}>gz", depth + 1)
    elif data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.namelist():
                yield f"{name}>names", member.encode()
                yield from unpacked(archive.read(member), f"{name}>{member}", depth + 1)
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        for found in re.finditer(
            rb"(?:zTXt|iTXt|iCCP)[^\0]{1,79}\0.{1,4}?(\x78[\x01\x5e\x9c\xda].*)", data, re.DOTALL
        ):
            yield f"{name}>png", zlib.decompressobj().decompress(found[1], 1 << 20)
    else:
        for found in re.finditer(rb"[A-Za-z0-9+/_-]{24,}={0,2}", data):
            text = found[0].replace(b"-", b"+").replace(b"_", b"/")
            yield from unpacked(
                base64.b64decode(text[: len(text) // 4 * 4] or b""), f"{name}>base64", depth + 1
            )


def folded(data: bytes) -> list[str]:
    """As the texts that it may be: of one byte a letter, of several, without accents, from URLs, in pairs."""
    texts = [data.decode(code, "ignore") for code in ("utf-8", "latin-1", "utf-16-le", "utf-16-be")]
    texts.append(
        re.sub(r"%([0-9A-Fa-f]{2})|\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1] or m[2], 16)), texts[0])
    )
    plain = [unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode() for text in texts]
    return [text.lower() for text in (*texts, *plain)]


def found_in(data: bytes, name: str, marks: tuple[str, ...]) -> list[str]:
    return [
        f"{where}: {word}" for where, part in unpacked(data, name) for word in marks
        if any(word in text for text in folded(part))
    ]  # fmt: skip


def found_below(root: Path, marks: tuple[str, ...]) -> list[str]:
    found = []
    for path in sorted(root.rglob("*")):
        found += found_in(str(path.relative_to(root)).encode("utf-8", "surrogateescape"), "name", marks)
        if path.is_file():
            found += found_in(path.read_bytes(), str(path.relative_to(root)), marks)
    return found


def uids(sources: Path) -> tuple[str, ...]:
    """Those of the series, as further markers."""
    header = pydicom.dcmread(next(sources.rglob("*.dcm")), stop_before_pixels=True)
    return header.SeriesInstanceUID, header.StudyInstanceUID, header.SOPInstanceUID
