"""One scan's atlas from its file to its folder, and the page over several of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medrecon.atlas.measuring import measure
from medrecon.atlas.network import Engine
from medrecon.atlas.output import INDEX, PAGE, write_atlas
from medrecon.atlas.summary import patient_numbers, write_summary
from medrecon.evaluation.geometry import compare_geometry
from medrecon.evaluation.scores import ScanScores
from medrecon.io import find_one, publish, read_scan
from medrecon.io.scan import Scan, ScanError


def make_atlas(
    engine: Engine,
    scan: Scan,
    place: Path,
    *,
    roi: Path | None = None,
    viewer: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> ScanScores:
    """Measure what each layer kept of a scan, and write it.

    Args:
        engine: made for this scan.
        scan: the source.
        place: the folder that is written.
        roi: a mask, or a folder of masks named like the scans; see `read_mask`.
        viewer: put the interactive viewer into the page.
        progress: called with (hundredths of stages done, of all).

    Raises:
        ScanError: the scan or the mask cannot be read.
        ModelError: the network cannot take this scan.
        OutputError: the folder is taken, or cannot be written.
    """
    mask = None if roi is None else read_mask(scan, roi)
    stages = ["network", "codecs", *engine.results, "writing"]
    stage = -1

    def tell(hundredths: int) -> None:
        if progress is not None:
            progress(hundredths, 100 * len(stages))

    def step(name: str) -> None:
        nonlocal stage
        stage += 1
        tell(100 * stage)

    scores, volumes = measure(engine, scan, mask, step, lambda done, of: tell(int(100 * done / max(1, of))))
    step("writing")
    write_atlas(place, scores, volumes, viewer=viewer)
    return scores


def read_mask(scan: Scan, roi: Path) -> np.ndarray:
    """The labels on the scan's grid.

    Args:
        scan: what it lies on.
        roi: the mask, or a folder with one that is named like the scan.

    Raises:
        ScanError: it cannot be read, or lies on another grid.
    """
    path = roi / scan.path.name if roi.is_dir() and (roi / scan.path.name).exists() else roi
    found = find_one(path)
    differences = compare_geometry(scan.affine, scan.shape, found.affine, found.shape)
    if differences:
        raise ScanError(
            f"its grid is not that of {scan.path}: {'; '.join(differences)}",
            path=path,
            remedy="draw the mask on the scan's own grid, or resample it there (nearest neighbour)",
        )
    return read_scan(found)


def write_overview(
    folder: Path,
    scans: Sequence[Scan],
    scores: Sequence[ScanScores],
    outputs: Mapping[str, Path],
    failed: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Write the summary of many scans, and the page that leads to each.

    Args:
        folder: must not exist, or be empty.
        scans: all of them.
        scores: of those that went well.
        outputs: key of a scan -> its own folder, beside this one.
        failed: "path" and "message" of the others; the page gets the name of the file, not the way to it.

    Returns:
        The summary.

    Raises:
        OutputError: it cannot be written.
    """
    from medrecon.report.index import write_index

    with publish(folder) as hidden:
        hidden.mkdir()
        summary = write_summary(hidden, scores, patient_numbers(scans), failed)
        write_index(
            hidden / INDEX,
            [(each, f"../{outputs[each.key].name}/{PAGE}") for each in scores],
            summary["results"],
            outliers=summary["outliers"],
            failed=[
                {"scan": Path(fault["path"]).name if fault["path"] else "", "error": fault["message"]}
                for fault in failed
            ],
        )
    return summary
