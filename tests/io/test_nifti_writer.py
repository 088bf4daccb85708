"""NIfTI outputs: geometry in both forms, data types, header facts."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medrecon.errors import OutputError
from medrecon.io import Derivation, NiftiWriter, find_one, read_scan

LEVEL3 = Derivation("volume_autoencoder", "0.1.0", "ab" * 32, "level3", lossy=True, values_per_voxel=1 / 16)
AFFINE = np.array(
    [[-0.8, 0.1, 0.02, 40.0], [0.1, 0.79, -0.2, -31.0], [0.02, 0.1, 2.4, 7.5], [0, 0, 0, 1]], dtype=np.float64
)


def straight(affine: np.ndarray) -> np.ndarray:
    """The nearest affine without shear, as a scanner would write it."""
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / steps)
    result = affine.copy()
    result[:3, :3] = left @ right * steps
    return result


def make(path: Path, dtype: str, slope: float = 1, intercept: float = 0, **fields: object) -> np.ndarray:
    rng = np.random.default_rng(0)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        stored = rng.normal(0, 1e3, (9, 8, 7)).astype(kind)
    else:
        limits = np.iinfo(kind)
        stored = rng.integers(
            max(limits.min, -(2**52)), min(limits.max, 2**52), (9, 8, 7), dtype=np.int64
        ).astype(kind)
        stored[0, 0, :2] = max(limits.min, -(2**52)), min(limits.max, 2**52)
    header = nib.Nifti1Header(endianness=">" if kind.byteorder == ">" else "<")
    header.set_data_dtype(kind)
    image = nib.Nifti1Image(stored, straight(AFFINE), header)
    image.header.set_slope_inter(slope, intercept)
    image.header["descrip"] = b"DOE JANE 1950"
    for name, value in fields.items():
        image.header[name] = value
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    return stored


def write(scan, path: Path, volume: np.ndarray | None = None, **options):
    writer = NiftiWriter(**options)
    writer.set_data_array(read_scan(scan) if volume is None else volume, channel_dim=None)
    writer.set_scan(scan)
    return writer.write(path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "f4", "f8", ">i2", ">f4"])
def test_the_identity_round_trip_is_exact(tmp_path, dtype, ending):
    stored = make(tmp_path / f"in{ending}", dtype)
    source = find_one(tmp_path / f"in{ending}")
    write(source, tmp_path / f"out{ending}")
    image = nib.load(tmp_path / f"out{ending}")
    assert image.get_data_dtype() == np.dtype(dtype).newbyteorder("<")
    assert np.array_equal(np.asarray(image.dataobj), stored)
    assert np.array_equal(image.affine, nib.load(tmp_path / f"in{ending}").affine)
    assert np.array_equal(read_scan(find_one(tmp_path / f"out{ending}")), read_scan(source))


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept"), [("i2", 0.37, -1024), ("u1", 2.5, 0), ("u2", 1, -1024)]
)
def test_scaling_is_kept_and_exact(tmp_path, dtype, slope, intercept):
    stored = make(tmp_path / "in.nii.gz", dtype, slope, intercept)
    source = find_one(tmp_path / "in.nii.gz")
    write(source, tmp_path / "out.nii.gz")
    image = nib.load(tmp_path / "out.nii.gz")
    assert (image.dataobj.slope, image.dataobj.inter) == (np.float32(slope), np.float32(intercept))
    assert np.array_equal(image.dataobj.get_unscaled(), stored)


def test_geometry_stands_in_both_forms(tmp_path):
    make(tmp_path / "in.nii.gz", "i2")
    source = find_one(tmp_path / "in.nii.gz")
    write(source, tmp_path / "out.nii.gz")
    header = nib.load(tmp_path / "out.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    assert np.abs(header.get_sform() - source.affine).max() < 1e-6
    assert np.abs(header.get_qform() - source.affine).max() < 1e-4
    image = sitk.ReadImage(str(tmp_path / "out.nii.gz"))
    theirs = np.array(image.TransformIndexToPhysicalPoint((8, 7, 6))) * (-1, -1, 1)
    assert np.abs(theirs - (source.affine @ [8, 7, 6, 1])[:3]).max() < 1e-3
    assert np.array_equal(sitk.GetArrayFromImage(image).transpose(2, 1, 0), read_scan(source))


def test_header_facts_are_kept_and_identity_is_not(tmp_path):
    make(tmp_path / "in.nii.gz", "i2", cal_min=-5, cal_max=400, dim_info=57, slice_code=3, slice_end=6)
    write(find_one(tmp_path / "in.nii.gz"), tmp_path / "out.nii.gz", derivation=LEVEL3)
    header = nib.load(tmp_path / "out.nii.gz").header
    assert [int(header[name]) for name in ("cal_min", "cal_max", "dim_info", "slice_code", "slice_end")] == [
        -5,
        400,
        57,
        3,
        6,
    ]
    assert header["descrip"].item() == b"medrecon 0.1.0 level3"
    assert b"DOE" not in gzip.decompress((tmp_path / "out.nii.gz").read_bytes())


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        ("u1", (0, 255.4), "uint8"),
        ("u1", (-3, 255), "int16"),
        ("u1", (0, 300), "int16"),
        ("i2", (-32768, 32767), "int16"),
        ("i2", (0, 40000), "uint16"),
        ("i2", (-5, 40000), "int32"),
        ("i2", (-5, 4e9), "float32"),
        ("f4", (-5, 4), "float32"),
    ],
)
def test_the_data_type_follows_the_source_where_the_values_fit(tmp_path, caplog, dtype, values, expected):
    make(tmp_path / "in.nii.gz", dtype)
    source = find_one(tmp_path / "in.nii.gz")
    volume = np.linspace(*values, 9 * 8 * 7).reshape(9, 8, 7).astype(np.float32)
    with caplog.at_level(logging.WARNING, "medrecon"):
        written = write(source, tmp_path / "out.nii.gz", volume)
    image = nib.load(tmp_path / "out.nii.gz")
    assert image.get_data_dtype() == expected
    assert np.abs(np.asarray(image.dataobj) - volume).max() <= (0 if expected == "float32" else 0.5)
    fits = np.dtype(dtype).name == expected
    assert bool(written.warnings) != fits
    assert ("do not fit" in caplog.text) != fits


@pytest.mark.parametrize(("slopes", "expected"), [(1.0, "int16"), ([0.5, 0.7, 0.9, 1.1, 1.3], "float32")])
def test_a_dicom_source(tmp_path, make_series, slopes, expected):
    make_series(tmp_path / "in", "PT", bits=15, slopes=slopes, intercept=0, orientation="oblique")
    source = find_one(tmp_path / "in")
    write(source, tmp_path / "out.nii.gz", read_scan(source).astype(np.float64))
    image = nib.load(tmp_path / "out.nii.gz")
    assert image.get_data_dtype() == expected
    assert np.array_equal(np.asarray(image.dataobj), read_scan(source))
    assert np.abs(image.affine - source.affine).max() < 1e-5


@pytest.mark.parametrize("ending", ["nrrd", "mha"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_nrrd_and_mha_sources_keep_their_type(tmp_path, ending, dtype):
    image = sitk.GetImageFromArray(np.arange(60).reshape(3, 4, 5).astype(dtype))
    image.SetSpacing((0.5, 0.6, 2.0))
    sitk.WriteImage(image, str(tmp_path / f"in.{ending}"))
    source = find_one(tmp_path / f"in.{ending}")
    write(source, tmp_path / "out.nii.gz")
    back = nib.load(tmp_path / "out.nii.gz")
    assert back.get_data_dtype() == dtype
    assert np.array_equal(np.asarray(back.dataobj), np.arange(60).reshape(3, 4, 5).T)


def test_the_same_image_gives_the_same_bytes(tmp_path):
    make(tmp_path / "in.nii.gz", "i2")
    source = find_one(tmp_path / "in.nii.gz")
    write(source, tmp_path / "a.nii.gz")
    write(source, tmp_path / "b.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_without_isal_the_file_holds_the_same(tmp_path, monkeypatch):
    import medrecon.io.nifti.writing as module

    make(tmp_path / "in.nii.gz", "i2")
    source = find_one(tmp_path / "in.nii.gz")
    write(source, tmp_path / "a.nii.gz")
    monkeypatch.setattr(module, "igzip", None)
    write(source, tmp_path / "b.nii.gz")
    one, other = ((tmp_path / f"{name}.nii.gz").read_bytes() for name in "ab")
    assert gzip.decompress(one) == gzip.decompress(other)


def test_values_that_are_not_finite_are_refused(tmp_path):
    make(tmp_path / "in.nii.gz", "f4")
    source = find_one(tmp_path / "in.nii.gz")
    volume = read_scan(source).copy()
    volume[1, 2, 3] = np.nan
    with pytest.raises(OutputError, match="1 voxels of the result are not finite"):
        write(source, tmp_path / "out.nii.gz", volume)
    assert not (tmp_path / "out.nii.gz").exists()
