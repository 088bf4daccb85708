"""The window that a file asks to be shown in."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from medrecon.io import find_one
from medrecon.io.display import own_window

SAMPLE = Path(__file__).resolve().parents[2] / "sample_data" / "ct_torso"


def series(folder: Path, **tags: object) -> Path:
    folder.mkdir()
    for file in SAMPLE.iterdir():
        slice_ = pydicom.dcmread(file)
        for name in ("WindowCenter", "WindowWidth"):
            slice_.pop(name, None)
        for name, value in tags.items():
            setattr(slice_, name, value)
        slice_.save_as(folder / file.name)
    return folder


@pytest.mark.parametrize(
    ("centre", "width", "window"),
    [
        (-600, 1500, (-1350.0, 150.0)),
        ([40, 300], [400, 1500], (-160.0, 240.0)),
        ("", "", None),
        (40, None, None),
        (40, 0, None),
    ],
)
def test_dicom(centre: object, width: object, window: object, tmp_path: Path) -> None:
    folder = series(tmp_path / "s", WindowCenter=centre, WindowWidth=width)
    assert own_window(find_one(folder)) == window


@pytest.mark.parametrize(("low", "high", "window"), [(-100, 300, (-100.0, 300.0)), (0, 0, None)])
def test_nifti(low: float, high: float, window: object, tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4))
    image.header["cal_min"], image.header["cal_max"] = low, high
    nib.save(image, tmp_path / "a.nii")
    assert own_window(find_one(tmp_path / "a.nii")) == window
