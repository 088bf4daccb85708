"""Whole or not at all: errors, other runs, dead runs, kills and full disks."""

from __future__ import annotations

import errno
import importlib
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from medrecon.errors import OutputError
from medrecon.io import DicomSeriesWriter, NiftiWriter, find_one, find_scans, publish, read_scan
from medrecon.io.files.lock import FolderLock, put_aside, working_folder
from medrecon.io.scan import ScanError

FORK = multiprocessing.get_context("fork")
KILLS = int(os.environ.get("MEDRECON_KILLS", "6"))
SIZES = int(os.environ.get("MEDRECON_DISK_SIZES", "4"))


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def series(tmp_path, make_series):
    make_series(tmp_path / "in", shape=(96, 80, 12))
    return find_one(tmp_path / "in")


def write(scan, kind: str, path: Path, overwrite: bool = False, add: int = 0):
    writer = (DicomSeriesWriter if kind == "dicom" else NiftiWriter)(overwrite=overwrite)
    writer.set_data_array(read_scan(scan) + np.int16(add), channel_dim=None)
    writer.set_scan(scan)
    return writer.write(path)


def target(kind: str, folder: Path) -> Path:
    return folder / ("out" if kind == "dicom" else "out.nii.gz")


def test_a_file_appears_when_the_block_ends(tmp_path):
    final = tmp_path / "deep" / "out.txt"
    with publish(final) as part:
        part.write_text("whole")
        assert not final.exists()
        assert part.parent.parent == final.parent
        assert part.parent.name.startswith(".")
    assert final.read_text() == "whole"
    assert entries(final.parent) == ["out.txt"]


def test_nothing_appears_when_the_block_raises(tmp_path):
    def half() -> None:
        with publish(tmp_path / "out") as part:
            part.mkdir()
            (part / "a").write_text("half")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        half()
    assert entries(tmp_path) == []


