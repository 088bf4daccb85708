"""Errors over the body, tissues and masks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medrecon.errors import UsageError
from medrecon.evaluation.marked import from_labels
from medrecon.evaluation.regions import BODY, TISSUES, Regions, body_mask


@pytest.fixture
def chest() -> np.ndarray:
    """A box of soft tissue with an air-filled hole inside, in air, and a table beside it, HU."""
    hu = np.full((40, 40, 6), -1000, dtype=np.int16)
    hu[8:32, 8:32] = 40
    hu[14:22, 14:22] = -800
    hu[24:28, 24:28] = 700
    hu[4:36, 36:38] = 100
    return hu


def test_body_holds_its_holes_and_no_table(chest):
    body = body_mask(chest, "HU")
    expected = np.zeros(chest.shape, dtype=bool)
    expected[8:32, 8:32] = True
    assert np.array_equal(body, expected)


def test_body_of_other_units_stands_out_from_its_background():
    image = np.zeros((32, 32, 4), dtype=np.float32)
    image[8:24, 8:24] = 300.0
    assert np.array_equal(body_mask(image, ""), image > 0)
    assert body_mask(np.zeros((6, 6, 2)), "").all()


def test_errors_by_tissue_are_those_put_in(chest):
    recon = chest.astype(np.float32)
    recon[chest == -800] += 30
    recon[chest == 700] -= 100
    recon[chest == -1000] += 500  # air outside counts nowhere
    found = Regions(chest, "HU", body_mask(chest, "HU")).errors(chest, recon)
    assert set(found) == {BODY, "lung", "soft tissue", "bone"}
    assert (found["lung"].voxels, found["lung"].mae, found["lung"].bias) == (8 * 8 * 6, 30.0, 30.0)
    assert (found["bone"].rmse, found["bone"].bias) == (100.0, -100.0)
    assert found["soft tissue"].mae == 0
    inside = np.abs(recon - chest)[8:32, 8:32]
    assert found[BODY].mae == pytest.approx(inside.mean())
    assert found[BODY].rmse == pytest.approx(np.sqrt((inside**2).mean()))


def test_tissue_windows_do_not_overlap():
    ends = sorted(TISSUES.values())
    assert all(high <= low for (_, high), (low, _) in itertools.pairwise(ends))


def test_labels_of_a_mask_are_regions(chest):
    mask = np.zeros(chest.shape, dtype=np.uint8)
    mask[0:2, 0:2], mask[10:12, 10:12] = 1, 7
    recon = chest + np.where(mask == 7, 12, 3)
    found = Regions(chest, "HU", body_mask(chest, "HU"), from_labels(mask, mask.shape)).errors(chest, recon)
    assert (found["roi 7"].voxels, found["roi 7"].bias) == (24, 12.0)
    assert found["roi 1"].bias == 3.0
    one = Regions(chest, "HU", body_mask(chest, "HU"), from_labels(mask == 7, mask.shape)).errors(
        chest, recon
    )
    assert one["roi"] == found["roi 7"]


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.ones((3, 3, 3)), "shape"),
        (np.zeros((40, 40, 6)), "0 labels"),
        (np.full((40, 40, 6), 0.5), "between whole numbers"),
        (np.arange(40 * 40 * 6).reshape(40, 40, 6), "labels"),
    ],
)
def test_what_is_no_mask_is_refused(chest, mask, said):
    with pytest.raises(UsageError, match=said):
        from_labels(mask, chest.shape)
