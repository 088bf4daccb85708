"""The examples of the README and of docs/ are run as they stand; files, options and codes they name exist."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer.main

import medrecon
import medrecon.errors as errors
from medrecon.cli.app import app
from medrecon.cli.faults import INTERRUPTED, PARTIAL, TERMINATED
from medrecon.io.scan import ScanError

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
GENERATED = (DOCS / "reference" / "command_line.md", DOCS / "bundles", DOCS / "_build")
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in DOCS.rglob("*.md") if not any(page.is_relative_to(made) for made in GENERATED)),
]
TEXT = {page: page.read_text(encoding="utf-8") for page in PAGES}
FENCED = re.compile(
    r"(?:<!-- not run: ?(?P<reason>[^\n]*?) ?-->\n)?"
    r"```(?P<language>[\w{}-]*)[^\n]*\n(?P<code>.*?)```",
    re.S,
)
OPTION = re.compile(r"(?<![\w-])--[a-z-]+")
NOTEBOOK = DOCS / "tutorial.ipynb"


@dataclass(frozen=True)
class Block:
    """A fenced block; `reason` is what a comment `<!-- not run: ... -->` above it says."""

    page: Path
    language: str
    code: str
    reason: str | None
    line: int

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}-line{self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [
        Block(
            page,
            match["language"],
            textwrap.dedent(match["code"]),
            match["reason"],
            TEXT[page].count("\n", 0, match.start("code")),
        )
        for match in FENCED.finditer(TEXT[page])
    ]


def runs(page: Path) -> list[Block]:
    """Those of them that are run."""
    return [block for block in blocks(page) if block.reason is None and block.language in ("bash", "python")]


README, *MORE = [page for page in PAGES if runs(page)]


def run(block: Block, folder: Path) -> None:
    """Run one block in a folder, as a reader would who put `medrecon` on the path."""
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
    assert done.returncode == 0, f"{block}:\n{block.code}\n{done.stdout}\n{done.stderr}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place that looks like the checkout to the examples of a page, which build on each other."""
    for name in ("bundles", "sample_data"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.slow
def test_the_examples_of_the_readme_run(folder: Path) -> None:
    for block in runs(README):
        run(block, folder)


@pytest.mark.slow
@pytest.mark.parametrize("page", MORE, ids=[str(page.relative_to(DOCS)) for page in MORE])
def test_the_examples_of_the_other_pages_run(page: Path, folder: Path) -> None:
    for block in runs(page):
        run(block, folder)


def test_there_are_examples_and_those_that_do_not_run_say_why() -> None:
    assert README == ROOT / "README.md"
    assert sum(len(runs(page)) for page in PAGES) >= 15
    for page in PAGES:
        assert TEXT[page].count("```") == 2 * len(blocks(page)), page
        for block in blocks(page):
            assert block.reason is None or len(block.reason) > 5, block
            assert block.language in ("bash", "python", "toml", "{toctree}", "{include}", "{eval-rst}"), block


@pytest.mark.slow
def test_the_tutorial_runs(folder: Path) -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    run(Block(NOTEBOOK, "python", code, None, 0), folder)


def test_the_tutorial_is_kept_without_its_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 5
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for target, heading in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", TEXT[page]):
        if "://" in target:
            continue
        there = (page.parent / target).resolve() if target else page
        if there.is_relative_to(DOCS / "bundles"):
            there = ROOT / "bundles" / there.stem / "docs" / "README.md"
        if there not in GENERATED:
            assert there.exists(), f"{page}: {target}"
        if heading and there.suffix == ".md":
            assert heading in headings(there), f"{page}: {target}#{heading}"


def test_what_is_included_from_outside_of_docs_names_no_file_by_a_link() -> None:
    taken = {name for text in TEXT.values() for name in re.findall(r"\{include\} \.\./(\S+)", text)}
    assert taken
    for name in taken:
        targets = re.findall(r"\]\(([^)]+)\)", (ROOT / name).read_text(encoding="utf-8"))
        assert all("://" in target for target in targets), name


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_page_is_reached() -> None:
    listed = {
        (page.parent / entry).resolve()
        for page in PAGES
        for block in blocks(page)
        if block.language == "{toctree}"
        for entry in block.code.split()
    }
    missing = [page for page in PAGES[1:] if page.with_suffix("") not in listed and page.stem != "index"]
    assert not missing


def test_the_reference_names_all_that_the_package_offers() -> None:
    page = TEXT[DOCS / "reference" / "python.md"]
    listed = page[page.index("autosummary") : page.index("## ")]
    assert set(re.findall(r"^   (\w+)$", listed, re.M)) == set(medrecon.__all__)


def test_the_architecture_names_every_room() -> None:
    package = ROOT / "medrecon"
    rooms = {place.name for place in package.iterdir() if (place / "__init__.py").exists()}
    page = TEXT[DOCS / "architecture.md"]
    table = page[page.index("## What lives where") : page.index("## Rules")]
    assert rooms == set(re.findall(r"`(\w+)/`", table))
    way = page[page.index("## The way of one scan") : page.index("`reconstructor.py`")]
    passed = re.findall(r"^\d+\. `(\w+)`", way, re.M)
    assert len(passed) == len(set(passed))
    assert set(passed) <= rooms


def test_the_readme_is_short() -> None:
    assert len(TEXT[README].splitlines()) <= 150


def test_the_exit_codes_are_those_of_the_program() -> None:
    page = TEXT[DOCS / "reference" / "exit_codes.md"]
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.M)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert told == {0, ScanError.exit_code, PARTIAL, INTERRUPTED, TERMINATED} | {
        kind.exit_code for kind in kinds
    }


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {target for text in TEXT.values() for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.M)}
    assert {"demo", "test"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_the_commands_and_their_options_exist() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    options = {
        name: {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
        for name, command in commands.items()
    }
    anywhere = set().union(*options.values()) | {"--debug", "--help", "--config"}
    for page, text in TEXT.items():
        assert set(re.findall(r"`(--[a-z-]+)", text)) <= anywhere, page
        for line in "".join(block.code for block in blocks(page)).replace(" \\\n", " ").splitlines():
            if told := re.match(r"(?:\.venv/bin/)?medrecon (\w+)", line):
                assert told[1] in commands, f"{page}: {line}"
                assert set(OPTION.findall(line)) <= options[told[1]], f"{page}: {line}"
