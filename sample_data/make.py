"""Write the sample scans: a CT-like DICOM series of a trunk and an MR-like NIfTI file of a head.

    python sample_data/make.py [--output FOLDER]

Nothing in them comes of a person. The same bytes come out each time (on another processor or with other
versions of numpy and torch, a voxel in some thousands may differ by one unit). Takes about ten seconds.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import anatomy_head  # noqa: E402
import anatomy_torso  # noqa: E402
import ct_series  # noqa: E402

from medrecon.phantoms.acquisition import blur_matrix, fourier_matrix  # noqa: E402
from medrecon.phantoms.canvas import Canvas  # noqa: E402
from medrecon.phantoms.noise import ramp_noise, separable, smooth_noise  # noqa: E402

CT_SHAPE = (128, 112, 64)
CT_SPACING = (2.1, 1.8, 2.5)  # mm along columns, rows, slices
MR_SHAPE = (110, 138, 92)
MR_SPACING = (1.3, 1.25, 1.35)
CT_SIZE, MR_SIZE = 0.86, 0.82  # of a grown man: small subjects, so that much fits on few voxels


def turn(about_x: float, about_z: float) -> np.ndarray:
    """(3, 3) rotation by two angles in degrees."""
    a, b = np.deg2rad([about_x, about_z])
    nod = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    shake = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return shake @ nod


def make_ct() -> tuple[np.ndarray, np.ndarray]:
    """The trunk.

    Returns:
        (X, Y, Z) int16 HU, and the (4, 4) float64 affine from voxel indices to LPS mm.
    """
    rng = np.random.default_rng(20200101)
    spacing = np.array(CT_SPACING) / CT_SIZE
    canvas = Canvas(CT_SHAPE, spacing, turn(-9.0, 6.0), (0.0, 9.0, -3.0), rng, warp=1.5, warp_scale=70.0)
    outline = anatomy_torso.paint(canvas, rng)
    image = separable(canvas.image, [blur_matrix(n, 0.4) for n in CT_SHAPE[:2]] + [None])
    # quanta pass less often through the thick of the body
    level = 9.0 + 7.0 * np.clip(outline / -90, -0.4, 1)
    image = image + level * ramp_noise(CT_SHAPE, 0.8, rng, low=0.06)
    affine = np.eye(4)
    affine[:3, :3] = canvas.directions * CT_SIZE
    affine[:3, 3] = canvas.origin * CT_SIZE + np.array([3.0, -150.0, -420.0])
    return np.clip(np.rint(image), -1024, 3071).astype(np.int16), np.round(affine, 9)


def make_mr() -> tuple[np.ndarray, np.ndarray]:
    """The head.

    Returns:
        (X, Y, Z) int16 of arbitrary units, and the (4, 4) float64 affine from voxel indices to RAS mm.
    """
    rng = np.random.default_rng(20200102)
    spacing = np.array(MR_SPACING) / MR_SIZE
    flip = np.diag([-1.0, -1.0, 1.0])
    canvas = Canvas(
        MR_SHAPE, spacing, turn(11.0, -7.0) @ flip, (0.0, -6.0, 3.0), rng, warp=1.0, warp_scale=60.0
    )
    anatomy_head.paint(canvas, rng)
    bias = np.exp(0.13 * smooth_noise(MR_SHAPE, np.array(MR_SHAPE) / 2.0, rng))
    matrices = [fourier_matrix(n, 0.96, 0.5) for n in MR_SHAPE]
    image = separable((105 * bias * canvas.image).astype(np.float32), matrices)
    # complex noise of the receiver; its magnitude is what is stored
    real, other = (rng.standard_normal(MR_SHAPE, dtype=np.float32) for _ in range(2))
    image = np.sqrt(np.square(image + 0.65 * real) + np.square(0.65 * other))
    affine = np.eye(4)
    affine[:3, :3] = flip @ canvas.directions * MR_SIZE
    affine[:3, 3] = flip @ canvas.origin * MR_SIZE + np.array([-2.0, 18.0, 31.0])
    return np.rint(image).astype(np.int16), affine


def write_nifti(path: Path, volume: np.ndarray, affine: np.ndarray) -> None:
    """Write .nii.gz without a time stamp or a file name in the gzip header."""
    image = nib.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(1, 0)
    image.header["descrip"] = b"made-up head; medrecon sample data"
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=9, mtime=0))


def make(output: Path) -> None:
    """Write both scans into a folder, over what is there under the same names."""
    series = output / "ct_torso"
    series.mkdir(parents=True, exist_ok=True)
    for old in series.glob("*.dcm"):
        old.unlink()
    ct_series.write_series(series, *make_ct())
    write_nifti(output / "mr_head.nii.gz", *make_mr())


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--output", type=Path, default=HERE, help="folder to write to (default: beside this script)"
    )
    folder = parser.parse_args().output
    make(folder)
    files = sorted(p for p in [folder / "mr_head.nii.gz", *(folder / "ct_torso").glob("*.dcm")])
    print(f"{len(files)} files, {sum(f.stat().st_size for f in files) / 1e6:.2f} MB in {folder}")


if __name__ == "__main__":
    main()
