"""One scan through a bundle, called by 3D Slicer: progress and notes on stdout, errors on stderr."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from medrecon.bundle.results import parse_results
from medrecon.cli.faults import one_line
from medrecon.cli.reconstruct import encoder_overrides
from medrecon.cli.session import Outcome, Session
from medrecon.errors import UsageError
from medrecon.inference.pipeline import Pipeline
from medrecon.io import find_one
from medrecon.io.choices import with_hu

if TYPE_CHECKING:
    from rich.console import Console

_ENDINGS = (".nii", ".nii.gz")


def reconstruct_volume(
    session: Session,
    source: Path,
    output: Path,
    *,
    layers: str,
    bundle: str,
    encoder_weights: Path | None,
    device: str,
    hu: bool,
) -> Outcome:
    """Reconstruct one file from one layer or set of layers into one NIfTI file, replacing it.

    Slicer reads `<filter-progress>` from stdout and shows whatever is on stderr as an error
    (vtkSlicerCLIModuleLogic.cxx), so nothing else goes there.

    Raises:
        UsageError: several results, or an output that is no NIfTI file.
        ScanError: the scan cannot be read.
        ModelError: the bundle or a layer cannot be used.
        OutputError: the output cannot be written.
    """
    if not output.name.lower().endswith(_ENDINGS):
        raise UsageError("is no name for the output", path=output, remedy="name a .nii.gz file")
    results = parse_results(layers)
    if len(results) > 1:
        raise UsageError(
            f"{len(results)} results do not fit one output volume",
            remedy="name one layer, or join layers by plus: level3+level4",
        )
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
        overrides=encoder_overrides(encoder_weights),
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
