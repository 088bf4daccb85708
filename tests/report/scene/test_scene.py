"""A scene holds what it names, and says what was measured: checked without 3D Slicer."""

from __future__ import annotations

import dataclasses
import gzip
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medrecon.errors import OutputError, UsageError
from medrecon.evaluation.scores import AtlasVolumes, LayerPictures, ScanScores
from medrecon.report.scene import write_scene
from medrecon.report.scene_values import Store, error_limit, map_limit, round_up
from medrecon.report.scene_views import planes

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
HOSTILE = "a<b>&\"'%;:|\\ \x00\x1b\ud800\n--><!-- \u202e é 日 <script>"


def nodes(path: Path) -> list[ElementTree.Element]:
    with zipfile.ZipFile(path) as bundle:
        return list(ElementTree.fromstring(bundle.read("review/review.mrml")))


def by_name(path: Path, tag: str) -> dict[str, ElementTree.Element]:
    return {node.get("name", ""): node for node in nodes(path) if node.tag == tag}


def faults(path: Path) -> list[str]:
    """Whatever in a scene's structure would make Slicer stumble."""
    wrong, ids = [], {"vtkMRMLColorTableNodeGrey"}
    with zipfile.ZipFile(path) as bundle:
        files = set(bundle.namelist())
        wrong += [f"{i.filename} is deflated again" for i in bundle.infolist() if i.compress_type]
    scene = nodes(path)
    for node in scene:
        identity = node.get("id", "")
        wrong += [f"{identity} twice"] if identity in ids else []
        ids.add(identity)
    named: set[str] = set()
    for node in scene:
        for pair in filter(None, (node.get("references") or "").split(";")):
            role, _, wanted = pair.partition(":")
            wrong += [f"{node.get('id')} {role}: no {i}" for i in wanted.split() if i not in ids]
        if node.get("colorNodeID", "vtkMRMLColorTableNodeGrey") not in ids:
            wrong.append(f"{node.get('id')}: no colours")
        if file := node.get("fileName"):
            named.add(f"review/{file}")
    wrong += [f"no {file}" for file in named - files]
    wrong += [f"{file} is nobody's" for file in files - named - {"review/review.mrml"}]
    return wrong


def volume(path: Path, name: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """A volume of the scene (X, Y, Z), and its affine in RAS mm, as ITK reads it."""
    found = by_name(path, "Volume")[name]
    storage = dict(pair.split(":") for pair in found.get("references", "").strip(";").split(";"))["storage"]
    [file] = [node.get("fileName") for node in nodes(path) if node.get("id") == storage]
    with zipfile.ZipFile(path) as bundle:
        image = sitk.ReadImage(bundle.extract(f"review/{file}", folder))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), RAS @ affine


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("maps", [False, True])
def test_structure(layers: int, maps: bool, make_atlas: Callable, tmp_path: Path) -> None:
    path = write_scene(tmp_path / "review.mrb", *make_atlas(layers, maps=maps))
    assert faults(path) == []
    assert len(by_name(path, "Volume")) == 1 + layers * (4 if maps else 2)
    composites = [node for node in nodes(path) if node.tag == "SliceComposite"]
    assert len(composites) == 2 * min(5, max(3, layers + 1))
    assert {(c.get("hotLinkedControl"), c.get("linkedControl")) for c in composites} == {("1", "1")}
    assert {node.get("viewGroup") for node in nodes(path) if node.tag == "Slice"} == {"0"}


def test_structural_check_finds_faults(make_atlas: Callable, tmp_path: Path) -> None:
    path = write_scene(tmp_path / "review.mrb", *make_atlas(1))
    broken = tmp_path / "broken.mrb"
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(broken, "w") as bad:
        for name in good.namelist():
            text = good.read(name)
            if name.endswith(".mrml"):
                text = text.replace(b"storage:vtkMRMLTableStorageNode1", b"storage:vtkMRMLTableStorageNode2")
                text = text.replace(b"02_source_CT_abdomen.nrrd", b"source.nrrd")
            bad.writestr(name, text)
    assert len(faults(broken)) == 3


