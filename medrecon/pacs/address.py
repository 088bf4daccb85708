"""Where something is in a PACS: `pacs:NAME`, `pacs:NAME/STUDY` or `pacs:NAME/STUDY/SERIES`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from medrecon.errors import UsageError

SCHEME = "pacs:"
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_LONGEST_UID = 64


@dataclass(frozen=True)
class Address:
    """A node, a study in it, or a series of that study.

    Attributes:
        node: its name in the file of nodes.
        study: a StudyInstanceUID, or "".
        series: a SeriesInstanceUID, or "".
    """

    node: str
    study: str = ""
    series: str = ""

    @classmethod
    def parse(cls, text: str | os.PathLike[str]) -> Address:
        """Read an address; `pacs:` before it may be left out.

        Raises:
            UsageError: it is none.
        """
        words = os.fspath(text).removeprefix(SCHEME).rstrip("/").split("/")
        if not words[0] or len(words) > 3:
            raise UsageError(
                f"'{text}' is no address of a PACS", remedy="write pacs:NAME, pacs:NAME/STUDY[/SERIES]"
            )
        return cls(words[0], *(checked_uid(uid) for uid in words[1:]))

    def __str__(self) -> str:
        return SCHEME + "/".join(part for part in (self.node, self.study, self.series) if part)


def is_address(text: str | os.PathLike[str]) -> bool:
    """Whether a source or an output that the user names lies in a PACS."""
    return os.fspath(text).startswith(SCHEME)


def checked_uid(text: str) -> str:
    """The text, if it is a UID (PS3.5 section 9).

    Raises:
        UsageError: it is none.
    """
    if len(text) > _LONGEST_UID or not _UID.fullmatch(text):
        raise UsageError(f"'{text}' is no UID", remedy="a UID has digits and dots, such as 1.2.840.1")
    return text
