"""Error maps: what a result is off by, read back from the files that were written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medrecon.cli.app import main
from medrecon.errors import OutputError, UsageError
from medrecon.inference.error_map import check_error_maps, error_map_path
from medrecon.io import find_one, read_scan

Make = Callable[..., np.ndarray]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tiny_bundle: Path) -> Run:
    """Runs `medrecon reconstruct ... --error-map`: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["reconstruct", *map(str, arguments), "--error-map", "-b", str(tiny_bundle), "-d", "cpu"])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.mark.parametrize(
    ("output", "beside"),
    [
        ("out/CT_level3", "out/CT_level3_error.dcm"),
        ("CT v1.2", "CT v1.2_error.dcm"),
        ("t1.nii.gz", "t1_error.nii.gz"),
        ("a.b.NII", "a.b_error.NII"),
        ("t1.mha", "t1_error.mha"),
    ],
)
def test_the_name_stands_beside_the_result(output: str, beside: str) -> None:
    assert error_map_path(Path(output)) == Path(beside)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_of_a_file_it_is_a_volume_of_floats(run: Run, tmp_path: Path, make_nifti: Make, ending: str) -> None:
    values = make_nifti(tmp_path / "t1.nii.gz").astype(np.float64)
    code, _, err = run(tmp_path / "t1.nii.gz", tmp_path / f"r{ending}", "--layers", "coarse2")
    assert (code, err) == (0, "")
    result = read_scan(find_one(tmp_path / f"r{ending}")).astype(np.float64)
    error = read_scan(find_one(tmp_path / f"r_error{ending}"))
    assert error.dtype == np.float32
    np.testing.assert_allclose(error, result - values, atol=1e-4 * np.ptp(values))
    assert error.min() < 0 < error.max()


def test_of_a_series_it_is_a_parametric_map(run: Run, tmp_path: Path, make_ct: Make) -> None:
    pytest.importorskip("highdicom")
    values = make_ct(tmp_path / "ct")
    code, out, err = run(tmp_path / "ct", tmp_path / "out", "--layers", "input,coarse2,coarse4", "--json")
    assert (code, err) == (0, "")
    outputs = json.loads(out)["results"][0]["outputs"]
    assert set(outputs) == {"input", "coarse2", "coarse4", "coarse2 error", "coarse4 error"}
    numbers = set()
    for layer in ("coarse2", "coarse4"):
        kept = pydicom.dcmread(outputs[f"{layer} error"])
        numbers.add(int(kept.SeriesNumber))
        found = np.frombuffer(kept.FloatPixelData, "<f4").reshape(-1, kept.Rows, kept.Columns)
        result = read_scan(find_one(outputs[layer])).astype(np.float64)
        np.testing.assert_array_equal(found.transpose(2, 1, 0), result - values)
        numbers.add(int(pydicom.dcmread(next(Path(outputs[layer]).iterdir())).SeriesNumber))
    assert len(numbers) == 4, "no two series have one number"
    record = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {item["result"] for item in record["outputs"]} == set(outputs)


def test_what_cannot_be_written_is_refused_first(
    run: Run, tmp_path: Path, make_nifti: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_nifti(tmp_path / "t1.nii.gz")
    (tmp_path / "r_error.nii.gz").write_text("mine")
    code, _, err = run(tmp_path / "t1.nii.gz", tmp_path / "r.nii.gz", "--layers", "coarse2")
    assert code == 5
    assert "r_error.nii.gz" in err
    assert not (tmp_path / "r.nii.gz").exists()
    with pytest.raises(OutputError):
        check_error_maps([tmp_path / "r.nii.gz"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="highdicom"):
        check_error_maps([tmp_path / "series"])
