"""Enhanced multi-frame objects: every functional group and dimension that tells volumes apart."""

from __future__ import annotations

import itertools
from collections.abc import Sequence as Sequence_
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import (
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    LegacyConvertedEnhancedMRImageStorage,
)

from medrecon.io import ScanError, find_one

from .made_series import planes

N = 5
Frames = list[dict[str, Any]]


def item(values: dict[str, Any]) -> Sequence:
    """A sequence of one item; a dictionary in it is a sequence in the sequence."""
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, item(value) if isinstance(value, dict) else value)
    return Sequence([made])


def write_frames(
    path: Path, frames: Frames, kind: str = EnhancedMRImageStorage, pointers: Sequence_[str] = ()
) -> None:
    """Write one object.

    Args:
        path: the file.
        frames: of each frame `z`, `value` of all its pixels, `index` (Dimension Index Values) and its
            functional groups by name.
        kind: SOP class.
        pointers: keywords of the dimensions; "" for one of a private attribute.
    """
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = kind, "1.2.3.4"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.4", "1.2.5", "1.2.6"
    ds.Modality, ds.ImageType = (
        "CT" if kind == EnhancedCTImageStorage else "MR",
        ["ORIGINAL", "PRIMARY", "MIXED"],
    )
    ds.PatientID, ds.SeriesNumber, ds.InstanceNumber = "1", 3, 1
    ds.Rows = ds.Columns = 4
    ds.NumberOfFrames, ds.SamplesPerPixel, ds.PhotometricInterpretation = len(frames), 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.SharedFunctionalGroupsSequence = Sequence([Dataset()])
    shared = ds.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence = item({"PixelSpacing": [1, 1], "SliceThickness": 2})
    shared.PlaneOrientationSequence = item({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]})
    shared.PixelValueTransformationSequence = item({"RescaleSlope": 1, "RescaleIntercept": 0})
    groups = []
    for frame in frames:
        group = Dataset()
        group.PlanePositionSequence = item({"ImagePositionPatient": [0, 0, frame["z"]]})
        content = dict(frame.get("FrameContentSequence", {}))
        if "index" in frame:
            content["DimensionIndexValues"] = frame["index"]
        group.FrameContentSequence = item(content)
        for name, values in frame.items():
            if name.endswith("Sequence") and name != "FrameContentSequence":
                setattr(group, name, item(values))
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = Sequence(groups)
    if pointers:
        tags = [tag_for_keyword(name) if name else 0x20051413 for name in pointers]
        ds.DimensionIndexSequence = Sequence([item({"DimensionIndexPointer": tag})[0] for tag in tags])
    ds.PixelData = b"".join(np.full((4, 4), f["value"], "<u2").tobytes() for f in frames)
    ds.save_as(path, enforce_file_format=True)


