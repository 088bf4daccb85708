"""The ways in and the views by HTTP: STOW-RS, /health, /metrics and a page of the queue, without identity."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

from pydicom import Dataset, dcmread

from medrecon.errors import UsageError, told_as
from medrecon.pacs.node.intake import OK, Intake
from medrecon.pacs.node.multipart import NotMultipart, boundary_of, parts
from medrecon.pacs.node.settings import Settings

_STUDIES = "/dicom-web/studies"
_SILENCE = 60
_MIB = 1 << 20

Views = dict[str, Callable[[], tuple[int, str, str]]]
"""Path -> what gives status, content type and text."""


def start_http(settings: Settings, intake: Intake, views: Views, token: str) -> ThreadingHTTPServer:
    """Listen for HTTP, in threads.

    Args:
        settings: of the node.
        intake: where instances go.
        views: what can be looked at.
        token: what STOW-RS asks for; "" for nothing, and then only this machine may send.

    Returns:
        The server; its `shutdown` ends it.

    Raises:
        UsageError: the port is taken.
    """
    known: dict[str, Any] = {"settings": settings, "intake": intake, "views": views, "token": token}
    known["places"] = threading.BoundedSemaphore(settings.max_associations)
    address = settings.listen, settings.http_port
    where, remedy = f"cannot listen on {address[0]}:{address[1]}", "choose another listen or http_port"
    with told_as(UsageError, where, remedy=remedy):
        server = ThreadingHTTPServer(address, type("_Handler", (_Handler,), known))
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True, name="http").start()
    return server


class _Handler(BaseHTTPRequestHandler):
    settings: Settings
    intake: Intake
    views: Views
    token: str
    places: threading.BoundedSemaphore
    timeout = _SILENCE
    server_version, sys_version = "medrecon", ""

    def log_message(self, *words: object) -> None:
        """Nothing: an address may hold a UID."""

    def do_GET(self) -> None:
        """A view."""
        view = self.views.get(self.path)
        status, kind, text = view() if view else (404, "text/plain", "nothing here\n")
        self._send(status, kind, text.encode())

    def do_POST(self) -> None:
        """STOW-RS (PS3.18 10.5)."""
        if self.path.rstrip("/") != _STUDIES and not self.path.startswith(f"{_STUDIES}/"):
            return self._refuse(404, "instances go to /dicom-web/studies")
        if not self._may_send():
            return self._refuse(401, "a token is asked for")
        if not self.places.acquire(blocking=False):
            return self._refuse(503, "too many at once")
        try:
            self._store()
        finally:
            self.places.release()

    def _may_send(self) -> bool:
        if not self.token:
            return self.settings.is_local
        given = self.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {self.token}".encode())

    def _store(self) -> None:
        try:
            boundary = boundary_of(self.headers.get("Content-Type", ""))
            body = self._body()
            if body is None:
                return self._refuse(413, "too large: send fewer instances at once")
            statuses = [(part, self.intake.take(part, "")) for part in parts(body, boundary)]
        except (NotMultipart, ValueError) as error:
            return self._refuse(400, str(error))
        answer = Dataset()
        answer.ReferencedSOPSequence, answer.FailedSOPSequence = [], []
        for part, status in statuses:
            item = _reference(part)
            if status == OK:
                answer.ReferencedSOPSequence.append(item)
            else:
                item.FailureReason = status
                answer.FailedSOPSequence.append(item)
        taken = len(answer.ReferencedSOPSequence)
        status = 409 if not taken else 202 if taken < len(statuses) else 200
        self._send(status, "application/dicom+json", answer.to_json().encode())

    def _body(self) -> bytes | None:
        """The body; None for one that is too large."""
        most = self.settings.max_instance_mib * _MIB
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            length = int(self.headers.get("Content-Length", "-1"))
            if length < 0:
                raise NotMultipart("no Content-Length")
            if length > most:
                return None
            body = self.rfile.read(length)
            if len(body) < length:
                raise NotMultipart("it ends before its end")
            return body
        whole = bytearray()
        while size := int(self.rfile.readline(64).split(b";")[0], 16):
            if size < 0 or len(whole) + size > most:
                return None
            whole += self.rfile.read(size)
            self.rfile.readline(64)
        return bytes(whole)

    def _refuse(self, status: int, why: str) -> None:
        self.close_connection = True
        self._send(status, "text/plain", f"{why}\n".encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)


def _reference(part: bytes) -> Dataset:
    """An item that names an instance, as far as it can be read."""
    item = Dataset()
    try:
        header = dcmread(
            BytesIO(part), stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"]
        )
        item.ReferencedSOPClassUID = header.SOPClassUID
        item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    except Exception:  # it is named by nothing then
        return Dataset()
    return item
