"""The way of one scan through a bundle's own components."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread

from medrecon.errors import ModelError, OutputError, UsageError
from medrecon.inference.pipeline import Pipeline, Record
from medrecon.io import find_scans, read_scan
from medrecon.io.scan import Scan

Make = Callable[..., np.ndarray]


def test_a_series_goes_through_and_comes_back(tiny_bundle: Path, tmp_path: Path, make_ct: Make) -> None:
    values = make_ct(tmp_path / "in" / "series")
    (scan,) = find_scans(tmp_path / "in").scans
    pipeline = Pipeline.from_bundle(
        tiny_bundle,
        scans=[scan],
        output=tmp_path / "out",
        layers="input,coarse2,coarse2+coarse4",
        device="cpu",
    )
    ticks: list[tuple[int, int]] = []
    record = pipeline.run(scan, progress=lambda done, of: ticks.append((done, of)))
    assert ticks == [(1, 3), (2, 3), (3, 3)]
    assert list(record.outputs) == ["input", "coarse2", "coarse2+coarse4"]
    assert 0 <= record.network_seconds <= record.seconds

    (same,) = find_scans(record.outputs["input"]).scans
    assert np.array_equal(read_scan(same), values)
    assert np.abs(same.affine - scan.affine).max() < 1e-6

    (coarse,) = find_scans(record.outputs["coarse2"]).scans
    expected = values.astype(float).reshape(10, 2, 12, 2, 3, 2).mean(axis=(1, 3, 5))
    expected = expected.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    assert np.abs(read_scan(coarse) - expected).max() <= 0.51
    assert np.abs(coarse.affine - scan.affine).max() < 1e-6


def test_many_scans_one_of_which_goes_away(tiny_bundle: Path, tmp_path: Path, make_nifti: Make) -> None:
    """Each gets its own record and its own notes, as if it went alone."""
    for number in range(4):
        make_nifti(tmp_path / "in" / f"{number}.nii.gz", seed=number)
    flat = nib.Nifti1Image(np.full((8, 8, 8), 7, np.int16), np.eye(4))
    nib.save(flat, tmp_path / "in" / "2.nii.gz")
    scans = find_scans(tmp_path / "in").scans
    (tmp_path / "in" / "1.nii.gz").unlink()
    seen: list[str] = []

    def made(overlapping: bool) -> list[tuple[str, str, bytes]]:
        output = tmp_path / f"out{overlapping}"
        pipeline = Pipeline.from_bundle(
            tiny_bundle, scans=scans, output=output, layers="coarse2", device="cpu"
        )
        if overlapping:
            outcomes = list(pipeline.run_each(scans, lambda scan: nullcontext(seen.append(scan.path.name))))
        else:
            outcomes = [(scan, attempt(pipeline, scan)) for scan in scans]
        assert [scan for scan, _ in outcomes] == list(scans)
        broken = [outcome for _, outcome in outcomes if isinstance(outcome, Exception)]
        assert len(broken) == 1
        assert "1.nii.gz" in str(broken[0].__cause__ or broken[0])
        records = [outcome for _, outcome in outcomes if isinstance(outcome, Record)]
        return [
            (record.scan.path.name, " ".join(record.notes), record.outputs["coarse2"].read_bytes())
            for record in records
        ]

    alone, overlapped = made(False), made(True)
    assert overlapped == alone
    assert seen == ["0.nii.gz", "2.nii.gz", "3.nii.gz"]
    assert ["all voxels have the same value" in notes for _, notes, _ in alone] == [False, True, False]


def attempt(pipeline: Pipeline, scan: Scan) -> Record | Exception:
    try:
        return pipeline.run(scan)
    except Exception as error:
        return error


def test_names_with_a_meaning_for_monai_are_taken_as_they_are(
    tiny_bundle: Path, tmp_path: Path, make_nifti: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MONAI runs configuration texts that start with "$", and rewrites "@", "%" and "#"."""
    monkeypatch.chdir(tmp_path)
    name = "$open('planted','w').nii.gz"
    values = make_nifti(Path(name))
    scans = find_scans(name).scans
    output = Path("@scans#1 %out.nii.gz")
    pipeline = Pipeline.from_bundle(tiny_bundle, scans=scans, output=output, layers="input", device="cpu")
    assert pipeline.bundle.build("dataset_dir") == scans[0].path
    record = pipeline.run(scans[0])
    assert not Path("planted").exists()
    assert record.outputs["input"].resolve() == output.resolve()
    assert np.array_equal(read_scan(find_scans(output).scans[0]), values)


def test_an_unknown_layer_names_the_near_ones(tiny_bundle: Path, tmp_path: Path, make_nifti: Make) -> None:
    make_nifti(tmp_path / "a.nii.gz")
    scans = find_scans(tmp_path / "a.nii.gz").scans
    with pytest.raises(ModelError, match="no layer 'corse2': did you mean 'coarse2'") as refused:
        Pipeline.from_bundle(tiny_bundle, scans=scans, output=tmp_path / "out", layers="corse2")
    assert "use coarse2, coarse4 or input" in str(refused.value)


def test_an_output_that_exists_is_refused_before_anything_is_read(
    tiny_bundle: Path, tmp_path: Path, make_nifti: Make
) -> None:
    make_nifti(tmp_path / "a.nii.gz")
    (tmp_path / "b.nii.gz").write_bytes(b"precious")
    scans = find_scans(tmp_path / "a.nii.gz").scans
    with pytest.raises(OutputError):
        Pipeline.from_bundle(tiny_bundle, scans=scans, output=tmp_path / "b.nii.gz", layers="input")
    assert (tmp_path / "b.nii.gz").read_bytes() == b"precious"


def test_no_scan_is_a_mistake(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no scan"):
        Pipeline.from_bundle(tiny_bundle, scans=[], output=tmp_path / "out", layers="input")


def test_a_pipeline_goes_on_to_other_scans_as_a_new_one_would(
    tiny_bundle: Path, tmp_path: Path, make_ct: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each output is a new one's, byte for byte but for the time of its making; no file is read again."""
    from medrecon.bundle import config

    scans = []
    for number in range(3):
        make_ct(tmp_path / str(number), seed=number)
        scans += find_scans(tmp_path / str(number)).scans

    def new(scan: Scan, output: Path, revision: str = "") -> Pipeline:
        words = {"scans": [scan], "output": output, "layers": "coarse2,input", "device": "cpu"}
        return Pipeline.from_bundle(tiny_bundle, revision=revision, **words)  # type: ignore[arg-type]

    def written(record: Record) -> list[tuple[str, str, bytes]]:
        files = [dcmread(path) for name in record.outputs for path in sorted(record.outputs[name].iterdir())]
        return [(str(f.SOPInstanceUID), str(f.SeriesDescription), f.PixelData) for f in files]

    expected = [
        written(new(scan, tmp_path / f"new{k}", "abc" * (k == 2)).run(scan)) for k, scan in enumerate(scans)
    ]
    pipeline = new(scans[0], tmp_path / "a0")
    network = pipeline.network
    made = [written(pipeline.run(scans[0]))]
    monkeypatch.setattr(config, "_load", None)
    for k in (1, 2):
        pipeline = pipeline.for_others([scans[k]], tmp_path / f"a{k}", "abc" * (k == 2))
        assert pipeline.network is network
        made.append(written(pipeline.run(scans[k])))
    assert made == expected
    with pytest.raises(OutputError, match="exists"):
        pipeline.for_others([scans[1]], tmp_path / "a1")
    with pytest.raises(UsageError, match="no scan"):
        pipeline.for_others([], tmp_path / "none")
