"""Names of outputs: safe on each system, never an identity."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from medrecon.io.files.names import result_names, safe_name, scan_label
from medrecon.io.scan import Scan


def scan(description: str, files: tuple[Path, ...] = (), kind: str = "nifti") -> Scan:
    return Scan(Path("x"), kind, files, (1, 1, 1), np.eye(4), key="0a1b2c3d", description=description)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "../../etc/passwd",
        "/abs",
        "a\\b",
        "CON",
        "nul.txt",
        "",
        "...",
        "\0",
        "脳",
        "x" * 500,
        "a:b*c?",
        ".hidden",
        "-rf",
    ],
)
def test_any_text_becomes_one_safe_component(text):
    name = safe_name(text)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name)
    assert len(name) <= 60
    assert ".." not in name
    assert not re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name)


def test_letters_lose_their_accents_not_their_place():
    assert safe_name("Thorax für 1,5 mm") == "Thorax-fur-1-5-mm"


def test_a_uid_in_the_description_does_not_become_a_name():
    assert "1.2.840" not in scan_label(scan("T1 1.2.840.113619.2.55.3 ax"))


def test_name_and_id_of_the_patient_are_taken_out(tmp_path, make_series):
    def reveal(image, index):
        image.SeriesDescription = "Lung DOE Jane id-4711"

    make_series(tmp_path / "s", change=reveal)
    files = tuple(sorted((tmp_path / "s").iterdir()))
    label = scan_label(scan("Lung DOE Jane id-4711 19500101", files, "dicom"))
    assert label == "Lung_0a1b2c3d"


def test_the_key_tells_equal_descriptions_apart():
    assert scan_label(scan("CT")).endswith("_0a1b2c3d")


def test_results_differ_also_where_letter_case_does_not_count():
    names = result_names(["level3", "LEVEL3", "a/b", "a:b", "level2+level4"])
    assert len({name.lower() for name in names.values()}) == 5
    assert names["level3"] == "level3"
    assert names["level2+level4"] == "level2+level4"
