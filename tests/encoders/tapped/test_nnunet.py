"""Results folders of nnU-Net: plans, data set and checkpoint in their own forms, made here."""

from __future__ import annotations

import json
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import LoadImage

from medrecon.bundle.workflow import encoder_of
from medrecon.encoders import build_encoder
from medrecon.encoders.naming import in_order
from medrecon.encoders.tapped.nnunet_grid import resample
from medrecon.encoders.tapped.told import told_by
from medrecon.errors import ModelError
from medrecon.inference.prepared import prepare
from medrecon.io import ScanError, ScanReader, find_one
from medrecon.io.choices import with_hu

from ...tiny_nnunet import PlainConvUNet, ResidualEncoderUNet, model


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for dynamic-network-architectures, which brings timm."""
    names = ["dynamic_network_architectures", "architectures", "unet"]
    made = [types.ModuleType(".".join(names[: k + 1])) for k in range(3)]
    made[2].__dict__.update(PlainConvUNet=PlainConvUNet, ResidualEncoderUNet=ResidualEncoderUNet)
    for outer, inner, name in zip(made, made[1:], names[1:], strict=False):
        setattr(outer, name, inner)
    for module in made:
        module.__spec__ = ModuleSpec(module.__name__, None)
        monkeypatch.setitem(sys.modules, module.__name__, module)


def scan(
    path: Path,
    shape: tuple[int, int, int] = (20, 18, 12),
    seed: int = 0,
    hole: int = 0,
    notch: tuple[int, int] = (0, 0),
) -> np.ndarray:
    """A smooth NIfTI of 1.2 x 1.5 x 2.2 mm, zero within `hole` voxels of its border, and in a corner."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(0, 3, n) for n in shape), indexing="ij")
    values = (150 + 200 * np.sin(x + z) * np.cos(y) + rng.normal(0, 5, shape)).round().astype(np.int16)
    values[values == 0] = 1
    if hole:
        inner = np.zeros(shape, bool)
        inner[hole:-hole, hole:-hole, hole:-hole] = True
        values[~inner] = 0
    values[: notch[0], : notch[1]] = 0
    affine = np.diag([1.2, 1.5, 2.2, 1.0])
    affine[:3, 3] = (-8, 4, 20)
    nib.save(nib.Nifti1Image(values, affine), path)
    return values


@pytest.mark.parametrize(("dims", "residual", "old"), [(3, False, False), (3, True, False), (2, False, True)])
def test_network_weights_and_patch(tmp_path: Path, dims: int, residual: bool, old: bool) -> None:
    folder = model(tmp_path, dims, residual=residual, old=old)
    encoder = build_encoder(folder)
    assert encoder.spatial_dims == dims
    assert encoder.window == (8, 16, 16)[3 - dims :]
    assert encoder.units == "HU"
    assert encoder.channel_names == ()
    saved = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)["network_weights"]
    assert all(torch.equal(value, saved[key]) for key, value in encoder.network.state_dict().items())
    known = [info.name for info in encoder.layers()]
    assert {"encoder.stages.0", "encoder.stages.1"} <= set(known)


