"""Scenes as 3D Slicer's own code sees them (slicer-core, in a Python of its own where need be)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from matplotlib.image import imread

from medrecon.io import find_one, read_scan
from medrecon.report.scene import write_scene
from medrecon.report.style import ERROR_MAP

pytestmark = pytest.mark.slicer

JOB = Path(__file__).with_name("slicer_scene.py")


def seen(python: str, scene: Path, pictures: Path | None = None) -> dict[str, Any]:
    """What Slicer makes of a scene; fails where it complains."""
    extra = [] if pictures is None else ["--pictures", str(pictures)]
    run = subprocess.run(
        [python, str(JOB), str(scene), *extra], capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == "", "Slicer complains"
    report: dict[str, Any] = json.loads(run.stdout)
    return report


@pytest.mark.parametrize("layers", [1, 2, 3, 6])
def test_scene(layers: int, slicer: str, make_atlas: Callable, tmp_path: Path) -> None:
    scores, volumes = make_atlas(layers, maps=layers == 2, label='CT <&"%;: é')
    report = seen(slicer, write_scene(tmp_path / "review.mrb", scores, volumes), tmp_path)
    found = {volume["name"]: volume for volume in report["volumes"]}
    wanted = {'source CT <&"%;: é': volumes.source}
    for name, values in volumes.reconstructions.items():
        wanted |= {name: np.rint(values), f"{name} error": np.rint(values) - volumes.source}
    for name, values in wanted.items():
        flat = values.astype(np.float64).ravel(order="F")
        volume = found[name]
        assert np.abs(np.array(volume["ijk_to_ras"]) - volumes.affine).max() < 1e-3, name
        assert tuple(volume["shape"]) == scores.shape
        assert (volume["sum"], volume["weighted"]) == (flat.sum(), flat @ np.arange(flat.size)), name
        assert volume["type"] == "short"
        assert volume["units"] == "Hounsfield unit"
        assert not volume["auto"]
        if "error" in name:
            assert volume["level"] == 0
            assert volume["legends"] == [f"{name} (HU)"]
            colours = np.array(volume["colour_table"])
            assert np.abs(colours - ERROR_MAP(np.linspace(0, 1, 256))).max() < 0.003
        else:
            assert (volume["window"], volume["level"], volume["colours"]) == (400, 40, "Grey")
    assert found["level1"]["attributes"]["Medrecon.psnr"] == "40.5"
    assert "controls: mean image" in found["level1"]["description"]
    assert len(found) == 1 + layers * (4 if layers == 2 else 2)
    check_views(report, found, layers)
    [table] = report["tables"]
    assert table[0][:3] == ["layer", "what", "MAE in the body (HU)"]
    assert len(table) == 1 + 2 * layers


def check_views(report: dict[str, Any], found: dict[str, Any], layers: int) -> None:
    names = {volume["id"]: name for name, volume in found.items()}
    views = report["views"]
    columns = min(5, max(3, layers + 1))
    assert [len(row) for row in report["rows"]] == [columns] * 2
    assert {(v["linked"], v["hot"], v["group"]) for v in views} == {(1, 1, 0)}
    assert all(names[v["background"]].startswith("source") for v in views)
    over = [names.get(v["foreground"]) for v in views]
    assert over[0] is None
    if layers == 1:
        assert over == [None, "level1", "level1 error"] * 2
    else:
        shown = over[1:columns]
        assert (shown[0], shown[-1]) == ("level1", f"level{layers}")
        assert over[columns:] == [None, *(f"{name} error" for name in shown)]
    acquired = [v for v in views if v["slice_to_ras"] == views[0]["slice_to_ras"]]
    assert len(acquired) == (3 if layers == 1 else 2 * columns - 1)
    assert set(report["moved"]["scrolled"]) >= {v["name"] for v in acquired}, "hot link"
    assert set(report["moved"]["faded"]) >= {v["name"] for v in views}


def test_small_scene(slicer: str, make_atlas: Callable, tmp_path: Path) -> None:
    scores, volumes = make_atlas(5, shape=(40, 36, 20))
    report = seen(slicer, write_scene(tmp_path / "review.mrb", scores, volumes, full=False), tmp_path)
    source, kept = report["volumes"]
    assert (source["name"], kept["name"]) == ("source CT abdomen", "level4")
    flat = volumes.source.astype(np.float64).ravel(order="F")
    assert (source["sum"], source["weighted"]) == (flat.sum(), flat @ np.arange(flat.size))
    for volume in (source, kept):
        assert np.abs(np.array(volume["ijk_to_ras"]) - volumes.affine).max() < 1e-3
        assert (volume["window"], volume["level"], volume["auto"]) == (400, 40, 0)
    rounded = float(kept["attributes"].get("Medrecon.step", 1)) / 2
    off = kept["sum"] - volumes.reconstructions["level4"].sum(dtype=np.float64)
    assert abs(off) < 5 * rounded * np.sqrt(flat.size), "rounded, not shifted"
    assert report["rows"] == [["Red", "Yellow"]]
    before, after = report["views"]
    assert before["background"] == after["background"] == source["id"]
    assert (before["foreground"], after["foreground"], after["opacity"]) == (None, kept["id"], 1)
    assert before["slice_to_ras"] == after["slice_to_ras"]
    assert report["moved"] == {"scrolled": ["Red", "Yellow"], "faded": ["Red", "Yellow"]}
    [table] = report["tables"]
    assert [row[0] for row in table if row[1] == "reconstruction"] == [f"level{n}" for n in range(1, 6)]
    picture = imread(tmp_path / "views.png")[..., :3]
    left, right = np.split(picture, 2, axis=1)
    assert 0.005 < np.abs(left - right).mean() < 0.1, "alike, and not the same"


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["mr_pd_fse_brain_oblique_ge_signa", "ct_torso_totalseg"])
def test_real_geometry(
    name: str, slicer: str, shared_dir: Path, make_atlas: Callable, tmp_path: Path
) -> None:
    [path] = (shared_dir / "data" / "real").glob(f"{name}*")
    scan = find_one(path)
    source = read_scan(scan)
    scores, volumes = make_atlas(1, shape=source.shape, affine=scan.affine)
    affine = nib.load(path).affine if path.is_file() else scan.affine  # DICOM's is tested where it is read
    volumes.source = source
    volumes.reconstructions = {"level1": np.roll(source, 1, axis=0)}
    report = seen(slicer, write_scene(tmp_path / "review.mrb", scores, volumes))
    assert len(report["volumes"]) == 3
    for volume in report["volumes"]:
        assert np.abs(np.array(volume["ijk_to_ras"]) - affine).max() < 1e-3
    assert report["volumes"][0]["sum"] == source.sum(dtype=np.float64)


def test_pictures_show_the_window_and_the_colours(slicer: str, make_atlas: Callable, tmp_path: Path) -> None:
    scores, volumes = make_atlas(2, affine=np.diag([-1.0, -1.0, 1.0, 1.0]), shape=(20, 20, 5))
    volumes.source[:] = 40  # the window's middle
    volumes.reconstructions["level1"][:] = 40
    volumes.reconstructions["level2"][:] = 40
    volumes.reconstructions["level2"][10:] += 1000  # far above the source, on the patient's left
    seen(slicer, write_scene(tmp_path / "review.mrb", scores, volumes), tmp_path)
    picture = imread(tmp_path / "views.png")[..., :3]
    rows, columns = picture.shape[0] // 2, picture.shape[1] // 3

    def at(row: int, column: int, right: float) -> np.ndarray:
        return picture[int((row + 0.5) * rows), int((column + right) * columns)]

    assert np.allclose(at(0, 0, 0.5), 0.5, atol=0.01)
    assert np.allclose(at(0, 2, 0.25), 0.5, atol=0.01), "the patient's right is on the left"
    assert np.allclose(at(0, 2, 0.75), 1.0)
    assert np.allclose(at(1, 1, 0.5), ERROR_MAP(0.5)[:3], atol=0.03)
    assert np.allclose(at(1, 2, 0.25), ERROR_MAP(0.5)[:3], atol=0.03)
    assert np.allclose(at(1, 2, 0.75), ERROR_MAP(1.0)[:3], atol=0.03)
