"""The last transform of a pipeline, as the bundles use it."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import LoadImaged

from medrecon.errors import OutputError
from medrecon.io import Derivation, SaveReconstructiond, find_one, find_scans, plan_outputs, read_scan

RESULTS = ["level3", "input", "level2+level4"]
DERIVATION = {
    name: Derivation("tiny", "0.1.0", "cd" * 32, name, lossy=name != "input", values_per_voxel=None)
    for name in RESULTS
}


def item(scan, results: list[str] = RESULTS) -> dict:
    load = LoadImaged(keys="image", reader="medrecon.io.ScanReader", dtype=None, ensure_channel_first=True)
    loaded = load({"image": scan})
    pred = torch.cat([loaded["image"].float() * 0.5 + 3 * index for index in range(len(results))])
    pred.meta = loaded["image"].meta
    return {**loaded, "pred": pred}


def save(scan, output, results=RESULTS, **options):
    plan = plan_outputs([scan], results, output, overwrite=options.get("overwrite", False))
    return SaveReconstructiond(targets=plan, results=results, derivation=DERIVATION, **options)(
        item(scan, results)
    )


def test_each_result_has_its_series(tmp_path, make_series):
    make_series(tmp_path / "ct")
    scan = find_one(tmp_path / "ct")
    done = save(scan, tmp_path / "out")
    written = done["written"]
    assert done["outputs"] == [str(tmp_path / "out" / name) for name in RESULTS]
    values = read_scan(scan)
    series = [find_one(path) for path in done["outputs"]]
    assert np.array_equal(read_scan(series[1]), values)  # "input" is the source, not the channel
    for index in (0, 2):
        meant = np.rint(values * np.float32(0.5) + 3 * index)
        assert np.abs(read_scan(series[index]) - meant).max() <= 1
    assert len({one.series_uid for one in series}) == 3
    assert [record.result for record in written] == RESULTS
    assert all(len(record.sha256) == 5 for record in written)


def test_each_result_has_its_nifti(tmp_path, make_nifti):
    make_nifti(tmp_path / "mr.nii.gz")
    scan = find_one(tmp_path / "mr.nii.gz")
    done = save(scan, tmp_path / "out")
    assert np.array_equal(np.asarray(nib.load(done["outputs"][1]).dataobj), read_scan(scan))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "input.nii.gz",
        "level2+level4.nii.gz",
        "level3.nii.gz",
    ]


def test_a_failure_leaves_whole_outputs_only(tmp_path, make_series):
    make_series(tmp_path / "ct")
    scan = find_one(tmp_path / "ct")
    transform = SaveReconstructiond(
        targets=plan_outputs([scan], RESULTS, tmp_path / "out"), results=RESULTS, derivation=DERIVATION
    )
    data = item(scan)
    data["pred"][2, 3, 3, 3] = torch.nan
    with pytest.raises(OutputError, match="not finite"):
        transform(data)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["input", "level3"]


def test_a_second_run_needs_overwrite(tmp_path, make_series):
    make_series(tmp_path / "ct")
    scan = find_one(tmp_path / "ct")
    save(scan, tmp_path / "out", ["input"])
    with pytest.raises(OutputError, match="exists already"):
        save(scan, tmp_path / "out", ["input"])
    save(scan, tmp_path / "out", ["input"], overwrite=True)
    assert len(list((tmp_path / "out").iterdir())) == 5


def test_channels_and_results_must_match(tmp_path, make_nifti):
    make_nifti(tmp_path / "mr.nii.gz")
    scan = find_one(tmp_path / "mr.nii.gz")
    plan = plan_outputs([scan], RESULTS, tmp_path / "out")
    with pytest.raises(OutputError, match="1 channels for 3 results"):
        SaveReconstructiond(targets=plan, results=RESULTS)(item(scan, ["level3"]))


def test_several_scans_share_a_folder(tmp_path, make_series, make_nifti):
    make_series(tmp_path / "in" / "a")
    make_series(tmp_path / "in" / "b", seed=1)
    make_nifti(tmp_path / "in" / "mr.nii.gz")
    scans = find_scans(tmp_path / "in").scans
    plan = plan_outputs(scans, ["input"], tmp_path / "out")
    transform = SaveReconstructiond(targets=plan, results=["input"])
    for scan in scans:
        (path,) = transform(item(scan, ["input"]))["outputs"]
        assert np.array_equal(read_scan(find_one(path)), read_scan(scan))
    assert len(list((tmp_path / "out").iterdir())) == 3
