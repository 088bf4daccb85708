"""What the configurations call: the bundle that runs, its scans, weights that fit, provenance."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.transforms import LoadImage

from medrecon import __version__
from medrecon.bundle.config import find_bundle
from medrecon.bundle.workflow import (
    all_scans,
    channels_last,
    describe_results,
    load_network,
    locate,
    rates_of,
    scan_labels,
    take_as_hu,
)
from medrecon.errors import ModelError, UsageError, known_cause
from medrecon.io import ScanError, ScanReader
from medrecon.reconstructor import Reconstructor

from ..small_bundles import small_network


def build(dims: int = 2) -> Reconstructor:
    return small_network(dims, mixed_precision=None)


def write_meta(folder: Path, name: str) -> Path:
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    (folder / "configs" / "metadata.json").write_text(json.dumps({"name": name}))
    return folder


def test_the_running_bundle_is_found_before_the_one_that_comes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="does not know where it lies before it runs; say so: bundle_root"):
        locate("volume_autoencoder")
    copy = write_meta(tmp_path / "copy", "volume_autoencoder")
    other = write_meta(tmp_path / "other", "something_else")
    for place in (copy, other):
        monkeypatch.syspath_prepend(str(place))  # what MONAI does when a workflow runs
    assert locate("volume_autoencoder") == str(copy)
    command = ["monai.bundle", "run", "--config_file", f"['{other}/configs/a.yaml', 'b.yaml']"]
    write_meta(other, "volume_autoencoder")
    monkeypatch.setattr("sys.argv", command)
    assert locate("volume_autoencoder") == str(other)


def test_a_copy_under_another_name_takes_its_own_weights(tmp_path: Path) -> None:
    """In the order of the zoo's own tests: initialize, check_properties, run; and asked before it runs."""
    original = find_bundle("slice_transform_code")
    copy = tmp_path / "renamed"
    shutil.copytree(original, copy, ignore=shutil.ignore_patterns("docs", "runs"))
    state = torch.load(copy / "models" / "model.pt", weights_only=True)
    name = next(key for key, value in state.items() if value.is_floating_point())
    torch.save({**state, name: state[name] + 1}, copy / "models" / "model.pt")
    options = {"workflow_type": "inference", "logging_file": False, "run": "$@network"}
    options["dataset_dir"] = str(original.parents[1] / "sample_data")
    config = str(copy / "configs" / "inference.yaml")
    for named in ({"bundle_root": str(copy)}, {}):
        made = ConfigWorkflow(config_file=config, **options, **named)
        made.initialize()
        if named:
            made.check_properties()
        [network] = made.run()
        sys.path.remove(str(copy))
        assert torch.equal(network.state_dict()[name], state[name] + 1)
    made = ConfigWorkflow(config_file=config, **options)
    made.initialize()
    with pytest.raises(RuntimeError) as caught:
        made.check_properties()  # MONAI has not said where the bundle lies, and no other is taken for it
    assert isinstance(known_cause(caught.value), ModelError)


def test_broken_neighbours_on_the_path_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (write_meta(tmp_path, "x") / "configs" / "metadata.json").write_text("{")
    monkeypatch.syspath_prepend(str(tmp_path))
    good = write_meta(tmp_path / "good", "slice_autoencoder")
    monkeypatch.setattr(sys, "path", [*sys.path, str(good)])
    assert locate("slice_autoencoder") == str(good)


def test_no_scan_is_dropped_in_silence(tmp_path: Path, make_ct: Callable[..., np.ndarray]) -> None:
    make_ct(tmp_path / "good")
    make_ct(tmp_path / "other", description="Other", seed=1)
    assert len(all_scans(tmp_path)) == 2
    make_ct(tmp_path / "gap", description="Gap", seed=2, leave_out=3)
    with pytest.raises(ScanError, match="gap"):
        all_scans(tmp_path)


