"""A slice that cannot be read is an error also where it leaves no gap; files of other kinds are not."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from monai.transforms import LoadImage
from pydicom.uid import generate_uid

from medrecon.cli.app import main
from medrecon.io import ScanError, ScanReader, ScanWarning, find_one, find_scans

from .made_series import planes, write_slices

COUNT = 10
NAMES: dict[str, Callable[[int], str]] = {
    "IM0009.dcm": lambda k: f"IM{k:04d}.dcm",
    "I90": lambda k: f"I{k * 10}",
    "a UID": lambda k: f"1.2.826.0.1.{k}.77",
    "a UID with .dcm": lambda k: f"1.2.826.0.1.{k}.77.dcm",
    "a hash": lambda k: f"{(k + 3) * 0x1F3A5B7D:016x}",
    "words.IMA": lambda k: f"{'abcdefghij'[k]} slice.IMA",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A series of ten slices."""
    write_slices(tmp_path / "ct", [{"z": 3 * k, "value": k} for k in range(COUNT)], "CT")
    return tmp_path / "ct"


def last(folder: Path) -> Path:
    return folder / f"IM{COUNT - 1:04d}.dcm"


def renamed(folder: Path, name: Callable[[int], str]) -> Path:
    for k in range(COUNT):
        (folder / f"IM{k:04d}.dcm").rename(folder / name(k))
    return folder / name(COUNT - 1)


def must_be_told(folder: Path) -> None:
    """Every way in refuses, and names the file; accepted, it is said."""
    with pytest.raises(ScanError, match="a slice may be lost: ") as caught:
        find_one(folder)
    assert caught.value.path is not None
    assert "--accept lost-slices" in str(caught.value)
    load = LoadImage(reader=ScanReader())
    with pytest.raises(ScanError, match="a slice may be lost"):
        load(folder)
    with pytest.warns(ScanWarning, match="a slice may be lost"):
        LoadImage(reader=ScanReader(accept=["lost-slices"]))(folder)


@pytest.mark.parametrize("name", NAMES)
def test_emptied(name: str, folder: Path) -> None:
    """It may be the end of the series, or nothing: that is said, by a warning of the reader too."""
    empty = renamed(folder, NAMES[name])
    empty.write_bytes(b"")
    assert any("a slice may be lost: " in note and "is empty" in note for note in find_one(folder).notes)
    with pytest.warns(ScanWarning, match="a slice may be lost"):
        LoadImage(reader=ScanReader())(folder)


def test_emptied_on_stderr(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last(folder).write_bytes(b"")
    with pytest.raises(SystemExit) as ended:
        main(["reconstruct", str(folder), str(tmp_path / "out"), "--layers", "input"])
    assert ended.value.code == 0
    assert "a slice may be lost" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 100, 131, 132, 140, 300, 500])
def test_cut(size: int, name: str, folder: Path) -> None:
    os.truncate(renamed(folder, NAMES[name]), size)
    must_be_told(folder)


def test_cut_at_every_length(folder: Path) -> None:
    """Of any file that is shorter than it was, some reader of the folder must hear."""
    whole = last(folder).read_bytes()
    for size in range(1, len(whole), 7):
        last(folder).write_bytes(whole[:size])
        with pytest.raises(ScanError) as caught:
            find_one(folder)
        assert last(folder).name in str(caught.value), size


@pytest.mark.parametrize("bits", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_every_bit_of_its_identity(bits: int, folder: Path) -> None:
    """One bit of SOP Class, Study and Series Instance UID, DICM: refused, or the slice is read."""
    data = last(folder).read_bytes()
    ds = pydicom.dcmread(last(folder))
    spots = [range(128, 132)]
    for uid in (ds.SOPClassUID, ds.SeriesInstanceUID, ds.StudyInstanceUID):
        at = data.rindex(uid.encode())
        spots.append(range(at, at + len(uid)))
    for position in (p for spot in spots for p in spot):
        for bit in ((3 * position + k) % 8 for k in range(bits)):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            last(folder).write_bytes(changed)
            try:
                scan = find_one(folder)
            except ScanError:
                continue
            assert scan.shape[2] == COUNT, (position, bit)


def fetched_in_part(path: Path) -> None:
    os.truncate(path, 200)
    path.rename(f"{path}.part")


def link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere/at/all")


def cut_and_called_otherwise(path: Path) -> None:
    os.truncate(path, 400)
    path.rename(path.parent / "rest")


def zeros_called_otherwise(path: Path) -> None:
    os.truncate(path, 90)
    path.rename(path.parent / "rest")


REMAINS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("<html>404 Not Found</html>" * 20),
    "a pointer": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    "zeros": lambda path: path.write_bytes(b"\0" * 3000),
    "noise": lambda path: path.write_bytes(np.random.default_rng(0).bytes(3000)),
    "a link to nowhere": link_to_nowhere,
    "fetched in part": fetched_in_part,
    "zeros under another name": zeros_called_otherwise,
    "cut under another name": cut_and_called_otherwise,
}


