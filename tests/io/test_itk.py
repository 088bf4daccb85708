"""NRRD and MetaImage like SimpleITK reads them; what it reads wrongly or only half is refused."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medrecon.io import ScanError, find_one, find_scans, read_scan
from medrecon.io.read import load

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
    "zero size": ({"sizes": "4 0 2"}, "where sizes should be"),
    "negative size": ({"sizes": "4 -3 2"}, "where sizes should be"),
    "huge": ({"sizes": "40000 40000 40000"}, "limit is 8192 MiB"),
    "more than there is": ({"sizes": "4 3 3"}, "cut short: 36 bytes are needed, 24"),
    "type": ({"type": "block"}, "unsupported: type 'block'"),
    "encoding": ({"encoding": "bzip2"}, "bzip2"),
    "no endian": ({"type": "short"}, "endian None"),
    "space": ({"space": "scanner-xyz"}, "space 'scanner-xyz' is not supported"),
    "colour": ({"kinds": "RGB-color domain domain"}, "no single values"),
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
    path = nrrd(tmp_path, space="", dimension="3\nspace dimension: 3")
    assert "read as left-posterior-superior" in "".join(find_one(path).notes)


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


UNITS = {
    "mm": 1, "MM": 1, "millimeters": 1, "Millimetre": 1, "cm": 10, "centimeter": 10, "m": 1000,
    "meters": 1000, "metre": 1000, "um": 1e-3,
    "\u00b5m": 1e-3, "\u03bcm": 1e-3, "microns": 1e-3, "micrometers": 1e-3,
    "micrometre": 1e-3, "nm": 1e-6, "": 1, "???": 1, "unknown": 1,
}  # fmt: skip
WITHOUT_SPACE = {"space": "", "space_directions": "", "space_origin": "", "spacings": "1 1 2"}


@pytest.mark.parametrize("unit", UNITS)
def test_units_of_nrrd(unit: str, tmp_path: Path) -> None:
    text = " ".join([f'"{unit}"'] * 3)
    for fields in ({"space_units": text}, {"units": text, **WITHOUT_SPACE}):
        scan = find_one(nrrd(tmp_path, **fields))
        assert np.allclose(scan.spacing, np.array([1, 1, 2]) * UNITS[unit], rtol=1e-12)
        assert ("converted" in "".join(scan.notes)) == (UNITS[unit] != 1)
    scan = find_one(nrrd(tmp_path, space_units=text))
    assert np.allclose(scan.affine[:3, 3], np.array([-1, -2, 3]) * UNITS[unit], rtol=1e-12)


def test_units_that_the_format_does_not_allow_are_not_ignored(tmp_path: Path) -> None:
    for fields in ({"space_units": "um um um"}, {"units": '"um" "um" "um"'}):
        with pytest.raises(ScanError, match="ITK does not read it"):
            find_one(nrrd(tmp_path, **fields))


@pytest.mark.parametrize("unit", ["ms", "s", "px", "inches per day", "mm^2", "m m", "kg"])
def test_units_of_no_length_are_refused(unit: str, tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="is not known"):
        find_one(nrrd(tmp_path, space_units=f'"{unit}" "{unit}" "{unit}"'))
    with pytest.raises(ScanError, match="is not known"):
        find_one(meta(tmp_path, DistanceUnits=unit))


def test_units_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    for fields, message in (
        ({"space_units": '"um" "um" "mm"'}, "differ between the axes"),
        ({"space_units": '"um" "um"'}, "2 units for 3"),
        ({"space_units": '"um" "um" "um"', "units": '"mm" "mm" "mm"'}, "contradict"),
    ):
        with pytest.raises(ScanError, match=message):
            find_one(nrrd(tmp_path, **fields))


@pytest.mark.parametrize("unit", UNITS)
def test_units_of_meta_image(unit: str, tmp_path: Path) -> None:
    scan = find_one(meta(tmp_path, DistanceUnits=unit))
    assert np.allclose(scan.spacing, np.array([1, 1, 2]) * UNITS[unit], rtol=1e-12)


ORDER = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
TRUE, FALSE = ("True", "TRUE", "true", "T", "t", "1"), ("False", "FALSE", "false", "F", "f", "0")
NEITHER = ("yes", "on", "2", "Tomato", "no", "TrueFalse", "-1")


@pytest.mark.parametrize("name", ORDER)
@pytest.mark.parametrize("word", TRUE + FALSE)
def test_byte_order_in_every_spelling(name: str, word: str, tmp_path: Path) -> None:
    true = np.arange(900, 924, dtype=np.int16)
    data = true.astype(">i2" if word in TRUE else "<i2").tobytes()
    path = meta(tmp_path, data, ElementType="MET_SHORT", **{name: word})
    values = read_scan(find_one(path))
    assert np.array_equal(values.ravel(order="F"), true)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).transpose(2, 1, 0), values)


@pytest.mark.parametrize("word", TRUE + FALSE)
def test_other_booleans_in_every_spelling(word: str, tmp_path: Path) -> None:
    data = bytes(range(24))
    packed = zlib.compress(data) if word in TRUE else data
    path = meta(tmp_path, packed, CompressedData=word, CompressedDataSize=str(len(packed)))
    assert read_scan(find_one(path))[3, 2, 1] == 23
    path = meta(tmp_path, data, BinaryData=word)
    if word in TRUE:
        assert read_scan(find_one(path))[3, 2, 1] == 23
    else:
        with pytest.raises(ScanError, match="cut short: 47 bytes"):  # they would be text
            find_one(path)


@pytest.mark.parametrize("word", NEITHER)
@pytest.mark.parametrize(
    "name", ["BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData", "BinaryData"]
)
def test_booleans_that_are_a_guess(name: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"is '.*'; write it as True or False"):
        find_one(meta(tmp_path, ElementType="MET_UCHAR", **{name: word}))


PLACES = {
    "in place": ({}, b"", b""),
    "byte skip": ({"byte_skip": "3"}, b"xyz", b""),
    "last bytes": ({"byte_skip": "-1"}, b"any number", b""),
    "byteskip": ({"byteskip": "2"}, b"\n\n", b""),
    "lines": ({"line_skip": "2"}, b"one\ntwo\n", b""),
    "lines and bytes": ({"line_skip": "1", "byte_skip": "4"}, b"one\ntwo\n", b""),
    "tail": ({}, b"", b"behind"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_places_of_the_values(place: str, detached: bool, packed: bool, tmp_path: Path) -> None:
    fields, before, behind = PLACES[place]
    data = bytes(range(24))
    if packed:  # lines are left out before unpacking, bytes after it
        head = b"".join(before.splitlines(keepends=True)[: int(fields.get("line_skip", 0))])
        text, behind = head + gzip.compress(before[len(head) :] + data), b""
    else:
        text = before + data
    extra = {"encoding": "gzip"} if packed else {}
    if detached:
        (tmp_path / "v.raw").write_bytes(text + behind)
        path = nrrd(tmp_path, b"", data_file="./v.raw", **fields, **extra)
    else:
        path = nrrd(tmp_path, text + behind, **fields, **extra)
    values = read_scan(find_one(path))
    assert values.ravel(order="F").tolist() == list(data)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).transpose(2, 1, 0), values)


@pytest.mark.parametrize("name", ["v.raw", "./v.raw", "sub/v.raw", "sub/../v.raw", ".//v.raw", "a b.raw"])
def test_detached_values_in_and_below_the_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / name).write_bytes(bytes(range(24)))
    assert read_scan(find_one(nrrd(tmp_path, b"", data_file=name)))[3, 2, 1] == 23
    assert read_scan(find_one(meta(tmp_path, b"", ElementDataFile=name)))[3, 2, 1] == 23


@pytest.mark.parametrize("name", ["../v.raw", "sub/../../v.raw", "/etc/passwd", "..", "sub", "no.raw"])
def test_values_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "v.raw").write_bytes(bytes(24))
    for make, key in ((nrrd, "data_file"), (meta, "ElementDataFile")):
        path = make(tmp_path / "in", b"", **{key: name})
        with pytest.raises(ScanError, match="missing or in another folder"):
            find_one(path)


@pytest.mark.parametrize("size", ["-1", "7", "0"])
def test_header_size(size: str, tmp_path: Path) -> None:
    before = b"x" * max(7 if size != "0" else 0, 0)
    (tmp_path / "v.raw").write_bytes(before + bytes(range(24)))
    path = meta(tmp_path, b"", ElementDataFile="./v.raw", HeaderSize=size)
    values = read_scan(find_one(path))
    assert values.ravel(order="F").tolist() == list(range(24))
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).transpose(2, 1, 0), values)
    with pytest.raises(ScanError, match="where a HeaderSize should be"):
        find_one(meta(tmp_path, b"", ElementDataFile="v.raw", HeaderSize="-2"))
    with pytest.raises(ScanError, match="ends inside the header"):
        find_one(meta(tmp_path, HeaderSize="5"))


BLANKS = {
    "tabs": "1\t0\t0\t0\t1\t0\t0\t0\t1",
    "runs": "1  0 0   0 1 0  0 0    1",
    "floats": "1.0 0.00 0e0 -0 1. 0 0 0 1.00000",
}


@pytest.mark.parametrize("blanks", BLANKS)
def test_blanks_between_numbers(blanks: str, tmp_path: Path) -> None:
    path = meta(tmp_path, TransformMatrix=BLANKS[blanks], Offset="1\t 2  3", DimSize="4  3\t2")
    assert np.allclose(find_one(path).affine, [[-1, 0, 0, -1], [0, -1, 0, -2], [0, 0, 2, 3], [0, 0, 0, 1]])
    for text in ("(1,0,0)\t(0,1,0)\t\t(0,0,2)", "( 1 , 0 ,0)  (0,1, 0) (0,0,2) ", "(1,0,0)(0,1,0)(0,0,2)"):
        path = nrrd(tmp_path, space_directions=text, sizes="4\t3  2")
        assert find_one(path).spacing == (1, 1, 2)


@pytest.mark.parametrize("none", ["none", "(nan,nan,nan)", "(NaN, nan ,NAN)", "None"])
@pytest.mark.parametrize("axis", range(4))
def test_an_axis_without_a_direction(none: str, axis: int, tmp_path: Path) -> None:
    vectors, sizes = ["(1,0,0)", "(0,1,0)", "(0,0,2)"], [4, 3, 1]
    vectors.insert(axis, none)
    sizes.insert(axis, 2)
    kinds = ["domain"] * 3
    kinds.insert(axis, "list")
    path = nrrd(
        tmp_path,
        bytes(range(24)),
        dimension="4",
        sizes=" ".join(map(str, sizes)),
        kinds=" ".join(kinds),
        space_directions=" ".join(vectors),
    )
    true = np.arange(24).reshape(sizes, order="F")
    for volume in range(2):
        assert np.array_equal(read_scan(find_one(path, volume=volume)), true.take(volume, axis=axis))


@pytest.mark.parametrize("origin", ["", "(nan,nan,nan)", "(NaN, nan,NAN)"])
def test_an_origin_that_is_not_known(origin: str, tmp_path: Path) -> None:
    scan = find_one(nrrd(tmp_path, space_origin=origin))
    assert np.allclose(scan.affine, np.diag([-1, -1, 2, 1]))
    assert "no space origin: the position is unknown" in scan.notes


GUESSES = {
    "type twice": ({"type": "uchar\ntype: short"}, "'type' twice"),
    "the same twice": ({"sizes": "4 3 2\nsizes: 4 3 2"}, "'sizes' twice"),
    "synonyms": ({"byte_skip": "0\nbyteskip: 0"}, "'byteskip' twice"),
    "unknown field": ({"type": "uchar\nfoo: bar"}, "'foo: bar' is no field of NRRD"),
    "no field": ({"type": "uchar\nrubbish"}, "is no field"),
    "kinds": ({"kinds": "2 domain domain"}, "no single values"),
    "one kind": ({"kinds": "2"}, "1 kinds for 3 axes"),
    "vector": ({"kinds": "vector domain domain"}, "no single values"),
    "no space": ({"space": ""}, "space directions without a space"),
    "late space": ({"space": "", "space_origin": "(1,2,3)\nspace: RAS"}, "ITK does not read it"),
    "late dimension": ({"dimension": "", "encoding": "raw\ndimension: 3"}, "ITK does not read it"),
    "half an origin": ({"space_origin": "(1,nan,3)"}, "NaN, Inf or absurd"),
    "some nan": ({"space_directions": "(1,nan,0) (0,1,0) (0,0,2)"}, "finite numbers"),
    "half a bracket": ({"space_directions": "(1,0,0) (0,1,0) (0,0,2"}, "do not fit the sizes"),
    "a word between": ({"space_directions": "(1,0,0) x (0,1,0) (0,0,2)"}, "do not fit the sizes"),
    "skip": ({"byte_skip": "-2"}, "where a byte skip should be"),
    "line skip": ({"line_skip": "9"}, "fewer than 9 lines"),
    "negative spacing": (WITHOUT_SPACE | {"spacings": "1 -1 2"}, "spacings"),
    "spacings in a space": (WITHOUT_SPACE | {"space": "RAS"}, "ITK does not read"),
    "compression": ({"encoding": "raw\nencoding: gzip"}, "'encoding' twice"),
}  # fmt: skip


@pytest.mark.parametrize("guess", GUESSES)
def test_what_would_be_a_guess(guess: str, tmp_path: Path) -> None:
    fields, message = GUESSES[guess]
    with pytest.raises(ScanError, match=message):
        read_scan(find_one(nrrd(tmp_path, **fields)))


META_GUESSES = {
    "twice": ({"NDims": "3\nNDims = 3"}, "'NDims' twice"),
    "synonyms": ({"Offset": "1 2 3\nPosition = 1 2 4"}, "'Offset' twice"),
    "orders": ({"ElementByteOrderMSB": "False\nBinaryDataByteOrderMSB = True"}, "MSB' twice"),
    "no field": ({"NDims": "3\nrubbish"}, "no field of MetaImage"),
    "a damaged name": ({"NDims": "3\nCompressedDataSize\u00b2 = 9"}, "no field of MetaImage"),
    "no name": ({"NDims": "3\n = 9"}, "no field of MetaImage"),
    "no image": ({"ObjectType": "Tube"}, "holds a Tube"),
    "scaled": ({"ElementToIntensityFunctionSlope": "2"}, "which ITK ignores"),
    "shifted": ({"ElementToIntensityFunctionOffset": "-1024"}, "which ITK ignores"),
    "packed at the end": ({"HeaderSize": "-1", "CompressedData": "True"}, "HeaderSize -1 of compressed"),
    "too much": ({"CompressedData": "True", "CompressedDataSize": "99"}, "cut short: 99 bytes"),
    "flat": ({"NDims": "2", "DimSize": "4 6", "ElementSpacing": "1 1", "Offset": "0 0"}, "2 spatial axes"),
}  # fmt: skip


@pytest.mark.parametrize("guess", META_GUESSES)
def test_what_would_be_a_guess_in_meta_image(guess: str, tmp_path: Path) -> None:
    fields, message = META_GUESSES[guess]
    with pytest.raises(ScanError, match=message):
        read_scan(find_one(meta(tmp_path, **fields)))


def test_voxel_sizes_by_their_older_name(tmp_path: Path) -> None:
    assert find_one(meta(tmp_path, ElementSpacing="", ElementSize="2 2 3")).spacing == (2, 2, 3)
    assert find_one(meta(tmp_path, ElementSize="9 9 9")).spacing == (1, 1, 2)


def test_damaged_zlib_is_refused(tmp_path: Path) -> None:
    """ITK hands out memory that nobody wrote to instead."""
    whole = zlib.compress(bytes(range(24)))
    assert read_scan(find_one(meta(tmp_path, whole, CompressedData="True")))[3, 2, 1] == 23
    for data in (
        whole[:-1],
        whole[:-5],
        whole[:9],
        whole[:-1] + b"x",
        zlib.compress(bytes(23)),
        zlib.compress(bytes(25)),
    ):
        with pytest.raises(ScanError, match=r"broken or cut short|bytes of voxels"):
            read_scan(find_one(meta(tmp_path, data, CompressedData="True")))


def test_whole_numbers_beyond_float32_are_told(tmp_path: Path) -> None:
    for value, said in ((1 << 24, False), (1 << 25, False), ((1 << 24) + 1, True), (-(1 << 30) - 1, True)):
        values = np.zeros((2, 3, 4), np.int32)
        values[1, 2, 3] = value
        sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "a.mha"))
        _, notes = load(find_one(tmp_path / "a.mha"))
        assert any("float32" in note for note in notes) == said


@pytest.mark.parametrize(
    "space", ["space dimension: 4", "space: left-posterior-superior-time", "space: LPST", "space: RAST"]
)
def test_a_space_with_an_axis_of_time(space: str, tmp_path: Path) -> None:
    """As ITK writes a series of volumes; of other directions it makes something else, so they are refused."""
    parts = [sitk.GetImageFromArray(np.full((2, 3, 4), k, np.int16)) for k in range(3)]
    for part in parts:
        part.SetOrigin((7, 8, 9))
    path = tmp_path / "a.nrrd"
    sitk.WriteImage(sitk.JoinSeries(parts, 0, 1.5), str(path))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"space dimension: 4", space.encode()))
    if "RAST" in space:
        with pytest.raises(ScanError, match="ITK reads another geometry"):
            find_one(path, volume=2)
        return
    scan = find_one(path, volume=2)
    assert (read_scan(scan) == 2).all()
    assert scan.affine[:3, 3].tolist() == [-7, -8, 9]
    path.write_bytes(data.replace(b"(0,0,1,0)", b"(0,0,1,1)"))
    with pytest.raises(ScanError, match="do not fit the space"):
        find_one(path, volume=2)