def test_only_files_that_cannot_say_so_are_taken_as_hu(
    tmp_path: Path, make_ct: Callable[..., np.ndarray], make_nifti: Callable[..., np.ndarray]
) -> None:
    make_ct(tmp_path / "series")
    make_nifti(tmp_path / "ct_a.nii.gz")
    make_nifti(tmp_path / "mr_b.nii.gz", seed=1)
    scans = all_scans(tmp_path)
    taken = take_as_hu(scans, ["ct_*", "series"])
    assert {scan.path.name: (scan.modality, scan.units) for scan in taken} == {
        "series": ("CT", "HU"),
        "ct_a.nii.gz": ("CT", "HU"),
        "mr_b.nii.gz": ("", ""),
    }
    (ct,) = [scan for scan in taken if scan.path.name == "ct_a.nii.gz"]
    assert LoadImage(reader=ScanReader())(ct).meta["units"] == "HU", "the reader knows, too"
    with pytest.raises(UsageError, match="no scan matches 'cta'"):
        take_as_hu(scans, ["ct_*", "cta"])


def test_what_is_left_out_or_odd_is_said(
    tmp_path: Path, make_ct: Callable[..., np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    make_ct(tmp_path / "ct", shape=(8, 8, 1))
    (tmp_path / "ct" / "read\x1bme.txt").write_text("not a scan")
    all_scans(tmp_path / "ct")
    note, left_out = caplog.messages
    assert note.startswith("note: ")
    assert ": a single slice: " in note
    assert left_out == "left out: 1 file(s) that are no part of a scan (medrecon scans)"


def test_labels_tell_scans_apart_and_nobody_who_the_patient_is(
    tmp_path: Path, make_ct: Callable[..., np.ndarray]
) -> None:
    make_ct(tmp_path / "Doe_Jane" / "a", description="Doe^Jane ID-4711 chest")
    make_ct(tmp_path / "Doe_Jane" / "b", description="Doe^Jane ID-4711 chest", seed=1)
    labels = scan_labels(all_scans(tmp_path))
    assert len(set(labels.values())) == 2
    for key, label in labels.items():
        assert label.startswith("CT_")
        assert label.endswith(key)
        assert not any(word in label.lower() for word in ("doe", "jane", "4711"))


def test_weights_are_put_into_the_network_ready_to_run(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained, network = build(), build()
    for parameter in trained.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    half = {key: value.half() for key, value in trained.state_dict().items()}
    torch.save(half, tmp_path / "model.pt")
    loaded = load_network(network.train(), tmp_path / "model.pt")
    assert loaded is network
    assert not any(module.training for module in loaded.modules())
    for key, value in loaded.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, half[key].float()), key


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(build(2).state_dict(), tmp_path / "model.pt")
    with pytest.raises(ModelError, match="do not fit Reconstructor"):
        load_network(build(3), tmp_path / "model.pt")
    with pytest.raises(ModelError, match="no such weight file"):
        load_network(build(3), tmp_path / "missing.pt")


@pytest.mark.parametrize("dims", [2, 3])
def test_channels_last_changes_the_layout_alone(dims: int) -> None:
    network, image = build(dims), torch.rand(1, 1, *(32, 16, 16)[:dims])
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        expected = network(image)
        got = channels_last(network)(image)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    wide = network.encoder.trunks["level2"][1].conv.weight
    assert wide.stride(1) == 1
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_the_rate_of_a_result_is_that_of_all_its_layers() -> None:
    rates = rates_of(build(3), ["input", "level1", "level4", "level2+level4"])
    assert rates == {"input": None, "level1": 1, "level4": 1 / 16, "level2+level4": 9 / 16}


def test_provenance_says_what_was_lost(tmp_path: Path) -> None:
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"some weights")
    results = ["input", "level1", "level4", "level1+level3", "level2+level4"]
    described = describe_results(build(3), results, model="tiny", version="1.2", weights=weights)
    assert list(described) == results
    assert {r: d.lossy for r, d in described.items()} == {
        "input": False,
        "level1": False,
        "level4": True,
        "level1+level3": False,
        "level2+level4": True,
    }
    one = described["level2+level4"]
    assert (one.model, one.version, one.layers) == ("tiny 1.2", __version__, "level2+level4")
    assert one.weights_sha256 == hashlib.sha256(b"some weights").hexdigest()
    assert one.values_per_voxel == 9 / 16
    assert described["input"].values_per_voxel is None