@pytest.mark.parametrize("units", ["HU", ""])
def test_voxels_and_geometry(units: str, make_atlas: Callable, tmp_path: Path) -> None:
    scores, volumes = make_atlas(2, units=units, maps=True)
    path = write_scene(tmp_path / "review.mrb", scores, volumes)
    result = volumes.reconstructions["level2"]
    kept = np.rint(result) if units else result
    spread = volumes.uncertainty["level2"]
    wanted = {"source CT abdomen": volumes.source, "level2": kept, "level2 error": kept - volumes.source}
    for name, values in {**wanted, "level2 uncertainty": spread}.items():
        found, affine = volume(path, name, tmp_path)
        assert np.array_equal(found, values), name
        assert np.abs(affine - volumes.affine).max() < 1e-9
        assert found.dtype == (np.int16 if units and "uncertainty" not in name else np.float32)


def test_window_and_scale(make_atlas: Callable, tmp_path: Path) -> None:
    scores, volumes = make_atlas(3)
    path = write_scene(tmp_path / "review.mrb", scores, volumes)
    shown = {n: (float(d.get("window", 0)), float(d.get("level", 0)), d.get("autoWindowLevel"))
             for n, d in by_name(path, "VolumeDisplay").items()}  # fmt: skip
    images = [n for n in shown if "error" not in n]
    assert len(images) == 4
    assert {shown[n] for n in images} == {(400.0, 40.0, "0")}
    limit = error_limit(volumes)
    errors = np.abs(volumes.reconstructions["level3"] - volumes.source)
    assert np.percentile(errors, 98) < limit < 2 * errors.max()
    assert {shown[n] for n in shown if "error" in n} == {(2 * limit, 0.0, "0")}


def test_maps_have_one_scale(make_atlas: Callable, tmp_path: Path) -> None:
    scores, volumes = make_atlas(3, maps=True)
    volumes.uncertainty["level1"] = np.zeros(scores.shape, np.uint8)
    volumes.uncertainty["level3"][1:] = 0  # sparse: the scale is of what there is
    path = write_scene(tmp_path / "review.mrb", scores, volumes)
    limit = map_limit(volumes.uncertainty.values())
    assert limit > 0.5 * volumes.uncertainty["level3"].max()
    found = [d for name, d in by_name(path, "VolumeDisplay").items() if name.endswith("uncertainty")]
    assert {(d.get("window"), d.get("level")) for d in found} == {(str(limit), str(limit / 2))}
    assert len({d.get("colorNodeID") for d in found}) == 1
    assert volume(path, "level1 uncertainty", tmp_path)[0].dtype == np.int16
    assert map_limit([]) == map_limit([np.zeros((2, 2, 2))]) == 1


def test_error_colours_are_symmetric_about_zero(make_atlas: Callable, tmp_path: Path) -> None:
    path = write_scene(tmp_path / "review.mrb", *make_atlas(1))
    with zipfile.ZipFile(path) as bundle:
        lines = bundle.read("review/Data/01_error.ctbl").decode().splitlines()[2:]
    table = np.array([[float(v) for v in line.split()[2:]] for line in lines])
    names = [float(line.split()[1].removesuffix("_HU")) for line in lines]
    assert np.allclose(names, -np.array(names)[::-1])
    assert [int(line.split()[0]) for line in lines] == list(range(256))
    light = table[:, :3].sum(axis=1)
    assert light[127] == pytest.approx(light[128], abs=3)
    assert light[127] < 60 < 500 < min(light[0], light[-1])
    assert table[20, 2] > table[20, 0], "blue below the source"
    assert table[235, 0] > table[235, 2], "amber above it"


