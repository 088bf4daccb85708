"""HTTP to a PACS: no answer may fill the memory, and none may trickle in without an end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import requests
from requests.adapters import HTTPAdapter

_MOST_TEXT = 64 << 20
"""Bytes of an answer that is no image: a page of a thousand series has less than one hundredth."""

_LEAST = 1 << 10
"""Bytes that must come within a node's timeout, over and over."""

_IMAGES = ("multipart/", "application/dicom;", "application/octet-stream")


class TooLarge(Exception):
    """An answer that is no image has more bytes than any good one."""


class Transport(HTTPAdapter):
    """Sends requests as a PACS understands them, and watches what comes back.

    Args:
        timeout: seconds of silence, or of next to nothing, that end an answer.
    """

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self._timeout = timeout

    def send(self, request: requests.PreparedRequest, **how: Any) -> requests.Response:  # type: ignore[override]
        """The request, with `*` as it is, as an address may have it: Orthanc 1.10 finds nothing for `%2A`."""
        request.url = (request.url or "").replace("%2A", "*")
        response = self._begin(request, how)
        kind = response.headers.get("Content-Type", "").lower() + ";"
        response.raw = _Watched(response.raw, self._timeout, None if kind.startswith(_IMAGES) else _MOST_TEXT)
        return response

    def _begin(self, request: requests.PreparedRequest, how: dict[str, Any]) -> requests.Response:
        """An answer as far as its headers; those of a question must be whole soon after its first byte."""
        if request.body is not None:  # sending takes as long as it takes
            return super().send(request, **how)
        future: Future[requests.Response] = Future()

        def ask() -> None:
            try:
                future.set_result(HTTPAdapter.send(self, request, **how))
            except BaseException as error:  # told to who waits
                future.set_exception(error)

        threading.Thread(target=ask, daemon=True).start()
        try:
            return future.result(2 * self._timeout)
        except FutureTimeout:
            raise requests.exceptions.ReadTimeout from None


class _Watched:
    """A body that is read as it comes, and given up when it is too large or too slow."""

    def __init__(self, raw: Any, timeout: float, most: int | None) -> None:
        self._raw, self._timeout, self._most = raw, timeout, most

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, amt: int = 1 << 16, decode_content: bool | None = None) -> Iterator[bytes]:
        """Pieces of at most `amt` bytes, each as soon as it is there."""
        total, recent, since = 0, 0, time.monotonic()
        while piece := self._raw.read1(amt, decode_content=decode_content):
            total += len(piece)
            recent += len(piece)
            if self._most is not None and total > self._most:
                raise TooLarge
            now = time.monotonic()
            if now - since > self._timeout:
                if recent < _LEAST:
                    raise requests.exceptions.ReadTimeout
                recent, since = 0, now
            yield piece
