"""`--encoder-channels`: several scans as the channels of a network, one of which its decoders give back."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medrecon.phantoms import random_contrasts
from medrecon.training.launch import process
from medrecon.training.launch.job import Training
from medrecon.training.launch.local import LocalRunner

from .conftest import Run

NAMES = ("t1c", "t1", "t2", "flair")
SHAPE = (22, 20, 18)

NET = """
import torch
from torch import nn

class Net(nn.Module):
    '''Four channels mixed by numbers that a linear map undoes, after a step of their own each.'''
    def __init__(self):
        super().__init__()
        self.mix = nn.Conv3d(4, 6, 1)
        numbers = torch.randn(6, 4, generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            self.mix.weight.copy_(numbers.view(6, 4, 1, 1, 1))
        self.deep = nn.Conv3d(6, 4, 3, stride=2, padding=1)

    def forward(self, x):
        return self.deep(torch.relu(self.mix(x)))
"""


@pytest.fixture(autouse=True)
def ten(small_fits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer images do not tell four channels apart."""
    monkeypatch.setattr("medrecon.training.linear.images.MOST", 10)
    monkeypatch.setattr("medrecon.training.linear.images.FEWEST", 10)


@pytest.fixture
def run(medrecon: Run) -> Run:
    """Runs `medrecon ...`: exit code, stdout, stderr."""
    return lambda *words: medrecon(*words, "--device", "cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two patients of four scans each, a scan on another grid, and the network."""
    here = tmp_path / "scans"
    here.mkdir()
    for patient in (1, 2):
        volumes, _ = random_contrasts(SHAPE, np.random.default_rng(patient), len(NAMES), "MR")
        for name, volume in zip(NAMES, volumes, strict=True):
            nib.save(nib.Nifti1Image(volume, np.diag([1, 1, 1.5, 1])), here / f"p{patient}_{name}.nii.gz")
    nib.save(nib.Nifti1Image(volume, np.diag([1, 1, 3.0, 1])), tmp_path / "thick.nii.gz")
    (tmp_path / "net.py").write_text(NET)
    return here


def channels(folder: Path, order: tuple[str, ...] = NAMES, patient: int = 1) -> list[str]:
    pairs = [f"{k}={folder}/p{patient}_{name}.nii.gz" for k, name in enumerate(order, start=1)]
    return [word for pair in pairs for word in ("--encoder-channels", pair)]


def off(made: Path, truth: Path) -> float:
    """Root of the mean square, as a share of the truth's deviation: 1 for an even picture."""
    a, b = (np.asarray(nib.load(path).dataobj, np.float64) for path in (made, truth))
    return float(np.sqrt(np.square(a - b).mean()) / b.std())


@pytest.fixture
def net(tmp_path: Path) -> list[str]:
    return ["--encoder", f"{tmp_path}/net.py:Net"]


def test_each_channel_comes_back_as_itself_and_the_others_are_heard(
    run: Run, folder: Path, net: list[str], tmp_path: Path
) -> None:
    for name in ("t1", "flair"):
        scan = folder / f"p1_{name}.nii.gz"
        code, _, err = run(
            *("reconstruct", scan, tmp_path / name, *net, *channels(folder), "-l", "mix,deep,input")
        )
        assert code == 0, err
        assert "given to each channel" not in err
        made = tmp_path / name
        assert off(made / "input.nii.gz", scan) == 0
        assert off(made / "mix.nii.gz", scan) < 0.05, "a linear map undoes it, if each has its place"
        assert off(made / "deep.nii.gz", scan) > 2 * off(made / "mix.nii.gz", scan)
    swapped = channels(folder, ("t1c", "t1", "flair", "t2"))
    scan = folder / "p1_t1.nii.gz"
    assert run("reconstruct", scan, tmp_path / "swapped", *net, *swapped, "-l", "mix,deep")[0] == 0
    assert off(tmp_path / "swapped" / "mix.nii.gz", scan) < 0.05
    changed = off(tmp_path / "swapped" / "deep.nii.gz", tmp_path / "t1" / "deep.nii.gz")
    assert changed > 0.01, "where channels are lost the others count"


@pytest.mark.usefixtures("without_pictures")
def test_scans_to_fit_to_come_in_sets(run: Run, folder: Path, net: list[str], tmp_path: Path) -> None:
    scan = folder / "p1_t1.nii.gz"
    words = ["reconstruct", scan, tmp_path / "out.nii.gz", *net, *channels(folder), "-l", "mix"]
    fit = [
        "--fit-on",
        folder,
        *(f"--fit-channels={k}=*_{name}.nii.gz" for k, name in enumerate(NAMES, start=1)),
    ]
    code, _, err = run(*words, *fit)
    assert code == 0, err
    assert off(tmp_path / "out.nii.gz", scan) < 0.05
    code, _, err = run(*words, *fit[:-1], "--overwrite")
    assert (code, "'4' is missing" in err) == (3, True), err
    (folder / "p2_t2.nii.gz").unlink()
    code, _, err = run(*words, *fit, "--overwrite")
    assert (code, "has no '3'" in err) == (3, True), err


def test_without_them_it_is_said_that_one_scan_is_given_to_each(
    run: Run, folder: Path, net: list[str], tmp_path: Path
) -> None:
    for verb in ("reconstruct", "atlas"):
        scan = folder / "p1_t1.nii.gz"
        code, _, err = run(verb, scan, tmp_path / verb, *net, "-l", "mix")
        assert code == 0, err
        assert "given to each channel of the network (1, 2, 3, 4)" in err


@pytest.mark.usefixtures("without_figures")
def test_the_atlas_judges_input_alone_and_asks_the_network_with_all(
    run: Run, folder: Path, net: list[str], tmp_path: Path
) -> None:
    scan, out = folder / "p1_t1.nii.gz", tmp_path / "atlas"
    words = [*net, *channels(folder), "-l", "mix,deep", "--own-output", "--no-viewer"]
    code, _, err = run("atlas", scan, out, *words)
    assert code == 0, err
    facts = json.loads((out / "metrics.json").read_text())
    mix, deep = facts["layers"]
    assert mix["psnr"] > deep["psnr"] + 6
    assert mix["output"]["distance"] < deep["output"]["distance"] < 0.6, "three of four channels are right"
    assert (out / "review.mrb").is_file()


@pytest.fixture
def trained_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """`medrecon train` trains in this process: a start of Python with MONAI takes longer than it."""

    def train(_: LocalRunner, training: Training, __: object) -> str:
        words = training.command()
        with monkeypatch.context() as patch, training.log.open("w") as log:
            patch.setattr(sys, "argv", ["python", *words[words.index("run") :]])
            patch.setattr(sys, "path", list(sys.path))
            with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                process.main()
        return "ended with exit code 0"

    monkeypatch.setattr(LocalRunner, "run", train)


@pytest.mark.usefixtures("trained_here")
def test_features_of_a_bundle_and_decoders_for_patterns_of_names(
    run: Run, folder: Path, net: list[str], tmp_path: Path
) -> None:
    place = tmp_path / "run"
    named = [f"{k}=*_{name}.nii.gz" for k, name in enumerate(NAMES, start=1)]
    named = [named[1], named[0], *named[2:]]  # t1 is given back
    few = ["max_epochs=1", "iterations_per_epoch=2", "fit_batches=4", "decoder_widths=[4,4]"]
    words = [x for pattern in named for x in ("--encoder-channels", pattern)]
    words += [x for each in few for x in ("--set", each)]
    code, _, err = run(
        *("train", folder, place, *net, *words, "-l", "mix", "--held-out", "p2_t2.nii.gz", "--json")
    )
    assert code == 0, err
    record = json.loads((place / "docs" / "provenance.json").read_text())
    assert len(record["data"]["scans"]) == 1, "the other patient is held out as a whole"
    scan, out = folder / "p2_t1.nii.gz", tmp_path / "back.nii.gz"
    mine = channels(folder, patient=2)
    code, _, err = run("reconstruct", scan, out, "--bundle", place, *mine, "-l", "mix")
    assert code == 0, err
    assert off(out, scan) < 0.5
    code, _, err = run("features", scan, tmp_path / "f.nii.gz", "--bundle", place, *mine, "-l", "mix")
    assert code == 0, err
    one, two = tmp_path / "g.nii.gz", tmp_path / "f.nii.gz"
    assert run("features", scan, one, *net, *mine, "-l", "mix")[0] == 0
    assert np.allclose(nib.load(one).dataobj, nib.load(two).dataobj, atol=1e-5)
    for verb in ("reconstruct", "features", "atlas"):
        code, _, err = run(verb, scan, tmp_path / "x", "--bundle", place, "-l", "mix")
        assert (code, "--encoder-channels" in err) == (3, True), err
    other = folder / "p2_t2.nii.gz"
    code, _, err = run("reconstruct", other, tmp_path / "x", "--bundle", place, *mine, "-l", "mix")
    assert (code, "give back 2" in err) == (2, True), err


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (lambda words, _: words[:-2], 3, "'4' is missing"),
        (lambda words, _: [*words[:-1], words[-1].replace("4=", "5=")], 4, "no channel '5'"),
        (lambda words, _: [*words[:-1], "4=" + words[1].partition("=")[2]], 2, "for two channels"),
        (lambda words, here: [*words[:-1], f"4={here}/thick.nii.gz"], 3, "another grid"),
        (lambda words, here: [*words[:-1], f"4={here}/none.nii.gz"], 3, "none.nii.gz"),
        (lambda words, _: [*words[:2], *words[4:], "--encoder-channels", "2=" + words[5][2:]], 2, ""),
        (lambda words, here: [*words, "--fit-on", str(here / "scans")], 2, "--fit-channels"),
    ],
    ids=["missing", "unknown", "twice", "grid", "no file", "INPUT", "fit-on"],
)
def test_what_cannot_be_is_refused(
    change: Callable[[list[str], Path], list[str]],
    code: int,
    said: str,
    run: Run,
    folder: Path,
    net: list[str],
    tmp_path: Path,
) -> None:
    words = change(channels(folder), tmp_path)
    ended, _, err = run("reconstruct", folder / "p1_t1.nii.gz", tmp_path / "out", *net, *words, "-l", "mix")
    assert ended == code, err
    assert said in err
    assert not (tmp_path / "out").exists()


