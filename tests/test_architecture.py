"""The rooms import what they may: the table of the design, read from the source's syntax trees.

The five rooms that a config joins (io, transforms, encoders, inversion, losses) are siblings and know
nothing of each other; what all may use (errors, types, ...) lies beside them.
"""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "medrecon"
LONGEST = 300

ROOMS = ("io", "transforms", "encoders", "inversion", "losses")
NETS = ("medrecon.encoders", "medrecon.inversion", "medrecon.reconstructor", "monai.networks", "torch.nn")
ENGINE = ("medrecon.bundle", "medrecon.inference", "medrecon.training", "medrecon.features")
ABOVE = ("medrecon.atlas", "medrecon.cohort", "medrecon.cli")
MOST_ENTRIES = 25
HEAVY = (
    "torch",
    "monai",
    "ignite",
    "numpy",
    "scipy",
    "pydicom",
    "nibabel",
    "SimpleITK",
    "imagecodecs",
    "matplotlib",
    "parsl",
)


def siblings(room: str) -> tuple[str, ...]:
    return tuple(f"medrecon.{other}" for other in ROOMS if other != room)


# what lives where -> what it never imports, at the top of a file or inside a function
NEVER: dict[str, tuple[str, ...]] = {
    "errors": ("medrecon", *HEAVY),
    "contract": ("medrecon.reconstructor", "monai", *ENGINE, *ABOVE),
    "intensity_range": ("medrecon", "torch", "monai"),
    "io": (*siblings("io"), "torch.nn", "monai.networks", "monai.losses", "medrecon.evaluation", *ENGINE),
    "transforms": (*siblings("transforms"), "torch.nn", "monai.networks", "medrecon.evaluation", *ENGINE),
    "blocks": (*(f"medrecon.{room}" for room in ROOMS), "medrecon.reconstructor", *ENGINE),
    "encoders": (*siblings("encoders"), "medrecon.reconstructor", *ENGINE),
    "inversion": (*siblings("inversion"), "medrecon.reconstructor", *ENGINE),
    "losses": (*siblings("losses"), "medrecon.reconstructor", *ENGINE),
    "phantoms": (*NETS, "medrecon.losses", *ENGINE),
    "reconstructor": ("medrecon.encoders", "medrecon.inversion", "medrecon.io", *ENGINE),
    "bundle": ("medrecon.inversion", "medrecon.losses", "medrecon.inference", "medrecon.training", *ABOVE),
    "compute": ("medrecon.bundle", "medrecon.io", *NETS, *ABOVE),
    "inference": (
        "medrecon.encoders",
        "medrecon.inversion",
        "medrecon.losses",
        "medrecon.training",
        "medrecon.features",
        "medrecon.evaluation",
        *ABOVE,
    ),
    "training": ("medrecon.inference", "medrecon.features", *ABOVE),
    "features": ("medrecon.losses", "medrecon.training", "medrecon.evaluation", *ABOVE),
    "evaluation": (*NETS, "medrecon.losses", *ENGINE, *ABOVE),
    "report": (*NETS, "medrecon.losses", *ENGINE, *ABOVE),
    "atlas": ("medrecon.losses", "medrecon.training", "medrecon.cohort", "medrecon.cli"),
    "pacs": ("medrecon.losses", "medrecon.training", "medrecon.cli"),
    "cohort": ("medrecon.losses", "medrecon.training", "medrecon.cli"),
}

# what one file may import of all that its room may not
BUT: dict[str, tuple[str, ...]] = {
    # Python's functions that take a network by its name join what else only the command line joins
    "medrecon.inference.reconstruction": ("medrecon.training.linear",),
    "medrecon.atlas.run": ("medrecon.training.linear",),
}

# what is imported by nobody but these
ONLY_FROM = {"medrecon.cli": ("__main__", "cli"), "medrecon.__main__": ()}

# the command line is there to speak; the library is not
SPEAKS = ("medrecon.cli",)


