"""The verbs that only look: `scans`, `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrecon.cli.faults import fault_of
from medrecon.cli.session import Outcome
from medrecon.cli.tables import table

if TYPE_CHECKING:
    from rich.console import Console

    from medrecon.io.scan import Scan


def list_scans(path: Path, **options: Any) -> Outcome:
    """What a folder or a file holds: scans, what is refused, what is left out and why.

    `options` go to `medrecon.io.find_scans`.

    Raises:
        ScanError: there is nothing that can be read.
    """
    from medrecon.io import find_scans

    found = find_scans(path, **options)
    rows = [scan_data(scan) for scan in found.scans]
    refused = [fault_of(error).data() for error in found.refused]
    left_out = [{"path": str(item.path), "reason": item.reason} for item in found.left_out]

    def show(console: Console) -> None:
        columns = ("key", "modality", "shape", "spacing (mm)", "orientation", "units", "description", "path")
        console.print(table(columns, [_scan_cells(row) for row in rows]))
        notes = [(row["key"], note) for row in rows for note in row["notes"]]
        if notes:
            console.print(table(("scan", "note"), notes))
        if refused:
            console.print(table(("refused", "why", "what to do"), [_fault_cells(row) for row in refused]))
        if left_out:
            console.print(table(("left out", "why"), [(row["path"], row["reason"]) for row in left_out]))

    return Outcome({"scans": rows, "refused": refused, "left_out": left_out}, show)


def scan_data(scan: Scan) -> dict[str, Any]:
    """A scan's headers as JSON types."""
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


def compare_scans(source: Path, recon: Path, *, series: str | None, volume: int | None, hu: bool) -> Outcome:
    """Geometry first, then MAE, PSNR and SSIM of a reconstruction against its source.

    Args:
        source: the scan to compare with.
        recon: its reconstruction.
        series: which series of the source.
        volume: which volume of the source.
        hu: both hold HU, though their files cannot say so.

    Raises:
        UsageError: `hu` for a source that says otherwise.
        ScanError: either cannot be read, or their grids differ.
    """
    from medrecon.evaluation import compare_geometry, fidelity
    from medrecon.io import find_one, read_scan
    from medrecon.io.scan import ScanError

    first = find_one(source, series=series, volume=volume)
    if hu:
        from medrecon.io.choices import with_hu

        first = with_hu(first)
    second = find_one(recon)
    differences = compare_geometry(first.affine, first.shape, second.affine, second.shape)
    if differences:
        raise ScanError(
            f"its grid is not that of {source}: {'; '.join(differences)}",
            path=recon,
            remedy="resample one onto the other first, voxels cannot be compared as they are",
        )
    measured = fidelity(read_scan(first), read_scan(second), units=first.units, spacing=first.spacing)
    data = {
        "source": scan_data(first),
        "recon": scan_data(second),
        "geometry": "equal",
        "identical": measured.max_error == 0,
        **measured.to_dict(),
    }
    units = first.units or "source units"
    low, high = measured.data_range

    def show(console: Console) -> None:
        shape = "x".join(str(size) for size in first.shape)
        console.print(f"geometry: equal ({shape}, {orientation(first.affine)})")
        rows = [
            (f"MAE ({units})", f"{measured.mae:.4g}"),
            (f"RMSE ({units})", f"{measured.rmse:.4g}"),
            (f"bias ({units})", f"{measured.bias:.4g}"),
            (f"largest error ({units})", f"{measured.max_error:.4g}"),
            (f"PSNR (dB, over {low:g} to {high:g} {units})", f"{measured.psnr:.2f}"),
            ("SSIM", f"{measured.ssim:.4f}"),
        ]
        console.print(table(("measure", "value"), rows, right=("value",)))

    return Outcome(data, show)
