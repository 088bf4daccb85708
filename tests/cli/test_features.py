"""The verb `features`: files in their place, from any network and from a bundle; what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from .conftest import Run

UNET = [
    *("--encoder", "monai.networks.nets.UNet", "--encoder-arguments"),
    '{"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": [4, 6], "strides": [2]}',
]


@pytest.fixture
def run(medrecon: Run) -> Run:
    """Runs `medrecon features ...`: exit code, stdout, stderr."""
    return lambda *words: medrecon("features", *words, "--device", "cpu")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    values = (100 * np.random.default_rng(0).random((35, 33, 5))).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.diag([0.9, 0.8, 2.0, 1.0])), tmp_path / "t1.nii.gz")
    return tmp_path / "t1.nii.gz"


def test_a_layer_as_a_file_and_layers_as_a_folder(run: Run, scan: Path, tmp_path: Path) -> None:
    code, out, _ = run(scan, tmp_path / "one.nii.gz", *UNET, "--layers", "model.0", "--json")
    assert code == 0
    (layer,) = json.loads(out)["layers"]
    assert (layer["stride"], layer["offset"], layer["shape"]) == ([2, 2], [0, 0], [4, 18, 17, 5])
    affine = nib.load(tmp_path / "one.nii.gz").affine
    assert np.allclose(affine, np.diag([1.8, 1.6, 2.0, 1.0]))
    code, out, _ = run(scan, tmp_path / "two", *UNET, "--layers", "model.0,output", "--keep", "strongest:1")
    assert code == 0
    assert "model.0" in out
    record = (tmp_path / "two" / "features.json").read_text()
    assert [each["file"] for each in json.loads(record)["layers"]] == ["model.0.nii.gz", "output.nii.gz"]
    assert str(scan) not in record


def test_colours_share_their_components(run: Run, scan: Path, tmp_path: Path) -> None:
    words = [*UNET, "-l", "model.0", "--keep", "colours", "--components", tmp_path / "c"]
    for name in ("a.nii.gz", "b.nii.gz"):
        assert run(scan, tmp_path / name, *words)[0] == 0
    first, second = (np.asarray(nib.load(tmp_path / f"{n}.nii.gz").dataobj) for n in "ab")
    assert np.array_equal(first, second)
    assert first.dtype.names == ("R", "G", "B")


def test_single_channels_of_a_network_and_of_a_bundle(
    run: Run, scan: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    for words, name, channels in ((UNET, "model.0", (2, 0)), (["--bundle", tiny_bundle], "coarse2", (0,))):
        place = tmp_path / name
        names = ",".join(f"{name}[{channel}]" for channel in channels)
        assert run(scan, place / "whole.nii.gz", *words, "-l", name)[0] == 0
        code, out, err = run(scan, place / "parts", *words, "-l", names, "--json")
        assert code == 0, err
        whole = nib.load(place / "whole.nii.gz")
        for row, channel in zip(json.loads(out)["layers"], channels, strict=True):
            part = nib.load(row["output"])
            assert row["layer"] == f"{name}[{channel}]"
            values = np.asarray(whole.dataobj).reshape(*whole.shape[:3], -1)[..., channel]
            assert np.array_equal(part.dataobj, values)
            assert np.array_equal(part.affine, whole.affine)
        code, _, err = run(scan, place / "none", *words, "-l", f"{name}[99]")
        assert (code, "has no channel 99" in err) == (4, True), err


def test_of_a_bundle(run: Run, scan: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    code, out, _ = run(scan, tmp_path / "f.nii.gz", "--bundle", tiny_bundle, "-l", "coarse2", "--json")
    assert code == 0
    (layer,) = json.loads(out)["layers"]
    assert layer["offset"] == [0.5, 0.5, 0.5]
    affine = nib.load(tmp_path / "f.nii.gz").affine
    assert np.allclose(affine[:3, 3], [0.45, 0.4, 1.0])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 4, "which of them"),
        (["-l", "model.9"], 4, "model.0"),
        (["-l", "model.0", "--weights", "no.pt"], 4, "no.pt"),
        (["-l", "model.0", "--keep", "best"], 2, "strongest:N"),
        (["-l", "model.0", "--components", "c"], 2, "colours"),
        (["-l", "model.0,output"], 2, "one file"),
    ],
)
def test_what_cannot_be_is_refused(
    words: list[str], code: int, said: str, run: Run, scan: Path, tmp_path: Path
) -> None:
    ended, _, err = run(scan, tmp_path / "f.nii.gz", *UNET, *words)
    assert ended == code, err
    assert said in err
    assert not (tmp_path / "f.nii.gz").exists()
    (tmp_path / "g.nii.gz").write_text("mine")
    assert run(scan, tmp_path / "g.nii.gz", *UNET, "-l", "model.0")[0] == 5
