"""The audit of a cohort: what is measured, in which order, and what it leaves on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medrecon.atlas.audit.asked import Asked, refuse_too_few
from medrecon.atlas.audit.cohort import Cohort, gather
from medrecon.atlas.audit.face import AUTO, ROUGH, face_of, face_rows
from medrecon.atlas.audit.grid import VIEWS, on_common_grid
from medrecon.atlas.audit.matching import OTHER, match_rows
from medrecon.atlas.audit.membership import NOT_ASKED, members, membership_rows, named_in_provenance
from medrecon.atlas.audit.network import AuditNetwork
from medrecon.atlas.marks import Marks
from medrecon.atlas.output import METRICS, PAGE, TABLE, refuse_taken, write_csv, write_json
from medrecon.contract import Progress
from medrecon.io import publish
from medrecon.io.files.names import scan_label
from medrecon.io.scan import Scan, ScanError

_MOST_HEADS = 32
"""Scans whose faces are measured: the first ones."""


def run_audit(
    network: AuditNetwork,
    scans: Sequence[Scan],
    patients: Sequence[int],
    output: Path,
    asked: Asked,
    root: Path,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure how well each layer identifies patients, and write it: figures, table, one page.

    Args:
        network: made for these scans.
        scans: the cohort.
        patients: whose each is, counted from 0 (`patients.patients_of`).
        output: a new folder.
        asked: what is measured.
        root: the folder that the scans were found in; for messages.
        progress: called with (volumes done, volumes in all).

    Returns:
        What metrics.json holds.

    Raises:
        ScanError: too few patients, no second scan, or a file that cannot be read.
        ModelError: the network cannot take a scan, or does not say what it was trained on.
        OutputError: the folder is taken, or cannot be written.
    """
    from medrecon.report.audit import write_audit_page

    refuse_taken(output)
    refuse_too_few(patients, asked, root)
    inside = None if asked.members is None else members(scans, asked.members, network.bundle.root)
    masks = None if asked.face in (None, AUTO) else Marks((f"face={asked.face}",))
    regions = {} if masks is None else {scan.key: _mask(masks, scan) for scan in scans}
    cohort = gather(network, scans, patients, asked, progress)
    content = _content(network, scans, cohort, asked, inside)
    if asked.face is not None:
        content["face"] = _face(network, scans, asked, regions)
    with publish(output) as folder:
        folder.mkdir()
        write_json(folder / METRICS, content)
        write_csv(folder / TABLE, content["results"])
        write_audit_page(folder / PAGE, content)
    return content


def _mask(marks: Marks, scan: Scan) -> np.ndarray:
    marked = marks.on(scan)[0]
    labels = np.zeros(scan.shape, bool)
    for each in marked:
        labels[each.box] |= each.inside
    return labels


def _content(
    network: AuditNetwork, scans: Sequence[Scan], cohort: Cohort, asked: Asked, inside: np.ndarray | None
) -> dict[str, Any]:
    ours = named_in_provenance(network.bundle.root)
    seen = sum(scan.key in ours for scan in scans)
    notes = list(network.bundle.caveats)
    if len({scan.modality for scan in scans} - {""}) > 1:
        notes.append("scans of several modalities: telling these apart makes some patients easier to find")
    if seen and asked.members is None:
        notes.append(f"the network was trained on {seen} of these scans, as its provenance says")
    repeated = int((np.bincount(cohort.patients) > 1).sum())
    conditions = (
        [{"name": OTHER, "made": False, "words": "another scan of the same patient"}] if repeated else []
    )
    conditions += [{"name": name, "made": True, "words": VIEWS[name]} for name in asked.views]
    return {
        **network.facts,
        "scans": len(scans),
        "patients": int(cohort.patients.max()) + 1,
        "patients_with_several_scans": repeated,
        "grid": {"size": asked.size, "spacing_mm": asked.spacing},
        "values_compared_at_most": cohort.most,
        "compare": asked.compare,
        "ranks": list(asked.ranks),
        "seed": asked.seed,
        "conditions": conditions,
        "defences": [{"name": each.name, "words": each.words} for each in asked.defences],
        "layers": [
            {
                "layer": result,
                "values_per_voxel": network.rate(result),
                "psnr": cohort.psnr(cohort.errors[result]),
                "linear_code_psnr": cohort.psnr(cohort.control[result]),
                "psnr_with": {
                    each.name: cohort.psnr(cohort.defended[result, each.name]) for each in asked.defences
                },
            }
            for result in network.results
        ],
        "results": match_rows(cohort, [str(each["name"]) for each in conditions], network.results, asked),
        "membership": {"said": NOT_ASKED, "rows": []}
        if inside is None
        else {"said": "", "rows": membership_rows(cohort.errors, cohort.control, inside)},
        "face": None,
        "notes": notes,
        "patient_of": {
            scan_label(scan): f"patient {number + 1}"
            for scan, number in zip(scans, cohort.patients.tolist(), strict=True)
        },
    }


def _face(
    network: AuditNetwork, scans: Sequence[Scan], asked: Asked, regions: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """The faces, one at a time; scans whose region shows none are left out and counted."""
    faces = []
    for scan in scans[:_MOST_HEADS]:
        volume = on_common_grid(scan, asked.size, asked.spacing)
        region = None
        if asked.face != AUTO:
            placed = on_common_grid(scan, asked.size, asked.spacing, labels=regions[scan.key])
            region = placed.as_tensor()[0].numpy() > 0.5
        faces.append(face_of(volume, region))
    shown = [face for face in faces if face is not None]
    if not shown:
        raise ScanError(
            "no scan shows a face in the region",
            path=asked.face if asked.face != AUTO else None,
            remedy="give a mask of the face by --face, or leave it out",
        )
    return {
        "region": ROUGH if asked.face == AUTO else "the mask that was given",
        "without": len(faces) - len(shown),
        "rows": face_rows(network, shown),
    }
