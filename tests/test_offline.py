"""The suite reaches no other machine: what blocks it works."""

from __future__ import annotations

import socket

import pytest

requests = pytest.importorskip("requests")

ELSEWHERE = "192.0.2.1"  # for documentation alone (RFC 5737)


def test_other_machines_cannot_be_reached() -> None:
    with socket.socket() as plain:
        plain.settimeout(0.2)
        for reach in (plain.connect, plain.connect_ex):
            with pytest.raises(AssertionError, match="this machine alone"):
                reach((ELSEWHERE, 9))
    for name in (ELSEWHERE, "pacs.example.org"):
        with pytest.raises(AssertionError, match="this machine alone"):
            socket.getaddrinfo(name, 443)
    with pytest.raises(AssertionError, match="this machine alone"):
        requests.get(f"http://{ELSEWHERE}/", timeout=0.2)


def test_this_machine_can() -> None:
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
    assert socket.getaddrinfo("localhost", 80)
