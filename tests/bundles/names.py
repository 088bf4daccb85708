"""The bundles that need no network of somebody else's, and how many dimensions they have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

MakeBundle: TypeAlias = Callable[[str], Path]
Workflow: TypeAlias = Callable[..., Any]
Overrides: TypeAlias = Callable[..., dict[str, Any]]
Training: TypeAlias = Callable[..., Any]
RunConfig: TypeAlias = Callable[..., None]
Scans: TypeAlias = dict[str, Any]
"""What the fixtures of `conftest.py` give."""

NETWORKS = ["volume_autoencoder", "slice_autoencoder"]
CODES = ["volume_transform_code", "slice_transform_code"]
NAMES = NETWORKS + CODES
DIMS = {name: 3 if name.startswith("volume") else 2 for name in NAMES}
VERSIONS = {name: "0.3.0" if name in CODES else "0.6.0" for name in NAMES}

NOT_SCRIPTED = set(NAMES)
"""Bundles whose network `torch.jit.script` does not take: it knows neither the parts' types nor generators.

Tracing, `torch.export` and ONNX take them. Bundles over other networks need those networks' weights first.
"""

LONG = pytest.mark.parametrize(
    "name",
    [
        "slice_autoencoder",
        *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES if name != "slice_autoencoder"),
    ],
)
"""What takes long is shown of one bundle always, of the others in the slow tests."""
