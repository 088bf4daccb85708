"""NRRD and MetaImage made to hang, to swell or to end the process: each is read or refused within seconds."""

from __future__ import annotations

import contextlib
import gzip
import time
from pathlib import Path

import pytest

from medrecon.io import ScanError, find_one, read_scan

from .test_itk import meta, nrrd

HOSTILE = {
    "brackets": lambda: {"space_directions": "(" * 1_000_000},
    "closed brackets": lambda: {"space_directions": "()" * 500_000},
    "nested": lambda: {"space_directions": "(" * 2000 + ")" * 2000},
    "numbers": lambda: {"sizes": "1 " * 400_000},
    "one number": lambda: {"sizes": "9" * 900_000},
    "digits": lambda: {"space_directions": "(" + "1" * 900_000 + ",0,0)"},
    "lines": lambda: {"type": "uchar\n" + "#\n" * 500_000},
    "keys": lambda: {"type": "uchar\n" + "".join(f"k{i}:=v\n" for i in range(19_000)).strip()},
    "words": lambda: {"kinds": "domain " * 150_000},
    "units": lambda: {"space_units": '"mm" ' * 150_000},
    "content": lambda: {"content": "x" * 900_000},
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_headers_take_no_time(attack: str, tmp_path: Path) -> None:
    path = nrrd(tmp_path, **HOSTILE[attack]())
    began = time.process_time()
    with contextlib.suppress(ScanError):
        read_scan(find_one(path))
    text = "".join(f"k{i} = v\n" for i in range(19_000)) if attack == "keys" else "x" * 900_000
    with contextlib.suppress(ScanError):
        read_scan(find_one(meta(tmp_path, NDims=f"3\n{text}" if attack == "keys" else text)))
    assert time.process_time() - began < 5


def test_hundreds_of_thousands_of_empty_members(tmp_path: Path) -> None:
    data = gzip.compress(b"") * 400_000 + gzip.compress(bytes(range(24)))
    began = time.process_time()
    assert read_scan(find_one(nrrd(tmp_path, data, encoding="gzip")))[3, 2, 1] == 23
    assert time.process_time() - began < 5


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_a_file_of_holes_is_refused(name: str, tmp_path: Path) -> None:
    big = {"sizes": "1024 1024 1024"} if name == "a.nrrd" else {"DimSize": "1024 1024 1024"}
    path = (nrrd if name == "a.nrrd" else meta)(tmp_path, **big)
    with path.open("r+b") as stream:
        stream.truncate(2 << 30)
    with pytest.raises(ScanError, match="is sparse"):
        find_one(path)
