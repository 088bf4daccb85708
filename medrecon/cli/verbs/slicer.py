"""The verb `slicer`: what it takes, and what its help says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from medrecon.cli.options import Bundle, Device, EncoderWeights, Hu, Json
from medrecon.cli.session import Outcome, Session
from medrecon.errors import UsageError

EXAMPLES = (
    "Examples:  medrecon slicer --install ~/slicer_modules  |  medrecon slicer --xml  |  "
    "medrecon slicer t1.nrrd level3.nii.gz --layers level3"
)


def slicer(
    ctx: typer.Context,
    source: Annotated[
        Optional[Path],  # noqa: UP045 - typer evaluates this at run time, also on Python 3.10
        typer.Argument(metavar="INPUT", help="A volume (NRRD, NIfTI, MHA).", show_default=False),
    ] = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(metavar="OUTPUT", help="A .nii.gz file; it is replaced.", show_default=False),
    ] = None,
    layers: Annotated[
        str, typer.Option("--layers", "-l", metavar="NAMES", help="One layer, or several joined by plus.")
    ] = "level3",
    bundle: Bundle = "volume_autoencoder",
    encoder_weights: EncoderWeights = None,
    device: Device = "auto",
    hu: Hu = False,
    xml: Annotated[bool, typer.Option("--xml", help="Print the module's description for Slicer.")] = False,
    install: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--install",
            metavar="FOLDER",
            help="Put the module in this folder; name the folder to Slicer as an additional module path.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Reconstruct from within 3D Slicer: install a module there, which runs this medrecon."""
    session: Session = ctx.obj
    session.json = as_json
    session.quiet = session.quiet or not session.verbose  # Slicer takes each word on stderr for an error

    def work() -> Outcome:
        if xml or install is not None:
            from medrecon.cli import slicer_module

            return slicer_module.show_description() if install is None else slicer_module.install(install)
        if source is None or output is None:
            raise UsageError("no input or no output was named", remedy="see medrecon slicer --help")
        from medrecon.cli.slicer import reconstruct_volume

        return reconstruct_volume(
            session,
            source,
            output,
            layers=layers,
            bundle=bundle,
            encoder_weights=encoder_weights,
            device=device,
            hu=hu,
        )

    session.run(work)
