"""Fixtures that every room's tests share."""

from __future__ import annotations

import gc
import ipaddress
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # before numpy and torch count the cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_finish() -> None:
    """What the modules hold is no garbage, and MONAI's components are the same for each configuration.

    Without this each collection of garbage looks through all modules, and each parser through all of MONAI's.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    if found := sys.modules.get("monai.bundle.config_item"):
        look = found.ComponentLocator._find_classes_or_functions
        once = cache(lambda names: look(found.ComponentLocator(), names))
        found.ComponentLocator._find_classes_or_functions = lambda _, names: once(tuple(names))


@pytest.fixture(scope="session", autouse=True)
def no_other_machine() -> Iterator[None]:
    """No test speaks to another machine, nor asks for its address."""
    connect, connect_ex, lookup = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def check(address: object) -> None:
        host = address[0] if isinstance(address, tuple) and address else "localhost"
        if not _is_here(str(host)):
            raise AssertionError(f"a test wants to reach {host}: it may speak to this machine alone")

    def checked_connect(self: socket.socket, address: Any) -> None:
        check(address)
        connect(self, address)

    def checked_connect_ex(self: socket.socket, address: Any) -> int:
        check(address)
        return connect_ex(self, address)

    def checked_lookup(host: Any, *rest: Any, **more: Any) -> Any:
        check((host.decode() if isinstance(host, bytes) else host or "localhost",))
        return lookup(host, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", checked_connect)
        patch.setattr(socket.socket, "connect_ex", checked_connect_ex)
        patch.setattr(socket, "getaddrinfo", checked_lookup)
        yield


def _is_here(host: str) -> bool:
    if host in ("localhost", "0.0.0.0", "::", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real scans beside the checkout (or MEDRECON_SHARED); skips where there is none."""
    folder = Path(os.environ.get("MEDRECON_SHARED", ROOT.parent / "shared"))
    if not (folder / "data" / "real").is_dir():
        pytest.skip("no real scans here: set MEDRECON_SHARED to the folder that holds data/real")
    return folder


@pytest.fixture
def make_ct() -> Callable[..., np.ndarray]:
    """Writes a small oblique CT series as DICOM: `make_ct(folder, ...)` -> its HU, (X, Y, Z) int16."""
    return write_ct


def write_ct(
    folder: Path,
    shape: tuple[int, int, int] = (20, 24, 6),
    *,
    description: str = "Chest 1.0",
    number: int = 3,
    seed: int = 0,
    leave_out: int | None = None,
    patient: str = "Doe^Jane",
) -> np.ndarray:
    """Write a CT series of uint16 with intercept -1024; `leave_out` drops that slice, which makes a gap."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    columns, rows, slices = shape
    rng = np.random.default_rng(seed)
    ramp = np.linspace(-900, 1200, columns)[:, None, None] + np.linspace(0, 300, rows)[None, :, None]
    hu = (ramp + rng.normal(0, 20, shape)).round().astype(np.int16)
    tilt = np.deg2rad(12.0)
    row, column = np.array([1.0, 0, 0]), np.array([0, np.cos(tilt), np.sin(tilt)])
    normal = np.cross(row, column)
    study, series, frame = (generate_uid(entropy_srcs=[description, str(seed), name]) for name in "abc")
    folder.mkdir(parents=True)
    for index in range(slices):
        if index == leave_out:
            continue
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
        ds.SOPInstanceUID = generate_uid(entropy_srcs=[description, str(seed), str(index)])
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = patient, "ID-4711", "19500101", "O"
        ds.StudyDate = ds.SeriesDate = ds.ContentDate = ds.AcquisitionDate = "20240102"
        ds.StudyTime = ds.SeriesTime = ds.ContentTime = ds.AcquisitionTime = "101112"
        ds.AccessionNumber = ds.StudyID = ds.ReferringPhysicianName = ""
        ds.Modality, ds.Manufacturer, ds.SeriesDescription = "CT", "Nobody", description
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.SeriesNumber, ds.AcquisitionNumber, ds.InstanceNumber = number, 1, slices - index
        ds.PatientPosition, ds.PositionReferenceIndicator, ds.KVP = "HFS", "", "120"
        ds.ImagePositionPatient = [f"{value:.6f}" for value in (-30.0, -40.0, 5.0) + normal * 2.5 * index]
        ds.ImageOrientationPatient = [f"{value:.8f}" for value in (*row, *column)]
        ds.PixelSpacing, ds.SliceThickness, ds.SpacingBetweenSlices = ["0.8", "0.7"], "2.5", "2.5"
        ds.Rows, ds.Columns, ds.SamplesPerPixel = rows, columns, 1
        ds.PhotometricInterpretation, ds.PixelRepresentation = "MONOCHROME2", 0
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"
        ds.PixelData = (hu[:, :, index].T.astype(np.int32) + 1024).astype("<u2").tobytes()
        ds.save_as(folder / f"slice{(index * 7 + 3) % 101:03d}.dcm", enforce_file_format=True)
    return hu


@pytest.fixture
def make_nifti() -> Callable[..., np.ndarray]:
    """Writes a small oblique MR-like NIfTI: `make_nifti(path, ...)` -> its values, (X, Y, Z) int16."""
    return write_nifti


def write_nifti(path: Path, shape: tuple[int, int, int] = (18, 16, 10), *, seed: int = 0) -> np.ndarray:
    """Write an int16 NIfTI with an oblique affine."""
    import nibabel as nib

    rng = np.random.default_rng(seed)
    values = rng.integers(0, 900, shape).astype(np.int16)
    turn = np.deg2rad(10.0)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine[:3, :3] *= (0.9, 0.9, 2.0)
    affine[:3, 3] = (-8.0, 4.0, 20.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, affine), path)
    return values


@pytest.fixture
def tiny_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle with the ids of the real ones and a network of two pooling layers, without weights."""
    monkeypatch.syspath_prepend(str(ROOT / "tests"))  # its configuration names tests/tiny_parts.py
    return write_tiny_bundle(tmp_path / "bundles" / "tiny")


