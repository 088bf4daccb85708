"""Functional groups by our own parser: the values that pydicom gives, in every encoding, in little time."""

from __future__ import annotations

import time
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medrecon.io import find_one
from medrecon.io.dicom.reading.elements import HeaderFault
from medrecon.io.dicom.reading.groups import Item, functional_groups, items

from .test_enhanced import write_enhanced

FRAMES = 5000
SECONDS = 2.0
"""Of processor time for 5,000 frames; a tenth of it is taken, and pydicom takes twice as much."""


def undefined(ds: Dataset) -> None:
    """Every sequence of undefined length, with private ones between."""
    for element in ds:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                item.add_new(0x00091002, "UN", b"12345678")
                undefined(item)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("length", ["defined", "undefined"])
def test_the_values_are_those_of_pydicom(syntax: str, length: str, tmp_path: Path) -> None:
    def change(ds: Dataset) -> None:
        index = Dataset()
        index.DimensionIndexPointer = 0x00200032
        ds.DimensionIndexSequence = [index]
        for k, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
            frame.FrameContentSequence[0].DimensionIndexValues = [1, k + 1]
            diffusion = Dataset()
            diffusion.DiffusionBValue, diffusion.DiffusionDirectionality = 0.5 * k, "ISOTROPIC"
            frame.MRDiffusionSequence = [diffusion]
        if length == "undefined":
            undefined(ds)

    path = tmp_path / "a.dcm"
    write_enhanced(path, kind="MR", change=change)
    ds = pydicom.dcmread(path)
    ds.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(
        path,
        ds,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        force_encoding=True,
    )
    shared, frames, dimensions = functional_groups(path)
    ds = pydicom.dcmread(path)
    assert shared is not None
    spacing = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    assert shared.get("PixelMeasuresSequence")[0].get("PixelSpacing") == list(spacing)
    assert dimensions[0].get("DimensionIndexPointer") == ds.DimensionIndexSequence[0].DimensionIndexPointer
    assert len(frames) == len(ds.PerFrameFunctionalGroupsSequence) == 6
    for mine, its in zip(frames, ds.PerFrameFunctionalGroupsSequence, strict=True):
        for sequence, names in (
            ("PlanePositionSequence", ["ImagePositionPatient"]),
            ("FrameContentSequence", ["DimensionIndexValues", "TemporalPositionIndex"]),
            ("PixelValueTransformationSequence", ["RescaleSlope", "RescaleIntercept", "RescaleType"]),
            ("MRDiffusionSequence", ["DiffusionBValue", "DiffusionDirectionality", "EffectiveEchoTime"]),
        ):
            for name in names:
                value = its[sequence][0].get(name)
                seen = mine.get(sequence)[0].get(name)
                assert seen == (list(value) if hasattr(value, "append") else value), name


def test_broken_items_are_faults() -> None:
    whole = b"\xfe\xff\0\xe0\x08\0\0\0\x08\0\0\x01SH\0\0"
    assert len(items(whole, "<")) == 1
    for broken in (whole[:-1], whole[4:], b"\xfe\xff\0\xe0\xff\xff\xff\xff" + whole[8:]):
        with pytest.raises(HeaderFault):
            items(broken, "<")
    with pytest.raises(HeaderFault, match="leaves its item"):
        Item(b"\x08\0\0\x01SH\x40\0", "<").get("CodeValue")


@pytest.mark.slow
def test_many_frames_take_little_time(tmp_path: Path) -> None:
    def many(ds: Dataset) -> None:
        first = ds.PerFrameFunctionalGroupsSequence[0]
        ds.PerFrameFunctionalGroupsSequence = [place(first, k) for k in range(FRAMES)]
        ds.Rows = ds.Columns = 2
        ds.NumberOfFrames, ds.PixelData = FRAMES, bytes(8 * FRAMES)

    write_enhanced(tmp_path / "a.dcm", change=many)
    start = time.process_time()
    assert find_one(tmp_path / "a.dcm").shape == (2, 2, FRAMES)
    assert time.process_time() - start < SECONDS


def place(first: Dataset, k: int) -> Dataset:
    """A frame like the first one, further along."""
    frame, position = Dataset(), Dataset()
    position.ImagePositionPatient = [0, 0.6 * k, 0.8 * k]
    frame.PlanePositionSequence = [position]
    frame.FrameContentSequence = first.FrameContentSequence
    frame.PixelValueTransformationSequence = first.PixelValueTransformationSequence
    return frame