def test_what_exists_is_not_touched_without_overwrite(tmp_path):
    final = tmp_path / "out"
    final.write_text("old")
    with pytest.raises(OutputError, match="exists already"), publish(final) as part:
        part.write_text("new")
    assert final.read_text() == "old"


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path):
    final = tmp_path / "out"
    final.write_text("old")

    def half() -> None:
        with publish(final, overwrite=True) as part:
            part.write_text("new")
            assert final.read_text() == "old"
            raise KeyError

    with pytest.raises(KeyError):
        half()
    assert final.read_text() == "old"
    with publish(final, overwrite=True) as part:
        part.write_text("new")
    assert final.read_text() == "new"
    assert entries(tmp_path) == ["out"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_series_replaces_a_series(tmp_path, series, monkeypatch, exchange):
    if not exchange:
        module = importlib.import_module(
            "medrecon.io.files.publish"
        )  # the package has the function of that name
        monkeypatch.setattr(module, "_exchange", lambda one, other: False)
    write(series, "dicom", tmp_path / "out")
    (tmp_path / "out" / "IM00012.dcm").rename(tmp_path / "out" / "IM99999.dcm")
    write(series, "dicom", tmp_path / "out", overwrite=True, add=1)
    again = find_one(tmp_path / "out")
    assert len(entries(tmp_path / "out")) == 12
    assert np.array_equal(read_scan(again), read_scan(series) + 1)
    assert entries(tmp_path) == ["in", "out"]


def test_a_folder_of_others_is_never_replaced(tmp_path, series, make_series):
    make_series(tmp_path / "theirs")
    with pytest.raises(OutputError, match="did not write"):
        write(series, "dicom", tmp_path / "theirs", overwrite=True)
    assert len(entries(tmp_path / "theirs")) == 5


def test_an_output_that_appears_meanwhile_is_kept(tmp_path):
    final = tmp_path / "out"

    def late() -> None:
        with publish(final) as part:
            part.write_text("mine")
            final.write_text("theirs")

    with pytest.raises(OutputError, match="exists already"):
        late()
    assert final.read_text() == "theirs"


def hold(final: Path, ready, leave) -> None:
    with publish(final) as part:
        part.write_text("first")
        ready.set()
        leave.wait(30)


def test_of_two_runs_the_second_refuses(tmp_path):
    ready, leave = FORK.Event(), FORK.Event()
    first = FORK.Process(target=hold, args=(tmp_path / "out", ready, leave))
    first.start()
    assert ready.wait(30)
    with (
        pytest.raises(OutputError, match=rf"another run is writing it \(process {first.pid} on"),
        publish(tmp_path / "out"),
    ):
        pytest.fail("two runs write one output")
    with publish(tmp_path / "other") as part:  # its sweep leaves the live run alone
        part.write_text("beside")
    leave.set()
    first.join(30)
    assert (tmp_path / "out").read_text() == "first"
    assert entries(tmp_path) == ["other", "out"]


def test_leftovers_of_dead_runs_are_swept(tmp_path):
    final = tmp_path / "out"
    process = FORK.Process(target=hold, args=(final, FORK.Event(), FORK.Event()))
    process.start()
    while not working_folder(final).joinpath("new").exists():
        time.sleep(0.01)
    process.kill()
    process.join()
    assert working_folder(final).exists()
    with publish(tmp_path / "another") as part:
        part.write_text("")
    assert entries(tmp_path) == ["another"]


def test_what_is_not_finished_is_not_read(tmp_path, series):
    write(series, "dicom", tmp_path / "all" / "done")
    lock = FolderLock(working_folder(tmp_path / "all" / "out"), tmp_path / "all" / "out")
    lock.acquire()
    shutil.copytree(series.path, lock.folder / "new")
    found = find_scans(tmp_path / "all")
    lock.release()
    assert len(found.scans) == 1
    assert [item.path.name for item in found.left_out] == [".out.medrecon-part"]


@pytest.mark.parametrize("name", [b"out", b"M\xfcller"])
def test_an_old_series_comes_back_when_the_run_died_between_two_renames(tmp_path, series, name):
    final = tmp_path / os.fsdecode(name)
    write(series, "dicom", final)

    def die() -> None:
        lock = FolderLock(working_folder(final), final)
        lock.acquire()
        put_aside(lock.folder, final)
        os._exit(9)

    process = FORK.Process(target=die)
    process.start()
    process.join()
    assert not final.exists()
    with publish(tmp_path / "another") as part:
        part.write_text("")
    assert len(entries(final)) == 12


def test_long_names_have_a_working_folder_too(tmp_path):
    final = tmp_path / ("x" * 250)
    with publish(final) as part:
        part.write_text("")
    assert entries(tmp_path) == [final.name]


def check(scan, kind: str, folder: Path) -> bool:
    """Whether the output is there, and if so, whole."""
    final = target(kind, folder)
    if not final.exists():
        return False
    assert np.array_equal(read_scan(find_one(final)), read_scan(scan))
    return True


@pytest.mark.parametrize("kind", ["dicom", "nifti"])
def test_kills_at_random_moments(tmp_path, series, kind):
    """Nothing partial under a final name, and the next run completes and cleans up."""
    start = time.perf_counter()
    write(series, kind, target(kind, tmp_path / "timed"))
    usual = 1.2 * (time.perf_counter() - start) + 0.01
    rng = np.random.default_rng(0)
    died = 0
    for number in range(KILLS):
        folder = tmp_path / f"{number:02d}"
        folder.mkdir()
        process = FORK.Process(target=write, args=(series, kind, target(kind, folder)))
        process.start()
        time.sleep(float(rng.uniform(0, usual)))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        died += process.exitcode == -signal.SIGKILL
        usual *= 1 if process.exitcode else 0.8  # this machine is faster than it was when it was timed
        if not check(series, kind, folder):
            write(series, kind, target(kind, folder))
        assert check(series, kind, folder)
        with publish(folder / "after") as part:
            part.write_text("")
        assert entries(folder) == ["after", target(kind, folder).name]
    assert died >= KILLS // 2


@pytest.mark.parametrize("kind", ["dicom", "nifti"])
def test_kills_while_an_old_output_is_replaced(tmp_path, series, kind):
    """The final name holds the old one or the new one, always whole."""
    final = target(kind, tmp_path / "o")
    start = time.perf_counter()
    write(series, kind, final)
    usual = 1.2 * (time.perf_counter() - start) + 0.01
    rng = np.random.default_rng(1)
    values = read_scan(series)
    for number in range(max(2, KILLS // 2)):
        process = FORK.Process(target=write, args=(series, kind, final, True, number))
        process.start()
        time.sleep(float(rng.uniform(0.5, 1) * usual))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        offset = read_scan(find_one(final)).astype(np.int32) - values
        assert offset.min() == offset.max()
        with publish(tmp_path / "o" / "after", overwrite=True) as part:
            part.write_text("")
        assert entries(tmp_path / "o") == sorted(["after", final.name])


def limited(scan, kind: str, folder: Path, size: int, answer) -> None:
    """Write with a limit on the size of each file: the same error path as a full disk, without root."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        write(scan, kind, target(kind, folder))
    except OutputError as error:
        answer.put(str(error))
    else:
        answer.put("written")


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on the size of files there")
@pytest.mark.parametrize("kind", ["dicom", "nifti"])
def test_disk_full_at_many_sizes(tmp_path, series, kind):
    write(series, kind, target(kind, tmp_path / "whole"))
    whole = target(kind, tmp_path / "whole")
    largest = max(file.stat().st_size for file in (whole.iterdir() if whole.is_dir() else [whole]))
    for number, size in enumerate(np.linspace(100, largest - 1, SIZES, dtype=int)):
        folder = tmp_path / f"{number:02d}"
        folder.mkdir()
        answer = FORK.Queue()
        process = FORK.Process(target=limited, args=(series, kind, folder, int(size), answer))
        process.start()
        said = answer.get(timeout=60)
        process.join()
        assert f"{target(kind, folder)}: cannot be written: {os.strerror(errno.EFBIG)}; free space" in said
        assert "\n" not in said
        assert entries(folder) == []


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="mounting a tmpfs needs root on Linux"
)
@pytest.mark.parametrize("kind", ["dicom", "nifti"])
def test_a_full_file_system_at_20_sizes(tmp_path, series, kind):
    write(series, kind, target(kind, tmp_path / "whole"))
    whole = target(kind, tmp_path / "whole")
    need = sum(file.stat().st_size for file in (whole.iterdir() if whole.is_dir() else [whole])) // 1024
    disk = tmp_path / "disk"
    disk.mkdir()
    for size in np.linspace(8, need - 4, 20, dtype=int):
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k,nr_inodes=64", "tmpfs", str(disk)]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("no tmpfs can be mounted here")
        try:
            with pytest.raises(OutputError, match=f"{os.strerror(errno.ENOSPC)}; free space"):
                write(series, kind, target(kind, disk))
            assert entries(disk) == []
        finally:
            subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_lies_is_noticed(tmp_path, series, monkeypatch):
    def spoil(file: Path) -> bytes:
        data = bytearray(file.read_bytes())
        data[-40] ^= 1
        file.write_bytes(bytes(data))
        return bytes(data)

    import medrecon.io.dicom.writing.writer as dicom
    import medrecon.io.nifti.writing as nifti

    check_file = nifti._check
    monkeypatch.setattr(dicom, "_read_back", spoil)
    monkeypatch.setattr(
        nifti, "_check", lambda head, data, part, *rest: (spoil(part), check_file(head, data, part, *rest))
    )
    for kind in ("dicom", "nifti"):
        with pytest.raises(OutputError, match="read back"):
            write(series, kind, target(kind, tmp_path))
    assert entries(tmp_path) == ["in"]


def test_a_source_that_vanishes_is_a_scan_error(tmp_path, series):
    values = read_scan(series)
    series.files[3].unlink()
    writer = DicomSeriesWriter()
    writer.set_data_array(values, channel_dim=None)
    writer.set_scan(series)
    with pytest.raises(ScanError, match=r"010\.dcm: cannot be read .*check its place"):
        writer.write(tmp_path / "out")
    assert entries(tmp_path) == ["in"]