def test_sets_that_are_not_whole_are_refused_before_a_training(
    run: Run, folder: Path, net: list[str], tmp_path: Path
) -> None:
    def train(*named: str) -> tuple[int, str, str]:
        words = [x for each in named for x in ("--encoder-channels", each)]
        return run("train", folder, tmp_path / "run", *net, *words, "-l", "mix", "--dry-run")

    good = [f"{k}=*_{name}.nii.gz" for k, name in enumerate(NAMES, start=1)]
    assert train(*good)[0] == 0
    assert train(*good[:3])[0] == 3
    assert train(*good, "5=*.nii.gz")[0] == 4
    code, _, err = train(*good[:3], "4=*.nii.gz")
    assert (code, " and 4; name channels apart" in err) == (2, True), err
    code, _, err = train(*good[:3], "4=*_swi.nii.gz")
    assert (code, "has no '4'" in err) == (3, True), err
    (folder / "p1_t2.nii.gz").unlink()
    code, _, err = train(*good)
    assert (code, "has no '3'" in err) == (3, True), err


@pytest.mark.slow
def test_a_sweep_measures_decoders_of_the_first_channel(
    run: Run, folder: Path, net: list[str], tmp_path: Path
) -> None:
    order = (1, 0, 2, 3)  # t1 is given back
    named = [w for k in order for w in ("--encoder-channels", f"{k + 1}=*_{NAMES[k]}.nii.gz")]
    few = [w for each in ("iterations_per_epoch=2", "fit_batches=4") for w in ("--set", each)]
    words = ["--layer", "mix", "--held-out", "p2_t2.nii.gz", "--steps", "2", "--widths", "4,8", *few]
    code, out, err = run("sweep", folder, tmp_path / "sweep", *net, *named, *words, "--json")
    assert code == 0, err
    rows = json.loads(out)["variants"]
    assert [row["variant"] for row in rows] == ["width4", "width8"]
    for row in rows:
        kept, trained = row["scans"]["held_out"], row["scans"]["training"]
        assert (len(kept), len(trained)) == (1, 1), "a patient is held out as a whole"
        assert row["held_out"]["psnr"] > 20, "a linear map is fitted: the channel comes back as itself"
        assert row["held_out"]["perceptual"] is not None
    again = tmp_path / "sweep" / "variants" / "width4"
    code, _, err = run("sweep", folder, tmp_path / "two", "--bundle", again, *words)
    assert (code, "takes several scans" in err) == (3, True), err


def test_where_nothing_can_be_made_of_them(
    run: Run, medrecon: Run, folder: Path, net: list[str], tmp_path: Path
) -> None:
    for words, said in (
        (["atlas", folder / "p1_t1.nii.gz", tmp_path / "out", "--compare", "a", "b"], "two bundles"),
        (["train", folder, tmp_path / "out"], "--encoder"),
    ):
        code, _, err = run(*words, *channels(folder))
        assert (code, said in err) == (2, True), err
    code, _, err = medrecon("layers", *net, *channels(folder))
    assert (code, "reads no scan" in err) == (2, True)
