"""What other tools read and medrecon refuses is read by an option that the refusal names, and is said."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    generate_uid,
)
from typer.testing import CliRunner

from medrecon.cli.app import app
from medrecon.errors import UsageError
from medrecon.io import DicomSeriesWriter, ScanError, find_one, find_scans, read_scan
from medrecon.io.dicom.writing.source import check_derivable
from medrecon.io.meta import scan_meta, scan_of
from medrecon.io.scan import ACCEPTABLE, ReadOptions

from .made_series import SIDE, planes, write_slices

Make = Callable[..., np.ndarray]


def lost(folder: Path) -> None:
    write_slices(folder, [{"z": k} for k in range(6)], "CT")
    (folder / "IM0005.dcm").write_bytes(b"\0" * 60)


def in_order(folder: Path) -> None:
    pixels = np.concatenate([np.full(SIDE * SIDE, k, "<u2") for k in range(4)]).tobytes()
    write_slices(folder, [{"z": 5, "NumberOfFrames": 4, "SpacingBetweenSlices": 2, "PixelData": pixels}])


def each(folder: Path, modality: str = "MR", **attributes: Any) -> None:
    """Six slices with these attributes; a function gets the number of the slice."""
    slices = [{n: v(k) if callable(v) else v for n, v in attributes.items()} for k in range(6)]
    write_slices(folder, [{"z": k} | one for k, one in enumerate(slices)], modality)


REFUSALS: dict[str, tuple[Callable[[Path], None], int]] = {
    "mixed": (lambda f: write_slices(f, [{"z": k, "EchoTime": 10 + k % 2} for k in range(6)]), 6),
    "same-position": (
        lambda f: write_slices(f, [{"z": k // 2, "InstanceNumber": None, "value": k} for k in range(12)]),
        6,
    ),
    "frames": (
        lambda f: write_slices(f, [{"z": k, "FrameOfReferenceUID": f"1.2.{k // 3}"} for k in range(6)]),
        6,
    ),
    "same-uid": (lambda f: each(f, SOPInstanceUID="1.2.3"), 6),
    "studies": (lambda f: each(f, StudyInstanceUID=lambda k: f"1.2.3.{k}"), 6),
    "lost-slices": (lost, 5),
    "no-rescale": (
        lambda f: write_slices(
            f, [{"z": k, "RescaleSlope": None, "RescaleIntercept": None} for k in range(6)], "CT"
        ),
        6,
    ),
    "bits": (lambda f: each(f, HighBit=15), 6),
    "frame-order": (in_order, 4),
    "no-geometry": (lambda f: each(f, ImagePositionPatient=None), 6),
    "no-thickness": (lambda f: write_slices(f, [{"z": 0, "SliceThickness": None}]), 1),
    "localizers": (lambda f: each(f, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), 6),
    "other-classes": (lambda f: each(f, SOPClassUID=SecondaryCaptureImageStorage), 6),
}
DERIVABLE = REFUSALS.keys() - {"other-classes"}


def test_each_has_a_case() -> None:
    assert set(REFUSALS) == set(ACCEPTABLE)


@pytest.mark.parametrize("name", REFUSALS)
def test_the_remedy_works(name: str, tmp_path: Path) -> None:
    make, count = REFUSALS[name]
    make(tmp_path / "s")
    with pytest.raises(ScanError) as caught:
        find_one(tmp_path / "s")
    named = re.findall(r"--accept ([a-z-]+)", str(caught.value))
    assert named == [name]
    scan = find_one(tmp_path / "s", accept=named)
    assert scan.shape[2] == count
    assert [note for note in scan.notes if "left out" not in note and "single slice: its" not in note], (
        "nothing is said"
    )
    values = read_scan(scan)
    assert scan_of(scan_meta(scan)).options.accept == (name,)
    if name not in DERIVABLE:
        with pytest.raises(UsageError, match="--format nifti"):
            check_derivable(scan)
        return
    writer = DicomSeriesWriter()
    writer.set_data_array(values, channel_dim=None)
    writer.set_scan(scan)
    writer.write(tmp_path / "out")
    back = find_one(tmp_path / "out", accept=named)
    assert np.array_equal(read_scan(back), values)
    assert np.allclose(back.affine, scan.affine, atol=1e-3)


def table(k: int) -> list[Dataset]:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 16])
    item.ModalityLUTType, item.LUTData = "HU", bytes(8192)
    return [item]


PLACE, AXES, SIZE = "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"
USUAL = (0.5, 0.5, 1.0)
FURTHER: dict[str, tuple[str, dict[str, Any], tuple[float, ...]]] = {
    "no orientation": ("no-geometry", {AXES: None}, USUAL),
    "an impossible orientation": ("no-geometry", {AXES: [0] * 6}, USUAL),
    "no pixel spacing": ("no-geometry", {SIZE: None}, (1, 1, 1)),
    "a pixel spacing of nought": ("no-geometry", {SIZE: [0, 0]}, (1, 1, 1)),
    "the detector's spacing": ("no-geometry", {SIZE: None, "ImagerPixelSpacing": [2, 3]}, (3, 2, 1)),
    "an absurd position": ("no-geometry", {PLACE: [1e6, 0, 0]}, (0.5, 0.5, 3)),
    "one position missing": (
        "no-geometry",
        {PLACE: lambda k: [0, 0, 7 * k] if k != 2 else None},
        (0.5, 0.5, 3),
    ),
    "no geometry": ("no-geometry", dict.fromkeys((PLACE, AXES, SIZE, "SliceThickness")), (1, 1, 1)),
    "no position, no number": ("no-geometry", {PLACE: None, "InstanceNumber": None}, (0.5, 0.5, 3)),
    "a Modality LUT": ("no-rescale", {"ModalityLUTSequence": table}, USUAL),
    "a slope of nought": ("no-rescale", {"RescaleSlope": 0, "RescaleIntercept": -1024}, USUAL),
    "two studies": ("studies", {"StudyInstanceUID": lambda k: f"1.2.{k // 3}", "StudyID": "7"}, USUAL),
    "two slices of one UID": ("same-uid", {"SOPInstanceUID": lambda k: f"1.2.{k // 2}"}, USUAL),
    "an ultrasound": ("other-classes", {"SOPClassUID": UltrasoundImageStorage, "Modality": "US"}, USUAL),
    "a radiograph": (
        "other-classes --accept no-geometry",
        {"SOPClassUID": ComputedRadiographyImageStorage, PLACE: None, AXES: None},
        (0.5, 0.5, 3),
    ),
    "a private class": ("other-classes", {"SOPClassUID": "1.3.12.2.1107.5.9.1"}, USUAL),
}


@pytest.mark.parametrize("what", FURTHER)
def test_further_examples_of_each(what: str, tmp_path: Path) -> None:
    name, attributes, spacing = FURTHER[what]
    each(tmp_path / "s", **attributes)
    with pytest.raises(ScanError, match=f"--accept {name}"):
        find_one(tmp_path / "s")
    scan = find_one(tmp_path / "s", accept=name.split(" --accept "))
    assert planes(scan) == [0, 1, 2, 3, 4, 5]
    assert scan.notes
    assert np.allclose(scan.spacing, spacing)
    if "other-classes" in name:
        return
    writer = DicomSeriesWriter()
    writer.set_data_array(read_scan(scan), channel_dim=None)
    writer.set_scan(scan)
    writer.write(tmp_path / "out")
    back = find_one(tmp_path / "out")
    assert planes(back) == [0, 1, 2, 3, 4, 5]
    assert np.allclose(back.affine, scan.affine, atol=1e-6)


@pytest.mark.parametrize(
    "lacking",
    [
        (),
        ("ImagePositionPatient",),
        ("ImageOrientationPatient",),
        ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
        ("SpacingBetweenSlices", "SliceThickness"),
    ],
)
def test_frames_without_any_geometry(lacking: tuple[str, ...], tmp_path: Path) -> None:
    """A multi-frame image needs both names; what geometry it has is kept."""
    in_order(tmp_path / "s")
    (path,) = (tmp_path / "s").iterdir()
    header = pydicom.dcmread(path)
    for name in lacking:
        if name in header:
            delattr(header, name)
    header.save_as(path)
    if lacking:
        with pytest.raises(ScanError, match="--accept no-geometry"):
            find_one(path, accept=["frame-order"])
    scan = find_one(path, accept=["frame-order", "no-geometry"])
    assert read_scan(scan)[0, 0].tolist() == [0, 1, 2, 3]
    assert abs(scan.affine[2, 3]) == (0 if lacking else 5)
    assert scan.spacing[2] == (1 if "SliceThickness" in lacking else 2)


def test_two_contents_without_positions_are_two_volumes(tmp_path: Path) -> None:
    each(tmp_path / "s", ImagePositionPatient=None, EchoTime=lambda k: 10 + k % 2)
    scan = find_one(tmp_path / "s", accept=["no-geometry"], volume=1)
    assert planes(scan) == [1, 3, 5]
    assert scan.spacing[2] == 3


def test_pixels_without_a_representation_are_unsigned(tmp_path: Path, make_series: Make) -> None:
    def lacking(ds: Dataset, index: int) -> None:
        for name in ("PixelRepresentation", "SmallestImagePixelValue", "LargestImagePixelValue"):
            delattr(ds, name)

    true = make_series(tmp_path / "s", change=lacking)
    with pytest.raises(ScanError, match=r"Pixel Representation is missing; .*--accept bits"):
        find_one(tmp_path / "s")
    assert np.array_equal(read_scan(find_one(tmp_path / "s", accept=["bits"])), true)


@pytest.mark.parametrize("name", REFUSALS)
def test_on_the_command_line(name: str, tmp_path: Path) -> None:
    REFUSALS[name][0](tmp_path / "s")
    refused = CliRunner().invoke(app, ["scans", str(tmp_path / "s"), "--json"])
    assert refused.exit_code == 3
    done = CliRunner().invoke(app, ["scans", str(tmp_path / "s"), "--accept", name, "--json"])
    assert done.exit_code == 0
    assert len(json.loads(done.stdout)["scans"]) == 1


def test_one_does_not_accept_another(tmp_path: Path) -> None:
    for name, (make, _) in REFUSALS.items():
        make(tmp_path / name)
        with pytest.raises(ScanError):
            find_one(tmp_path / name, accept=[other for other in ACCEPTABLE if other != name])


def follow(folder: Path) -> list[str]:
    """Accept what the refusals of a folder name until they name nothing new; what is then refused."""
    accept: list[str] = []
    while True:
        try:
            refused = [str(error) for error in find_scans(folder, accept=accept).refused]
        except ScanError as error:
            refused = [str(error)]
        named = {name for text in refused for name in re.findall(r"--accept ([a-z-]+)", text)}
        assert not named.intersection(accept), (folder, accept, refused)
        if not named:
            return refused
        accept += named


def test_no_remedy_is_in_vain_where_two_things_are_wrong(tmp_path: Path) -> None:
    for (one, (name, first, _)), (other, (name2, second, _)) in itertools.combinations(FURTHER.items(), 2):
        if name != name2 and not first.keys() & second.keys():
            folder = tmp_path / f"{one}, {other}"
            each(folder, **first, **second)
            assert not follow(folder), (one, other)


@pytest.mark.real_data
def test_no_remedy_is_in_vain_on_real_files(shared_dir: Path) -> None:
    for folder in sorted(path for path in (shared_dir / "data" / "edge").iterdir() if path.is_dir()):
        follow(folder)


@pytest.mark.parametrize(
    "pixels",
    [{"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, {"PixelData": None}, {"BitsAllocated": 1}],
    ids=lambda pixels: next(iter(pixels)),
)
def test_what_no_option_reads_names_none(pixels: dict[str, Any], tmp_path: Path) -> None:
    each(tmp_path / "s", SOPClassUID=SecondaryCaptureImageStorage, **pixels)
    assert "--accept" not in "".join(follow(tmp_path / "s"))
    with pytest.raises(ScanError, match="not a CT, MR or PET image") as caught:
        find_one(tmp_path / "s")
    assert "--accept" not in str(caught.value)


def test_two_patients_are_never_accepted(tmp_path: Path) -> None:
    write_slices(tmp_path / "s", [{"z": k, "PatientID": str(k // 3)} for k in range(6)])
    with pytest.raises(ScanError, match="PatientID") as caught:
        find_one(tmp_path / "s", accept=list(ACCEPTABLE))
    assert "--accept" not in str(caught.value)


def test_a_slice_of_another_class_without_a_place_is_not_lost(tmp_path: Path) -> None:
    places = {PLACE: lambda k: [0, 0, 3 * k] if k < 5 else None}
    each(tmp_path / "s", SOPClassUID=UltrasoundImageStorage, **places)
    with pytest.raises(ScanError, match=r"Image Position.* is missing.*--accept no-geometry"):
        find_one(tmp_path / "s", accept=["other-classes"])


def test_unknown_names_are_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'all' is nothing that can be accepted; there are mixed, "):
        find_scans(tmp_path, accept=["all"])


def test_options_as_text() -> None:
    options = ReadOptions(resample=True, accept=("mixed", "frames"))
    assert ReadOptions.from_text(options.to_text()) == options


def test_slices_shifted_unevenly_are_resampled_when_asked(tmp_path: Path) -> None:
    """Each comes to lie where it says it lies."""
    shifts = [0, 2, 0, 3, 1, 0]
    slices = []
    for k, shift in enumerate(shifts):
        plane = np.rint(100 + 10 * (shift + np.arange(SIDE))[None, :] * np.ones((SIDE, 1))).astype("<u2")
        slices.append({"ImagePositionPatient": [0.5 * shift, 0, k], "PixelData": plane.tobytes()})
    write_slices(tmp_path / "s", slices, "CT")
    with pytest.raises(
        ScanError, match=r"shifted against each other by up to 1\.50 mm, unevenly; .*--resample"
    ):
        find_one(tmp_path / "s")
    scan = find_one(tmp_path / "s", resample=True)
    values = read_scan(scan)
    assert values.shape == (SIDE + 3, SIDE, 6)
    for k, shift in enumerate(shifts):
        assert values[shift : shift + SIDE, 2, k].tolist() == [100 + 10 * (shift + x) for x in range(SIDE)]


def test_a_series_of_one_slice_uid_each_is_no_series(tmp_path: Path) -> None:
    write_slices(tmp_path / "s", [{"z": k, "SeriesInstanceUID": generate_uid()} for k in range(3)])
    with pytest.raises(ScanError):
        find_one(tmp_path / "s")
