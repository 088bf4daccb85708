"""A node beside a real Orthanc: what a kill costs, counted by the server."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import requests

from medrecon.io import find_scans, read_scan
from medrecon.pacs import ArchiveError, connect
from medrecon.pacs.node.queue import Queue
from medrecon.pacs.nodes import Node

from .conftest import Orthanc
from .test_node import free_ports

Make = Callable[..., np.ndarray]


class ServeProcess:
    """`medrecon serve` with one rule for CT, as a process that is killed and started again."""

    def __init__(self, folder: Path, bundle: Path, destination: str) -> None:
        self.dicom, self.http = free_ports()
        self.spool, self._node, self._nodes = folder / "spool", folder / "node.toml", folder / "pacs.toml"
        self._node.write_text(
            f'[node]\ncalling_aets = ["CT1"]\ndicom_port = {self.dicom}\nhttp_port = {self.http}\n'
            "stable_seconds = 2\nretry_seconds = 0.1\nmin_free_gib = 0.0\nkeep_hours = 0.0\n"
            f'[[rule]]\nname = "ct"\nmodality = "CT"\nlayers = "coarse2"\nbundle = "{bundle}"\n'
            'destination = "research"\n'
        )
        self._nodes.write_text(f'[research]\nurl = "{destination}"\ntimeout = 20\n')
        self._log = (folder / "log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = ["serve", str(self._node), str(self.spool), "--pacs", str(self._nodes), "--device", "cpu"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from medrecon.cli.app import main; main()", *words],
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))},
        )

    def end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(120)

    def done(self) -> int:
        """Series that it has ended; -1 while it does not answer."""
        assert self.process is not None
        assert self.process.poll() is None, "it has stopped by itself"
        try:
            text = requests.get(f"http://127.0.0.1:{self.http}/metrics", timeout=2).text
        except requests.RequestException:
            return -1
        return int(text.partition('state="done"} ')[2].partition("\n")[0])

    def send(self, folder: Path, until: float) -> None:
        """As a scanner does: instance after instance, again until it is acknowledged."""
        node = Node("node", host="127.0.0.1", port=self.dicom, aet="MEDRECON", calling_aet="CT1", timeout=5)
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


@pytest.fixture
def serve(tmp_path: Path, tiny_bundle: Path, orthanc: Orthanc) -> Iterator[ServeProcess]:
    made = ServeProcess(tmp_path, tiny_bundle, f"{orthanc.url}/dicom-web")
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.wait()


@pytest.mark.slow
def test_many_studies_and_ten_kills(
    orthanc: Orthanc, serve: ServeProcess, tmp_path: Path, make_ct: Make
) -> None:
    """MEDRECON_NODE_STUDIES=100 sends a hundred."""
    studies, kills, dice = int(os.environ.get("MEDRECON_NODE_STUDIES", "24")), 10, random.Random(20)
    for seed in range(studies):
        make_ct(tmp_path / "in" / str(seed), seed=seed)
    before = stored_since_the_start(orthanc)
    until = time.monotonic() + 60 * studies
    serve.start()

    def send_all() -> None:
        for seed in range(studies):
            serve.send(tmp_path / "in" / str(seed), until)

    sending = threading.Thread(target=send_all)
    sending.start()
    for _ in range(kills):
        wait_for(lambda: serve.done() >= 0, serve)
        time.sleep(dice.uniform(0, 3))
        serve.end(signal.SIGKILL)
        serve.start()
    sending.join()
    wait_for(lambda: serve.done() == studies, serve)
    assert serve.end(signal.SIGTERM) == 0
    assert {path.name for path in serve.spool.rglob("*") if path.is_file()} <= {"lock", "queue.sqlite"}

    series = requests.get(f"{orthanc.url}/series?expand", timeout=60).json()
    assert len(series) == studies
    assert set(Counter(each["ParentStudy"] for each in series).values()) == {1}
    assert {len(each["Instances"]) for each in series} == {6}
    new = stored_since_the_start(orthanc) - before
    assert len(new) == 6 * studies
    assert set(new.values()) == {1}, "an instance that is stored again is new again to Orthanc"
    for number, identifier in enumerate(orthanc.instances().values()):
        (tmp_path / "back").mkdir(exist_ok=True)
        (tmp_path / "back" / f"{number}.dcm").write_bytes(orthanc.file(identifier))
    found = find_scans(tmp_path / "back")
    assert len(found.scans) == studies
    assert not found.refused
    assert {read_scan(scan).shape for scan in found.scans} == {(20, 24, 6)}


def wait_for(met: Callable[[], bool], serve: ServeProcess) -> None:
    """Until it is met; a node that has not ended a series for two minutes has failed."""
    done, since = serve.done(), time.monotonic()
    while not met():
        now = serve.done()
        if now != done:
            done, since = now, time.monotonic()
        waited = time.monotonic() - since
        assert waited < 120, f"{done} done, then nothing: {Queue(serve.spool / 'queue.sqlite').jobs()[:5]}"
        time.sleep(0.1)


def stored_since_the_start(orthanc: Orthanc) -> Counter[str]:
    """Orthanc's id of an instance -> how often it was stored."""
    stored: Counter[str] = Counter()
    since, done = 0, False
    while not done:
        page = requests.get(f"{orthanc.url}/changes?limit=1000&since={since}", timeout=60).json()
        stored.update(each["ID"] for each in page["Changes"] if each["ChangeType"] == "NewInstance")
        since, done = page["Last"], page["Done"]
    return stored
