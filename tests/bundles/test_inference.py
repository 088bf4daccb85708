"""inference.yaml, from another directory: every scan, every result, in its source's geometry and units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medrecon.bundle.workflow import load_network
from medrecon.evaluation import compare_geometry, fidelity
from medrecon.io import Scan, find_one, find_scans, read_scan

from ..small_bundles import starts_at_zero
from .names import DIMS, NAMES, MakeBundle, RunConfig, Scans, Workflow

LAYERS = ["level3", "level2+level4", "input"]
bundles = pytest.mark.parametrize("name", NAMES)


def sources(folder: Path) -> dict[str, Scan]:
    return {scan.format: scan for scan in find_scans(folder).scans}


def check_outputs(source: Scan, outputs: dict[str, Path], hu: bool) -> None:
    """Each output is where it belongs, on the source's grid, near it, and `input` is it."""
    values = read_scan(source)
    for result, path in outputs.items():
        made = find_one(path)
        assert made.format == source.format
        assert compare_geometry(source.affine, source.shape, made.affine, made.shape, 1e-6) == []
        recon = read_scan(made)
        measured = fidelity(values, recon, units=source.units)
        assert measured.units == ("HU" if hu else "")
        if result == "input":
            assert recon.dtype == values.dtype
            assert np.array_equal(recon, values)
        else:
            assert 0 < measured.mae < 60, result
            assert measured.psnr > 25, result


@bundles
def test_a_folder_of_a_series_and_a_file(
    name: str, tmp_path: Path, scans: Scans, small_bundle: MakeBundle, run_config: RunConfig
) -> None:
    """The command on top of the file, from another directory."""
    (tmp_path / "work").mkdir()
    options = {"dataset_dir": "../scans", "output_dir": "out", "layers": LAYERS}
    run_config(small_bundle(name) / "configs" / "inference.yaml", tmp_path / "work", options)
    out = tmp_path / "work" / "out"
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["out"]
    assert len(list(out.iterdir())) == 6
    for source in sources(scans["folder"]).values():
        ending = "" if source.format == "dicom" else ".nii.gz"
        outputs = {}
        for result in LAYERS:
            (outputs[result],) = [
                path
                for path in out.iterdir()
                if source.key in path.name
                and path.name.endswith(ending)
                and f"_{result}" in path.name
                and (result != "level3" or "+" not in path.name)
            ]
        check_outputs(source, outputs, hu=source.format == "dicom")


@bundles
@pytest.mark.parametrize("kind", ["dicom", "nifti"])
def test_one_scan_and_one_result_is_the_output_itself(
    name: str, kind: str, tmp_path: Path, scans: Scans, small_bundle: MakeBundle, workflow: Workflow
) -> None:
    source = sources(scans["folder"])[kind]
    output = tmp_path / "out" / ("series" if kind == "dicom" else "recon.nii.gz")
    made = workflow(
        small_bundle(name),
        "inference.yaml",
        kind="inference",
        dataset_dir=str(source.path),
        output_dir=str(output),
        layers=["level1"],
        device="cpu",
    )
    assert made.check_properties() == []
    made.run()
    assert np.array_equal(read_scan(find_one(output)), read_scan(source)), "level1 holds everything"
    assert compare_geometry(*grid(source), *grid(find_one(output)), 1e-6) == []


def grid(scan: Scan) -> tuple[np.ndarray, tuple[int, ...]]:
    return scan.affine, scan.shape


@bundles
def test_results_are_those_of_the_network(
    name: str, tmp_path: Path, scans: Scans, small_bundle: MakeBundle, workflow: Workflow
) -> None:
    """What is written is what the network with the bundle's weights gives for the image mapped to [0, 1]."""
    source = sources(scans["folder"])["dicom"]
    bundle = small_bundle(name)
    made = workflow(
        bundle,
        "inference.yaml",
        kind="inference",
        dataset_dir=str(source.path),
        output_dir=str(tmp_path / "out"),
        layers=["level4"],
        device="cpu",
    )
    made.run()
    network = made.parser.get_parsed_content("network_def")
    load_network(network, bundle / "models" / "model.pt")
    image = (torch.from_numpy(read_scan(source)).float() + 1024) / 4095
    with torch.no_grad():
        if DIMS[name] == 3:
            expected = network(image[None, None])[0, 0]
        else:
            slices = image.permute(2, 0, 1)[:, None]
            with network.encoder.conditioned_on(slices):
                expected = network(slices)[:, 0].permute(1, 2, 0)
    got = read_scan(find_one(tmp_path / "out"))
    assert np.abs(got - (expected * 4095 - 1024).numpy()).max() < 0.51, "rounded to whole HU, no more"


@bundles
def test_the_weights_that_come_along_fit(name: str, repo: Path, workflow: Workflow) -> None:
    bundle = repo / "bundles" / name
    made = workflow(bundle, "inference.yaml", kind="inference", device="cpu")
    network = made.parser.get_parsed_content("network_def")
    load_network(network, bundle / "models" / "model.pt")
    assert (bundle / "models" / "model.pt").stat().st_size <= 24 << 20
    last = [p for key, p in network.inversion.named_parameters() if starts_at_zero(key)]
    assert all(parameter.any() for parameter in last), "these weights were never trained"


@bundles
def test_weights_of_another_network_are_refused(
    name: str, tmp_path: Path, scans: Scans, small_bundle: MakeBundle, workflow: Workflow
) -> None:
    other = small_bundle(NAMES[NAMES.index(name) - 1]) / "models" / "model.pt"
    made = workflow(
        small_bundle(name),
        "inference.yaml",
        kind="inference",
        dataset_dir=str(scans["folder"]),
        output_dir=str(tmp_path / "out"),
        weights=str(other),
        device="cpu",
    )
    with pytest.raises(RuntimeError) as refused:
        made.run()
    error: BaseException | None = refused.value
    while error is not None and "do not fit" not in str(error):
        error = error.__cause__
    assert error is not None
    assert not (tmp_path / "out").exists()
