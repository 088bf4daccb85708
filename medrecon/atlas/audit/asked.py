"""What is asked of a cohort, and the cohorts that have no answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medrecon.atlas.audit.defences import Defence
from medrecon.atlas.audit.grid import VIEWS
from medrecon.io.scan import ScanError


@dataclass(frozen=True)
class Asked:
    """What is asked of a cohort.

    Attributes:
        ranks: the k of "among the first k".
        views: second views that are made.
        defences: what is done to the features that leave.
        members: a list of those that the network was trained on, see `membership.members`.
        face: "auto", or a mask (or a folder of masks named like the scans) of the face.
        size: voxels along each side of the common grid.
        spacing: mm between them.
        compare: "whitened" or "correlation".
        seed: of all that is drawn.
    """

    ranks: tuple[int, ...] = (1, 5)
    views: tuple[str, ...] = ()
    defences: tuple[Defence, ...] = ()
    members: str | None = None
    face: str | None = None
    size: int = 64
    spacing: float = 4.0
    compare: str = "whitened"
    seed: int = 0


def refuse_too_few(patients: Sequence[int], asked: Asked, root: Path) -> None:
    """Refuse a cohort that has no answer, before any work.

    Raises:
        ScanError: one patient alone, a rank that all of them fit into, or no second scan of anybody.
    """
    count = len(set(patients))
    if count <= max(asked.ranks):
        raise ScanError(
            f"too few patients for rank {max(asked.ranks)}: there are {count}",
            path=root,
            remedy="audit more patients" + (", or name lower --ranks" if count > 1 else ""),
        )
    if len(patients) == count and not asked.views:
        raise ScanError(
            "nobody has a second scan to be found by",
            path=root,
            remedy="add other scans of the same patients, or have second views made by "
            f"--views {','.join(VIEWS)}",
        )
