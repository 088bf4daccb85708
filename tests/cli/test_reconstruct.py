"""The verb `reconstruct` on one scan and on several, whole and broken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medrecon.cli.app import main

from .conftest import Run

Make = Callable[..., np.ndarray]


@pytest.fixture
def run(medrecon: Run, tiny_bundle: Path) -> Run:
    """Runs `medrecon reconstruct ... --bundle tiny`: exit code, stdout, stderr."""
    return lambda *words: medrecon("reconstruct", *words, "--bundle", tiny_bundle, "--device", "cpu")


@pytest.fixture
def own_bundle(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Path]:
    """The volume bundle with a small network, whose decoder says that it reaches so many voxels less far."""

    def make(less: int) -> Path:
        import torch

        from ..tiny_networks import build

        network = build(mixed_precision=False)
        folder = tmp_path / "own"
        shutil.copytree(repo / "bundles" / "volume_transform_code" / "configs", folder / "configs")
        place = folder / "configs" / "metadata.json"
        meta = json.loads(place.read_text("utf-8"))
        meta["network_def"]["encoder"]["orders"] = 2
        meta["network_def"]["inversion"] |= {"widths": [6, 8], "depth": 1, "coarse_depth": 1}
        meta["network_def"]["mixed_precision"] = False
        place.write_text(json.dumps(meta), encoding="utf-8")
        (folder / "models").mkdir()
        torch.save(network.state_dict(), folder / "models" / "model.pt")
        halo = type(network).halo.fget
        monkeypatch.setattr(type(network), "halo", property(lambda self: halo(self) - less))
        return folder

    return make


def fail_on(bundle: Path, slices: int, error: str) -> None:
    """Make the bundle's inferer fail on scans of that many slices."""
    config = bundle / "configs" / "inference.yaml"
    text = config.read_text()
    config.write_text(
        text.replace("tiny_parts.WholeInferer", f"tiny_parts.Fails\n  slices: {slices}\n  error: {error}")
    )


def test_one_series_becomes_one_series(run: Callable, tmp_path: Path, make_ct: Make) -> None:
    make_ct(tmp_path / "in")
    code, out, err = run(tmp_path / "in", tmp_path / "out", "--layers", "coarse2")
    assert (code, err) == (0, "")
    assert "coarse2" in out
    assert len(list((tmp_path / "out").glob("*.dcm"))) == 6


