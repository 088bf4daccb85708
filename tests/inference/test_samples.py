"""Samples beside a reconstruction, read back from the files that were written."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

import medrecon
from medrecon.cli.app import main
from medrecon.errors import ModelError, OutputError, UsageError
from medrecon.inference.sample_files import sample_places
from medrecon.io import find_one, read_scan

from ..small_bundles import write_generative_bundle

Make = Callable[..., np.ndarray]
Run = Callable[..., tuple[int, str, str]]
LEVEL = "level4"


@pytest.fixture(scope="module")
def bundle(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of slices, small, with a generative decoder."""
    return write_generative_bundle(
        repo / "bundles" / "slice_autoencoder", tmp_path_factory.mktemp("bundle") / "slice_autoencoder"
    )


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], bundle: Path) -> Run:
    """Runs `medrecon reconstruct ...` with that bundle: exit code, stdout, stderr."""

    def call(*arguments: object, with_bundle: Path = bundle) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["reconstruct", *map(str, arguments), "-b", str(with_bundle), "-d", "cpu"])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.mark.parametrize(
    ("output", "first", "spread"),
    [
        ("out/CT", "out/CT_samples/sample_1", "out/CT_samples/standard_deviation.dcm"),
        ("CT v1.2", "CT v1.2_samples/sample_1", "CT v1.2_samples/standard_deviation.dcm"),
        ("t1.nii.gz", "t1_samples/sample_1.nii.gz", "t1_samples/standard_deviation.nii.gz"),
        ("a.b.MHA", "a.b_samples/sample_1.MHA", "a.b_samples/standard_deviation.MHA"),
    ],
)
def test_the_names_stand_beside_the_result(output: str, first: str, spread: str) -> None:
    places = sample_places(Path(output), 9)
    assert places["sample 1"] == Path(first)
    assert places["standard deviation"] == Path(spread)
    assert len(set(places.values())) == 11
    assert sample_places(Path("x"), 10)["sample 1"].name == "sample_01"


def test_a_series_gets_series_that_say_what_they_are(run: Run, tmp_path: Path, make_ct: Make) -> None:
    pytest.importorskip("highdicom")
    make_ct(tmp_path / "ct", (36, 30, 4))
    asked = ("-l", f"{LEVEL},level5", "--samples", "3", "--seed", "1", "--json")
    code, out, err = run(tmp_path / "ct", tmp_path / "out", *asked)
    assert (code, err) == (0, "")
    (result,) = json.loads(out)["results"]
    outputs = {name: Path(path) for name, path in result["outputs"].items()}
    parts = ["sample 1", "sample 2", "sample 3", "mean", "standard deviation"]
    assert set(outputs) == {
        *(LEVEL, "level5"),
        *(f"{level} {part}" for level in (LEVEL, "level5") for part in parts),
    }
    images = {
        name: pydicom.dcmread(path if path.is_file() else path / "IM00002.dcm")
        for name, path in outputs.items()
    }
    for keyword in ("SeriesInstanceUID", "SOPInstanceUID", "SeriesNumber", "SeriesDescription"):
        assert len({image[keyword].value for image in images.values()}) == len(images), keyword
    one = images[f"{LEVEL} sample 3"]
    assert one.SeriesDescription == f"medrecon {LEVEL} sample 3 of 3: Chest 1.0"
    for words in ("Sample 3 of 3: generated, not measured", "seed 1, 8 steps", "not for diagnosis"):
        assert words in one.DerivationDescription
    assert one.SyntheticData == "YES"
    assert "SyntheticData" not in images[LEVEL]
    assert one.Modality == "CT"
    assert one.FrameOfReferenceUID == pydicom.dcmread(next((tmp_path / "ct").iterdir())).FrameOfReferenceUID
    record = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert record["seeds"] == {"samples": 1}
    asked_for = record["config"]["samples"]
    assert (asked_for["count"], asked_for["steps"], asked_for["corrections"]) == (3, 8, 2)
    assert len(asked_for["generative_weights_sha256"]) == 64
    told = {item["result"]: item.get("feature_distance") for item in record["outputs"]}
    assert {name: told[name] for name in told if told[name] is not None} == result["feature_distances"]
    assert set(result["feature_distances"]) == {
        *(LEVEL, "level5"),
        *(f"{level} {part}" for level in (LEVEL, "level5") for part in parts[:3]),
    }


