"""The command `slicer`: one scan through a bundle, called by 3D Slicer.

Slicer reads `<filter-progress>` from stdout and shows whatever is on stderr as an error
(vtkSlicerCLIModuleLogic.cxx): progress and notes go to stdout, errors to stderr.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from xml.sax.saxutils import escape

import typer

from medrecon.cli.command import verb
from medrecon.cli.declare import option
from medrecon.cli.faults import one_line
from medrecon.cli.options import Bundle, Device, EncoderWeights, Hu
from medrecon.cli.session import Outcome, Session
from medrecon.cli.slicer_module import (
    BUNDLE,
    DEFAULT_LAYER,
    LAYERS,
    NAME,
    TITLE,
    description,
    install_module,
)
from medrecon.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

_ENDINGS = (".nii", ".nii.gz")


@verb(
    "medrecon slicer --install ~/slicer_modules",
    "medrecon slicer --install ~/slicer_modules --bundle my_bundle/",
    "medrecon slicer --xml",
    "medrecon slicer t1.nrrd level3.nii.gz --layers level3",
    loads=False,
)
def slicer(
    session: Session,
    source: Annotated[
        Path | None,
        typer.Argument(metavar="INPUT", help="A volume (NRRD, NIfTI, MHA)."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Argument(metavar="OUTPUT", help="A .nii.gz file; it is replaced."),
    ] = None,
    layers: Annotated[
        str, option("--layers -l NAMES", "One layer, or several joined by plus.")
    ] = DEFAULT_LAYER,
    other: Annotated[str, option("--other NAMES", "In place of --layers: what Slicer has as text.")] = "",
    xml: Annotated[bool, option("--xml", "Print the module's description for Slicer.")] = False,
    install: Annotated[
        Path | None,
        option(
            "--install FOLDER",
            "Put the module in this folder; name the folder to Slicer as an additional module path. It "
            "offers the layers of --bundle.",
        ),
    ] = None,
    bundle: Bundle = BUNDLE,
    encoder_weights: EncoderWeights = None,
    device: Device = "auto",
    hu: Hu = False,
) -> Outcome:
    """Reconstruct from within 3D Slicer.

    Install a module there, which runs this medrecon.
    """
    session.quiet = session.quiet or not session.verbose
    if install is not None:
        return _install(install, bundle)
    if xml:
        return _describe(bundle)
    if source is None or output is None:
        raise UsageError("no input or no output was named", remedy="see medrecon slicer --help")
    return _reconstruct(session, source, output, other.strip() or layers, bundle, encoder_weights, device, hu)


def _reconstruct(
    session: Session,
    source: Path,
    output: Path,
    layers: str,
    bundle: str,
    encoder_weights: Path | None,
    device: str,
    hu: bool,
) -> Outcome:
    """Reconstruct one file from one layer or set of layers into one NIfTI file, replacing it.

    Raises:
        UsageError: several results, or an output that is no NIfTI file.
        ScanError: the scan cannot be read.
        ModelError: the bundle or a layer cannot be used.
        OutputError: the output cannot be written.
    """
    from medrecon.inference.pipeline import Pipeline
    from medrecon.io import find_one
    from medrecon.io.choices import with_hu

    results = _one_result(layers, output)
    scan = find_one(source)
    scan = with_hu(scan) if hu else scan

    def tell(tag: str, text: str) -> None:
        if not session.json:
            session.stdout.write(f"<{tag}>{escape(one_line(text))}</{tag}>\n")
            session.stdout.flush()

    tell("filter-name", f"medrecon {results[0]}")
    tell("filter-progress", "0")
    pipeline = Pipeline.from_bundle(
        bundle,
        scans=[scan],
        output=output,
        layers=results,
        device=device,
        output_format="nifti",
        overwrite=True,
        overrides={} if encoder_weights is None else {"encoder_weights": encoder_weights},
    )
    # reading, writing and the last tile's share of the bar
    record = pipeline.run(scan, progress=lambda done, of: tell("filter-progress", f"{0.95 * done / of:.3f}"))
    tell("filter-progress", "1")
    notes = [*scan.notes, *record.notes]

    def show(console: Console) -> None:
        for note in notes:
            console.print(one_line(f"note: {note}"))
        console.print(f"{results[0]}: {record.seconds:.1f} s on {pipeline.device}")

    data = {
        "output": str(output),
        "result": results[0],
        "device": str(pipeline.device),
        "seconds": round(record.seconds, 3),
        "notes": notes,
    }
    return Outcome(data, show)


def _one_result(layers: str, output: Path) -> list[str]:
    """The result that was asked for, which one NIfTI file holds."""
    from medrecon.bundle.results import parse_results

    if not output.name.lower().endswith(_ENDINGS):
        raise UsageError("is no name for the output", path=output, remedy="name a .nii.gz file")
    results = parse_results(layers)
    if len(results) > 1:
        raise UsageError(
            f"{len(results)} results do not fit one output volume",
            remedy="name one layer, or join layers by plus: level3+level4",
        )
    return results


def _chosen(bundle: str) -> tuple[str, Sequence[str]]:
    """A bundle, by its whole path where it is a folder, and the layers that the module offers of it.

    Raises:
        ModelError: no such bundle, or it cannot be built.
    """
    if bundle == BUNDLE:
        return bundle, LAYERS
    from medrecon.bundle.config import Bundle, bundle_names, layers_of

    layers = [layer.name for layer in layers_of(Bundle.open(bundle))]
    return bundle if bundle in bundle_names() else str(Path(bundle).resolve()), layers


def _describe(bundle: str) -> Outcome:
    """Print the module's description, and nothing else."""
    text = description(*_chosen(bundle))

    def show(console: Console) -> None:
        console.file.write(text)  # as it is: the console would wrap it

    return Outcome({"xml": text}, show)


def _install(folder: Path, bundle: str) -> Outcome:
    """Put the module in a folder, which is named to Slicer once.

    Raises:
        ModelError: the bundle cannot be used.
        OutputError: it cannot be written.
    """
    files = install_module(folder, *_chosen(bundle))
    place = folder.resolve()

    def show(console: Console) -> None:
        lines = (
            f"written: {', '.join(str(file) for file in files)}",
            f"In 3D Slicer: Edit > Application Settings > Modules > Additional module paths: add {place}",
            f"then restart Slicer and open Modules > Filtering > {TITLE}.",
        )
        for line in lines:
            console.print(one_line(line))

    names = sorted(file.name for file in files)
    return Outcome({"module": NAME, "folder": str(place), "files": names}, show)
