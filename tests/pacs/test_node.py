"""A node: whom it listens to, what it takes, what it does with it, and what a kill costs it."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from io import BytesIO
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import pytest
import requests
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian

from medrecon.cli.app import main
from medrecon.errors import ModelError, OutputError, UsageError
from medrecon.pacs import ArchiveError, Node, connect
from medrecon.pacs.node.intake import DUPLICATE, NO_ROOM, NOT_OURS, OK, UNREADABLE
from medrecon.pacs.node.multipart import NotMultipart, boundary_of, parts
from medrecon.pacs.node.service import Service
from medrecon.pacs.node.settings import Rule, Settings, read_settings
from medrecon.pacs.pushing import outgoing, push

from .small_pacs import SmallPacs, serving

Make = Callable[..., np.ndarray]
RULES = (Rule(name="chest", modality="CT", layers="coarse2", destination="research"),)


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


@pytest.fixture
def destination() -> Iterator[SmallPacs]:
    with serving(SmallPacs()) as running:
        yield running


@pytest.fixture
def make_service(
    tmp_path: Path, tiny_bundle: Path, destination: SmallPacs
) -> Iterator[Callable[..., Service]]:
    """Makes a node on a spool of its own, with one rule for CT unless told otherwise."""
    made: list[Service] = []

    def make(**changes: object) -> Service:
        dicom, http = free_ports()
        given: dict[str, object] = {
            "calling_aets": ("CT1",),
            "dicom_port": dicom,
            "http_port": http,
            "stable_seconds": 0.01,
            "retry_seconds": 0.01,
            "min_free_gib": 0.0,
            "rules": tuple(Rule(**{**vars(rule), "bundle": str(tiny_bundle)}) for rule in RULES),
            **changes,
        }
        node = Node("research", url=destination.url, timeout=2)
        service = Service(
            Settings(**given),
            tmp_path / "spool",
            lambda name: connect(node),
            device="cpu",  # type: ignore[arg-type]
        )
        made.append(service)
        return service

    yield make
    for service in made:
        service.close()


def sender(service: Service, **changes: object) -> Node:
    port = service.settings.dicom_port
    given = {"host": "127.0.0.1", "port": port, "aet": "MEDRECON", "calling_aet": "CT1", "timeout": 3.0}
    return Node("node", query=False, **{**given, **changes})  # type: ignore[arg-type]


def send(service: Service, folder: Path, **changes: object) -> int:
    sent = 0
    with connect(sender(service, **changes)) as archive:
        for series in outgoing([folder])[0]:
            sent += push(archive, series).sent
    return sent


def instances(folder: Path, make_ct: Make) -> list[bytes]:
    """The six instances of a series, in order."""
    make_ct(folder)
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def arrive(service: Service, files: list[bytes]) -> None:
    """Have the node take instances in."""
    for data in files:
        assert service.intake.take(data, "CT1") == OK


def derived(pacs: SmallPacs) -> dict[str, int]:
    """Series -> how many instances of it are there."""
    counts: dict[str, int] = {}
    for header in pacs.headers():
        counts[str(header.SeriesInstanceUID)] = counts.get(str(header.SeriesInstanceUID), 0) + 1
    return counts


def test_a_series_goes_through_once(
    make_service: Callable[..., Service], destination: SmallPacs, tmp_path: Path, make_ct: Make
) -> None:
    make_ct(tmp_path / "ct")
    service = make_service(keep_hours=0.0)
    orphan = tmp_path / "spool" / "series" / "0123456789abcdef" / "left.dcm"
    orphan.parent.mkdir(parents=True)
    orphan.touch()
    with service.listening():
        assert send(service, tmp_path / "ct") == 6
        service.run(until_idle=True)
        assert not orphan.exists(), "what a killed node left goes"
        assert list(derived(destination).values()) == [6]
        assert send(service, tmp_path / "ct") == 6
        service.run(until_idle=True)
        service.run(until_idle=True)
    assert set(destination.stored.values()) == {1}
    assert service.queue.counts() == {"gathering": 0, "waiting": 0, "done": 1, "failed": 0, "ignored": 0}
    assert not list((tmp_path / "spool").rglob("*.dcm")), "what is done goes"
    source = dcmread(next((tmp_path / "ct").iterdir()), stop_before_pixels=True)
    assert {str(header.StudyInstanceUID) for header in destination.headers()} == {
        str(source.StudyInstanceUID)
    }


def test_what_it_has_made_itself_does_not_go_round(
    make_service: Callable[..., Service], destination: SmallPacs, tmp_path: Path, make_ct: Make
) -> None:
    make_ct(tmp_path / "ct")
    service = make_service()
    with service.listening():
        send(service, tmp_path / "ct")
        service.run(until_idle=True)
        for data in destination.held.values():
            assert service.intake.take(data, "CT1") == OK
        service.run(until_idle=True)
    assert len(derived(destination)) == 1


def test_time_while_it_is_down_is_no_silence_of_the_sender(
    make_service: Callable[..., Service], destination: SmallPacs, tmp_path: Path, make_ct: Make
) -> None:
    files = instances(tmp_path / "ct", make_ct)
    killed = make_service(stable_seconds=0.3)
    arrive(killed, files[:3])
    killed.close()
    time.sleep(0.4)
    service = make_service(stable_seconds=0.3)
    begun: list[int] = []

    def go_on() -> None:
        begun.append(len(service.queue.jobs()))
        arrive(service, files[3:])

    threading.Timer(0.1, go_on).start()
    service.run(until_idle=True)
    assert begun == [0]
    assert list(derived(destination).values()) == [6]


def test_an_instance_whose_answer_was_lost_is_no_series_of_its_own(
    make_service: Callable[..., Service], destination: SmallPacs, tmp_path: Path, make_ct: Make
) -> None:
    files = instances(tmp_path / "ct", make_ct)
    service = make_service(keep_hours=0.0)
    arrive(service, files)
    service.run(until_idle=True)
    assert service.intake.take(files[-1], "CT1") == OK
    service.run(until_idle=True)
    assert service.queue.counts() == {"gathering": 0, "waiting": 0, "done": 1, "failed": 0, "ignored": 0}
    assert list(derived(destination).values()) == [6]
    assert set(destination.stored.values()) == {1}


def test_instances_that_come_late_make_a_series_of_their_own(
    make_service: Callable[..., Service], destination: SmallPacs, tmp_path: Path, make_ct: Make
) -> None:
    files = instances(tmp_path / "ct", make_ct)
    service = make_service()
    arrive(service, files[:4])
    service.run(until_idle=True)
    arrive(service, files[4:])
    service.run(until_idle=True)
    service.run(until_idle=True)
    assert sorted(derived(destination).values()) == [4, 6]
    assert set(destination.stored.values()) == {1}
    assert service.queue.counts()["done"] == 1
    told = {
        "more instances of its source" in header.DerivationDescription for header in destination.headers()
    }
    assert told == {False, True}
    assert len({header.FrameOfReferenceUID for header in destination.headers()}) == 1


def test_more_of_a_series_whose_files_are_gone_wants_all_of_it(
    make_service: Callable[..., Service], destination: SmallPacs, tmp_path: Path, make_ct: Make
) -> None:
    files = instances(tmp_path / "ct", make_ct)
    service = make_service(keep_hours=0.0)
    arrive(service, files[:4])
    service.run(until_idle=True)
    arrive(service, files[4:])
    service.run(until_idle=True)
    assert service.queue.counts()["failed"] == 1
    assert "4 of its instances are no longer here: send the whole series" in service.queue.jobs()[0].reason
    arrive(service, files)
    service.run(until_idle=True)
    assert service.queue.counts()["done"] == 1
    assert service.queue.counts()["failed"] == 0
    assert sorted(derived(destination).values()) == [4, 6]


def test_a_result_half_sent_is_sent_to_its_end_when_more_has_come(
    make_service: Callable[..., Service], destination: SmallPacs, tmp_path: Path, make_ct: Make
) -> None:
    files = instances(tmp_path / "ct", make_ct)
    service = make_service(retry_seconds=0.3)
    arrive(service, files[:4])
    destination.faults = {"dies"}

    def come_late(path: str) -> None:
        if len(destination.held) > 2:
            destination.faults = {"broken"}
            arrive(service, files[4:])
            destination.before = recover

    def recover(path: str) -> None:
        destination.faults = set()

    destination.before = come_late
    service.run(until_idle=True)
    assert service.watch.retried >= 1
    assert sorted(derived(destination).values()) == [4, 6]
    assert service.queue.counts()["done"] == 1


def test_what_was_not_acknowledged_is_not_read(
    make_service: Callable[..., Service], destination: SmallPacs, tmp_path: Path, make_ct: Make
) -> None:
    make_ct(tmp_path / "ct")
    files = sorted((tmp_path / "ct").iterdir())
    service = make_service()
    for path in files[:5]:
        service.intake.take(path.read_bytes(), "CT1")
    uid = str(dcmread(files[5], stop_before_pixels=True).SeriesInstanceUID)
    (service.intake.folder(uid) / "killed.dcm").write_bytes(files[5].read_bytes())
    left = tmp_path / "spool" / "derived" / "of_a_job_that_ended"
    left.mkdir(parents=True)
    service.run(until_idle=True)
    assert list(derived(destination).values()) == [5]
    assert not left.exists(), "what a killed node left goes"


def test_only_who_is_named_may_send(
    make_service: Callable[..., Service], tmp_path: Path, make_ct: Make
) -> None:
    make_ct(tmp_path / "ct")
    service = make_service()
    with service.listening():
        for changes in ({"calling_aet": "STRANGER"}, {"aet": "OTHER"}):
            with connect(sender(service, **changes)) as archive, pytest.raises(ArchiveError, match="refuses"):
                archive.echo()
        with connect(sender(service)) as archive:
            archive.echo()
    with pytest.raises(ArchiveError, match="cannot be reached"), connect(sender(service)) as archive:
        archive.echo()


def test_a_port_that_is_taken_and_a_spool_that_is_in_use(make_service: Callable[..., Service]) -> None:
    service = make_service()
    with service.listening():
        with pytest.raises(OutputError, match="another run"):
            make_service()
        from medrecon.pacs.node.scp import start_scp

        with pytest.raises(UsageError, match="cannot listen"):
            start_scp(service.settings, service.intake)


def test_what_is_taken_in(make_service: Callable[..., Service], tmp_path: Path, make_ct: Make) -> None:
    make_ct(tmp_path / "ct")
    first, second, *_ = sorted((tmp_path / "ct").iterdir())
    service = make_service(max_instance_mib=1)
    take = service.intake.take
    assert take(first.read_bytes(), "CT1") == OK
    assert take(first.read_bytes(), "CT1") == OK
    other_encoding = dcmread(first)
    stream = BytesIO()
    other_encoding.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    other_encoding.save_as(stream)
    assert take(stream.getvalue(), "CT1") == OK, "the same in another encoding"
    assert take(first.read_bytes().replace(b"19500101", b"19500102"), "CT1") == DUPLICATE
    assert take(second.read_bytes()[:200], "CT1") == UNREADABLE
    assert take(b"", "CT1") == UNREADABLE
    assert (
        take(second.read_bytes().replace(b"1.2.840.10008.5.1.4.1.1.2", b"1.2.840.10008.5.1.4.1.1.7"), "")
        == NOT_OURS
    )
    assert take(bytes((1 << 20) + 1), "CT1") == NO_ROOM
    assert service.queue.gathering()[0][3] == 1
    assert (service.intake.received, service.intake.refused) == (3, 5)


def test_nothing_is_taken_on_a_full_disk(
    make_service: Callable[..., Service], tmp_path: Path, make_ct: Make
) -> None:
    make_ct(tmp_path / "ct")
    service = make_service(min_free_gib=1e9)
    with service.listening():
        (series,), _ = outgoing([tmp_path / "ct"])
        with connect(sender(service)) as archive:
            assert {why for _, why in push(archive, series).refused} == {"out of resources (A700)"}
        answer = requests.get(f"http://127.0.0.1:{service.settings.http_port}/health", timeout=3)
        assert answer.status_code == 503


def test_an_instance_beyond_the_limit_ends_the_association(
    make_service: Callable[..., Service], tmp_path: Path, make_ct: Make
) -> None:
    make_ct(tmp_path / "ct", (1500, 1500, 1))
    service = make_service(max_instance_mib=1)
    with service.listening(), pytest.raises(OutputError):
        send(service, tmp_path / "ct")
    assert service.intake.received == 0


def test_stow_takes_instances(make_service: Callable[..., Service], tmp_path: Path, make_ct: Make) -> None:
    make_ct(tmp_path / "ct")
    service = make_service(max_instance_mib=1)
    url = f"http://127.0.0.1:{service.settings.http_port}"
    with service.listening():
        node = Node("node", url=f"{url}/dicom-web", query=False, timeout=3)
        with connect(node) as archive:
            (series,), _ = outgoing([tmp_path / "ct"])
            assert push(archive, series).sent == 6
        assert service.queue.gathering()[0][3] == 6
        kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=x'}
        for body, headers, status in (
            (b"--x\r\n\r\nno dicom\r\n--x--", kind, 409),
            (b"--x\r\n\r\nno end", kind, 400),
            (b"nothing", kind, 400),
            (b"x", {"Content-Type": "text/plain"}, 400),
            (bytes((1 << 20) + 1), kind, 413),
        ):
            answer = requests.post(f"{url}/dicom-web/studies", data=body, headers=headers, timeout=3)
            assert answer.status_code == status, body
        assert requests.post(f"{url}/elsewhere", data=b"", timeout=3).status_code == 404


def test_stow_asks_for_the_token(make_service: Callable[..., Service], tmp_path: Path, make_ct: Make) -> None:
    make_ct(tmp_path / "ct")
    service = make_service()
    url = f"http://127.0.0.1:{service.settings.http_port}/dicom-web/studies"
    with service.listening("hush"):
        for given in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic hush"}):
            assert requests.post(url, data=b"", headers=given, timeout=3).status_code == 401
        assert requests.post(url, headers={"Authorization": "Bearer hush"}, timeout=3).status_code == 400


def test_without_a_token_stow_is_for_this_machine_alone() -> None:
    assert Settings((), listen="127.0.0.1").is_local
    assert Settings((), listen="::1").is_local
    assert not Settings((), listen="0.0.0.0").is_local
    assert not Settings((), listen="10.0.0.1").is_local


def test_views_name_nobody(
    make_service: Callable[..., Service], destination: SmallPacs, tmp_path: Path, make_ct: Make
) -> None:
    make_ct(tmp_path / "ct")
    make_ct(tmp_path / "gap", seed=1, leave_out=2)
    service = make_service()
    url = f"http://127.0.0.1:{service.settings.http_port}"
    with service.listening():
        send(service, tmp_path / "ct")
        send(service, tmp_path / "gap")
        service.run(until_idle=True)
        pages = {path: requests.get(url + path, timeout=3) for path in ("/", "/metrics", "/health")}
        assert requests.get(f"{url}/x", timeout=3).status_code == 404
    assert {page.status_code for page in pages.values()} == {200}
    text = "".join(page.text for page in pages.values())
    headers = [dcmread(path, stop_before_pixels=True) for path in tmp_path.glob("*/*.dcm")]
    hidden = {str(header.SeriesInstanceUID) for header in headers} | {"Doe", "4711", str(tmp_path)}
    assert not [word for word in hidden if word in text]
    assert 'medrecon_series{state="done"} 1' in pages["/metrics"].text
    assert 'medrecon_series{state="failed"} 1' in pages["/metrics"].text
    assert "medrecon_instances_received_total 11" in pages["/metrics"].text
    assert "missing" in pages["/"].text or "gap" in pages["/"].text


def test_a_destination_that_is_away_gets_it_later(
    make_service: Callable[..., Service], destination: SmallPacs, tmp_path: Path, make_ct: Make
) -> None:
    make_ct(tmp_path / "ct")
    service = make_service()
    destination.faults = {"broken"}

    def recover(path: str) -> None:
        if len(destination.requests) > 2:
            destination.faults = set()

    destination.before = recover
    with service.listening():
        send(service, tmp_path / "ct")
        service.run(until_idle=True)
    assert list(derived(destination).values()) == [6]
    assert service.watch.retried >= 1


def test_a_job_is_given_up_after_its_tries_and_tried_again_after_a_new_start(
    make_service: Callable[..., Service], destination: SmallPacs, tmp_path: Path, make_ct: Make
) -> None:
    make_ct(tmp_path / "ct")
    service = make_service(retries=2)
    destination.faults = {"broken"}
    with service.listening():
        send(service, tmp_path / "ct")
        service.run(until_idle=True)
    assert service.queue.counts()["failed"] == 1
    destination.faults = set()
    service.run(until_idle=True)
    assert service.queue.counts()["failed"] == 0
    assert list(derived(destination).values()) == [6]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no rule"),
        ("[other]\n", "unknown table 'other'"),
        ("[[rule]]\nlayers = 'a'", "has no destination"),
        ("[[rule]]\ndestination = 'a'", "has no layers"),
        ("[[rule]]\nlayer = 'a'", "unknown key 'layer'"),
        ("[[rule]]\nlayers = 'a'\ndestination = 'b'", "nobody may send"),
        ("[node]\ncalling_aets = 'CT1'\n[[rule]]\nlayers = 'a'\ndestination = 'b'", "not a list of texts"),
        ("[node]\ncalling_aets = ['']\n[[rule]]\nlayers = 'a'\ndestination = 'b'", "no AE title"),
        ("[node]\ndicom_port = 0\nhttp_port = 0\n[[rule]]\nlayers = 'a'\ndestination = 'b'", "has no port"),
        ("[node]\nhttp_port = 99999\ndicom_port = 0\n[[rule]]\nlayers = 'a'\ndestination = 'b'", "no port"),
        ("[node]\ndicom_port = 0\nretries = 0\n[[rule]]\nlayers = 'a'\ndestination = 'b'", "retries is 0"),
        ("[node]\nrules = []\n[[rule]]\nlayers = 'a'\ndestination = 'b'", "unknown key 'rules'"),
        (
            "[node]\ndicom_port = 0\n[[rule]]\nname = 'x'\nlayers = 'a'\ndestination = 'b'\n"
            "[[rule]]\nname = 'x'\nlayers = 'a'\ndestination = 'b'",
            "two rules have one name",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(text)
    with pytest.raises(ModelError, match=said):
        read_settings(path)


def test_the_page_says_what_is_so(repo: Path, tmp_path: Path) -> None:
    page = (repo / "docs" / "use" / "node.md").read_text(encoding="utf-8")
    (tmp_path / "node.toml").write_text(page.partition("```toml\n")[2].partition("```")[0])
    settings = read_settings(tmp_path / "node.toml")
    assert [rule.name for rule in settings.rules] == ["chest", "heads of MR2"]
    assert [field.name for field in fields(Settings) if field.name not in page] == []
    assert [field.name for field in fields(Rule) if field.name not in page] == []


def test_multipart_bodies() -> None:
    kind = 'multipart/related; type="application/dicom"; boundary="a b"'
    assert boundary_of(kind) == b"a b"
    body = b"before\r\n--a b\r\nX: y\r\n\r\none\r\n--a b\r\n\r\n\r\n\r\n--a b--\r\nafter"
    assert list(parts(body, b"a b")) == [b"one", b"\r\n"]
    with pytest.raises(NotMultipart):
        boundary_of("multipart/related")
    with pytest.raises(NotMultipart):
        list(parts(body[:40], b"a b"))


class Killed:
    """`medrecon serve` in a process that is killed and started again."""

    def __init__(self, folder: Path, bundle: Path, destination: SmallPacs) -> None:
        self.dicom, self.http = free_ports()
        self.spool, self.node, self.nodes = folder / "spool", folder / "node.toml", folder / "pacs.toml"
        self.node.write_text(
            f'[node]\ncalling_aets = ["CT1"]\ndicom_port = {self.dicom}\nhttp_port = {self.http}\n'
            "stable_seconds = 1\nretry_seconds = 0.1\nmin_free_gib = 0.0\nkeep_hours = 0.0\n"
            f'[[rule]]\nname = "ct"\nmodality = "CT"\nlayers = "coarse2"\nbundle = "{bundle}"\n'
            'destination = "research"\n'
        )
        self.nodes.write_text(f'[research]\nurl = "{destination.url}"\ntimeout = 5\n')
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["medrecon.inference.pipeline", "medrecon.pacs.node.service"])
        self.process: ForkServerProcess | None = None

    def start(self) -> None:
        words = ["serve", str(self.node), str(self.spool), "--pacs", str(self.nodes), "--device", "cpu", "-q"]
        self.process = self._context.Process(target=main, args=(words,))
        self.process.start()

    def kill(self, number: int = signal.SIGKILL) -> int | None:
        assert self.process is not None
        assert self.process.pid is not None
        os.kill(self.process.pid, number)
        self.process.join(30)
        return self.process.exitcode

    def done(self) -> int:
        try:
            text = requests.get(f"http://127.0.0.1:{self.http}/metrics", timeout=2).text
        except requests.RequestException:
            return -1
        return int(text.partition('state="done"} ')[2].partition("\n")[0])

    def send(self, folder: Path, until: float) -> None:
        """As a scanner does: instance after instance, again until it is acknowledged."""
        node = Node("node", host="127.0.0.1", port=self.dicom, aet="MEDRECON", calling_aet="CT1", timeout=3)
        left = sorted(folder.glob("*.dcm"))
        while left and time.monotonic() < until:
            try:
                with connect(node) as archive:
                    for path, why in archive.store(list(left)):
                        assert not why
                        left.remove(path)
            except ArchiveError:
                time.sleep(0.1)
        assert not left


def kill_at_random(
    folder: Path,
    bundle: Path,
    destination: SmallPacs,
    make_ct: Make,
    *,
    studies: int,
    kills: int,
    seconds: float,
) -> None:
    """Send studies to a node that is killed again and again: each derived series arrives, and once."""
    import threading

    dice = random.Random(studies)
    for seed in range(studies):
        make_ct(folder / "in" / str(seed), seed=seed)
    node = Killed(folder, bundle, destination)
    until = time.monotonic() + seconds
    node.start()

    def send_all() -> None:
        for seed in range(studies):
            node.send(folder / "in" / str(seed), until)

    sending = threading.Thread(target=send_all)
    sending.start()
    try:
        for _ in range(kills):
            while node.done() < 0 and time.monotonic() < until:
                time.sleep(0.05)
            time.sleep(dice.uniform(0, 0.6 * studies / (kills + 1)))
            node.kill()
            node.start()
        sending.join()
        while node.done() < studies and time.monotonic() < until:
            time.sleep(0.05)
        assert node.done() == studies
        assert node.kill(signal.SIGTERM) == 0
    finally:
        if node.process is not None:
            node.process.kill()
    assert len(derived(destination)) == studies
    assert set(derived(destination).values()) == {6}
    assert set(destination.stored.values()) == {1}
    assert not list(node.spool.rglob("*.dcm"))


@pytest.mark.slow
def test_killed_at_random_moments_nothing_is_lost_or_doubled(
    tmp_path: Path, tiny_bundle: Path, destination: SmallPacs, make_ct: Make
) -> None:
    kill_at_random(tmp_path, tiny_bundle, destination, make_ct, studies=4, kills=2, seconds=300)
