"""The verbs `encode` and `decode`: what they write, what they say, and how they end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from .conftest import Run

Make = Callable[..., np.ndarray]


@pytest.fixture
def run(medrecon: Run, tiny_bundle: Path) -> Run:
    """Runs `medrecon VERB ... --bundle tiny`: exit code, stdout, stderr."""
    return lambda *words: medrecon(*words, "--bundle", tiny_bundle, "--device", "cpu")


def test_there_and_back(run: Run, tmp_path: Path, make_nifti: Make) -> None:
    make_nifti(tmp_path / "t1.nii.gz")
    features = tmp_path / "f.safetensors"
    code, out, err = run("encode", tmp_path / "t1.nii.gz", features, "-l", "coarse2,coarse4")
    assert code == 0
    assert "coarse2, coarse4 as float32: about 1.7 kB" in err  # (9 x 8 x 5 + 5 x 4 x 3) values of 4 bytes
    assert all(word in out for word in ("coarse2", "coarse4", "f.safetensors", "kB"))
    (tmp_path / "t1.nii.gz").unlink()
    code, out, err = run("decode", features, tmp_path / "out")
    assert (code, err) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["coarse2.nii.gz", "coarse4.nii.gz"]
    code, out, err = run("decode", features, tmp_path / "one.nii.gz", "-l", "coarse4", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["outputs"] == {"coarse4": str(tmp_path / "one.nii.gz")}
    image = nib.load(tmp_path / "one.nii.gz")
    assert image.header["sform_code"] == image.header["qform_code"] == 1


def test_the_loss_is_told(run: Run, tmp_path: Path, make_nifti: Make) -> None:
    make_nifti(tmp_path / "t1.nii.gz")
    arguments = (tmp_path / "t1.nii.gz", tmp_path / "f.safetensors", "--dtype", "int8", "--json")
    code, out, err = run("encode", *arguments)
    assert (code, err) == (0, "")
    (result,) = json.loads(out)["results"]
    (layer,) = result["layers"]
    assert layer["name"] == "coarse2"  # what the bundle's configuration names
    assert result["dtype"] == "int8"
    assert 1e-4 < layer["relative_error"] < 1e-2
    assert layer["psnr_cost"] == pytest.approx(layer["psnr_float32"] - layer["psnr"])
    code, out, _ = run("encode", *arguments[:-1], "--overwrite", "--no-measure")
    assert code == 0
    assert f"{layer['relative_error']:.2g}" in out


def test_several_scans_make_a_folder_and_one_that_fails_does_not_stop_the_rest(
    run: Run, tmp_path: Path, make_ct: Make
) -> None:
    make_ct(tmp_path / "in" / "a", description="whole", seed=1)
    make_ct(tmp_path / "in" / "b", description="gap", seed=2, leave_out=2)
    make_ct(tmp_path / "in" / "c", description="other", seed=3)
    code, out, err = run("encode", tmp_path / "in", tmp_path / "out", "--json", "--names-from-source")
    assert code == 8
    assert len(list((tmp_path / "out").iterdir())) == 2
    data = json.loads(out)
    assert len(data["results"]) == 2
    assert [fault["exit_code"] for fault in data["failed"]] == [3]
    assert str(tmp_path / "in" / "b") in err
    for result in data["results"]:
        target = tmp_path / f"series_{result['scan']}"
        code, _, err = run("decode", result["output"], target, "--source", tmp_path / "in" / "a")
        assert code == (0 if Path(result["path"]).name == "a" else 3), err


def test_a_derived_series(run: Run, tmp_path: Path, make_ct: Make) -> None:
    make_ct(tmp_path / "in")
    assert run("encode", tmp_path / "in", tmp_path / "f.safetensors")[0] == 0
    arguments = (tmp_path / "f.safetensors", tmp_path / "out")
    assert run("decode", *arguments, "--source", tmp_path / "in")[0] == 0
    assert len(list((tmp_path / "out").glob("*.dcm"))) == 6
    code, _, err = run("decode", tmp_path / "f.safetensors", tmp_path / "b", "--format", "dicom")
    assert code == 2
    assert "--source" in err


@pytest.mark.parametrize(
    ("verb", "arguments", "code", "said"),
    [
        ("encode", ("gap", "new.safetensors"), 3, "gap"),
        ("encode", ("nowhere", "new.safetensors"), 3, "nowhere"),
        ("encode", ("t1.nii.gz", "new.safetensors", "-l", "coarse3"), 4, "no layer 'coarse3': did you mean"),
        ("encode", ("t1.nii.gz", "new.safetensors", "-t", "int4"), 2, "int4"),
        ("encode", ("t1.nii.gz", "f.safetensors"), 5, "exists already"),
        ("encode", ("t1.nii.gz", "new.safetensors", "--encoder-weights", "w.pt"), 4, "no 'encoder_weights'"),
        ("decode", ("f.safetensors", "new.nii", "-l", "coarse4"), 4, "holds no layer 'coarse4'"),
        ("decode", ("cut.safetensors", "new.nii"), 4, "not a readable safetensors file"),
        ("decode", ("t1.nii.gz", "new.nii"), 4, "not a readable safetensors file"),
        ("decode", ("nowhere.safetensors", "new.nii"), 4, "no such feature file"),
        ("decode", ("f.safetensors", "f.safetensors/new.nii"), 5, "not a folder"),
        ("decode", ("f.safetensors", "new", "--source", "other"), 3, "cannot be told from others"),
        ("decode", ("f.safetensors", "new.nii", "-l", "coarse2,coarse2"), 2, "more than once"),
    ],
)
def test_one_line_and_an_exit_code(
    verb: str,
    arguments: tuple[str, ...],
    code: int,
    said: str,
    run: Run,
    tmp_path: Path,
    make_ct: Make,
    make_nifti: Make,
) -> None:
    make_nifti(tmp_path / "t1.nii.gz")
    make_ct(tmp_path / "gap", leave_out=2)
    make_ct(tmp_path / "other")
    assert run("encode", tmp_path / "t1.nii.gz", tmp_path / "f.safetensors")[0] == 0
    whole = (tmp_path / "f.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    before = sorted(tmp_path.rglob("*"))
    options = {"-l", "-t", "--encoder-weights", "--source", "--format"}
    given = [
        word
        if word.startswith("-") or (i and arguments[i - 1] in options - {"--source"})
        else tmp_path / word
        for i, word in enumerate(arguments)
    ]
    got, out, err = run(verb, *given, "--quiet")
    assert (got, out) == (code, ""), err
    assert said in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
