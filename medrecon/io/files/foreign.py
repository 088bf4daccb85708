"""Files that have a scan's name and hold something else; files that belong together."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from pathlib import Path

_APPLE = (b"\x00\x05\x16\x07", b"\x00\x05\x16\x00")
_LFS = (b"version https://git-lfs.github.com/", b"version https://hawser.github.com/")
_ANNEX = re.compile(rb"(?:\.\./)*(?:\.git)?/?annex/objects/")
_TEXT = frozenset(string.printable.encode())
UNFETCHED = "a link of git-annex: the file itself was not fetched"
_ENDING = re.compile(r"\.(img|hdr|raw|zraw)(\.gz)?$", re.IGNORECASE)


def foreign(path: Path) -> str:
    """What a file is whose name is that of a scan and whose first bytes are not; "" for what may be a scan.

    Named like that are what macOS keeps beside a file on other disks (RFC 1740), pointers that stand for a
    file in a large-file store until it is fetched, and headers of other formats that end in `.hdr`.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except OSError:
        return UNFETCHED if unfetched(path) else ""
    if path.name.startswith("._") and (not head or head.startswith(_APPLE)):
        return "what macOS keeps of another file (AppleDouble), no scan"
    if head.startswith(_LFS):
        return "a pointer of Git LFS: the file itself was not fetched"
    if _ANNEX.match(head):
        return "a pointer of git-annex: the file itself was not fetched"
    if path.name.lower().endswith(".hdr") and head and _TEXT.issuperset(head):
        known = re.match(rb"\s*(?:;[^\n]*\n\s*)*!?(INTERFILE|ENVI|#\?RADIANCE|#\?RGBE)", head, re.IGNORECASE)
        kind = known[1].decode().lstrip("#?").upper() if known else "text"
        return f"a header of another format ({kind}), not NIfTI"
    return ""


def unfetched(link: Path) -> bool:
    """Whether a link to nowhere is one of git-annex, whose file was not fetched."""
    try:
        return "annex/objects/" in str(link.readlink())
    except OSError:
        return False


def partner(path: Path, endings: Sequence[str]) -> Path | None:
    """The file beside that differs in its ending alone, in small or capital letters; None without one."""
    stem = _ENDING.sub("", path.name)
    if stem != path.name:
        for ending in endings:
            for spelled in (ending, ending.upper()):
                if (other := path.with_name(stem + spelled)).is_file():
                    return other
    return None
