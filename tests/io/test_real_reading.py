"""Awkward real files: each folder read right, as dcm2niix reads it, or refused with the right reason."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medrecon.io import Scan, ScanError, find_one, find_scans, read_scan

from ..programs import needed

pytestmark = pytest.mark.real_data

READ = {
    "09_enhanced_mr_philips_phantom": 1,
    "14_enhanced_ct": 1,
    "16_multiframe_lowfield_hyperfine": 1,
    "22_localizer_and_summary_mixed_in_ct": 1,
    "26_anisotropic_pixels_per_slice_slope": 1,
    "27_two_slices_only": 1,
    "31_patient_position_HFDL": 1,
    "31_patient_position_HFDR": 1,
    "31_patient_position_HFP": 1,
    "31_patient_position_HFS": 1,
    "32_j2k_ct_series_real": 1,
    "33_mr_labelled_as_ct": 1,
    "34_single_slice_ct": 1,
    "35_ct_3slices_and_seg": 1,
    "42_overlays": 1,
    "47_ct_small": 1,
}
"""Folders that hold one scan."""

VOLUMES = {
    "11_enhanced_mr_per_frame_scaling": (2, "EffectiveEchoTime"),
    "12_enhanced_mr_siemens_xa10_4d": (4, "TemporalPositionIndex"),
    "28_4d_fmri_one_series": (3, "Instance Numbers"),
    "29_multi_echo_one_series": (2, "EchoNumbers"),
    "30_magnitude_and_fieldmap_one_series": (2, "Instance Numbers"),
}
"""Folders with several volumes in one series: how many, and what tells them apart."""

PARTLY = {
    "03_nema_ct1_all_codecs": (1, r"one SOP Instance UID, different contents"),
    "08_big_endian": (1, r"10 frames\) without functional groups"),
    "39_decimal_rescale_empty_thickness": (
        1,
        r"Siemens mosaic.*|single slice without a valid Slice Thickness|ends without pixel data",
    ),
    "46_malformed_and_truncated": (None, r"cut short: 8130 bytes"),
    "49_dicomdir_tree": (4, r"161 slice\(s\) missing after slice 1 of 4.*202\.500 mm|differ in orientation"),
    "50_nifti_nrrd_variants": (8, r"holds 2 volume\(s\)|RGBA32"),
}
"""Folders with several scans: how many can be read, and why others cannot."""

REFUSED = {
    "01_same_mr_in_9_encodings": r"Siemens mosaic",
    "02_mr_small_encodings": r"one SOP Instance UID, different contents",
    "04_nema_mr4_codecs_12bit": r"one SOP Instance UID, different contents",
    "05_monochrome1": r"Computed Radiography",
    "06_htj2k_rgb": r"Secondary Capture",
    "07_deflated": r"Segmentation Storage",
    "10_raw_data_object_philips": r"Raw Data Storage",
    "15_emri_small_codecs": r"one SOP Instance UID|without functional groups",
    "17_siemens_mosaic": r"Siemens mosaic",
    "18_gantry_tilt_ct_phantom": r"gantry tilt\): 0\.793 mm.*--resample",
    "20_slice_gap_ct": r"uneven slice spacing after slice 1 of 3.*5\.000 mm",
    "21_duplicate_positions_and_gaps_ct": r"different slices at the same position: CT2[68].* CT2[68]",
    "23_four_series_one_folder_with_gaps": r"1 slice\(s\) missing after slice 2 of 4",
    "24_two_orientations_one_series": r"differ in orientation",
    "25_not_a_volume_same_position": r"all 2 images are at one position",
    "36_seg_1bit_and_odd_sizes": r"Segmentation Storage",
    "37_float_pixel_data": r"Parametric Map Storage",
    "38_modality_lut_voi_lut": r"Secondary Capture",
    "40_colour_rgb_ybr_palette": r"8 file\(s\) left out",
    "41_rgb_volume": r"Secondary Capture",
    "43_missing_rescale_ct_secondary_capture": r"Secondary Capture",
    "44_nonimage_rt_sr_waveform": r"6 file\(s\) left out",
    "45_rtdose_32bit_multiframe": r"RT Dose Storage",
    "48_character_sets": r"ends without pixel data",
}
REAL = {
    "ct_abdomen_ge_revolution_512x512x35_dicom",
    "ct_chest_lungkernel_ge_lightspeedvct_512x512x100_dicom",
    "mr_adc_prostate_ge_signahdxt_256x256x20_dicom",
    "mr_t1_sag_head_siemens_prisma_256x256x35_dicom",
}

PHILIPS = {"09_enhanced_mr_philips_phantom", "11_enhanced_mr_per_frame_scaling"}
"""Where dcm2niix must be told to apply the rescale of the Standard instead of the vendor's private one."""


