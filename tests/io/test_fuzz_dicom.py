"""Mutated DICOM series along the whole way: found, read, written as a derived series, read back the same.

Or refused in one line that names the file. About 300 mutants run here; as many of each kind as one likes with
`MEDRECON_FUZZ=5000 pytest tests/io/test_fuzz_dicom.py -s`, which prints what became of them.
"""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from medrecon.errors import MedreconError, UsageError
from medrecon.io import DicomSeriesWriter, Scan, find_one, find_scans, read_scan
from medrecon.io.dicom.writing.source import check_derivable

from .dicom_mutants import mutate_attribute
from .mutants import mutate
from .test_dicom_pixels import compress
from .test_enhanced import write_enhanced
from .test_fuzz_reading import limits

Make = Callable[..., np.ndarray]
Compare = Callable[[Scan, "Tally"], None]
COUNT = int(os.environ.get("MEDRECON_FUZZ", "0"))
SHAPE = (9, 7, 5)
SECONDS = 10
ROUNDED = 0.0501
"""mm: half of the last digit of a position with one decimal."""
KINDS: dict[str, dict[str, Any]] = {
    "explicit CT": {"orientation": "oblique"},
    "MR": {"modality": "MR", "intercept": 0},
    "PET with a slope for each slice": {
        "modality": "PT",
        "slopes": [1.5, 2, 0.25, 1, 1e-3],
        "intercept": 0,
        "bits": 16,
        "signed": True,
    },
    "implicit": {"syntax": ImplicitVRLittleEndian},
    "big endian": {"syntax": ExplicitVRBigEndian},
    "deflated": {"syntax": DeflatedExplicitVRLittleEndian},
    "RLE": {"syntax": RLELossless},
    "JPEG-LS": {"change": compress("ls")},
    "JPEG 2000": {"change": compress("j2k")},
    "enhanced CT": {},
    "enhanced MR": {},
}
FEW = {"explicit CT": 30, "MR": 20, "RLE": 6, "JPEG-LS": 3, "JPEG 2000": 3}
"""Mutants of a kind where MEDRECON_FUZZ says nothing; 15 of the others."""
MORE = {"explicit CT": 120, "MR": 60}
"""So many with the slow tests."""
PLAIN = ("explicit CT", "MR", "PET with a slope for each slice", "enhanced CT", "enhanced MR")
"""Kinds whose attributes are changed, beside their bytes."""


@dataclass
class Tally:
    """What became of the mutants."""

    results: Counter = field(default_factory=Counter)
    only_here: Counter[str] = field(default_factory=Counter)


def processor_time() -> float:
    """Seconds of this process and of its ended children: other work on the machine is not counted."""
    return sum(os.times()[:4])


