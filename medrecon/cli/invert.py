"""The verb `invert`: one scan, its images optimised until a network sees in them what it saw in the scan."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrecon.bundle.results import check_results, parse_results
from medrecon.cli.faults import one_line
from medrecon.cli.optimised import Settings, open_model, optimise_slices
from medrecon.cli.options import Reading
from medrecon.cli.progress import progress_bar
from medrecon.cli.session import Outcome, Session
from medrecon.cli.tables import table
from medrecon.compute.devices import pick_device
from medrecon.errors import UsageError
from medrecon.io import (
    Derivation,
    DicomSeriesWriter,
    NiftiWriter,
    Scan,
    find_one,
    manifest_path,
    plan_outputs,
    write_manifest,
)
from medrecon.io.choices import with_hu
from medrecon.io.files.destinations import NIFTI_ENDINGS
from medrecon.io.subset import parse_slices, take_slices
from medrecon.reconstructor import INPUT

if TYPE_CHECKING:
    from rich.console import Console

    from medrecon.io import Written


def invert_scan(
    session: Session,
    source: Path,
    output: Path,
    *,
    layers: str,
    encoder: str | None,
    weights: Path | None,
    arguments: str | None,
    start: str | None,
    slices: str | None,
    settings: Settings,
    device: str,
    output_format: str,
    overwrite: bool,
    reading: Reading,
) -> Outcome:
    """Find the scan, invert each result, write it, and tell how near the features came.

    `reading` says how the scan is found; the others are the verb's.

    Raises:
        ScanError: the scan cannot be read.
        ModelError: the encoder, the bundle or a layer cannot be used.
        OutputError: nothing can be written.
        UsageError: the options do not make sense.
    """
    began = time.perf_counter()
    whole = find_one(source, **reading.options)
    whole = with_hu(whole) if reading.hu else whole
    chosen = range(whole.shape[2]) if slices is None else parse_slices(slices, whole.shape[2])
    scan = take_slices(whole, chosen)
    results = parse_results(layers)
    place = pick_device(device)
    if INPUT in results:
        raise UsageError("input is the scan itself: there is nothing to invert", remedy="name layers")
    model = open_model(encoder, weights, arguments, start, settings, place)
    known = [layer.name for layer in model.network.layers()]
    check_results(results, known, where=Path(start or encoder or ""))
    targets = plan_outputs([scan], results, output, output_format=output_format, overwrite=overwrite)
    for note in scan.notes:
        session.say(f"note: {scan.path}: {note}")
    with progress_bar(session, scan.path.name) as tick:
        images, rows = optimise_slices(model, whole, chosen, results, place, tick)
    derivations = model.derivations(results, chosen, whole.shape[2])
    written = [
        _write(images[result], scan, targets[scan.key, result], derivations[result], number, overwrite)
        for number, result in enumerate(results)
    ]
    notes = [note for item in written for note in item.warnings]
    record = write_manifest(
        _free(manifest_path(output, targets.values())),
        scans=[scan],
        outputs=written,
        derivation=derivations,
        config={"encoder": model.name, **model.inversion.settings(), "slices": [chosen.start, chosen.stop]},
        device=str(place),
        seeds={"prior": settings.seed},
        layers=results,
        warnings=notes,
    )
    done = [row | {"output": str(item.path)} for row, item in zip(rows, written, strict=True)]
    data: dict[str, Any] = {
        "scan": scan.key,
        "path": str(scan.path),
        "encoder": model.name,
        "device": str(place),
        "slices": [chosen.start, chosen.stop],
        "results": done,
        "manifest": str(record),
        "notes": [*scan.notes, *notes],
        "seconds": round(time.perf_counter() - began, 3),
    }

    def show(console: Console) -> None:
        cells = [
            (r["result"], r["output"], r["steps"], f"{r['distance']:.4f}", f"{r['seconds']:.1f}")
            for r in done
        ]
        head = ("result", "written to", "steps", "feature distance", "seconds")
        console.print(table(head, cells, right=head[2:]))
        if not session.quiet:
            console.print(f"manifest: {one_line(str(record))}")

    for note in notes:
        session.say(f"note: {note}")
    return Outcome(data, show)


def _write(
    volume: np.ndarray, scan: Scan, target: Path, derivation: Derivation, number: int, overwrite: bool
) -> Written:
    writer: NiftiWriter | DicomSeriesWriter
    if target.name.lower().endswith(NIFTI_ENDINGS):
        writer = NiftiWriter(derivation=derivation, overwrite=overwrite)
    else:
        writer = DicomSeriesWriter(derivation=derivation, overwrite=overwrite, series_offset=number + 1)
    writer.set_data_array(volume, channel_dim=None)
    writer.set_scan(scan)
    return writer.write(target)


def _free(place: Path) -> Path:
    """This path, or with a number where a manifest of a run before is there."""
    number, first = 2, place
    while place.exists():
        place = first.with_name(f"{first.stem}-{number}.json")
        number += 1
    return place