def test_every_folder_is_judged(shared_dir: Path) -> None:
    there = {p.name for p in (shared_dir / "data" / "edge").iterdir() if p.is_dir()}
    assert there == {*READ, *VOLUMES, *PARTLY, *REFUSED}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused(name: str, shared_dir: Path) -> None:
    with pytest.raises(ScanError, match=REFUSED[name]) as caught:
        find_one(shared_dir / "data" / "edge" / name)
    assert caught.value.remedy


@pytest.mark.parametrize("name", sorted(PARTLY))
def test_partly(name: str, shared_dir: Path) -> None:
    count, reason = PARTLY[name]
    folder = shared_dir / "data" / "edge" / name
    found = find_scans(folder)
    assert count is None or len(found.scans) == count
    assert found.refused
    if count is not None:
        for error in found.refused:
            assert re.search(reason, str(error))
    else:
        assert any("cut short: 8130 bytes" in str(error) for error in found.refused)
    for scan in found.scans:
        if not scan.path.name.startswith(("inf_and_nan", "nan_")):
            assert read_scan(scan).shape == scan.shape
    used = sum(len(s.files) for s in found.scans) + len(found.left_out)
    assert used <= sum(1 for p in folder.rglob("*") if p.is_file())


def references(folder: Path, out: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """(voxels, affine) of each volume that dcm2niix makes of a folder, in canonical orientation."""
    scaling = "n" if folder.name in PHILIPS else "y"
    out.mkdir()
    subprocess.run(
        [
            needed("dcm2niix"),
            "-z",
            "n",
            "-b",
            "n",
            "-p",
            scaling,
            "-f",
            "%s_%e_%j",
            "-o",
            str(out),
            str(folder),
        ],
        capture_output=True,
        timeout=120,
        check=False,
    )
    found = []
    for path in sorted(out.glob("*.nii")):
        image = nib.load(path)
        if image.get_data_dtype().kind == "V":
            continue
        data = np.asarray(image.dataobj, np.float64)
        data = data.reshape(*data.shape[:3], *([1] * (3 - data.ndim)), -1)
        found += [canonical(data[..., k], image.affine) for k in range(data.shape[-1])]
    return found


def canonical(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    image = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(data, np.float64), affine))
    return np.asarray(image.dataobj), image.affine


def agrees(scan: Scan, found: list[tuple[np.ndarray, np.ndarray]]) -> bool:
    """Whether one of the references is this scan: affine to 1e-3 mm, values to half a unit."""
    data, affine = canonical(read_scan(scan), scan.affine)
    return any(
        data.shape == other.shape
        and np.allclose(affine, place, atol=1e-3)
        and np.abs(data - other).max() <= 0.51
        for other, place in found
    )


@pytest.mark.parametrize("name", sorted({*READ, *REAL}))
def test_one_scan_as_dcm2niix(name: str, shared_dir: Path, tmp_path: Path) -> None:
    folder = shared_dir / "data" / ("real" if name in REAL else "edge") / name
    scan = find_one(folder)
    assert agrees(scan, references(folder, tmp_path / "out"))


