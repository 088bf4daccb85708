"""Markers in every text of the headers and in every name of the sources: no output of any verb holds one."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.datadict import DicomDictionary, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medrecon.cli.app import main
from medrecon.io.files.sources import sources_path

Make = Callable[..., np.ndarray]
Run = Callable[..., tuple[int, str, str]]

NAME, OTHER = "Zörgblatt", "Qwixel"
MARKS = ("zorgblatt", "zörgblatt", "qwixel", "19470131", "1947-01-31", "0815-4711", "cq77xz")
"""Of the patient: name, another one, birth date in two ways, ID, a name of few letters with digits."""

TEXTS = {"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT", "CS", "AS"}
KEPT = """
    SpecificCharacterSet ImageType Modality PhotometricInterpretation PatientPosition RescaleType
    FrameOfReferenceTransformationType PatientOrientation LossyImageCompression BodyPartExamined
"""
NEEDED = KEPT.split()


def mark(path: Path) -> None:
    """Put a marker in each text of the header that the reading does not depend on."""
    ds = pydicom.dcmread(path)
    ds.SpecificCharacterSet = "ISO_IR 192"
    for tag, (vr, vm, _, _, keyword) in DicomDictionary.items():
        if (
            vr not in TEXTS
            or vm != "1"
            or keyword in NEEDED
            or not keyword
            or not 0x0008 <= tag >> 16 <= 0x0040
        ):
            continue
        if tag >> 16 & 1 == 0:
            ds.add_new(
                tag,
                vr,
                {"CS": "ZORGBLATT CQ77XZ", "AE": "Qwixel", "AS": "cq77xz"}.get(
                    vr, f"{NAME} {OTHER} 0815-4711"
                ),
            )
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = f"{NAME}^{OTHER}=cq77xz", "0815-4711", "19470131"
    ds.OtherPatientIDs = [NAME, "0815-4711"]
    item = Dataset()
    item.PatientID, item.ReferencedSOPInstanceUID = "0815-4711", "1.2.3.19470131"
    ds.ReferencedPatientSequence = Sequence([item])
    block = ds.private_block(0x0041, NAME, create=True)
    block.add_new(1, "LO", NAME)
    ds[tag_for_keyword("SeriesDescription")].value = f"{NAME}, {OTHER} geb. 1947-01-31 1.2.840.{19470131}"
    ds.save_as(path)


@pytest.fixture
def sources(tmp_path: Path, make_ct: Make) -> Path:
    """A CT series, NIfTI, NRRD and MHA, and what is left out; each name and each text with a marker."""
    root = tmp_path / "in"
    make_ct(root / f"{NAME}_{OTHER}" / "CT cq77xz", (32, 32, 8))
    for number, path in enumerate(sorted((root / f"{NAME}_{OTHER}" / "CT cq77xz").iterdir())):
        mark(path)
        path.rename(path.with_name(f"{NAME}_19470131_{number}.dcm"))
    values = np.random.default_rng(0).integers(0, 900, (32, 32, 16)).astype(np.int16)
    image = nib.Nifti1Image(values, np.diag([1.0, 1, 2, 1]))
    for field in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[field] = b"Zorgblatt Qwixel"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", f"{NAME} 0815-4711".encode()))
    nib.save(image, root / f"{OTHER}_19470131_ID0815-4711.nii.gz")
    itk = sitk.GetImageFromArray(values.T)
    itk.SetMetaData("PatientName", NAME)
    itk.SetMetaData("0010|0010", OTHER)
    for ending in ("nrrd", "mha"):
        sitk.WriteImage(itk, root / f"{NAME}-cq77xz.{ending}")
    (root / f"{NAME}.txt").write_text(f"{OTHER}")
    return root


def unpacked(data: bytes, name: str = "", depth: int = 0) -> Iterator[tuple[str, bytes]]:
    """The bytes, and all that is packed in them."""
    yield name, data
    if depth > 4:
        return
    if data[:2] == b"\x1f\x8b":
        yield from unpacked(gzip.decompress(data), f"{name}>gz", depth + 1)
    elif data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.namelist():
                yield f"{name}>names", member.encode()
                yield from unpacked(archive.read(member), f"{name}>{member}", depth + 1)
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        for found in re.finditer(
            rb"(?:zTXt|iTXt|iCCP)[^\0]{1,79}\0.{1,4}?(\x78[\x01\x5e\x9c\xda].*)", data, re.DOTALL
        ):
            yield f"{name}>png", zlib.decompressobj().decompress(found[1], 1 << 20)
    else:
        for found in re.finditer(rb"[A-Za-z0-9+/_-]{24,}={0,2}", data):
            text = found[0].replace(b"-", b"+").replace(b"_", b"/")
            yield from unpacked(
                base64.b64decode(text[: len(text) // 4 * 4] or b""), f"{name}>base64", depth + 1
            )


def folded(data: bytes) -> list[str]:
    """As the texts that it may be: of one byte a letter, of several, without accents, from URLs, in pairs."""
    texts = [data.decode(code, "ignore") for code in ("utf-8", "latin-1", "utf-16-le", "utf-16-be")]
    texts.append(
        re.sub(r"%([0-9A-Fa-f]{2})|\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1] or m[2], 16)), texts[0])
    )
    plain = [unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode() for text in texts]
    return [text.lower() for text in (*texts, *plain)]


def found_in(data: bytes, name: str, marks: tuple[str, ...]) -> list[str]:
    return [
        f"{where}: {word}" for where, part in unpacked(data, name) for word in marks
        if any(word in text for text in folded(part))
    ]  # fmt: skip


def found_below(root: Path, marks: tuple[str, ...]) -> list[str]:
    found = []
    for path in sorted(root.rglob("*")):
        found += found_in(str(path.relative_to(root)).encode("utf-8", "surrogateescape"), "name", marks)
        if path.is_file():
            found += found_in(path.read_bytes(), str(path.relative_to(root)), marks)
    return found


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def marks(sources: Path) -> tuple[str, ...]:
    """The markers, with the UIDs of the series."""
    header = pydicom.dcmread(next(sources.rglob("*.dcm")), stop_before_pixels=True)
    return (*MARKS, header.SeriesInstanceUID, header.StudyInstanceUID, header.SOPInstanceUID)


def test_the_search_finds_a_marker_wherever_it_hides(tmp_path: Path) -> None:
    """Else all that follows would prove nothing."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("Data/a.nii.gz", gzip.compress(b"...Qwixel..."))
    hidden = {
        "plain": NAME.encode(),
        "latin": NAME.encode("latin-1"),
        "folded": b"ZORGBLATT",
        "gz": gzip.compress(b"x" + NAME.encode()),
        "zip": packed.getvalue(),
        "base64": b"data:text/plain;base64," + base64.b64encode(b"a longer text with Qwixel in it"),
        "gz in base64": b"src='" + base64.b64encode(gzip.compress(b"0815-4711 " * 20)),
        "json": json.dumps({"a": NAME}).encode(),
        "url": b"href='Z%F6rgblatt'",
        "utf-16": "Qwixel".encode("utf-16-le"),
    }
    for name, data in hidden.items():
        assert found_in(data, name, MARKS), name
    assert not found_in(b"nothing of the kind" * 10, "none", MARKS)


