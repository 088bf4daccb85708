"""What became of one scan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medrecon.io.scan import Scan


@dataclass(frozen=True)
class Record:
    """What became of one scan: its outputs, and how long they took.

    Attributes:
        scan: the source.
        outputs: result -> where it was written.
        seconds: time from file to file; while several scans are at work their times overlap.
        network_seconds: the part of it that the network took.
        notes: what was noticed while reading and writing and must be said, one line each.
    """

    scan: Scan
    outputs: dict[str, Path]
    seconds: float
    network_seconds: float
    notes: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        from medrecon.io.preview import html_of

        return html_of(self.scan, self.outputs)
