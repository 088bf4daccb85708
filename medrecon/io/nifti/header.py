"""The header of a NIfTI-1 or NIfTI-2 file, checked field by field (nifti1.h, nifti2.h)."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medrecon.io.geometry import check_affine, straighten
from medrecon.io.scan import ReadOptions, ScanError

DTYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
REFUSED = {
    1: "binary (1 bit)",
    32: "complex64",
    128: "RGB24",
    1536: "float128",
    1792: "complex128",
    2048: "complex256",
    2304: "RGBA32",
}
METRES = {1: 1000.0, 2: 1.0, 3: 0.001}
FORMAT_1 = "i10s18sihbB8h3f4h8ffffhbBffffii80s24shh3f3f4f4f4f16s4s"
FORMAT_2 = "i8shh8q3d8dqddddddqq80s24sii3d3d4d4d4diii16sB15s"
EXPORT = "convert the original images again"


@dataclass(frozen=True)
class NiftiHeader:
    """What a NIfTI header says, checked.

    Attributes:
        shape: the dimensions without trailing ones, at least three.
        dtype: of the stored values, with byte order.
        offset: byte where they start in `data_path`.
        slope: of the scaling, as `inter`.
        affine: (4, 4) voxel index -> RAS mm.
        paired: whether the values are in an `.img` beside the header.
        description: free text of the header.
        notes: what must be said.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    slope: float
    inter: float
    affine: np.ndarray
    paired: bool
    description: str
    notes: tuple[str, ...]


def parse(head: bytes, path: Path, options: ReadOptions) -> NiftiHeader:
    """Parse and check the first 544 bytes of a file.

    Raises:
        ScanError: not NIfTI, or a field that is absurd or contradicts another one.
    """
    if len(head) < 348:
        raise ScanError(f"no NIfTI file: {len(head)} bytes, a header has 348", path=path, remedy=EXPORT)
    order, size = next(
        ((o, s) for o in "<>" for s in (348, 540) if struct.unpack(f"{o}i", head[:4])[0] == s), ("", 0)
    )
    if not order or len(head) < size:
        what = "a DICOM file" if head[128:132] == b"DICM" else "something else"
        raise ScanError(
            f"no NIfTI header: it is {what}", path=path, remedy="give the right file name or file"
        )
    f = _fields(head, order, size)
    magic = f["magic"].rstrip(b"\0\r\n\x1a")
    if magic not in (b"n+1", b"ni1", b"n+2", b"ni2"):
        raise ScanError(f"bad magic {f['magic'][:4]!r}: Analyze or broken", path=path, remedy=EXPORT)
    shape = _shape(f["dim"], path)
    dtype = _dtype(f["datatype"], f["bitpix"], order, path)
    offset = f["vox_offset"]
    paired = magic.startswith(b"ni")
    if not math.isfinite(offset) or offset != int(offset) or offset < (0 if paired else size):
        raise ScanError(f"the data offset is {offset:g}", path=path, remedy=EXPORT)
    slope, inter = f["scl_slope"], f["scl_inter"]
    notes: list[str] = []
    if math.isnan(slope) or slope == 0:
        slope, inter = 1.0, 0.0
    if not math.isfinite(slope) or not math.isfinite(inter):
        raise ScanError(f"scaling is {slope:g} and {inter:g}", path=path, remedy=EXPORT)
    affine = _affine(f, shape, path, options, notes)
    text = f["descrip"].rstrip(b"\0").decode("latin-1")
    return NiftiHeader(shape, dtype, int(offset), slope, inter, affine, paired, text, tuple(notes))


def _fields(head: bytes, order: str, size: int) -> dict:
    if size == 348:
        v = struct.unpack_from(order + FORMAT_1, head)
        return {
            "dim": v[7:15], "datatype": v[19], "bitpix": v[20], "pixdim": v[22:30], "vox_offset": v[30],
            "scl_slope": v[31], "scl_inter": v[32], "units": v[35], "descrip": v[42], "qform_code": v[44],
            "sform_code": v[45], "quatern": v[46:49], "qoffset": v[49:52], "srow": v[52:64], "magic": v[65],
        }  # fmt: skip
    v = struct.unpack_from(order + FORMAT_2, head)
    return {
        "dim": v[4:12], "datatype": v[2], "bitpix": v[3], "pixdim": v[15:23], "vox_offset": v[23],
        "scl_slope": v[24], "scl_inter": v[25], "descrip": v[32], "qform_code": v[34], "sform_code": v[35],
        "quatern": v[36:39], "qoffset": v[39:42], "srow": v[42:54], "units": v[55], "magic": v[1],
    }  # fmt: skip


