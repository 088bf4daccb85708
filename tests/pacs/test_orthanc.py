"""There and back against a real Orthanc, by DICOMweb, C-GET and C-MOVE; dcmtk as a second client."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pynetdicom.dul import DULServiceProvider

from medrecon.errors import UsageError
from medrecon.pacs import Archive, ArchiveError, Node, Query, connect, pull, push
from medrecon.pacs.equal import same_object
from medrecon.pacs.pushing import Undelivered, outgoing
from medrecon.pacs.series import find_series

from .conftest import DICOM_PORT, Orthanc

Make = Callable[..., np.ndarray]
each_way = pytest.mark.parametrize("way", ["web", "dimse", "move"])


def at(orthanc: Orthanc, way: str) -> Archive:
    return connect(getattr(orthanc, way))


def by_uid(folder: Path) -> dict[str, Path]:
    files = {path: dcmread(path, stop_before_pixels=True) for path in folder.rglob("*.dcm")}
    return {str(header.SOPInstanceUID): path for path, header in files.items()}


def send(orthanc: Orthanc, way: str, folder: Path) -> tuple[int, int]:
    (series,), _ = outgoing([folder])
    with at(orthanc, way) as archive:
        result = push(archive, series)
    return result.sent, result.there


@each_way
def test_there_and_back_all_is_equal(way: str, orthanc: Orthanc, tmp_path: Path, make_ct: Make) -> None:
    make_ct(tmp_path / "ct", patient="Ångström^Åsa".encode("ascii", "ignore").decode())
    assert send(orthanc, way, tmp_path / "ct") == (6, 0)
    assert send(orthanc, way, tmp_path / "ct") == (0, 6)
    assert orthanc.count("instances") == 6
    sent = by_uid(tmp_path / "ct")
    with at(orthanc, way) as archive:
        archive.echo()
        (series,) = find_series(archive, Query(patient="ID-4711", date="20240101-20240131", modality="CT"))
        assert (series.count, series.date, series.description) == (6, "20240102", "Chest 1.0")
        result = pull(archive, series, tmp_path / "out")
        assert pull(archive, series, tmp_path / "out").fetched == 0
    here = by_uid(result.path)
    assert here.keys() == sent.keys()
    for uid, path in here.items():
        assert same_object(dcmread(path), dcmread(sent[uid]))
        theirs = dcmread(BytesIO(orthanc.file(orthanc.instances()[uid])))
        assert theirs.PixelData == dcmread(sent[uid]).PixelData


@each_way
def test_what_is_missing_is_fetched_alone(way: str, orthanc: Orthanc, tmp_path: Path, make_ct: Make) -> None:
    make_ct(tmp_path / "ct")
    send(orthanc, "web", tmp_path / "ct")
    with at(orthanc, way) as archive:
        (series,) = find_series(archive, Query(patient="ID-4711"))
        whole = pull(archive, series, tmp_path / "out").path
        part = whole.with_name(f".{whole.name}.medrecon-pull")
        whole.rename(part)
        for path in sorted(part.iterdir())[:2]:
            path.unlink()
        assert pull(archive, series, tmp_path / "out").fetched == 2
    assert len(by_uid(whole)) == 6


@each_way
def test_queries_narrow(way: str, orthanc: Orthanc, tmp_path: Path, make_ct: Make) -> None:
    make_ct(tmp_path / "a", patient="Doe^Jane")
    make_ct(tmp_path / "b", seed=1, description="Head", number=4)
    orthanc.add(tmp_path)
    with at(orthanc, way) as archive:

        def found(**asked: str) -> int:
            return len(find_series(archive, Query(**asked)))

        assert found(patient="ID-*") == found(modality="CT") == found(date="20240102") == 2
        assert found(description="*CHEST*") == 1
        assert found(patient="ID-*", description="head") == 1
        assert found(patient="4711") == found(modality="MR") == found(date="20250101-") == 0
        (series,) = find_series(archive, Query(patient="ID-4711", description="head"))
        assert find_series(archive, Query(study=series.study))[0].uid == series.uid
        assert find_series(archive, Query(series=series.uid))[0].study == series.study
        with pytest.raises(UsageError, match="more than 1 studies match"):
            find_series(archive, Query(modality="CT"), limit=1)
        assert found(study="1.2.3") == found(series="1.2.3") == 0


@each_way
def test_another_object_with_a_uid_that_is_there_is_refused(
    way: str, orthanc: Orthanc, tmp_path: Path, make_ct: Make
) -> None:
    make_ct(tmp_path / "ct")
    send(orthanc, "web", tmp_path / "ct")
    path = next((tmp_path / "ct").iterdir())
    changed = dcmread(path)
    changed.PixelData = bytes(len(changed.PixelData))
    changed.save_as(path)
    with pytest.raises(Undelivered, match="another object"):
        send(orthanc, way, tmp_path / "ct")


def test_compressed_pixels_come_as_they_are_stored(orthanc: Orthanc, tmp_path: Path, make_ct: Make) -> None:
    make_ct(tmp_path / "ct")
    for path in (tmp_path / "ct").iterdir():
        compressed = dcmread(path)
        compressed.compress("1.2.840.10008.1.2.5")
        compressed.save_as(path)
    sent = by_uid(tmp_path / "ct")
    for way in ("web", "dimse"):
        assert send(orthanc, way, tmp_path / "ct") in ((6, 0), (0, 6))
        with at(orthanc, way) as archive:
            (series,) = find_series(archive, Query(patient="ID-4711"))
            here = by_uid(pull(archive, series, tmp_path / way).path)
        for uid, path in here.items():
            assert same_object(dcmread(path), dcmread(sent[uid]))
            if way == "web":
                assert dcmread(path).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.5"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"aet": "ARCHIVE"}, "refuses the association \\(called ae title not recogni[sz]ed\\)"),
        ({"port": 9}, "cannot be reached at 127.0.0.1:9"),
        ({"tls": True}, "127.0.0.1:14242 (speaks no TLS|does not verify)"),
        ({"port": 18042, "timeout": 1.0}, "no DICOM association with 127.0.0.1:18042"),
    ],
)
def test_no_association_is_one_line(changes: dict[str, object], said: str, orthanc: Orthanc) -> None:
    given = {"host": "127.0.0.1", "port": DICOM_PORT, "aet": "ORTHANC", "timeout": 2.0, **changes}
    with connect(Node("a", **given)) as archive, pytest.raises(ArchiveError, match=said):  # type: ignore[arg-type]
        archive.echo()


def test_a_refusal_that_the_association_loses_is_told(
    orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a busy machine, where the connection is closed before it is looked at."""
    receive = DULServiceProvider.receive_pdu

    def lose(self: DULServiceProvider, wait: bool = False, timeout: float | None = None) -> None:
        receive(self, wait, timeout)

    monkeypatch.setattr(DULServiceProvider, "receive_pdu", lose)
    node = Node("a", host="127.0.0.1", port=DICOM_PORT, aet="ARCHIVE", timeout=2.0)
    with connect(node) as archive, pytest.raises(ArchiveError, match="refuses the association \\(called"):
        archive.echo()


