"""A face: found at the front, gone when it is defaced, and told from other faces by its surface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from medrecon.atlas.audit.face import Face, face_of, face_rows, outer_surface, skin_level, surface_dice
from medrecon.atlas.audit.network import AuditNetwork
from medrecon.io import find_scans

from ...audit_cohort import write_cohort

SIDE = 40


def hollow() -> np.ndarray:
    """A sinus behind the nose."""
    axis = np.linspace(-1, 1, SIDE)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    return np.asarray(x**2 + (y - 0.4) ** 2 + (z + 0.1) ** 2 < 0.02)


def head(nose: float, seed: int = 0) -> MetaTensor:
    """A ball with a nose of this length at the front (+y), a hollow within, noise around."""
    axis = np.linspace(-1, 1, SIDE)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    inside = x**2 + y**2 + z**2 < 0.5
    inside |= (x**2 + (z + 0.2) ** 2 < 0.02) & (y > 0) & (y < 0.65 + nose)
    values = 100.0 * (inside & ~hollow()) + np.random.default_rng(seed).normal(0, 2, inside.shape)
    return MetaTensor(torch.as_tensor(values[None], dtype=torch.float32), meta={"units": ""})


def face(nose: float = 0.2) -> Face:
    found = face_of(head(nose), None)
    assert found is not None
    return found


def test_the_face_is_at_the_front_and_its_surface_is_the_outer_one() -> None:
    found = face()
    _, y, z = np.nonzero(found.surface)
    assert y.min() > SIDE * 0.55
    assert z.max() < SIDE * 0.75
    assert (ndimage.binary_dilation(hollow()) & found.region).any()
    assert not (ndimage.binary_dilation(hollow()) & found.surface).any(), "a hollow is no face"


def test_a_defaced_head_has_no_face() -> None:
    found = face()
    values = found.defaced.numpy()[0]
    assert (values[found.region] == values.min()).all()
    assert np.array_equal(values[~found.region], found.volume.numpy()[0][~found.region])
    assert not (outer_surface(values > found.level) & found.surface).any()


def test_a_region_without_skin_shows_no_face() -> None:
    assert face_of(head(0.2), np.zeros((SIDE,) * 3, bool)) is None
    corner = np.zeros((SIDE,) * 3, bool)
    corner[:4, :4, :4] = True
    assert face_of(head(0.2), corner) is None


def test_skin_lies_between_air_and_tissue() -> None:
    assert skin_level(np.zeros(1), "HU") == -300
    assert 5 < skin_level(head(0.2).numpy()[0], "") < 60


def test_surfaces_are_compared_within_a_tolerance() -> None:
    one, other = np.zeros((9, 9, 9), bool), np.zeros((9, 9, 9), bool)
    one[:, 4], other[:, 5] = True, True
    assert surface_dice(one, other) == 1.0
    assert surface_dice(one, other, tolerance=0.5) == 0.0
    other[:, 5, :3] = False
    assert surface_dice(one, other) == pytest.approx((6 + 6) / (9 + 6))
    assert surface_dice(one, np.zeros_like(one)) == 0.0


@pytest.fixture
def network(tiny_bundle: Path, tmp_path: Path) -> AuditNetwork:
    scans = find_scans(write_cohort(tmp_path / "scans", 1, 1)).scans
    return AuditNetwork(tiny_bundle, scans, output=tmp_path / "out", layers="coarse2", device="cpu")


def test_only_the_whole_head_gives_the_face_back_and_its_own_more_than_others(network: AuditNetwork) -> None:
    rows = {(row["layer"], row["head"]): row for row in face_rows(network, [face(0.0), face(0.3)])}
    assert rows["", "whole"]["own"] == 1.0
    assert rows["coarse2", "whole"]["own"] > 0.7
    assert rows["", "whole"]["others"] < 0.95
    assert rows["", "defaced"]["own"] == rows["coarse2", "defaced"]["own"] == 0.0
    assert rows["coarse2", "whole"]["heads"] == 2
