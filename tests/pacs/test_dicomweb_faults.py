"""Servers that refuse, lie, vanish and change: one line, and nothing lost or doubled."""

from __future__ import annotations

import errno
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from medrecon.errors import OutputError, UsageError
from medrecon.pacs import ArchiveError, Node, Query, connect, pull, push
from medrecon.pacs.pushing import Undelivered, outgoing
from medrecon.pacs.series import SeriesInfo, find_series

from .small_pacs import SmallPacs, serving

Make = Callable[..., np.ndarray]
CT = Query(patient="ID-4711")


@pytest.fixture
def pacs(tmp_path: Path, make_ct: Make) -> Iterator[SmallPacs]:
    """A PACS that holds one CT of six slices."""
    make_ct(tmp_path / "ct", (128, 96, 6))
    small = SmallPacs()
    small.add(tmp_path / "ct")
    with serving(small) as running:
        yield running


def at(pacs: SmallPacs, **more: Any) -> Any:
    return connect(Node("a", url=pacs.url, timeout=1, **more))


def the_series(pacs: SmallPacs) -> SeriesInfo:
    with at(pacs) as archive:
        (series,) = find_series(archive, CT)
    return series


def pulled_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("study_*/CT_*/*.dcm"))


def test_an_answer_that_trickles_in_or_has_no_end(pacs: SmallPacs, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = time.monotonic()
    pacs.faults = {"drip"}
    with at(pacs) as archive, pytest.raises(ArchiveError, match=r"no answer from .* within 1 s"):
        find_series(archive, CT)
    assert time.monotonic() - begun < 20, "it would take 100 s to its end"
    begun = time.monotonic()
    pacs.faults = {"drip of headers"}
    with at(pacs) as archive, pytest.raises(ArchiveError, match=r"no answer from .* within 1 s"):
        find_series(archive, CT)
    assert time.monotonic() - begun < 20, "it would take 100 s to its end"
    monkeypatch.setattr("medrecon.pacs.transport._MOST_TEXT", 1 << 18)
    pacs.faults = {"huge"}
    with at(pacs) as archive, pytest.raises(ArchiveError, match="its answer has no end"):
        find_series(archive, CT)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("slow", "no answer from 127.0.0.1:.* within 1 s"),
        ("login", "refuses us \\(HTTP 401\\)"),
        ("broken", "answers HTTP 500"),
        ("elsewhere", "sends us to another address"),
        ("page", "answers what is no DICOMweb"),
        ("list", "answers what is no DICOMweb"),
    ],
)
def test_an_answer_that_is_none_is_one_line(fault: str, said: str, pacs: SmallPacs) -> None:
    pacs.faults = {fault}
    with at(pacs) as archive, pytest.raises(ArchiveError) as refused:
        find_series(archive, CT)
    assert re.search(said, str(refused.value))
    assert str(refused.value).startswith("pacs:a: ")
    assert "4711" not in str(refused.value), "what was asked for is nobody's business"


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        node = Node("a", url=f"http://127.0.0.1:{free.getsockname()[1]}/x", timeout=1)
        with connect(node) as archive, pytest.raises(ArchiveError, match=r"cannot be reached .*refused"):
            archive.echo()


def test_a_count_that_is_not_that_of_the_list_is_noticed(pacs: SmallPacs, tmp_path: Path) -> None:
    pacs.faults = {"count"}
    series = the_series(pacs)
    with at(pacs) as archive:
        with pytest.raises(ArchiveError, match="9 instances by its count, and 6 are listed"):
            pull(archive, series, tmp_path / "out")
        assert pull(archive, series, tmp_path / "out", any_count=True).fetched == 6


def test_what_is_listed_and_not_sent_is_noticed(pacs: SmallPacs, tmp_path: Path) -> None:
    series = the_series(pacs)
    pacs.faults = {"phantom"}
    with at(pacs) as archive:
        with pytest.raises(ArchiveError, match=r"lists 7 instances of CT_.* does not send 1"):
            pull(archive, series, tmp_path / "out", any_count=True)
        assert pulled_files(tmp_path / "out") == []
        pacs.faults = set()
        pacs.requests.clear()
        assert pull(archive, series, tmp_path / "out").instances == 6
    assert not [path for path in pacs.requests if "?" not in path], "all six were kept"


@pytest.mark.parametrize(
    ("fault", "said"), [("other", "an instance of another series"), ("junk", "no DICOM")]
)
def test_what_was_not_asked_for_is_not_kept(fault: str, said: str, pacs: SmallPacs, tmp_path: Path) -> None:
    series = the_series(pacs)
    pacs.faults = {fault}
    with at(pacs) as archive, pytest.raises(ArchiveError, match=said):
        pull(archive, series, tmp_path / "out")
    assert not list(tmp_path.glob("out/**/*.dcm"))


