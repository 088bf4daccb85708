"""Python's functions take a network as the command does, and a network itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

import medrecon
from medrecon.bundle.channels import sets_to_fit
from medrecon.encoders import ScansBeside, TappedEncoder
from medrecon.errors import ModelError, ScanError, UsageError
from medrecon.io import find_scans
from medrecon.training.linear.bundle import sources_of

from ...conftest import write_waves

pytestmark = pytest.mark.usefixtures("small_fits")

SMALL: dict[str, Any] = {
    **{"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": [4, 6], "strides": [2]},
}


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_waves(tmp_path / "t1.nii.gz", slices=9)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle of MONAI's own form, with the weights of `network`."""
    root = tmp_path / "some_bundle"
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    config = f'{{"network_def": {{"_target_": "monai.networks.nets.UNet", {str(SMALL)[1:-1]}}}}}'
    (root / "configs" / "inference.json").write_text(config.replace("'", '"'))
    (root / "configs" / "metadata.json").write_text("{}")
    torch.save(network().state_dict(), root / "models" / "model.pt")
    return root


def network() -> nn.Module:
    torch.manual_seed(0)
    return UNet(**SMALL)


def local_class() -> Any:
    """A class that no dotted path leads to, as one in a notebook."""

    class Local(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, width, 3, padding=1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.conv(image))

    return Local


def test_every_form_of_a_network_gives_the_same(scan: Path, folder: Path, tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "a.pt")
    arguments = {"encoder_arguments": SMALL, "encoder_weights": tmp_path / "a.pt"}
    forms: dict[str, Callable[[], Any]] = {
        "path": lambda: ("monai.networks.nets.UNet", arguments),
        "class": lambda: (UNet, arguments),
        "folder": lambda: (folder, {}),
        "network": lambda: (network(), {}),
        "mapping": lambda: (
            {"what": "monai.networks.nets.UNet", "arguments": SMALL, "weights": tmp_path / "a.pt"},
            {},
        ),
    }
    images = {}
    for name, form in forms.items():
        encoder, more = form()
        made = medrecon.reconstruct(scan, "model.0,input", encoder=encoder, device="cpu", **more)
        assert np.array_equal(made["input"], np.asarray(nib.load(scan).dataobj))
        assert any("lower bound" in note for note in made.notes)
        images[name] = made["model.0"]
    assert images["path"].std() > 0
    for name, image in images.items():
        assert np.allclose(image, images["path"], atol=1e-3), name