def test_figures_stand_beside_their_controls(make_atlas: Callable, tmp_path: Path) -> None:
    path = write_scene(tmp_path / "review.mrb", *make_atlas(2))
    said = by_name(path, "Volume")["level2"].get("description", "")
    for part in ("MAE 6.5 HU", "PSNR 40.5 dB", "controls: mean image 12 dB", "not for diagnosis"):
        assert part in said
    facts = dict(
        pair.split(":") for pair in by_name(path, "Volume")["level2"].get("attributes", "").split(";")
    )
    assert facts["Medrecon.psnr"] == "40.5"
    assert "Medrecon.ms_ssim" not in facts, "not measured"
    with zipfile.ZipFile(path) as bundle:
        [table] = [name for name in bundle.namelist() if name.endswith(".tsv")]
        rows = [line.split("\t") for line in bundle.read(table).decode().splitlines()]
    assert [row[1] for row in rows[1:]] == ["reconstruction", "mean image"] * 2
    assert len({len(row) for row in rows}) == 1


def made_scan(units: str, make_atlas: Callable) -> tuple[ScanScores, AtlasVolumes]:
    """A body with noise in air that a scanner's floor holds flat: layers put noise there and pack worse."""
    scores, volumes = make_atlas(5, shape=(64, 60, 40), units=units)
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in scores.shape), indexing="ij")
    body = x**2 + y**2 < 0.5
    volumes.source[~body] = -1024 if units else 0
    for number, values in enumerate(volumes.reconstructions.values()):
        noise = np.random.default_rng(number).normal(0, 12 if units else 0.012, scores.shape)
        values[:] = volumes.source + noise
    return scores, volumes


@pytest.mark.parametrize("units", ["HU", ""])
def test_small_scene_stays_below_twice_the_source(units: str, make_atlas: Callable, tmp_path: Path) -> None:
    scores, volumes = made_scan(units, make_atlas)
    path = write_scene(tmp_path / "small.mrb", scores, volumes, full=False)
    source = nib.Nifti1Image(volumes.source.astype(np.int16 if units else np.float32), volumes.affine)
    nib.save(source, tmp_path / "source.nii.gz")
    with zipfile.ZipFile(path) as bundle:
        [stored] = [i.file_size for i in bundle.infolist() if "source" in i.filename]
    assert path.stat().st_size < 2 * min(stored, (tmp_path / "source.nii.gz").stat().st_size)
    assert path.stat().st_size < write_scene(tmp_path / "full.mrb", scores, volumes).stat().st_size / 3


@pytest.mark.parametrize("units", ["HU", ""])
def test_small_scene_holds_the_default_layer(units: str, make_atlas: Callable, tmp_path: Path) -> None:
    scores, volumes = made_scan(units, make_atlas)
    path = write_scene(tmp_path / "small.mrb", scores, volumes, full=False)
    assert faults(path) == []
    assert set(by_name(path, "Volume")) == {"source CT abdomen", "level4"}
    node = by_name(path, "Volume")["level4"]
    said = node.get("description", "")
    assert "Not in this scene: level1, level2, level3, level5, errors" in said
    step = float(dict(p.split(":") for p in node.get("attributes", "").split(";"))["Medrecon.step"])
    assert 0 < step <= (scores.window[1] - scores.window[0]) / 8
    assert f"in steps of {step:.4g}" in said
    found, affine = volume(path, "level4", tmp_path)
    assert 0 < np.abs(found - volumes.reconstructions["level4"]).max() <= step * 0.5001
    assert found.dtype == (np.int16 if units else np.float32)
    assert np.abs(affine - volumes.affine).max() < 1e-9
    assert np.array_equal(volume(path, "source CT abdomen", tmp_path)[0], volumes.source), "as it is"
    [layout] = [n.get("currentViewArrangement") for n in nodes(path) if n.tag == "Layout"]
    assert layout == "29", "side by side"
    over = [n.get("references", "") for n in nodes(path) if n.tag == "SliceComposite"]
    assert [node.get("id", "?") in references for references in over] == [False, True]


