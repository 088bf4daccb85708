"""What became of one scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medrecon.io.scan import Scan


@dataclass(frozen=True)
class Record:
    """What became of one scan: its outputs, and how long they took.

    Attributes:
        scan: the source.
        outputs: result -> where it was written.
        seconds: time from file to file; while several scans are at work their times overlap.
        network_seconds: the part of it that the network took.
        feature_distances: output -> how far its features are from those that it was made from, over the
            length of those; measured where samples are drawn.
        notes: what was noticed while reading and writing and must be said, one line each.
    """

    scan: Scan
    outputs: dict[str, Path]
    seconds: float
    network_seconds: float
    notes: tuple[str, ...] = ()
    feature_distances: Mapping[str, float] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        from medrecon.io.preview import html_of

        return html_of(self.scan, self.outputs)


@dataclass
class Stage:
    """A scan on its way: what was read of it, then also what was made of it."""

    scan: Scan
    item: dict[Any, Any]
    seconds: float
    network_seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
