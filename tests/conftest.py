"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real scans beside the checkout (or MEDRECON_SHARED); skips where there is none."""
    folder = Path(os.environ.get("MEDRECON_SHARED", ROOT.parent / "shared"))
    if not (folder / "data" / "real").is_dir():
        pytest.skip("no real scans here: set MEDRECON_SHARED to the folder that holds data/real")
    return folder
