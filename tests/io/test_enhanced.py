"""Enhanced multi-frame CT and MR by their functional groups."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian, JPEGLSLossless

from medrecon.io import ScanError, find_one, read_scan

Change = Callable[[Dataset], None]


def write_enhanced(
    path: Path, *, kind: str = "CT", seed: int = 0, times: int = 1, change: Change | None = None
) -> np.ndarray:
    """Six frames of 7 x 5 in shuffled order for each time point; returns (X, Y, Z, T) in units."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(6 * times)
    stored = rng.integers(0, 4000, (6 * times, 7, 5))
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = EnhancedCTImageStorage if kind == "CT" else EnhancedMRImageStorage
    ds.SOPInstanceUID = f"1.2.3.{seed}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.4", "1.2.5", "1.2.6"
    ds.Modality, ds.ImageType = kind, ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.PatientName, ds.PatientID, ds.SeriesNumber, ds.InstanceNumber = "Doe^Jane", "4711", 3, 1
    ds.Rows, ds.Columns, ds.NumberOfFrames = 7, 5, 6 * times
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.75, 0.5], 2.5
    plane.ImageOrientationPatient = [1, 0, 0, 0, 0.8, -0.6]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    ds.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for place in order:
        frame, position, content, scale = Dataset(), Dataset(), Dataset(), Dataset()
        z, t = int(place) % 6, int(place) // 6
        position.ImagePositionPatient = [3.0, -4 + 0.6 * 2.5 * z, 5 + 0.8 * 2.5 * z]
        content.TemporalPositionIndex = t + 1
        scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = (
            1 + z,
            -1000,
            "HU" if kind == "CT" else "US",
        )
        frame.PlanePositionSequence, frame.FrameContentSequence = [position], [content]
        frame.PixelValueTransformationSequence = [scale]
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = frames
    ds.PixelData = stored[order].astype("<u2").tobytes()
    if change is not None:
        change(ds)
    ds.save_as(path, enforce_file_format=True)
    scaled = stored.reshape(times, 6, 7, 5) * np.arange(1, 7)[None, :, None, None] - 1000
    return scaled.transpose(3, 2, 1, 0)


@pytest.mark.parametrize("kind", ["CT", "MR"])
def test_frames_are_sorted_and_scaled(kind: str, tmp_path: Path) -> None:
    true = write_enhanced(tmp_path / "a.dcm", kind=kind)
    scan = find_one(tmp_path)
    assert (scan.path, scan.files, scan.shape) == (tmp_path / "a.dcm", (tmp_path / "a.dcm",), (5, 7, 6))
    assert scan.units == ("HU" if kind == "CT" else "")
    assert np.array_equal(read_scan(scan), true[..., 0])
    lps = np.diag([-1, -1, 1, 1]) @ scan.affine
    assert np.allclose(lps, [[0.5, 0, 0, 3], [0, 0.6, 1.5, -4], [0, -0.45, 2, 5], [0, 0, 0, 1]], atol=1e-9)


def test_time_points_are_volumes(tmp_path: Path) -> None:
    true = write_enhanced(tmp_path / "a.dcm", kind="MR", times=3)
    with pytest.raises(ScanError, match=r"holds 3 volumes .*TemporalPositionIndex 3.*--volume 0 \.\.\. 2"):
        find_one(tmp_path)
    for t in range(3):
        assert np.array_equal(read_scan(find_one(tmp_path, volume=t)), true[..., t])


def test_objects_of_one_series_are_volumes(tmp_path: Path) -> None:
    def later(ds: Dataset) -> None:
        for frame in ds.PerFrameFunctionalGroupsSequence:
            frame.FrameContentSequence[0].TemporalPositionIndex = 2

    first = write_enhanced(tmp_path / "a.dcm", seed=1)
    second = write_enhanced(tmp_path / "b.dcm", seed=2, change=later)
    assert np.array_equal(read_scan(find_one(tmp_path, volume=0)), first[..., 0])
    scan = find_one(tmp_path, volume=1)
    assert scan.files == (tmp_path / "b.dcm",)
    assert np.array_equal(read_scan(scan), second[..., 0])


