"""Names of outputs: safe on each system, never an identity."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from medrecon.io.choices import named_from_source, with_hu
from medrecon.io.files.names import hiding, result_names, safe_name, scan_label, scan_words
from medrecon.io.find import find_one
from medrecon.io.scan import Found, Scan


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


def test_a_scan_is_called_by_what_is_no_identity(tmp_path, make_series):
    def reveal(image, index):
        image.SeriesDescription, image.BodyPartExamined = "Lung DOE Jane id-4711", "chest"

    make_series(tmp_path / "Doe" / "s", change=reveal)
    found = find_one(tmp_path / "Doe")
    assert scan_label(found) == f"CT-chest_{found.key}"
    assert scan_words(found).startswith(f"{found.key} (CT chest, ")
    assert scan_label(scan("Lung DOE Jane")) == "scan_0a1b2c3d"
    assert scan_label(with_hu(scan("Lung DOE Jane"))) == "CT_0a1b2c3d"


@pytest.mark.parametrize("text", ["DOE JANE", "ABDOMEN DOE", "Unterleib", "=cmd|x", ""])
def test_a_body_part_that_is_no_defined_term_is_not_told(text, tmp_path, make_series):
    make_series(tmp_path / "s", change=lambda image, _: setattr(image, "BodyPartExamined", text))
    assert find_one(tmp_path / "s").body_part == ""


def test_the_description_where_the_user_asked_for_it():
    (named,) = named_from_source(Found((scan("Lung DOE/Jane"),))).scans
    assert scan_label(named) == "Lung-DOE-Jane_0a1b2c3d"


def test_messages_lose_the_names_of_files_and_folders():
    files = [Path("/data/DOE John") / name for name in ("IM_1.dcm", "IM 2.dcm", "3", "scan.nii.gz", "CT")]
    hide = hiding([*files, Path("here/Mustermann")])
    said = "IM_1.dcm: 3 bytes, as /data/DOE John/IM 2.dcm; scan.nii.gz, Mustermann lie in /data/DOE John, CT"
    assert hide(said) == "file 4 of 6: 3 bytes, as .../file 3 of 6; file 5 of 6, file 6 of 6 lie in ..., CT"


def test_the_key_tells_equal_descriptions_apart():
    assert scan_label(scan("CT")).endswith("_0a1b2c3d")


def test_results_differ_also_where_letter_case_does_not_count():
    names = result_names(["level3", "LEVEL3", "a/b", "a:b", "level2+level4"])
    assert len({name.lower() for name in names.values()}) == 5
    assert names["level3"] == "level3"
    assert names["level2+level4"] == "level2+level4"