def test_json_and_nothing_else_on_stdout(run: Callable, tmp_path: Path, make_nifti: Make) -> None:
    make_nifti(tmp_path / "a.nii.gz")
    code, out, err = run(tmp_path / "a.nii.gz", tmp_path / "out", "-l", "input,coarse4", "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    (result,) = data["results"]
    assert set(result["outputs"]) == {"input", "coarse4"}
    assert all(Path(path).is_file() for path in result["outputs"].values())
    assert data["failed"] == []


def test_format_nifti_from_dicom(run: Callable, tmp_path: Path, make_ct: Make) -> None:
    make_ct(tmp_path / "in")
    code, _, err = run(tmp_path / "in", tmp_path / "out.nii.gz", "-l", "coarse2", "--format", "nifti")
    assert (code, err) == (0, "")
    assert (tmp_path / "out.nii.gz").is_file()


def test_values_taken_as_hu_are_mapped_by_the_window(
    run: Callable, tmp_path: Path, make_nifti: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from tiny_parts import WholeInferer

    seen: list[torch.Tensor] = []
    call = WholeInferer.__call__
    monkeypatch.setattr(
        WholeInferer,
        "__call__",
        lambda self, image, net, **more: seen.append(image.clone()) or call(self, image, net, **more),
    )
    values = make_nifti(tmp_path / "ct.nii.gz")
    assert run(tmp_path / "ct.nii.gz", tmp_path / "out", "-l", "coarse2", "--hu")[0] == 0
    expected = (values.astype(np.float64) + 1024) / 4095
    assert np.abs(seen[0][0, 0].numpy() - expected).max() < 1e-5


def test_a_refused_scan_is_one_line(run: Callable, tmp_path: Path, make_ct: Make) -> None:
    make_ct(tmp_path / "in", leave_out=2)
    code, out, err = run(tmp_path / "in", tmp_path / "out", "-l", "coarse2")
    assert (code, out) == (3, "")
    assert err.count("\n") == 1
    assert str(tmp_path / "in") in err
    assert not (tmp_path / "out").exists()
    code, out, _ = run(tmp_path / "in", tmp_path / "out", "-l", "coarse2", "--json")
    assert code == 3
    assert json.loads(out)["error"]["exit_code"] == 3


def test_nothing_there(run: Callable, tmp_path: Path) -> None:
    code, out, err = run(tmp_path / "nowhere", tmp_path / "out", "-l", "coarse2")
    assert (code, out) == (3, "")
    assert str(tmp_path / "nowhere") in err


def test_series_side_by_side_are_not_guessed_at(run: Callable, tmp_path: Path, make_ct: Make) -> None:
    make_ct(tmp_path / "in" / "a", description="first", seed=1)
    make_ct(tmp_path / "other", description="second", seed=2)
    for file in (tmp_path / "other").iterdir():
        file.rename(tmp_path / "in" / "a" / f"b_{file.name}")
    code, out, err = run(tmp_path / "in", tmp_path / "out", "-l", "coarse2")
    assert (code, out) == (3, "")
    assert all(word in err for word in ("holds 2 series", "--series", "--all-series", "medrecon scans"))
    assert "first" not in err
    key = err.split("--series ")[1].split(",")[0]
    assert run(tmp_path / "in", tmp_path / "one", "-l", "coarse2", "--series", key)[0] == 0
    assert len(list((tmp_path / "one").glob("*.dcm"))) == 6
    assert run(tmp_path / "in", tmp_path / "out", "-l", "coarse2", "--all-series")[0] == 0
    assert len([path for path in (tmp_path / "out").iterdir() if path.is_dir()]) == 2


def test_a_scan_that_is_refused_does_not_stop_the_others(
    run: Callable, tmp_path: Path, make_ct: Make
) -> None:
    make_ct(tmp_path / "in" / "a", description="whole", seed=1)
    make_ct(tmp_path / "in" / "b", description="gap", seed=2, leave_out=3)
    code, out, err = run(tmp_path / "in", tmp_path / "out", "-l", "coarse2")
    assert code == 8
    assert err.count("\n") == 1
    assert len(list((tmp_path / "out").glob("*.dcm"))) == 6
    assert "failed" in out


def test_a_scan_that_fails_does_not_stop_the_others(
    run: Callable, tmp_path: Path, make_ct: Make, tiny_bundle: Path
) -> None:
    for index, slices in enumerate((5, 6, 7)):
        make_ct(tmp_path / "in" / str(index), (20, 24, slices), description=f"s{slices}", seed=index)
    fail_on(tiny_bundle, 6, "memory")
    code, out, err = run(tmp_path / "in", tmp_path / "out", "-l", "coarse2", "--json")
    assert code == 8
    data = json.loads(out)
    assert len(data["results"]) == 2
    assert [fault["exit_code"] for fault in data["failed"]] == [6]
    assert data["failed"][0]["path"] == str(tmp_path / "in" / "1")
    assert err.count("\n") == 1
    assert len([path for path in (tmp_path / "out").iterdir() if path.is_dir()]) == 2


def test_when_all_fail_the_code_is_that_of_the_failure(
    run: Callable, tmp_path: Path, make_ct: Make, tiny_bundle: Path
) -> None:
    for index in range(2):
        make_ct(tmp_path / "in" / str(index), description=f"s{index}", seed=index)
    fail_on(tiny_bundle, 6, "bug")
    code, _, err = run(tmp_path / "in", tmp_path / "out", "-l", "coarse2")
    assert code == 7
    assert err.count("internal error: ZeroDivisionError: planted") == 2


@pytest.mark.parametrize(("error", "code"), [("memory", 6), ("bug", 7), ("interrupt", 130)])
def test_one_scan_that_fails(
    run: Callable, tmp_path: Path, make_ct: Make, tiny_bundle: Path, error: str, code: int
) -> None:
    make_ct(tmp_path / "in")
    fail_on(tiny_bundle, 6, error)
    ended, out, err = run(tmp_path / "in", tmp_path / "out", "-l", "coarse2")
    assert (ended, out) == (code, "")
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_existing_output_needs_overwrite(run: Callable, tmp_path: Path, make_nifti: Make) -> None:
    make_nifti(tmp_path / "a.nii.gz")
    (tmp_path / "b.nii.gz").write_bytes(b"precious")
    code, _, err = run(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", "-l", "coarse2")
    assert code == 5
    assert "overwrite" in err
    assert (tmp_path / "b.nii.gz").read_bytes() == b"precious"
    assert run(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", "-l", "coarse2", "--overwrite")[0] == 0
    assert (tmp_path / "b.nii.gz").read_bytes() != b"precious"


def test_no_identity_in_names_or_words(run: Callable, tmp_path: Path, make_ct: Make) -> None:
    make_ct(tmp_path / "in" / "a", patient="Secretname^Anna", description="Secretname chest", seed=1)
    make_ct(tmp_path / "in" / "b", patient="Secretname^Anna", description="ID-4711 belly", seed=2)
    code, out, err = run(tmp_path / "in", tmp_path / "out", "-l", "coarse2,input")
    assert (code, err) == (0, "")
    written = "\n".join(str(path.relative_to(tmp_path)) for path in (tmp_path / "out").rglob("*"))
    for secret in ("secretname", "anna", "4711"):
        assert secret not in (written + out).lower().replace(str(tmp_path).lower(), "")


def test_a_network_that_does_not_say_its_reach_is_not_tiled(
    run: Callable, tmp_path: Path, make_ct: Make
) -> None:
    make_ct(tmp_path / "in")
    code, out, err = run(tmp_path / "in", tmp_path / "out", "-l", "coarse2", "--check-tiling")
    assert (code, out) == (4, "")
    assert "not run in tiles" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("less", [0, 16])
def test_the_own_network_in_tiles_is_compared_with_one_piece(
    own_bundle: Callable[[int], Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    make_ct: Make,
    less: int,
) -> None:
    make_ct(tmp_path / "in", (140, 24, 6))
    arguments = [str(tmp_path / "in"), str(tmp_path / "out"), "--bundle", str(own_bundle(less))]
    with pytest.raises(SystemExit) as ended:
        main(["reconstruct", *arguments, "--layers", "level4", "--check-tiling", "--json"])
    out, err = capsys.readouterr()
    if less:
        assert ended.value.code == 4
        assert "tiles leave seams" in err
        assert not (tmp_path / "out").exists()
        return
    assert ended.value.code == 0
    told = json.loads(out)["results"][0]["tiling"]
    assert told["passed"] is True
    assert told["small"] <= told["limit"] == 1e-4
    assert told["region"] == [140, 24, 6]


@pytest.mark.real_data
def test_a_real_series_comes_back_unchanged(
    capsys: pytest.CaptureFixture[str], shared_dir: Path, tmp_path: Path
) -> None:
    source = shared_dir / "data" / "real" / "mr_adc_prostate_ge_signahdxt_256x256x20_dicom"
    with pytest.raises(SystemExit) as ended:
        main(["reconstruct", str(source), str(tmp_path / "out"), "-l", "input,level4", "-q"])
    assert ended.value.code == 0
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["compare", str(source), str(tmp_path / "out" / "input"), "--json"])
    assert json.loads(capsys.readouterr().out)["identical"] is True
    with pytest.raises(SystemExit):
        main(["compare", str(source), str(tmp_path / "out" / "level4"), "--json"])
    assert json.loads(capsys.readouterr().out)["psnr"] > 20


def test_a_dry_run_checks_all_and_writes_nothing(run: Callable, tmp_path: Path, make_nifti: Make) -> None:
    make_nifti(tmp_path / "in" / "a.nii.gz")
    make_nifti(tmp_path / "in" / "b.nii.gz", seed=1)
    asked = (tmp_path / "in", tmp_path / "out", "--layers", "coarse2,coarse4")
    code, out, err = run(*asked, "--dry-run", "--json")
    assert (code, err) == (0, "")
    planned = json.loads(out)["planned"]
    assert {path.name for path in tmp_path.iterdir()} == {"in", "bundles"}
    code, out, _ = run(*asked, "--dry-run")
    assert code == 0
    assert "nothing was written" in out
    _, out, _ = run(*asked, "--dry-run", "--error-map", "--json")
    maps = [path for scan in json.loads(out)["planned"] for path in scan["error_maps"].values()]
    assert len(maps) == 4
    assert all(path.endswith("_error.nii.gz") for path in maps)
    assert not any(scan["error_maps"] for scan in planned)
    assert run(*asked)[0] == 0
    assert all(Path(path).exists() for scan in planned for path in scan["outputs"].values())
    assert sum(len(scan["outputs"]) for scan in planned) == 4
    code, _, err = run(*asked, "--dry-run")
    assert code == 5, "what would be refused is refused"
    assert "exists" in err
