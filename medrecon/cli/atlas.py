"""The verb `atlas`: each scan measured layer by layer; one that fails does not stop the rest."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrecon.atlas.compare import compare_atlases, compare_folders, write_comparison
from medrecon.atlas.measuring import measure
from medrecon.atlas.network import Engine
from medrecon.atlas.output import INDEX, PAGE, read_scores, refuse_taken, write_atlas
from medrecon.atlas.summary import patient_numbers, write_summary
from medrecon.bundle.config import Bundle
from medrecon.cli.atlas_tables import show_pair, show_run
from medrecon.cli.faults import Fault
from medrecon.cli.options import Reading
from medrecon.cli.progress import progress_bar
from medrecon.cli.scans import exit_code, find_asked, one_by_one, say_notes
from medrecon.cli.session import Outcome, Session
from medrecon.errors import UsageError
from medrecon.evaluation.geometry import compare_geometry
from medrecon.evaluation.scores import ScanScores, to_json
from medrecon.io import find_one, publish, read_scan
from medrecon.io.files.names import scan_label
from medrecon.io.scan import ScanError

if TYPE_CHECKING:
    from medrecon.io.scan import Found, Scan


@dataclass(frozen=True)
class Asked:
    """What a user asked of each scan.

    Attributes:
        reading: how scans are found and read.
        layers: results, as text; None for each layer.
        roi: a mask, or a folder of masks named like the scans.
        encoder_weights: of a frozen encoder.
        viewer: put the interactive viewer into the page.
        device: where the network runs.
    """

    reading: Reading
    layers: str | None = None
    roi: Path | None = None
    encoder_weights: Path | None = None
    viewer: bool = True
    device: str = "auto"


@dataclass
class _Run:
    """What became of the scans under one bundle."""

    bundle: str
    version: str
    outputs: dict[str, Path]
    scores: list[ScanScores]
    failures: list[Fault]
    summary: dict[str, Any] | None = None


def make_atlas(session: Session, source: Path, output: Path, bundle: str, asked: Asked) -> Outcome:
    """Measure every scan of a source, and write its atlas.

    One scan: OUTPUT is its folder. Several: a folder each, and OUTPUT/summary.

    Raises:
        ScanError: nothing can be read, or the one scan cannot.
        ModelError: the bundle or a layer cannot be used.
        OutputError: nothing can be written.
        UsageError: the options do not make sense.
    """
    start = time.perf_counter()
    run = _run(session, _find(session, source, asked), output, bundle, asked)
    data = {**_run_data(run, output), "seconds": round(time.perf_counter() - start, 1)}
    return Outcome(data, lambda console: show_run(console, data, run.scores), _code([run]))


def make_comparison(
    session: Session, source: Path | None, output: Path, pair: tuple[str, str], asked: Asked
) -> Outcome:
    """Set two bundles, or the outputs of two runs, side by side on the same scans.

    Args:
        session: where words go.
        source: the scans, for two bundles; None for the outputs of two runs.
        output: gets the comparison, and for two bundles their atlases in `a/` and `b/`.
        pair: two bundles, or two folders.
        asked: what to measure.

    Raises:
        UsageError: the pair does not fit, or has nothing in common.
        ScanError, ModelError, OutputError: as for `make_atlas`.
    """
    folders = [_is_output(name) for name in pair]
    if all(folders):
        if source is not None:
            raise UsageError("the outputs of two runs need no INPUT", remedy="give OUTPUT alone")
        content = compare_folders(Path(pair[0]), Path(pair[1]), output)
        return Outcome({"output": str(output), **content}, lambda console: show_pair(console, content))
    if any(folders) or source is None:
        raise UsageError(
            f"cannot compare {pair[0]} with {pair[1]}",
            remedy="name two bundles with INPUT and OUTPUT, or the outputs of two atlas runs with OUTPUT",
        )
    refuse_taken(output)
    found = _find(session, source, asked)
    runs = [
        _run(session, found, output / letter, name, asked, optional_weights=True)
        for letter, name in zip("ab", pair, strict=True)
    ]
    names = (runs[0].bundle, runs[1].bundle)
    if names[0] == names[1]:
        names = pair
    content = compare_atlases(
        runs[0].scores, runs[1].scores, names=names, patients=patient_numbers(found.scans)
    )
    with publish(output / "comparison") as folder:
        folder.mkdir()
        write_comparison(folder, content)
    failed = [fault.data() for run in runs for fault in run.failures]
    data = {"output": str(output / "comparison"), "failed": failed, **content}
    return Outcome(data, lambda console: show_pair(console, content), _code(runs))


def _is_output(name: str) -> bool:
    try:
        return bool(read_scores(Path(name)))
    except (UsageError, ScanError, OSError):
        return False


def _find(session: Session, source: Path, asked: Asked) -> Found:
    found = find_asked(source, asked.reading)
    say_notes(session, found)
    return found


def _run(
    session: Session,
    found: Found,
    output: Path,
    bundle: str,
    asked: Asked,
    optional_weights: bool = False,
) -> _Run:
    scans = found.scans
    if not scans:
        raise found.refused[0] if found.refused else UsageError("no scan to work on", remedy="name a scan")
    single = len(scans) == 1 and not found.refused
    places = {scan.key: output if single else output / scan_label(scan) for scan in scans}
    refuse_taken(output)
    weights = asked.encoder_weights
    if optional_weights and "encoder_weights" not in Bundle.open(bundle).parser:
        weights = None
    engine = Engine(
        bundle,
        scans,
        output=output,
        layers=asked.layers,
        device=asked.device,
        encoder_weights=weights,
    )

    def one(scan: Scan, label: str) -> ScanScores:
        scores = _one(session, engine, scan, places[scan.key], asked, label)
        for note in scores.warnings:
            session.say(f"note: {scan.path}: {note}")
        return scores

    done, failures = one_by_one(session, found, one)
    outputs = {scores.key: places[scores.key] for scores in done}
    run = _Run(engine.bundle.name, engine.bundle.version, outputs, done, failures)
    if not single and run.scores:
        with publish(output / "summary") as folder:
            folder.mkdir()
            failed = [fault.data() for fault in run.failures]
            run.summary = write_summary(folder, run.scores, patient_numbers(scans), failed)
            _write_index(folder, run)
    return run


def _write_index(folder: Path, run: _Run) -> None:
    """The page over all scans; of a scan that failed it gets the name of the file, not the way to it."""
    from medrecon.report.index import write_index

    write_index(
        folder / INDEX,
        [(scores, f"../{run.outputs[scores.key].name}/{PAGE}") for scores in run.scores],
        run.summary["results"] if run.summary else (),
        outliers=run.summary["outliers"] if run.summary else (),
        failed=[{"scan": Path(f.path).name if f.path else "", "error": f.message} for f in run.failures],
    )


def _one(session: Session, engine: Engine, scan: Scan, place: Path, asked: Asked, label: str) -> ScanScores:
    mask = None if asked.roi is None else _mask(scan, asked.roi)
    stages = ["network", "codecs", *engine.results, "writing"]
    with progress_bar(session, label) as tick:
        stage = -1

        def step(name: str) -> None:
            nonlocal stage
            stage += 1
            if tick is not None:
                tick(100 * stage, 100 * len(stages))

        def tiles(done: int, of: int) -> None:
            if tick is not None:
                tick(int(100 * done / max(1, of)), 100 * len(stages))

        scores, volumes = measure(engine, scan, mask, step, tiles)
        step("writing")
        write_atlas(place, scores, volumes, viewer=asked.viewer)
    return scores


def _mask(scan: Scan, roi: Path) -> np.ndarray:
    """The labels on the scan's grid.

    Raises:
        ScanError: it cannot be read, or lies on another grid.
    """
    path = roi / scan.path.name if roi.is_dir() and (roi / scan.path.name).exists() else roi
    found = find_one(path)
    differences = compare_geometry(scan.affine, scan.shape, found.affine, found.shape)
    if differences:
        raise ScanError(
            f"its grid is not that of {scan.path}: {'; '.join(differences)}",
            path=path,
            remedy="draw the mask on the scan's own grid, or resample it there (nearest neighbour)",
        )
    return read_scan(found)


def _code(runs: Sequence[_Run]) -> int:
    failures = [fault for run in runs for fault in run.failures]
    return exit_code(any(run.scores for run in runs), failures)


def _run_data(run: _Run, output: Path) -> dict[str, Any]:
    return {
        "bundle": run.bundle,
        "version": run.version,
        "output": str(output),
        "scans": [{"output": str(run.outputs[s.key]), **to_json(s)} for s in run.scores],
        "summary": run.summary,
        "failed": [fault.data() for fault in run.failures],
    }