@pytest.mark.parametrize("name", sorted(VOLUMES))
def test_volumes_as_dcm2niix(name: str, shared_dir: Path, tmp_path: Path) -> None:
    folder = shared_dir / "data" / "edge" / name
    count, mark = VOLUMES[name]
    with pytest.raises(ScanError, match=rf"holds {count} volumes .*{mark}.*--volume"):
        find_one(folder)
    found = references(folder, tmp_path / "out")
    for volume in range(count):
        assert agrees(find_one(folder, volume=volume), found), volume


def test_rounded_positions(shared_dir: Path, tmp_path: Path) -> None:
    """dcm2niix repeats the first distance (6.958 mm) and ends 0.7 mm off; the mean is 6.997 mm."""
    folder = shared_dir / "data" / "real" / "mr_pd_fse_brain_oblique_ge_signa_256x256x19_dicom"
    scan = find_one(folder)
    assert scan.spacing[2] == pytest.approx(6.9966, abs=1e-4)
    assert "0.047 mm off an even grid" in "".join(scan.notes)
    (data, _), *_ = references(folder, tmp_path / "out")
    assert np.array_equal(canonical(read_scan(scan), scan.affine)[0], data)


def test_tilted_head_of_two_slice_distances_is_resampled(shared_dir: Path) -> None:
    """14 slices of 4 mm and 14 of 7 mm, tilted: what lies between them is interpolated, and said."""
    folder = shared_dir / "data" / "real" / "ct_head_gantrytilt_ge_hispeed_512x512x28_dicom"
    with pytest.raises(ScanError, match=r"gantry tilt\): 2\.342 mm .* 48\.21 mm in all; use --resample"):
        find_one(folder)
    scan = find_one(folder, resample=True)
    assert scan.spacing[2] == pytest.approx(3.95, abs=0.06)
    assert re.search(r"1\.081 to 6\.999 mm: 28 slices resampled linearly onto \d+", "".join(scan.notes))
    assert read_scan(scan).shape == scan.shape


def test_tilted_phantom_is_resampled_like_dcm2niix(shared_dir: Path, tmp_path: Path) -> None:
    folder = shared_dir / "data" / "edge" / "18_gantry_tilt_ct_phantom"
    scan = find_one(folder, resample=True)
    data, affine = canonical(read_scan(scan), scan.affine)
    assert data.shape == (512, 512 + 5, 4)
    for other, place in references(folder, tmp_path / "out"):
        if other.shape == data.shape and np.allclose(affine[:3, :3], place[:3, :3], atol=1e-2):
            shift = np.linalg.inv(affine) @ place[:, 3]
            assert np.abs(shift[:3]).max() < 6


CODECS = {
    "02_mr_small_encodings": ("MR_small.dcm", {}),
    "03_nema_ct1_all_codecs": ("CT1_UNC", {"CT1_J2KI": 200.0, "CT1_JLSN": 10.0}),
    "04_nema_mr4_codecs_12bit": ("MR4_UNC", {"MR4_JLSN": 200.0, "MR4_JPLY": 1000.0}),
}


@pytest.mark.parametrize("name", sorted(CODECS))
def test_one_image_in_many_codecs(name: str, shared_dir: Path) -> None:
    reference, lossy = CODECS[name]
    folder = shared_dir / "data" / "edge" / name
    true = read_scan(find_one(folder / reference))
    for path in sorted(folder.iterdir()):
        off = np.abs(read_scan(find_one(path)).astype(float) - true)
        assert off.max() == 0 or path.name in lossy, path.name
        assert off.mean() <= lossy.get(path.name, 0) / 4, path.name


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_real_volume_files(suffix: str, shared_dir: Path) -> None:
    import SimpleITK as sitk

    files = sorted((shared_dir / "data" / "real").glob(f"*{suffix}"))
    assert files
    for path in files:
        scan = find_one(path)
        image = sitk.ReadImage(str(path))
        assert np.allclose(read_scan(scan), sitk.GetArrayViewFromImage(image).transpose(2, 1, 0), atol=1e-3)
        lps = image.TransformContinuousIndexToPhysicalPoint([3.0, 2.0, 1.0])
        assert np.allclose(scan.affine @ [3, 2, 1, 1], [-lps[0], -lps[1], lps[2], 1], atol=1e-2), path.name
