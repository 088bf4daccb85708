"""docs/README.md of each bundle: what it shows can be run, what it says of levels and options is so."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import monai.bundle
import pytest
import torch
from monai.bundle import ConfigParser

from medrecon.bundle.config import Bundle, layers_of

from .names import DIMS, NAMES, MakeBundle

bundles = pytest.mark.parametrize("name", NAMES)


def blocks(name: str, repo: Path, language: str) -> list[str]:
    text = (repo / "bundles" / name / "docs" / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


@pytest.mark.slow
@bundles
def test_the_python_example_runs(
    name: str, repo: Path, tmp_path: Path, small_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = blocks(name, repo, "python")
    (tmp_path / "bundles").symlink_to(small_bundle(name).parent)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    exported = torch.export.load("model.pt2").module()
    assert exported(torch.rand(1, 1, *[64] * DIMS[name])).shape == (1, 1, *[64] * DIMS[name])
    assert (tmp_path / "model.onnx").stat().st_size > 1000


@bundles
def test_files_and_options_of_the_commands_exist(name: str, repo: Path) -> None:
    commands = [line for block in blocks(name, repo, "bash") for line in block.splitlines() if line]
    assert len(commands) == 5
    for command in commands:
        words = shlex.split(command)
        assert words[:3] == ["python", "-m", "monai.bundle"]
        options = dict(
            zip(words[4 + (words[3] != "run") :: 2], words[5 + (words[3] != "run") :: 2], strict=True)
        )
        config = ConfigParser.load_config_file(repo / options["--config_file"])
        known = {*config, *inspect.signature(getattr(monai.bundle, words[3])).parameters}
        assert {option.removeprefix("--") for option in options} <= known
        for word in options.values():
            if word.startswith("bundles/") and not word.endswith("model.pt"):
                assert (repo / word).is_file(), word


@bundles
def test_levels_are_those_of_the_network(name: str, repo: Path) -> None:
    text = (repo / "bundles" / name / "docs" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (level\d) \| (\d+) \| ([\d/]+) \|", text, re.M)
    layers = layers_of(Bundle.open(repo / "bundles" / name))
    assert [row[0] for row in rows] == [layer.name for layer in layers]
    for (_, stride, rate), layer in zip(rows, layers, strict=True):
        assert int(stride) == layer.stride[0]
        above, below = [*map(int, rate.split("/")), 1][:2]
        assert above / below == layer.values_per_voxel


@bundles
def test_a_licence_lies_beside(name: str, repo: Path) -> None:
    assert "Apache License, Version 2.0" in (repo / "bundles" / name / "LICENSE").read_text()
