"""Pictures say what was given, and leave matplotlib's global state alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from medrecon.errors import OutputError, UsageError
from medrecon.report import layers_figure
from medrecon.report.layers import colour_limit, rate_words
from medrecon.report.style import ERROR_MAP

RATES = {"level1": 1.0, "level4": 1 / 16}


def body(shape: tuple[int, int, int] = (48, 40, 32)) -> np.ndarray:
    x, y, z = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in shape)]
    return np.where(x**2 + y**2 + 0 * z < 0.8, 40, -1000).astype(np.int16)


def draw(path: Path, **options: object) -> list[Path]:
    source = body()
    results = {"level1": source + np.float32(0), "level4": source + np.float32(30)}
    return layers_figure(source, results, (1, 1, 2), "HU", path, values_per_voxel=RATES, **options)


def test_both_kinds_are_written(tmp_path: Path) -> None:
    assert draw(tmp_path / "layers") == [tmp_path / "layers.png", tmp_path / "layers.svg"]
    assert 1500 < imread(tmp_path / "layers.png").shape[1] < 2000
    drawing = (tmp_path / "layers.svg").read_text()
    assert drawing.count("<image") == 3 + 2 + 3 + 2 + 2, "three slices, two errors, twice, and two scales"
    for words in ("level4", "1/16 value/voxel", "identical", "42.7 dB", "reconstruction"):
        assert f"<!-- {words}" in drawing


def test_equal_pictures_are_equal_files(tmp_path: Path) -> None:
    first = [p.read_bytes() for p in draw(tmp_path / "a")]
    assert first == [p.read_bytes() for p in draw(tmp_path / "b")]


def test_no_error_is_dark_and_errors_have_their_sign(tmp_path: Path) -> None:
    source = body()
    results = {"same": source, "above": source + 100, "below": source - 100}
    layers_figure(source, results, (1, 1, 1), "HU", tmp_path / "p.png", planes=["axial"], error_limit=100)
    image = imread(tmp_path / "p.png")[..., :3]
    height, width = image.shape[:2]
    found = [image[int(height * 0.78), int(width * (0.375 + 0.25 * k))] for k in range(3)]
    expected = [ERROR_MAP(v)[:3] for v in (0.5, 1.0, 0.0)]
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_global_state_is_left_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    draw(tmp_path / "p")
    assert dict(matplotlib.rcParams) == before
    code = "import sys, medrecon.report; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("units", ["", "HU"])
def test_mr_and_constant_volumes_are_drawn(units: str, tmp_path: Path) -> None:
    constant = np.full((12, 10, 1), 5, np.uint8)
    assert (
        layers_figure(constant, {"level1": constant}, (1, 1, 1), units, tmp_path / "p.png")[0].stat().st_size
    )


@pytest.mark.parametrize("results", [{}, {"level1": np.zeros((3, 4, 6))}])
def test_other_grids_are_refused(results: dict[str, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="beside a source"):
        layers_figure(np.zeros((3, 4, 5)), results, (1, 1, 1), "HU", tmp_path / "p.png")


def test_unwritable_and_unknown_targets(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write the picture"):
        draw(tmp_path / "missing" / "p.png")
    with pytest.raises(UsageError, match=r"cannot draw a \.pdf file"):
        draw(tmp_path / "p.pdf")


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (1, "1 value/voxel"),
        (1 / 16, "1/16 value/voxel"),
        (2, "2 values/voxel"),
        (3 / 16, "3/16 value/voxel"),
        (0.3, "3/10 value/voxel"),
        (0.37, "0.37 values/voxel"),
    ],
)
def test_rates_in_words(rate: float, words: str) -> None:
    assert rate_words(rate) == words


@pytest.mark.parametrize(
    ("worst", "limit"), [(0, 1), (3, 3), (0.0011, 0.0015), (96, 100), (130, 150), (8.5, 10)]
)
def test_the_error_scale_ends_at_a_round_number(worst: float, limit: float) -> None:
    assert colour_limit([np.zeros(10), np.full(10, -worst)]) == pytest.approx(limit)
