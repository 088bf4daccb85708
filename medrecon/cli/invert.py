"""The command `invert`: images optimised until a network sees in them what it saw in the scan."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medrecon.cli.batch import called, names_of, say_note
from medrecon.cli.command import verb
from medrecon.cli.faults import one_line
from medrecon.cli.networks import OtherNetwork
from medrecon.cli.options import Device, Format, OneScan, OutputFormat, Overwrite
from medrecon.cli.progress import progress_bar
from medrecon.cli.session import Outcome, Session
from medrecon.cli.tables import print_table
from medrecon.errors import UsageError

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from medrecon.inference.optimised import Model, Settings


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


@verb(
    "medrecon invert CT_SERIES/ CT_relu3_3/ --layers relu3_3 --slices 60:64 \\\n"
    "      --encoder vgg16 --weights vgg16.safetensors",
    "medrecon invert t1.nii.gz out/ --layers relu3_3,relu4_3 --steps 60 \\\n"
    "      --start frozen_encoder_inversion --weights vgg16.safetensors",
    takes="up to 300 steps for each slice and layer; with VGG16 at relu3_3 a step took a CPU core 0.1 s "
    "for 128x112 and 1.4 to 2.5 s for 512x512.",
)
def invert(
    session: Session,
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
            help="Comma: several results; plus: layers joined into one result, e.g. relu2_2,relu3_3+relu4_3. "
            "One channel of a layer, counted from 0: 'relu3_3[17]', in quotes.",
        ),
    ],
    reading: OneScan,
    other: OtherNetwork,
    slices: Annotated[
        str | None,
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
            "--steps",
            min=1,
            metavar="N",
            help="At most so many evaluations of the encoder, a slice or a volume each.",
        ),
    ] = 300,
    optimiser: Annotated[
        Optimiser | None,
        typer.Option(
            "--optimiser",
            metavar="lbfgs|adam",
            help="Default: adam for the parameterisation prior, lbfgs for all others.",
        ),
    ] = None,
    parameterisation: Annotated[
        Parameterisation,
        typer.Option(
            "--parameterisation",
            metavar="fourier|multiscale|pixels|prior",
            help="The spectrum (low frequencies first), a Laplacian pyramid, the voxels, or "
            "a small network (deep image prior).",
        ),
    ] = Parameterisation.fourier,
    tv: Annotated[
        float | None,
        typer.Option("--tv", min=0.0, metavar="X", help="Weight of the total variation; more is smoother."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            metavar="X",
            min=0.0,
            help="Stop when the loss fell by less than this share over 20 steps; 0 takes every step.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the deep image prior.")] = 0,
    output_format: Format = OutputFormat.same,
    overwrite: Overwrite = False,
    start: Annotated[
        str | None,
        typer.Option(
            "--start",
            metavar="NAME|DIR",
            rich_help_panel="Network",
            help="Decode, then refine: begin at what this bundle's decoder makes, and use its encoder, which "
            "--encoder-weights gives its weights. Without it each image begins as even grey.",
        ),
    ] = None,
    device: Device = "auto",
) -> Outcome:
    """Optimise an image until a network sees the scan in it.

    Works for any layer of any network, without training. A 2D network is inverted slice by slice, a 3D
    network as one volume. Source: Mahendran & Vedaldi 2015, arXiv:1412.0035.
    """
    from medrecon.bundle.results import check_results, parse_results
    from medrecon.compute.devices import pick_device
    from medrecon.inference.optimised import Settings, found_images, network_notes, optimise_slices
    from medrecon.io import find_one, manifest_path, plan_outputs, write_manifest, write_volume
    from medrecon.io.choices import with_hu
    from medrecon.io.manifest import unused
    from medrecon.io.subset import parse_slices, take_slices
    from medrecon.reconstructor import INPUT

    settings = Settings(
        steps=steps,
        optimiser=None if optimiser is None else optimiser.value,
        parameterisation=parameterisation.value,
        seed=seed,
        tv=tv,
        tolerance=tolerance,
    )
    began = time.perf_counter()
    whole = find_one(session.folder_of(source), **reading.options)
    whole = with_hu(whole) if reading.hu else whole
    whole = replace(whole, named_from_source=reading.names_from_source)
    chosen = range(whole.shape[2]) if slices is None else parse_slices(slices, whole.shape[2])
    place = pick_device(device)
    if INPUT in layers.split(","):
        raise UsageError("input is the scan itself: there is nothing to invert", remedy="name layers")
    model = _open_model(other, start, settings, place, layers)
    encoder = model.network.encoder
    known = [layer.name for layer in model.network.layers()]
    results = parse_results(layers, known)
    check_results(results, known, where=Path(start or other.encoder or ""))
    wholes = other.scans(encoder, whole, session, reading)
    model.inversion.channels = len(wholes)
    scans = [take_slices(each, chosen) for each in wholes]
    scan = scans[wholes.index(whole)]
    targets = plan_outputs(scans, results, output, output_format=output_format.value, overwrite=overwrite)
    said = [*scan.notes, *network_notes(encoder, len(scans))]
    for note in said:
        say_note(session, scan, note)
    with progress_bar(session, called(scan, sys.stderr), "steps") as tick:
        images, rows = optimise_slices(model, wholes, chosen, results, place, tick)
    rows, failed = found_images(rows, scan)
    results = [row["result"] for row in rows]
    for failure in failed:
        session.say(f"failed: {failure}")
    derivations = model.derivations(results, chosen, whole.shape[2])
    wanted = [(row, each) for row in rows for each in scans]
    written = [
        write_volume(
            images[each.key, row["result"]],
            each,
            targets[each.key, row["result"]],
            number=number,
            derivation=derivations[row["result"]],
            overwrite=overwrite,
        )
        for number, (row, each) in enumerate(wanted, start=1)
    ]
    notes = [note for item in written for note in item.warnings]
    record = write_manifest(
        unused(manifest_path(output, targets.values())),
        scans=scans,
        outputs=written,
        derivation=derivations,
        config={"encoder": model.name, **model.inversion.settings(), "slices": [chosen.start, chosen.stop]},
        device=str(place),
        seeds={"prior": settings.seed},
        layers=results,
        warnings=notes,
    )
    done = [
        row | {"scan": each.key, "output": str(item.path)}
        for (row, each), item in zip(wanted, written, strict=True)
    ]
    data: dict[str, Any] = {
        "scan": scan.key,
        **names_of(scan),
        "encoder": model.name,
        "device": str(place),
        "slices": [chosen.start, chosen.stop],
        "results": done,
        "manifest": str(record),
        "failed": failed,
        "notes": [*said, *notes],
        "seconds": round(time.perf_counter() - began, 3),
    }

    def show(console: Console) -> None:
        cells = [
            (r["result"], r["output"], r["steps"], f"{r['distance']:.4f}", f"{r['seconds']:.1f}")
            for r in done
        ]
        head = ("result", "written to", "steps", "feature distance", "seconds")
        print_table(console, head, cells, right=head[2:])
        if not session.quiet:
            console.print(f"manifest: {one_line(str(record))}")

    for note in notes:
        session.say(f"note: {note}")
    return Outcome(data, show, 8 if failed else 0)


def _open_model(
    other: OtherNetwork, start: str | None, settings: Settings, device: torch.device, layers: str
) -> Model:
    """Build the encoder, or take a bundle's with the decoder to begin with.

    Raises:
        UsageError: both or none of them is named; a single channel, of which a decoder makes no image.
        ModelError: one of them cannot be used.
    """
    if (other.encoder is None) == (start is None):
        raise UsageError(
            "which network? --encoder names one, --start a bundle with an encoder and a decoder",
            remedy="give one of the two",
        )
    from medrecon.bundle.config import Bundle
    from medrecon.bundle.results import parse_results
    from medrecon.encoders.channels import ChannelsEncoder, find_channels
    from medrecon.inference.optimised import Model
    from medrecon.inversion import ImageOptimiser
    from medrecon.reconstructor import Reconstructor, has_native_bfloat16, parse_layers

    decoder = None
    if start is not None:
        overrides: dict[str, Any] = {"device": device}
        if other.weights is not None:
            overrides["encoder_weights"] = other.weights
        bundle = Bundle.open(start, overrides)
        built = bundle.network(device)
        looked_into, decoder = built.encoder, built.inversion
        name = f"{bundle.name} {bundle.version}".strip() + " from its decoder's image"
    else:
        looked_into = other.build(seed=settings.seed)
        name = f"{other.encoder} from grey"
    known = looked_into.layers()
    results = parse_results(layers, [layer.name for layer in known])
    channels = find_channels([name for result in results for name in parse_layers(result)], known)
    if channels and decoder is not None:
        raise UsageError(
            f"{next(iter(channels))} is one channel, and the decoder of --start needs the whole layer",
            remedy="leave --start out and name the network with --encoder",
        )
    if channels:
        looked_into = ChannelsEncoder(looked_into, channels)
    looked_into = looked_into.to(device).eval()
    # oneDNN's bfloat16 gradients are wrong for some 3D images
    mixed = looked_into.spatial_dims == 2 and has_native_bfloat16(device)
    given = settings.given() | {"mixed_precision": mixed}
    inversion = ImageOptimiser(looked_into, start=decoder, **given).to(device)
    return Model(Reconstructor(looked_into, inversion, mixed_precision=False), name, settings, other.weights)
