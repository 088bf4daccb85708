"""The picture that a notebook shows: the right way round, in proportion, and only one slice read."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from medrecon.io import Scan, find_one, preview, read_scan

EACH_WAY = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))


@pytest.mark.parametrize(("order", "signs"), EACH_WAY)
def test_right_is_left_and_the_head_or_the_front_is_up(
    order: tuple[int, ...], signs: tuple[int, ...], tmp_path: Path
) -> None:
    """A bright voxel where the RAS coordinates are least lies at the right and at the bottom."""
    spacing = np.array([1.0, 2.0, 3.0])
    values = np.zeros((20, 12, 4), np.float32)
    values[tuple(slice(0, 3) if sign > 0 else slice(-3, None) for sign in signs[:2])] = 1000
    affine = np.zeros((4, 4))
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * spacing[axis]
    affine[3, 3] = 1
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "a.nii.gz")
    scan = find_one(tmp_path / "a.nii.gz")
    png = preview.picture(preview.middle_slice(scan), scan, (0.0, 1000.0))
    seen = np.asarray(Image.open(io.BytesIO(png)))
    y, x = np.argwhere(seen > 128).mean(axis=0) / seen.shape
    assert x > 0.5
    assert y > 0.5
    sides = {order[axis]: values.shape[axis] * spacing[axis] for axis in (0, 1)}
    wanted = sides[min(sides)] / sides[max(sides)]
    assert seen.shape[1] / seen.shape[0] == pytest.approx(wanted, rel=0.02)


def test_of_a_series_one_file_is_read(
    tmp_path: Path, make_ct: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = make_ct(tmp_path / "ct")
    read: list[Scan] = []
    monkeypatch.setattr(preview, "read_scan", lambda scan: read.append(scan) or read_scan(scan))
    np.testing.assert_array_equal(preview.middle_slice(find_one(tmp_path / "ct")), values[..., 3])
    assert [len(scan.files) for scan in read] == [1]