def _shape(dim: tuple[int, ...], path: Path) -> tuple[int, ...]:
    count = dim[0]
    if not 1 <= count <= 7 or min(dim[1 : count + 1]) < 1:
        raise ScanError(f"impossible dimensions {list(dim)}", path=path, remedy=EXPORT)
    shape = list(dim[1 : count + 1])
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    return tuple(shape + [1] * (3 - len(shape)))


def _dtype(code: int, bits: int, order: str, path: Path) -> np.dtype:
    if code in REFUSED:
        raise ScanError(
            f"voxels are {REFUSED[code]} (data type {code})",
            path=path,
            remedy="medrecon reads scans with one real value per voxel: save a component or the magnitude",
        )
    if code not in DTYPES:
        raise ScanError(f"unknown data type code {code}", path=path, remedy=EXPORT)
    dtype = np.dtype(order + DTYPES[code])
    if bits != dtype.itemsize * 8:
        raise ScanError(f"bitpix {bits} contradicts the data type {dtype.name}", path=path, remedy=EXPORT)
    return dtype


def _affine(
    f: dict, shape: tuple[int, ...], path: Path, options: ReadOptions, notes: list[str]
) -> np.ndarray:
    scale = METRES.get(f["units"] & 7, 1.0)
    steps = np.abs(np.asarray(f["pixdim"][1:4], float))
    forms: dict[str, np.ndarray] = {}
    if f["sform_code"] > 0:
        forms["sform"] = np.vstack([np.reshape(f["srow"], (3, 4)), [0, 0, 0, 1]]).astype(float)
    if f["qform_code"] > 0:
        forms["qform"] = _quaternion_form(f)
    if not forms:
        if not np.all(np.isfinite(steps)) or np.any(steps <= 0):
            raise ScanError(f"no sform, no qform, voxel sizes {steps.tolist()}", path=path, remedy=EXPORT)
        notes.append("neither sform nor qform: position and left/right are unknown, read as radiological")
        forms["pixdim"] = np.diag([-steps[0], steps[1], steps[2], 1.0])
        forms["pixdim"][:3, 3] = -(np.asarray(shape[:3]) - 1) / 2 * np.diag(forms["pixdim"])[:3]
    wanted = options.nifti_form if options.nifti_form in forms else next(iter(forms))
    affine = forms[wanted]
    check_affine(affine, wanted, path)
    if len(forms) == 2 and np.all(np.isfinite(forms["qform"])):
        _check_forms(forms, f, shape, path, options, notes)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if np.any(np.abs(sizes - steps) > 0.01 * sizes + 1e-3) and np.all(steps > 0):
        notes.append(f"pixdim says {_mm(steps)}, the {wanted} {_mm(sizes)}: the {wanted} decides")
    if scale != 1.0:
        notes.append("units are not mm: converted")
        affine = np.diag([scale] * 3 + [1.0]) @ affine
    affine, said = straighten(affine, shape[:3], wanted, path)
    notes.extend(said)
    return affine


def _check_forms(
    forms: dict[str, np.ndarray],
    f: dict,
    shape: tuple[int, ...],
    path: Path,
    options: ReadOptions,
    notes: list[str],
) -> None:
    """Two forms of one kind must say the same place; of two kinds (scanner and atlas) the sform is used."""
    corners = np.array(
        [[i, j, k, 1.0] for i in (0, shape[0]) for j in (0, shape[1]) for k in (0, shape[2])]
    ).T
    off = float(np.abs((forms["sform"] - forms["qform"]) @ corners).max())
    size = float(np.linalg.norm(forms["sform"][:3, :3], axis=0).min())
    if off <= 0.1 * size or options.nifti_form:
        return
    if f["sform_code"] != f["qform_code"]:
        notes.append("sform and qform name different spaces: the sform is used")
        return
    raise ScanError(
        f"qform and sform disagree by up to {off:.2f} mm",
        path=path,
        remedy="say which is right with --nifti-form sform or --nifti-form qform",
    )


def _mm(sizes: np.ndarray) -> str:
    return " x ".join(f"{v:.3g}" for v in sizes) + " mm"


def _quaternion_form(f: dict) -> np.ndarray:
    """The qform's affine (nifti1.h, method 2)."""
    b, c, d = f["quatern"]
    rest = 1.0 - (b * b + c * c + d * d)
    a = math.sqrt(max(0.0, rest))
    if rest < 1e-7:  # float32 cannot tell it from half a turn, as in nifti1_io: the root would blow it up
        a, (b, c, d) = 0.0, tuple(np.array([b, c, d]) / math.sqrt(b * b + c * c + d * d))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    steps = np.abs(np.asarray(f["pixdim"][1:4], float))
    steps[2] *= -1 if f["pixdim"][0] == -1 else 1
    affine = np.eye(4)
    affine[:3, :3] = rotation * steps
    affine[:3, 3] = f["qoffset"]
    return affine