def way(folder: Path, out: Path) -> tuple[str, list[Scan], str]:
    """Go the whole way; how it went, the scans, and what was said.

    Anything but an error of ours with exit code 3 fails; or 2, where nothing can be derived of what is found.
    """
    start, how, said = processor_time(), "written", ""
    scans: list[Scan] = []
    refusal = None
    try:
        with limits(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = find_scans(folder)
            scans = list(found.scans)
            said = " ".join(f"{item.path.name}: {item.reason}" for item in found.left_out)
            said += " ".join(map(str, found.refused))
            how = "written in part" if found.refused else how
            for scan in scans:
                one_way(scan, out / scan.key)
    except MedreconError as error:
        how, said, refusal = "refused", str(error), error
    assert processor_time() - start < SECONDS, how
    if refusal is not None:
        derivable = isinstance(refusal, UsageError) and "no derived DICOM" in said
        assert refusal.exit_code == 3 or derivable, repr(refusal)
        assert refusal.remedy
        assert str(folder.parent) in said
        assert len(said) < 2000
    return how, scans, said


def one_way(scan: Scan, out: Path) -> None:
    """Write the derived series and read it back: the same voxels in the same places."""
    check_derivable(scan)
    values = read_scan(scan)
    writer = DicomSeriesWriter()
    writer.set_data_array(values, channel_dim=None)
    writer.set_scan(scan)
    written = writer.write(out)
    back = find_one(out)
    assert back.shape == scan.shape
    assert np.abs(back.affine - scan.affine).max() < 1e-3
    again = read_scan(back)
    if "as the source" in written.encoding or scan.modality == "CT":
        tolerance = 0.0 if np.issubdtype(values.dtype, np.integer) else 1e-6 * float(np.abs(values).max())
        if not any("stored in steps" in line or "clipped" in line for line in written.warnings):
            assert np.abs(again.astype(float) - values).max() <= tolerance
    for path in sorted(out.iterdir())[:1]:
        str(pydicom.dcmread(path))  # every value decodes


def second_look(scan: Scan, tally: Tally) -> None:
    """Values and places against pydicom and SimpleITK, slice by slice."""
    values = read_scan(scan)
    for k, path in enumerate(scan.files if len(scan.files) == scan.shape[2] else ()):
        seen = {"pydicom": with_pydicom, "SimpleITK": with_simpleitk} if not k else {"pydicom": with_pydicom}
        for name, read in seen.items():
            try:
                image, place = read(path)
            except Exception as error:  # whatever they refuse
                why = re.sub(r"\(.*|[\d.e+-]*\d", "#", str(error).rpartition("ITK ERROR: ")[2])[:70]
                tally.only_here[f"{name}: {type(error).__name__}: {why!r}"] += 1
                continue
            here = (np.diag([-1, -1, 1, 1]) @ scan.affine @ [0, 0, k, 1])[:3]
            assert np.allclose(image, values[:, :, k].T, rtol=1e-6, atol=1e-6 * np.abs(image).max()), (
                name,
                path,
            )
            assert np.abs(np.asarray(place) - here).max() <= ROUNDED, (name, place, here)


def second_look_frames(scan: Scan, tally: Tally) -> None:
    """Values of an enhanced object against pydicom, frame by frame, each at its own position."""
    values, index_of = read_scan(scan), np.linalg.inv(np.diag([-1, -1, 1, 1]) @ scan.affine)
    try:
        ds = pydicom.dcmread(scan.path, force=True)
        stored, groups = ds.pixel_array, ds.PerFrameFunctionalGroupsSequence
        shared = ds.SharedFunctionalGroupsSequence[0]
        places = [g.get("PlanePositionSequence") or shared.PlanePositionSequence for g in groups]
        name = "PixelValueTransformationSequence"
        scales = [(g.get(name) or shared.get(name) or [Dataset()])[0] for g in groups]
        points = np.array([[float(v) for v in place[0].ImagePositionPatient] for place in places])
        lines = [(float(s.get("RescaleSlope") or 1), float(s.get("RescaleIntercept") or 0)) for s in scales]
    except Exception as error:  # whatever it refuses
        tally.only_here[f"pydicom: {type(error).__name__}: {str(error)[:70]!r}"] += 1
        return
    if len(points) != scan.shape[2]:
        return  # one of several volumes
    for image, point, (slope, intercept) in zip(stored, points, lines, strict=True):
        i, j, k = (index_of @ [*point, 1])[:3]
        assert max(abs(i), abs(j), abs(k - round(k))) <= ROUNDED, (i, j, k)
        assert np.allclose(image * slope + intercept, values[:, :, round(k)].T, rtol=1e-6)


def with_pydicom(path: Path) -> tuple[np.ndarray, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(path, force=True)
        slope, intercept = float(ds.get("RescaleSlope") or 1), float(ds.get("RescaleIntercept") or 0)
        return ds.pixel_array * slope + intercept, [float(v) for v in ds.ImagePositionPatient]


def with_simpleitk(path: Path) -> tuple[np.ndarray, Any]:
    image = sitk.ReadImage(str(path), imageIO="GDCMImageIO")
    return sitk.GetArrayFromImage(image)[0].astype(float), image.GetOrigin()


@pytest.mark.parametrize(
    ("kind", "seeds"),
    [
        *((kind, range(COUNT or FEW.get(kind, 15))) for kind in KINDS),
        *(pytest.param(kind, range(FEW[kind], MORE[kind]), marks=pytest.mark.slow) for kind in MORE),
    ],
    ids=[*KINDS, *(f"{kind}, more" for kind in MORE)],
)
def test_mutated_series_go_the_whole_way(kind: str, seeds: range, tmp_path: Path, make_series: Make) -> None:
    folder, enhanced = tmp_path / "in", kind.startswith("enhanced")
    if enhanced:
        folder.mkdir()
        write_enhanced(folder / "a.dcm", kind=kind[-2:])
    else:
        make_series(folder, **{"shape": SHAPE, **KINDS[kind]})
    whole = {path: path.read_bytes() for path in sorted(folder.iterdir())}
    assert way(folder, tmp_path / "whole")[0] == "written"
    tally, wrong = Tally(), []
    for seed in seeds:
        victims = mutate_files(whole, seed, kind)
        try:
            one_mutant(
                folder, victims, tmp_path / "out", tally, second_look_frames if enhanced else second_look
            )
        except Exception as error:
            kept_here = Path(os.environ.get("MEDRECON_FUZZ_KEEP", str(tmp_path))) / f"{kind[:8]}-{seed}"
            shutil.copytree(folder, kept_here, dirs_exist_ok=True)
            wrong.append(f"mutant {seed}, kept in {kept_here}: {type(error).__name__}: {str(error)[:300]}")
        for path in victims:
            path.write_bytes(whole[path])
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
    print(kind, dict(tally.results), len(wrong), "wrong", dict(tally.only_here))
    assert not wrong
    assert tally.results["refused"]
    assert tally.results["written"] or kind not in PLAIN


def mutate_files(whole: dict[Path, bytes], seed: int, kind: str) -> list[Path]:
    """Mutate one file of the series, or all of them alike; returns which."""
    rng = np.random.default_rng([seed, *kind.encode()])
    paths = list(whole)
    victims = paths if rng.random() < 0.4 else [paths[int(rng.integers(0, len(paths)))]]
    header = min(map(len, whole.values())) - 2 * SHAPE[0] * SHAPE[1]
    by_attribute = kind in PLAIN and rng.random() < 0.7
    for path in victims:
        data = whole[path]
        path.write_bytes(mutate_attribute(data, seed) if by_attribute else mutate(data, rng, max(header, 1)))
    return victims


def one_mutant(folder: Path, victims: list[Path], out: Path, tally: Tally, compare: Compare) -> None:
    how, scans, said = way(folder, out)
    tally.results[how] += 1
    kept = sum(scan.shape[2] for scan in scans)
    if how == "written" and kept < 5:
        assert all(path.name in said for path in victims[: 5 - kept]), said
        tally.results["written, fewer slices, said"] += 1
    for scan in scans if how != "refused" else ():
        compare(scan, tally)
