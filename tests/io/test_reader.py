"""`ScanReader` inside MONAI: the tensor, its meta, and a refusal that no other reader gets around."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import DataLoader, Dataset, decollate_batch, list_data_collate
from monai.transforms import LoadImage, LoadImaged

from medrecon.io import ScanError, ScanReader, ScanWarning, collect, find_one, find_scans, read_scan, scan_of
from medrecon.io.choices import with_hu
from medrecon.io.meta import scan_at
from medrecon.io.reader import contiguous

Make = Callable[..., np.ndarray]


def load(**options: object) -> LoadImaged:
    return LoadImaged(
        "image", reader="medrecon.io.ScanReader", dtype=None, ensure_channel_first=True, **options
    )


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_a_series_as_a_tensor(modality: str, tmp_path: Path, make_series: Make) -> None:
    true = make_series(
        tmp_path / "x", modality, intercept=-1024 if modality == "CT" else 0, orientation="oblique"
    )
    image = load()({"image": tmp_path / "x"})["image"]
    scan = find_one(tmp_path / "x")
    assert image.shape == (1, 14, 12, 5)
    assert image.dtype == torch.int16
    assert np.array_equal(image[0].numpy(), true)
    assert image.is_contiguous()
    assert torch.equal(image.affine, torch.as_tensor(scan.affine))
    assert image.affine.dtype == torch.float64
    assert image.meta["filename_or_obj"] == str(tmp_path / "x")
    assert image.meta["units"] == {"CT": "HU", "MR": "", "PT": "BQML"}[modality]
    assert image.meta["modality"] == modality
    assert image.meta["volume"] == -1
    assert image.meta["scan_key"] == scan.key
    again = scan_of(image.meta)
    assert again == scan
    assert np.array_equal(read_scan(again), true)


def test_default_dtype_is_monais(tmp_path: Path, make_series: Make) -> None:
    true = make_series(tmp_path / "x")
    image = LoadImage(reader=ScanReader())(tmp_path / "x")
    assert image.dtype == torch.float32
    assert np.array_equal(image.numpy(), true)


def test_meta_survives_a_batch(tmp_path: Path, make_series: Make) -> None:
    make_series(tmp_path / "a")
    nib.save(
        nib.Nifti1Image(np.ones((14, 12, 5), np.int16) * 7, np.diag([1, 2, 3, 1])), tmp_path / "b.nii.gz"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScanWarning)
        items = [load()({"image": p}) for p in (tmp_path / "a", tmp_path / "b.nii.gz")]
        batch = list_data_collate(items)
        back = decollate_batch(batch)
        loaded = next(
            iter(DataLoader(Dataset([{"image": tmp_path / "a"}], load()), batch_size=1, num_workers=0))
        )
    for before, after in zip(items, back, strict=True):
        assert scan_of(after["image"].meta) == scan_of(before["image"].meta)
        for key in ("scan_key", "units", "notes", "description", "series_uid", "volume", "scan_options"):
            assert after["image"].meta[key] == before["image"].meta[key], key
    assert loaded["image"].shape == (1, 1, 14, 12, 5)


def test_a_scan_goes_through_load_image(tmp_path: Path, make_series: Make) -> None:
    first, second = make_series(tmp_path / "x", seed=1), make_series(tmp_path / "y", seed=2)
    for path in (tmp_path / "y").iterdir():
        path.rename(tmp_path / "x" / f"y{path.name}")
    for scan in find_scans(tmp_path / "x").scans:
        for expanduser in (True, False):  # MONAI hands over the address, or the scan itself
            image = load(expanduser=expanduser)({"image": scan})["image"]
            true = first if np.array_equal(read_scan(scan), first) else second
            assert np.array_equal(image[0].numpy(), true)
            assert scan_of(image.meta) == scan
    assert np.array_equal(ScanReader().get_data(ScanReader().read(scan))[0], read_scan(scan))


def test_volume_and_options_come_back_from_meta(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(5, 4, 3, 2)).astype(np.float32)
    data[0, 0, 0] = np.nan
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "a.nii")
    image = load(volume=1, replace_nonfinite=-3.0)({"image": tmp_path / "a.nii"})["image"]
    assert image[0, 0, 0, 0] == -3
    assert "set to -3" in image.meta["notes"]
    again = scan_of(image.meta)
    assert again.volume == 1
    assert np.array_equal(read_scan(again), image[0].numpy())
    assert os.fspath(again).endswith(
        f"a.nii#scan={again.key}&volume=1&options=%7B%22replace_nonfinite%22%3A%20-3.0%7D"
    )


FAULTS = ["missing", "gap", "text", "nan", "two"]


@pytest.mark.parametrize("fault", FAULTS)
def test_refusals_are_not_bypassed(fault: str, tmp_path: Path, make_series: Make) -> None:
    path = tmp_path / "in"
    if fault == "gap":
        make_series(path)
        (path / "074.dcm").unlink()
    elif fault == "text":
        path.write_text("x" * 500)
    elif fault == "nan":
        path = tmp_path / "in.nii"
        nib.save(nib.Nifti1Image(np.full((3, 3, 3), np.nan, np.float32), np.eye(4)), path)
    elif fault == "two":
        make_series(path)
        make_series(path / "more", "MR", intercept=0)
    for call in (
        lambda: LoadImage(reader=ScanReader())(path),
        lambda: LoadImage(reader=ScanReader)(path),
        lambda: LoadImage()(path, reader=ScanReader()),
    ):
        with pytest.raises(ScanError, match="in") as caught:
            call()
        assert caught.value.path is not None
        assert caught.value.remedy
    with pytest.raises(Exception, match="in") as caught_d:
        load()({"image": path})
    assert isinstance(caught_d.value, ScanError) or isinstance(caught_d.value.__cause__, ScanError)


def test_an_unexpected_fault_is_a_refusal_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nib.save(nib.Nifti1Image(np.eye(3, dtype=np.int16)[None], np.eye(4)), tmp_path / "a.nii")

    def fail(_: object) -> None:
        raise KeyError("inside")

    monkeypatch.setattr("medrecon.io.reader.load", fail)
    with pytest.raises(ScanError, match=r"a\.nii: cannot be read \(KeyError: 'inside'\)"):
        LoadImage(reader=ScanReader())(tmp_path / "a.nii")


def test_moved_source_is_refused(tmp_path: Path, make_series: Make) -> None:
    make_series(tmp_path / "x")
    meta = load()({"image": tmp_path / "x"})["image"].meta
    (tmp_path / "x").rename(tmp_path / "y")
    with pytest.raises(ScanError, match="No such file"):
        scan_of(meta)
    make_series(tmp_path / "x", seed=5)
    with pytest.raises(ScanError, match="moved or changed"):
        scan_of(meta)


@pytest.mark.parametrize("name", ["a.nii", "a.nrrd", "a.mha"])
def test_another_file_at_its_place_is_refused(name: str, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    sitk.WriteImage(image, str(tmp_path / name))
    meta = load()({"image": tmp_path / name})["image"].meta
    assert scan_of(meta).shape == (4, 3, 2)
    image.SetOrigin((0.5, 0, 0))
    sitk.WriteImage(image, str(tmp_path / name))
    with pytest.raises(ScanError, match="lies elsewhere now"):
        scan_of(meta)
    sitk.WriteImage(image[:, :, :1], str(tmp_path / name))
    with pytest.raises(ScanError, match=r"is \(4, 3, 1\) now, \(4, 3, 2\) was read"):
        scan_of(meta)


def test_a_part_of_a_series_comes_back_as_that_part(tmp_path: Path, make_series: Make) -> None:
    make_series(tmp_path / "x")
    scan = find_one([tmp_path / "x" / name for name in ("000.dcm", "037.dcm", "074.dcm")])
    _, meta = ScanReader().get_data(scan)
    assert scan_of(meta).files == scan.files
    assert np.array_equal(scan_of(meta).affine, scan.affine)
    (tmp_path / "x" / "037.dcm").unlink()
    with pytest.raises(ScanError, match="No such file"):
        scan_of(meta)


def test_what_the_user_said_of_a_scan_is_not_forgotten(tmp_path: Path) -> None:
    """However many scans there are: what is known of each travels with it."""
    nib.save(nib.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), np.eye(4)), tmp_path / "a.nii")
    first = with_hu(find_one(tmp_path / "a.nii"))
    for _ in range(1100):
        other = find_one(tmp_path / "a.nii")
        assert other.units == ""
        ScanReader().get_data(other)
    for expanduser in (True, False):
        meta = load(expanduser=expanduser)({"image": first})["image"].meta
        assert (meta["units"], meta["modality"]) == ("HU", "CT")
        assert scan_of(meta) == first
    assert scan_at(os.fspath(first)) == first
    assert scan_of(ScanReader().get_data(other)[1]).units == ""


def test_a_broken_address_is_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((2, 2, 2), np.int16), np.eye(4)), tmp_path / "a.nii")
    scan = find_one(tmp_path / "a.nii")
    for options in ("x", "%7B%22no%22%3A1%7D", "3"):
        with pytest.raises(ScanError, match="options are broken"):
            scan_at(f"{scan}&options={options}")
    assert scan_at(str(tmp_path / "a.nii")) is None


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_the_way_back_reads_no_header_of_another_series(
    modality: str, tmp_path: Path, make_series: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(6):
        make_series(tmp_path / str(seed), modality, seed=seed, intercept=0)
        for path in (tmp_path / str(seed)).iterdir():
            path.rename(tmp_path / f"{seed}_{path.name}")
        (tmp_path / str(seed)).rmdir()
    scans = find_scans(tmp_path).scans
    read: list[Path] = []
    real = collect.read_header

    def count(path: Path, *more: object) -> object:
        read.append(path)
        return real(path, *more)

    monkeypatch.setattr(collect, "read_header", count)
    items = [load(expanduser=False)({"image": scan})["image"] for scan in scans]
    assert not read
    for image, scan in zip(items, scans, strict=True):
        read.clear()
        assert scan_of(image.meta) == scan
        assert sorted(read) == sorted(scan.files)


def test_what_is_noticed_is_warned_of(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.int16), np.eye(4)), tmp_path / "a.nii")
    with pytest.warns(ScanWarning, match="all voxels have the same value"):
        image = load()({"image": tmp_path / "a.nii"})["image"]
    assert "all voxels have the same value" in image.meta["notes"]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.float32, np.float64])
def test_contiguous(dtype: type) -> None:
    values = np.random.default_rng(0).integers(0, 200, (4, 5, 6)).astype(dtype)
    threads = torch.get_num_threads()
    for view in (values, values.transpose(2, 1, 0), np.asfortranarray(values)):
        turned = contiguous(view)
        assert turned.flags.c_contiguous
        assert np.array_equal(turned, view)
        assert torch.get_num_threads() == threads
    assert contiguous(np.full((2, 2, 2), 65535, np.uint16)).max() == 65535


@pytest.mark.parametrize("threads", [1, 2, 3, 64])
@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (1, 1, 1), (7, 1, 70), (70, 3, 60), (61, 5, 130)])
def test_contiguous_in_as_many_threads_as_torch_has(shape: tuple[int, int, int], threads: int) -> None:
    values = np.arange(np.prod(shape), dtype=np.int32).reshape(shape[::-1]).T
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            assert np.array_equal(contiguous(values), values)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_contiguous_needs_no_thread_beside_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a DataLoader's worker, where torch has one thread; what fails in a thread fails here."""
    monkeypatch.setattr("threading.Thread.start", Mock(side_effect=RuntimeError("can't start new thread")))
    values = np.ones((4, 5, 6)).T
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    assert np.array_equal(contiguous(values), values)
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    with pytest.raises(RuntimeError, match="thread"):
        contiguous(values)


