"""What every format that is written promises; a format joins when it stands in `medrecon/io/formats.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medrecon.errors import OutputError
from medrecon.io import Derivation, find_one, plan_outputs, read_scan, write_volume
from medrecon.io.formats import ENDINGS, writer_of

from .conftest import write_series
from .nifti_edits import save, volume

NAMES = [f"out{ending}" for endings in ENDINGS.values() for ending in endings]
SOURCES = ("u1", "i2", "u2", "i4", "f4", "f8", "CT", "PT")
each_name = pytest.mark.parametrize("name", [*NAMES, "out"])
LEVEL = Derivation("net", "0.1.0", "ab" * 32, "level3", lossy=True)


def source(kind: str, folder: Path):
    if kind in ("CT", "PT"):
        write_series(folder / "in", kind, orientation="oblique", slopes=1.5 if kind == "PT" else 1.0)
        return find_one(folder / "in")
    save(folder / "in.nii", volume(kind))
    return find_one(folder / "in.nii")


def test_each_format_has_a_writer() -> None:
    assert all(writer_of(kind) for kind in ENDINGS)


@each_name
@pytest.mark.parametrize("kind", SOURCES)
def test_the_identity_is_exact(kind: str, name: str, tmp_path: Path) -> None:
    scan = source(kind, tmp_path)
    if name == "out" and scan.format != "dicom":
        return  # a DICOM series is made from DICOM alone
    target = plan_outputs([scan], ["input"], tmp_path / name)[scan.key, "input"]
    written = write_volume(read_scan(scan), scan, target)
    back = find_one(target)
    assert written.format == back.format
    assert np.array_equal(read_scan(back), read_scan(scan))
    assert read_scan(back).dtype == read_scan(scan).dtype
    assert np.abs(back.affine - scan.affine).max() < 1e-5
    assert set(written.sha256) == ({target.name} if target.is_file() else {p.name for p in target.iterdir()})


@each_name
def test_a_result_is_whole_or_not_there(name: str, tmp_path: Path) -> None:
    scan = source("CT", tmp_path)
    made = read_scan(scan).astype(np.float32)
    with pytest.raises(OutputError):
        write_volume(made[1:], scan, tmp_path / name)
    with pytest.raises(OutputError, match="not finite"):
        write_volume(made * np.nan, scan, tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    write_volume(made, scan, tmp_path / name)
    with pytest.raises(OutputError, match="exists already"):
        write_volume(made, scan, tmp_path / name)
    write_volume(made + 1, scan, tmp_path / name, overwrite=True, derivation=LEVEL)
    assert np.array_equal(read_scan(find_one(tmp_path / name)), read_scan(scan) + 1)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@each_name
def test_a_result_is_found_by_its_array_and_its_meta(name: str, tmp_path: Path) -> None:
    """MONAI's own way: `set_data_array` with a channel, `set_metadata`, `write`."""
    from monai.transforms import LoadImage

    from medrecon.io import DicomSeriesWriter, ScanReader
    from medrecon.io.formats import format_named

    scan = source("CT", tmp_path)
    image = LoadImage(reader=ScanReader(), dtype=None, ensure_channel_first=True)(scan.path)
    kind = format_named(name)
    writer = writer_of(kind)() if kind else DicomSeriesWriter()
    with pytest.raises(OutputError, match="nothing to write"):
        writer.write(tmp_path / name)
    writer.set_data_array(image)
    writer.set_metadata(image.meta)
    writer.write(tmp_path / name)
    assert np.array_equal(read_scan(find_one(tmp_path / name)), read_scan(scan))
