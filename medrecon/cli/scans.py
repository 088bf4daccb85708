"""The command `scans`: what a folder holds, what is left out, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medrecon.cli.command import verb
from medrecon.cli.faults import fault_of
from medrecon.cli.options import Accept, NiftiForm, Resample, Volume
from medrecon.cli.session import Outcome, Session
from medrecon.cli.tables import print_table

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from medrecon.io.scan import Scan


@verb("medrecon scans STUDY/", "medrecon scans t1.nii.gz --json", loads=False)
def scans(
    session: Session,
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="A folder (searched to the bottom), a zip file or a scan file."),
    ],
    volume: Volume = None,
    resample: Resample = False,
    accept: Accept = None,
    nifti_form: NiftiForm = "",
) -> Outcome:
    """List the scans in a folder, and what is left out.

    Of each: modality, shape, spacing, orientation, units; of the rest, the reason. Reads headers only.
    """
    from medrecon.io import find_scans

    found = find_scans(
        session.folder_of(path),
        volume=volume,
        resample=resample,
        accept=tuple(accept or ()),
        nifti_form=nifti_form,
    )
    rows = [scan_data(scan) for scan in found.scans]
    refused = [fault_of(error).data() for error in found.refused]
    left_out = [{"path": str(item.path), "reason": item.reason} for item in found.left_out]

    def show(console: Console) -> None:
        columns = ("key", "modality", "shape", "spacing (mm)", "orientation", "units", "description", "path")
        print_table(
            console,
            columns,
            [_scan_cells(row) for row in rows],
            whole=columns[:4],
            spare=("description", "orientation", "units"),
        )
        notes = [(row["key"], note) for row in rows for note in row["notes"]]
        if notes:
            print_table(console, ("scan", "note"), notes)
        if refused:
            print_table(console, ("refused", "why", "what to do"), [_fault_cells(row) for row in refused])
        if left_out:
            print_table(console, ("left out", "why"), [(row["path"], row["reason"]) for row in left_out])

    return Outcome({"scans": rows, "refused": refused, "left_out": left_out}, show)


def scan_data(scan: Scan) -> dict[str, Any]:
    """A scan's headers as JSON types."""
    import numpy as np

    return {
        "key": scan.key,
        "path": str(scan.path),
        "format": scan.format,
        "modality": scan.modality,
        "units": scan.units,
        "shape": list(scan.shape),
        "spacing": [round(step, 6) for step in scan.spacing],
        "orientation": orientation(scan.affine),
        "affine": np.asarray(scan.affine, dtype=float).tolist(),
        "description": scan.description,
        "series_uid": scan.series_uid,
        "volume": scan.volume,
        "files": len(scan.files),
        "notes": list(scan.notes),
    }


def orientation(affine: np.ndarray) -> str:
    """Where the axes X, Y, Z point, e.g. "LPS", with the largest angle to the body's axes if oblique."""
    import numpy as np
    from nibabel.orientations import aff2axcodes

    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    angle = float(np.degrees(np.arccos(np.clip(np.abs(directions).max(axis=0).min(), 0, 1))))
    codes = "".join(code or "?" for code in aff2axcodes(affine))
    return f"{codes}, oblique {angle:.1f} deg" if angle > 0.05 else codes


def _scan_cells(row: dict[str, Any]) -> tuple[Any, ...]:
    shape = "x".join(str(size) for size in row["shape"])
    spacing = " x ".join(f"{step:.4g}" for step in row["spacing"])
    name = row["description"] if row["volume"] is None else f"{row['description']} (volume {row['volume']})"
    return (
        row["key"],
        row["modality"] or None,
        shape,
        spacing,
        row["orientation"],
        row["units"] or None,
        name,
        row["path"],
    )


def _fault_cells(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["path"], row["message"], row["remedy"]
