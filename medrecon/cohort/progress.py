"""How far a run is: counts, throughput, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from medrecon.cohort.work import DONE


@dataclass
class Tally:
    """Counts of a run; what earlier runs did is counted as done, but not as speed.

    Attributes:
        total: studies of the plan.
        made: that this run made; `kept` were done before, `failed` are partial or failed.
        voxels: of the sources of those made.
    """

    total: int
    made: int = 0
    kept: int = 0
    failed: int = 0
    voxels: int = 0
    clock: Callable[[], float] = time.monotonic
    _first: float | None = field(default=None, repr=False)
    _voxels_before: int = field(default=0, repr=False)

    @property
    def ended(self) -> int:
        """Studies that are through, well or not."""
        return self.made + self.kept + self.failed

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a study that ended."""
        if row.get("kept") and row["status"] == DONE:
            self.kept += 1
            return
        if row["status"] == DONE:
            self.made += 1
            self.voxels += int(row.get("voxels") or 0)
        else:
            self.failed += 1
        if self._first is None and row["status"] == DONE:  # what came before it was start-up
            self._first, self._voxels_before = self.clock(), self.voxels

    @property
    def elapsed(self) -> float:
        """Seconds since the first study was made."""
        return 0.0 if self._first is None else self.clock() - self._first

    @property
    def rate(self) -> float | None:
        """Studies a second, once more than one was made."""
        return (self.made - 1) / self.elapsed if self.made > 1 and self.elapsed > 0 else None

    @property
    def remaining(self) -> float | None:
        """Seconds that are left at this rate."""
        return None if self.rate is None else (self.total - self.ended) / self.rate

    def words(self) -> str:
        """The same in one line."""
        parts = [f"{self.made + self.kept}/{self.total} done"]
        if self.kept:
            parts[0] += f" ({self.kept} by an earlier run)"
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.rate is not None and self.remaining is not None:
            speed = f"{self.rate:.2f} studies/s" if self.rate >= 0.1 else f"{3600 * self.rate:.0f} studies/h"
            voxels = (self.voxels - self._voxels_before) / self.elapsed / 1e6
            parts += [speed, f"{voxels:.2f} million voxels/s", f"{duration(self.remaining)} left"]
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Such as 0:07, 12:30, 3:04:05 or 2 d 03:04."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24} d {hours % 24:02d}:{minutes:02d}"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
