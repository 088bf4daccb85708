"""What `reconstruct --dry-run` says: what would be written where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medrecon.cli.batch import called, left_out_data, names_of
from medrecon.cli.faults import fault_of
from medrecon.cli.session import Outcome
from medrecon.cli.tables import print_table

if TYPE_CHECKING:
    from rich.console import Console

    from medrecon.inference.pipeline import Pipeline
    from medrecon.io.scan import Found


def planned_outcome(pipeline: Pipeline, found: Found, error_map: bool, samples: int | None) -> Outcome:
    """What would be written where."""
    from medrecon.inference.error_map import error_map_path
    from medrecon.inference.sample_files import sample_places

    targets = pipeline.targets
    planned = {
        scan.key: {result: targets[scan.key, result] for result in pipeline.results} for scan in found.scans
    }
    maps = {
        key: {result: error_map_path(path) for result, path in paths.items() if error_map}
        for key, paths in planned.items()
    }
    drawn = {
        key: {
            f"{result} {name}": place
            for result, path in paths.items()
            for name, place in (sample_places(path, samples) if samples else {}).items()
        }
        for key, paths in planned.items()
    }
    data = {
        "bundle": pipeline.bundle.name,
        "device": str(pipeline.device),
        "planned": [
            {
                "scan": scan.key,
                **names_of(scan),
                "shape": list(scan.shape),
                "outputs": {result: str(path) for result, path in planned[scan.key].items()},
                "error_maps": {result: str(path) for result, path in maps[scan.key].items()},
                "samples": {name: str(path) for name, path in drawn[scan.key].items()},
            }
            for scan in found.scans
        ],
        "refused": [fault_of(error).data() for error in found.refused],
        "left_out": left_out_data(found.left_out, any(scan.named_from_source for scan in found.scans)),
    }

    def show(console: Console) -> None:
        rows = [
            (called(scan, console.file), "x".join(str(n) for n in scan.shape), named, path)
            for scan in found.scans
            for named, path in [
                *planned[scan.key].items(),
                *((f"error of {result}", path) for result, path in maps[scan.key].items()),
                *drawn[scan.key].items(),
            ]
        ]
        print_table(console, ("scan", "shape", "result", "would be written to"), rows)
        if found.refused:
            refused = [(error.path, error.message) for error in found.refused]
            print_table(console, ("refused", "why"), refused)
        console.print(f"{pipeline.bundle.name} on {pipeline.device}; nothing was written")

    return Outcome(data, show)