@pytest.mark.parametrize("kind", REMAINS)
def test_what_is_left_of_it(kind: str, folder: Path) -> None:
    REMAINS[kind](last(folder))
    must_be_told(folder)


@pytest.mark.parametrize("uid", ["other", "missing", "damaged"])
@pytest.mark.parametrize("place", [0, 4, 9])
def test_a_slice_under_another_series_uid(uid: str, place: int, folder: Path) -> None:
    path = folder / f"IM{place:04d}.dcm"
    ds = pydicom.dcmread(path)
    ds.SeriesInstanceUID = {
        "other": generate_uid(),
        "missing": "",
        "damaged": ds.SeriesInstanceUID[:-1] + "x",
    }[uid]
    ds.save_as(path)
    with pytest.raises(ScanError, match=rf"{path.name}.* Series Instance UID"):
        find_one(folder)
    assert not find_scans(folder, accept=["lost-slices"]).refused or place == 4


def beside_report(folder: Path) -> None:
    ds = pydicom.dcmread(last(folder))
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    ds.SOPInstanceUID, ds.Modality = generate_uid(), "SR"
    del ds.PixelData
    ds.save_as(folder / "IM0010.dcm")


def beside_localizer(folder: Path) -> None:
    ds = pydicom.dcmread(last(folder))
    ds.ImageType, ds.SOPInstanceUID = ["ORIGINAL", "PRIMARY", "LOCALIZER"], generate_uid()
    ds.save_as(folder / "IM0010.dcm")


def beside_other_series(folder: Path) -> None:
    """Of another number, though it goes on where this one ends."""
    ds = pydicom.dcmread(last(folder))
    ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.SeriesNumber = generate_uid(), generate_uid(), 4
    ds.ImagePositionPatient = [-10, -20, 3 * COUNT]
    (folder.parent / "other").mkdir()
    ds.save_as(folder.parent / "other" / "IM0000.dcm")


QUIET: dict[str, Callable[[Path], object]] = {
    "a report": beside_report,
    "a localizer": beside_localizer,
    "notes": lambda folder: (folder / "notes.txt").write_text("a note"),
    "a short note": lambda folder: (folder / "x").write_text("1"),
    "Thumbs.db": lambda folder: (folder / "Thumbs.db").write_bytes(b"x" * 2000),
    "AppleDouble": lambda folder: (folder / "._IM0009.dcm").write_bytes(
        b"\0\5\x16\7\0\2\0\0Mac OS X" + b"\0" * 200
    ),
    "a side file": lambda folder: (folder / "IM0009.dcm.json").write_text("{}"),
    "an empty file of another kind": lambda folder: (folder / "DONE").write_bytes(b""),
    "a copy": lambda folder: shutil.copy(last(folder), folder / "copy.dcm"),
}


@pytest.mark.parametrize("kind", QUIET)
def test_other_things_are_quiet(kind: str, folder: Path) -> None:
    QUIET[kind](folder)
    scan = find_one(folder)
    assert planes(scan) == list(range(COUNT))
    assert not any("lost" in note for note in scan.notes)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScanWarning)
        assert LoadImage(reader=ScanReader())(folder).shape == scan.shape


def test_a_series_that_goes_on_elsewhere_is_another_one(folder: Path) -> None:
    beside_other_series(folder)
    assert {s.shape[2] for s in find_scans(folder.parent).scans} == {COUNT, 1}


def test_beside_two_series_it_is_refused_by_itself_and_said_of_both(folder: Path) -> None:
    write_slices(folder.parent / "mr", [{"z": 3 * k} for k in range(4)])
    for path in (folder.parent / "mr").iterdir():
        path.rename(folder / f"MR{path.name}")
    last(folder).write_bytes(b"")
    found = find_scans(folder)
    assert [error.path for error in found.refused] == [last(folder)]
    assert all(any("a slice may be lost" in note for note in scan.notes) for scan in found.scans)
    assert len(found.scans) == 2
