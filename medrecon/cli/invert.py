"""The command `invert`: images optimised until a network sees in them what it saw in the scan."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medrecon.cli.batch import called, find_one_asked, names_of, say_note
from medrecon.cli.command import verb
from medrecon.cli.declare import option
from medrecon.cli.faults import PARTIAL, one_line
from medrecon.cli.networks import OtherNetwork
from medrecon.cli.optimisation import Optimisation, open_model
from medrecon.cli.options import Device, Format, OneScan, OutputFormat, Overwrite, layers_option
from medrecon.cli.progress import progress_bar
from medrecon.cli.session import Outcome, Session
from medrecon.cli.tables import print_table
from medrecon.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from medrecon.io import Derivation, Scan, Written


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
        layers_option(
            "Comma: several results; plus: layers joined into one result, e.g. relu2_2,relu3_3+relu4_3. "
            "One channel of a layer, counted from 0: 'relu3_3[17]', in quotes.",
        ),
    ],
    reading: OneScan,
    other: OtherNetwork,
    how: Optimisation,
    slices: Annotated[
        str | None,
        option(
            "--slices FROM:TO",
            "Invert these slices only (along the last axis, counted from 0, TO left out), and write a "
            "scan of just these.",
        ),
    ] = None,
    output_format: Format = OutputFormat.same,
    overwrite: Overwrite = False,
    device: Device = "auto",
) -> Outcome:
    """Optimise an image until a network sees the scan in it.

    Works for any layer of any network, without training. A 2D network is inverted slice by slice, a 3D
    network as one volume. Source: Mahendran & Vedaldi 2015, arXiv:1412.0035.
    """
    began = time.perf_counter()
    other.check()
    whole = find_one_asked(session, source, reading)
    other.check_scans([whole])
    from medrecon.bundle.results import parse_results
    from medrecon.compute.devices import pick_device
    from medrecon.io import manifest_path, plan_outputs, write_manifest
    from medrecon.io.files.names import unused
    from medrecon.io.subset import parse_slices, take_slices
    from medrecon.reconstructor import INPUT

    chosen = range(whole.shape[2]) if slices is None else parse_slices(slices, whole.shape[2])
    place = pick_device(device)
    if INPUT in layers.split(","):
        raise UsageError("input is the scan itself: there is nothing to invert", remedy="name layers")
    model = open_model(other, how, place, layers)
    from medrecon.inference.optimised import found_images, optimise_slices
    from medrecon.inference.prepared import check_scans, network_notes

    encoder = model.network.encoder
    known = [layer.name for layer in model.network.layers()]
    results = parse_results(layers, known)
    wholes = other.scans(encoder, whole, session, reading)
    check_scans(encoder, wholes)
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
    for failure in failed:
        session.say(f"failed: {failure}")
    derivations = model.derivations([row["result"] for row in rows], chosen, whole.shape[2])
    wanted = [(row, each) for row in rows for each in scans]
    written = _write(images, wanted, targets, derivations, overwrite)
    notes = [note for item in written for note in item.warnings]
    session.note(*notes)
    record = write_manifest(
        unused(manifest_path(output, targets.values())),
        scans=scans,
        outputs=written,
        derivation=derivations,
        config={"encoder": model.name, **model.inversion.settings(), "slices": [chosen.start, chosen.stop]},
        device=str(place),
        seeds={"prior": how.seed},
        layers=list(derivations),
        warnings=notes,
    )
    data: dict[str, Any] = {
        "scan": scan.key,
        **names_of(scan),
        "encoder": model.name,
        "device": str(place),
        "slices": [chosen.start, chosen.stop],
        "results": [
            row | {"scan": each.key, "output": str(item.path)}
            for (row, each), item in zip(wanted, written, strict=True)
        ],
        "manifest": str(record),
        "failed": failed,
        "notes": [*said, *notes],
        "seconds": round(time.perf_counter() - began, 3),
    }
    return Outcome(data, lambda console: _show(console, data, session.quiet), PARTIAL if failed else 0)


def _write(
    images: Mapping[tuple[str, str], np.ndarray],
    wanted: Sequence[tuple[Mapping[str, Any], Scan]],
    targets: Mapping[tuple[str, str], Path],
    derivations: Mapping[str, Derivation],
    overwrite: bool,
) -> list[Written]:
    """Write each image that was found; `wanted` pairs how an optimisation ended with a scan of its image."""
    from medrecon.io import write_volume

    return [
        write_volume(
            images[scan.key, row["result"]],
            scan,
            targets[scan.key, row["result"]],
            number=number,
            derivation=derivations[row["result"]],
            overwrite=overwrite,
        )
        for number, (row, scan) in enumerate(wanted, start=1)
    ]


def _show(console: Console, data: Mapping[str, Any], quiet: bool) -> None:
    head = ("result", "written to", "steps", "feature distance", "seconds")
    cells = [
        (row["result"], row["output"], row["steps"], f"{row['distance']:.4f}", f"{row['seconds']:.1f}")
        for row in data["results"]
    ]
    print_table(console, head, cells, right=head[2:])
    if not quiet:
        console.print(f"manifest: {one_line(data['manifest'])}")