@pytest.mark.parametrize("how", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("scans", []),
        ("reconstruct", ["--layers", "level3,input", "--format", "nifti", "--hu", "--accept", "units"]),
        ("reconstruct", ["--layers", "level3", "--format", "nifti", "--dry-run"]),
        ("encode", ["--layers", "level4", "--dtype", "int8"]),
    ],
    ids=["scans", "reconstruct", "dry-run", "encode"],
)
def test_verbs_over_many_scans(
    verb: str,
    words: list[str],
    how: list[str],
    run: Run,
    sources: Path,
    marks: tuple[str, ...],
    tmp_path: Path,
) -> None:
    output = tmp_path / "out"
    places = [sources] if verb == "scans" else [sources, output]
    words = [word for word in words if word not in ("--hu", "--accept", "units")]
    code, out, err = run(verb, *places, *words, *how)
    assert code == 0, err
    assert found_in((out + err).encode(), verb, marks) == []
    if "--dry-run" in words or verb == "scans":
        return
    assert len(list(output.iterdir())) >= 4
    assert found_below(output, marks) == []
    table = sources_path(output)
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    assert found_in(table.read_bytes(), "table", ("zörgblatt",)), "the table that resolves the codes does not"


def test_series_side_by_side(
    run: Run, sources: Path, marks: tuple[str, ...], tmp_path: Path, make_ct: Make
) -> None:
    (folder,) = {path.parent for path in sources.rglob("*.dcm")}
    make_ct(tmp_path / "more", seed=5)
    mixed = folder.rename(tmp_path / "mixed")
    for path in (tmp_path / "more").iterdir():
        mark(path)
        path.rename(mixed / f"b{path.name}")
    for verb in (["reconstruct", mixed, tmp_path / "out"], ["compare", mixed, mixed]):
        code, out, err = run(*verb)
        assert code == 3
        assert found_in((out + err).encode(), str(verb[0]), marks) == [], err


