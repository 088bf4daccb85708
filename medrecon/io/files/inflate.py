"""Unpack deflated data within limits, a piece at a time: a few kilobytes must not become gigabytes."""

from __future__ import annotations

import zlib
from pathlib import Path
from types import TracebackType

from medrecon.io.scan import ScanError

MAX_RATIO = 100  # of memory to disk: what 10 MiB of file make stays below 1 GiB
FREE_BYTES = 64 << 20
MAX_REST = 1 << 16
"""Bytes that may follow the end of the deflated data: padding."""
PIECE = 1 << 18


def check_affordable(path: Path, need: int, blamed: Path, packed: bool) -> None:
    """Refuse a file that would take far more memory than it takes on the disk: a bomb, or one of holes.

    Args:
        path: the file that holds the values.
        need: bytes that its values take in memory, with what is made of them.
        blamed: the file to name.
        packed: whether it is compressed.

    Raises:
        ScanError: more than 64 MiB, and many times as much.
    """
    status = path.stat()
    if need <= FREE_BYTES:
        return
    if packed and need > MAX_RATIO * status.st_size:
        raise ScanError(
            f"the header announces {need} bytes in memory, {status.st_size} compressed ones are there: "
            "a decompression bomb or broken",
            path=blamed,
            remedy="save it uncompressed if it is real",
        )
    # some network file systems do not say how many blocks a file takes
    taken = 512 * getattr(status, "st_blocks", 0)
    if not packed and taken and need > MAX_RATIO * taken:
        raise ScanError(
            f"is sparse: {need} bytes are announced, {taken} are on the disk",
            path=blamed,
            remedy="fetch the file again",
        )


class Inflated:
    """The inflated bytes of a raw deflate stream (DICOM PS3.5 annex A.5), read in turn; nothing is kept.

    Args:
        path: the file.
        start: where the deflated data start; they go to the end of the file.

    Raises:
        ScanError: from any reading: they are broken, cut short, or grow more than 100-fold beyond 64 MiB.
    """

    def __init__(self, path: Path, start: int) -> None:
        self.path, self.start = path, start
        self.file = path.open("rb")
        self.limit = max(FREE_BYTES, MAX_RATIO * (path.stat().st_size - start))
        self._rewind()

    def __enter__(self) -> Inflated:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def _rewind(self) -> None:
        self.file.seek(self.start)
        self.unpacker = zlib.decompressobj(-15)
        self.waiting = b""  # inflated and not yet asked for
        self.made = 0

    def _more(self) -> bytes:
        """The next inflated bytes; none at the end."""
        while not self.unpacker.eof:
            packed = self.unpacker.unconsumed_tail or self.file.read(PIECE)
            try:
                part = self.unpacker.decompress(packed, 4 * PIECE)
                if not packed and not part and not self.unpacker.eof:
                    raise zlib.error("cut short")
            except zlib.error as error:
                raise ScanError(
                    f"broken deflated data ({error})", path=self.path, remedy="export the series again"
                ) from None
            self.made += len(part)
            if self.made > self.limit:
                raise ScanError(
                    f"deflated data grow beyond {self.limit >> 20} MiB: refused as a decompression bomb",
                    path=self.path,
                    remedy="export the series uncompressed if it is real",
                )
            if part:
                return part
        return b""

    def read(self, count: int) -> bytes:
        """The next `count` inflated bytes, fewer at the end."""
        parts, have = [self.waiting], len(self.waiting)
        while have < count:
            part = self._more()
            if not part:
                break
            parts.append(part)
            have += len(part)
        data = b"".join(parts)
        self.waiting = data[count:]
        return data[:count]

    def seek(self, position: int) -> int:
        """Go to an inflated byte; backwards means from the start again."""
        if position < self.made - len(self.waiting):
            self._rewind()
        while self.made < position:
            self.waiting = self._more()
            if not self.waiting:
                break
        else:
            self.waiting = self.waiting[len(self.waiting) - (self.made - position) :]
        return position

    def length(self) -> int:
        """How many bytes it inflates to; goes to the end.

        Raises:
            ScanError: as from reading, and if more follows the data than padding.
        """
        while self._more():
            pass
        size = self.path.stat().st_size
        rest = size - self.file.tell() + len(self.unpacker.unused_data)
        if rest > MAX_REST:
            raise ScanError(
                f"{rest} bytes follow its deflated data", path=self.path, remedy="export the series again"
            )
        return self.made
