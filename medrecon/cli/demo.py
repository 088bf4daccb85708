"""The command `demo`: the sample scans from each layer, beside two controls, measured and drawn."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medrecon.cli.command import verb
from medrecon.cli.declare import option
from medrecon.cli.options import Bundle, Device
from medrecon.cli.progress import progress_bar
from medrecon.cli.session import Outcome, Session
from medrecon.cli.tables import print_table
from medrecon.errors import ModelError, OutputError

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from medrecon.contract import LayerInfo
    from medrecon.inference.pipeline import Pipeline
    from medrecon.io.scan import Scan

_PACKAGE = Path(__file__).resolve().parents[1]
_PLACES = (_PACKAGE / "sample_data", _PACKAGE.parent / "sample_data")
CODE = "transform code"
"""The name of the control that spends as many values where a scan is busy; a bundle names it as `code`."""

CONTROL = "linear DCT"
"""The name of the control that keeps the lowest frequencies and has learned nothing."""

_HU_FLOOR = -1024
"""HU below this is padding outside the field of view; networks and controls get it raised to this."""


def sample_folder() -> Path:
    """The folder of sample scans, in the installed package or in the checkout.

    Raises:
        ModelError: it is not there.
    """
    for place in _PLACES:
        if place.is_dir():
            return place
    raise ModelError("the sample scans are missing", path=_PLACES[0], remedy="install medrecon again")


@verb("medrecon demo", "medrecon demo demo_slices --bundle slice_autoencoder")
def demo(
    session: Session,
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder for the results.")] = Path(
        "demo_output"
    ),
    overwrite: Annotated[bool, option("--overwrite", "Replace the results of a run before.")] = False,
    bundle: Bundle = "volume_autoencoder",
    device: Device = "auto",
) -> Outcome:
    """Reconstruct the sample CT and MR, measure and draw them.

    Each from each layer and from two controls. OUTPUT gets a folder for each scan, a picture of each, and
    demo.json.
    """
    from medrecon.bundle.config import Bundle as OpenBundle
    from medrecon.bundle.config import layers_of
    from medrecon.evaluation import fidelity
    from medrecon.inference.pipeline import Pipeline
    from medrecon.io import find_scans, publish, read_scan
    from medrecon.io.files.names import safe_name
    from medrecon.reconstructor import INPUT

    start = time.perf_counter()
    summary = output / "demo.json"
    if summary.exists() and not overwrite:
        raise OutputError("exists already", path=summary, remedy="add --overwrite, or name another folder")
    opened = OpenBundle.open(bundle)
    layers = {layer.name: layer.values_per_voxel for layer in layers_of(opened)}
    deepest, code = min(layers.values()), opened.parser.get("code", None)
    kept = {INPUT: 1.0, **layers, **({CODE: deepest} if code is not None else {}), CONTROL: deepest}
    asked = {result: (bundle, result) for result in kept}
    if code is not None:
        asked[CODE] = (code, _nearest(layers_of(OpenBundle.open(code)), deepest))
    rows: list[dict[str, Any]] = []
    pictures: list[Path] = []
    found = find_scans(sample_folder())
    if found.refused:
        raise found.refused[0]
    for scan in found.scans:
        name = safe_name(scan.path.name.split(".")[0])
        values = read_scan(scan)
        images: dict[str, np.ndarray] = {}
        for result, rate in kept.items():
            session.say(f"{name}: {result}")
            before = time.perf_counter()
            if result == CONTROL:
                images[result] = _control(values, scan.units, rate)
            else:
                file = safe_name(result) + ("" if scan.format == "dicom" else ".nii.gz")
                model, layer = asked[result]
                pipeline = Pipeline.from_bundle(
                    model,
                    scans=[scan],
                    output=output / name / file,
                    layers=layer,
                    device=device,
                    overwrite=overwrite,
                )
                images[result] = _reconstruct(session, pipeline, scan, f"{name} {result}")
            seconds = round(time.perf_counter() - before, 2)
            measured = fidelity(values, images[result], units=scan.units, spacing=scan.spacing).to_dict()
            rows.append(
                {"scan": name, "result": result, "values_per_voxel": rate, "seconds": seconds, **measured}
            )
        pictures.append(_draw(scan, values, images, kept, output / f"{name}.png", overwrite))
    data = {
        "bundle": bundle,
        "results": rows,
        "pictures": [str(path) for path in pictures],
        "seconds": round(time.perf_counter() - start, 1),
    }
    with publish(summary, overwrite=overwrite) as hidden:
        hidden.write_text(json.dumps(data, indent=2) + "\n")
    return Outcome({**data, "summary": str(summary)}, lambda console: _show(console, data, output))


def _nearest(layers: list[LayerInfo], rate: float) -> str:
    """The layer that keeps about so many values for each voxel."""
    return min(layers, key=lambda layer: abs(layer.values_per_voxel - rate)).name


def _reconstruct(session: Session, pipeline: Pipeline, scan: Scan, label: str) -> np.ndarray:
    """The one result of a pipeline, written and read again."""
    from medrecon.io import find_one, read_scan

    with progress_bar(session, label) as tick:
        record = pipeline.run(scan, progress=tick)
    (target,) = record.outputs.values()
    return read_scan(find_one(target))


def _control(values: np.ndarray, units: str, rate: float) -> np.ndarray:
    """The linear control at the rate of the deepest layer, given what a network gets."""
    import numpy as np

    from medrecon.evaluation import dct_code

    return dct_code(np.maximum(values, _HU_FLOOR) if units == "HU" else values, rate)


def _draw(
    scan: Scan,
    values: np.ndarray,
    images: dict[str, np.ndarray],
    kept: dict[str, float],
    picture: Path,
    overwrite: bool,
) -> Path:
    """A picture of the source, the results and their errors; the identity control would only be black."""
    from medrecon.io import publish
    from medrecon.reconstructor import INPUT
    from medrecon.report import layers_figure

    shown = {result: image for result, image in images.items() if result != INPUT}
    with publish(picture, overwrite=overwrite) as hidden:
        drawn = hidden.with_suffix(".png")
        layers_figure(
            values, shown, scan.spacing, scan.units, drawn, affine=scan.affine, values_per_voxel=kept
        )
        drawn.rename(hidden)
    return picture


def _show(console: Console, data: dict[str, Any], output: Path) -> None:
    columns = ("scan", "result", "values/voxel", "PSNR (dB)", "SSIM", "MAE", "seconds")
    rows = [
        (
            row["scan"],
            row["result"],
            f"{row['values_per_voxel']:.4g}",
            "inf" if row["psnr"] is None else f"{row['psnr']:.2f}",
            f"{row['ssim']:.4f}",
            f"{row['mae']:.3g} {row['units']}".strip(),
            f"{row['seconds']:.1f}",
        )
        for row in data["results"]
    ]
    print_table(console, columns, rows, right=columns[2:], spare=("seconds",))
    console.print("input: no network, the control of everything else. linear DCT: the lowest frequencies of")
    console.print("16x16x16 blocks, as many values as the deepest layer keeps, no training.")
    if any(row["result"] == CODE for row in data["results"]):
        console.print(
            "transform code: no network makes its features; as many values, spent where a scan is busy."
        )
    console.print(f"\n{data['seconds']:.0f} s in all. Look at:")
    for picture in data["pictures"]:
        console.print(f"  {picture}")
    console.print(f"  {output}: the derived series and volumes, for 3D Slicer or any DICOM viewer")
