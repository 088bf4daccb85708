"""NIfTI made to hang or to swell: each is read or refused within seconds and a gibibyte."""

from __future__ import annotations

import gzip
import resource
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from medrecon.io import ScanError, find_one, read_scan

from .nifti_edits import patch, save, volume


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    """Five seconds of processor time, and a gibibyte more than there is."""
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.process_time() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20


def test_hundreds_of_thousands_of_empty_members(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", volume())
    data = gzip.compress((tmp_path / "a.nii").read_bytes())
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(b"") * 400_000 + data)
    assert np.array_equal(read_scan(find_one(tmp_path / "b.nii.gz")), volume())
    (tmp_path / "c.nii.gz").write_bytes(data + gzip.compress(b"") * 400_000)
    assert np.array_equal(read_scan(find_one(tmp_path / "c.nii.gz")), volume())


@pytest.mark.parametrize("flag", [4, 8, 16], ids=["extra field", "name", "comment"])
@pytest.mark.parametrize("size", [60_000, 9 << 20])
def test_mountains_in_a_gzip_header(size: int, flag: int, tmp_path: Path) -> None:
    """The library that unpacks takes 512 KiB of it; of an extra field there cannot be more than 64."""
    save(tmp_path / "a.nii", volume())
    packed = gzip.compress((tmp_path / "a.nii").read_bytes())
    more = struct.pack("<H", size % 65536) + bytes(size % 65536) if flag == 4 else b"n" * size + b"\0"
    (tmp_path / "b.nii.gz").write_bytes(packed[:3] + bytes([flag]) + packed[4:10] + more + packed[10:])
    if flag == 4 or size < 65536:
        assert np.array_equal(read_scan(find_one(tmp_path / "b.nii.gz")), volume())
        return
    with pytest.raises(ScanError, match=r"b\.nii\.gz"):
        find_one(tmp_path / "b.nii.gz")


def extended(path: Path, *sizes: int, times: int = 1) -> bytes:
    """A file with header extensions of these sizes, in turn, before its voxels."""
    save(path, volume())
    raw = path.read_bytes()
    text = b"".join(struct.pack("<2i", size, 6).ljust(size, b"\0") for size in sizes) * times
    path.write_bytes(raw[:348] + b"\1\0\0\0" + text + raw[352:])
    patch(path, 108, struct.pack("<f", 352 + len(text)))
    return path.read_bytes()


@pytest.mark.parametrize(("size", "times"), [(16, 1 << 20), (1 << 25, 1), (1 << 20, 24)])
@pytest.mark.parametrize("packed", [True, False])
def test_mountains_of_header_extensions(size: int, times: int, packed: bool, tmp_path: Path) -> None:
    data = extended(tmp_path / "a.nii", size, times=times)
    name = "a.nii.gz" if packed else "a.nii"
    (tmp_path / name).write_bytes(gzip.compress(data, 1) if packed else data)
    with pytest.raises(ScanError, match=r"MiB of header extensions|a header extension claims|bomb"):
        find_one(tmp_path / name)


def test_many_extensions_are_read(tmp_path: Path) -> None:
    extended(tmp_path / "a.nii", 1 << 20, times=8)
    assert np.array_equal(read_scan(find_one(tmp_path / "a.nii")), volume())
    extended(tmp_path / "a.nii", 16, times=4000)
    assert np.array_equal(read_scan(find_one(tmp_path / "a.nii")), volume())


@pytest.mark.parametrize("offset", [0, 1 << 28])
def test_files_of_holes(offset: int, tmp_path: Path) -> None:
    save(tmp_path / "a.nii", volume())
    patch(tmp_path / "a.nii", 42, struct.pack("<3h", 1024, 1024, 1000))
    if offset:
        patch(tmp_path / "a.nii", 108, struct.pack("<f", offset))
    with (tmp_path / "a.nii").open("r+b") as stream:
        stream.truncate(3 << 30)
    with pytest.raises(ScanError, match="is sparse"):
        find_one(tmp_path / "a.nii")


def test_a_place_far_behind_in_a_packed_file(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", volume())
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[108:112] = struct.pack("<f", float(1 << 30))
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(raw) + bytes(1 << 20)))
    with pytest.raises(ScanError, match="bomb"):
        find_one(tmp_path / "a.nii.gz")
