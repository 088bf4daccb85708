"""Good, odd, bad and hostile files of a generator that is no part of the project, where it is at hand."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

NO_IMAGES = ("checkpoint", "config")


def write_hostile(shared: Path, out: Path, *, images: bool) -> tuple[ModuleType, list[dict[str, Any]]]:
    """Write its images, or all that is none: the generator and the cases; skips where it is not at hand."""
    tool = shared / "tools" / "badinputs.py"
    if not tool.is_file():
        pytest.skip("no generator of hostile inputs here")
    spec = importlib.util.spec_from_file_location("badinputs", tool)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["badinputs"] = module
    spec.loader.exec_module(module)
    names = [case.name for case in module.selected([]) if (case.kind not in NO_IMAGES) == images]
    words = [word for name in names for word in ("--only", name)]
    subprocess.run(
        [sys.executable, str(tool), str(out), *words], check=True, capture_output=True, timeout=120
    )
    return module, json.loads((out / "cases.json").read_text())
