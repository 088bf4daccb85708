"""Two kinds of image in one series are two volumes, wherever they lie; what may differ parts nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from medrecon.io import ScanError, find_one
from medrecon.io.dicom.reading.marks import CONTENT, DESCRIPTIONS

from .made_series import planes, write_slices

COUNT = 6
SIEMENS, GE, PHILIPS = (
    (0x00190010, "SIEMENS MR HEADER"),
    (0x00430010, "GEMS_PARM_01"),
    (0x20010010, "Philips Imaging DD 001"),
)

MR = {
    "echo time": ({"EchoTime": 10}, {"EchoTime": 90}),
    "echo number": ({"EchoNumbers": 1}, {"EchoNumbers": 2}),
    "echo times a hundredth apart": ({"EchoTime": "2.30"}, {"EchoTime": "2.32"}),
    "magnitude and phase": (
        {"ImageType": ["ORIGINAL", "PRIMARY", "M"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "P"]},
    ),
    "real and imaginary": ({"ComplexImageComponent": "REAL"}, {"ComplexImageComponent": "IMAGINARY"}),
    "original and derived": (
        {"ImageType": ["ORIGINAL", "PRIMARY", "OTHER"]},
        {"ImageType": ["DERIVED", "SECONDARY", "OTHER"]},
    ),
    "last part of the type": (
        {"ImageType": ["ORIGINAL", "PRIMARY", "M", "DIS2D"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"]},
    ),
    "b value": ({"DiffusionBValue": 0.0}, {"DiffusionBValue": 1000.0}),
    "gradient": (
        {"DiffusionGradientOrientation": [1.0, 0, 0]},
        {"DiffusionGradientOrientation": [0.96, 0.28, 0]},
    ),
    "b value of Siemens": (
        {"private": (SIEMENS, 0x0019100C, "IS", "50")},
        {"private": (SIEMENS, 0x0019100C, "IS", "800")},
    ),
    "b value of GE": (
        {"private": (GE, 0x00431039, "IS", ["0", "8", "0", "0"])},
        {"private": (GE, 0x00431039, "IS", ["700", "8", "0", "0"])},
    ),
    "b value of Philips": (
        {"private": (PHILIPS, 0x20011003, "FL", 0.0)},
        {"private": (PHILIPS, 0x20011003, "FL", 600.0)},
    ),
    "inversion time": ({"InversionTime": 150}, {"InversionTime": 2200}),
    "flip angle": ({"FlipAngle": 5}, {"FlipAngle": 26}),
    "temporal position": ({"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}),
    "velocity": ({"VelocityEncodingDirection": [1.0, 0, 0]}, {"VelocityEncodingDirection": [0, 1.0, 0]}),
    "sequence": ({"ScanningSequence": "GR"}, {"ScanningSequence": "SE"}),
    "name of the sequence": ({"SequenceName": "*fl3d1_v150in"}, {"SequenceName": "*fl3d1_v150fh"}),
    "fat saturation": ({"ScanOptions": "FS"}, {"ScanOptions": ""}),
    "contrast agent": ({"ContrastBolusAgent": "Gadovist"}, {}),
    "photometric": ({"PhotometricInterpretation": "MONOCHROME1"}, {}),
    "description": ({"SeriesDescription": "T1 water"}, {"SeriesDescription": "T1 fat"}),
    "rescale type": (
        {"RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "US"},
        {"RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "normalized"},
    ),
    "patient position": ({"PatientPosition": "HFS"}, {"PatientPosition": "HFP"}),
}
CT = {
    "kernel": ({"ConvolutionKernel": "B30f"}, {"ConvolutionKernel": "B70f"}),
    "second value of the kernel": (
        {"ConvolutionKernel": ["I31f", "3"]},
        {"ConvolutionKernel": ["I31f", "5"]},
    ),
    "tube voltage": ({"KVP": 80}, {"KVP": 140}),
    "energy": ({"MonoenergeticEnergyEquivalent": 40.0}, {"MonoenergeticEnergyEquivalent": 70.0}),
    "native and contrast": ({}, {"ContrastBolusAgent": "Iomeron 400"}),
    "phase of the heart": (
        {"NominalPercentageOfCardiacPhase": 30.0},
        {"NominalPercentageOfCardiacPhase": 75.0},
    ),
    "electron density": ({"RescaleType": "HU"}, {"RescaleType": "ED"}),
    "iodine map": ({}, {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "IODINE"]}),
}
KINDS = {**{k: ("MR", v) for k, v in MR.items()}, **{k: ("CT", v) for k, v in CT.items()}}


def stack(modality: str, marks: Any, heights: list[list[float]]) -> list[dict[str, Any]]:
    """Slices of each mark at its heights; the pixels tell which mark and which slice."""
    units = {} if modality == "MR" else {"RescaleType": "HU"}
    return [
        {**units, **mark, "z": z, "value": 100 * (v + 1) + k}
        for v, mark in enumerate(marks)
        for k, z in enumerate(heights[v])
    ]


LAYOUTS = {
    "alternating": [[3.0 * k for k in range(COUNT)], [3.0 * k + 1.5 for k in range(COUNT)]],
    "blockwise": [[3.0 * k for k in range(COUNT)], [3.0 * (k + COUNT) for k in range(COUNT)]],
    "overlapping": [[3.0 * k for k in range(COUNT)], [3.0 * (k + 2) for k in range(COUNT)]],
    "at the same positions": [[3.0 * k for k in range(COUNT)]] * 2,
    "nearly at the same positions": [[3.0 * k for k in range(COUNT)], [3.0 * k + 0.03 for k in range(COUNT)]],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_two_contents_are_two_volumes(kind: str, layout: str, tmp_path: Path) -> None:
    modality, marks = KINDS[kind]
    slices = stack(modality, marks, LAYOUTS[layout])
    write_slices(
        tmp_path / "s", [slices[i] for i in sorted(range(len(slices)), key=lambda i: (i * 7) % 12)], modality
    )
    with pytest.raises(
        ScanError, match=r"holds 2 volumes that differ in \w+: .*--volume 0 \.\.\. 1"
    ) as caught:
        find_one(tmp_path / "s")
    assert ("--accept mixed" in str(caught.value)) == (layout in ("alternating", "blockwise"))
    found = [planes(find_one(tmp_path / "s", volume=v)) for v in (0, 1)]
    assert sorted(found) == [[100 + k for k in range(COUNT)], [200 + k for k in range(COUNT)]]
    if layout == "alternating":
        scan = find_one(tmp_path / "s", accept=["mixed"])
        assert scan.shape[2] == 2 * COUNT
        assert any("differ in" in note and "one volume" in note for note in scan.notes)


def item(**attributes: Any) -> Dataset:
    made = Dataset()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("layout", ["alternating", "blockwise"])
def test_energies_that_stand_in_a_sequence(layout: str, tmp_path: Path) -> None:
    """Images of 40 and of 70 keV by the Multi-energy CT Image Module (PS3.3 C.8.2.2)."""
    name = "MultienergyCTCharacteristicsSequence"
    marks = [{name: [item(MonoenergeticEnergyEquivalent=energy)]} for energy in (40.0, 70.0)]
    write_slices(tmp_path / "s", stack("CT", marks, LAYOUTS[layout]), "CT")
    with pytest.raises(ScanError, match=f"holds 2 volumes that differ in {name}: "):
        find_one(tmp_path / "s")
    assert planes(find_one(tmp_path / "s", volume=0)) == [100 + k for k in range(COUNT)]


@pytest.mark.parametrize("mark", [m.name for m in CONTENT if m.creator is None])
def test_every_mark_of_the_table_parts(mark: str, tmp_path: Path) -> None:
    nested = tuple([item(DecompositionDescription=text)] for text in "AB")
    values = {"nested": nested, "text": ("A", "B"), "code": ("A", "B"), "number": (1, 2), "integer": (1, 2)}
    one, other = values.get(next(m.form for m in CONTENT if m.name == mark), (1.0, 2.0))
    if mark in ("DiffusionGradientOrientation", "VelocityEncodingDirection"):
        one, other = [1.0, 0, 0], [0, 1.0, 0]
    if mark == "PhotometricInterpretation":
        one, other = "MONOCHROME1", "MONOCHROME2"
    write_slices(tmp_path / "s", stack("MR", [{mark: one}, {mark: other}], LAYOUTS["alternating"]))
    with pytest.raises(ScanError, match=f"differ in {mark}: "):
        find_one(tmp_path / "s")


@pytest.mark.parametrize("mark", [m.name for m in DESCRIPTIONS])
def test_what_describes_a_slice_parts_only_where_it_takes_turns(mark: str, tmp_path: Path) -> None:
    one, other = (
        (500, 3000) if next(m.form for m in DESCRIPTIONS if m.name == mark) == "number" else ("A", "B")
    )
    marks = [{mark: one}, {mark: other}]
    write_slices(tmp_path / "turns", stack("MR", marks, LAYOUTS["alternating"]))
    with pytest.raises(ScanError, match=f"holds 2 volumes that differ in {mark}: "):
        find_one(tmp_path / "turns")
    write_slices(tmp_path / "blocks", stack("MR", marks, LAYOUTS["blockwise"]))
    assert find_one(tmp_path / "blocks").shape[2] == 2 * COUNT


def test_one_odd_slice_is_named(tmp_path: Path) -> None:
    slices = [{"z": 3 * k, "ConvolutionKernel": "B70f" if k == 5 else "B30f"} for k in range(8)]
    write_slices(tmp_path / "s", slices, "CT")
    with pytest.raises(ScanError, match=r"IM0005\.dcm: slices differ in ConvolutionKernel: .*--accept mixed"):
        find_one(tmp_path / "s")
    assert find_one(tmp_path / "s", accept=["mixed"]).shape[2] == 8
    with pytest.raises(ScanError, match=r"1 slice.* missing"):
        find_one(tmp_path / "s", volume=0)


MAY_DIFFER: dict[str, Any] = {
    "AcquisitionNumber": lambda k: 1 + k % 2,
    "Exposure": lambda k: 100 + k,
    "XRayTubeCurrent": lambda k: 200 + 3 * k,
    "StackID": lambda k: str(1 + k // 4),
    "AcquisitionTime": lambda k: f"1011{12 + k}.5",
    "ContentTime": lambda k: f"1011{12 + k}.5",
    "AcquisitionDateTime": lambda k: f"202401021011{12 + k}",
    "TriggerTime": lambda k: 37 * k,
    "RepetitionTime": lambda k: 800 + k,
    "WindowCenter": lambda k: 40 + k,
    "RescaleSlope": lambda k: 1 + k,
    "SliceThickness": lambda k: 3 + k // 4,
    "EchoTime": lambda k: f"{4.6 + 0.0004 * (k % 3):.4f}",
    "DiffusionGradientOrientation": lambda k: [1.0, 0.001 * (k % 2), 0],
    "InstanceNumber": lambda k: 7,
    "ImageComments": lambda k: f"slice {k}",
    "SliceLocation": lambda k: k,
}


@pytest.mark.parametrize("name", MAY_DIFFER)
def test_what_may_differ_is_one_volume(name: str, tmp_path: Path) -> None:
    """Within a volume may differ what an acquisition changes from slice to slice, and rounding."""
    slices = [
        {"z": 3 * k, "value": 2, "RescaleIntercept": 0, "RescaleSlope": 1, name: MAY_DIFFER[name](k)}
        for k in range(8)
    ]
    write_slices(tmp_path / "s", slices)
    scan = find_one(tmp_path / "s")
    assert scan.shape[2] == 8
    assert scan.volume is None


def test_free_text_is_not_told(tmp_path: Path) -> None:
    marks = [{"SeriesDescription": "Jane Doe before"}, {"SeriesDescription": "Jane Doe after"}]
    write_slices(tmp_path / "s", stack("MR", marks, LAYOUTS["alternating"]))
    with pytest.raises(ScanError, match=r"\(SeriesDescription no\. 1: 6 slices\)") as caught:
        find_one(tmp_path / "s")
    assert "Doe" not in str(caught.value)


def test_a_stack_of_another_orientation_is_a_volume_of_its_own(tmp_path: Path) -> None:
    turned = {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}
    slices = [{"z": 3 * k, "value": k} for k in range(4)]
    slices += [{**turned, "ImagePositionPatient": [-10, 3 * k, 20], "value": 10 + k} for k in range(4)]
    write_slices(tmp_path / "s", slices)
    with pytest.raises(ScanError, match="holds 2 volumes that differ in orientation"):
        find_one(tmp_path / "s")
    assert sorted(sorted(planes(find_one(tmp_path / "s", volume=v))) for v in (0, 1)) == [
        [0, 1, 2, 3],
        [10, 11, 12, 13],
    ]


def test_thick_slices_among_thin_ones(tmp_path: Path) -> None:
    thin = [{"z": k, "SliceThickness": 1, "value": k} for k in range(11)]
    thick = [{"z": 5 * k, "SliceThickness": 5, "value": 100 + k} for k in range(3)]
    write_slices(tmp_path / "s", [*thin, *thick], "CT")
    with pytest.raises(ScanError, match=r"SliceThickness 1: .*SliceThickness 5: "):
        find_one(tmp_path / "s")
    assert planes(find_one(tmp_path / "s", volume=0)) == list(range(11))
    assert planes(find_one(tmp_path / "s", volume=1)) == [100, 101, 102]