def test_small_scene_keeps_values_that_fit(make_atlas: Callable, tmp_path: Path) -> None:
    scores, volumes = make_atlas(["coarse2", "coarse4", "coarse8"], shape=(64, 60, 40))
    volumes.reconstructions["coarse4"][:] = np.rint(volumes.source / 64) * 64 + 3  # less in it
    path = write_scene(tmp_path / "small.mrb", scores, volumes, full=False)
    assert "steps of" not in by_name(path, "Volume")["coarse4"].get("description", ""), "the middle layer"
    assert np.array_equal(volume(path, "coarse4", tmp_path)[0], volumes.reconstructions["coarse4"])


def with_features(volumes: AtlasVolumes, *names: str) -> AtlasVolumes:
    """The same with features of stride 2, whose first position lies at voxel 0.5."""
    local = np.diag([2.0, 2.0, 2.0, 1.0])
    local[:3, 3] = 0.5
    values = np.random.default_rng(1).integers(0, 256, (5, 7, 6, 4)).astype(np.uint8)
    shown = LayerPictures(
        volumes.affine @ local, values[:3], (0.5, 0.2, 0.1), values[3:], (12, 3), ((-1.5, 2.5), (0.0, 1.0))
    )
    return dataclasses.replace(volumes, features=dict.fromkeys(names, shown))


@pytest.mark.parametrize("full", [True, False])
def test_features_lie_over_the_source_on_their_own_grid(
    full: bool, make_atlas: Callable, tmp_path: Path
) -> None:
    scores, plain = make_atlas(["level3", "level4"])
    volumes = with_features(plain, "level3", "level4")
    path = write_scene(tmp_path / "review.mrb", scores, volumes, full=full)
    assert faults(path) == []
    found = by_name(path, "Volume")
    assert ("level3 features" in found) == full
    node = found["level4 features"]
    said = node.get("description", "")
    assert "channel 12 of level4; 0 stands for -1.5, 255 for 2.5" in said
    storage = by_name(path, "VolumeArchetypeStorage")["level4 features"]
    with zipfile.ZipFile(path) as bundle:
        (tmp_path / "features.nrrd").write_bytes(bundle.read(f"review/{storage.get('fileName')}"))
    image = sitk.ReadImage(str(tmp_path / "features.nrrd"))
    shown = volumes.features["level4"]
    assert (shown.strongest[0] == sitk.GetArrayFromImage(image).T).all()
    first = RAS[:3, :3] @ np.array(image.TransformIndexToPhysicalPoint((0, 0, 0)))
    assert np.abs(first - shown.affine[:3, 3]).max() < 1e-4
    views = [each.get("references", "") for each in nodes(path) if each.tag == "SliceComposite"]
    over = [each for each in nodes(path) if each.get("foregroundVolumeID") == node.get("id")]
    assert full or over or any(node.get("id", "?") in each for each in views)


def test_hostile_text(make_atlas: Callable, tmp_path: Path) -> None:
    layers = [HOSTILE, "../../etc/passwd", "", "level1" * 100]
    made = make_atlas(layers, label=HOSTILE, facts={HOSTILE: HOSTILE, "device": "a;Medrecon.psnr:99%3B"})
    path = write_scene(tmp_path / "review.mrb", *made)
    assert faults(path) == []
    with zipfile.ZipFile(path) as bundle:
        for name in bundle.namelist():
            assert name.startswith("review/")
            assert ".." not in name
            assert len(name) < 100
    source = next(node for node in nodes(path) if node.tag == "Volume")
    pairs = [pair.partition(":")[::2] for pair in source.get("attributes", "").split(";")]
    assert dict(pairs)["Medrecon.device"] == "a%3BMedrecon.psnr:99%253B"
    assert "Medrecon.psnr" not in dict(pairs)


def test_same_content_same_bytes(make_atlas: Callable, tmp_path: Path) -> None:
    one, two = (write_scene(tmp_path / n, *make_atlas(2, maps=True)) for n in ("a.mrb", "b.mrb"))
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as bundle:
        packed = [bundle.read(n) for n in bundle.namelist() if n.endswith(".nrrd")]
    for content in packed:
        stream = content[content.index(b"\n\n") + 2 :]
        assert stream[4:8] == bytes(4), "no time in the gzip stream"
        gzip.decompress(stream)


