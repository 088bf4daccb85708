"""The verb `decode`: one feature file, one volume for each result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medrecon.cli.progress import progress_bar
from medrecon.cli.session import Outcome, Session
from medrecon.cli.tables import table
from medrecon.features import decode_features

if TYPE_CHECKING:
    from rich.console import Console


def decode_file(
    session: Session,
    features: Path,
    output: Path,
    *,
    layers: str | None,
    bundle: str | None,
    source: Path | None,
    output_format: str,
    device: str,
    overwrite: bool,
) -> Outcome:
    """Decode one file, and tell what was written; arguments as `medrecon.features.decode_features`.

    Raises:
        ModelError: the features cannot be used, or not with this bundle.
        ScanError: `source` is another series.
        OutputError: nothing can be written.
        UsageError: the options do not make sense.
    """
    with progress_bar(session, features.name) as tick:
        done = decode_features(
            features,
            output,
            layers=layers,
            bundle=bundle,
            source=source,
            output_format=output_format,
            device=device,
            overwrite=overwrite,
            progress=tick,
        )
    for note in done.notes:
        session.say(f"note: {note}")
    data = {
        "features": str(features),
        "outputs": {result: str(path) for result, path in done.outputs.items()},
        "notes": list(done.notes),
        "seconds": round(done.seconds, 3),
    }

    def show(console: Console) -> None:
        rows = [(result, path) for result, path in done.outputs.items()]
        console.print(table(("result", "written to"), rows))

    return Outcome(data, show)