@dataclass(frozen=True)
class Import:
    """One import: where it stands, the module it names, and whether importing the file runs it."""

    module: str
    line: int
    target: str
    at_import: bool

    @property
    def room(self) -> str:
        """The folder or file of the package that the import stands in."""
        return self.module.split(".")[1] if "." in self.module else ""

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def module_name(path: Path, package: Path) -> str:
    parts = [package.name, *path.relative_to(package).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def sources(package: Path) -> dict[str, tuple[Path, ast.Module]]:
    found = {}
    for path in sorted(package.rglob("*.py")):
        found[module_name(path, package)] = path, ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


@cache
def imports(package: Path) -> list[Import]:
    trees = sources(package)
    return [
        found for name, (path, tree) in trees.items() for found in imports_of(name, path, tree, set(trees))
    ]


def imports_of(name: str, path: Path, tree: ast.Module, modules: set[str]) -> Iterator[Import]:
    """All imports of one file; `from package import module` names the module, if it is one."""
    home = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]

    def visit(node: ast.AST, runs: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(name, child.lineno, alias.name, runs) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                above = ".".join(home[: len(home) - child.level + 1]) if child.level else ""
                base = ".".join(part for part in (above, child.module) if part)
                for alias in child.names:
                    inner = f"{base}.{alias.name}"
                    ours = base.split(".")[0] == name.split(".")[0]
                    yield Import(name, child.lineno, inner if inner in modules or not ours else base, runs)
            elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
                hidden = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
                if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                    continue  # for the type checker's eyes only: no import at all
                yield from visit(child, runs and not hidden)

    yield from visit(tree, True)


def is_in(target: str, prefixes: tuple[str, ...]) -> bool:
    return any(target == prefix or target.startswith(f"{prefix}.") for prefix in prefixes)


def trespasses(package: Path) -> list[str]:
    """Imports that the table forbids."""
    found = []
    for each in imports(package):
        top = ".".join(each.target.split(".")[:2])
        if is_in(each.target, BUT.get(each.module, ())):
            continue
        if is_in(each.target, NEVER.get(each.room, ())) and top != f"medrecon.{each.room}":
            found.append(str(each))
        elif top in ONLY_FROM and each.room not in ONLY_FROM[top]:
            found.append(f"{each}, which is for {ONLY_FROM[top]} alone")
    return found


def cycles(package: Path) -> list[str]:
    """Modules that need each other while they are imported, and rooms that need each other at all."""
    found = []
    by_module: dict[str, set[str]] = {}
    by_room: dict[str, set[str]] = {}
    modules = set(sources(package))
    for each in imports(package):
        if each.at_import and each.target in modules and each.target != each.module:
            by_module.setdefault(each.module, set()).add(each.target)
        room = each.target.split(".")[1] if each.target in modules and "." in each.target else each.room
        if room != each.room:
            by_room.setdefault(each.room, set()).add(room)
    for graph in (by_module, by_room):
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            found.append(" -> ".join(error.args[1]))
    return found


def slips(package: Path) -> list[str]:
    """Files too long for one sitting; `print`, `assert` and walks of the call stack in the library."""
    found = []
    for name, (path, tree) in sources(package).items():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > LONGEST:
            found.append(f"{name} has {lines} lines, more than {LONGEST}")
        for node in ast.walk(tree):
            if isinstance(node, ast.Assert):
                found.append(f"{name}:{node.lineno} asserts; raise an error that says what to do")
            elif isinstance(node, ast.Attribute) and node.attr in ("currentframe", "_getframe", "f_back"):
                found.append(f"{name}:{node.lineno} looks at its callers; pass what is needed")
            elif is_in(name, SPEAKS):
                continue
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                found.append(f"{name}:{node.lineno} prints; log, or return the text")
    return found


def test_rooms_import_what_they_may() -> None:
    assert trespasses(PACKAGE) == []


def test_nothing_imports_in_a_circle() -> None:
    assert cycles(PACKAGE) == []


def test_files_are_short_and_neither_print_nor_assert() -> None:
    assert slips(PACKAGE) == []


def test_the_folder_can_be_read_at_a_glance() -> None:
    beside = {"__pycache__", "bundles", "sample_data"}
    there = [path.name for path in PACKAGE.iterdir() if path.name not in beside]
    assert len(there) <= MOST_ENTRIES, sorted(there)


def test_the_table_speaks_of_what_there_is() -> None:
    there = {each.room for each in imports(PACKAGE)} | {p.stem for p in PACKAGE.iterdir()}
    assert set(NEVER) <= there


@pytest.mark.parametrize("module", ["medrecon", "medrecon.errors", "medrecon.cli.app"])
def test_nothing_heavy_is_imported_at_start(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


# the checks themselves, on packages with one planted fault


def plant(folder: Path, files: dict[str, str]) -> Path:
    package = folder / "medrecon"
    for name in ("__init__.py", "io/__init__.py", "encoders/__init__.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text('"""A package."""\n')
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    return package


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("encoders/a.py", "from medrecon.io import scan", "imports medrecon.io"),
        ("encoders/a.py", "from ..io.scan import Scan", "imports medrecon.io.scan"),
        ("encoders/a.py", "from .. import io", "imports medrecon.io"),
        ("encoders/a.py", "def f():\n    import medrecon.losses", "imports medrecon.losses"),
        ("io/a.py", "from torch import nn", "imports torch.nn"),
        ("io/a.py", "import torch.nn.functional as F", "imports torch.nn.functional"),
        ("io/a.py", "from medrecon.cli.app import main", "for ('__main__', 'cli') alone"),
        ("bundle.py", "from medrecon.cli.demo import demo", "medrecon.cli"),
        ("errors.py", "import numpy", "imports numpy"),
        ("report/a.py", "import medrecon.encoders.conv", "imports medrecon.encoders.conv"),
    ],
)
def test_planted_trespass_is_found(file: str, line: str, said: str, tmp_path: Path) -> None:
    package = plant(tmp_path, {file: line + "\n", "io/scan.py": "", "losses/__init__.py": "", "cli.py": ""})
    found = trespasses(package)
    assert len(found) == 1, found
    assert said in found[0]


def test_what_is_allowed_is_left_alone(tmp_path: Path) -> None:
    files = {
        "encoders/a.py": "import torch.nn as nn\nimport medrecon.encoders.b\nimport medrecon.errors\n",
        "io/a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import medrecon.encoders\n",
        "__main__.py": "from medrecon.cli.app import main\n",
        "new_room/a.py": "from medrecon.io.scan import Scan\nimport medrecon.encoders\n",
    }
    package = plant(tmp_path, files)
    assert trespasses(package) == []
    assert cycles(package) == []
    assert slips(package) == []


def test_planted_cycles_are_found(tmp_path: Path) -> None:
    files = {"io/a.py": "from medrecon.io import b\n", "io/b.py": "import medrecon.io.a\n"}
    assert "medrecon.io.a" in cycles(plant(tmp_path / "modules", files))[0]
    files = {"x/a.py": "def f():\n    import medrecon.y.b\n", "y/b.py": "import medrecon.x.c\n", "x/c.py": ""}
    assert set(cycles(plant(tmp_path / "rooms", files))[0].split(" -> ")) == {"x", "y"}
    files = {"io/a.py": "from medrecon.io import b\n", "io/b.py": "def f():\n    import medrecon.io.a\n"}
    assert cycles(plant(tmp_path / "late", files)) == []


def test_planted_slips_are_found(tmp_path: Path) -> None:
    files = {
        "io/a.py": "assert True\n",
        "io/b.py": "print(1)\nconsole.print(1)\n",
        "io/c.py": "x = 1\n" * 301,
        "io/d.py": "import sys\ncaller = sys._getframe(1)\n",
    }
    found = slips(plant(tmp_path, files))
    assert len(found) == 4
    assert any("looks at its callers" in f for f in found)
    assert any("asserts" in f for f in found)
    assert any("prints" in f for f in found)
    assert any("301 lines" in f for f in found)
