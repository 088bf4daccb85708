"""Rate and distortion of the codecs, agreed with other libraries."""

from __future__ import annotations

import io
import math
from pathlib import Path
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000, JPEGLSNearLossless, SecondaryCaptureImageStorage, generate_uid
from scipy.ndimage import gaussian_filter

from medrecon.evaluation.codecs import CodecMeter, codecs, rate_at, rising

HU = (-1024.0, 3071.0)


@pytest.fixture(scope="module")
def ct() -> np.ndarray:
    """Structure at several scales and noise, HU, (X, Y, Z) int16."""
    rng = np.random.default_rng(0)
    volume = sum(
        weight * gaussian_filter(rng.normal(0, 1, (96, 80, 9)), (width, width, 0)) * width
        for width, weight in ((8, 900), (3, 300), (0.7, 60))
    )
    return np.clip(volume, -1024, 3071).astype(np.int16)


@pytest.fixture(scope="module")
def meter(ct) -> CodecMeter:
    return CodecMeter(ct, "HU", HU)


def test_every_codec_is_there_and_its_curve_rises(meter):
    assert set(meter.curves) == {"JPEG 2000", "JPEG-LS"} | (
        {"HTJ2K"} if hasattr(imagecodecs, "HTJ2K") else set()
    )
    for name, curve in meter.curves.items():
        rates, psnr = np.array(curve).T
        assert len(curve) >= 6
        assert (np.diff(rates) > 0).all()
        assert (np.diff(psnr) > 0).all()
        assert rates[-1] < meter.lossless[name]


def test_what_each_codec_loses_is_what_it_says(ct):
    plane = (ct[:, :, 4].astype(np.int32) + 1024).astype(np.uint16)
    for codec in codecs():
        assert np.array_equal(codec.decode(codec.encode(plane, None)), plane)
    near = next(c for c in codecs() if c.name == "JPEG-LS")
    error = near.decode(near.encode(plane, 5)).astype(int) - plane
    assert np.abs(error).max() == 5


def test_the_rate_is_found_between_points(meter, ct):
    error = np.random.default_rng(1).normal(0, 20, ct.shape)
    recon = np.clip(ct + error, *HU).astype(np.float32)
    found = meter.equivalents(recon)
    assert meter.psnr(recon) == pytest.approx(20 * math.log10(4095 / 20), abs=0.3)
    for name, rate in found.items():
        curve = np.array(meter.curves[name])
        after = int(np.searchsorted(curve[:, 1], meter.psnr(recon)))
        assert curve[after - 1, 0] < rate < curve[after, 0]


def test_out_of_reach_and_nothing_lost(meter, ct):
    assert set(meter.equivalents(np.full(ct.shape, 3000.0)).values()) == {None}
    assert meter.equivalents(ct) == meter.lossless
    assert rate_at(((0.1, 30.0), (0.4, 40.0)), 35.0) == pytest.approx(0.2)
    assert rate_at(((0.1, 30.0), (0.4, 40.0)), 41.0) is None


def test_points_that_buy_nothing_are_left_out():
    points = [(0.5, 40.0), (0.1, 30.0), (0.3, 29.0), (0.2, 35.0), (0.6, math.inf)]
    assert rising(points) == ((0.1, 30.0), (0.2, 35.0), (0.5, 40.0))


def test_other_units_are_coded_over_their_own_range():
    rng = np.random.default_rng(2)
    volume = gaussian_filter(rng.gamma(2, 2, (64, 64, 4)), (3, 3, 0)).astype(np.float32)
    low, high = float(volume.min()), float(volume.max())
    found = CodecMeter(volume, "", (low, high))
    assert found.curves["JPEG 2000"][-1][1] > 55
    assert found.psnr(volume + 0.01 * (high - low)) == pytest.approx(40, abs=0.01)


def test_the_same_slices_for_a_volume_of_many(ct):
    assert CodecMeter(ct, "HU", HU, most_slices=3).slices == (1, 4, 7)


