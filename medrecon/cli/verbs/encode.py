"""The verb `encode`: what it takes, and what its help says."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from medrecon.cli.options import (
    AllSeries,
    Bundle,
    Device,
    EncoderWeights,
    Hu,
    Input,
    Json,
    NiftiForm,
    Overwrite,
    Reading,
    ReplaceNonfinite,
    ResampleTilt,
    Series,
    Volume,
)
from medrecon.cli.session import Outcome, Session

EXAMPLES = (
    "Examples:  medrecon encode CT_SERIES/ ct.safetensors --layers level4  |  medrecon encode t1.nii.gz "
    "t1.safetensors --layers level3,level4 --dtype int8  |  medrecon encode study/ features/ --all-series  "
    "|  medrecon decode ct.safetensors ct_level4.nii.gz"
)


class Dtype(str, Enum):
    """How features are stored."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"


def encode(
    ctx: typer.Context,
    source: Input,
    features: Annotated[
        Path,
        typer.Argument(
            metavar="FEATURES",
            help="For one scan the .safetensors file; any other name is a folder that gets one file a scan.",
        ),
    ],
    layers: Annotated[
        Optional[str],  # noqa: UP045 - typer evaluates this at run time, also on Python 3.10
        typer.Option(
            "--layers",
            "-l",
            metavar="NAMES",
            help="The layers to keep, separated by commas (`medrecon layers` lists them). Default: what the "
            "bundle names.",
        ),
    ] = None,
    dtype: Annotated[
        Dtype,
        typer.Option(
            "--dtype",
            "-t",
            help="float32 is exact; float16 halves the size, int8 (a scale for each channel) quarters it; "
            "what they lose is measured, shown and written into the file.",
        ),
    ] = Dtype.float32,
    bundle: Bundle = "volume_autoencoder",
    encoder_weights: EncoderWeights = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure/--no-measure",
            help="Decode what float16 and int8 leave, to say what they cost the image in dB: takes as long "
            "as decoding twice.",
        ),
    ] = True,
    series: Series = None,
    all_series: AllSeries = False,
    volume: Volume = None,
    hu: Hu = False,
    resample_tilt: ResampleTilt = False,
    nifti_form: NiftiForm = "",
    replace_nonfinite: ReplaceNonfinite = None,
    as_json: Json = False,
) -> None:
    """Write the features of chosen layers as safetensors, with all that `decode` needs and no identity."""
    session: Session = ctx.obj
    session.json = as_json

    def work() -> Outcome:
        from medrecon.cli.encode import encode_scans

        return encode_scans(
            session,
            source,
            features,
            layers=layers,
            dtype=dtype.value,
            bundle=bundle,
            encoder_weights=encoder_weights,
            device=device,
            overwrite=overwrite,
            measure=measure,
            reading=Reading(series, volume, hu, resample_tilt, nifti_form, replace_nonfinite, all_series),
        )

    session.run(work)
