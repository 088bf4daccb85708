"""Good, odd, bad and hostile images of a generator that is no part of the project, where it is at hand."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from monai.transforms import LoadImage

from medrecon.io import ScanError, ScanReader, find_one
from medrecon.io.read import load

from ..hostile import write_hostile

pytestmark = pytest.mark.real_data

NOT_AS_SAID = {"nii_nan"}
"""Cases whose file is not what its note says: this one holds no NaN (they were written into a copy)."""


@pytest.fixture(scope="module")
def corpus(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModuleType, Path, list[dict]]:
    """The generator, the folder that it wrote, and the cases that are images."""
    out = tmp_path_factory.mktemp("hostile")
    module, cases = write_hostile(shared_dir, out, images=True)
    return module, out, cases


def by_find(entry: Path) -> tuple[np.ndarray, np.ndarray, str]:
    scan = find_one(entry)
    values, notes = load(scan)
    return values, scan.affine, "".join((*scan.notes, *notes))


def by_monai(entry: Path) -> tuple[np.ndarray, np.ndarray, str]:
    image = LoadImage(reader=ScanReader(), dtype=None)(entry)
    return image.numpy(), image.affine.numpy(), image.meta["notes"]


def judge(module: ModuleType, out: Path, case: dict[str, Any], read: Any) -> str:
    """What is wrong with how a case went; "" if nothing."""
    start = time.monotonic()
    try:
        values, affine, notes = read(out / case["entry"])
    except ScanError as error:
        text = str(error)
        if case["verdict"] not in ("refuse", "either"):
            return f"refused: {text}"
        named = case["case"] in text and error.remedy and "\n" not in text
        return "" if named else f"message without a name or a remedy: {text}"
    finally:
        seconds = time.monotonic() - start
    if seconds > 10:
        return f"took {seconds:.1f} s"
    if case["verdict"] == "refuse":
        return "read"
    if case["verdict"] == "warn" and not notes:
        return "nothing is said"
    with np.load(out / case["case"] / "truth.npz") as true:
        return str(module.same_image(values, affine, true["data"], true["affine"]))


@pytest.mark.parametrize("read", [by_find, by_monai])
def test_all_cases(read: Any, corpus: tuple[ModuleType, Path, list[dict]]) -> None:
    module, out, cases = corpus
    assert len(cases) == 152
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrong = {c["case"]: judge(module, out, c, read) for c in cases}
    wrong = {name: fault for name, fault in wrong.items() if fault and name not in NOT_AS_SAID}
    assert wrong == {}
    assert not list(out.glob("*/PWNED"))
