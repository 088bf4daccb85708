"""The README's examples are run as they stand, and what it says of files, options and codes is checked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import medrecon.errors as errors
from medrecon.cli.faults import INTERRUPTED, PARTIAL
from medrecon.io.scan import ScanError

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Block:
    """A fenced block; `reason` is what a comment `<!-- not run: ... -->` above it says."""

    language: str
    code: str
    reason: str | None
    line: int


def blocks() -> list[Block]:
    """The fenced blocks of the README, in order."""
    found = []
    pattern = re.compile(
        r"(?:<!-- not run: ?(?P<reason>[^\n]*?) ?-->\n)?```(?P<language>\w+)\n(?P<code>.*?)```", re.S
    )
    for match in pattern.finditer(README):
        line = README.count("\n", 0, match.start("code"))
        found.append(Block(match["language"], match["code"], match["reason"], line))
    return found


RUN = [block for block in blocks() if block.reason is None and block.language in ("bash", "python")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place that looks like the checkout to the examples, which build on each other."""
    place = tmp_path_factory.mktemp("readme")
    for name in ("bundles", "sample_data"):
        (place / name).symlink_to(ROOT / name)
    return place


@pytest.mark.parametrize("block", RUN, ids=[f"{block.language}-line{block.line}" for block in RUN])
def test_the_examples_run(block: Block, folder: Path) -> None:
    command = [sys.executable, "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*command, block.code],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"README line {block.line}:\n{block.code}\n{done.stdout}\n{done.stderr}"


def test_there_are_examples_and_those_that_do_not_run_say_why() -> None:
    assert len(RUN) >= 5
    for block in blocks():
        assert block.reason is None or len(block.reason) > 5
    assert README.count("```") == 2 * len(blocks())


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(targets) > 5
    missing = [target for target in targets if "://" not in target and not (ROOT / target).exists()]
    assert not missing


def test_the_exit_codes_are_those_of_the_program() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.M)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert told == {0, ScanError.exit_code, PARTIAL, INTERRUPTED} | {kind.exit_code for kind in kinds}


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make (demo|test|lint)\b", README)):
        assert re.search(rf"^{target}:", makefile, re.M)


def test_the_options_exist() -> None:
    helps = "".join(
        subprocess.run(
            [sys.executable, "-m", "medrecon", *verb, "--help"],
            capture_output=True,
            text=True,
            env={**os.environ, "COLUMNS": "300"},
            check=True,
        ).stdout
        for verb in ([], *([verb] for verb in VERBS))
    )
    blocks_of_medrecon = "\n".join(
        line for line in README.splitlines() if "medrecon" in line or "`--" in line
    )
    for option in set(re.findall(r"(?<![\w-])--[a-z-]+", blocks_of_medrecon)) - _OF_OTHER_PROGRAMS:
        assert option in helps, option


VERBS = ("reconstruct", "compare", "layers", "invert", "encode", "sweep", "atlas", "slicer", "cohort")

_OF_OTHER_PROGRAMS = {
    "--resume",
    "--config_file",
    "--config",
    "--dataset_dir",
    "--output_dir",
    "--dataset",
    "--output",
}
