"""The command `compare`: a reconstruction against its source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrecon.cli.batch import as_told, say_note
from medrecon.cli.command import verb
from medrecon.cli.options import OneScan
from medrecon.cli.scans import orientation, scan_data
from medrecon.cli.session import Outcome, Session
from medrecon.cli.tables import print_table

if TYPE_CHECKING:
    from rich.console import Console


@verb("medrecon compare CT_SERIES/ CT_level3/", "medrecon compare ct.nii.gz ct_level3.nii.gz --hu")
def compare(
    session: Session,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The scan to compare with.")],
    recon: Annotated[Path, typer.Argument(metavar="RECON", help="Its reconstruction.")],
    reading: OneScan,
) -> Outcome:
    """Measure the error of a reconstruction: MAE, PSNR, SSIM.

    Both must lie on the same grid. Errors are in HU, or in the source's units. The options are SOURCE's;
    --hu holds for both.
    """
    from medrecon.io import find_one, read_scan
    from medrecon.io.choices import with_hu
    from medrecon.io.read import load
    from medrecon.io.scan import ScanError

    first = find_one(session.folder_of(source), **reading.options)
    (first,) = [with_hu(first)] if reading.hu else as_told(session, [first], recon, source)
    second = find_one(session.folder_of(recon), accept=reading.options["accept"])
    from medrecon.evaluation import compare_geometry, fidelity

    first, second = (replace(scan, named_from_source=reading.names_from_source) for scan in (first, second))
    differences = compare_geometry(first.affine, first.shape, second.affine, second.shape)
    if differences:
        raise ScanError(
            f"its grid is not that of {source}: {'; '.join(differences)}",
            path=recon,
            remedy="resample one onto the other first, voxels cannot be compared as they are",
        )
    original, notes = load(first)
    for note in dict.fromkeys([*first.notes, *notes]):
        say_note(session, first, note)
    measured = fidelity(original, read_scan(second), units=first.units, spacing=first.spacing)
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
        print_table(console, ("measure", "value"), rows, right=("value",))

    return Outcome(data, show)
