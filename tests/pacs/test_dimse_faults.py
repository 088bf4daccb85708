"""DIMSE servers that refuse, vanish and show certificates: one line each."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from medrecon.pacs import ArchiveError, Node, connect, dimse, push
from medrecon.pacs.pushing import Undelivered, outgoing

Make = Callable[..., np.ndarray]


@contextmanager
def running(handlers: list[Any], tls: ssl.SSLContext | None = None) -> Iterator[Node]:
    """A server that takes CT images, and the node that it is."""
    entity = AE(ae_title="SERVER")
    entity.add_supported_context(Verification)
    entity.add_supported_context(CTImageStorage)
    if any(event is evt.EVT_C_FIND for event, _ in handlers):
        entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=tls)
    assert server is not None
    try:
        port = server.server_address[1]
        yield Node(
            "a", host="127.0.0.1", port=port, aet="SERVER", timeout=3, query=False, tls=tls is not None
        )
    finally:
        server.shutdown()


def test_a_server_that_refuses_some_is_heard(tmp_path: Path, make_ct: Make) -> None:
    make_ct(tmp_path / "ct")
    answers = iter([0x0000, 0xA700, 0xB000, 0x0122, 0xC123, 0x0000])
    with running([(evt.EVT_C_STORE, lambda event: next(answers))]) as node, connect(node) as archive:
        (series,), _ = outgoing([tmp_path / "ct"])
        result = push(archive, series)
    assert result.sent == 3
    reasons = [why for _, why in result.refused]
    assert reasons == [
        "out of resources (A700)",
        "its SOP class is not supported (0122)",
        "cannot be understood (C123)",
    ]


def test_a_server_that_vanishes_while_it_takes(tmp_path: Path, make_ct: Make) -> None:
    make_ct(tmp_path / "ct")

    def vanish(event: evt.Event) -> int:
        event.assoc.abort()
        return 0

    with running([(evt.EVT_C_STORE, vanish)]) as node, connect(node) as archive:
        (series,), _ = outgoing([tmp_path / "ct"])
        with pytest.raises(Undelivered, match="the connection broke in the middle"):
            push(archive, series)


def test_a_server_without_a_service_says_so(tmp_path: Path) -> None:
    with running([]) as node, connect(node) as archive:
        archive.echo()
        with pytest.raises(ArchiveError, match="none of the services"):
            archive.instances("1.2", "1.3")


def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dimse, "_MOST_ANSWERS", 50)
    sent = 0

    def endless(event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        nonlocal sent
        answer = Dataset()
        answer.StudyInstanceUID = "1.2"  # the same again and again: no count of studies grows
        while sent < 5000 and not event.is_cancelled and event.assoc.is_established:
            sent += 1
            yield 0xFF00, answer

    with (
        running([(evt.EVT_C_FIND, endless)]) as node,
        connect(node) as archive,
        pytest.raises(ArchiveError, match="its answer has no end"),
    ):
        archive.studies({"PatientID": "4711"}, most=100)
    assert sent < 5000


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
def test_tls_is_verified(tmp_path: Path, make_ct: Make) -> None:
    make_ct(tmp_path / "ct")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run([*command, "-keyout", key, "-out", certificate, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with running([(evt.EVT_C_STORE, lambda event: 0)], context) as node:
        with connect(node) as archive, pytest.raises(ArchiveError, match=r"does not verify .*self-signed"):
            archive.echo()
        trusting = Node(**{**vars(node), "ca": str(certificate)})
        with connect(trusting) as archive:
            archive.echo()
            (series,), _ = outgoing([tmp_path / "ct"])
            assert push(archive, series).sent == 6
