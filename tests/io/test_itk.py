"""NRRD and MetaImage like SimpleITK reads them; what it reads wrongly or only half is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medrecon.io import ScanError, find_one, find_scans, read_scan

DIRECTION = np.linalg.qr(np.array([[1, 0.2, 0.1], [-0.3, 1, 0.2], [0.1, -0.1, 1]]))[0]
NAMES = ("a.nrrd", "a.nhdr", "a.mha", "a.mhd")


def image(dtype: type = np.int16) -> sitk.Image:
    values = np.random.default_rng(0).integers(0, 120, (5, 6, 7)).astype(dtype)
    found = sitk.GetImageFromArray(values)
    found.SetSpacing((0.6, 0.75, 2.5))
    found.SetOrigin((-11, 7.25, 100))
    found.SetDirection(DIRECTION.ravel())
    return found


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_simpleitk(name: str, dtype: type, packed: bool, tmp_path: Path) -> None:
    true = image(dtype)
    sitk.WriteImage(true, str(tmp_path / name), packed)
    found = find_scans(tmp_path)
    scan = found.scans[0]
    assert scan.path == tmp_path / name
    assert scan.format == ("nrrd" if name[2] == "n" else "mha")
    assert np.array_equal(read_scan(scan), sitk.GetArrayFromImage(true).transpose(2, 1, 0))
    for index in ((0, 0, 0), (6, 0, 0), (0, 5, 0), (0, 0, 4), (3, 2, 1)):
        lps = true.TransformContinuousIndexToPhysicalPoint([float(i) for i in index])
        assert np.allclose(scan.affine @ [*index, 1], [-lps[0], -lps[1], lps[2], 1], atol=1e-9)
    assert len(found.left_out) == (1 if name in ("a.nhdr", "a.mhd") else 0)


def nrrd(tmp_path: Path, data: bytes = bytes(24), **fields: str) -> Path:
    """A hand-written NRRD of 4 x 3 x 2 bytes; fields replace or (when empty) drop lines."""
    lines = {
        "type": "uchar",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "4 3 2",
        "space directions": "(1,0,0) (0,1,0) (0,0,2)",
        "kinds": "domain domain domain",
        "encoding": "raw",
        "space origin": "(1,2,3)",
    } | {k.replace("_", " "): v for k, v in fields.items()}
    head = "NRRD0004\n" + "".join(f"{k}: {v}\n" for k, v in lines.items() if v) + "\n"
    (tmp_path / "b.nrrd").write_bytes(head.encode() + data)
    return tmp_path / "b.nrrd"


NRRD = {
    "no directions": ({"space_directions": ""}, "neither space directions nor spacings"),
    "nan direction": ({"space_directions": "(nan,0,0) (0,1,0) (0,0,2)"}, "finite numbers"),
    "short origin": ({"space_origin": "(1,2)"}, "space origin with 2 values"),
    "flat": ({"space_directions": "(1,0,0) (1,0,0) (0,0,2)"}, "singular"),
    "sizes": ({"sizes": "4 3"}, "dimension 3 and sizes"),
    "zero size": ({"sizes": "4 0 2"}, "impossible sizes"),
    "negative size": ({"sizes": "4 -3 2"}, "where sizes should be"),
    "huge": ({"sizes": "40000 40000 40000"}, "limit is 8192 MiB"),
    "more than there is": ({"sizes": "4 3 3"}, "cut short: 36 bytes are needed, 24"),
    "type": ({"type": "block"}, "unsupported: type 'block'"),
    "encoding": ({"encoding": "bzip2"}, "bzip2"),
    "no endian": ({"type": "short"}, "endian None"),
    "space": ({"space": "scanner-xyz"}, "space 'scanner-xyz' is not supported"),
    "colour": ({"kinds": "RGB-color domain domain"}, "no single values"),
    "skip": ({"byte_skip": "-1"}, "sizes should be|skip"),
    "elsewhere": ({"data_file": "../../etc/passwd"}, "missing or in another folder"),
    "list": ({"data_file": "LIST"}, "missing or in another folder"),
}


@pytest.mark.parametrize("fault", NRRD)
def test_broken_nrrd(fault: str, tmp_path: Path) -> None:
    assert read_scan(find_one(nrrd(tmp_path))).shape == (4, 3, 2)
    fields, message = NRRD[fault]
    path = nrrd(tmp_path, **fields)
    with pytest.raises(ScanError, match=message) as caught:
        read_scan(find_one(path))
    assert "b.nrrd" in str(caught.value)
    assert caught.value.remedy


def test_nrrd_in_ras_and_without_space(tmp_path: Path) -> None:
    assert np.allclose(find_one(nrrd(tmp_path)).affine[:3, 3], [-1, -2, 3])
    assert np.allclose(find_one(nrrd(tmp_path, space="RAS")).affine[:3, 3], [1, 2, 3])
    assert "read as left-posterior-superior" in "".join(find_one(nrrd(tmp_path, space="")).notes)


@pytest.mark.parametrize("first", [True, False])
def test_nrrd_lists_are_volumes(first: bool, tmp_path: Path) -> None:
    data = np.arange(72, dtype=np.uint8)
    path = nrrd(
        tmp_path,
        data.tobytes(),
        dimension="4",
        sizes="3 4 3 2" if first else "4 3 2 3",
        kinds="list domain domain domain" if first else "domain domain domain list",
        space_directions="none (1,0,0) (0,1,0) (0,0,2)" if first else "(1,0,0) (0,1,0) (0,0,2) none",
    )
    with pytest.raises(ScanError, match=r"3 volume\(s\).*--volume 0 \.\.\. 2"):
        find_one(path)
    true = data.reshape((3, 4, 3, 2) if first else (4, 3, 2, 3), order="F")
    for v in range(3):
        assert np.array_equal(read_scan(find_one(path, volume=v)), true[v] if first else true[..., v])


PACKED = {
    "cut": lambda data: data[:-20],
    "check sum": lambda data: data[:-8] + b"\1\2\3\4" + data[-4:],
    "too short": lambda data: gzip.compress(bytes(20)),
    "too long": lambda data: gzip.compress(bytes(30)),
    "no gzip": lambda data: b"x" * 40,
}


@pytest.mark.parametrize("damage", PACKED)
def test_damaged_gzip(damage: str, tmp_path: Path) -> None:
    data = gzip.compress(bytes(range(24)))
    path = nrrd(tmp_path, data, encoding="gzip")
    assert read_scan(find_one(path))[3, 2, 1] == 23
    path = nrrd(tmp_path, PACKED[damage](data), encoding="gzip")
    with pytest.raises(ScanError, match=r"b\.nrrd: (broken or cut short|holds \d+ bytes)"):
        read_scan(find_one(path))


def meta(tmp_path: Path, data: bytes = bytes(24), **fields: str) -> Path:
    lines = {
        "NDims": "3",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "1 2 3",
        "ElementSpacing": "1 1 2",
        "DimSize": "4 3 2",
        "ElementType": "MET_UCHAR",
    } | fields
    name = lines.pop("ElementDataFile", "LOCAL")
    head = "".join(f"{k} = {v}\n" for k, v in lines.items() if v) + f"ElementDataFile = {name}\n"
    (tmp_path / "c.mha").write_bytes(head.encode() + data)
    return tmp_path / "c.mha"


META = {
    "no spacing": ({"ElementSpacing": ""}, "finite numbers"),
    "zero spacing": ({"ElementSpacing": "0 1 2"}, "voxels' size is unknown"),
    "sizes": ({"DimSize": "4 3"}, "NDims 3 and DimSize"),
    "more than there is": ({"DimSize": "4 3 3"}, "cut short"),
    "huge": ({"DimSize": "40000 40000 40000"}, "limit"),
    "type": ({"ElementType": "MET_STRING"}, "MET_STRING"),
    "channels": ({"ElementNumberOfChannels": "3"}, "channels 3"),
    "matrix": ({"TransformMatrix": "1 0 0 1"}, "is not 3 x 3"),
    "flat": ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "singular"),
    "several files": ({"ElementDataFile": "LIST"}, "several files"),
    "elsewhere": ({"ElementDataFile": "/etc/passwd"}, "another folder"),
}


@pytest.mark.parametrize("fault", META)
def test_broken_meta_image(fault: str, tmp_path: Path) -> None:
    assert read_scan(find_one(meta(tmp_path))).shape == (4, 3, 2)
    fields, message = META[fault]
    with pytest.raises(ScanError, match=message) as caught:
        read_scan(find_one(meta(tmp_path, **fields)))
    assert "c.mha" in str(caught.value)


@pytest.mark.parametrize("name", ["x.nrrd", "x.mha"])
@pytest.mark.parametrize("content", [b"", b"rubbish", b"NRRD0004\n" + b"x" * 99, bytes(3000)])
def test_rubbish(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ScanError, match=name):
        find_one(tmp_path / name)


def test_sheared_grid(tmp_path: Path) -> None:
    path = nrrd(tmp_path, space_directions="(1,0,0) (0,1,0) (0,0.9,2)")
    with pytest.raises(ScanError, match=r"b\.nrrd: the grid is sheared: .*; resample it"):
        find_one(path)
    path = nrrd(tmp_path, space_directions="(1,0,0) (0,1,0) (0,0.02,2)")
    (said,) = (note for note in find_one(path).notes if "sheared" in note)
    assert "made straight" in said
