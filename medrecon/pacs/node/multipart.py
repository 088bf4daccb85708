"""The parts of a multipart/related body (RFC 2046, RFC 2387), as STOW-RS sends it."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message


class NotMultipart(ValueError):
    """The body is none, or ends before its end."""


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type names.

    Raises:
        NotMultipart: it names none.
    """
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_boundary()
    if header.get_content_type() != "multipart/related" or not boundary:
        raise NotMultipart("no multipart/related with a boundary")
    return boundary.encode("latin-1", "replace")


def parts(body: bytes, boundary: bytes) -> Iterator[bytes]:
    """The content of each part.

    Raises:
        NotMultipart: a part has no end.
    """
    delimiter = b"--" + boundary
    at = body.find(delimiter)
    if at < 0:
        raise NotMultipart("its boundary is nowhere")
    while True:
        start = at + len(delimiter)
        if body[start : start + 2] == b"--":
            return
        head = body.find(b"\r\n\r\n", start)
        at = body.find(b"\r\n" + delimiter, start)
        if head < 0 or at < head:
            raise NotMultipart("it ends before its end")
        yield body[head + 4 : at]
        at += 2