def test_the_image_is_what_nnunet_makes_of_the_scan(tmp_path: Path) -> None:
    """Written down here once more, for a scan whose slices are as thick as its pixels are wide or so."""
    folder = model(tmp_path / "m", transpose=(1, 0, 2), spacing=(1.5, 2.2, 1.2))
    values = scan(tmp_path / "a.nii", hole=2)
    encoder = build_encoder(folder)
    made = prepare(encoder, [with_hu(find_one(tmp_path / "a.nii"))])
    expected = values.astype(np.float32).transpose(2, 1, 0).transpose(1, 0, 2)[2:-2, 2:-2, 2:-2]
    expected = (np.clip(expected, -200, 400) - 60) / 90
    expected = np.pad(expected, [(0, 0), (0, 8 - 8), (0, 0)])
    low, high = encoder.scale
    seen = made.image.as_tensor()[0].numpy() * (high - low) + low
    assert seen.shape == (14, 16, 16)[:1] + seen.shape[1:]
    inner = seen[:, (seen.shape[1] - 8) // 2 :, (seen.shape[2] - 16) // 2 :][:, :8, :16]
    np.testing.assert_allclose(inner, expected, atol=2e-5)
    index = np.array([3.0, 4.0, 5.0, 1.0])
    there = made.image.affine.numpy() @ [index[1] - 0, index[2] - 0, index[0] - 0, 1.0]
    pads = [(seen.shape[k] - n) // 2 for k, n in enumerate((14, 8, 16))]
    source = [index[0] - pads[2] + 2, index[1] - pads[0] + 2, index[2] - pads[1] + 2]
    affine = nib.load(tmp_path / "a.nii").affine
    np.testing.assert_allclose(there[:3], (affine @ [*source, 1])[:3], atol=1e-4)


def test_the_scan_s_grid_comes_back(tmp_path: Path) -> None:
    schemes = ["ZScoreNormalization"]
    folder = model(tmp_path / "m", transpose=(2, 0, 1), spacing=(1.0, 1.1, 1.6), schemes=schemes)
    values = scan(tmp_path / "a.nii", hole=1)
    made = prepare(build_encoder(folder), [find_one(tmp_path / "a.nii")])
    back = made.restore(made.image.as_tensor())
    assert back.shape == (1, *values.shape)
    assert np.abs(back[0].numpy() - values)[2:-2, 2:-2, 2:-2].mean() < 6
    assert not back[0, 0].any(), "what was cropped away is empty, as it was"


def test_what_comes_back_is_still_known_as_the_scan(tmp_path: Path) -> None:
    """Who writes it asks which scan it was, and where it lies."""
    folder = model(tmp_path / "m", transpose=(2, 0, 1), spacing=(1.0, 1.1, 1.6), schemes=["NoNormalization"])
    scan(tmp_path / "a.nii", hole=1)
    read = LoadImage(reader=ScanReader(), dtype=None, ensure_channel_first=True)
    image = read(find_one(tmp_path / "a.nii"))
    (grid,) = build_encoder(folder).geometry
    back = grid.inverse(grid({"image": image}))["image"]
    assert back.meta["scan_key"] == image.meta["scan_key"]
    assert torch.equal(back.affine, image.affine)
    assert back.shape == image.shape


@pytest.mark.parametrize("masked", [True, False])
def test_a_mask_decides_which_voxels_count(tmp_path: Path, masked: bool) -> None:
    """An L-shaped body: its box holds voxels that belong to neither channel."""
    folder = model(
        tmp_path / "m",
        schemes=["ZScoreNormalization"] * 2,
        masked=masked,
        channels=("t1", "t2"),
        spacing=(2.2, 1.5, 1.2),
    )
    first = scan(tmp_path / "a.nii", hole=2, notch=(11, 10))
    second = scan(tmp_path / "b.nii", seed=1, hole=3, notch=(9, 10))
    encoder = build_encoder(folder)
    assert encoder.channel_names == ("t1", "t2")
    given = {"T2": find_one(tmp_path / "b.nii"), "t1": find_one(tmp_path / "a.nii")}
    made = prepare(encoder, in_order(encoder.channel_names, given))
    low, high = encoder.scale
    seen = made.image.as_tensor().numpy() * (high - low) + low
    box = (slice(2, -2),) * 3
    body = ((first != 0) | (second != 0))[box]
    assert 0.2 < (~body).mean() < 0.5
    for channel, values in enumerate((first, second)):
        whole = values[box].astype(np.float64)
        counted = whole[body] if masked else whole
        expected = (whole - counted.mean()) / counted.std()
        if masked:
            expected[~body] = 0
        inner = seen[channel][:, 1:-1].transpose(2, 1, 0)  # two rows of zeros make up the patch
        np.testing.assert_allclose(inner, expected, atol=1e-4)


def test_thick_slices_are_resampled_one_by_one() -> None:
    ramp = np.arange(4.0)[:, None, None] * np.ones((4, 6, 6))
    apart = resample(ramp[None], (8, 12, 12), 3, 0, 0)[0]
    assert set(np.unique(apart.round(6))) == {0.0, 1.0, 2.0, 3.0}, "no slice is mixed with the next"
    assert len(np.unique(resample(ramp[None], (8, 12, 12), 3, 0, None)[0].round(6))) > 4


def test_a_fold_and_a_configuration_are_chosen(tmp_path: Path) -> None:
    model(tmp_path, 3, folds=("fold_0", "fold_1"))
    model(tmp_path, 2)
    by_name = build_encoder(tmp_path, network="3d_fullres/fold_1")
    folder = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    by_path = build_encoder(folder / "fold_1")
    other = build_encoder(folder)
    key = "encoder.stages.0.0.weight"
    states = [each.network.state_dict()[key] for each in (by_name, by_path, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert build_encoder(tmp_path, network="2d").spatial_dims == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"network": "fold_3"}, "has no fold_3; there are fold_0"),
        ({"network": "3d_lowres"}, "no configuration '3d_lowres'.*did you mean '3d_fullres'"),
        ({"weights": "other.pth"}, "do not fit PlainConvUNet: .*has shape"),
    ],
)
def test_what_is_not_there_is_said(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    folder = model(tmp_path / "m")
    state = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)
    state["network_weights"] = {k: v[..., :1] for k, v in state["network_weights"].items()}
    torch.save(state, tmp_path / "other.pth")
    if "weights" in options:
        options = {"weights": tmp_path / options["weights"]}
    with pytest.raises(ModelError, match=said) as caught:
        build_encoder(folder, **options)
    assert "\n" not in str(caught.value)


