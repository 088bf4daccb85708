"""`--encoder` before train, reconstruct and atlas: any network by its name, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from monai.networks.nets import UNet

from medrecon.cli.linear import DEFAULT, decoders_for
from medrecon.cli.networks import OtherNetwork
from medrecon.training.linear import LOWER_BOUND

from ..conftest import write_waves
from .conftest import Run

PLAIN = [
    *("--encoder", "medrecon.encoders.PlainEncoder"),
    *("--encoder-arguments", '{"spatial_dims": 2, "channels": [6, 8]}'),
]


pytestmark = pytest.mark.usefixtures("small_fits")


@pytest.fixture
def run(medrecon: Run) -> Run:
    """Runs `medrecon ...`: exit code, stdout, stderr."""
    return lambda *words: medrecon(*words, "--device", "cpu")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_waves(tmp_path / "t1.nii.gz")


def test_reconstruct_and_what_it_says(run: Run, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, _ = run("reconstruct", scan, out, *PLAIN, "--layers", "input,level1,level1+level2")
    assert code == 0
    assert f"note: {LOWER_BOUND}" in " ".join(said.split())
    assert sorted(path.name for path in out.glob("*.nii.gz")) == [
        "input.nii.gz",
        "level1+level2.nii.gz",
        "level1.nii.gz",
    ]
    manifest = json.loads((out / "manifest.json").read_text())
    assert LOWER_BOUND in manifest["warnings"]
    code, said, err = run("reconstruct", scan, tmp_path / "b", *PLAIN, "-l", "level1", "--json")
    assert (code, err) == (0, "")
    assert json.loads(said)["caveats"] == [LOWER_BOUND]


@pytest.mark.usefixtures("without_figures")
def test_atlas_says_that_it_is_a_bound_in_figures_and_page(run: Run, scan: Path, tmp_path: Path) -> None:
    code, _, err = run("atlas", scan, tmp_path / "out", *PLAIN, "--layers", "level2", "--no-viewer")
    assert code == 0
    assert LOWER_BOUND in " ".join(err.split())
    scores = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert LOWER_BOUND in scores["warnings"]
    assert scores["facts"]["model"] == "medrecon.encoders.PlainEncoder_linear_inverse"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "a lower bound of what each layer keeps" in page
    shown = 'href="#features"', "three principal components of level2 as red, green and blue"
    assert all(words in page for words in shown)
    words = [*PLAIN, "--layers", "level2", "--no-viewer", "--no-features"]
    assert run("atlas", scan, tmp_path / "plain", *words)[0] == 0
    plain = (tmp_path / "plain" / "report.html").read_text()
    assert not any(words in plain for words in shown)


@pytest.mark.usefixtures("without_pictures")
def test_single_channels_are_results_of_their_own(run: Run, scan: Path, tmp_path: Path) -> None:
    words = [*PLAIN, "--layers", "level1,level1[2],level1[2]+level1[0]"]
    code, _, err = run("atlas", scan, tmp_path / "out", *words, "--no-viewer")
    assert code == 0, err
    rows = {
        row["layer"]: row for row in json.loads((tmp_path / "out" / "metrics.json").read_text())["layers"]
    }
    assert rows["level1"]["channels"] == 6
    assert rows["level1[2]"]["channels"] == 1
    assert rows["level1"]["psnr"] > rows["level1[2]+level1[0]"]["psnr"] > rows["level1[2]"]["psnr"]
    assert run("reconstruct", scan, tmp_path / "one.nii.gz", *PLAIN, "-l", "level1[2]")[0] == 0
    plan = ["train", scan.parent, tmp_path / "run", *PLAIN, "--layers", "level1[2]", "--dry-run"]
    assert run(*plan)[0] == 0
    code, _, err = run("reconstruct", scan, tmp_path / "x", *PLAIN, "-l", "level1[6]")
    assert (code, "has no channel 6" in err) == (4, True), err


def test_scans_to_fit_to(run: Run, scan: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.nii.gz").write_bytes(scan.read_bytes())
    words = ["reconstruct", scan, tmp_path / "out", *PLAIN, "-l", "level1", "--fit-on", tmp_path / "mine"]
    assert run(*words)[0] == 0
    assert len(list((tmp_path / "cache").rglob("model.pt"))) == 1
    code, _, err = run("reconstruct", scan, tmp_path / "o", "--fit-on", tmp_path / "mine")
    assert (code, "--encoder" in err) == (2, True)


def test_a_training_is_planned_from_the_name_alone(run: Run, scan: Path, tmp_path: Path) -> None:
    words = ["train", scan.parent, tmp_path / "run", *PLAIN, "--layers", "level1,level2", "--dry-run"]
    code, said, _ = run(*words, "--json")
    assert code == 0
    plan = json.loads(said)
    assert plan["epochs"] == 40
    assert "any_network" in plan["configurations"][0]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 4, "which of them"),
        (["-l", "level9"], 4, "level2 or level1"),
        (["-l", "level1", "--weights", "no.pt"], 4, ""),
        (["-l", "level1", "--bundle", "slice_autoencoder"], 2, "a network each"),
        (["-l", "level1", "--encoder-channels", "t1=x.nii"], 4, "--encoder-channels"),
    ],
)
@pytest.mark.parametrize("verb", ["reconstruct", "atlas", "train"])
def test_what_cannot_be_is_refused_at_once(
    verb: str, words: list[str], code: int, said: str, run: Run, scan: Path, tmp_path: Path
) -> None:
    ended, _, err = run(verb, scan.parent if verb == "train" else scan, tmp_path / "out", *PLAIN, *words)
    assert ended == code, err
    assert said in err
    assert not (tmp_path / "out").exists()


def test_layers_of_a_bundle_are_not_chosen_when_it_is_trained(run: Run, scan: Path, tmp_path: Path) -> None:
    code, _, err = run("train", scan.parent, tmp_path / "run", "--layers", "level1")
    assert (code, "--encoder" in err) == (2, True)


UNET = [
    *("--encoder", "monai.networks.nets.UNet", "--encoder-arguments"),
    '{"spatial_dims": 2, "in_channels": 1, "out_channels": 3, "channels": [4, 6], "strides": [2]}',
]


@pytest.mark.usefixtures("without_figures")
def test_what_the_network_itself_makes_of_it(run: Run, scan: Path, tmp_path: Path) -> None:
    words = ["--layers", "model.0", "--own-output", "--no-viewer"]
    code, _, err = run("atlas", scan, tmp_path / "out", *UNET, *words)
    assert code == 0, err
    (layer,) = json.loads((tmp_path / "out" / "metrics.json").read_text())["layers"]
    assert 0 < layer["output"]["distance"] < 2
    assert 0 <= layer["output"]["dice"] <= 1
    assert set(layer["output"]["labels"]) <= {"1", "2"}
    table = (tmp_path / "out" / "metrics.csv").read_text().splitlines()
    assert {"output_dice", "output_distance"} <= set(table[0].split(","))
    assert "Dice of the output" in (tmp_path / "out" / "report.html").read_text()
    code, _, err = run("atlas", scan, tmp_path / "none", *PLAIN, *words[2:], "--layers", "level1")
    assert (code, "no image" in err) == (4, True)


@pytest.mark.parametrize("verb", ["reconstruct", "atlas"])
def test_a_network_for_hu_refuses_a_scan_without(
    verb: str, run: Run, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medrecon.encoders.PlainEncoder.units", "HU")
    code, _, err = run(verb, scan, tmp_path / "out", *PLAIN, "--layers", "level1")
    assert (code, "HU" in err) == (3, True), err
    assert "fitting" not in err  # refused before the inverse is made
    assert not list((tmp_path / "cache").rglob("model.pt"))


def test_values_as_they_are_stored_are_not_given_back(
    run: Run, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medrecon.encoders.PlainEncoder.scale", (0.0, 500.0))
    code, _, err = run("reconstruct", scan, tmp_path / "out", *PLAIN, "--layers", "level1")
    assert (code, "as they are stored" in err) == (4, True), err


@pytest.mark.slow
def test_sweep_of_decoders_for_any_network_and_of_what_train_made(
    run: Run, scan: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.nii.gz").write_bytes(scan.read_bytes())
    short = ["--layer", "level2", "--held-out", "b.nii.gz", "--steps", "2", "--set", "iterations_per_epoch=2"]
    short += ["--set", "fit_batches=2", "--widths", "4,8", "--slices", "1"]
    code, said, err = run("sweep", folder, tmp_path / "one", *PLAIN, *short, "--json")
    assert code == 0, err
    made = json.loads(said)
    assert [row["variant"] for row in made["variants"]] == ["width4", "width8"]
    assert made["variants"][0]["parameters"] < made["variants"][1]["parameters"]
    assert made["bundle"] == "medrecon.encoders.PlainEncoder"
    again = tmp_path / "one" / "variants" / "width4"
    code, said, err = run("sweep", folder, tmp_path / "two", "--bundle", again, *short, "--json")
    assert code == 0, err
    rows = json.loads(said)["variants"]
    assert [row["parameters"] for row in rows] == [row["parameters"] for row in made["variants"]]


def test_a_sweep_names_one_network(run: Run, tmp_path: Path) -> None:
    code, _, err = run(
        "sweep", tmp_path, tmp_path / "out", *PLAIN, "--layer", "level2", "--bundle", "volume_autoencoder"
    )
    assert code == 2
    assert "--encoder and --bundle name a network each" in err


@pytest.mark.parametrize("verb", ["reconstruct", "atlas"])
def test_samples_of_a_network_alone_are_refused_before_anything_is_fitted(
    verb: str, run: Run, scan: Path, tmp_path: Path
) -> None:
    code, _, err = run(verb, scan, tmp_path / "out", *PLAIN, "--layers", "level2", "--samples", "2")
    assert code == 4
    assert "beside a linear inverse" in err
    assert err.count("\n") == 1, "nothing was fitted"
    assert not (tmp_path / "out").exists()


def test_a_sweep_takes_the_network_with_its_weights(tmp_path: Path) -> None:
    options = json.loads(UNET[3])
    torch.save(UNet(**options).state_dict(), tmp_path / "a.pt")
    other = OtherNetwork(encoder=UNET[1], arguments=UNET[3], weights=tmp_path / "a.pt")
    settings = decoders_for(other, DEFAULT, "model.0", default=DEFAULT)
    assert settings["encoder_weights"] == str(tmp_path / "a.pt")
    assert settings["encoder"]["what"] == UNET[1]
    assert json.loads(settings["encoder"]["arguments"]) == options
    assert "training_results" not in settings
