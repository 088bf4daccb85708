"""Files with a scan's name that are none: left out and said, refused where named; pairs by both names."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medrecon.cohort.studies import plan_studies
from medrecon.io import ScanError, find_one, find_scans, read_scan

from .nifti_edits import AFFINE, save, volume

APPLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(82)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 12345\n"
ANNEX = b"/annex/objects/MD5E-s12345--0123456789abcdef.nii.gz\n"
INTERFILE = b"!INTERFILE :=\n!imaging modality := nucmed\nname of data file := a.i33\n"
FOREIGN = {
    "._a.nii.gz": (APPLE, "AppleDouble"),
    "._a.nii": (APPLE, "AppleDouble"),
    "._a.nrrd": (b"\x00\x05\x16\x00" + bytes(50), "AppleDouble"),
    "._a.mha": (b"", "AppleDouble"),
    "._a.hdr": (APPLE, "AppleDouble"),
    "b.nii.gz": (LFS, "Git LFS"),
    "b.nii": (LFS, "Git LFS"),
    "b.nrrd": (LFS, "Git LFS"),
    "b.mha": (LFS, "Git LFS"),
    "b.hdr": (LFS, "Git LFS"),
    "c.nii.gz": (ANNEX, "git-annex"),
    "c.mhd": (b"../../.git/annex/objects/Zz/1/SHA256E-s5--6/SHA256E-s5--6.mhd", "git-annex"),
    "d.hdr": (INTERFILE, "INTERFILE"),
    "e.hdr": (b"; made by a scanner\r\n" + INTERFILE, "INTERFILE"),
    "f.hdr": (b"ENVI\ndescription = {a}\nsamples = 4\n", "ENVI"),
    "f.HDR": (b"ENVI\r\nlines = 4\r\n", "ENVI"),
    "g.hdr": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n", "RADIANCE"),
    "h.hdr": (b"BYTEORDER I\nLAYOUT BIL\nNROWS 20\n", "text"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_only_has_a_scans_name(name: str, tmp_path: Path) -> None:
    content, what = FOREIGN[name]
    save(tmp_path / "scan.nii", volume())
    (tmp_path / name).write_bytes(content)
    found = find_scans(tmp_path)
    assert [scan.path.name for scan in found.scans] == ["scan.nii"]
    assert not found.refused
    assert [(item.path.name, what in item.reason) for item in found.left_out] == [(name, True)]
    with pytest.raises(ScanError, match=f"{what}.*; give the scan itself") as caught:
        find_one(tmp_path / name)
    assert name in str(caught.value)
    plan = plan_studies(tmp_path, tmp_path.parent / "out")
    assert [study.path.name for study in plan.studies] == ["scan.nii"]


def test_a_scan_is_none_of_them(tmp_path: Path) -> None:
    save(tmp_path / "._real.nii", volume())
    assert np.array_equal(read_scan(find_one(tmp_path / "._real.nii")), volume())


BROKEN = {
    "a.nii": b"<!DOCTYPE html><html>not found</html>",
    "a.nii.gz": gzip.compress(LFS),
    "a.hdr": bytes(348),
    "b.hdr": b"\x5c\x01\x00\x00" + bytes(100),
    "a.nrrd": APPLE,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_scan_is_not_left_out(name: str, tmp_path: Path) -> None:
    save(tmp_path / "scan.nii", volume())
    (tmp_path / name).write_bytes(BROKEN[name])
    assert [error.path for error in find_scans(tmp_path).refused] == [tmp_path / name]


def test_a_link_of_git_annex_is_left_out(tmp_path: Path) -> None:
    save(tmp_path / "scan.nii", volume())
    (tmp_path / "a.nii.gz").symlink_to("../.git/annex/objects/Zz/1/MD5E-s9--a.nii.gz/MD5E-s9--a.nii.gz")
    (tmp_path / "b.nii.gz").symlink_to("nowhere")
    found = find_scans(tmp_path)
    assert not found.refused
    assert sorted((item.path.name, "git-annex" in item.reason) for item in found.left_out) == [
        ("a.nii.gz", True),
        ("b.nii.gz", False),
    ]


PAIRS = [
    ("a.hdr", "a.img"),
    ("A.HDR", "A.IMG"),
    ("a.HDR", "a.img"),
    ("a.hdr", "a.img.gz"),
    ("a.hdr.gz", "a.img.gz"),
]


@pytest.mark.parametrize(("header", "image"), PAIRS)
def test_pairs_by_either_name(header: str, image: str, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(volume(), AFFINE), tmp_path / "x.hdr")
    for old, new in (("x.hdr", header), ("x.img", image)):
        data = (tmp_path / old).read_bytes()
        (tmp_path / old).unlink()
        (tmp_path / new).write_bytes(gzip.compress(data) if new.endswith(".gz") else data)
    for named in (header, image):
        scan = find_one(tmp_path / named)
        assert scan.path.name == header
        assert np.array_equal(read_scan(scan), volume())
    assert find_one([tmp_path / header, tmp_path / image]) == find_one(tmp_path / header)
    found = find_scans(tmp_path)
    (left,) = found.left_out
    assert (left.path.name, left.reason) == (image, f"read with its header {header}")
    (tmp_path / image).unlink()
    with pytest.raises(ScanError, match="is missing; put the pair together"):
        find_one(tmp_path / header)


def test_the_image_of_another_formats_header(tmp_path: Path) -> None:
    (tmp_path / "d.hdr").write_bytes(INTERFILE)
    (tmp_path / "d.img").write_bytes(bytes(100))
    save(tmp_path / "scan.nii", volume())
    reasons = {item.path.name: item.reason for item in find_scans(tmp_path).left_out}
    assert "its header d.hdr is a header of another format (INTERFILE)" in reasons["d.img"]
    with pytest.raises(ScanError, match="INTERFILE"):
        find_one(tmp_path / "d.img")


def test_values_named_in_the_place_of_their_header(tmp_path: Path) -> None:
    (tmp_path / "v.raw").write_bytes(bytes(range(24)))
    head = "ObjectType = Image\nNDims = 3\nDimSize = 4 3 2\nElementSpacing = 1 1 1\nElementType = MET_UCHAR\n"
    (tmp_path / "v.mhd").write_text(head + "ElementDataFile = v.raw\n")
    assert find_one(tmp_path / "v.raw").path.name == "v.mhd"
