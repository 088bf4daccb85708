"""Names of outputs: made here, from what is no identity; of what else the source says only when asked."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

from medrecon.io.scan import Scan

_LONGEST = 40
_LONGEST_MESSAGE = 20_000
_COUNT = re.compile(r"\d{1,4}|..?", re.DOTALL)
"""File names that say nothing, and may stand in a message as something else: `slice 3`."""

_WORD = re.compile(r"[\w+~^=#@%-]+(?:\.[\w+~^=#@%-]+)*")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)


def safe_name(text: str, fallback: str = "scan", longest: int = _LONGEST) -> str:
    """A file name of letters, digits, `-`, `_`, `.` and `+` that means the same on each system.

    Args:
        text: anything, for instance a SeriesDescription.
        fallback: what to use when nothing of it can stay.
        longest: number of characters kept.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    plain = re.sub(r"[^A-Za-z0-9_.+]+", "-", plain)
    plain = re.sub(r"\.{2,}", ".", plain)[:longest].strip("-._+")
    if not plain:
        return fallback
    return f"{fallback}-{plain}" if _RESERVED.fullmatch(plain.split(".")[0]) else plain


def scan_label(scan: Scan) -> str:
    """What outputs and messages call a scan: modality, body part and key, such as `CT-chest_1f2e3d4c`.

    Texts of the header and file names may hold a patient's name: they are used only where the user asked for
    it (`named_from_source`).
    """
    if scan.named_from_source:
        return f"{safe_name(scan.description)}_{scan.key}"
    return f"{'-'.join(_kind(scan)) or 'scan'}_{scan.key}"


def scan_words(scan: Scan) -> str:
    """The same with its size, to choose from: `1f2e3d4c (CT chest, 512 x 512 x 300)`."""
    size = " x ".join(map(str, scan.shape))
    return f"{scan.key} ({', '.join([' '.join(_kind(scan)) or scan.format, size])})"


def _kind(scan: Scan) -> list[str]:
    """Modality and body part as far as they are known: defined terms of DICOM, which hold no name."""
    return [word for word in (scan.modality, scan.body_part.lower()) if word]


def hiding(paths: Iterable[Path]) -> Callable[[str], str]:
    """What takes names of files and folders out of messages that go where others read them.

    Args:
        paths: of all files that a message may speak of. "IM_DOE_3.dcm has another one" becomes "file 3 of 120
            has another one", in the order of the names.

    Returns:
        The message -> the same without them; takes time by its length, not by the number of files.
    """
    texts = sorted({os.fspath(path) for path in paths})
    numbers = {
        name: f"file {number} of {len(texts)}"
        for number, name in enumerate(map(os.path.basename, texts), start=1)
        if name and not _COUNT.fullmatch(name)
    }
    parents = {Path(os.path.dirname(text)) for text in texts}  # noqa: PTH120 - many files, few folders
    folders = {str(one) for p in parents for q in (p, p.absolute()) for one in (q, *q.parents)} - {
        ".",
        "/",
        "",
    }
    odd = [name for name in numbers if _WORD.fullmatch(name) is None]
    places = re.compile("|".join(re.escape(f) for f in sorted(folders, key=len, reverse=True)) or r"(?!)")

    def hide(text: str) -> str:
        text = places.sub("...", text[:_LONGEST_MESSAGE])
        for name in odd:
            text = text.replace(name, numbers[name])
        return _WORD.sub(lambda word: numbers.get(word[0], word[0]), text)

    return hide


def result_names(results: Iterable[str]) -> dict[str, str]:
    """Result -> file name, different for each also where letter case is not told apart."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for result in results:
        name = safe_name(result, "result")
        if name != result or name.lower() in taken:
            name = f"{name}-{hashlib.sha256(result.encode()).hexdigest()[:6]}"
        names[result] = name
        taken.add(name.lower())
    return names


def unused(place: Path) -> Path:
    """This path, or with a number where what a run before wrote is there: `out.sources-2.csv`."""
    number, first = 2, place
    while os.path.lexists(place):
        place, number = first.with_name(f"{first.stem}-{number}{first.suffix}"), number + 1
    return place
