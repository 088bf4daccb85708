"""Which studies a folder or a list names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medrecon.cohort.studies import plan_studies
from medrecon.errors import OutputError, UsageError
from medrecon.io.scan import ScanError

Make = Callable[..., np.ndarray]


@pytest.fixture
def folder(tmp_path: Path, make_ct: Make, make_nifti: Make) -> Path:
    make_ct(tmp_path / "in" / "Doe^Jane 4711")
    make_nifti(tmp_path / "in" / "head.nii.gz")
    (tmp_path / "in" / "notes.txt").write_text("no scan")
    (tmp_path / "in" / ".hidden").mkdir()
    return tmp_path / "in"


def test_each_entry_of_a_folder_is_a_study(folder: Path, tmp_path: Path) -> None:
    plan = plan_studies(folder, tmp_path / "out")
    assert [study.source for study in plan.studies] == ["Doe^Jane 4711", "head.nii.gz"]
    assert plan.studies[0].path == folder / "Doe^Jane 4711"
    assert len(plan.notes) == 1
    assert plan.notes[0].startswith("1 file(s)")


def test_ids_are_stable_and_hold_no_name_of_a_source(folder: Path, tmp_path: Path) -> None:
    first, second = plan_studies(folder, tmp_path / "out").studies
    assert re.fullmatch(r"study_[0-9a-f]{12}", first.id)
    assert re.fullmatch(r"study_[0-9a-f]{12}", second.id)
    text = tmp_path / "list.txt"
    text.write_text(f"# both\n\nin/Doe^Jane 4711\n{folder}/../in/head.nii.gz\n")
    listed = plan_studies(text, tmp_path / "out").studies
    assert [study.id for study in listed] == [first.id, second.id]


def test_a_column_of_a_table_is_a_list(folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "list.csv"
    text.write_text('age,path\n70,"in/Doe^Jane 4711"\n71,in/head.nii.gz\n72,\n', encoding="utf-8-sig")
    assert len(plan_studies(text, tmp_path / "out").studies) == 2
    text.write_text("age,file\n70,x\n")
    with pytest.raises(UsageError, match="no column 'path'"):
        plan_studies(text, tmp_path / "out")


def test_what_is_named_twice_is_done_once(folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "list.txt"
    text.write_text("in/head.nii.gz\n./in/head.nii.gz\nin/nowhere\n")
    plan = plan_studies(text, tmp_path / "out")
    assert len(plan.studies) == 2  # one that does not exist fails on its own, later
    assert plan.notes == ("1 named more than once: taken once",)


def test_one_file_is_a_study_too(folder: Path, tmp_path: Path) -> None:
    assert len(plan_studies(folder / "head.nii.gz", tmp_path / "out").studies) == 1


def test_a_series_is_no_folder_of_studies(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="DICOM files of its own"):
        plan_studies(folder / "Doe^Jane 4711", tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"\xff\xfe\x00binary", b"a\0b"])
def test_what_is_no_list_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(ScanError):
        plan_studies(tmp_path / "list.txt", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    for missing in ("nowhere", "empty"):
        with pytest.raises(ScanError):
            plan_studies(tmp_path / missing, tmp_path / "out")


@pytest.mark.parametrize("output", [".", "out", "Doe^Jane 4711/out"])
def test_an_output_in_the_input_is_refused(folder: Path, output: str) -> None:
    with pytest.raises(OutputError, match="lies in, the input"):
        plan_studies(folder, folder / output)
