"""The verb `atlas`: what it takes, and what its help says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from medrecon.cli.options import (
    AllSeries,
    Bundle,
    Device,
    EncoderWeights,
    Hu,
    Json,
    NiftiForm,
    Reading,
    ReplaceNonfinite,
    ResampleTilt,
    Series,
    Volume,
)
from medrecon.cli.session import Outcome, Session

EXAMPLES = (
    "Examples:  medrecon atlas CT_SERIES/ CT_atlas/  |  medrecon atlas t1.nii.gz out/ --layers level3,level4 "
    "--roi lesion.nii.gz  |  medrecon atlas study/ out/ --all-series  |  medrecon atlas study/ out/ "
    "--compare volume_autoencoder slice_autoencoder  |  medrecon atlas out/ --compare atlas_a/ atlas_b/"
)


def atlas(
    ctx: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", help="One scan, or a folder of scans. Left out to compare two earlier outputs."
        ),
    ],
    output: Annotated[
        Optional[Path],  # noqa: UP045 - typer evaluates this at run time, also on Python 3.10
        typer.Argument(
            metavar="OUTPUT",
            help="A new folder: metrics.json, metrics.csv, report.html, figures/, review.mrb. For several "
            "scans one such folder each, and summary/index.html.",
            show_default=False,
        ),
    ] = None,
    bundle: Bundle = "volume_autoencoder",
    layers: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--layers",
            "-l",
            metavar="NAMES",
            help="Comma: several results; plus: layers joined into one, e.g. level2,level3+level4. Default: "
            "each layer.",
        ),
    ] = None,
    roi: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--roi",
            metavar="MASK",
            help="Measure over the labels of this mask, too; it must lie on the scan's grid. For several "
            "scans: a folder of masks named like the scans.",
        ),
    ] = None,
    encoder_weights: EncoderWeights = None,
    compare: Annotated[
        Optional[tuple[str, str]],  # noqa: UP045
        typer.Option(
            "--compare",
            metavar="A B",
            help="Two bundles on the scans of INPUT, or the outputs of two earlier runs: paired differences "
            "with bootstrap intervals.",
        ),
    ] = None,
    viewer: Annotated[
        bool, typer.Option("--viewer/--no-viewer", help="Put the interactive viewer into report.html.")
    ] = True,
    device: Device = "auto",
    series: Series = None,
    all_series: AllSeries = False,
    volume: Volume = None,
    hu: Hu = False,
    resample_tilt: ResampleTilt = False,
    nifti_form: NiftiForm = "",
    replace_nonfinite: ReplaceNonfinite = None,
    as_json: Json = False,
) -> None:
    """Measure what each layer kept of a scan: fidelity, rate, controls, uncertainty; as numbers and pictures.

    Errors in HU or source units over the body, tissues and a mask; by spatial frequency; bits per voxel
    beside JPEG 2000, HTJ2K and JPEG-LS; each score beside its controls; a calibrated interval for each voxel.
    """
    session: Session = ctx.obj
    session.json = as_json

    def work() -> Outcome:
        from medrecon.cli.atlas import Asked, make_atlas, make_comparison
        from medrecon.errors import UsageError

        asked = Asked(
            layers=layers,
            roi=roi,
            encoder_weights=encoder_weights,
            viewer=viewer,
            device=device,
            reading=Reading(series, volume, hu, resample_tilt, nifti_form, replace_nonfinite, all_series),
        )
        if compare is not None:
            scans, place = (None, source) if output is None else (source, output)
            return make_comparison(session, scans, place, compare, asked)
        if output is None:
            raise UsageError("OUTPUT is missing", remedy="medrecon atlas INPUT OUTPUT; see --help")
        return make_atlas(session, source, output, bundle, asked)

    session.run(work)
