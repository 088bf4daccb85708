"""Findings in generated volumes, where contrast, edge and size are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.special import erf

from medrecon.errors import UsageError
from medrecon.evaluation.findings import FindingMeter
from medrecon.evaluation.marked import Marked, from_labels, overlay, sphere

SHAPE, AT = (48, 44, 30), (24.3, 21.6, 14.8)


def affine(spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    return np.diag([*spacing, 1.0])


def distance(spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """mm from the middle of the ball."""
    each = np.ogrid[tuple(slice(n) for n in SHAPE)]
    squares = [((axis - c) * step) ** 2 for axis, c, step in zip(each, AT, spacing, strict=True)]
    return np.sqrt(sum(squares))


def ball(radius: float, sigma: float = 1.2, contrast: float = 100.0) -> np.ndarray:
    """A ball in a flat ground whose edge is a normal distribution's, in mm."""
    return 40 + contrast * 0.5 * (1 - erf((distance() - radius) / (math.sqrt(2) * sigma)))


def meter(source: np.ndarray, radius: float = 8.0) -> FindingMeter:
    (marked,) = from_labels((distance() < radius - 1.5).astype(np.uint8), SHAPE)
    return FindingMeter(marked, source, affine())


@pytest.mark.parametrize("share", [1.0, 0.8, 0.35, -0.5])
def test_a_known_share_of_contrast_is_found(share: float) -> None:
    source = ball(8)
    found = meter(source).of(40 + share * (source - 40))
    assert found.kept == pytest.approx(share, abs=1e-9)
    assert found.low == pytest.approx(share, abs=1e-6)
    assert found.high == pytest.approx(share, abs=1e-6)
    assert (found.edge is None) == (share < 0)


def test_contrast_and_place_of_the_source() -> None:
    (marked,) = from_labels((distance() < 5).astype(np.uint8), SHAPE)
    source = FindingMeter(marked, np.where(distance() < 5, 140.0, 40.0), affine()).source
    assert source.contrast == pytest.approx(100)
    assert source.at == pytest.approx(AT, abs=0.3)
    assert source.voxels == marked.voxels


@pytest.mark.parametrize("radius", [5.0, 7.0, 9.0])
def test_size_is_the_diameter_at_half_contrast(radius: float) -> None:
    found = meter(ball(radius), radius)
    assert found.source.diameter == pytest.approx(2 * radius, rel=0.04)
    shrunk = found.of(ball(radius - 1.0))
    assert shrunk.diameter == pytest.approx(2 * radius - 2, rel=0.06)


def test_an_edge_widens_as_it_was_blurred() -> None:
    """The steepest slope of a normal edge is contrast / (sqrt(2 pi) sigma)."""
    sharp = meter(ball(8, 1.2))
    assert sharp.source.edge == pytest.approx(math.sqrt(2 * math.pi) * 1.2, rel=0.2)
    blurred = sharp.of(ball(8, 2.4))
    assert blurred.edge == pytest.approx(math.sqrt(2 * math.pi) * 2.4, rel=0.2)


@pytest.mark.parametrize("smooth", [0.7, 1.8])
def test_the_interval_holds_the_truth_as_often_as_it_says(smooth: float) -> None:
    rng = np.random.default_rng(4)
    held = []
    for _ in range(40):
        source = ball(8) + gaussian_filter(rng.normal(0, 60, SHAPE), 1.0)
        error = gaussian_filter(rng.normal(0, 1, SHAPE), smooth)
        found = meter(source).of(40 + 0.7 * (source - 40) + 25 * error / error.std())
        held.append(found.low <= 0.7 <= found.high)
        assert found.high - found.low < 1
    assert np.mean(held) >= 0.85


def test_thick_slices_are_measured_in_millimetres() -> None:
    spacing = (0.8, 0.8, 4.0)
    inside = distance(spacing) < 9
    (marked,) = from_labels(inside.astype(np.uint8), SHAPE)
    found = FindingMeter(marked, np.where(inside, 90.0, 10.0), affine(spacing))
    assert found.source.diameter == pytest.approx(18, rel=0.05)
    assert found.source.contrast == pytest.approx(80)


def test_the_surroundings_stay_in_the_body() -> None:
    body = np.zeros(SHAPE, bool)
    body[:, 12:] = True
    source = np.where(body, 40.0, -1000.0)
    marked = sphere("at the skin", affine(), SHAPE, (24, 18, 15), 4)
    source[marked.box][marked.inside] = 90
    assert FindingMeter(marked, source, affine(), body).source.contrast == pytest.approx(50)
    assert FindingMeter(marked, source, affine()).source.contrast > 100


def test_what_cannot_be_told_is_none() -> None:
    everything = Marked("all", (slice(0, 48), slice(0, 44), slice(0, 30)), np.ones(SHAPE, bool))
    found = FindingMeter(everything, ball(8), affine())
    assert (found.source.contrast, found.of(ball(8)).kept) == (None, None)
    error = gaussian_filter(np.random.default_rng(8).normal(0, 1000, SHAPE), 2)
    lost = meter(ball(8, contrast=2)).of(ball(8, contrast=2) + error)
    assert lost.high - lost.low > 1, "nothing can be said of what errors hide"
    flat = meter(np.full(SHAPE, 5.0))
    assert flat.of(ball(8)).kept is None


def test_a_sphere_is_where_the_point_is() -> None:
    turned = np.array([[0, -1.2, 0, 30], [1.5, 0, 0, -20], [0, 0, 2.0, 7], [0, 0, 0, 1]], dtype=float)
    at = (turned @ [20, 10, 8, 1])[:3]
    marked = sphere("p", turned, SHAPE, at, 5)
    labels = overlay([marked], SHAPE)
    places = np.argwhere(labels)
    apart = (np.c_[places, np.ones(len(places))] @ turned.T)[:, :3] - at
    assert np.linalg.norm(apart, axis=1).max() <= 5
    assert len(places) * 1.2 * 1.5 * 2.0 == pytest.approx(4 / 3 * math.pi * 125, rel=0.1)
    with pytest.raises(UsageError, match="outside of the scan"):
        sphere("p", turned, SHAPE, (500, 0, 0), 5)
    with pytest.raises(UsageError, match="no voxel"):
        sphere("p", turned, SHAPE, at + 0.4, 0.1)


def test_labels_have_their_names_and_may_overlap_once_drawn() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:5, 2:5, 2:5], labels[10:12, 3:9, 4] = 3, 7
    named = from_labels(labels, SHAPE, {3: "nodule"})
    assert [(each.name, each.voxels) for each in named] == [("nodule", 27), ("roi 7", 12)]
    both = overlay([*named, sphere("p", affine(), SHAPE, (3, 3, 3), 1)], SHAPE)
    assert np.bincount(both.ravel()).tolist()[1:] == [20, 12, 7]
