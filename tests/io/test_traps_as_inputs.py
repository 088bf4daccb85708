"""Things in the place of an input that are no files of their own: refused at once, and never waited for."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medrecon.io import ScanError, find_one, find_scans, read_scan

from .test_fuzz_volumes import whole

NRRD = (
    b"NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 4 4\n"
    b"space directions: (1,0,0) (0,1,0) (0,0,2)\nendian: little\nencoding: raw\nspace origin: (0,0,0)\n"
)
MHD = (
    b"ObjectType = Image\nNDims = 3\nBinaryData = True\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\n"
    b"ElementSpacing = 1 1 2\nDimSize = 4 4 4\nElementType = MET_SHORT\n"
)


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    def too_long(*_: object) -> None:
        raise AssertionError("it waits")

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(10)
    yield
    signal.alarm(0)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def local_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # its address must be short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


TRAPS: dict[str, Callable[[Path], None]] = {
    "pipe": fifo,
    "socket": local_socket,
    "zeros without end": lambda path: path.symlink_to("/dev/zero"),
    "own memory": lambda path: path.symlink_to("/proc/self/mem"),
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "folder": lambda path: path.mkdir(),
}
PLACES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "file": ("a.nii", lambda folder: folder / "a.nii"),
    "packed file": ("a.nii.gz", lambda folder: folder / "a.nii.gz"),
    "data of NRRD": ("d.raw", lambda folder: header(folder / "a.nhdr", NRRD + b"data file: d.raw\n")),
    "data of MetaImage": (
        "d.raw",
        lambda folder: header(folder / "a.mhd", MHD + b"ElementDataFile = d.raw\n"),
    ),
    "image of Analyze": ("a.img", lambda folder: folder / "a.hdr"),
}


def header(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("place", PLACES)
def test_no_file(place: str, trap: str, tmp_path: Path) -> None:
    name, make = PLACES[place]
    if place == "image of Analyze":
        (tmp_path / "a.hdr").write_bytes(whole("a.hdr", tmp_path))
        (tmp_path / "a.img").unlink()
    TRAPS[trap](tmp_path / name)
    source = make(tmp_path)
    with pytest.raises(ScanError) as refused:
        read_scan(find_one(source))
    assert str(tmp_path) in str(refused.value)
    assert refused.value.remedy


@pytest.mark.parametrize("trap", sorted(TRAPS))
def test_beside_a_series(trap: str, tmp_path: Path, make_series: Callable[..., object]) -> None:
    """It is passed over, or told; the folder is never waited for."""
    make_series(tmp_path / "s")
    TRAPS[trap](tmp_path / "s" / "zz.dcm")
    try:
        (scan,) = find_scans(tmp_path / "s").scans
    except ScanError as refused:
        assert "zz.dcm" in str(refused)  # noqa: PT017
        return
    assert scan.shape[2] == 5


@pytest.mark.parametrize(
    "name",
    ["../../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "http://localhost:9/x", "//localhost/x",
     "~/.ssh/id_rsa", "..\\x", ".", "-", "/dev/stdin", "/proc/self/environ", "a%00b", "|cat", "$(id)"],
)  # fmt: skip
def test_data_elsewhere(name: str, tmp_path: Path) -> None:
    for path, data in (("a.nhdr", NRRD + b"data file: "), ("a.mhd", MHD + b"ElementDataFile = ")):
        with pytest.raises(ScanError):
            find_scans(header(tmp_path / path, data + name.encode() + b"\n"))
