"""A command line of MONAI's is read as MONAI reads it."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import monai.bundle
import pytest
from monai.bundle import ConfigParser

from medrecon.bundle.command import configuration_of
from medrecon.errors import ModelError

MAIN = str(Path(monai.bundle.__file__).with_name("__main__.py"))
FIRST = """
imports: [$import sys, $import json, $from pathlib import Path,
  $from medrecon.bundle.command import configuration_of]
output: FOLDER
configuration: $configuration_of(sys.argv)
width: 3
net: {depth: [1, 2], name: "@_meta_#name", other: 1}
copied: "%net"
empty: null
run: "$Path(@output).write_text(json.dumps({**@configuration.get(), 'loops': 0}))"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    configs = tmp_path / "a bundle" / "configs"
    configs.mkdir(parents=True)
    (configs / "train.yaml").write_text(FIRST.replace("FOLDER", str(tmp_path / "seen.json")))
    (configs / "more.yaml").write_text("width: 4\nnet#other: 5\n")
    (configs / "metadata.json").write_text('{"name": "a"}')
    (tmp_path / "other.json").write_text('{"name": "b"}')
    (tmp_path / "args.yaml").write_text(f"config_file: {configs / 'train.yaml'}\nwidth: 7\nempty: [1]\n")
    return tmp_path


COMMANDS = {
    "one file": ["--config_file", "{0}/train.yaml"],
    "two files": ["--config_file", "['{0}/train.yaml','{0}/more.yaml']"],
    "overrides": ["--config_file={0}/train.yaml", "--width", "9", "--net#depth#1", "x", "--_meta_#name", "c"],
    "types": [
        "--config_file",
        "{0}/train.yaml",
        "--width=[1,2.5,true]",
        "--net#other",
        "{{a: 1}}",
        "--empty",
        "1e-3",
    ],
    "metadata": ["--config_file", "{0}/train.yaml", "--meta_file", "{1}/other.json"],
    "arguments in a file": ["--args_file", "{1}/args.yaml", "--width", "8"],
    "macro": ["--config_file", "{0}/train.yaml", "--net", "%{1}/other.json"],
    "run by name": ["run", "--config_file", "{0}/train.yaml", "--init_id", "none"],
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_it_is_what_monai_runs(words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [word.format(folder / "a bundle" / "configs", folder) for word in words]
    ran: list[ConfigParser] = []
    begin = monai.bundle.ConfigWorkflow.run

    def run(self: monai.bundle.ConfigWorkflow) -> object:
        ran.append(self.parser)
        return begin(self)

    monkeypatch.setattr(monai.bundle.ConfigWorkflow, "run", run)
    monkeypatch.setattr(sys, "argv", [MAIN, "run", *words])
    monkeypatch.setattr(sys, "path", list(sys.path))
    runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
    seen = json.loads((folder / "seen.json").read_text())
    assert seen.pop("loops") == 0
    assert seen == json.loads(json.dumps(ran[0].get(), default=str))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["pytest", "run", "--config_file", "a.yaml"],
        [MAIN],
        [MAIN, "ckpt_export", "--config_file", "a.yaml"],
    ],
)
def test_another_program_is_asked_for_it(arguments: list[str]) -> None:
    with pytest.raises(ModelError, match="told its own configuration"):
        configuration_of(arguments)