def test_folders_that_are_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"neither a MONAI bundle .* nor a trained model of nnU-Net"):
        build_encoder(tmp_path / "empty")
    folder = model(tmp_path / "m")
    (folder / "dataset.json").unlink()
    with pytest.raises(ModelError, match=r"dataset\.json: the model lacks this file"):
        build_encoder(folder)
    plans = json.loads((folder / "plans.json").read_text())
    described = plans["configurations"]["base"]["architecture"]
    described["network_class_name"] = "os.system"
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text('{"channel_names": {"0": "CT"}, "labels": {"a": 0, "b": 1}}')
    with pytest.raises(ModelError, match=r"its plans name os\.system"):
        build_encoder(folder)


def test_a_scan_without_hu_is_refused(tmp_path: Path) -> None:
    scan(tmp_path / "a.nii")
    with pytest.raises(ScanError, match=r"takes CT in HU, and this scan is of an unknown modality; .*--hu"):
        prepare(build_encoder(model(tmp_path / "m")), [find_one(tmp_path / "a.nii")])


def test_the_remedy_another_intensity_map_takes_such_a_scan(tmp_path: Path) -> None:
    scan(tmp_path / "a.nii")
    folder, arguments = model(tmp_path / "m"), {"_intensity_": "minmax"}
    assert (told_by(folder).units, told_by(folder, arguments=arguments).units) == ("HU", "")
    encoder = build_encoder(folder, arguments=arguments)
    made = prepare(encoder, [find_one(tmp_path / "a.nii")])
    seen = encoder.intensity(made.image[None].float())
    assert (float(seen.min()), float(seen.max())) == (0, 1), "not clipped to the plans' percentiles first"
    back = made.restore(made.image)
    assert torch.allclose(
        back, torch.as_tensor(nib.load(tmp_path / "a.nii").get_fdata()[None]).to(back), atol=40
    )


@pytest.mark.parametrize("schemes", [["CTNormalization"], ["ZScoreNormalization"]])
def test_in_the_scale_of_every_scan_the_network_sees_the_same(tmp_path: Path, schemes: list[str]) -> None:
    """For decoders. On the plans' own spacing, where nothing is resampled, it is nnU-Net's image exactly."""
    folder = model(tmp_path / "m", spacing=(2.2, 1.5, 1.2), schemes=schemes, patch=(8, 16, 16))
    scan(tmp_path / "a.nii", shape=(24, 20, 16))
    found = find_one(tmp_path / "a.nii")
    found = with_hu(found) if schemes == ["CTNormalization"] else found
    own, common = build_encoder(folder), encoder_of({"what": str(folder)})
    assert common.scale is None
    assert any("after the scan is resampled" in note for note in common.notes)
    image = prepare(common, [found]).image.as_tensor()
    low, high = own.scale
    wanted = prepare(own, [found]).image.as_tensor() * (high - low) + low
    with common.conditioned_on(image[None]):
        seen = common.intensity(image[None].float())[0]
    np.testing.assert_allclose(seen, wanted, atol=2e-4)


def test_where_a_mask_decides_decoders_are_refused(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", schemes=["ZScoreNormalization"], masked=True)
    with pytest.raises(ModelError, match="values as they are stored"):
        encoder_of({"what": str(folder)})
    said = encoder_of({"what": str(folder), "arguments": {"_intensity_": "minmax"}})
    assert said.scale is None


@pytest.mark.parametrize("best", [pytest.param(False, marks=pytest.mark.slow), True])
def test_folders_as_totalsegmentator_names_them(tmp_path: Path, best: bool) -> None:
    root = tmp_path / "Dataset297_TotalSegmentator_total_3mm_1559subj"
    made = model(root, old=True, folds=("fold_0", "fold_1", "fold_all"))
    named = root / "nnUNetTrainer_4000epochs_NoMirroring__nnUNetPlans__3d_fullres"
    made.rename(named)
    if best:
        for fold in named.glob("fold_*"):
            (fold / "checkpoint_final.pth").rename(fold / "checkpoint_best.pth")
    image = torch.rand(1, 1, 8, 16, 16)

    def seen(folder: Path, network: str | None = None) -> torch.Tensor:
        return build_encoder(folder, network=network, layers="encoder.stages.0")(image)["encoder.stages.0"]

    folds = {fold: seen(named / f"fold_{fold}") for fold in ("0", "1", "all")}
    assert not torch.equal(folds["0"], folds["1"])
    for place in (root, named):
        assert torch.equal(seen(place), folds["all"]), "what was trained on all is the best choice"
        assert torch.equal(seen(place, "fold_1"), folds["1"])
        assert torch.equal(seen(place, "3d_fullres/fold_0"), folds["0"])
        assert torch.equal(seen(place, "3d_fullres/0"), folds["0"])
    for wrong, said in (("fold_7", "no fold_7"), ("3d_lowres", "3d_lowres")):
        with pytest.raises(ModelError, match=said):
            seen(root, wrong)
