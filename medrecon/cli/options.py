"""Options that several verbs share, each stated once; how scans are read is one group of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

_READING = "How scans are found and read"
_NETWORK = "Network"


class OutputFormat(str, Enum):
    """What is written."""

    same = "same"
    dicom = "dicom"
    nifti = "nifti"
    nrrd = "nrrd"
    mha = "mha"


OUTPUT_FORMATS = "|".join(OutputFormat)

Scans = Annotated[Path, typer.Argument(metavar="SCANS", help="Folder of scans, searched to the bottom.")]
Input = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT",
        help="A DICOM series or study (a folder, searched to the bottom, or a zip file), or a scan file.",
    ),
]


def layers_option(help: str) -> Any:
    """`--layers`, which means something of its own to each verb."""
    return typer.Option("--layers", "-l", metavar="NAMES", help=help)


Layers = Annotated[
    str | None,
    layers_option(
        "Comma: several results; plus: layers joined into one result, e.g. level2,level3+level4. "
        "'input' uses no network: the control. Default: what the bundle names.",
    ),
]
Format = Annotated[
    OutputFormat,
    typer.Option(
        "--format",
        "-f",
        metavar=OUTPUT_FORMATS,
        help="same: what the name of OUTPUT says, else DICOM from DICOM and NIfTI from all else.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and say what would be done; write nothing.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
HeldOut = Annotated[
    list[str] | None,
    typer.Option(
        "--held-out",
        metavar="PATTERN",
        help="Name (* and ?) of a file or series folder to measure on, and not to train on; repeat it "
        "for several. Default: what the bundle's train.yaml names.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="ID=V", help="Set an id of train.yaml, such as max_epochs=20; repeatable."),
]

Bundle = Annotated[
    str,
    typer.Option(
        "--bundle",
        "-b",
        metavar="NAME|DIR",
        rich_help_panel=_NETWORK,
        help="A bundle that comes with medrecon (volume_autoencoder, slice_autoencoder, "
        "volume_transform_code, slice_transform_code, frozen_encoder_inversion, "
        "brain_encoder_inversion), or a bundle's folder. "
        "A bundle's configuration can run code: name only bundles that you trust.",
    ),
]
Encoder = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        "-e",
        metavar="NAME|PATH|DIR",
        rich_help_panel=_NETWORK,
        help="The network to look into: a short name (vgg16, vgg19, resnet18, resnet34, resnet50, "
        "medicalnet10, medicalnet18, medicalnet34, medicalnet50, deepbet), the dotted path of a class or "
        "function (monai.networks.nets.SegResNet, torchvision.models.resnet18, timm.create_model) or the "
        "folder of a MONAI bundle. Dotted paths and bundles run code: name only those that you trust.",
    ),
]
EncoderWeights = Annotated[
    Path | None,
    typer.Option(
        "--encoder-weights",
        "--weights",
        "-w",
        metavar="FILE",
        rich_help_panel=_NETWORK,
        help="The encoder's weights: safetensors, or a torch checkpoint that is read without running code. "
        "Without them they are random (a bundle brings its own; 'random' goes without).",
    ),
]
EncoderArguments = Annotated[
    str | None,
    typer.Option(
        "--encoder-arguments",
        metavar="JSON",
        rich_help_panel=_NETWORK,
        help="Arguments of the encoder's class, as JSON, such as "
        '\'{"spatial_dims": 3, "in_channels": 1, "out_channels": 2}\'.',
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        "-d",
        metavar="auto|cpu|cuda[:N]",
        rich_help_panel=_NETWORK,
        help="Where the network runs.",
    ),
]

Volume = Annotated[
    int | None,
    typer.Option(
        "--volume",
        metavar="N",
        rich_help_panel=_READING,
        help="Take this volume of a 4D or multi-echo scan, counted from 0.",
    ),
]
Hu = Annotated[
    bool,
    typer.Option(
        "--hu",
        rich_help_panel=_READING,
        help="The values are HU: NIfTI, NRRD and MHA cannot say that they hold a CT.",
    ),
]
Resample = Annotated[
    bool,
    typer.Option(
        "--resample",
        rich_help_panel=_READING,
        help="Read sheared stacks (gantry tilt) and uneven slice distances too, resampled onto a straight, "
        "even grid.",
    ),
]
Accept = Annotated[
    list[str] | None,
    typer.Option(
        "--accept",
        metavar="NAME",
        rich_help_panel=_READING,
        help="Read what is refused all the same; the refusal says the name. Repeat it for several.",
    ),
]
NiftiForm = Annotated[
    str,
    typer.Option(
        "--nifti-form",
        metavar="sform|qform",
        rich_help_panel=_READING,
        help="Which one to believe where a NIfTI file contradicts itself.",
    ),
]
NamesFromSource = Annotated[
    bool,
    typer.Option(
        "--names-from-source",
        rich_help_panel=_READING,
        help="Name outputs after the source's description and file, and tell both in tables and JSON: they "
        "may hold a patient's name. Without it scans are called CT-chest_1f2e3d4c.",
    ),
]


@dataclass(frozen=True)
class OneScan:
    """How one scan is found and read."""

    series: Annotated[
        str | None,
        typer.Option(
            "--series",
            metavar="WHICH",
            rich_help_panel=_READING,
            help="Take only this series: its number, SeriesInstanceUID, description, or the key that "
            "`medrecon scans` shows.",
        ),
    ] = None
    volume: Volume = None
    hu: Hu = False
    resample: Resample = False
    accept: Accept = None
    nifti_form: NiftiForm = ""
    replace_nonfinite: Annotated[
        float | None,
        typer.Option(
            "--replace-nonfinite",
            metavar="VALUE",
            rich_help_panel=_READING,
            help="Read NaN and infinities as this value.",
        ),
    ] = None
    names_from_source: NamesFromSource = False

    @property
    def options(self) -> dict[str, Any]:
        """What `medrecon.io.find_scans` and `find_one` take."""
        return {
            "series": self.series,
            "volume": self.volume,
            "resample": self.resample,
            "accept": tuple(self.accept or ()),
            "nifti_form": self.nifti_form,
            "replace_nonfinite": self.replace_nonfinite,
        }


@dataclass(frozen=True)
class ManyScans(OneScan):
    """How all scans of a folder are found and read."""

    all_series: Annotated[
        bool,
        typer.Option(
            "--all-series",
            rich_help_panel=_READING,
            help="Take every series of a folder in which several lie side by side.",
        ),
    ] = False