@pytest.mark.parametrize("kind", ["dicom", "nifti"])
def test_mean_and_standard_deviation_are_those_of_the_samples(
    run: Run, tmp_path: Path, make_ct: Make, make_nifti: Make, kind: str
) -> None:
    if kind == "dicom":
        pytest.importorskip("highdicom")
        make_ct(tmp_path / "in", (36, 30, 4))
        output = tmp_path / "r"
    else:
        make_nifti(tmp_path / "in.nii.gz")
        output = tmp_path / "r.nii.gz"
    source = tmp_path / ("in" if kind == "dicom" else "in.nii.gz")
    assert run(source, output, "-l", LEVEL, "--samples", "4")[0] == 0
    places = sample_places(output, 4)
    samples = np.stack([read_scan(find_one(places[f"sample {n}"])).astype(np.float64) for n in range(1, 5)])
    mean = read_scan(find_one(places["mean"]))
    if kind == "dicom":
        image = pydicom.dcmread(places["standard deviation"])
        shape = (-1, image.Rows, image.Columns)
        spread = np.frombuffer(image.FloatPixelData, "<f4").reshape(shape).transpose(2, 1, 0)
        assert image.SeriesDescription == f"medrecon {LEVEL} standard deviation of 4 samples"
        assert image.ContentLabel == "DEVIATION"
    else:
        spread = read_scan(find_one(places["standard deviation"]))
        assert spread.dtype == np.float32
    # files hold whole numbers, and the sums were made before they were rounded
    assert np.abs(mean - samples.mean(0)).max() <= 1
    assert np.abs(spread - samples.std(0, ddof=1)).max() <= 0.6
    assert spread.mean() > 3


def voxels(folder: Path) -> dict[str, np.ndarray]:
    return {place.name: read_scan(find_one(place)) for place in sorted(folder.iterdir())}


def test_a_seed_draws_the_same_samples_whatever_their_number(
    run: Run, tmp_path: Path, make_nifti: Make
) -> None:
    make_nifti(tmp_path / "t1.nii.gz")
    for name, count, seed in (("a", 2, 5), ("b", 2, 5), ("c", 3, 5), ("d", 2, 6)):
        options = ("--samples", count, "--seed", seed)
        assert run(tmp_path / "t1.nii.gz", tmp_path / f"{name}.nii.gz", "-l", LEVEL, *options)[0] == 0
    a, b, c, d = (voxels(tmp_path / f"{name}_samples") for name in "abcd")
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert np.array_equal(a["sample_2.nii.gz"], c["sample_2.nii.gz"])
    assert not any(np.array_equal(a[name], d[name]) for name in a)
    assert not np.array_equal(a["sample_1.nii.gz"], a["sample_2.nii.gz"])