def test_jpeg2000_agrees_with_pillow(meter, ct):
    """Pillow's own build of OpenJPEG, asked for a quality: on the curve; and it decodes our streams alike."""
    plane = (ct[:, :, meter.slices[2]].astype(np.int32) + 1024).astype(np.uint16)
    ours = imagecodecs.jpeg2k_encode(plane, level=45, codecformat="j2k", bitspersample=12, reversible=False)
    with Image.open(io.BytesIO(ours)) as image:
        theirs = np.asarray(image, dtype=np.int64) // 16  # Pillow widens 12 bits to 16
    assert np.abs(theirs - imagecodecs.jpeg2k_decode(ours)).max() <= 1
    one = CodecMeter(ct[:, :, meter.slices[2] : meter.slices[2] + 1], "HU", HU)
    for quality in (60, 68):  # of 16 bits: 24 dB more than of 12
        coded = io.BytesIO()
        Image.fromarray(plane).save(
            coded, "JPEG2000", quality_mode="dB", quality_layers=[quality], irreversible=True, no_jp2=True
        )
        with Image.open(io.BytesIO(coded.getvalue())) as image:
            error = np.asarray(image, dtype=np.float64) - plane
        psnr = 10 * math.log10(4095**2 / (error**2).mean())
        rate = 8 * len(coded.getvalue()) / plane.size
        assert rate_at(one.curves["JPEG 2000"], psnr) == pytest.approx(rate, rel=0.1)


def test_an_installation_without_htj2k_has_the_others(monkeypatch):
    kept = ("JPEG2K", "JPEGLS", "jpeg2k_decode", "jpegls_decode")
    older = SimpleNamespace(**{name: getattr(imagecodecs, name) for name in kept})
    monkeypatch.setattr("medrecon.evaluation.codecs.imagecodecs", older)
    assert [codec.name for codec in codecs()] == ["JPEG 2000", "JPEG-LS"]


@pytest.mark.skipif(not hasattr(imagecodecs, "HTJ2K"), reason="this imagecodecs writes no HTJ2K")
def test_htj2k_streams_are_read_by_openjpeg(ct):
    """OpenJPEG (another implementation than OpenJPH, which wrote them) decodes them alike."""
    plane = (ct[:, :, 4].astype(np.int32) + 1024).astype(np.uint16)
    htj2k = next(c for c in codecs() if c.name == "HTJ2K")
    coded = htj2k.encode(plane, 2.0**-8)
    theirs = imagecodecs.jpeg2k_decode(coded).astype(int)
    assert np.abs(theirs - htj2k.decode(coded)).max() <= 1


def test_lossless_jpeg2000_takes_as_much_as_gdcms(ct, tmp_path: Path):
    """GDCM (in SimpleITK), with its own OpenJPEG."""
    plane = (ct[:, :, 4].astype(np.int32) + 1024).astype(np.uint16)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "a.dcm"))
    writer.SetCompressor("JPEG2000")
    writer.SetUseCompression(True)
    writer.Execute(sitk.GetImageFromArray(plane))
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    ours = next(c for c in codecs() if c.name == "JPEG 2000")
    assert np.array_equal(ours.decode(frame), plane)
    assert len(ours.encode(plane, None)) == pytest.approx(len(frame), rel=0.05)


@pytest.mark.parametrize(("codec", "setting"), [("JPEG-LS", 5), ("JPEG-LS", None), ("JPEG 2000", 45)])
def test_gdcm_decodes_our_streams_alike(ct, tmp_path: Path, codec: str, setting: float | None):
    plane = (ct[:, :, 4].astype(np.int32) + 1024).astype(np.uint16)
    ours = next(c for c in codecs() if c.name == codec)
    coded = ours.encode(plane, setting)
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEGLSNearLossless if codec == "JPEG-LS" else JPEG2000
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *plane.shape, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = encapsulate([coded])
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    theirs = np.squeeze(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.dcm"))))
    assert np.abs(theirs.astype(int) - ours.decode(coded)).max() <= (1 if codec == "JPEG 2000" else 0)