MARKS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "echo": ("MREchoSequence", [{"EffectiveEchoTime": t} for t in (10.0, 30.0)]),
    "part": ("MRImageFrameTypeSequence", [{"FrameType": ["ORIGINAL", "PRIMARY", p, "NONE"]} for p in "AB"]),
    "component": ("MRImageFrameTypeSequence", [{"ComplexImageComponent": c} for c in ("MAGNITUDE", "PHASE")]),
    "b value": ("MRDiffusionSequence", [{"DiffusionBValue": b} for b in (0.0, 800.0)]),
    "gradient": (
        "MRDiffusionSequence",
        [
            {"DiffusionGradientDirectionSequence": {"DiffusionGradientOrientation": d}}
            for d in ([1.0, 0, 0], [0, 1.0, 0])
        ],
    ),
    "inversion": ("MRModifierSequence", [{"InversionTimes": [t]} for t in (100.0, 900.0)]),
    "flip angle": ("MRTimingAndRelatedParametersSequence", [{"FlipAngle": a} for a in (5.0, 30.0)]),
    "velocity": (
        "MRVelocityEncodingSequence",
        [{"VelocityEncodingDirection": d} for d in ([1.0, 0, 0], [0, 0, 1.0])],
    ),
    "range of velocity": (
        "MRVelocityEncodingSequence",
        [{"VelocityEncodingMaximumValue": v} for v in (50.0, 150.0)],
    ),
    "labelled and control": (
        "MRArterialSpinLabelingSequence",
        [{"ASLContext": c} for c in ("LABEL", "CONTROL")],
    ),
    "metabolite": ("MRMetaboliteMapSequence", [{"MetaboliteMapDescription": m} for m in ("NAA", "CHOLINE")]),
    "temporal position": ("FrameContentSequence", [{"TemporalPositionIndex": t} for t in (1, 2)]),
    "phase of the heart": (
        "CardiacSynchronizationSequence",
        [{"NominalPercentageOfCardiacPhase": p} for p in (40.0, 75.0)],
    ),
    "kernel": ("CTReconstructionSequence", [{"ConvolutionKernel": k} for k in ("B30f", "B60f")]),
    "energy": (
        "MultienergyCTCharacteristicsSequence",
        [{"MonoenergeticEnergyEquivalent": v} for v in (40.0, 70.0)],
    ),
    "tube voltage": ("CTXRayDetailsSequence", [{"KVP": v} for v in (80, 140)]),
    "contrast": (
        "ContrastBolusUsageSequence",
        [{"ContrastBolusAgentAdministered": a} for a in ("YES", "NO")],
    ),
    "magnetization transfer": (
        "MRModifierSequence",
        [{"MagnetizationTransfer": m} for m in ("NONE", "ON_RESONANCE")],
    ),
}
SAME_PLACE_ONLY: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "delay": ("CardiacSynchronizationSequence", [{"NominalCardiacTriggerDelayTime": t} for t in (0.0, 40.0)]),
    "time offset": ("TemporalPositionSequence", [{"TemporalPositionTimeOffset": t} for t in (0.0, 2.5)]),
    "stack": ("FrameContentSequence", [{"StackID": s} for s in "12"]),
    "acquisition": ("FrameContentSequence", [{"FrameAcquisitionNumber": a} for a in (1, 2)]),
    "time": ("FrameContentSequence", [{"FrameAcquisitionDateTime": f"2024010110000{t}"} for t in (0, 7)]),
}


def two(name: str, values: list[dict[str, Any]], step: float) -> Frames:
    return [
        {"z": 2 * k + v * step, "value": 100 * v + k, name: mark}
        for k in range(N)
        for v, mark in enumerate(values)
    ]


@pytest.mark.parametrize("layout", ["same positions", "alternating"])
@pytest.mark.parametrize("mark", MARKS)
def test_functional_groups(mark: str, layout: str, tmp_path: Path) -> None:
    name, values = MARKS[mark]
    kind = EnhancedCTImageStorage if name.startswith("CT") else EnhancedMRImageStorage
    write_frames(tmp_path / "a.dcm", two(name, values, 1.0 if layout == "alternating" else 0), kind)
    with pytest.raises(ScanError, match=r"holds 2 volumes that differ in .*--volume 0 \.\.\. 1"):
        find_one(tmp_path / "a.dcm")
    found = sorted(planes(find_one(tmp_path / "a.dcm", volume=v)) for v in (0, 1))
    assert found == [list(range(N)), [100 + k for k in range(N)]]


@pytest.mark.parametrize("mark", SAME_PLACE_ONLY)
def test_what_may_differ_from_slice_to_slice(mark: str, tmp_path: Path) -> None:
    name, values = SAME_PLACE_ONLY[mark]
    write_frames(tmp_path / "a.dcm", two(name, values, 0))
    assert [planes(find_one(tmp_path / "a.dcm", volume=v))[2] for v in (0, 1)] == [2, 102]
    write_frames(tmp_path / "b.dcm", two(name, values, 1.0))
    assert find_one(tmp_path / "b.dcm").shape[2] == 2 * N


@pytest.mark.parametrize("step", [0.0, 1.0])
def test_repetition_times_that_take_turns(step: float, tmp_path: Path) -> None:
    values = [{"RepetitionTime": t} for t in (500.0, 900.0)]
    write_frames(tmp_path / "a.dcm", two("MRTimingAndRelatedParametersSequence", values, step))
    assert [planes(find_one(tmp_path / "a.dcm", volume=v))[2] for v in (0, 1)] == [2, 102]


def test_delays_that_differ_by_slice(tmp_path: Path) -> None:
    frames = [
        {
            "z": 2 * k,
            "value": 100 * v + k,
            "CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": 40.0 * v + 3 * k},
        }
        for k in range(N)
        for v in range(4)
    ]
    write_frames(tmp_path / "a.dcm", [frames[i] for i in np.random.default_rng(0).permutation(len(frames))])
    for v in range(4):
        assert planes(find_one(tmp_path / "a.dcm", volume=v)) == [100 * v + k for k in range(N)]


