"""The verb `decode`: what it takes, and what its help says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from medrecon.cli.options import Device, Json, OutputFormat, Overwrite
from medrecon.cli.session import Outcome, Session

EXAMPLES = (
    "Examples:  medrecon decode ct.safetensors ct_level4.nii.gz  |  medrecon decode t1.safetensors out/ "
    "--layers level4,level3+level4  |  medrecon decode ct.safetensors CT_level4/ --source CT_SERIES/"
)


def decode(
    ctx: typer.Context,
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
    layers: Annotated[
        Optional[str],  # noqa: UP045 - typer evaluates this at run time, also on Python 3.10
        typer.Option(
            "--layers",
            "-l",
            metavar="NAMES",
            help="Of the layers in the file. Comma: several results; plus: layers joined into one, e.g. "
            "level3,level3+level4. Default: each layer is one result.",
        ),
    ] = None,
    bundle: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--bundle",
            "-b",
            metavar="NAME|DIR",
            help="The bundle whose decoder is used. Default: the one that encoded, if it comes with "
            "medrecon. A bundle's configuration can run code: name only bundles that you trust.",
        ),
    ] = None,
    source: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--source",
            metavar="SERIES",
            help="The DICOM series that was encoded, or a folder that holds it: a derived DICOM series is "
            "written. Without it NIfTI is written, and no scan is needed.",
        ),
    ] = None,
    output_format: Annotated[
        OutputFormat, typer.Option("--format", "-f", help="same: DICOM with --source, NIfTI without.")
    ] = OutputFormat.same,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Turn features back into a scan of the source's grid and units; the scan itself is not needed."""
    session: Session = ctx.obj
    session.json = as_json

    def work() -> Outcome:
        from medrecon.cli.decode import decode_file

        return decode_file(
            session,
            features,
            output,
            layers=layers,
            bundle=bundle,
            source=source,
            output_format=output_format.value,
            device=device,
            overwrite=overwrite,
        )

    session.run(work)
