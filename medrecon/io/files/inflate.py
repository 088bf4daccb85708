"""Unpack deflated and gzipped data within limits: a few kilobytes must not become gigabytes."""

from __future__ import annotations

import zlib
from pathlib import Path

from medrecon.io.scan import ScanError

MAX_RATIO = 200
FREE_BYTES = 64 << 20


def inflate(data: bytes, path: Path, bits: int = -15) -> bytes:
    """Inflate a raw deflate stream (DICOM PS3.5 annex A.5).

    Raises:
        ScanError: it is broken, cut short, or grows more than 200-fold beyond 64 MiB.
    """
    unpacker = zlib.decompressobj(bits)
    parts, total = [], 0
    limit = max(FREE_BYTES, MAX_RATIO * len(data))
    try:
        while data and not unpacker.eof:
            part = unpacker.decompress(data, 1 << 20)
            data = unpacker.unconsumed_tail
            total += len(part)
            if total > limit:
                raise ScanError(
                    f"deflated data grow beyond {limit >> 20} MiB: refused as a decompression bomb",
                    path=path,
                    remedy="export the series uncompressed if it is real",
                )
            parts.append(part)
        if not unpacker.eof:
            raise zlib.error("cut short")
    except zlib.error as error:
        raise ScanError(
            f"broken deflated data ({error})", path=path, remedy="export the series again"
        ) from None
    return b"".join(parts)
