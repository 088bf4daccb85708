"""The verb `cohort`: what it takes, and what its help says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from medrecon.cli.options import (
    AllSeries,
    Bundle,
    ClusterOption,
    Device,
    EncoderWeights,
    Format,
    Gpus,
    Hu,
    Json,
    NiftiForm,
    Nodes,
    OutputFormat,
    Reading,
    ReplaceNonfinite,
    ResampleTilt,
    Series,
    Volume,
)
from medrecon.cli.session import Outcome, Session

EXAMPLES = (
    "Examples:  medrecon cohort STUDIES/ OUT/ --layers level3  |  medrecon cohort list.csv OUT/ --workers 4  "
    "|  medrecon cohort STUDIES/ OUT/ --cluster slurm --nodes 4 --workers 16 --cluster-option partition=cpu "
    "--cluster-option walltime=08:00:00"
)


def cohort(
    ctx: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT_DIR|LIST",
            help="A folder whose entries are a study each (a folder, or a scan file); or a text file with "
            "one path a line; or a .csv or .tsv file with a column 'path'.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT_DIR",
            help="Gets a folder for each study, results.csv and cohort.json. The same command again does "
            "only what is not done.",
        ),
    ],
    workers: Annotated[
        Optional[int],  # noqa: UP045 - typer evaluates this at run time, also on Python 3.10
        typer.Option(
            "--workers",
            "-n",
            min=1,
            metavar="N",
            help="Processes that keep the model loaded, of all machines together. Default: one for each GPU, "
            "else as many as cores and memory allow (on a cluster one for each node).",
        ),
    ] = None,
    cluster: Annotated[
        str,
        typer.Option(metavar="local|slurm|pbs|kubernetes", help="Where the workers run."),
    ] = "local",
    nodes: Nodes = 1,
    gpus: Gpus = None,
    cluster_option: ClusterOption = None,
    retries: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="How often a study is tried again after its worker was lost or ran out of memory.",
        ),
    ] = 2,
    layers: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--layers", "-l", metavar="NAMES", help="As for reconstruct."),
    ] = None,
    bundle: Bundle = "volume_autoencoder",
    encoder_weights: EncoderWeights = None,
    device: Device = "auto",
    output_format: Format = OutputFormat.same,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make again what was made with other settings.")
    ] = False,
    series: Series = None,
    all_series: AllSeries = False,
    volume: Volume = None,
    hu: Hu = False,
    resample_tilt: ResampleTilt = False,
    nifti_form: NiftiForm = "",
    replace_nonfinite: ReplaceNonfinite = None,
    as_json: Json = False,
) -> None:
    """Reconstruct thousands of studies, on this machine or a cluster; what is done is verified and kept.

    A study that fails does not stop the others: the exit code is 8, and results.csv and a table say why.
    """
    session: Session = ctx.obj
    session.json = as_json

    def work() -> Outcome:
        from medrecon.cli.cohort import Asked, reconstruct_cohort
        from medrecon.cohort.settings import Settings

        reading = Reading(series, volume, hu, resample_tilt, nifti_form, replace_nonfinite, all_series)
        settings = Settings(
            bundle=bundle,
            layers=layers,
            encoder_weights=encoder_weights,
            device=device,
            output_format=output_format.value,
            hu=reading.hu,
            all_series=reading.all_series,
            options=reading.options,
        )
        asked = Asked(
            workers=workers,
            cluster=cluster,
            nodes=nodes,
            gpus=gpus,
            cluster_options=tuple(cluster_option or ()),
            retries=retries,
            overwrite=overwrite,
        )
        return reconstruct_cohort(session, source, output, settings, asked)

    session.run(work)
