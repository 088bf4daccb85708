"""The common grid: the same body in the same place, whatever the scan's own grid; and second views."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medrecon.atlas.audit.grid import VIEWS, check_views, on_common_grid, second_view
from medrecon.errors import UsageError
from medrecon.io import Scan, find_one


def body(points: np.ndarray) -> np.ndarray:
    """An ellipsoid 30 mm to the right, 10 mm to the front, with a bright half; points (..., 3) in RAS mm."""
    x, y, z = (points[..., k] for k in range(3))
    inside = ((x - 30) / 30) ** 2 + ((y - 10) / 40) ** 2 + (z / 25) ** 2 < 1
    return inside * (100.0 + 100.0 * (x > 30))


def write(path: Path, affine: np.ndarray, shape: tuple[int, int, int]) -> Scan:
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    values = body(index @ affine[:3, :3].T + affine[:3, 3])
    nib.save(nib.Nifti1Image(values.astype(np.float32) + 7, affine), path)
    return find_one(path)


@pytest.fixture
def straight(tmp_path: Path) -> Scan:
    affine = np.diag([2.0, 2.0, 2.0, 1])
    affine[:3, 3] = (-20, -50, -40)
    return write(tmp_path / "straight.nii", affine, (55, 60, 40))


def test_scans_on_other_grids_come_to_the_same_place(straight: Scan, tmp_path: Path) -> None:
    turned = np.array([[0.0, 0, 4, -24], [-1.5, 0, 0, 62], [0, -2.5, 0, 45], [0, 0, 0, 1]])
    other = write(tmp_path / "turned.nii", turned, (78, 37, 27))
    first, second = (on_common_grid(scan, 32, 4.0) for scan in (straight, other))
    assert first.shape == second.shape == (1, 32, 32, 32)
    assert np.allclose(np.asarray(first.affine)[:3, :3], 4 * np.eye(3))
    one, two = first.numpy()[0], second.numpy()[0]
    assert np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.97
    assert one.min() == pytest.approx(7), "outside the scan is its least value"
    for volume in (first, second):
        values, affine = volume.numpy()[0], np.asarray(volume.affine)
        assert values.max() == pytest.approx(207, abs=5)
        middle = affine[:3, :3] @ np.argwhere(values > 57).mean(0) + affine[:3, 3]
        assert middle[1:] == pytest.approx([10, 0], abs=0.6), "in mm, the body is where it was"
        assert middle[0] == pytest.approx(30, abs=1.2), "and seems larger on its bright side"
    assert one[:16].mean() < one[16:].mean(), "the patient's right is where it was"


def test_the_middle_of_the_body_is_in_the_middle(straight: Scan) -> None:
    values = on_common_grid(straight, 32, 4.0).numpy()[0]
    middle = np.argwhere(values > values.mean()).mean(0)
    assert middle == pytest.approx([15.5] * 3, abs=0.5)


def test_labels_go_where_their_scan_goes(straight: Scan) -> None:
    from medrecon.io import read_scan

    labels = (read_scan(straight) > 150).astype(float)
    placed = on_common_grid(straight, 32, 4.0, labels=labels).numpy()[0] > 0.5
    bright = on_common_grid(straight, 32, 4.0).numpy()[0] > 157
    assert (placed == bright).mean() > 0.995


@pytest.mark.parametrize("name", VIEWS)
def test_a_second_view_is_of_the_same_scan_and_not_the_same(name: str, straight: Scan) -> None:
    volume = on_common_grid(straight, 24, 4.0)
    before = volume.numpy().copy()
    view = second_view(name, volume, np.random.default_rng(0))
    assert np.array_equal(volume.numpy(), before)
    assert view.shape == volume.shape
    assert view.meta["units"] == volume.meta["units"]
    assert not np.allclose(view.numpy(), before)
    assert np.corrcoef(view.numpy().ravel(), before.ravel())[0, 1] > 0.6
    again = second_view(name, volume, np.random.default_rng(0))
    assert np.array_equal(view.numpy(), again.numpy())


def test_an_unknown_view_is_refused() -> None:
    assert check_views(["noise", "crop", "noise"]) == ["noise", "crop"]
    with pytest.raises(UsageError, match="'blur' is no second view"):
        check_views(["noise", "blur"])