def test_contiguous_leaves_the_threads_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch keeps one number for the threads of a process: two readers must not change each other's."""
    monkeypatch.setattr("torch.set_num_threads", Mock(side_effect=AssertionError("changed")))
    assert np.array_equal(contiguous(np.ones((4, 5, 6)).T), np.ones((6, 5, 4)))


def test_a_volume_of_several_comes_back_from_its_files(tmp_path: Path, make_series: Make) -> None:
    """Two echoes slice by slice: what was read comes back as it was, whether its files are alone or not."""
    for echo in (0, 1):

        def change(image: object, index: int, echo: int = echo) -> None:
            image.EchoTime, image.EchoNumbers = str(10 + 80 * echo), str(echo + 1)
            image.SOPInstanceUID = f"{image.SOPInstanceUID}.{echo}"[-60:]

        make_series(tmp_path / f"{echo}", "MR", intercept=0, change=change)
        (tmp_path / "both").mkdir(exist_ok=True)
        for path in (tmp_path / f"{echo}").iterdir():
            path.rename(tmp_path / "both" / f"{echo}_{path.name}")
    for volume in (0, 1):
        (scan,) = find_scans(tmp_path / "both", volume=volume).scans
        image = load(expanduser=False)({"image": scan})["image"]
        again = scan_of(image.meta)
        assert (again.files, again.key, again.volume) == (scan.files, scan.key, scan.volume)
        assert np.array_equal(read_scan(again), image[0].numpy())
        assert scan_at(os.fspath(scan)) == scan