def test_a_network_of_a_session_stays_as_it_is_and_is_fitted_once(
    scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = network()
    own.train()
    before = {name: value.clone() for name, value in own.state_dict().items()}
    first = medrecon.reconstruct(scan, "model.0", encoder=own, device="cpu")
    assert own.training
    assert all(parameter.requires_grad for parameter in own.parameters())
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    monkeypatch.setattr("medrecon.training.linear.bundle.typical_images", None)
    again = medrecon.reconstruct(scan, "model.0", encoder=own, device="cpu")
    assert np.array_equal(first["model.0"], again["model.0"])
    with torch.no_grad():
        next(own.parameters()).add_(1)
    with pytest.raises(TypeError):  # other weights: it would be fitted anew
        medrecon.reconstruct(scan, "model.0", encoder=own, device="cpu")


def test_a_class_without_a_path(scan: Path, tmp_path: Path) -> None:
    made = medrecon.reconstruct(
        scan,
        "conv",
        encoder=local_class(),
        encoder_arguments={"width": 5, "_window_": [32, 32]},
        device="cpu",
    )
    assert made["conv"].shape == (35, 33, 9)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.nii.gz").write_bytes(scan.read_bytes())
    given = {"encoder": local_class(), "encoder_arguments": {"width": 5}, "device": "cpu"}
    one = medrecon.reconstruct(scan, "conv", fit_on=tmp_path / "mine", **given)
    two = medrecon.reconstruct(scan, "conv", fit_on=find_scans(tmp_path / "mine").scans, **given)
    assert one.derivations.keys() == two.derivations.keys()


@pytest.mark.usefixtures("without_pictures")
def test_an_atlas_of_a_network_and_of_a_name(scan: Path, tmp_path: Path) -> None:
    one = medrecon.make_atlas(
        scan, tmp_path / "one", "model.0", encoder=network(), device="cpu", viewer=False
    )
    torch.save(network().state_dict(), tmp_path / "a.pt")
    two = medrecon.make_atlas(
        *(scan, tmp_path / "two", "model.0"),
        **{"encoder": "monai.networks.nets.UNet", "encoder_arguments": SMALL},
        **{"encoder_weights": tmp_path / "a.pt", "own_output": True, "device": "cpu", "viewer": False},
    )
    assert one.layers[0].psnr == pytest.approx(two.layers[0].psnr, abs=1e-3)
    assert two.layers[0].output is not None
    with pytest.raises(UsageError, match="no name"):
        medrecon.make_atlas(scan, tmp_path / "x", "model.0", encoder=network(), own_output=True)


@pytest.mark.parametrize(
    ("more", "kind", "said"),
    [
        ({"layers": None}, UsageError, "which of them"),
        ({"layers": "input"}, UsageError, "which of them"),
        ({"layers": "model.9"}, ModelError, "model.9"),
        ({"layers": "model.0", "bundle": "slice_autoencoder"}, UsageError, "a network each"),
        ({"layers": "model.0", "encoder_arguments": {"width": 3}}, ModelError, "made already"),
    ],
)
def test_what_cannot_be_is_refused(more: dict[str, Any], kind: Any, said: str, scan: Path) -> None:
    with pytest.raises(kind, match=said):
        medrecon.reconstruct(scan, encoder=network(), device="cpu", **more)


def test_other_code_of_the_same_weights_is_another_network(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder: Any = nn.Sequential(local_class()(3))
    before = sources_of(encoder)
    assert before == sources_of(encoder)
    monkeypatch.setattr("inspect.getsource", lambda kind: "class Local: changed")
    assert before != sources_of(encoder)


class Mixed(nn.Module):
    """Two channels mixed by numbers that a linear map undoes."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv3d(2, 3, 1)
        with torch.no_grad():
            self.mix.weight.copy_(torch.tensor([[1.0, 0.5], [-0.5, 1.0], [0.3, -0.8]]).view(3, 2, 1, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.mix(image)


@pytest.fixture
def pair(scan: Path) -> dict[str, Path]:
    """The scan as one channel, and another scan of its grid as the other."""
    source = nib.load(scan)
    values = np.asarray(source.dataobj, np.float32)[::-1, ::-1] ** 2
    other = scan.with_name("t2.nii.gz")
    nib.save(nib.Nifti1Image(values, source.affine), other)
    return {"1": scan, "2": other}


def test_several_scans_are_channels(scan: Path, pair: dict[str, Path], tmp_path: Path) -> None:
    given = {"encoder": Mixed(), "encoder_channels": pair, "device": "cpu"}
    for source in (scan, pair["2"]):
        made = medrecon.reconstruct(source, "mix", **given)
        truth = np.asarray(nib.load(source).dataobj, np.float64)
        assert np.abs(made["mix"] - truth).max() < 0.05 * np.ptp(truth), "each comes back as itself"
    patterns = {"2": "*2.nii.gz", "1": "*1.nii.gz"}
    made = medrecon.reconstruct(scan, "mix", **given, fit_on=tmp_path, fit_channels=patterns)
    truth = np.asarray(nib.load(scan).dataobj, np.float64)
    assert np.abs(made["mix"] - truth).max() < 0.05 * np.ptp(truth)
    one = find_scans(scan).scans[0]
    scores = medrecon.make_atlas(one, tmp_path / "atlas", "mix", **given, viewer=False)
    assert scores.layers[0].psnr > 30


def test_a_bundle_for_several_scans_takes_them_from_python(scan: Path, pair: dict[str, Path]) -> None:
    recipe = {"what": f"{Mixed.__module__}.Mixed", "first_channel": "1"}
    bundle = medrecon.linear_inverse(recipe, "mix", device="cpu")
    made = medrecon.reconstruct(scan, "mix", bundle=bundle, encoder_channels=pair, device="cpu")
    truth = np.asarray(nib.load(scan).dataobj, np.float64)
    assert np.abs(made["mix"] - truth).max() < 0.05 * np.ptp(truth)
    with pytest.raises(ScanError, match="--encoder-channels"):
        medrecon.reconstruct(scan, "mix", bundle=bundle, device="cpu")
    with pytest.raises(UsageError, match="give back 1, and INPUT is 2"):
        medrecon.reconstruct(pair["2"], "mix", bundle=bundle, encoder_channels=pair, device="cpu")


def test_scans_to_fit_to_have_that_first_which_comes_back(pair: dict[str, Path], tmp_path: Path) -> None:
    encoder = ScansBeside(TappedEncoder(Mixed()), "2")
    (one,) = sets_to_fit(encoder, find_scans(tmp_path).scans, {"1": "*1.nii.gz", "2": "*2.nii.gz"})
    assert (one.path, one.beside[0].path) == (pair["2"], pair["1"])


def test_channels_that_do_not_suit(scan: Path, pair: dict[str, Path], tmp_path: Path) -> None:
    def fails(kind: type[Exception], said: str, **more: Any) -> None:
        with pytest.raises(kind, match=said):
            medrecon.reconstruct(scan, "mix", **{"encoder": Mixed(), "device": "cpu", **more})

    fails(ScanError, "'2' is missing", encoder_channels={"1": scan})
    fails(ModelError, "no channel '3'", encoder_channels={"1": scan, "3": pair["2"]})
    fails(UsageError, "none of its channels", encoder_channels={"1": pair["2"], "2": pair["2"]})
    fails(UsageError, "for two channels", encoder_channels={"1": scan, "2": scan})
    fails(UsageError, "fit_channels", encoder_channels=pair, fit_on=tmp_path)
    fails(ModelError, "takes one scan", encoder_channels=pair, bundle="slice_transform_code", encoder=None)
