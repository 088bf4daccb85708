"""A patient's name in places beside the usual headers: none of it reaches features, a volume or a message."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest

from medrecon.cli.app import main

from ..conftest import write_ct, write_nifti
from ..markers import found_below, found_in

NAME = b"Qzyxwurst"
MARKS = (NAME.decode().lower(),)
NRRD = (
    b"NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 18 16 10\n"
    b"space directions: (1,0,0) (0,1,0) (0,0,2)\nendian: little\nencoding: raw\nspace origin: (0,0,0)\n"
)


def plain(folder: Path) -> bytes:
    write_nifti(folder / "x.nii")
    data = (folder / "x.nii").read_bytes()
    (folder / "x.nii").unlink()
    return data


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def gzip_name(folder: Path) -> Path:
    packed = io.BytesIO()
    with gzip.GzipFile(filename=f"{NAME.decode()}.nii", fileobj=packed, mode="wb") as stream:
        stream.write(plain(folder))
    return put(folder / "a.nii.gz", packed.getvalue())


def gzip_comment(folder: Path) -> Path:
    packed = gzip.compress(plain(folder))
    return put(folder / "a.nii.gz", packed[:3] + b"\x10" + packed[4:10] + NAME + b"\0" + packed[10:])


def extension(code: int) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        data = bytearray(plain(folder))
        struct.pack_into("<f", data, 108, 384.0)
        more = struct.pack("<ii", 32, code) + NAME.ljust(24, b"\0")
        return put(folder / "a.nii", bytes(data[:348]) + b"\1\0\0\0" + more + bytes(data[352:]))

    return make


def nrrd(field: bytes) -> Callable[[Path], Path]:
    return lambda folder: put(folder / "a.nrrd", NRRD + field + b"\n\n" + plain(folder)[352:])


def detached(folder: Path) -> Path:
    put(folder / f"{NAME.decode()}.raw", plain(folder)[352:])
    return put(folder / "a.nhdr", NRRD + b"data file: " + NAME + b".raw\n")


def series(change: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write_ct(folder / "ct")
        for path in (folder / "ct").iterdir():
            path.write_bytes(change(path.read_bytes()))
        return folder / "ct"

    return make


def attributes(**values: Any) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        header = pydicom.dcmread(io.BytesIO(data))
        for name, value in values.items():
            setattr(header.file_meta if name.startswith("Private") else header, name, value)
        saved = io.BytesIO()
        header.save_as(saved)
        return saved.getvalue()

    return change


def zipped(
    name: str = "a.zip", inner: str = "x", comment: bytes = b"", more: str = ""
) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        source = series(lambda data: data)(folder)
        with zipfile.ZipFile(folder / name, "w") as made:
            for path in source.iterdir():
                made.write(path, f"{inner}/{path.name}")
            made.comment = comment
            if more:
                made.writestr(more, "text")
        return folder / name

    return make


def linked(folder: Path) -> Path:
    put(folder / f"{NAME.decode()}.nii", plain(folder))
    (folder / "a.nii").symlink_to(f"{NAME.decode()}.nii")
    return folder / "a.nii"


TRAILING = struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, 10) + NAME + b"x"
PLACES: dict[str, Callable[[Path], Path]] = {
    "gzip's file name": gzip_name,
    "gzip's comment": gzip_comment,
    **{f"NIfTI extension {code}": extension(code) for code in (2, 4, 6, 40)},
    "NRRD comment": nrrd(b"# " + NAME),
    "NRRD key": nrrd(NAME + b":=1"),
    "NRRD labels": nrrd(b'labels: "' + NAME + b'" "y" "z"'),
    "detached file": detached,
    "target of a link": linked,
    "name of a zip file": zipped(f"{NAME.decode()}.zip"),
    "folder in a zip file": zipped(inner=NAME.decode()),
    "comment of a zip file": zipped(comment=NAME),
    "other file in a zip file": zipped(more=f"{NAME.decode()}.txt"),
    "preamble": series(lambda data: NAME.ljust(128, b"\0") + data[128:]),
    "trailing padding": series(lambda data: data + TRAILING),
    "file meta information": series(
        attributes(PrivateInformationCreatorUID="1.2.3", PrivateInformation=NAME + b"\0")
    ),
    "modality": series(attributes(Modality=NAME.decode().upper())),
    "rescale type": series(attributes(RescaleType=NAME.decode())),
    "kernel": series(attributes(ConvolutionKernel=NAME.decode())),
    "type of image": series(attributes(ImageType=["ORIGINAL", "PRIMARY", "AXIAL", NAME.decode().upper()])),
}


@pytest.mark.parametrize("place", PLACES)
def test_no_name_from_there(
    place: str, tmp_path: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    source, output = PLACES[place](tmp_path / "in"), tmp_path / "out"
    output.mkdir()
    for verb, layer, name in (("encode", "coarse2", "a.safetensors"), ("reconstruct", "input", "a.nii.gz")):
        with pytest.raises(SystemExit) as ended:
            main([verb, str(source), str(output / name), "--layers", layer, "--bundle", str(tiny_bundle)])
        out, err = capfd.readouterr()
        assert ended.value.code in (None, 0, 3), err
        if not ended.value.code:
            assert found_in((out + err).encode(), verb, MARKS) == []
    for table in output.glob("*.sources.csv"):
        table.unlink()
    assert found_below(output, MARKS) == []
