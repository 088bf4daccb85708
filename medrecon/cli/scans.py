"""The command `scans`: what a folder holds, what is left out, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medrecon.cli.command import verb
from medrecon.cli.faults import fault_of
from medrecon.cli.options import Accept, NamesFromSource, NiftiForm, Resample, Volume
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
    names_from_source: NamesFromSource = False,
) -> Outcome:
    """List the scans in a folder, and what is left out.

    Descriptions and paths, which may hold a patient's name, are shown on a terminal, or where you ask.

    Of each: modality, shape, spacing, orientation, units; of the rest, the reason. Reads headers only.
    """
    from medrecon.cli.batch import left_out_data
    from medrecon.io import find_scans
    from medrecon.io.choices import named_from_source

    found = find_scans(
        session.folder_of(path),
        volume=volume,
        resample=resample,
        accept=tuple(accept or ()),
        nifti_form=nifti_form,
    )
    found = named_from_source(found) if names_from_source else found
    rows = [scan_data(scan) for scan in found.scans]
    refused = [fault_of(error).data() for error in found.refused]

    def show(console: Console) -> None:
        shown = named_from_source(found) if console.file.isatty() else found
        named = any(scan.named_from_source for scan in shown.scans)
        columns = ("key", "modality", "shape", "spacing (mm)", "body part", "orientation", "units")
        print_table(
            console,
            (*columns, "description", "path") if named else columns,
            [_scan_cells(scan_data(scan)) for scan in shown.scans],
            whole=columns[:4],
            spare=(*(["description"] if named else []), "orientation", "units", "body part"),
        )
        notes = [(row["key"], note) for row in rows for note in row["notes"]]
        if notes:
            print_table(console, ("scan", "note"), notes)
        if refused:
            print_table(console, ("refused", "why", "what to do"), [_fault_cells(row) for row in refused])
        if found.left_out:
            lines = [tuple(row.values()) for row in left_out_data(found.left_out, named)]
            print_table(console, ("left out", "why"), lines)

    left_out = left_out_data(found.left_out, names_from_source)
    return Outcome({"scans": rows, "refused": refused, "left_out": left_out}, show)


def scan_data(scan: Scan) -> dict[str, Any]:
    """A scan's headers as JSON types; texts that may hold a name only where the user asked for them."""
    import numpy as np

    from medrecon.io.files.names import scan_label

    names = {"path": str(scan.path), "description": scan.description, "series_uid": scan.series_uid}
    return {
        "key": scan.key,
        "label": scan_label(scan),
        **(names if scan.named_from_source else {}),
        "format": scan.format,
        "modality": scan.modality,
        "body_part": scan.body_part,
        "units": scan.units,
        "shape": list(scan.shape),
        "spacing": [round(step, 6) for step in scan.spacing],
        "orientation": orientation(scan.affine),
        "affine": np.asarray(scan.affine, dtype=float).tolist(),
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
    volume = "" if row["volume"] is None else f"volume {row['volume']}"
    names = (row["description"], row["path"]) if "path" in row else ()
    return (
        row["key"],
        f"{row['modality']} {volume}".strip() or None,
        shape,
        spacing,
        row["body_part"] or None,
        row["orientation"],
        row["units"] or None,
        *names,
    )


def _fault_cells(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["path"], row["message"], row["remedy"]
