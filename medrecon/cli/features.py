"""The command `features`: what a network's layers hold of a scan, as volumes in their right place."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medrecon.cli.batch import called, find_one_asked, names_of, say_note
from medrecon.cli.command import verb
from medrecon.cli.declare import option
from medrecon.cli.linear import with_channels
from medrecon.cli.networks import OtherNetwork
from medrecon.cli.options import Bundle, Device, Input, OneScan, Overwrite, layers_option
from medrecon.cli.progress import progress_bar
from medrecon.cli.session import Outcome, Session
from medrecon.cli.tables import print_table

if TYPE_CHECKING:
    import torch
    from monai.data import MetaTensor
    from rich.console import Console

    from medrecon.contract import Encoder
    from medrecon.io.scan import Scan


@dataclass(frozen=True)
class Kept:
    """Which channels of a layer are written."""

    keep: Annotated[
        str,
        option(
            "--keep -k all|strongest:N|colours",
            "All channels; the N whose values vary most; or the three principal components of the "
            "channels as red, green and blue.",
        ),
    ] = "all"
    components: Annotated[
        Path | None,
        option(
            "--components FILE",
            "Principal components to use; where the file is missing those of this scan are written to "
            "it. With the same file the colours of scans compare.",
        ),
    ] = None


@verb(
    "medrecon features CT_SERIES/ ct_features/ --layers level3,level4",
    "medrecon features t1.nii.gz t1_layer2.nrrd --encoder resnet18 \\\n"
    "      --weights resnet18.pt --layers layer2 --keep colours",
    "medrecon features t1.nii.gz out/ --encoder vgg16 \\\n"
    "      --weights vgg16.safetensors --layers relu3_3 \\\n"
    "      --keep colours --components vgg16.components",
)
def features(
    session: Session,
    source: Input,
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT",
            help="For one layer a .nii, .nii.gz or .nrrd file; any other name is a new folder that gets one "
            "NIfTI file a layer, and features.json: strides, offsets and channels.",
        ),
    ],
    *,
    reading: OneScan,
    other: OtherNetwork,
    layers: Annotated[
        str | None,
        layers_option(
            "The layers to write, by comma (`medrecon layers` lists them). Default: what the bundle names.",
        ),
    ] = None,
    kept: Kept,
    overwrite: Overwrite = False,
    bundle: Bundle = "volume_autoencoder",
    device: Device = "auto",
) -> Outcome:
    """Write features of layers as volumes for a viewer.

    A position of a layer lies at the centre of what it sees, which is measured: a stride says how far
    positions are apart, not where the first one is.
    """
    start = time.perf_counter()
    other.check()
    scan = find_one_asked(session, source, reading)
    if other.encoder is not None:
        other.layers(layers)
    other.check_scans([scan])
    from medrecon.compute.devices import pick_device
    from medrecon.io.files.publish import check_free

    check_free(output, overwrite)
    place = pick_device(device)
    opened = _open(session, other, bundle, layers, reading, place)
    from medrecon.encoders.offsets import doubts
    from medrecon.features.maps import FeatureMaps, write_features
    from medrecon.inference.prepared import network_notes
    from medrecon.io.files.names import scan_label

    encoder, image = opened.encoder, opened.image(scan)
    engine = FeatureMaps(encoder, opened.wanted, place, kept.keep, kept.components)
    notes = [*scan.notes, *network_notes(encoder, max(1, len(other.channels or ()))), *doubts(engine.places)]
    for note in notes:
        say_note(session, scan, note)
    with progress_bar(session, called(scan, sys.stderr), "pieces") as tick:
        made = engine.maps(image, tick)
    facts = {
        "scan": scan_label(scan),
        "network": opened.name,
        "encoder_fingerprint": engine.fingerprint,
        "keep": kept.keep,
    }
    files = write_features(made, output, facts, overwrite=overwrite)
    rows = [each.record | {"output": str(file)} for each, file in zip(made, files, strict=True)]
    data = {
        "scan": scan.key,
        **names_of(scan),
        **facts,
        "layers": rows,
        "device": str(place),
        "notes": notes,
        "seconds": round(time.perf_counter() - start, 3),
    }
    return Outcome(data, lambda console: _show(console, rows))


def _show(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    head = ("layer", "stride", "offset", "shape", "written to")
    sides = [[_times(row[name]) for name in head[1:4]] for row in rows]
    cells = [(row["layer"], *each, row["output"]) for row, each in zip(rows, sides, strict=True)]
    print_table(console, head, cells, right=head[1:4])
    for row in rows:
        if row["variance_shares"]:
            share = sum(row["variance_shares"])
            console.print(f"{row['layer']}: three components hold {share:.0%} of the variance")


@dataclass(frozen=True)
class _Opened:
    """A network that is built: its name, the layers that are wanted, and the way of a scan to it."""

    encoder: Encoder
    name: str
    wanted: str | list[str]
    image: Callable[[Scan], MetaTensor]


def _open(
    session: Session,
    other: OtherNetwork,
    bundle: str,
    layers: str | None,
    reading: OneScan,
    place: torch.device,
) -> _Opened:
    """The network on its device.

    Raises:
        ModelError: it cannot be used, or no layer of a network is named.
    """
    if other.encoder is None:
        from medrecon.features.model import open_encoder
        from medrecon.inference.prepared import check_scan
        from medrecon.io.scan import Found

        model = open_encoder(bundle, place, other.weights)
        network = model.network.encoder
        offered = model.bundle.parser.get("layers") or []
        default = [name for name in offered if name in model.layers] or [model.network.default]
        prepared = model.bundle.build("preprocessing")

        def image(scan: Scan) -> MetaTensor:
            if other.channels:
                (scan,) = with_channels(session, other, network, Found((scan,)), reading)[0].scans
            check_scan(network, scan)
            made: MetaTensor = prepared({"image": scan})["image"]
            return made

        return _Opened(network, model.name, default if layers is None else layers, image)
    encoder = other.build(other.layers(layers)).to(place).eval()
    from medrecon.inference.prepared import prepare

    return _Opened(
        encoder,
        other.encoder,
        [info.name for info in encoder.layers()],
        lambda scan: prepare(encoder, other.scans(encoder, scan, session, reading)).image,
    )


def _times(sides: Any) -> str:
    return "x".join(f"{side:g}" for side in sides)
