"""A real Orthanc with its DICOMweb plug-in, in a network of its own: it listens on all addresses."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pynetdicom", reason="the extra pacs is not installed")
pytest.importorskip("dicomweb_client", reason="the extra pacs is not installed")

import requests

from medrecon.pacs.nodes import Node

HTTP_PORT, DICOM_PORT, MOVE_PORT = 18042, 14242, 11113
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_NEW_NETWORK = 0x40000000
_START_SECONDS = 60


@contextmanager
def network_of_our_own() -> Iterator[None]:
    """This thread, and what it starts, in a network namespace with nothing but loopback."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open("rb") as before:
        if libc.unshare(_NEW_NETWORK):
            pytest.skip(f"no network namespace here: {os.strerror(ctypes.get_errno())}")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            libc.setns(before.fileno(), _NEW_NETWORK)


@dataclass
class Orthanc:
    """A running server and what it holds."""

    process: subprocess.Popen[bytes]
    url: str = f"http://127.0.0.1:{HTTP_PORT}"

    @property
    def web(self) -> Node:
        return Node("web", url=f"{self.url}/dicom-web", timeout=60)

    @property
    def dimse(self) -> Node:
        return Node("dimse", host="127.0.0.1", port=DICOM_PORT, aet="ORTHANC", timeout=60)

    @property
    def move(self) -> Node:
        where = {"receive_host": "127.0.0.1", "receive_port": MOVE_PORT}
        return Node(
            "move",
            host="127.0.0.1",
            port=DICOM_PORT,
            aet="ORTHANC",
            retrieve="move",
            timeout=60,
            **where,  # type: ignore[arg-type]
        )

    def add(self, folder: Path) -> None:
        for path in sorted(folder.rglob("*.dcm")):
            requests.post(f"{self.url}/instances", data=path.read_bytes(), timeout=60).raise_for_status()

    def ids(self, level: str) -> list[str]:
        found: list[str] = requests.get(f"{self.url}/{level}", timeout=60).json()
        return found

    def count(self, level: str) -> int:
        return len(self.ids(level))

    def instances(self) -> dict[str, str]:
        """SOPInstanceUID -> Orthanc's own id."""
        listed = requests.get(f"{self.url}/instances?expand", timeout=60).json()
        return {each["MainDicomTags"]["SOPInstanceUID"]: each["ID"] for each in listed}

    def file(self, identifier: str) -> bytes:
        return requests.get(f"{self.url}/instances/{identifier}/file", timeout=60).content

    def delete(self, level: str, identifier: str) -> None:
        requests.delete(f"{self.url}/{level}/{identifier}", timeout=60).raise_for_status()

    def empty(self) -> None:
        for patient in self.ids("patients"):
            self.delete("patients", patient)


def start_orthanc(folder: Path, **changes: Any) -> Orthanc:
    """Start the server, and wait until it answers."""
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": HTTP_PORT,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomPort": DICOM_PORT,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "DicomModalities": {"medrecon": ["MEDRECON", "127.0.0.1", MOVE_PORT]},
        "OverwriteInstances": True,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(settings))
    log = (folder / "orthanc.log").open("wb")
    process = subprocess.Popen(
        [shutil.which("Orthanc") or "Orthanc", folder / "orthanc.json"], stdout=log, stderr=log
    )
    log.close()
    server = Orthanc(process)
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            requests.get(f"{server.url}/system", timeout=2).raise_for_status()
        except requests.RequestException:
            time.sleep(0.05)
        else:
            return server
    process.kill()
    pytest.fail(f"Orthanc does not start: {(folder / 'orthanc.log').read_text()[-2000:]}")


@pytest.fixture(scope="package")
def private_network() -> Iterator[None]:
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network namespace needs Linux, root and iproute2")
    with network_of_our_own():
        yield


@pytest.fixture(scope="package")
def running_orthanc(private_network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    if shutil.which("Orthanc") is None or not PLUGIN.exists():
        pytest.skip("no Orthanc with its DICOMweb plug-in here: apt-get install orthanc orthanc-dicomweb")
    server = start_orthanc(tmp_path_factory.mktemp("orthanc"))
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture
def orthanc(running_orthanc: Orthanc) -> Orthanc:
    """The server, empty."""
    running_orthanc.empty()
    return running_orthanc
