"""Mutated inputs: read or refused in one line, within limits, and no slice lost in silence.

300 of each kind run here; `MEDRECON_FUZZ=5000 pytest tests/io/test_fuzz_reading.py` runs more.
"""

from __future__ import annotations

import gzip
import os
import resource
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from medrecon.io import Found, ScanError, find_scans
from medrecon.io.read import load

from .mutants import mutate

Make = Callable[..., np.ndarray]
COUNT = int(os.environ.get("MEDRECON_FUZZ", "300"))


@contextmanager
def limits() -> Iterator[None]:
    """One GiB of address space more than is in use."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    old = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, old)


def attempt(path: Path) -> tuple[str, Found | None]:
    """Find and read: how it went. Anything but a `ScanError` of one line with a remedy fails the test."""
    start, error = time.process_time(), None
    try:
        with limits():
            found = find_scans(path)
            for scan in found.scans:
                values, _ = load(scan)
                assert values.shape == scan.shape
                assert np.isfinite(scan.affine).all()
        result = ("refused in part" if found.refused else "read", found)
    except ScanError as refusal:
        error, result = refusal, ("refused", None)
    if error is not None:
        assert "\n" not in str(error)
        assert error.remedy
        assert str(path.parent) in str(error)
    assert time.process_time() - start < 10
    return result


def accounted(found: Found) -> int:
    return sum(len(s.files) for s in found.scans) + len(found.left_out)


@pytest.mark.parametrize("kind", ["explicit", "implicit", "big endian"])
def test_mutated_dicom(kind: str, tmp_path: Path, make_series: Make) -> None:
    syntax = {"implicit": ImplicitVRLittleEndian, "big endian": ExplicitVRBigEndian}.get(kind)
    make_series(
        tmp_path / "ct", shape=(9, 7, 5), orientation="oblique", **({"syntax": syntax} if syntax else {})
    )
    files = sorted((tmp_path / "ct").iterdir())
    whole = {path: path.read_bytes() for path in files}
    pixels = min(map(len, whole.values())) - 9 * 7 * 2
    results = Counter()
    for seed in range(COUNT // 3):
        rng = np.random.default_rng([seed, len(kind)])
        victim = files[int(rng.integers(0, 5))]
        victim.write_bytes(mutate(whole[victim], rng, pixels))
        how, found = attempt(tmp_path / "ct")
        results[how] += 1
        if how == "read" and found is not None:
            assert accounted(found) == 5, seed
            lost = 5 - sum(scan.shape[2] for scan in found.scans)
            told = len(found.left_out)
            assert lost <= told, f"seed {seed}: {lost} slice(s) lost, {told} told"
        victim.write_bytes(whole[victim])
    print(kind, dict(results))
    assert results["read"] > COUNT // 60
    assert results["refused"] > COUNT // 30


def test_mutated_compressed_dicom(tmp_path: Path, make_series: Make) -> None:
    make_series(tmp_path / "ct", shape=(9, 7, 2), syntax=RLELossless)
    victim = tmp_path / "ct" / "037.dcm"
    whole = victim.read_bytes()
    for seed in range(max(12, COUNT // 50)):
        rng = np.random.default_rng(seed)
        victim.write_bytes(whole[:-120] + mutate(whole[-120:], rng, 120))
        attempt(tmp_path / "ct")


@pytest.mark.parametrize("packed", [False, True])
def test_mutated_nifti(packed: bool, tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(-900, 900, (7, 6, 5)).astype(np.int16)
    image = nib.Nifti1Image(data, np.diag([0.7, 0.8, 2.5, 1]))
    image.set_qform(image.affine, 1)
    nib.save(image, tmp_path / "a.nii")
    whole = (tmp_path / "a.nii").read_bytes()
    path = tmp_path / ("b.nii.gz" if packed else "b.nii")
    squeezed = gzip.compress(whole)
    results = Counter()
    for seed in range(COUNT // 2):
        rng = np.random.default_rng([seed, packed])
        if not packed:
            path.write_bytes(mutate(whole, rng, 352))
        elif seed % 2:
            path.write_bytes(mutate(squeezed, rng, len(squeezed)))
        else:
            path.write_bytes(gzip.compress(mutate(whole, rng, 352)))
        results[attempt(path)[0]] += 1
    print("gzip" if packed else "plain", dict(results))
    assert results["refused"] > COUNT // 20


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_mutated_nrrd_and_meta_image(name: str, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.arange(120, dtype=np.int16).reshape(4, 5, 6))
    sitk.WriteImage(image, str(tmp_path / name), True)
    whole = (tmp_path / name).read_bytes()
    for seed in range(COUNT // 6):
        (tmp_path / name).write_bytes(mutate(whole, np.random.default_rng(seed), len(whole)))
        attempt(tmp_path / name)


def test_mutated_trees(tmp_path: Path, make_series: Make) -> None:
    """Files renamed, moved, emptied, linked and copied: each is used, left out or named in a refusal."""
    make_series(tmp_path / "whole", shape=(9, 7, 5))
    for seed in range(COUNT // 6):
        rng = np.random.default_rng(seed)
        folder = tmp_path / f"t{seed}"
        shutil.copytree(tmp_path / "whole", folder)
        files = sorted(folder.iterdir())
        victim = files[int(rng.integers(0, 5))]
        kind = int(rng.integers(0, 6))
        if kind == 0:
            victim.unlink()
        elif kind == 1:
            victim.write_bytes(b"")
        elif kind == 2:
            (folder / "sub").mkdir()
            victim.rename(folder / "sub" / "x")
        elif kind == 3:
            shutil.copy(victim, folder / "again")
        elif kind == 4:
            victim.unlink()
            victim.symlink_to(folder / "nowhere")
        else:
            (folder / "loop").symlink_to(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            how, found = attempt(folder)
        if found is not None and how == "read":
            slices = found.scans[0].shape[2]
            at_the_end = victim.name in (files[0].name, "047.dcm")
            assert slices == 5 or (at_the_end and kind in (0, 1)), (seed, kind, slices)
            assert slices == 5 or kind == 0 or found.left_out
            links = kind == 5
            assert accounted(found) == sum(1 for p in folder.rglob("*") if not p.is_dir()) + links, (
                seed,
                kind,
            )
        shutil.rmtree(folder)
