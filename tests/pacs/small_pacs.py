"""A small DICOMweb service over loopback whose answers can be spoilt: what no real PACS does on demand."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydicom import Dataset, dcmread

BOUNDARY = b"xyz"
_OBJECT = {"Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY.decode()}'}


class SmallPacs:
    """What it holds, and how it misbehaves.

    Attributes:
        held: SOPInstanceUID -> file.
        faults: names of what goes wrong; see `_Handler`.
        before: called with each request's path, before it is answered.
        requests: all that were made.
        refused: SOPInstanceUIDs that it does not take.
        stored: how often each was sent.
    """

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.faults: set[str] = set()
        self.refused: set[str] = set()
        self.stored: Counter[str] = Counter()
        self.before: Callable[[str], None] = lambda path: None
        self.requests: list[str] = []
        self.url = ""

    def add(self, folder: Path) -> None:
        for path in folder.rglob("*.dcm"):
            self.held[str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)] = path.read_bytes()

    def headers(self) -> list[Dataset]:
        return [dcmread(BytesIO(data), stop_before_pixels=True) for data in self.held.values()]


class _Handler(BaseHTTPRequestHandler):
    pacs: SmallPacs

    def log_message(self, *words: object) -> None:
        pass

    def do_GET(self) -> None:
        self.pacs.requests.append(self.path)
        self.pacs.before(self.path)
        faults = self.pacs.faults
        if "slow" in faults:
            time.sleep(1.5)
        if "login" in faults:
            return self._send(401, b"", {"WWW-Authenticate": "Basic"})
        if "broken" in faults:
            return self._send(500, b"no")
        if "elsewhere" in faults:
            return self._send(302, b"", {"Location": "http://127.0.0.1:9/x"})
        if "page" in faults:
            return self._send(200, b"<html>Welcome</html>", {"Content-Type": "text/html"})
        if "drip of headers" in faults:
            return self._drip_of_headers()
        if "drip" in faults:
            return self._drip(b"[" + b" " * 1000)
        if "huge" in faults:
            return self._drip(b"[" + b" " * (1 << 20), at_once=1 << 16, pause=0)
        if "list" in faults:
            return self._json([1, 2])
        url = urlsplit(self.path)
        parts = [part for part in url.path.split("/") if part][1:]
        asked = {key: unquote(values[0]) for key, values in parse_qs(url.query).items()}
        if len(parts) % 2 and not (len(parts) == 1 and parts[0] != "studies"):
            return self._search(parts, asked)
        return self._retrieve(parts[1::2])

    def _search(self, parts: list[str], asked: dict[str, str]) -> None:
        level = {"studies": 0, "series": 1, "instances": 2}[parts[-1]]
        keys = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        found: dict[str, Dataset] = {}
        mine = self._below(parts[1::2])
        for header in mine:
            answer = Dataset()
            for keyword in (
                *keys[: level + 1],
                "SOPClassUID",
                "Modality",
                "StudyDate",
                "PatientID",
                "SeriesDescription",
            ):
                if keyword in header:
                    setattr(answer, keyword, header.get(keyword))
            found.setdefault(str(header.get(keys[level])), answer)
        for uid, answer in found.items():
            if level == 1:
                count = sum(str(each.SeriesInstanceUID) == uid for each in mine)
                answer.NumberOfSeriesRelatedInstances = count + 3 * ("count" in self.pacs.faults)
        rows = [answer.to_json_dict() for answer in found.values()]
        if level == 2 and "phantom" in self.pacs.faults:
            rows.append({**rows[0], "00080018": {"vr": "UI", "Value": ["1.2.3.4"]}})
        if "endless" not in self.pacs.faults:
            rows = rows[int(asked.get("offset", 0)) :]
        self._json(rows[: int(asked.get("limit", 100))])

    def _below(self, uids: list[str]) -> list[Dataset]:
        keys = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        return [
            header
            for header in self.pacs.headers()
            if all(str(header.get(key)) == uid for key, uid in zip(keys, uids, strict=False))
        ]

    def _retrieve(self, uids: list[str]) -> None:
        files = [self.pacs.held[str(header.SOPInstanceUID)] for header in self._below(uids)]
        if not files:
            return self._send(404, b"")
        if "other" in self.pacs.faults:
            files = [data.replace(uids[1].encode(), uids[1][:-1].encode() + b"0") for data in files]
        if "junk" in self.pacs.faults:
            files = [data[200:] for data in files]
        parts = [
            b"--" + BOUNDARY + b"\r\nContent-Type: application/dicom\r\n\r\n" + f + b"\r\n" for f in files
        ]
        body = b"".join(parts) + b"--" + BOUNDARY + b"--"
        if "vanish" not in self.pacs.faults:
            return self._send(200, body, _OBJECT)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", _OBJECT["Content-Type"])
        self.end_headers()
        self.wfile.write(body[: len(body) * 2 // 3])
        self.wfile.flush()
        self.connection.close()

    def do_POST(self) -> None:
        self.pacs.requests.append("POST")
        body = self._body()
        boundary = re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])
        assert boundary is not None
        answer = Dataset()
        answer.FailedSOPSequence, answer.ReferencedSOPSequence = [], []
        for part in body.split(b"--" + boundary[1].encode()):
            _, found, data = part.partition(b"\r\n\r\n")
            if not found:
                continue
            data = data.removesuffix(b"\r\n")
            item = Dataset()
            header = dcmread(BytesIO(data), stop_before_pixels=True)
            item.ReferencedSOPClassUID = header.SOPClassUID
            item.ReferencedSOPInstanceUID = uid = str(header.SOPInstanceUID)
            if uid in self.pacs.refused:
                item.FailureReason = 0xA700
                answer.FailedSOPSequence.append(item)
                continue
            answer.ReferencedSOPSequence.append(item)
            self.pacs.stored[uid] += 1
            if "forgets" not in self.pacs.faults:
                self.pacs.held[uid] = data
            if "dies" in self.pacs.faults and len(self.pacs.held) > 2:
                self.connection.close()
                return
        code = 409 if not answer.ReferencedSOPSequence else 202 if answer.FailedSOPSequence else 200
        self._send(code, answer.to_json().encode(), {"Content-Type": "application/dicom+json"})

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers["Content-Length"]))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _json(self, rows: Any) -> None:
        self._send(200, json.dumps(rows).encode(), {"Content-Type": "application/dicom+json"})

    def _drip(self, body: bytes, at_once: int = 1, pause: float = 0.1) -> None:
        """Bytes without an end, as far as who asks can tell."""
        self.send_response(200)
        self.send_header("Content-Type", "application/dicom+json")
        self.end_headers()
        with contextlib.suppress(OSError):
            for start in range(0, len(body), at_once):
                self.wfile.write(body[start : start + at_once])
                self.wfile.flush()
                time.sleep(pause)

    def _drip_of_headers(self) -> None:
        with contextlib.suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            for _ in range(1000):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.1)

    def _send(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(pacs: SmallPacs, wrap: Callable[[Any], Any] = lambda plain: plain) -> Iterator[SmallPacs]:
    """Run it on a free port; `wrap` may put TLS around its socket."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"pacs": pacs}))
    server.handle_error = lambda *words: None  # type: ignore[method-assign]
    scheme = "http"
    wrapped = wrap(server.socket)
    if wrapped is not server.socket:
        server.socket, scheme = wrapped, "https"
    pacs.url = f"{scheme}://127.0.0.1:{server.server_port}/dicom-web"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield pacs
    finally:
        server.shutdown()
        server.server_close()
