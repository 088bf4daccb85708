"""The header of a NIfTI-1 or NIfTI-2 file, checked field by field (nifti1.h, nifti2.h)."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.quaternions import quat2mat

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
_FAR, _AXIS = 1e30, 32767  # float32 in NIfTI-1, and as long as its axes may be
KEPT = {
    "cal_min": (-_FAR, _FAR),
    "cal_max": (-_FAR, _FAR),
    "dim_info": (0, 63),
    "slice_start": (0, _AXIS),
    "slice_end": (0, _AXIS),
    "slice_code": (0, 6),
    "slice_duration": (0, _FAR),
}
"""Fields that the results of a NIfTI source keep, and the values that mean something (nifti1.h)."""
_LAST_CODE = 5  # NIFTI_XFORM_TEMPLATE_OTHER; nibabel takes a higher one for none, ITK for any
_NEWLINES = ((13, 10, 26, 10), (0, 0, 0, 0))
EXPORT = "convert the original images again"


@dataclass(frozen=True)
class NiftiHeader:
    """What a NIfTI header says, checked.

    Attributes:
        shape: the dimensions without trailing ones, at least three.
        dtype: of the stored values, with byte order.
        offset: byte where they start in the file that holds them.
        size: bytes of the header, 348 or 540.
        slope: of the scaling, as `inter`.
        affine: (4, 4) voxel index -> RAS mm.
        paired: whether the values are in an `.img` beside the header.
        description: free text of the header.
        kept: the fields that results keep.
        notes: what must be said.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    size: int
    slope: float
    inter: float
    affine: np.ndarray
    paired: bool
    description: str
    kept: dict[str, float]
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
    kind = nib.Nifti1Header if size == 348 else nib.Nifti2Header
    f = kind(head[:size], endianness=order, check=False)
    magic = bytes(f["magic"].item())
    newlines = (13, 10, 26, 10) if size == 348 else tuple(f["eol_check"].tolist())
    if magic not in ((b"n+1", b"ni1") if size == 348 else (b"n+2", b"ni2")) or newlines not in _NEWLINES:
        raise ScanError(f"bad magic {magic!r}: Analyze or broken", path=path, remedy=EXPORT)
    shape = _shape(f["dim"].tolist(), path)
    dtype = _dtype(int(f["datatype"]), int(f["bitpix"]), order, path)
    paired = magic.startswith(b"ni")
    notes: list[str] = []
    offset = _offset(float(f["vox_offset"]), 0 if paired else size + 4, path)
    slope, inter = _scaling(float(f["scl_slope"]), float(f["scl_inter"]), path, notes)
    affine = _affine(f, shape, path, options, notes)
    text = bytes(f["descrip"].item()).decode("latin-1")
    kept = _kept(f, notes)
    return NiftiHeader(shape, dtype, offset, size, slope, inter, affine, paired, text, kept, tuple(notes))


def _offset(offset: float, least: int, path: Path) -> int:
    """Where the voxels start. nibabel refuses a place within the header, ITK takes another one instead."""
    if not math.isfinite(offset) or offset != int(offset) or offset < least:
        why = f"before the end of the header at {least}" if 0 <= offset < least else "no place in a file"
        raise ScanError(f"the data offset is {offset:g}, {why}", path=path, remedy=EXPORT)
    return int(offset)


def _scaling(slope: float, inter: float, path: Path, notes: list[str]) -> tuple[float, float]:
    if math.isnan(slope) or slope == 0:
        if math.isfinite(inter) and inter != 0:
            notes.append(f"scl_slope is {slope:g}: scl_inter {inter:g} is not used (nifti1.h)")
        return 1.0, 0.0
    if not math.isfinite(slope) or not math.isfinite(inter):
        raise ScanError(f"scaling is {slope:g} and {inter:g}", path=path, remedy=EXPORT)
    return slope, inter


def _kept(f: nib.Nifti1Header, notes: list[str]) -> dict[str, float]:
    """The fields that results keep, as far as they make sense; what does not is said."""
    found = {name: f[name].item() for name in KEPT}
    kept = meaningful(found)
    odd = [f"{name} {value:g}" for name, value in found.items() if name not in kept]
    if odd:
        notes.append(f"{', '.join(odd)}: no such value, results do not keep it")
    return kept