def test_in_python_they_are_the_same_and_are_saved(
    run: Run, bundle: Path, tmp_path: Path, make_nifti: Make
) -> None:
    make_nifti(tmp_path / "t1.nii.gz")
    told: list[tuple[int, int]] = []
    made = medrecon.reconstruct(
        tmp_path / "t1.nii.gz",
        LEVEL,
        bundle=bundle,
        device="cpu",
        samples=2,
        seed=3,
        progress=lambda done, of: told.append((done, of)),
    )
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]
    places = made.save(tmp_path / "p.nii.gz")
    assert set(places) == {
        *(LEVEL, f"{LEVEL} sample 1", f"{LEVEL} sample 2"),
        *(f"{LEVEL} mean", f"{LEVEL} standard deviation"),
    }
    assert (
        run(tmp_path / "t1.nii.gz", tmp_path / "c.nii.gz", "-l", LEVEL, "--samples", 2, "--seed", 3)[0] == 0
    )
    ours, theirs = voxels(tmp_path / "p_samples"), voxels(tmp_path / "c_samples")
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    spread = np.stack([s.volume for s in made.samples[LEVEL].drawn]).std(0, ddof=1)
    np.testing.assert_allclose(made.samples[LEVEL].deviation, spread, atol=1e-3 * spread.max())
    with pytest.raises(OutputError, match="exists"):
        made.save(tmp_path / "p.nii.gz")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("-l", "input", "--samples", "2"), 4, "no generative decoder for 'input'"),
        (("-l", f"{LEVEL},level1", "--samples", "2"), 4, "no generative decoder for 'level1'"),
        (("-l", f"{LEVEL}+level5", "--samples", "2"), 4, f"no generative decoder for '{LEVEL}+level5'"),
        (("-l", LEVEL, "--samples", "1"), 2, "--samples"),
        (("-l", LEVEL, "--samples", "2", "--seed", "-1"), 2, "--seed"),
        (("-l", LEVEL, "--seed", "1"), 2, "--seed is of samples"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_line(
    run: Run, tmp_path: Path, make_nifti: Make, arguments: tuple[str, ...], code: int, words: str
) -> None:
    make_nifti(tmp_path / "t1.nii.gz")
    ended, out, err = run(tmp_path / "t1.nii.gz", tmp_path / "out", *arguments)
    assert (ended, out) == (code, "")
    assert words in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["t1.nii.gz"]


def test_a_bundle_that_cannot_draw_is_refused_in_a_line(
    run: Run, bundle: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, make_nifti: Make
) -> None:
    make_nifti(tmp_path / "t1.nii.gz")
    asked = (tmp_path / "t1.nii.gz", tmp_path / "r.nii.gz", "-l", LEVEL, "--samples", "2")
    code, _, err = run(*asked, with_bundle="volume_transform_code")
    assert code == 4
    assert "no generative decoder" in err
    other = tmp_path_factory.mktemp("other") / "slice_autoencoder"
    write_generative_bundle(bundle, other)
    state = torch.load(other / "models" / "model.pt", weights_only=True)
    name = next(key for key, value in state.items() if value.is_floating_point())
    state[name] += 1e-3
    torch.save(state, other / "models" / "model.pt")
    code, _, err = run(*asked, with_bundle=other)
    assert code == 4
    assert "other weights" in err
    (other / "models" / "generative.pt").unlink()
    code, _, err = run(*asked, with_bundle=other)
    assert code == 4
    assert "no generative decoder" in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["t1.nii.gz"]


def test_a_place_that_is_taken_is_refused_first(
    run: Run, tmp_path: Path, make_nifti: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_nifti(tmp_path / "t1.nii.gz")
    (tmp_path / "r_samples").mkdir()
    (tmp_path / "r_samples" / "mean.nii.gz").write_text("mine")
    asked = (tmp_path / "t1.nii.gz", tmp_path / "r.nii.gz", "-l", LEVEL, "--samples", "2")
    code, _, err = run(*asked)
    assert code == 5
    assert "mean.nii.gz" in err
    assert not (tmp_path / "r.nii.gz").exists()
    code, out, _ = run(*asked, "--overwrite", "--dry-run", "--json")
    assert code == 0
    (planned,) = json.loads(out)["planned"]
    assert planned["samples"][f"{LEVEL} mean"] == str(tmp_path / "r_samples" / "mean.nii.gz")
    assert (tmp_path / "r_samples" / "mean.nii.gz").read_text() == "mine"
    assert run(*asked, "--overwrite")[0] == 0
    assert find_one(tmp_path / "r_samples" / "mean.nii.gz").shape == find_one(tmp_path / "t1.nii.gz").shape
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    from medrecon.inference.sample_files import check_sample_places

    with pytest.raises(UsageError, match="highdicom"):
        check_sample_places([tmp_path / "series"], 2)


def test_a_disk_that_fills_up_leaves_whole_outputs_alone(
    run: Run, tmp_path: Path, make_ct: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("highdicom")
    from medrecon.io.dicom.writing import writer

    make_ct(tmp_path / "ct", (36, 30, 4))
    write, files = writer._write, []

    def full(file: Path, *rest: object) -> str:
        files.append(file)
        if len(files) > 10:  # of 4 slices each: in the middle of the second sample
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, *rest)

    monkeypatch.setattr(writer, "_write", full)
    code, _, err = run(tmp_path / "ct", tmp_path / "out", "-l", LEVEL, "--samples", "3")
    assert code == 5
    assert "No space left" in err
    left = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_dir())
    assert [str(path) for path in left] == ["ct", "out", "out_samples", "out_samples/sample_1"]
    assert len(list((tmp_path / "out_samples" / "sample_1").iterdir())) == 4


def test_an_error_map_is_of_results_alone(run: Run, tmp_path: Path, make_nifti: Make) -> None:
    make_nifti(tmp_path / "t1.nii.gz")
    asked = ("-l", LEVEL, "--samples", "2", "--error-map", "--json")
    code, out, _ = run(tmp_path / "t1.nii.gz", tmp_path / "r.nii.gz", *asked)
    assert code == 0
    outputs = json.loads(out)["results"][0]["outputs"]
    assert [name for name in outputs if name.endswith("error")] == [f"{LEVEL} error"]


def test_the_library_refuses_as_the_command_does(bundle: Path, tmp_path: Path, make_nifti: Make) -> None:
    make_nifti(tmp_path / "t1.nii.gz")
    for options, error in (({"samples": 1}, UsageError), ({"samples": 2, "seed": -1}, UsageError)):
        with pytest.raises(error):
            medrecon.reconstruct(tmp_path / "t1.nii.gz", LEVEL, bundle=bundle, device="cpu", **options)
    with pytest.raises(ModelError):
        medrecon.reconstruct(tmp_path / "t1.nii.gz", "level1", bundle=bundle, device="cpu", samples=2)


def test_a_feature_file_gives_the_samples_of_its_scan(
    run: Run, capsys: pytest.CaptureFixture[str], bundle: Path, tmp_path: Path, make_nifti: Make
) -> None:
    """The same seed draws from the features what it draws beside the scan, and the scan is not needed."""
    make_nifti(tmp_path / "in.nii.gz")

    def call(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments), "-b", str(bundle), "-d", "cpu"])
        return int(ended.value.code or 0), "".join(capsys.readouterr())

    file, drawn = tmp_path / "f.safetensors", ("--samples", "2", "--seed", "4")
    assert run(tmp_path / "in.nii.gz", tmp_path / "r.nii.gz", "-l", LEVEL, *drawn)[0] == 0
    assert call("encode", tmp_path / "in.nii.gz", file, "-l", LEVEL)[0] == 0
    (tmp_path / "in.nii.gz").unlink()
    code, said = call("decode", file, tmp_path / "d.nii.gz", *drawn)
    assert code == 0, said
    one, other = (sample_places(tmp_path / name, 2) for name in ("r.nii.gz", "d.nii.gz"))
    for name in one:
        made, again = (read_scan(find_one(places[name])).astype(np.float64) for places in (one, other))
        assert np.abs(made - again).max() <= 1, name
        assert made.std() > 0
    code, said = call("decode", file, tmp_path / "e.nii.gz", "--samples", "1")
    assert code == 2
    code, said = call("decode", file, tmp_path / "e.nii.gz", "--seed", "1")
    assert (code, "none are asked for" in said) == (2, True)
    assert not (tmp_path / "e.nii.gz").exists()
    (bundle / "models" / "generative.pt").rename(tmp_path / "generative.pt")
    try:
        code, said = call("decode", file, tmp_path / "e.nii.gz", *drawn)
    finally:
        (tmp_path / "generative.pt").rename(bundle / "models" / "generative.pt")
    assert (code, "has no generative decoder" in said) == (4, True)