def write_tiny_bundle(folder: Path) -> Path:
    """Write the bundle whose parts are in tests/tiny_parts.py."""
    configs = folder / "configs"
    configs.mkdir(parents=True)
    (configs / "metadata.json").write_text(json.dumps({"version": "0.0.1", "monai_version": "1.6.1"}))
    (configs / "inference.yaml").write_text((ROOT / "tests" / "tiny_inference.yaml").read_text())
    return folder


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page without the figures beside it, which take most of its time; tests/report draws them."""
    monkeypatch.setattr("medrecon.report.page._write_figures", lambda *_: None)


@pytest.fixture
def coarse_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of few pixels: most of the time of a figure goes into its PNG."""
    monkeypatch.setattr("medrecon.report.style.DPI", 40)


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page and the scene have tests of their own, and take most of the time of an atlas."""

    def write(path: Path, scores: object, volumes: object, **_: object) -> Path:
        path.write_text("stands in")
        return path

    monkeypatch.setattr("medrecon.report.page.write_page", write)
    monkeypatch.setattr("medrecon.report.scene.write_scene", write)


@pytest.fixture
def small_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Linear inverses are fitted to few small images and kept in a cache of the test's own, this one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("medrecon.training.patches.SIDE", {2: 32, 3: 16})
    monkeypatch.setattr("medrecon.training.linear.images.MOST", 6)
    monkeypatch.setattr("medrecon.training.linear.images.FEWEST", 6)
    return tmp_path / "cache"


def write_waves(path: Path, slices: int = 17) -> Path:
    """Write an int16 NIfTI of wide waves, which a linear inverse brings back about."""
    import nibabel as nib

    x, y, z = np.meshgrid(*(np.linspace(0, 3, n) for n in (35, 33, slices)), indexing="ij")
    values = (400 + 300 * np.sin(x + z) * np.cos(y)).round().astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.diag([0.9, 0.8, 2.0, 1.0])), path)
    return path


@pytest.fixture(scope="session")
def marked_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans with markers in each text, which takes a while; nobody writes here."""
    from .markers import write_sources

    return write_sources(tmp_path_factory.mktemp("marked") / "in")


@pytest.fixture
def sources(marked_once: Path, tmp_path: Path) -> Path:
    """A folder with scans of `markers.write_sources`, of the test's own."""
    return shutil.copytree(marked_once, tmp_path / "in")
