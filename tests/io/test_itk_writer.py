"""NRRD and MetaImage outputs: values, types and geometry as SimpleITK and medrecon read them back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medrecon.errors import OutputError
from medrecon.io import ItkWriter, find_one, read_scan, write_volume
from medrecon.io.itk import writing

from .nifti_edits import patch, save, volume

Make = Callable[..., np.ndarray]
NAMES = ("out.nrrd", "out.mha", "OUT.NRRD")


def written(scan, path: Path, values: np.ndarray | None = None, **options) -> sitk.Image:
    write_volume(read_scan(scan) if values is None else values, scan, path, **options)
    assert [entry for entry in path.parent.iterdir() if entry.name.startswith(".")] == []
    return sitk.ReadImage(str(path))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "f4", "f8", ">i2", ">f4"])
def test_the_identity_round_trip_is_exact(name: str, dtype: str, tmp_path: Path) -> None:
    data = volume(dtype.strip(">")) if np.dtype(dtype).itemsize < 8 else volume("i4").astype(dtype)
    save(tmp_path / "in.nii.gz", data.astype(dtype), order=">" if ">" in dtype else "<")
    source = find_one(tmp_path / "in.nii.gz")
    image = written(source, tmp_path / name)
    assert np.array_equal(sitk.GetArrayFromImage(image).transpose(2, 1, 0), data)
    assert sitk.GetArrayFromImage(image).dtype == np.dtype(dtype).newbyteorder("=")
    again = find_one(tmp_path / name)
    assert again.format == ("nrrd" if "nrrd" in name.lower() else "mha")
    assert np.array_equal(read_scan(again), read_scan(source))
    assert read_scan(again).dtype == read_scan(source).dtype
    assert np.abs(again.affine - source.affine).max() < 1e-9
    lps = image.TransformContinuousIndexToPhysicalPoint([3.0, 2.0, 1.0])
    assert np.allclose([-lps[0], -lps[1], lps[2], 1], source.affine @ [3, 2, 1, 1], atol=1e-9)


@pytest.mark.parametrize("name", NAMES[:2])
@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_a_series_as_one_file(name: str, modality: str, tmp_path: Path, make_series: Make) -> None:
    true = make_series(
        tmp_path / "x", modality, orientation="oblique", slopes=1.5 if modality == "PT" else 1.0
    )
    source = find_one(tmp_path / "x")
    image = written(source, tmp_path / name)
    assert np.allclose(sitk.GetArrayFromImage(image).transpose(2, 1, 0), true)
    assert np.abs(find_one(tmp_path / name).affine - source.affine).max() < 1e-9


@pytest.mark.parametrize("name", NAMES[:2])
@pytest.mark.parametrize(
    ("slope", "inter"),
    [(1, -1024), (2, -7), (0.37, -1024), (-1, 0), (1, -(2**41)), (7, 2**33), (2**-100, -(2**-64))],
)
def test_scaled_values_are_written_as_they_are(name: str, slope: float, inter: float, tmp_path: Path) -> None:
    save(tmp_path / "in.nii", volume("i2"))
    patch(tmp_path / "in.nii", 112, np.array([slope, inter], "<f4").tobytes())
    source = find_one(tmp_path / "in.nii")
    written(source, tmp_path / name)
    values, again = read_scan(source), read_scan(find_one(tmp_path / name))
    assert np.array_equal(again, values)
    assert again.dtype == values.dtype


@pytest.mark.parametrize("name", NAMES[:2])
def test_results_take_the_sources_type_where_they_fit(name: str, tmp_path: Path) -> None:
    save(tmp_path / "in.nii", (volume("u1") // 2).astype("u1"))
    source = find_one(tmp_path / "in.nii")
    made = read_scan(source).astype(np.float32) + 0.4
    assert written(source, tmp_path / name, made).GetPixelID() == sitk.sitkUInt8
    record = write_volume(made * -3, source, tmp_path / name, overwrite=True)
    assert (record.encoding, record.format) == ("int16", name.rpartition(".")[2])
    assert "do not fit the source's uint8" in record.warnings[0]
    with pytest.raises(OutputError, match="not finite"):
        write_volume(made * np.nan, source, tmp_path / name, overwrite=True)
    with pytest.raises(OutputError, match="exists already"):
        write_volume(made, source, tmp_path / name)
    with pytest.raises(OutputError, match="does not fit the source"):
        write_volume(made[1:], source, tmp_path / name, overwrite=True)


@pytest.mark.parametrize("name", NAMES[:2])
def test_the_same_image_gives_the_same_bytes_and_no_identity(
    name: str, tmp_path: Path, make_series: Make
) -> None:
    make_series(tmp_path / "Doe Jane")
    source = find_one(tmp_path / "Doe Jane")
    first = write_volume(read_scan(source), source, tmp_path / name)
    data = (tmp_path / name).read_bytes()
    second = write_volume(read_scan(source), source, tmp_path / name, overwrite=True)
    assert first.sha256 == second.sha256
    for secret in (b"Doe", b"Jane", b"4711", b"1950"):
        assert secret not in data


@pytest.mark.parametrize("name", NAMES[:2])
def test_what_does_not_read_back_is_not_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "in.nii", volume())
    source = find_one(tmp_path / "in.nii")

    def other(scan) -> tuple[np.ndarray, list[str]]:
        return read_scan(source) + 1, []

    monkeypatch.setattr(writing, "read_text", other)
    with pytest.raises(OutputError, match=r"does not read back .*other values"):
        write_volume(read_scan(source), source, tmp_path / name)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.nii"]


def test_a_path_that_itk_cannot_take(tmp_path: Path) -> None:
    save(tmp_path / "in.nii", volume())
    source = find_one(tmp_path / "in.nii")
    folder = tmp_path / "b\udcffd"
    folder.mkdir()
    with pytest.raises(OutputError, match="no path that is not Unicode"):
        write_volume(read_scan(source), source, folder / "a.nrrd")
    write_volume(read_scan(source), source, folder / "a.nii.gz")
    assert [entry.name for entry in folder.iterdir()] == ["a.nii.gz"]
    for name in ("a.nrrd", "a.mha"):
        write_volume(read_scan(source), source, tmp_path / name)
        (tmp_path / name).rename(folder / name)
        assert np.array_equal(read_scan(find_one(folder / name)), volume())


def test_the_writer_in_monais_way(tmp_path: Path) -> None:
    save(tmp_path / "in.nii", volume())
    source = find_one(tmp_path / "in.nii")
    writer = ItkWriter()
    with pytest.raises(OutputError, match="nothing to write"):
        writer.write(tmp_path / "a.mha")
    writer.set_data_array(read_scan(source)[None])
    writer.set_scan(source)
    writer.write(tmp_path / "a.mha")
    assert np.array_equal(read_scan(find_one(tmp_path / "a.mha")), volume())