def test_a_server_that_vanishes_costs_only_what_was_under_way(pacs: SmallPacs, tmp_path: Path) -> None:
    series = the_series(pacs)
    pacs.faults = {"vanish"}
    with at(pacs) as archive:
        with pytest.raises(ArchiveError, match=r"connection broke in the middle; [1-5] of 6 instances"):
            pull(archive, series, tmp_path / "out")
        assert pulled_files(tmp_path / "out") == []
        kept = len(list(tmp_path.glob("out/**/*.dcm")))
        assert 0 < kept < 6
        pacs.faults = set()
        result = pull(archive, series, tmp_path / "out")
    assert result.fetched == 6 - kept
    assert len(pulled_files(tmp_path / "out")) == 6
    assert not list(tmp_path.glob("out/**/.*"))
    with at(pacs) as archive:
        assert pull(archive, series, tmp_path / "out").fetched == 0


def test_a_series_that_grows_while_it_is_pulled_comes_whole(pacs: SmallPacs, tmp_path: Path) -> None:
    uid, late = pacs.held.popitem()
    series = the_series(pacs)

    def grow(path: str) -> None:
        if "?" not in path:
            pacs.held.setdefault(uid, late)

    pacs.before = grow
    with at(pacs) as archive:
        assert pull(archive, series, tmp_path / "out").instances == 6
    assert len(pulled_files(tmp_path / "out")) == 6


def test_a_series_that_loses_instances_while_it_is_pulled_is_refused(pacs: SmallPacs, tmp_path: Path) -> None:
    series = the_series(pacs)
    listings = 0

    def lose(path: str) -> None:
        nonlocal listings
        listings += "instances?" in path
        if listings == 3 and len(pacs.held) == 6:
            pacs.held.popitem()

    pacs.before = lose
    with (
        at(pacs) as archive,
        pytest.raises(ArchiveError, match="changed while it was pulled: 1 of 6 instances"),
    ):
        pull(archive, series, tmp_path / "out")
    with at(pacs) as archive:
        assert pull(archive, the_series(pacs), tmp_path / "out").instances == 5


def test_a_patient_that_is_corrected_between_two_pulls_is_noticed(pacs: SmallPacs, tmp_path: Path) -> None:
    series = the_series(pacs)
    pacs.faults = {"vanish"}
    with at(pacs) as archive:
        with pytest.raises(ArchiveError):
            pull(archive, series, tmp_path / "out")
        pacs.faults = set()
        pacs.held = {uid: data.replace(b"ID-4711", b"ID-4712") for uid, data in pacs.held.items()}
        with pytest.raises(ArchiveError, match="name several patients"):
            pull(archive, series, tmp_path / "out")
        assert not list(tmp_path.glob("out/**/*.dcm"))
        assert pull(archive, series, tmp_path / "out").fetched == 6


def test_a_copy_of_other_instances_is_kept_unless_told(pacs: SmallPacs, tmp_path: Path) -> None:
    with at(pacs) as archive:
        pull(archive, the_series(pacs), tmp_path / "out")
        pacs.held.popitem()
        with pytest.raises(OutputError, match="other instances than the 5"):
            pull(archive, the_series(pacs), tmp_path / "out")
        assert len(pulled_files(tmp_path / "out")) == 6
        pull(archive, the_series(pacs), tmp_path / "out", overwrite=True)
    assert len(pulled_files(tmp_path / "out")) == 5