@pytest.mark.slow
def test_a_killed_run_leaves_whole_samples_and_the_next_gives_the_same_bytes(
    bundle: Path, tmp_path: Path, make_nifti: Make
) -> None:
    make_nifti(tmp_path / "in.nii.gz")

    def start(output: str, count: int, *more: str) -> subprocess.Popen[bytes]:
        asked = ["reconstruct", "in.nii.gz", output, "-l", LEVEL, "--samples", str(count), "--seed", "2"]
        command = [sys.executable, "-m", "medrecon", *asked, "-b", str(bundle), "-d", "cpu", *more]
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    killed, places = start("r.nii.gz", 300), sample_places(tmp_path / "r.nii.gz", 300)
    while killed.poll() is None and not places["sample 2"].exists():
        time.sleep(0.02)
    killed.kill()
    said = killed.communicate()[0].decode()
    assert killed.returncode == -signal.SIGKILL, said
    there = sorted(path for path in places["mean"].parent.iterdir() if path.name.startswith("sample_"))
    assert 2 <= len(there) < 300
    assert not places["mean"].exists()
    left = {path.name: read_scan(find_one(path)) for path in there}  # each is whole

    again = start("r.nii.gz", 4, "--overwrite")
    assert again.wait() == 0, again.communicate()[0].decode()
    fresh = start("s.nii.gz", 4)
    assert fresh.wait() == 0, fresh.communicate()[0].decode()
    for name, path in sample_places(tmp_path / "r.nii.gz", 4).items():
        assert path.read_bytes() == sample_places(tmp_path / "s.nii.gz", 4)[name].read_bytes(), name
    for number in (1, 2):
        made = read_scan(find_one(sample_places(tmp_path / "s.nii.gz", 4)[f"sample {number}"]))
        assert np.array_equal(made, left[f"sample_{number:03d}.nii.gz"])