def meaningful(fields: Mapping[str, float]) -> dict[str, float]:
    """Those of the fields that results keep and whose values mean something."""
    return {n: v for n, v in fields.items() if n in KEPT and KEPT[n][0] <= v <= KEPT[n][1]}


def _shape(dim: list[int], path: Path) -> tuple[int, ...]:
    count = dim[0]
    if not 1 <= count <= 7 or min(dim[1 : count + 1]) < 1:
        raise ScanError(f"impossible dimensions {dim}", path=path, remedy=EXPORT)
    shape = dim[1 : count + 1]
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
    f: nib.Nifti1Header, shape: tuple[int, ...], path: Path, options: ReadOptions, notes: list[str]
) -> np.ndarray:
    steps = np.asarray(f["pixdim"][1:4], float)
    forms: dict[str, np.ndarray] = {}
    codes = {name: int(f[f"{name}_code"]) for name in ("sform", "qform")}
    unknown = [name for name, code in codes.items() if code > _LAST_CODE]
    if unknown:
        raise ScanError(f"{unknown[0]}_code is {codes[unknown[0]]}, which is none", path=path, remedy=EXPORT)
    if f["sform_code"] > 0:
        forms["sform"] = np.asarray(f.get_sform(), float)
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
    affine, said = straighten(affine, shape[:3], wanted, path)
    notes.extend(said)
    if not (wanted == "sform" and _other_space(f)):
        _check_steps(steps, affine, wanted, path, options, notes)
    unit = int(f["xyzt_units"]) & 7
    if unit not in METRES and unit:
        notes.append(f"the unit of length has the unknown code {unit}: read as mm")
    scale = METRES.get(unit, 1.0)
    if scale != 1.0:
        notes.append("units are not mm: converted")
        affine = np.diag([scale] * 3 + [1.0]) @ affine
    return affine


def _other_space(f: nib.Nifti1Header) -> bool:
    """Whether the sform leads into another space than the qform: there voxels may have another size."""
    return bool(f["sform_code"] > 0 and f["qform_code"] > 0 and f["sform_code"] != f["qform_code"])


def _check_steps(
    steps: np.ndarray, affine: np.ndarray, wanted: str, path: Path, options: ReadOptions, notes: list[str]
) -> None:
    """Voxel sizes that contradict the form: ITK takes the one, nibabel the other.

    Nought, NaN and 1 x 1 x 1 are what tools leave there that say nothing.
    """
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    wrong = np.abs(steps - sizes) > 0.01 * sizes
    if not wrong.any():
        return
    silent = (steps == 0) | (steps == 1).all()
    said = f"pixdim says {_mm(steps)}, the {wanted} {_mm(sizes)}"
    if (wrong & ~silent).any() and options.nifti_form != wanted:
        raise ScanError(
            said, path=path, remedy=f"take the {wanted} with --nifti-form {wanted} if it is right"
        )
    notes.append(f"{said}: the {wanted} decides")


def _check_forms(
    forms: dict[str, np.ndarray],
    f: nib.Nifti1Header,
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
    if _other_space(f):
        notes.append("sform and qform name different spaces: the sform is used")
        return
    raise ScanError(
        f"qform and sform disagree by up to {off:.2f} mm",
        path=path,
        remedy="say which is right with --nifti-form sform or --nifti-form qform",
    )


def _mm(sizes: np.ndarray) -> str:
    return " x ".join(f"{v:.3g}" for v in sizes) + " mm"


def _quaternion_form(f: nib.Nifti1Header) -> np.ndarray:
    """The qform's affine (nifti1.h, method 2); NaN where it is none, as which it is refused if it is used."""
    b, c, d = (float(f[f"quatern_{axis}"]) for axis in "bcd")
    rest = 1.0 - (b * b + c * c + d * d)
    flip, steps = float(f["pixdim"][0]), np.asarray(f["pixdim"][1:4], float)
    affine = np.eye(4)
    if not rest >= -1e-4 or flip not in (-1, 0, 1):  # nibabel refuses it, ITK makes something of it
        return np.full_like(affine, np.nan)
    # float32 cannot tell it from half a turn, as in nifti1_io: the root would blow up its rounding
    a = math.sqrt(rest) if rest >= 1e-7 else 0.0
    affine[:3, :3] = quat2mat((a, b, c, d)) * np.abs(steps) * (1, 1, -1 if flip == -1 else 1)
    affine[:3, 3] = [float(f[f"qoffset_{axis}"]) for axis in "xyz"]
    return affine
