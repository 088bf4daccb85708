"""Options that several verbs share, each stated once; how scans are read is one group of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from medrecon.cli.declare import option

_reading = partial(option, panel="How scans are found and read")
network_option = partial(option, panel="Network")


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


layers_option = partial(option, "--layers -l NAMES")
"""`--layers`, which means something of its own to each verb."""


Layers = Annotated[
    str | None,
    layers_option(
        "Comma: several results; plus: layers joined into one result, e.g. level2,level3+level4. "
        "'input' uses no network: the control. Default: what the bundle names.",
    ),
]
EachLayer = Annotated[
    str | None,
    layers_option(
        "Comma: several results; plus: layers joined into one, e.g. level2,level3+level4. Default: "
        "each layer.",
    ),
]
Format = Annotated[
    OutputFormat,
    option(
        f"--format -f {OUTPUT_FORMATS}",
        "same: what the name of OUTPUT says, else DICOM from DICOM and NIfTI from all else.",
    ),
]
DryRun = Annotated[bool, option("--dry-run", "Check everything and say what would be done; write nothing.")]
Overwrite = Annotated[bool, option("--overwrite", "Replace outputs that exist.")]
HeldOut = Annotated[
    list[str] | None,
    option(
        "--held-out PATTERN",
        "Name (* and ?) of a file or series folder to measure on, and not to train on; repeat it "
        "for several. Default: what the bundle's train.yaml names.",
    ),
]
Set = Annotated[
    list[str] | None, option("--set ID=V", "Set an id of train.yaml, such as max_epochs=20; repeatable.")
]

Bundle = Annotated[
    str,
    network_option(
        "--bundle -b NAME|DIR",
        "A bundle that comes with medrecon (volume_autoencoder, slice_autoencoder, "
        "volume_transform_code, slice_transform_code, frozen_encoder_inversion, "
        "brain_encoder_inversion), or a bundle's folder. "
        "A bundle's configuration can run code: name only bundles that you trust.",
    ),
]
Encoder = Annotated[
    str | None,
    network_option(
        "--encoder -e NAME|PATH|DIR",
        "The network to look into: a short name (vgg16, vgg19, resnet18, resnet34, resnet50, "
        "medicalnet10, medicalnet18, medicalnet34, medicalnet50, deepbet), the dotted path of a class or "
        "function (monai.networks.nets.SegResNet, torchvision.models.resnet18, timm.create_model) or the "
        "folder of a MONAI bundle. Dotted paths and bundles run code: name only those that you trust.",
    ),
]
EncoderWeights = Annotated[
    Path | None,
    network_option(
        "--encoder-weights --weights -w FILE",
        "The encoder's weights: safetensors, or a torch checkpoint that is read without running code. "
        "Without them they are random (a bundle brings its own; 'random' goes without).",
    ),
]
EncoderArguments = Annotated[
    str | None,
    network_option(
        "--encoder-arguments JSON",
        "Arguments of the encoder's class, as JSON, such as "
        '\'{"spatial_dims": 3, "in_channels": 1, "out_channels": 2}\'.',
    ),
]
Device = Annotated[str, network_option("--device -d auto|cpu|cuda[:N]", "Where the network runs.")]

Volume = Annotated[
    int | None, _reading("--volume N", "Take this volume of a 4D or multi-echo scan, counted from 0.")
]
Hu = Annotated[
    bool, _reading("--hu", "The values are HU: NIfTI, NRRD and MHA cannot say that they hold a CT.")
]
Resample = Annotated[
    bool,
    _reading(
        "--resample",
        "Read sheared stacks (gantry tilt) and uneven slice distances too, resampled onto a straight, "
        "even grid.",
    ),
]
Accept = Annotated[
    list[str] | None,
    _reading(
        "--accept NAME",
        "Read what is refused all the same; the refusal says the name. Repeat it for several.",
    ),
]
NiftiForm = Annotated[
    str, _reading("--nifti-form sform|qform", "Which one to believe where a NIfTI file contradicts itself.")
]
NamesFromSource = Annotated[
    bool,
    _reading(
        "--names-from-source",
        "Name outputs after the source's description and file, and tell both in tables and JSON: they "
        "may hold a patient's name. Without it scans are called CT-chest_1f2e3d4c.",
    ),
]


@dataclass(frozen=True)
class OneScan:
    """How one scan is found and read."""

    series: Annotated[
        str | None,
        _reading(
            "--series WHICH",
            "Take only this series: its number, SeriesInstanceUID, description, or the key that "
            "`medrecon scans` shows.",
        ),
    ] = None
    volume: Volume = None
    hu: Hu = False
    resample: Resample = False
    accept: Accept = None
    nifti_form: NiftiForm = ""
    replace_nonfinite: Annotated[
        float | None, _reading("--replace-nonfinite VALUE", "Read NaN and infinities as this value.")
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
        bool, _reading("--all-series", "Take every series of a folder in which several lie side by side.")
    ] = False
