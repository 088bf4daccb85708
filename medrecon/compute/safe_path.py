"""No code from the current folder: it may be a folder of somebody's scans, with a `monai.py` in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

RUN_MODULE = Path(__file__).resolve().with_name("run_module.py")
SAFE = {"PYTHONSAFEPATH": "1"}
"""What keeps Python 3.11 and newer from looking in the current folder, and all that it starts."""


def forget_current_folder() -> None:
    """Take the current folder off `sys.path`, unless the user's PYTHONPATH names it.

    `python -m` puts it first. An empty entry of PYTHONPATH, as `:/my/code` has one, means it too.
    """
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    try:
        here = os.getcwd()  # noqa: PTH109 - as Python itself writes it
    except OSError:  # it was removed
        here = ""
    if here in {os.path.abspath(entry) for entry in entries if entry}:  # noqa: PTH100
        return
    if sys.path and sys.path[0] in ("", here):
        del sys.path[0]
    if len(entries) > 1 and "" in entries and here in sys.path:
        sys.path.remove(here)


def module_command(name: str) -> list[str]:
    """What runs a module of the Python path as a program, as `python -m` does, in a safe way."""
    return [sys.executable, "-W", "ignore", str(RUN_MODULE), name]


def safe_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child that, like its own children, takes no code from the current folder."""
    made = {**environment, **SAFE}
    if "PYTHONPATH" in made:
        made["PYTHONPATH"] = os.pathsep.join(p for p in made["PYTHONPATH"].split(os.pathsep) if p)
    return made
