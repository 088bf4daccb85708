"""Features as volumes: where they lie in the patient, which channels, and colours that compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from torch import nn

from medrecon.encoders import FrozenEncoder
from medrecon.encoders.tapped.tap import TappedEncoder
from medrecon.errors import MedreconError, ModelError, OutOfMemoryError, OutputError, UsageError
from medrecon.features.maps import FeatureMaps, compute, run, write_features
from medrecon.features.maps.writing import layer_affine

CPU = torch.device("cpu")
_TURN, _TILT = np.radians(25), np.radians(10)
_ROTATION = np.array(
    [[np.cos(_TURN), -np.sin(_TURN), 0], [np.sin(_TURN), np.cos(_TURN), 0], [0, 0, 1]]
) @ np.array([[1, 0, 0], [0, np.cos(_TILT), -np.sin(_TILT)], [0, np.sin(_TILT), np.cos(_TILT)]])
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3], OBLIQUE[:3, 3] = _ROTATION * [0.8, 0.9, 2.0], (-20, 5, 7)


def network(*modules: nn.Module, dims: int = 3, **more: Any) -> TappedEncoder:
    torch.manual_seed(0)
    last = str(len(modules) - 1)
    return TappedEncoder(nn.Sequential(*modules), [last], spatial_dims=dims, in_channels=1, **more)


def blob(place: tuple[float, float, float], shape: tuple[int, int, int] = (48, 40, 32)) -> MetaTensor:
    """A smooth spot, centred at a voxel or between two."""
    grid = np.meshgrid(*map(np.arange, shape), indexing="ij")
    apart = sum((g - p) ** 2 for g, p in zip(grid, place, strict=True))
    image = np.exp(-apart / 32).astype(np.float32)[None]
    return MetaTensor(torch.from_numpy(image), affine=torch.from_numpy(OBLIQUE))


def even(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(1.0 if parameter.ndim > 1 else 0.0)
    return module


NETWORKS = {
    "kernel 3, stride 2": [lambda d: even(getattr(nn, f"Conv{d}d")(1, 3, 3, stride=2, padding=1))],
    "pooled": [lambda d: getattr(nn, f"AvgPool{d}d")(2), lambda d: even(getattr(nn, f"Conv{d}d")(1, 3, 1))],
    "patches": [lambda d: even(getattr(nn, f"Conv{d}d")(1, 3, 4, stride=4))],
}


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_spot_lies_in_the_file_where_it_lies_in_the_patient(
    name: str, dims: int, ending: str, tmp_path: Path
) -> None:
    place = (21.3, 17.8, 15.0)
    encoder = network(*(make(dims) for make in NETWORKS[name]), dims=dims)
    layer = encoder.layers()[0].name
    made = FeatureMaps(encoder, layer, CPU).maps(blob(place))
    (file,) = write_features(made, tmp_path / f"f{ending}", {"network": "net"})
    if ending == ".nrrd":
        image = sitk.ReadImage(str(file))
        values = sitk.GetArrayFromImage(image)[..., 0].transpose(2, 1, 0)
        corner = [
            image.TransformContinuousIndexToPhysicalPoint(p) for p in np.vstack([np.zeros(3), np.eye(3)])
        ]
        lps = np.array(corner)
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = (lps[1:] - lps[0]).T, lps[0]
        affine = np.diag([-1, -1, 1, 1]) @ affine
    else:
        loaded = nib.load(file)
        values, affine = np.asarray(loaded.dataobj)[..., 0], loaded.affine
        assert np.allclose(loaded.header.get_qform(), affine, atol=1e-3)
    grid = np.stack(np.meshgrid(*map(np.arange, values.shape), indexing="ij"))
    centre = (grid * values).sum((1, 2, 3)) / values.sum()
    there = affine @ [*centre, 1]
    assert np.abs(there - OBLIQUE @ [*place, 1]).max() < 0.1, "half a voxel would be 0.4 mm and more"


def test_positions_are_counted_from_the_first_voxels_centre() -> None:
    affine = layer_affine(np.diag([2.0, 3, 4, 1]), (2, 4), (0.5, 0))
    assert affine.tolist() == [[4, 0, 0, 1], [0, 12, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1]]


def test_tiles_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = network(nn.Conv3d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv3d(4, 5, 3, padding=1))
    image = MetaTensor(torch.rand(1, 37, 40, 33), affine=torch.eye(4))
    engine = FeatureMaps(encoder, "2", CPU)
    (whole,) = engine.maps(image)
    monkeypatch.setattr(compute, "affordable_voxels", lambda device: 20**3)
    told: list[tuple[int, int]] = []
    (tiled,) = engine.maps(image, lambda done, of: told.append((done, of)))
    assert told[-1][0] == told[-1][1] > 4
    assert tiled.values.shape == (5, 19, 20, 17)
    np.testing.assert_allclose(tiled.values, whole.values, atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_windows_that_overlap_become_one_map(dims: int) -> None:
    modules = [getattr(nn, f"Conv{dims}d")(1, 3, 2, stride=2)]
    free, slid = network(*modules, dims=dims), network(*modules, dims=dims, window=(16,) * dims)
    slid.load_state_dict(free.state_dict())
    image = MetaTensor(torch.rand(1, 37, 40, 33), affine=torch.eye(4))
    whole, blended = (FeatureMaps(encoder, "0", CPU).maps(image)[0].values for encoder in (free, slid))
    np.testing.assert_allclose(blended, whole, atol=1e-5)


def test_the_strongest_are_those_that_vary_most() -> None:
    conv = nn.Conv3d(1, 4, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([0.1, 3.0, 0.0, -2.0]).view(4, 1, 1, 1, 1))
        conv.bias.copy_(torch.tensor([0.0, 0.0, 99.0, 0.0]))
    (made,) = FeatureMaps(network(conv), "0", CPU, keep="strongest:2").maps(blob((20, 20, 16)))
    assert made.channels == (1, 3)
    assert made.values.shape[0] == 2
    assert made.values[0].max() > 2.9


def test_colours_are_the_principal_components_and_compare_over_scans(tmp_path: Path) -> None:
    encoder = network(nn.Conv3d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv3d(6, 5, 3, padding=1))
    first, second = blob((20, 20, 16)), blob((30, 12, 10))
    file = tmp_path / "c.components"
    (one,) = FeatureMaps(encoder, "2", CPU, "colours", file).maps(first)
    assert one.values.dtype == np.uint8
    (plain,) = FeatureMaps(encoder, "2", CPU).maps(first)
    flat = plain.values.reshape(5, -1).astype(np.float64)
    flat -= flat.mean(1, keepdims=True)
    shares = np.linalg.svd(flat, compute_uv=False) ** 2
    assert one.shares == pytest.approx(tuple(shares[:3] / shares.sum()), rel=1e-4)
    reds = one.values[0].ravel().astype(float)
    direction = np.linalg.svd(flat, full_matrices=False)[0][:, 0]
    assert abs(np.corrcoef(reds, direction @ flat)[0, 1]) > 0.9, "but for the ends that are cut"

    shared = FeatureMaps(encoder, "2", CPU, "colours", file)
    (again,), (other,) = shared.maps(first), shared.maps(second)
    assert np.array_equal(again.values, one.values)
    (own,) = FeatureMaps(encoder, "2", CPU, "colours").maps(second)
    assert not np.array_equal(own.values, other.values)
    torch.manual_seed(5)
    stranger = network(nn.Conv3d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv3d(6, 5, 1))
    with pytest.raises(ModelError, match="another network"):
        FeatureMaps(stranger, "2", CPU, "colours", file)
    file.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="no components"):
        FeatureMaps(encoder, "2", CPU, "colours", file)


def test_colours_in_the_file(tmp_path: Path) -> None:
    encoder = network(nn.Conv3d(1, 2, 3, padding=1))
    (made,) = FeatureMaps(encoder, "0", CPU, "colours").maps(blob((20, 20, 16)))
    assert not made.values[2].any(), "two channels have no third component"
    for ending in (".nii.gz", ".nrrd"):
        write_features([made], tmp_path / f"c{ending}", {})
    stored = np.asarray(nib.load(tmp_path / "c.nii.gz").dataobj)
    assert stored.dtype.names == ("R", "G", "B")
    assert np.array_equal(stored["R"], made.values[0])
    vector = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "c.nrrd")))
    assert np.array_equal(vector.transpose(3, 2, 1, 0), made.values)


def test_a_folder_has_a_file_a_layer_and_a_record(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(1, 2, 3, stride=2, padding=1), nn.Conv3d(2, 3, 2, stride=2))
    encoder = TappedEncoder(net, ["0", "1"], spatial_dims=3, in_channels=1)
    made = FeatureMaps(encoder, "0,1", CPU).maps(blob((20, 20, 16)))
    files = write_features(made, tmp_path / "out", {"network": "net"})
    assert [file.name for file in files] == ["0.nii.gz", "1.nii.gz"]
    record = json.loads((tmp_path / "out" / "features.json").read_text())
    assert [(each["stride"], each["offset"]) for each in record["layers"]] == [
        ([2] * 3, [0] * 3),
        ([4] * 3, [1] * 3),
    ]
    with pytest.raises(OutputError, match="exists"):
        write_features(made, tmp_path / "out", {})
    with pytest.raises(UsageError, match="one file"):
        write_features(made, tmp_path / "a.nii.gz", {})


def test_a_file_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    made = FeatureMaps(network(nn.Conv3d(1, 2, 1)), "0", CPU).maps(blob((20, 20, 16)))
    monkeypatch.setattr(nib, "save", full)
    for name in ("f.nii.gz", "folder"):
        with pytest.raises(OutputError):
            write_features(made, tmp_path / name, {})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_does_not_fit_memory_is_refused_before_work(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FeatureMaps(network(nn.Conv3d(1, 64, 1)), "0", CPU)
    monkeypatch.setattr(run, "free_bytes", lambda device: 1 << 20)
    with pytest.raises(OutOfMemoryError, match="of memory") as caught:
        engine.maps(blob((20, 20, 16)))
    assert "strongest" in caught.value.remedy


@pytest.mark.parametrize(
    ("layers", "keep", "components"),
    [("9", "all", None), ("0", "strongest:0", None), ("0", "best", None), ("0", "all", Path("c"))],
)
def test_what_cannot_be_is_refused(layers: str, keep: str, components: Path | None) -> None:
    with pytest.raises(MedreconError) as caught:
        FeatureMaps(network(nn.Conv3d(1, 2, 1)), layers, CPU, keep, components)
    assert caught.value.exit_code == (4 if layers == "9" else 2)
    assert caught.value.remedy


class Padded(FrozenEncoder):
    """Gives more positions than cover the image, as an encoder may."""

    def forward(self, image: torch.Tensor, names: Any = None) -> Any:
        found = super().forward(image, names)
        return {name: nn.functional.pad(each, (0, 2, 0, 1)) for name, each in found.items()}


def test_positions_beyond_the_far_ends_of_slices_are_left_out() -> None:
    plain = network(nn.Conv2d(1, 3, 3, padding=1), dims=2)
    image = blob((12, 10, 4), (23, 21, 8))
    want = FeatureMaps(plain, "0", CPU).maps(image)[0]
    found = FeatureMaps(Padded(plain), "0", CPU).maps(image)[0]
    assert np.array_equal(found.values, want.values)
