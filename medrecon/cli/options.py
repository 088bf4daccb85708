"""Options that several verbs share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

_BUNDLE_HELP = (
    "Name of a bundle that comes with medrecon (volume_autoencoder, slice_autoencoder, "
    "frozen_encoder_inversion, brain_encoder_inversion) or a bundle's folder. "
    "A bundle's configuration can run code: name only bundles that you trust."
)

_ENCODER_HELP = (
    "The network to look into: a short name (vgg16, vgg19, resnet18, resnet34, resnet50, medicalnet10, "
    "medicalnet18, medicalnet34, medicalnet50, deepbet), the dotted path of a class or function "
    "(monai.networks.nets.SegResNet, torchvision.models.resnet18, timm.create_model) or the folder of a "
    "MONAI bundle. Dotted paths and bundles run code: name only those that you trust."
)


class OutputFormat(str, Enum):
    """What `reconstruct` writes."""

    same = "same"
    dicom = "dicom"
    nifti = "nifti"


@dataclass(frozen=True)
class Reading:
    """How a verb is to find and read scans.

    Attributes:
        series: take only this one.
        volume: of a 4D scan.
        hu: the values are HU.
        resample_tilt: read sheared stacks, too.
        nifti_form: which form to believe, "sform" or "qform"; "" refuses contradictions.
        replace_nonfinite: value read in the place of NaN and infinities; None refuses them.
        all_series: take series that lie side by side.
    """

    series: str | None
    volume: int | None
    hu: bool
    resample_tilt: bool
    nifti_form: str
    replace_nonfinite: float | None
    all_series: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """What `medrecon.io.find_scans` and `find_one` take."""
        return {
            "series": self.series,
            "volume": self.volume,
            "resample_tilt": self.resample_tilt,
            "nifti_form": self.nifti_form,
            "replace_nonfinite": self.replace_nonfinite,
        }


Input = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT", help="A DICOM series or study (folder, searched to the bottom), or one scan file."
    ),
]
Format = Annotated[
    OutputFormat, typer.Option("--format", "-f", help="same: DICOM from DICOM, NIfTI from all else.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
HeldOut = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer evaluates this at run time, also on Python 3.10
    typer.Option(
        "--held-out",
        metavar="PATTERN",
        help="Name (* and ?) of a file or series folder to measure on, and not to train on; repeat it "
        "for several. Default: what the bundle's train.yaml names.",
    ),
]
Nodes = Annotated[
    int, typer.Option("--nodes", min=1, metavar="N", help="Machines of the cluster that take part.")
]
ClusterOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--cluster-option",
        metavar="NAME=VALUE",
        help="Of Parsl's provider, such as partition, account, walltime, worker_init, image; repeatable. "
        "For cohorts, 'address' is this machine's, as the workers reach it.",
    ),
]
Gpus = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        "--gpus",
        min=0,
        metavar="N",
        help="GPUs of each machine, one process for each. Default: those of this machine.",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON on stdout, and nothing else there.")
]
Bundle = Annotated[str, typer.Option("--bundle", "-b", metavar="NAME|DIR", help=_BUNDLE_HELP)]
Encoder = Annotated[
    Optional[str],  # noqa: UP045 - typer evaluates this at run time, also on Python 3.10
    typer.Option("--encoder", "-e", metavar="NAME|PATH|DIR", help=_ENCODER_HELP),
]
EncoderWeights = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--encoder-weights",
        "--weights",
        "-w",
        metavar="FILE",
        help="The encoder's weights: safetensors, or a torch checkpoint that is read without running code. "
        "Without them they are random (a bundle brings its own).",
    ),
]
EncoderArguments = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--encoder-arguments",
        metavar="JSON",
        help="Arguments of the encoder's class, as JSON, such as "
        '\'{"spatial_dims": 3, "in_channels": 1, "out_channels": 2}\'.',
    ),
]
Device = Annotated[
    str, typer.Option("--device", "-d", metavar="auto|cpu|cuda[:N]", help="Where the network runs.")
]
Series = Annotated[
    Optional[str],  # noqa: UP045 - typer evaluates this at run time, also on Python 3.10
    typer.Option(
        "--series",
        metavar="WHICH",
        help="Take only this series: its number, SeriesInstanceUID, description, or the key that "
        "`medrecon scans` shows.",
    ),
]
AllSeries = Annotated[
    bool,
    typer.Option("--all-series", help="Take every series of a folder in which several lie side by side."),
]
Volume = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        "--volume", metavar="N", help="Take this volume of a 4D or multi-echo scan, counted from 0."
    ),
]
ResampleTilt = Annotated[
    bool,
    typer.Option(
        "--resample-tilt", help="Read sheared stacks (gantry tilt) too, resampled onto a straight grid."
    ),
]
Hu = Annotated[
    bool, typer.Option("--hu", help="The values are HU: NIfTI, NRRD and MHA cannot say that they hold a CT.")
]
NiftiForm = Annotated[
    str,
    typer.Option(
        "--nifti-form",
        metavar="sform|qform",
        help="Which one to believe where a NIfTI file contradicts itself.",
    ),
]
ReplaceNonfinite = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--replace-nonfinite", metavar="VALUE", help="Read NaN and infinities as this value."),
]