def test_compressed_frames(tmp_path: Path) -> None:
    import imagecodecs

    def compress(ds: Dataset) -> None:
        frames = np.frombuffer(ds.PixelData, "<u2").reshape(-1, 7, 5)
        ds.PixelData = encapsulate([imagecodecs.jpegls_encode(np.ascontiguousarray(f)) for f in frames])
        ds.file_meta.TransferSyntaxUID = JPEGLSLossless

    true = write_enhanced(tmp_path / "a.dcm", change=compress)
    assert np.array_equal(read_scan(find_one(tmp_path)), true[..., 0])


def lose_frame(ds: Dataset) -> None:
    at = next(
        k
        for k, f in enumerate(ds.PerFrameFunctionalGroupsSequence)
        if f.PlanePositionSequence[0].ImagePositionPatient[2] == 5 + 0.8 * 2.5 * 3
    )
    del ds.PerFrameFunctionalGroupsSequence[at]
    ds.PixelData = ds.PixelData[: 70 * at] + ds.PixelData[70 * at + 70 :]
    ds.NumberOfFrames = 5


def one(sequence: str, name: str, value: object) -> Change:
    def change(ds: Dataset) -> None:
        item = getattr(ds.PerFrameFunctionalGroupsSequence[2], sequence)[0]
        if value is None:
            delattr(item, name)
        else:
            setattr(item, name, value)

    return change


def turn_one(ds: Dataset) -> None:
    plane = Dataset()
    plane.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    ds.PerFrameFunctionalGroupsSequence[2].PlaneOrientationSequence = [plane]


FAULTS = {
    "gap": (lose_frame, r"1 slice\(s\) missing after slice 3 of 5 \(a\.dcm frame \d\)"),
    "no position": (one("PlanePositionSequence", "ImagePositionPatient", None), "missing in a.dcm frame 3"),
    "zero slope": (
        one("PixelValueTransformationSequence", "RescaleSlope", 0),
        "Rescale Slope 0.0, Rescale Intercept .* in a.dcm frame 3",
    ),
    "turned frame": (turn_one, "differ in orientation: .*a.dcm frame 3"),
    "too many frames": (lambda ds: setattr(ds, "NumberOfFrames", 2**31 - 1), "Pixel Data has 420 bytes"),
    "too few groups": (lambda ds: ds.PerFrameFunctionalGroupsSequence.pop(), "6 frames, 5 of them described"),
    "no spacing": (
        lambda ds: delattr(ds.SharedFunctionalGroupsSequence[0], "PixelMeasuresSequence"),
        "Pixel Spacing is missing",
    ),
    "no units": (
        lambda ds: (
            [delattr(f, "PixelValueTransformationSequence") for f in ds.PerFrameFunctionalGroupsSequence]
            and None
        ),
        "no Hounsfield units",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_refuses(fault: str, tmp_path: Path) -> None:
    change, message = FAULTS[fault]
    write_enhanced(tmp_path / "a.dcm", change=change)
    with pytest.raises(ScanError, match=message) as caught:
        find_one(tmp_path)
    assert "a.dcm" in str(caught.value)
    assert caught.value.remedy


def test_a_legacy_multi_frame_without_groups_is_refused(tmp_path: Path) -> None:
    def strip(ds: Dataset) -> None:
        del ds.PerFrameFunctionalGroupsSequence

    write_enhanced(tmp_path / "a.dcm", change=strip)
    assert pydicom.dcmread(tmp_path / "a.dcm").NumberOfFrames == 6
    with pytest.raises(ScanError, match="without functional groups"):
        find_one(tmp_path)


def test_compressed_frames_that_swell_are_refused(tmp_path: Path) -> None:
    """A few hundred kilobytes that announce 192 MiB."""

    def swell(ds: Dataset) -> None:
        ds.Rows = ds.Columns = 4096
        ds.file_meta.TransferSyntaxUID = JPEGLSLossless
        ds.PixelData = encapsulate([bytes(50_000)] * 6)
        ds["PixelData"].VR = "OB"

    write_enhanced(tmp_path / "a.dcm", change=swell)
    with pytest.raises(ScanError, match=r"compressed data for \d+ bytes of pixels"):
        find_one(tmp_path)