def test_compare_atlas_and_invert(run: Run, sources: Path, marks: tuple[str, ...], tmp_path: Path) -> None:
    nifti = next(sources.glob("*.nii.gz"))
    series = next(sources.rglob("*.dcm")).parent
    for words in (
        ["compare", series, series, "--json"],
        ["compare", nifti, nifti],
        ["atlas", sources, tmp_path / "many", "--layers", "level4"],
        ["atlas", nifti, tmp_path / "one", "--layers", "level4", "--json"],
        ["invert", series, tmp_path / "inverted", "--encoder", "resnet18", "--layers", "layer1",
         "--steps", "1", "--slices", "2:4", "--format", "nifti"],
    ):  # fmt: skip
        code, out, err = run(*words)
        assert code == 0, err
        assert found_in((out + err).encode(), str(words[0]), marks) == []
    for name in ("many", "one", "inverted"):
        assert (tmp_path / name).is_dir()
        assert found_below(tmp_path / name, marks) == []


def test_a_cohort(run: Run, sources: Path, marks: tuple[str, ...], tmp_path: Path) -> None:
    (sources / f"{NAME}_gap.nii.gz").write_bytes(b"broken")
    code, out, err = run(
        "cohort", sources, tmp_path / "out", "-l", "level4", "--workers", "1", "--format", "nifti", "--json"
    )
    assert code == 8, err
    assert found_in((out + err).encode(), "cohort", marks) == []
    assert found_below(tmp_path / "out", marks) == []
    with (tmp_path / "out" / "results.csv").open() as table:
        workers = {row["worker"] for row in csv.DictReader(table)}
    assert all(re.fullmatch(r"[0-9a-f]{8}:[0-9]+", worker) for worker in workers), "no name of a machine"
    assert stat.S_IMODE(sources_path(tmp_path / "out").stat().st_mode) == 0o600


def test_names_where_the_user_asks_for_them(run: Run, sources: Path, tmp_path: Path) -> None:
    code, out, _ = run("scans", sources, "--names-from-source", "--json")
    assert code == 0
    assert found_in(out.encode(), "scans", ("zörgblatt",))
    assert run("encode", sources, tmp_path / "out", "-l", "level4", "--names-from-source")[0] == 0
    assert any("Qwixel" in path.name for path in (tmp_path / "out").iterdir())
    assert not sources_path(tmp_path / "out").exists()
