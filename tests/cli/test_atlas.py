"""The verb `atlas` with a network small enough to be seen through: one scan, several, comparisons."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import nibabel as nib
import numpy as np
import pytest

from medrecon.atlas.output import read_scores
from medrecon.evaluation import fidelity
from medrecon.evaluation.codecs import codecs
from medrecon.io import find_one, read_scan

from .conftest import Run

Make = Callable[..., np.ndarray]
SHAPE = (40, 36, 18)


@pytest.fixture
def run(medrecon: Run, tiny_bundle: Path) -> Run:
    """Runs `medrecon atlas ... --bundle tiny`: exit code, stdout, stderr."""

    last = ("--bundle", tiny_bundle, "--device", "cpu", "--no-viewer")
    return lambda *words: medrecon("atlas", *words, *last)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A smooth body with structure in noise, integers, oblique."""
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    body = (x**2 + y**2 < 0.7) * (600 + 300 * np.sin(9 * x) * np.cos(7 * y + 3 * z))
    values = np.clip(body + rng.normal(0, 12, SHAPE) + 30, 0, None).round().astype(np.int16)
    path = tmp_path / "scan.nii"
    nib.save(nib.Nifti1Image(values, np.diag([0.9, 0.9, 2.0, 1])), path)
    return path


@pytest.mark.usefixtures("without_pictures")
def test_a_note_of_the_scan_is_said_once(run, scan, tmp_path):
    with scan.open("r+b") as file:  # scl_slope 0, which leaves scl_inter unused
        file.seek(112)
        file.write(np.array([0, 5], dtype="<f4").tobytes())
    code, _, err = run(scan, tmp_path / "out", "--layers", "coarse2")
    lines = err.splitlines()
    assert code == 0
    assert "scl_inter" in err
    assert len(lines) == len(set(lines)), err
    (scores,) = read_scores(tmp_path / "out")
    assert len(scores.warnings) == len(set(scores.warnings))


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize(("asked", "full"), [((), False), (("--full-scene",), True)])
def test_scene_is_small_unless_a_full_one_is_asked_for(asked, full, run, scan, tmp_path, monkeypatch):
    given = []

    def write(path: Path, *_: object, **said: object) -> Path:
        given.append(said["full"])
        path.write_text("stands in")
        return path

    monkeypatch.setattr("medrecon.report.scene.write_scene", write)
    assert run(scan, tmp_path / "out", "--layers", "coarse2", *asked)[0] == 0
    assert given == [full]


@pytest.mark.usefixtures("coarse_pictures")
def test_one_scan(run, scan, tmp_path):
    code, out, err = run(scan, tmp_path / "out", "--layers", "coarse2,coarse4,coarse2+coarse4")
    assert (code, err) == (0, "")
    assert "coarse2+coarse4" in out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"metrics.json", "metrics.csv", "report.html", "review.mrb", "figures"}
    assert any((tmp_path / "out" / "figures").glob("*.svg"))
    (scores,) = read_scores(tmp_path / "out")
    fine, coarse, joined = scores.layers
    source = np.asarray(nib.load(scan).dataobj)
    means = source.reshape(20, 2, 18, 2, 9, 2).mean(axis=(1, 3, 5))
    recon = np.rint(means.repeat(2, 0).repeat(2, 1).repeat(2, 2))
    expected = fidelity(source, recon, units="")
    assert fine.psnr == pytest.approx(expected.psnr, abs=0.01)
    assert fine.ssim == pytest.approx(expected.ssim, abs=1e-3)
    assert fine.mae == pytest.approx(np.abs(recon - source).mean(), rel=1e-3)
    assert (fine.values_per_voxel, coarse.values_per_voxel) == (1 / 8, 1 / 64)
    assert joined.values_per_voxel == 1 / 8 + 1 / 64
    assert 0.5 / 8 < fine.bits_per_voxel <= 1
    assert (fine.channels, fine.stride, joined.stride) == (1, (2, 2, 2), None)
    assert coarse.psnr < fine.psnr
    assert coarse.spectrum.limit < fine.spectrum.limit
    for layer in scores.layers:
        controls = {control.name: control for control in layer.controls}
        code = {"transform code"} if layer is coarse else set()  # level5 holds as many values
        assert set(controls) == {"mean image", "shuffled features", "linear code", "identity"} | code
        assert not code or controls["transform code"].psnr > controls["linear code"].psnr + 1
        assert controls["identity"].mae == 0
        assert controls["mean image"].psnr < layer.psnr - 3
        assert controls["shuffled features"].psnr < layer.psnr - 3
        assert 0.85 < layer.coverage < 0.95
        assert layer.interval > 0
        assert layer.regions["body"].voxels < source.size
        assert set(layer.codecs) == {codec.name for codec in codecs()}
    with (tmp_path / "out" / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["layer"] for row in rows] == [layer.layer for layer in scores.layers]
    assert float(rows[0]["mean image psnr"]) < float(rows[0]["psnr"])


@pytest.mark.usefixtures("without_pictures")
def test_a_mask_on_the_grid_is_a_region_and_another_is_refused(run, scan, tmp_path):
    source = nib.load(scan)
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:20, 10:20, 5:9] = 1
    nib.save(nib.Nifti1Image(mask, source.affine), tmp_path / "lesion.nii")
    code, out, err = run(
        scan, tmp_path / "out", "--layers", "coarse4", "--roi", tmp_path / "lesion.nii", "--json"
    )
    assert (code, err) == (0, "")
    layer = json.loads(out)["scans"][0]["layers"][0]
    assert layer["regions"]["roi"]["voxels"] == 400
    assert layer["told"] is None
    assert any("too small for a read-out" in text for text in json.loads(out)["scans"][0]["warnings"])
    nib.save(nib.Nifti1Image(mask, np.diag([0.9, 0.9, 2.1, 1])), tmp_path / "other.nii")
    code, _, err = run(scan, tmp_path / "b", "-l", "coarse4", "--roi", tmp_path / "other.nii")
    assert code == 3
    assert "grid" in err
    assert not (tmp_path / "b").exists()


