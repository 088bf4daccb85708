"""Names of packages that are imported when they are first used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import medrecon.atlas
import medrecon.cohort
import medrecon.features
import medrecon.io


@pytest.mark.parametrize("package", [medrecon.atlas, medrecon.cohort, medrecon.features, medrecon.io])
def test_every_name_is_found_and_no_other(package: object) -> None:
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="attribute nothing"):
        package.nothing  # noqa: B018


@pytest.mark.parametrize("package", ["medrecon.atlas", "medrecon.cohort", "medrecon.features", "medrecon.io"])
def test_nothing_heavy_comes_with_the_package(package: str) -> None:
    heavy = {"torch", "monai", "parsl", "pydicom.sr"}
    code = f"import sys, {package}; sys.exit(bool({heavy!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
