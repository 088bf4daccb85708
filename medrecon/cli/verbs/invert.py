"""The verb `invert`: what it takes, and what its help says."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from medrecon.cli.options import (
    Device,
    Encoder,
    EncoderArguments,
    EncoderWeights,
    Format,
    Hu,
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
    "Examples:  medrecon invert CT_SERIES/ CT_relu3_3/ --encoder vgg16 --weights vgg16.safetensors "
    "--layers relu3_3 --slices 60:64  |  medrecon invert t1.nii.gz out/ --start frozen_encoder_inversion "
    "--weights vgg16.safetensors --layers relu3_3,relu4_3 --steps 60"
)


class Optimiser(str, Enum):
    """How the image is changed."""

    lbfgs = "lbfgs"
    adam = "adam"


class Parameterisation(str, Enum):
    """What is changed in the place of the image."""

    fourier = "fourier"
    multiscale = "multiscale"
    pixels = "pixels"
    prior = "prior"


def invert(
    ctx: typer.Context,
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="One scan: a DICOM series (folder), or a file.")
    ],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT",
            help="For one result: the series folder or the .nii.gz file. For several: a folder.",
        ),
    ],
    layers: Annotated[
        str,
        typer.Option(
            "--layers",
            "-l",
            metavar="NAMES",
            help="Comma: several results; plus: layers joined into one result, e.g. relu2_2,relu3_3+relu4_3.",
        ),
    ],
    encoder: Encoder = None,
    weights: EncoderWeights = None,
    arguments: EncoderArguments = None,
    start: Annotated[
        Optional[str],  # noqa: UP045 - typer evaluates this at run time, also on Python 3.10
        typer.Option(
            "--start",
            metavar="NAME|DIR",
            help="Decode, then refine: begin at what this bundle's decoder makes, and use its encoder, which "
            "--encoder-weights gives its weights. Without it each image begins as even grey.",
        ),
    ] = None,
    slices: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--slices",
            metavar="FROM:TO",
            help="Invert these slices only (along the last axis, counted from 0, TO left out), and write a "
            "scan of just these.",
        ),
    ] = None,
    steps: Annotated[
        int,
        typer.Option(
            "--steps", min=1, help="At most so many evaluations of the encoder, a slice or a volume each."
        ),
    ] = 300,
    optimiser: Annotated[
        Optional[Optimiser],  # noqa: UP045
        typer.Option(
            "--optimiser", help="Default: adam for the parameterisation prior, lbfgs for all others."
        ),
    ] = None,
    parameterisation: Annotated[
        Parameterisation,
        typer.Option(
            "--parameterisation",
            help="The spectrum (low frequencies first), a Laplacian pyramid, the voxels, or "
            "a small network (deep image prior).",
        ),
    ] = Parameterisation.fourier,
    tv: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--tv", min=0.0, help="Weight of the total variation; more is smoother."),
    ] = None,
    tolerance: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            "--tolerance",
            min=0.0,
            help="Stop when the loss fell by less than this share over 20 steps; 0 takes every step.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the deep image prior.")] = 0,
    device: Device = "auto",
    output_format: Format = OutputFormat.same,
    overwrite: Overwrite = False,
    series: Series = None,
    volume: Volume = None,
    hu: Hu = False,
    resample_tilt: ResampleTilt = False,
    nifti_form: NiftiForm = "",
    replace_nonfinite: ReplaceNonfinite = None,
    as_json: Json = False,
) -> None:
    """Optimise an image until any layer of any network sees in it what it sees in the scan: no training.

    Slow: some seconds to minutes for a slice. A 2D network is inverted slice by slice, a 3D network as one
    volume. Source: Mahendran & Vedaldi 2015, arXiv:1412.0035.
    """
    session: Session = ctx.obj
    session.json = as_json

    def work() -> Outcome:
        from medrecon.cli.invert import invert_scan
        from medrecon.cli.optimised import Settings

        settings = Settings(
            steps=steps,
            optimiser=None if optimiser is None else optimiser.value,
            parameterisation=parameterisation.value,
            seed=seed,
            tv=tv,
            tolerance=tolerance,
        )
        return invert_scan(
            session,
            source,
            output,
            layers=layers,
            encoder=encoder,
            weights=weights,
            arguments=arguments,
            start=start,
            slices=slices,
            settings=settings,
            device=device,
            output_format=output_format.value,
            overwrite=overwrite,
            reading=Reading(series, volume, hu, resample_tilt, nifti_form, replace_nonfinite),
        )

    session.run(work)
