"""The command `decode`: one feature file, one volume for each result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrecon.cli.command import verb
from medrecon.cli.declare import option
from medrecon.cli.options import OUTPUT_FORMATS, Device, OutputFormat, Overwrite, layers_option
from medrecon.cli.progress import progress_bar
from medrecon.cli.samples import Samples
from medrecon.cli.session import Outcome, Session
from medrecon.cli.tables import print_table

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Into:
    """By which decoder, and into what."""

    bundle: Annotated[
        str | None,
        option(
            "--bundle -b NAME|DIR",
            "The bundle whose decoder is used. Default: the one that encoded, if it comes with "
            "medrecon. A bundle's configuration can run code: name only bundles that you trust.",
        ),
    ] = None
    source: Annotated[
        Path | None,
        option(
            "--source SERIES",
            "The DICOM series that was encoded, or a folder that holds it: a derived DICOM series is "
            "written. Without it NIfTI is written, and no scan is needed.",
        ),
    ] = None
    output_format: Annotated[
        OutputFormat,
        option(
            f"--format -f {OUTPUT_FORMATS}",
            "same: what the name of OUTPUT says, else DICOM with --source and NIfTI without.",
        ),
    ] = OutputFormat.same


@verb(
    "medrecon decode ct.safetensors ct_level4.nii.gz",
    "medrecon decode t1.safetensors out/ --layers level4,level3+level4",
    "medrecon decode ct.safetensors CT_level4/ --source CT_SERIES/",
    "medrecon decode ct.safetensors ct_level5.nii.gz --layers level5 --samples 8",
)
def decode(
    session: Session,
    features: Annotated[
        Path, typer.Argument(metavar="FEATURES", help="A file that `medrecon encode` wrote.")
    ],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT",
            help="For one result the .nii.gz file (with --source: the series folder). For several: a folder "
            "with one entry each.",
        ),
    ],
    *,
    drawn: Samples,
    layers: Annotated[
        str | None,
        layers_option(
            "Of the layers in the file. Comma: several results; plus: layers joined into one, e.g. "
            "level3,level3+level4. Default: each layer is one result.",
        ),
    ] = None,
    to: Into,
    overwrite: Overwrite = False,
    device: Device = "auto",
) -> Outcome:
    """Turn a file of features back into a scan.

    The result has the source's grid and units; the scan itself is not needed. --samples draws plausible
    scans that have the same features, into NAME_samples beside it.
    """
    from medrecon.features import decode as decode_file

    with progress_bar(session, features.name, "pieces") as tick:
        done = decode_file(
            features,
            output,
            layers=layers,
            bundle=to.bundle,
            source=to.source,
            output_format=to.output_format.value,
            device=device,
            overwrite=overwrite,
            samples=drawn.samples,
            seed=drawn.drawn_with,
            progress=tick,
        )
    session.note(*done.notes)
    data = {
        "features": str(features),
        "outputs": {result: str(path) for result, path in done.outputs.items()},
        "notes": list(done.notes),
        "seconds": round(done.seconds, 3),
    }

    def show(console: Console) -> None:
        print_table(console, ("result", "written to"), list(done.outputs.items()))

    return Outcome(data, show)