def test_a_full_disk_is_told_and_what_is_there_stays(
    pacs: SmallPacs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = the_series(pacs)
    write = Path.write_bytes
    written = 0

    def fill(self: Path, data: bytes) -> int:
        nonlocal written
        written += 1
        if written > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    with at(pacs) as archive:
        monkeypatch.setattr(Path, "write_bytes", fill)
        with pytest.raises(OutputError, match="No space left"):
            pull(archive, series, tmp_path / "out")
        monkeypatch.undo()
        assert pull(archive, series, tmp_path / "out").fetched == 3


def test_too_many_studies_are_refused(pacs: SmallPacs, tmp_path: Path, make_ct: Make) -> None:
    for seed in (1, 2):
        make_ct(tmp_path / str(seed), seed=seed)
        pacs.add(tmp_path / str(seed))
    with at(pacs) as archive:
        with pytest.raises(UsageError, match="more than 2 studies match; narrow it"):
            find_series(archive, CT, limit=2)
        assert len(find_series(archive, CT, limit=3)) == 3
        with pytest.raises(UsageError, match="nothing says which"):
            find_series(archive, Query())
    assert any("limit=3" in path for path in pacs.requests), "no more than needed is asked for"


def test_a_server_that_repeats_its_first_page_for_ever_ends(pacs: SmallPacs) -> None:
    pacs.faults = {"endless"}
    assert the_series(pacs).count == 6


def test_pushing_what_is_there_sends_nothing(pacs: SmallPacs, tmp_path: Path) -> None:
    (series,), _ = outgoing([tmp_path / "ct"])
    with at(pacs) as archive:
        first = push(archive, series)
        assert (first.sent, first.there) == (0, 6)
        pacs.held.popitem()
        pacs.requests.clear()
        again = push(archive, series)
        assert (again.sent, again.there) == (1, 5)
    assert pacs.requests.count("POST") == 1


def test_another_object_with_the_same_uid_is_never_replaced(pacs: SmallPacs, tmp_path: Path) -> None:
    (series,), _ = outgoing([tmp_path / "ct"])
    uid = next(iter(pacs.held))
    pacs.held[uid] = pacs.held[uid].replace(b"19500101", b"19500102")
    pacs.held.popitem()
    with at(pacs) as archive, pytest.raises(Undelivered, match="another object with the UID"):
        push(archive, series)
    assert "POST" not in pacs.requests


def test_a_refused_instance_is_named_with_its_reason(pacs: SmallPacs, tmp_path: Path) -> None:
    (series,), _ = outgoing([tmp_path / "ct"])
    pacs.refused = {next(iter(pacs.held))}
    pacs.held.clear()
    with at(pacs) as archive:
        result = push(archive, series)
    assert (result.sent, len(result.refused)) == (5, 1)
    assert result.refused[0][1] == "out of resources (A700)"
    pacs.refused |= set(pacs.held)
    pacs.held.clear()
    with at(pacs) as archive:
        assert len(push(archive, series).refused) == 6


def test_a_server_that_dies_while_it_takes_is_told_and_nothing_is_doubled(
    pacs: SmallPacs, tmp_path: Path
) -> None:
    (series,), _ = outgoing([tmp_path / "ct"])
    pacs.held.clear()
    pacs.faults = {"dies"}
    with at(pacs) as archive:
        with pytest.raises(Undelivered, match="pacs:a: "):
            push(archive, series)
        pacs.faults = set()
        result = push(archive, series)
    assert (result.sent, result.there) == (3, 3)


def test_what_is_taken_and_not_kept_is_noticed(
    pacs: SmallPacs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medrecon.pacs.pushing._PAUSE", 0.001)
    (series,), _ = outgoing([tmp_path / "ct"])
    pacs.held.clear()
    pacs.faults = {"forgets"}
    with at(pacs) as archive, pytest.raises(Undelivered, match="of which 6 instances are not there"):
        push(archive, series)


def test_a_node_that_answers_no_query_gets_all(pacs: SmallPacs, tmp_path: Path) -> None:
    (series,), _ = outgoing([tmp_path / "ct"])
    with at(pacs, query=False) as archive:
        result = push(archive, series)
    assert (result.sent, result.seen) == (6, False)
    assert pacs.requests == ["POST"]


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """One that no authority has signed, for 127.0.0.1, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    made = tmp_path / "cert.pem", tmp_path / "key.pem"
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run([*command, "-keyout", made[1], "-out", made[0], *names], check=True, capture_output=True)
    return made


def test_tls_is_verified(tmp_path: Path, make_ct: Make, certificate: tuple[Path, Path]) -> None:
    make_ct(tmp_path / "ct")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    small = SmallPacs()
    small.add(tmp_path / "ct")
    with serving(small, lambda plain: context.wrap_socket(plain, server_side=True)) as pacs:
        with at(pacs) as archive, pytest.raises(ArchiveError, match=r"TLS .* does not verify .*self-signed"):
            archive.echo()
        with at(pacs, ca=str(certificate[0])) as archive:
            assert len(find_series(archive, CT)) == 1
        pacs.url = pacs.url.replace("127.0.0.1", "localhost")
        with (
            at(pacs, ca=str(certificate[0])) as archive,
            pytest.raises(ArchiveError, match="does not verify"),
        ):
            archive.echo()


def test_no_password_is_in_what_is_said_or_logged(
    pacs: SmallPacs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PACS_PASSWORD", "hush-hush")
    caplog.set_level("DEBUG")
    pacs.faults = {"login"}
    with (
        at(pacs, user="me", password_env="PACS_PASSWORD") as archive,
        pytest.raises(ArchiveError) as refused,
    ):
        archive.echo()
    assert "hush" not in str(refused.value) + caplog.text + repr(archive.node)


def test_what_arrives_is_what_was_stored(pacs: SmallPacs, tmp_path: Path) -> None:
    with at(pacs) as archive:
        result = pull(archive, the_series(pacs), tmp_path / "out")
    for path in result.path.iterdir():
        uid = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        assert dcmread(path) == dcmread(BytesIO(pacs.held[uid]))
