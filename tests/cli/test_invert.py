"""The verb `invert`: whole scans and some of their slices, from grey and from a decoder's image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import monai.transforms as mt
import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch

from medrecon.encoders.tapped.tap import TappedEncoder
from medrecon.io import find_one, read_scan

from .conftest import Run

Make = Callable[..., np.ndarray]
PLAIN = [
    *("--encoder", "medrecon.encoders.PlainEncoder"),
    *("--encoder-arguments", '{"spatial_dims": 2, "channels": [16]}'),
]


@pytest.fixture
def run(medrecon: Run) -> Run:
    """Runs `medrecon invert ...`: exit code, stdout, stderr."""
    return lambda *words: medrecon("invert", *words, "--device", "cpu")


def smooth(path: Path, shape: tuple[int, int, int] = (18, 16, 6)) -> np.ndarray:
    """Write a NIfTI file of wide structures, which even few steps bring back."""
    x, y, z = np.meshgrid(*(np.linspace(0, 3, n) for n in shape), indexing="ij")
    values = (400 + 300 * np.sin(x + z) * np.cos(y)).round().astype(np.int16)
    affine = np.diag([0.9, 0.8, 2.0, 1.0])
    affine[:3, 3] = (-8, 4, 20)
    nib.save(nib.Nifti1Image(values, affine), path)
    return values


def test_a_series_becomes_a_series_from_the_decoders_image(
    run: Callable, tmp_path: Path, make_ct: Make, tiny_bundle: Path
) -> None:
    hu = make_ct(tmp_path / "in")
    target = tmp_path / "out"
    code, out, err = run(
        tmp_path / "in", target, "--start", tiny_bundle, "-l", "coarse2", "--steps", 4, "--json"
    )
    assert (code, err) == (0, "")
    data = json.loads(out)
    (result,) = data["results"]
    assert result["output"] == str(target)
    assert 0 < result["steps"] <= 4
    found = read_scan(find_one(target)).astype(float)
    assert found.shape == hu.shape
    assert np.abs(found - hu).mean() < 60
    header = pydicom.dcmread(next(target.glob("*.dcm")), stop_before_pixels=True)
    assert header.ImageType[0] == "DERIVED"
    assert "optimised" in header.DerivationDescription


def test_several_layers_of_a_network_from_grey(run: Callable, tmp_path: Path) -> None:
    values = smooth(tmp_path / "a.nii")
    arguments = [tmp_path / "a.nii", tmp_path / "out", *PLAIN, "--steps", 40, "--slices", "2:4"]
    code, out, err = run(*arguments, "-l", "level1", "--format", "nifti", "--json")
    assert (code, err) == (0, "")
    image = nib.load(tmp_path / "out" / "level1.nii.gz")
    assert image.shape == (18, 16, 2)
    expected = np.diag([0.9, 0.8, 2.0, 1.0])
    expected[:3, 3] = (-8, 4, 24)
    np.testing.assert_allclose(image.affine, expected, atol=1e-5)
    error = np.abs(np.asarray(image.dataobj) - values[..., 2:4]).mean()
    assert error < 0.1 * np.ptp(values)
    (row,) = json.loads(out)["results"]
    assert row["images"] == 2


@pytest.mark.parametrize(("slices", "kept"), [("1:4", [1, 2, 3]), ("2", [2]), ("-2:", [4, 5])])
def test_some_slices_of_a_series_become_a_series_at_their_place(
    run: Callable, tmp_path: Path, make_ct: Make, slices: str, kept: list[int]
) -> None:
    make_ct(tmp_path / "in")
    arguments = ["--slices", slices, *PLAIN, "-l", "level1", "--steps", 2]
    code, _, err = run(tmp_path / "in", tmp_path / "out", *arguments)
    assert (code, err) == (0, "")
    whole, part = find_one(tmp_path / "in"), find_one(tmp_path / "out")
    assert part.shape == (*whole.shape[:2], len(kept))
    first = whole.affine @ [0, 0, kept[0], 1]
    np.testing.assert_allclose(part.affine[:, 3], first, atol=1e-3)
    sources = {str(pydicom.dcmread(f, stop_before_pixels=True).SOPInstanceUID) for f in whole.files}
    for file in part.files:
        header = pydicom.dcmread(file, stop_before_pixels=True)
        assert header.SourceImageSequence[0].ReferencedSOPInstanceUID in sources


def test_other_settings_make_another_series(run: Callable, tmp_path: Path, make_ct: Make) -> None:
    make_ct(tmp_path / "in", (8, 8, 2))
    uids = []
    for name, extra in (("a", ()), ("b", ("--tv", 0.5)), ("c", ())):
        assert run(tmp_path / "in", tmp_path / name, *PLAIN, "-l", "level1", "--steps", 2, *extra)[0] == 0
        uids.append(find_one(tmp_path / name).series_uid)
    assert uids[0] == uids[2] != uids[1]


def test_the_settings_reach_the_optimisation_and_the_manifest(
    run: Callable, tmp_path: Path, make_nifti: Make
) -> None:
    make_nifti(tmp_path / "a.nii.gz", (8, 8, 3))
    options = ["--steps", 3, "--optimiser", "adam", "--parameterisation", "pixels", "--tv", 0, "--seed", 5]
    code, _, err = run(tmp_path / "a.nii.gz", tmp_path / "o.nii.gz", *PLAIN, "-l", "level1", *options)
    assert (code, err) == (0, "")
    manifest = json.loads((tmp_path / "o.manifest.json").read_text())
    config = manifest["config"]
    assert (config["steps"], config["optimiser"], config["parameterisation"]) == (3, "adam", "pixels")
    assert (config["tv"], config["seed"], config["slices"]) == (0.0, 5, [0, 3])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "which network"),
        ([*PLAIN, "--start", "volume_autoencoder"], 2, "which network"),
        ([*PLAIN, "--slices", "4:4"], 2, "holds none of the 3 slices"),
        ([*PLAIN, "--slices", "3"], 2, "holds none of the 3 slices"),
        ([*PLAIN, "--slices", "a:b"], 2, "is no range"),
        ([*PLAIN, "--layers", "level7"], 4, "did you mean 'level1'"),
        ([*PLAIN, "--layers", "input"], 2, "nothing to invert"),
        ([*PLAIN, "--steps", "0"], 2, "steps"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    run: Callable, tmp_path: Path, make_nifti: Make, arguments: list[str], code: int, said: str
) -> None:
    make_nifti(tmp_path / "a.nii.gz", (8, 8, 3))
    layers = [] if "--layers" in arguments else ["--layers", "level1"]
    ended, out, err = run(tmp_path / "a.nii.gz", tmp_path / "o.nii.gz", *layers, *arguments)
    assert (ended, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "o.nii.gz").exists()


def write_network_bundle(folder: Path) -> Path:
    """A MONAI bundle of one convolution that takes its images at 2 x 2 x 2 mm, right to left turned."""
    step = {"keys": "image"}
    steps = [
        {"_target_": "LoadImaged", **step},
        {"_target_": "Orientationd", **step, "axcodes": "LPS"},
        {"_target_": "Spacingd", **step, "pixdim": [2, 2, 2], "mode": "bilinear"},
        {"_target_": "NormalizeIntensityd", **step},
    ]
    network = {
        "_target_": "torch.nn.Conv3d",
        "in_channels": 1,
        "out_channels": 4,
        "kernel_size": 3,
        "padding": 1,
    }
    config = {"network_def": network, "preprocessing": {"_target_": "Compose", "transforms": steps}}
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    torch.manual_seed(1)
    torch.save(torch.nn.Conv3d(1, 4, 3, padding=1).state_dict(), folder / "models" / "model.pt")
    return folder


def test_a_bundle_s_spacing_and_orientation_are_honoured_and_undone(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = smooth(tmp_path / "a.nii")
    bundle = write_network_bundle(tmp_path / "net")
    target = tmp_path / "out.nii.gz"
    sizes: set[tuple[int, ...]] = set()
    forward = TappedEncoder.forward

    def seen(self: TappedEncoder, image: torch.Tensor, names: object = None) -> object:
        sizes.add(tuple(image.shape[2:]))
        return forward(self, image, names)

    monkeypatch.setattr(TappedEncoder, "forward", seen)
    arguments = (tmp_path / "a.nii", target, "--encoder", bundle, "-l", "output", "--steps", 40)
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    read = mt.LoadImage(ensure_channel_first=True)(tmp_path / "a.nii")
    expected = mt.Spacing((2, 2, 2))(mt.Orientation("LPS")(read))
    assert sizes == {tuple(expected.shape[1:])}
    assert any("Orientationd, Spacingd" in note for note in json.loads(out)["notes"])
    image = nib.load(target)
    assert image.shape == values.shape
    np.testing.assert_allclose(image.affine, nib.load(tmp_path / "a.nii").affine, atol=1e-5)
    error = np.abs(np.asarray(image.dataobj) - values).mean()
    assert error < 0.1 * np.ptp(values)


def test_a_layer_whose_image_is_not_found_is_no_result(run: Callable, tmp_path: Path) -> None:
    smooth(tmp_path / "a.nii")
    blind = (
        "--encoder",
        "torch.nn.InstanceNorm3d",
        "--encoder-arguments",
        '{"num_features": 1, "_spatial_dims_": 3}',
    )
    code, _, err = run(tmp_path / "a.nii", tmp_path / "out", *blind, "-l", "output", "--steps", 1)
    assert code == 4
    assert "no image was found whose features come near" in err
    assert not (tmp_path / "out").exists()


def test_a_network_that_fails_on_a_scan_is_one_line(run: Callable, tmp_path: Path) -> None:
    smooth(tmp_path / "a.nii", (610, 8, 2))
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Conv2d):\n"
        "    def forward(self, image):\n"
        "        return super().forward(image) + torch.zeros(600, 1)[: image.shape[2]]\n"
    )
    options = '{"in_channels": 1, "out_channels": 2, "kernel_size": 1}'
    network = ("--encoder", f"{tmp_path}/net.py:Net", "--encoder-arguments", options, "-l", "output")
    code, out, err = run(tmp_path / "a.nii", tmp_path / "out", *network, "--steps", 1)
    assert (code, out) == (4, "")
    assert "Net fails on an image of shape (1, 1, 610, 8) (RuntimeError: The size of tensor a (610)" in err
    assert err.count("Net fails") == 1
    assert not (tmp_path / "out").exists()


def test_single_channels_of_a_layer(run: Callable, tmp_path: Path, tiny_bundle: Path) -> None:
    values = smooth(tmp_path / "a.nii")
    asked = ("-l", "level1[3],level1[0]+level1[5]", "--slices", "2:4", "--steps", 20)
    code, out, err = run(tmp_path / "a.nii", tmp_path / "out", *PLAIN, *asked, "--json")
    assert code == 0, err
    one, two = json.loads(out)["results"]
    assert (one["result"], two["result"]) == ("level1[3]", "level1[0]+level1[5]")
    for row in (one, two):
        assert row["distance"] < 0.5
        assert nib.load(row["output"]).shape == (*values.shape[:2], 2)
    for wrong, said in (
        (
            [*PLAIN, "-l", "level1[16]"],
            "layer level1 has no channel 16; its channels are level1[0] to level1[15]",
        ),
        ([*PLAIN, "-l", "level1[a]"], "no layer 'level1[a]': did you mean 'level1'"),
    ):
        code, out, err = run(tmp_path / "a.nii", tmp_path / "wrong", *wrong)
        assert (code, out) == (4, "")
        assert said in err
        assert err.count("\n") == 1
    begun = ("--start", tiny_bundle, "-l", "coarse2[0]")
    code, out, err = run(tmp_path / "a.nii", tmp_path / "wrong", *begun)
    assert (code, out) == (2, "")
    assert "coarse2[0] is one channel, and the decoder of --start needs the whole layer" in err
    assert not (tmp_path / "wrong").exists()


def test_several_scans_are_channels_and_are_found_together(run: Callable, tmp_path: Path) -> None:
    first = smooth(tmp_path / "t1.nii")
    second = (1000 - first[::-1]).astype(np.int16)
    nib.save(nib.Nifti1Image(second, nib.load(tmp_path / "t1.nii").affine), tmp_path / "t2.nii")
    options = '{"in_channels": 2, "out_channels": 6, "kernel_size": 3, "padding": 1}'
    network = ("--encoder", "torch.nn.Conv3d", "--encoder-arguments", options, "-l", "output", "--steps", 60)
    channels = [x for n in "12" for x in ("--encoder-channels", f"{n}={tmp_path}/t{n}.nii")]
    code, out, err = run(tmp_path / "t1.nii", tmp_path / "out", *network, *channels, "--json")
    assert code == 0, err
    data = json.loads(out)
    assert not any("one scan is given to each" in note for note in data["notes"])
    for row, values in zip(data["results"], (first, second), strict=True):
        image = np.asarray(nib.load(row["output"]).dataobj)
        assert np.abs(image - values).mean() < 0.1 * np.ptp(values), "each is its own channel's"
    code, out, _ = run(tmp_path / "t1.nii", tmp_path / "one", *network, "--steps", 1, "--json")
    assert any("given to each channel" in note for note in json.loads(out)["notes"])


@pytest.mark.parametrize(
    ("channels", "code", "said"),
    [
        (["1=t1.nii"], 3, "the channel '2' is missing"),
        (["1=t1.nii", "3=t2.nii"], 4, "has no channel '3'"),
        (["1=t2.nii", "2=t3.nii"], 2, "INPUT is none of the channels"),
        (["1=t1.nii", "2=other.nii"], 3, "lies on another grid than t1.nii"),
        (["t1.nii"], 2, "write NAME=PATH"),
    ],
)
def test_channels_that_do_not_suit(
    run: Callable, tmp_path: Path, channels: list[str], code: int, said: str
) -> None:
    for name in ("t1", "t2", "t3"):
        smooth(tmp_path / f"{name}.nii", (8, 8, 8))
    smooth(tmp_path / "other.nii", (8, 8, 9))
    options = '{"in_channels": 2, "out_channels": 2, "kernel_size": 1}'
    network = ("--encoder", "torch.nn.Conv3d", "--encoder-arguments", options, "-l", "output", "--steps", 1)
    named = [x for c in channels for x in ("--encoder-channels", c.replace("=", f"={tmp_path}/"))]
    ended, out, err = run(tmp_path / "t1.nii", tmp_path / "out", *network, *named)
    assert (ended, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