def test_a_server_that_is_killed_while_it_sends(
    orthanc: Orthanc, tmp_path: Path, make_ct: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed by its connection: the association is aborted after the second instance."""
    make_ct(tmp_path / "ct")
    send(orthanc, "web", tmp_path / "ct")
    with at(orthanc, "dimse") as archive:
        (series,) = find_series(archive, Query(patient="ID-4711"))
        seen = 0

        def progress(done: int, of: int) -> None:
            nonlocal seen
            seen += 1
            if seen == 3:
                raise ArchiveError("the wire is cut")

        with pytest.raises(ArchiveError, match="the wire is cut; 2 of 6 instances"):
            pull(archive, series, tmp_path / "out", progress=progress)
        assert pull(archive, series, tmp_path / "out").fetched == 4


@pytest.mark.skipif(shutil.which("getscu") is None, reason="no dcmtk here: apt-get install dcmtk")
def test_dcmtk_reads_what_we_send_and_we_what_it_sends(
    orthanc: Orthanc, tmp_path: Path, make_ct: Make
) -> None:
    make_ct(tmp_path / "a")
    make_ct(tmp_path / "b", seed=1)
    send(orthanc, "dimse", tmp_path / "a")
    there = ["-aec", "ORTHANC", "127.0.0.1", str(DICOM_PORT)]
    subprocess.run(["storescu", "+sd", *there, tmp_path / "b"], check=True, timeout=30)
    assert orthanc.count("instances") == 12
    for name in ("a", "b"):
        sent = by_uid(tmp_path / name)
        study = str(dcmread(next(iter(sent.values()))).StudyInstanceUID)
        got = tmp_path / f"{name}-dcmtk"
        got.mkdir()
        keys = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]
        subprocess.run(["getscu", *keys, "-od", got, *there], check=True, timeout=30)
        with at(orthanc, "web") as archive:
            (series,) = find_series(archive, Query(study=study))
            ours = by_uid(pull(archive, series, tmp_path / f"{name}-ours").path)
        theirs = {str(dcmread(path).SOPInstanceUID): path for path in got.iterdir()}
        assert sent.keys() == ours.keys() == theirs.keys()
        for uid in sent:
            assert same_object(dcmread(ours[uid]), dcmread(theirs[uid]))
            assert same_object(dcmread(ours[uid]), dcmread(sent[uid]))
