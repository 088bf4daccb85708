"""The command `encode`: scan after scan; one that fails does not stop the rest."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medrecon.cli.batch import (
    Ended,
    called,
    find_asked,
    names_of,
    one_by_one,
    say_notes,
    tell_sources,
)
from medrecon.cli.command import verb
from medrecon.cli.declare import option
from medrecon.cli.options import Bundle, Device, EncoderWeights, Input, ManyScans, Overwrite, layers_option
from medrecon.cli.progress import progress_bar
from medrecon.cli.session import Outcome, Session
from medrecon.cli.tables import print_table

if TYPE_CHECKING:
    from rich.console import Console

    from medrecon.features import Encoded
    from medrecon.features.metadata import LayerFacts
    from medrecon.io.scan import Scan


class Dtype(str, Enum):
    """How features are stored."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"


@verb(
    "medrecon encode CT_SERIES/ ct.safetensors --layers level4",
    "medrecon encode t1.nii.gz t1.safetensors --layers level3,level4 --dtype int8",
    "medrecon encode study/ features/ --all-series",
    "medrecon decode ct.safetensors ct_level4.nii.gz",
)
def encode(
    session: Session,
    source: Input,
    features: Annotated[
        Path,
        typer.Argument(
            metavar="FEATURES",
            help="For one scan the .safetensors file; any other name is a folder that gets one file a scan.",
        ),
    ],
    reading: ManyScans,
    layers: Annotated[
        str | None,
        layers_option(
            "The layers to keep, separated by commas (`medrecon layers` lists them). Default: what the "
            "bundle names.",
        ),
    ] = None,
    dtype: Annotated[
        Dtype,
        option(
            "--dtype -t float32|float16|int8",
            "float32 is exact; float16 halves the size, int8 (a scale for each channel) quarters it; "
            "what they lose is measured, shown and written into the file.",
        ),
    ] = Dtype.float32,
    overwrite: Overwrite = False,
    measure: Annotated[
        bool,
        option(
            "--measure/--no-measure",
            "Decode what float16 and int8 leave, to say what they cost the image in dB: takes as long "
            "as decoding twice.",
        ),
    ] = True,
    bundle: Bundle = "volume_autoencoder",
    encoder_weights: EncoderWeights = None,
    device: Device = "auto",
) -> Outcome:
    """Write the features of chosen layers into a file for `decode`.

    The file (safetensors) has all that `decode` needs, and no patient's name or ID.
    """
    found = find_asked(session, source, reading)
    from medrecon.features import FeatureEncoder
    from medrecon.features.destinations import plan_features, readable

    targets = plan_features(found.scans, features, overwrite=overwrite)
    encoder = FeatureEncoder.from_bundle(
        bundle, layers, dtype.value, device=device, encoder_weights=encoder_weights, measure=measure
    )
    say_notes(session, found)

    def one(scan: Scan, label: str) -> Encoded:
        names = ", ".join(layer.name for layer in encoder.layers)
        size = encoder.size(scan)
        about = "" if size is None else f": about {readable(size)}"
        session.say(f"{called(scan, sys.stderr)}: {names} as {dtype.value}{about}")
        with progress_bar(session, label, "pieces") as tick:
            encoded = encoder.run(scan, targets[scan.key], overwrite=overwrite, progress=tick)
        session.note(*encoded.notes)
        return encoded

    done, failures = one_by_one(session, found, one)
    ended = Ended(found, done, failures, tell_sources(found, features), reading.names_from_source)
    data = {
        "bundle": encoder.model.name,
        "version": encoder.model.bundle.version,
        "encoder_fingerprint": encoder.model.fingerprint,
        "device": str(encoder.model.device),
        "results": [_record_data(record) for record in done],
        **ended.data,
    }

    def show(console: Console) -> None:
        rows = [
            _row(called(record.scan, console.file), record, layer)
            for record in done
            for layer in record.facts.layers
        ]
        if rows:
            head = ("scan", "layer", "values per voxel", "relative error", "costs dB")
            print_table(console, head, rows, right=head[2:])
            files = [(r.path, readable(r.size), f"{r.seconds:.1f}") for r in done]
            print_table(console, ("written to", "size", "seconds"), files, right=("size", "seconds"))
        ended.show_failures(console)
        ended.show_sources(console, session)

    return Outcome(data, show, ended.exit_code)


def _row(name: str, record: Encoded, layer: LayerFacts) -> tuple[Any, ...]:
    exact = record.facts.dtype == "float32"
    cost = "0" if exact else None if layer.cost is None else f"{layer.cost:.3f}"
    error = "0" if exact else f"{layer.relative_error:.2g}"
    return name, layer.name, f"{layer.values_per_voxel:.4g}", error, cost


def _record_data(record: Encoded) -> dict[str, Any]:
    return {
        "scan": record.scan.key,
        **names_of(record.scan),
        "output": str(record.path),
        "bytes": record.size,
        "dtype": record.facts.dtype,
        "layers": [
            {
                "name": layer.name,
                "shape": list(layer.shape),
                "stride": list(layer.stride),
                "values_per_voxel": layer.values_per_voxel,
                "relative_error": layer.relative_error,
                "psnr": layer.psnr,
                "psnr_float32": layer.psnr_float32,
                "psnr_cost": layer.cost,
                "psnr_voxels": layer.psnr_voxels,
            }
            for layer in record.facts.layers
        ],
        "notes": [*record.scan.notes, *record.notes],
        "seconds": round(record.seconds, 3),
        "network_seconds": round(record.network_seconds, 3),
    }
