"""Bundles are found by name or path, and refused in one line when something is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from medrecon.bundle.config import Bundle, bundle_names, find_bundle, layers_of
from medrecon.errors import ModelError, UsageError
from medrecon.inference.pipeline import Pipeline
from medrecon.io import find_scans


def test_the_bundles_that_come_along_are_found_by_name() -> None:
    for name in bundle_names():
        assert (find_bundle(name) / "configs" / "inference.yaml").is_file()


def test_a_bundle_is_found_by_its_path(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_bundle(tiny_bundle) == tiny_bundle.resolve()
    monkeypatch.chdir(tiny_bundle.parent)
    assert find_bundle("tiny") == tiny_bundle.resolve()


def test_a_folder_without_metadata_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a bundle"):
        find_bundle(tmp_path)


def test_an_override_with_a_mistyped_key_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(ModelError, match=r"no 'overwrit': did you mean 'overwrite'"):
        Bundle.open(tiny_bundle, {"overwrit": True})


@pytest.mark.parametrize("name", ["metadata.json", "inference.yaml"])
@pytest.mark.parametrize("text", ["", "[1, 2]", "{broken", "a: [1\n"])
def test_a_broken_configuration_is_refused(tiny_bundle: Path, name: str, text: str) -> None:
    (tiny_bundle / "configs" / name).write_text(text)
    with pytest.raises(ModelError) as refused:
        Bundle.open(tiny_bundle)
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: 1\na: 2\n", "cannot be parsed"),
        ("a: !!python/object/apply:os.mkdir [PWNED]\n", "cannot be parsed"),
        (
            "a0: &a0 [x, x]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(40)),
            "more than",
        ),
    ],
)
def test_a_hostile_configuration_is_refused(
    tiny_bundle: Path, text: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_bundle)
    (tiny_bundle / "configs" / "inference.yaml").write_text(text)
    with pytest.raises(ModelError, match=why) as refused:
        Bundle.open(tiny_bundle)
    assert "\n" not in str(refused.value)
    assert not Path("PWNED").exists()


def test_a_missing_configuration_is_refused(tiny_bundle: Path) -> None:
    (tiny_bundle / "configs" / "inference.yaml").unlink()
    with pytest.raises(ModelError, match=r"inference\.yaml: the bundle lacks this file"):
        Bundle.open(tiny_bundle)


def replace(bundle: Path, old: str, new: str) -> None:
    config = bundle / "configs" / "inference.yaml"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


def test_a_part_that_cannot_be_built_is_told_in_one_line(tiny_bundle: Path) -> None:
    replace(tiny_bundle, "tiny_parts.Pool", "tiny_parts.Pol")
    with pytest.raises(ModelError, match="cannot build 'network_def'") as refused:
        layers_of(Bundle.open(tiny_bundle))
    assert "\n" not in str(refused.value)


def test_a_network_that_declares_no_layers_is_refused(tiny_bundle: Path) -> None:
    replace(tiny_bundle, "network_def:\n", "network_def:\n  _target_: torch.nn.Identity\nnot_used:\n")
    with pytest.raises(ModelError, match="declares no layers"):
        layers_of(Bundle.open(tiny_bundle))


def test_our_own_error_comes_through_what_monai_wraps_it_in(tiny_bundle: Path) -> None:
    opened = Bundle.open(tiny_bundle, {"scans": (), "layers": ["coarse2"], "output_dir": tiny_bundle / "out"})
    with pytest.raises(UsageError, match="nothing to write"):
        opened.build("targets")


def test_the_root_is_known_wherever_the_command_runs(tiny_bundle: Path) -> None:
    assert Bundle.open(tiny_bundle).build("bundle_root") == tiny_bundle.resolve()


def test_an_incomplete_configuration_is_refused_before_any_of_it_runs(
    tiny_bundle: Path, tmp_path: Path, make_nifti: Callable[..., object]
) -> None:
    planted = tmp_path / "PWNED"
    config = {
        "imports": [f"$import pathlib; pathlib.Path({str(planted)!r}).mkdir()"],
        "network_def": f"$open({str(planted)!r}, 'w')",
    }
    (tiny_bundle / "configs" / "inference.yaml").unlink()
    (tiny_bundle / "configs" / "inference.json").write_text(json.dumps(config))
    make_nifti(tmp_path / "a.nii.gz")
    scans = find_scans(tmp_path / "a.nii.gz").scans
    with pytest.raises(ModelError, match=r"inference\.json: the configuration has no 'dataset_dir'"):
        Pipeline.from_bundle(tiny_bundle, scans=scans, output=tmp_path / "out")
    assert not planted.exists()
