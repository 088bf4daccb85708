"""What an atlas leaves on disk: figures as JSON and CSV, the page, its pictures, the scene for 3D Slicer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

from medrecon.errors import UsageError
from medrecon.evaluation.measures import MEASURES
from medrecon.evaluation.scores import AtlasVolumes, LayerScore, ScanScores
from medrecon.evaluation.scores_json import from_json, to_json
from medrecon.io.files.publish import check_free, publish
from medrecon.io.files.table import csv_text, finite
from medrecon.io.scan import ScanError

METRICS, TABLE, PAGE, SCENE = "metrics.json", "metrics.csv", "report.html", "review.mrb"
INDEX = "index.html"
"""The page over many scans, in summary/."""

_PLAIN = tuple(
    item.name for item in fields(LayerScore) if item.type in ("str", "float", "float | None", "int | None")
)


def write_atlas(
    final: Path, scores: ScanScores, volumes: AtlasVolumes, *, viewer: bool = True, full_scene: bool = False
) -> Path:
    """Write the atlas of one scan as a folder, whole or not at all.

    Args:
        final: the folder; must not exist, or be empty.
        scores: of the scan.
        volumes: what they were measured on.
        viewer: put the interactive viewer into the page.
        full_scene: put each layer with its maps into the scene, not one alone.

    Raises:
        OutputError: it exists, or cannot be written.
    """
    from medrecon.report.page import write_page
    from medrecon.report.scene import write_scene

    with publish(final) as folder:
        folder.mkdir()
        write_json(folder / METRICS, to_json(scores))
        write_csv(folder / TABLE, rows_of(scores))
        with ThreadPoolExecutor(1) as pool:  # the scene compresses while the page draws
            scene = pool.submit(write_scene, folder / SCENE, scores, volumes, full=full_scene)
            write_page(folder / PAGE, scores, volumes, viewer=viewer)
            scene.result()
    return final


def rows_of(scores: ScanScores) -> list[dict[str, Any]]:
    """One row a layer, with a column for each figure, region, control and codec."""
    rows = []
    for layer in scores.layers:
        row: dict[str, Any] = {
            "scan": scores.label,
            "key": scores.key,
            "modality": scores.modality,
            "units": scores.units,
            **{name: vars(layer)[name] for name in _PLAIN},
            "stride": "" if layer.stride is None else "x".join(str(n) for n in layer.stride),
            **{measure.key: measure.of(layer) for measure in MEASURES if measure.path},
        }
        for name, region in layer.regions.items():
            row |= {f"{name} {part}": value for part, value in vars(region).items()}
        for control in layer.controls:
            row |= {
                f"{control.name} {part}": value for part, value in vars(control).items() if part != "name"
            }
        row |= {f"{name} bits per voxel": rate for name, rate in layer.codecs.items()}
        for name, kept in layer.findings.items():
            row |= {f"{name} finding {part}": value for part, value in vars(kept).items()}
        rows.append(row)
    return rows


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON without infinity or NaN."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows under all of their columns, see `csv_text`."""
    path.write_text(csv_text(rows), encoding="utf-8", newline="")


def can_write_parquet() -> bool:
    """Whether pyarrow is installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        return False
    return True


def write_parquet(
    path: Path, rows: Sequence[Mapping[str, Any]], types: Mapping[str, type] | None = None
) -> None:
    """Write the same table as Parquet.

    Args:
        path: of the file.
        rows: as for `write_csv`.
        types: column -> str, int, float or bool, the same whatever the rows hold; by default the columns are
            those of the rows, and their types those of the values.

    Raises:
        ImportError: pyarrow is missing, see `can_write_parquet`.
    """
    import pyarrow
    from pyarrow import parquet

    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    columns: Mapping[str, Any] = types or dict.fromkeys(column for row in rows for column in row)
    values = {name: [_cell(row.get(name)) for row in rows] for name in columns}
    arrays = {name: pyarrow.array(values[name], kinds.get(kind)) for name, kind in columns.items()}
    parquet.write_table(pyarrow.table(arrays), path)


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return finite(value)


def read_scores(folder: Path) -> list[ScanScores]:
    """The scores in the output of a run: of one scan, or of many in its sub-folders, by key.

    Raises:
        UsageError: there are none.
        ScanError: a file of scores is broken.
    """
    places = [folder / METRICS] if (folder / METRICS).is_file() else sorted(folder.glob(f"*/{METRICS}"))
    if not places:
        raise UsageError(f"holds no {METRICS}", path=folder, remedy="name the output of a medrecon atlas run")
    return sorted((_read(place) for place in places), key=lambda scores: scores.key)


def is_atlas(folder: str | Path) -> bool:
    """Whether a run left scores there that can be read."""
    try:
        return bool(read_scores(Path(folder)))
    except (UsageError, ScanError, OSError):
        return False


def _read(path: Path) -> ScanScores:
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise ScanError(f"cannot be read: {error}", path=path, remedy="run the atlas again") from error


def refuse_taken(output: Path, names: Iterable[str] = ("",)) -> None:
    """Refuse an output that is there already, before any work.

    Raises:
        OutputError: it exists, and is no empty folder.
    """
    for name in names:
        check_free(output / name if name else output, overwrite=False)