@pytest.mark.usefixtures("without_pictures")
def test_several_scans_one_of_them_broken(run, tmp_path, make_ct: Make):
    for number in range(2):
        make_ct(tmp_path / "in" / str(number), description=f"Chest {number}", seed=number, shape=(32, 32, 8))
    (tmp_path / "in" / "broken.nii").write_bytes(b"\x5c\x01\x00\x00" + bytes(400))
    code, out, err = run(tmp_path / "in", tmp_path / "out", "--layers", "coarse2", "--json")
    assert code == 8
    assert "broken.nii" in err
    data = json.loads(out)
    assert len(data["scans"]) == 2
    assert len(data["failed"]) == 1
    assert {path.name for path in (tmp_path / "out" / "summary").iterdir()} >= {
        "summary.json",
        "summary.csv",
        "metrics.csv",
        "index.html",
    }
    index = tmp_path / "out" / "summary" / "index.html"
    text = index.read_text(encoding="utf-8")
    links = [unquote(link) for link in re.findall(r'href="([^"#]+)"', text)]
    assert len(links) == 2
    assert all((index.parent / link).is_file() for link in links)
    assert "broken.nii" not in text, "a page that is handed on names no source"
    assert data["failed"][0]["message"][:40] in unescape(text)
    assert str(tmp_path) not in text
    summary = json.loads((tmp_path / "out" / "summary" / "summary.json").read_text())
    assert (summary["scans"], summary["patients"]) == (2, 1)  # the same PatientID in both
    assert "ID-4711" not in "".join(p.read_text() for p in (tmp_path / "out").rglob("*.json"))
    parquet = (tmp_path / "out" / "summary" / "metrics.parquet").is_file()
    assert summary["parquet"] == ("metrics.parquet" if parquet else "not written: needs pyarrow")
    assert all(Path(scan["output"], "report.html").is_file() for scan in data["scans"])


def test_an_output_that_is_there_is_refused_before_any_work(run, scan, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    code, _, err = run(scan, tmp_path / "out", "-l", "coarse2")
    assert code == 5
    assert "exists" in err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--layers", "input"], 2, "identity"),
        (["--layers", "coarse9"], 4, "coarse9"),
        (["--encoder-weights", "x.pt"], 4, "encoder_weights"),
    ],
)
def test_what_makes_no_sense_is_refused(run, scan, tmp_path, arguments, code, said):
    found, _, err = run(scan, tmp_path / "out", *arguments)
    assert found == code
    assert said in err
    assert not (tmp_path / "out").exists()
    assert run(scan)[0] == 2


@pytest.mark.usefixtures("without_pictures")
def test_two_outputs_and_two_bundles_are_compared(run, scan, tmp_path, tiny_bundle):
    bundles = (tiny_bundle, tiny_bundle)
    code, out, err = run(scan, tmp_path / "two", "-l", "coarse2,coarse4", "--compare", *bundles, "--json")
    assert (code, err) == (0, "")
    same = json.loads(out)
    assert {row["difference"] for row in same["results"]} == {0}
    assert {p.name for p in (tmp_path / "two").iterdir()} == {"a", "b", "comparison"}
    pair = (tmp_path / "two" / "a", tmp_path / "two" / "b")
    code, _, err = run(tmp_path / "again", "--compare", *pair)
    assert (code, err) == (0, "")
    assert (tmp_path / "again" / "comparison.png").is_file()
    code, _, err = run(tmp_path / "third", "--compare", pair[0], "no_such")
    assert code == 2
    assert "two bundles" in err


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.usefixtures("without_pictures")
def test_the_interval_holds_and_controls_behave_on_a_scan_that_training_did_not_see(
    shared_dir, tmp_path, medrecon
):
    whole = find_one(shared_dir / "data" / "real" / "mr_pd_fse_brain_oblique_ge_signa_256x256x19_dicom")
    source = tmp_path / "middle.nii.gz"  # a quarter of it: the head fills it
    nib.save(nib.Nifti1Image(read_scan(whole)[64:192, 64:192], whole.affine), source)
    bundle = ("--bundle", "volume_transform_code")
    code, out, err = medrecon("atlas", source, tmp_path / "out", *bundle, "--device", "cpu", "--json")
    assert code == 0, err
    (scan,) = json.loads(out)["scans"]
    assert [layer["layer"] for layer in scan["layers"]] == [f"level{k}" for k in range(1, 6)]
    for layer in scan["layers"][1:]:
        controls = {control["name"]: control["psnr"] for control in layer["controls"]}
        assert abs(layer["coverage"] - 0.9) < 0.05
        assert layer["psnr"] > max(controls["mean image"], controls["shuffled features"]) + 5
        assert "random weights" not in controls  # the encoder has none
        assert layer["psnr"] > controls["linear code"]
        assert controls["identity"] is None
    psnr = [layer["psnr"] or 999 for layer in scan["layers"]]
    assert psnr == sorted(psnr, reverse=True)
    for curve in scan["codec_curves"].values():
        assert curve == sorted(curve)
        assert [point[1] for point in curve] == sorted(point[1] for point in curve)
