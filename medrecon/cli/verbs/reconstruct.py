"""The verb `reconstruct`: what it takes, and what its help says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from medrecon.cli.options import (
    AllSeries,
    Bundle,
    Device,
    EncoderWeights,
    Format,
    Hu,
    Input,
    Json,
    NiftiForm,
    OutputFormat,
    Overwrite,
    Reading,
    ReplaceNonfinite,
    ResampleTilt,
    Series,
    Volume,
)
from medrecon.cli.session import Outcome, Session

EXAMPLES = (
    "Examples:  medrecon reconstruct CT_SERIES/ CT_level3/ --layers level3  |  "
    "medrecon reconstruct t1.nii.gz out/ --layers level1,level2,level3+level4  |  "
    "medrecon reconstruct study/ out/ --layers input --format nifti  |  "
    "medrecon reconstruct CT_SERIES/ out/ --bundle frozen_encoder_inversion --encoder-weights VGG16 "
    "--layers relu1_2,relu4_3"
)


def reconstruct(
    ctx: typer.Context,
    source: Input,
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT",
            help="For one scan and one result: the series folder or the .nii.gz file. For several: a folder "
            "with one entry each.",
        ),
    ],
    layers: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--layers",
            "-l",
            metavar="NAMES",
            help="Comma: several results; plus: layers joined into one result, e.g. level2,level3+level4. "
            "'input' uses no network: the control. Default: what the bundle names.",
        ),
    ] = None,
    bundle: Bundle = "volume_autoencoder",
    encoder_weights: EncoderWeights = None,
    device: Device = "auto",
    output_format: Format = OutputFormat.same,
    overwrite: Overwrite = False,
    manifest: Annotated[
        bool,
        typer.Option(
            "--manifest/--no-manifest", help="Write what was read, run and written, without identity."
        ),
    ] = True,
    series: Series = None,
    all_series: AllSeries = False,
    volume: Volume = None,
    hu: Hu = False,
    resample_tilt: ResampleTilt = False,
    nifti_form: NiftiForm = "",
    replace_nonfinite: ReplaceNonfinite = None,
    check_tiling: Annotated[
        bool,
        typer.Option(
            "--check-tiling",
            help="Compare each scan in tiles with the same in one piece first, and say how far they differ.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write what the chosen layers keep of a scan, as a scan of the same grid and units."""
    session: Session = ctx.obj
    session.json = as_json

    def work() -> Outcome:
        from medrecon.cli.reconstruct import reconstruct_scans

        return reconstruct_scans(
            session,
            source,
            output,
            layers=layers,
            bundle=bundle,
            encoder_weights=encoder_weights,
            device=device,
            output_format=output_format.value,
            overwrite=overwrite,
            manifest=manifest,
            reading=Reading(series, volume, hu, resample_tilt, nifti_form, replace_nonfinite, all_series),
            check_tiling=check_tiling,
        )

    session.run(work)
