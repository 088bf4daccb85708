"""Zip files: read as the folders they hold; refused when broken, too large or leaving their place."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from medrecon.io import ScanError, find_one, read_scan
from medrecon.io.files import archive
from medrecon.io.files.archive import is_zip, unpacked

Make = Callable[..., np.ndarray]


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where zip files are unpacked; nothing may be left there, and nothing beside it."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before = {path for path in tmp_path.rglob("*") if path.suffix != ".zip"}
    yield folder
    assert {path for path in tmp_path.rglob("*") if path.suffix != ".zip"} == before


def packed(target: Path, files: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(target, "w", how) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return target


@pytest.mark.parametrize(
    "how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_a_series_comes_out_as_it_went_in(tmp_path: Path, make_ct: Make, how: int) -> None:
    values = make_ct(tmp_path / "ct")
    files = {f"study/series\\{path.name}": path.read_bytes() for path in (tmp_path / "ct").iterdir()}
    study = packed(tmp_path / "study.zip", {"DICOMDIR/": b"", **files}, how)
    assert is_zip(study)
    with unpacked(study) as folder:
        assert folder.name == "study.zip"
        assert folder.parent.stat().st_mode & 0o077 == 0
        np.testing.assert_array_equal(read_scan(find_one(folder)), values)
    assert not folder.parent.exists()


@pytest.mark.parametrize(
    "name", ["../out", "/tmp/out", "a/../../out", "..\\out", "C:\\out", "\\out", "a/b/../../../out"]
)
def test_no_entry_leaves_the_folder(scratch: Path, tmp_path: Path, name: str) -> None:
    study = packed(tmp_path / "a.zip", {"fine": b"1", name: b"2"})
    with pytest.raises(ScanError, match="outside of itself"), unpacked(study):
        pass


def test_links_are_left_out(scratch: Path, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr(link, "/etc")
        made.writestr("link/passwd", "mine")
    with unpacked(tmp_path / "a.zip") as folder:
        assert [path.relative_to(folder).as_posix() for path in folder.rglob("*")] == ["link", "link/passwd"]
        assert not (folder / "link").is_symlink()


def test_a_bomb_is_stopped_where_it_is_too_large_whatever_it_says(scratch: Path, tmp_path: Path) -> None:
    bomb = packed(tmp_path / "a.zip", {f"{n}": bytes(1 << 20) for n in range(8)})
    assert bomb.stat().st_size < 1 << 15
    with pytest.raises(ScanError, match="holds more than"), unpacked(bomb, most_bytes=4 << 20):
        pass
    data = bytearray(bomb.read_bytes())
    for place in (i for i in range(len(data)) if data[i : i + 4] == b"PK\x01\x02"):
        data[place + 24 : place + 28] = struct.pack("<I", 10)
    bomb.write_bytes(data)
    with pytest.raises(ScanError), unpacked(bomb, most_bytes=4 << 20):
        pass


@pytest.mark.parametrize("how", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_small_file_never_becomes_a_thousand_times_as_large(
    scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: int
) -> None:
    monkeypatch.setattr(archive, "FREE_BYTES", 1 << 20)
    bomb = packed(tmp_path / "a.zip", {"a.nii": bytes(32 << 20)}, how)
    with pytest.raises(ScanError, match=r"holds more than 0\.0 GiB"), unpacked(bomb):
        pass


def test_what_a_killed_run_unpacked_is_gone_after_the_next(tmp_path: Path, scratch: Path) -> None:
    study = packed(tmp_path / "a.zip", {"patient": b"pixels"})
    code = f"""
import os, signal, tempfile
from medrecon.io.files.archive import unpacked
tempfile.tempdir = {str(scratch)!r}
with unpacked({str(study)!r}) as folder:
    print(folder, flush=True)
    input()
"""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    killed, alive = (Path(str(each.stdout and each.stdout.readline().strip())) for each in started)
    started[0].kill()
    started[0].wait()
    assert (killed / "patient").is_file()
    with unpacked(study) as folder:
        assert (folder / "patient").is_file()
        assert not killed.exists()
        assert (alive / "patient").is_file()
    started[1].communicate("\n")
    assert started[1].returncode == 0


def test_too_many_entries_are_refused_before_they_are_listed(
    scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = packed(tmp_path / "a.zip", {str(n): b"" for n in range(70_000)}, zipfile.ZIP_STORED)
    monkeypatch.setattr(archive, "MOST_ENTRIES", 1000)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(ScanError, match="holds 70000 files"), unpacked(many):
        pass


def edits() -> dict[str, Callable[[bytes], bytes]]:
    def encrypted(data: bytes) -> bytes:
        made = bytearray(data)
        for mark, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
            made[data.index(mark) + place] |= 1
        return bytes(made)

    def unknown(data: bytes) -> bytes:
        made = bytearray(data)
        place = made.index(b"PK\x01\x02") + 10
        made[place : place + 2] = b"\x61\x00"
        return bytes(made)

    return {
        "cut": lambda data: data[: len(data) // 2] + data[-22:],
        "damaged": lambda data: data[:60] + bytes(20) + data[80:],
        "encrypted": encrypted,
        "of an unknown method": unknown,
    }


@pytest.mark.parametrize("fault", sorted(edits()))
def test_broken_ones_are_refused(scratch: Path, tmp_path: Path, fault: str) -> None:
    content = np.random.default_rng(0).bytes(1000)
    study = packed(tmp_path / "a.zip", {"name": content})
    study.write_bytes(edits()[fault](study.read_bytes()))
    with pytest.raises(ScanError) as refused, unpacked(study):
        pass
    assert refused.value.path == study


def test_names_that_no_folder_can_hold_are_refused(scratch: Path, tmp_path: Path) -> None:
    for name in ("n" * 300, "a/b"):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as made:
            made.writestr("a", "a file, and then a folder")
            made.writestr(name, "x")
        (tmp_path / "a.zip").write_bytes(stream.getvalue())
        with pytest.raises(ScanError, match="cannot be here"), unpacked(tmp_path / "a.zip"):
            pass


def test_what_only_has_the_name_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"nothing")
    (tmp_path / "b.zip").mkdir()
    assert not any(is_zip(tmp_path / name) for name in ("a.zip", "b.zip", "none.zip"))
