"""Volume files and changes of them: bytes anywhere, fields of a NIfTI header, lines of a text header."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from .mutants import mutate

WORDS = (
    "", "0", "1", "2", "-1", "3", "nan", "inf", "1e-300", "1e300", "99999999999", "True", "False", "T", "yes",
    "raw", "gzip", "short", "uchar", "double", "little", "big", "RAS", "LPS", "left-posterior-superior-time",
    "domain domain domain", "list domain domain", "3-color", "none", "???", "(nan,nan,nan)", "(1,0,0)",
    "(1,0,0) (0,1,0) (0,0,1)", "none (0,1,0) (0,0,1)", "1 0 0 0 1 0 0 0 1", "1 1 1", "nan 1 1", "6 5 4",
    "4 5 6", "6 5 2 2", "(0,0,0)", "0 0 0", '"um" "um" "um"', '"mm" "" "mm"', "um", "m", "MET_SHORT",
    "MET_UCHAR", "MET_DOUBLE", "LOCAL", "v.raw", "./v.raw", "LIST", "x%03d.raw 1 4 1", "RAI",
)  # fmt: skip
FIELDS = re.findall(
    r"\w+",
    "type dimension space sizes kinds endian encoding units min max NDims DimSize Offset Position Origin "
    "BinaryData CompressedData HeaderSize DistanceUnits ElementType ElementSize ElementSpacing ObjectType "
    "ElementNumberOfChannels TransformMatrix Rotation Orientation CenterOfRotation ElementDataFile rubbish",
)
PHRASES = (
    "byte skip",
    "line skip",
    "space units",
    "space directions",
    "space origin",
    "old min",
    "axis mins",
)
ORDERS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedDataSize", "AnatomicalOrientation")
NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    4,
    7,
    16,
    64,
    256,
    348,
    351,
    352,
    353,
    356,
    368,
    512,
    544,
    1e-300,
    1e30,
    np.nan,
    np.inf,
)
NIFTI = (
    (40, "h", 8), (68, "h", 3), (76, "f", 8), (108, "f", 1), (112, "f", 2), (120, "h", 1), (122, "B", 2),
    (124, "f", 4), (252, "h", 2), (256, "f", 6), (280, "f", 12), (344, "B", 4), (348, "B", 4),
)  # fmt: skip
"""Offset, type and count of the fields of NIfTI-1."""


def whole(name: str, folder: Path) -> bytes:
    """A file of this name, oblique, int16 of 6 x 5 x 4; detached values go beside it."""
    values = np.arange(120, dtype=np.int16).reshape(4, 5, 6) * 7 - 300
    turn = np.linalg.qr(np.array([[1, 0.2, 0.1], [-0.3, 1, 0.2], [0.1, -0.1, 1]]))[0]
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.5, 0.75, 2.5))
    image.SetOrigin((-11, 7.25, 100))
    image.SetDirection(turn.ravel())
    if ".nii" in name or name.endswith(".hdr"):
        affine = np.diag([-1.0, -1, 1, 1]) @ np.block(
            [[turn * (0.5, 0.75, 2.5), np.array([[-11], [7.25], [100]])], [np.zeros((1, 3)), np.ones((1, 1))]]
        )
        kind = (
            nib.Nifti2Image if "2" in name else nib.Nifti1Pair if name.endswith(".hdr") else nib.Nifti1Image
        )
        made = kind(values.transpose(2, 1, 0), affine)
        made.set_sform(affine, 1)
        made.set_qform(affine, 1)
        nib.save(made, folder / name)
    else:
        sitk.WriteImage(image, str(folder / name), "packed" in name)
    data = (folder / name).read_bytes()
    if "text" in name:
        data = data.replace(b"encoding: raw", b"encoding: ascii")[: -values.nbytes]
        data += " ".join(map(str, values.ravel())).encode()
    return data


def mutate_nifti(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three fields of a NIfTI-1 header with values that are somebody's."""
    raw = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        offset, code, count = NIFTI[int(rng.integers(0, len(NIFTI)))]
        number = NUMBERS[int(rng.integers(0, len(NUMBERS)))]
        place = offset + struct.calcsize(code) * int(rng.integers(0, count))
        if code == "f":
            raw[place : place + 4] = struct.pack("<f", number)
        else:
            whole_number = int(number) if np.isfinite(number) and abs(number) < 1 << 15 else 32767
            raw[place : place + struct.calcsize(code)] = struct.pack("<h", whole_number)[
                : struct.calcsize(code)
            ]
    return bytes(raw)


def mutate_lines(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three lines of a text header changed, doubled, moved, left out or put in."""
    end = data.find(b"\n\n") if data.startswith(b"NRRD") else data.find(b"ElementDataFile")
    lines, rest = data[:end].decode("latin-1").split("\n"), data[end:]
    sign = ": " if data.startswith(b"NRRD") else " = "
    for _ in range(rng.integers(1, 4)):
        at, kind = int(rng.integers(0, len(lines))), rng.integers(0, 7)
        word = WORDS[int(rng.integers(0, len(WORDS)))]
        if kind <= 1:
            lines[at] = lines[at].partition(sign)[0] + sign + word
        elif kind == 2:
            lines.insert(at, lines[int(rng.integers(0, len(lines)))])
        elif kind == 3 and len(lines) > 1:
            del lines[at]
        elif kind == 4:
            names = (*FIELDS, *PHRASES, *ORDERS)
            lines.insert(at + 1, names[int(rng.integers(0, len(names)))] + sign + word)
        elif kind == 5:
            other = int(rng.integers(0, len(lines)))
            lines[at], lines[other] = lines[other], lines[at]
        else:
            lines[at] = lines[at].replace(" ", str(rng.choice(["\t", "  ", ""])))
    return "\n".join(lines).encode("latin-1") + rest


def mutant(name: str, data: bytes, seed: int) -> bytes:
    """The mutant of a file with this name, the same for the same seed."""
    rng = np.random.default_rng([seed, *name.encode()])
    if name.endswith(".gz"):
        plain = gzip.decompress(data)
        return mutate(data, rng, len(data)) if seed % 4 == 0 else gzip.compress(mutate(plain, rng, 352), 1)
    if ".nii" in name or name.endswith(".hdr"):
        return mutate(data, rng, 352) if seed % 2 or "2" in name else mutate_nifti(data, rng)
    end = data.find(b"\n\n") if data.startswith(b"NRRD") else data.find(b"LOCAL")
    return mutate(data, rng, max(end, 100)) if seed % 4 == 0 else mutate_lines(data, rng)