@pytest.mark.parametrize(
    "pointers",
    [
        ["StackID", "InStackPositionNumber", "EffectiveEchoTime"],
        ["TemporalPositionIndex", "ImagePositionPatient", "StackID"],
        ["DiffusionBValue", "InStackPositionNumber", "StackID"],
        ["NominalCardiacTriggerDelayTime", "InStackPositionNumber", ""],
        ["", "InStackPositionNumber", "StackID"],
    ],
)
def test_dimensions_alone_tell(pointers: list[str], tmp_path: Path) -> None:
    """No functional group holds what differs; frames come in any order."""
    place = next(k for k, name in enumerate(pointers) if "Position" in name and "Temporal" not in name)
    other = next(k for k, name in enumerate(pointers) if k != place and name != "StackID")
    frames = []
    for k, v in itertools.product(range(N), range(3)):
        index = [1, 1, 1]
        index[place], index[other] = k + 1, v + 1
        frames.append({"z": 2 * k, "value": 100 * v + k, "index": index})
    shuffled = [frames[i] for i in np.random.default_rng(1).permutation(len(frames))]
    write_frames(tmp_path / "a.dcm", shuffled, pointers=pointers)
    for v in range(3):
        assert planes(find_one(tmp_path / "a.dcm", volume=v)) == [100 * v + k for k in range(N)]


def test_two_dimensions_at_once(tmp_path: Path) -> None:
    frames = [
        {"z": 2 * k, "value": 100 * (2 * t + d) + k, "index": [k + 1, t + 1, d + 1]}
        for t, d, k in itertools.product(range(3), range(2), range(N))
    ]
    frames = [frames[i] for i in np.random.default_rng(2).permutation(len(frames))]
    write_frames(tmp_path / "a.dcm", frames, pointers=["InStackPositionNumber", "TemporalPositionIndex", ""])
    found = sorted(planes(find_one(tmp_path / "a.dcm", volume=v)) for v in range(6))
    assert found == [[100 * v + k for k in range(N)] for v in range(6)]


def test_echoes_times_components(tmp_path: Path) -> None:
    kinds = list(itertools.product((10.0, 30.0), ("MAGNITUDE", "PHASE")))
    frames = [
        {
            "z": 2 * k,
            "value": 100 * v + k,
            "MREchoSequence": {"EffectiveEchoTime": echo},
            "MRImageFrameTypeSequence": {"ComplexImageComponent": part},
        }
        for k in range(N)
        for v, (echo, part) in enumerate(kinds)
    ]
    write_frames(tmp_path / "a.dcm", frames)
    for v in range(4):
        assert planes(find_one(tmp_path / "a.dcm", volume=v)) == [100 * v + k for k in range(N)]


def test_marks_of_a_converted_object(tmp_path: Path) -> None:
    """What single-frame images had and no functional group holds is kept frame by frame."""
    frames = [
        {
            "z": 2 * k + v,
            "value": 100 * v + k,
            "UnassignedPerFrameConvertedAttributesSequence": {"EchoTime": (10, 90)[v]},
        }
        for k in range(N)
        for v in range(2)
    ]
    write_frames(tmp_path / "a.dcm", frames, LegacyConvertedEnhancedMRImageStorage)
    with pytest.raises(ScanError, match="differ in EchoTime"):
        find_one(tmp_path / "a.dcm")
    assert planes(find_one(tmp_path / "a.dcm", volume=1)) == [100 + k for k in range(N)]


@pytest.mark.parametrize("number", ["abc", "", "0", "-3", "9" * 300])
def test_an_odd_instance_number_stops_nothing(number: str, tmp_path: Path) -> None:
    write_frames(tmp_path / "a.dcm", [{"z": 2 * k, "value": k} for k in range(N)])
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    ds.add(RawDataElement(Tag("InstanceNumber"), "IS", len(number), number.encode(), 0, False, True))
    ds.save_as(tmp_path / "a.dcm")
    assert planes(find_one(tmp_path / "a.dcm")) == list(range(N))


def test_shared_marks_part_nothing(tmp_path: Path) -> None:
    write_frames(
        tmp_path / "a.dcm", [{"z": 2 * k, "value": k, "index": [k + 1]} for k in range(N)], pointers=[""]
    )
    assert planes(find_one(tmp_path / "a.dcm")) == list(range(N))