def test_refusals(make_atlas: Callable, tmp_path: Path) -> None:
    scores, volumes = make_atlas(2)
    with pytest.raises(UsageError, match=r"\.mrb"):
        write_scene(tmp_path / "review.zip", scores, volumes)
    with pytest.raises(UsageError, match="any layer"):
        write_scene(tmp_path / "a.mrb", dataclasses.replace(scores, layers=()), volumes)
    short = dataclasses.replace(volumes, reconstructions={"level1": volumes.source})
    with pytest.raises(UsageError, match="no reconstruction of level2"):
        write_scene(tmp_path / "a.mrb", scores, short)
    cut = {name: v[1:] for name, v in volumes.reconstructions.items()}
    with pytest.raises(UsageError, match="for a scan of"):
        write_scene(tmp_path / "a.mrb", scores, dataclasses.replace(volumes, reconstructions=cut))
    sheared = volumes.affine @ np.array([[1, 0, 0.3, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    with pytest.raises(UsageError, match="sheared"):
        write_scene(tmp_path / "a.mrb", scores, dataclasses.replace(volumes, affine=sheared))
    assert list(tmp_path.iterdir()) == []


def test_whole_or_not_at_all(make_atlas: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_scene(tmp_path / "review.mrb", *make_atlas(1))
    before = path.read_bytes()
    with pytest.raises(OutputError, match="exists"):
        write_scene(path, *make_atlas(2))
    monkeypatch.setattr("medrecon.report.scene_writer.metrics", lambda scores: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_scene(path, *make_atlas(2), overwrite=True)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["review.mrb"]
    monkeypatch.undo()
    write_scene(path, *make_atlas(2), overwrite=True)
    assert path.read_bytes() != before


def test_planes_follow_the_acquisition() -> None:
    straight = np.diag([-0.7, -0.7, 1.0, 1.0])
    acquired, across = planes(straight, (64, 64, 40))
    assert (acquired.orientation, across.orientation) == ("Axial", "Coronal")
    sagittal = np.array([[0, 0, 4.0, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    acquired, across = planes(sagittal, (256, 256, 20))
    assert (acquired.orientation, across.orientation) == ("Sagittal", "Coronal")
    assert acquired.centre[0] == 40.0, "in the middle of a slice"
    assert acquired.step == 4.0


def test_oblique_planes_are_rotations_that_keep_the_sides(make_atlas: Callable) -> None:
    affine = make_atlas(1)[1].affine
    for plane, preset in zip(planes(affine, (14, 12, 7)), ("Axial", "Coronal"), strict=True):
        assert plane.orientation == ""
        assert np.allclose(plane.directions.T @ plane.directions, np.eye(3))
        assert plane.directions[0, 0] < -0.9, f"{preset}: patient's right on the left"
        voxel = np.linalg.inv(affine) @ np.append(plane.centre, 1)
        assert np.abs(voxel - np.rint(voxel))[2 if preset == "Axial" else 1] < 1e-9


def test_numbers_that_do_not_fit_stay_float() -> None:
    store = Store(np.zeros((2, 2, 2), np.int16), "HU")
    assert store.dtype(-1024, 3071) == np.int16
    assert store.dtype(-40000, 0) == np.float32
    assert store.dtype(float("nan"), 0) == np.float32
    assert Store(np.full((2, 2, 2), 0.5), "").dtype(0, 1) == np.float32
    assert [round_up(v) for v in (0, 0.011, 1, 17, 250, 99.95)] == [1, 0.015, 1, 20, 300, 100]


def test_memory_is_a_few_slices(make_atlas: Callable, tmp_path: Path) -> None:
    scores, volumes = make_atlas(2, shape=(128, 128, 160))
    tracemalloc.start()
    write_scene(tmp_path / "review.mrb", scores, volumes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.7 * volumes.source.nbytes, f"{peak / volumes.source.nbytes:.2f} volumes"
