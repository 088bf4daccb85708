"""The server of the local page: 127.0.0.1 alone, a secret in each address, nothing for other origins."""

from __future__ import annotations

import hmac
import json
import mimetypes
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from medrecon.atlas.local.jobs import PAGE, Jobs
from medrecon.atlas.local.uploads import Uploads
from medrecon.errors import MedreconError, UsageError

_LARGEST_QUESTION = 64 << 10  # bytes of a JSON request
_TIMEOUT = 60  # seconds that a connection may be silent
_SHOWN = {".html", ".png", ".svg", ".json", ".csv", ".mrb"}
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass
class Desk:
    """What the page offers.

    Attributes:
        jobs: what is run, and its results.
        start: `start(scan, title, request, after)` checks a request ({"bundle", "layers", "hu"}) and adds its
            job; raises MedreconError where it cannot be.
        page: makes the page: HTML, and its content security policy.
        bundles: name of each network -> its layers; None while they are not known yet.
        given: a scan that was named on the command line.
        uploads: files that a browser hands over.
    """

    jobs: Jobs
    start: Callable[[Path, str, Mapping[str, Any], Callable[[], None]], Any]
    page: Callable[[], tuple[str, str]]
    bundles: Callable[[], Mapping[str, Sequence[str]] | None]
    given: Path | None = None
    uploads: Uploads = field(default_factory=Uploads)


class LocalServer(ThreadingHTTPServer):
    """Serves a desk on this machine.

    Who knows the address is let in: its first part is a secret of 256 bits. A request must name this host and
    port (a page elsewhere whose name is made to point here cannot), and one that changes something must not
    come from another origin. No answer may be read by other origins.

    Args:
        desk: what is served.
        port: 0 takes a free one.
    """

    daemon_threads = True

    def __init__(self, desk: Desk, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.desk = desk
        self.token = secrets.token_urlsafe(32)
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}

    @property
    def address(self) -> str:
        """What is typed into a browser."""
        return f"http://127.0.0.1:{self.server_port}/{self.token}/"

    def server_close(self) -> None:
        """Stop listening, and remove what was uploaded."""
        super().server_close()
        self.desk.jobs.close()
        self.desk.uploads.close()


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, text: str = "") -> None:
        super().__init__(text or status.phrase)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "medrecon", ""
    timeout = _TIMEOUT

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: addresses hold the secret."""

    def do_GET(self) -> None:
        """The page, the state of jobs, and files of results."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """A new upload, one of its files, a job, or its end."""
        self._answer(self._post)

    @property
    def _desk(self) -> Desk:
        return cast(LocalServer, self.server).desk

    def _answer(self, work: Callable[[Sequence[str]], None]) -> None:
        try:
            work(self._parts())
        except _Refused as refused:
            self._refuse(refused.status, str(refused))
        except MedreconError as error:
            said = "; ".join(filter(None, (error.message, error.remedy)))
            self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, said)
        except OSError as error:
            self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, f"cannot be kept: {error.strerror or error}")

    def _parts(self) -> list[str]:
        """The address behind the secret, part by part, or a refusal that tells nothing."""
        server = cast(LocalServer, self.server)
        if self.headers.get("Host", "") not in server.hosts:
            raise _Refused(HTTPStatus.MISDIRECTED_REQUEST)
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{host}" for host in server.hosts}:
            raise _Refused(HTTPStatus.FORBIDDEN)
        _, token, *rest = [unquote(part) for part in urlsplit(self.path).path.split("/")] + [""]
        if not hmac.compare_digest(token.encode("utf-8", "replace"), server.token.encode()):
            raise _Refused(HTTPStatus.NOT_FOUND)
        return rest[:-1]

    def _get(self, parts: Sequence[str]) -> None:
        match list(parts):
            case [""]:
                page, policy = self._desk.page()
                self._send(page.encode(), "text/html; charset=utf-8", {"Content-Security-Policy": policy})
            case ["state"]:
                jobs, bundles = self._desk.jobs, self._desk.bundles()
                self._json({"jobs": jobs.data(), "results": jobs.results(), "bundles": bundles})
            case ["results", name, *path] if path and Path(path[-1]).suffix in _SHOWN:
                file = None if ".." in path else self._desk.jobs.file(name, "/".join(path))
                if file is None:
                    raise _Refused(HTTPStatus.NOT_FOUND)
                self._file(file)
            case _:
                raise _Refused(HTTPStatus.NOT_FOUND)

    def _post(self, parts: Sequence[str]) -> None:
        match list(parts):
            case ["upload"]:
                self._question()
                self._json({"upload": self._desk.uploads.begin()})
            case ["upload", name, file_name]:
                self._desk.uploads.add(name, file_name, cast(BinaryIO, self.rfile), self._length())
                self._json({})
            case ["run"]:
                self._start(self._question())
            case ["stop"]:
                number = self._question().get("number")
                if not isinstance(number, int) or not self._desk.jobs.stop(number):
                    raise UsageError("there is no such job under way")
                self._json({})
            case _:
                raise _Refused(HTTPStatus.NOT_FOUND)

    def _start(self, asked: Mapping[str, Any]) -> None:
        uploads, name = self._desk.uploads, asked.get("upload")
        title = str(asked.get("title", "scan"))[:120]
        if name is None:
            if self._desk.given is None:
                raise UsageError("no scan was chosen", remedy="drop a file or a folder")
            job = self._desk.start(self._desk.given, title, asked, lambda: None)
        else:
            folder = uploads.folder(str(name))
            job = self._desk.start(folder, title, asked, lambda: uploads.drop(str(name)))
        self._json(job.data())

    def _length(self) -> int:
        text = self.headers.get("Content-Length", "")
        if not text.isdecimal():
            raise _Refused(HTTPStatus.LENGTH_REQUIRED)
        return int(text)

    def _question(self) -> Mapping[str, Any]:
        length = self._length()
        if length > _LARGEST_QUESTION:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        try:
            asked = json.loads(self.rfile.read(length) or b"{}")
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict):
            raise _Refused(HTTPStatus.BAD_REQUEST)
        return asked

    def _json(self, content: Mapping[str, Any]) -> None:
        self._send(json.dumps(content).encode(), "application/json")

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self.close_connection = True  # what was sent along is not read
        self._send(json.dumps({"error": text}).encode(), "application/json", status=status)

    def _send(
        self,
        body: bytes,
        kind: str,
        more: Mapping[str, str] | None = None,
        status: HTTPStatus = HTTPStatus.OK,
    ) -> None:
        self.send_response(status)
        for key, value in {**_HEADERS, **(more or {}), "Content-Type": kind}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _file(self, path: Path) -> None:
        kind = "text/html; charset=utf-8" if path.name == PAGE else mimetypes.guess_type(path.name)[0]
        with path.open("rb") as file:
            self.send_response(HTTPStatus.OK)
            for key, value in {**_HEADERS, "Content-Type": kind or "application/octet-stream"}.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(path.stat().st_size))
            self.end_headers()
            shutil.copyfileobj(file, self.wfile)
