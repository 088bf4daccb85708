"""A cohort small enough to be seen through: blobs by the patient, noise by the scan."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

SIDE = 16


def anatomy(patient: int) -> np.ndarray:
    """(16, 16, 16): a ball with a patient's own blobs in it."""
    rng = np.random.default_rng([patient, 7])
    blobs = ndimage.gaussian_filter(rng.normal(size=(SIDE,) * 3), 1.5)
    axes = np.linspace(-1, 1, SIDE)
    ball = sum(axis**2 for axis in np.meshgrid(axes, axes, axes, indexing="ij")) < 0.8
    return np.asarray(ball * (500 + 2500 * blobs))


def write_cohort(root: Path, patients: int, scans: int = 2, noise: float = 20.0) -> Path:
    """Write `scans` scans of each patient as NIfTI: root/sub-3/sub-3_run-1.nii."""
    rng = np.random.default_rng(0)
    for patient in range(patients):
        folder = root / f"sub-{patient}"
        folder.mkdir(parents=True)
        for run in range(scans):
            values = anatomy(patient) + rng.normal(0, noise, (SIDE,) * 3)
            image = nib.Nifti1Image(values.astype(np.float32), np.diag([4.0, 4.0, 4.0, 1.0]))
            nib.save(image, folder / f"sub-{patient}_run-{run}.nii")
    return root
