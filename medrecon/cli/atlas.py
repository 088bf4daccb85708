"""The command `atlas`: each scan measured layer by layer; one that fails does not stop the rest."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medrecon.cli.atlas_tables import show_pair, show_run
from medrecon.cli.batch import as_told, exit_code, find_asked, one_by_one, say_note, say_notes, tell_sources
from medrecon.cli.command import verb
from medrecon.cli.declare import option
from medrecon.cli.faults import Fault
from medrecon.cli.linear import AnyNetwork, Chosen
from medrecon.cli.options import EachLayer, ManyScans, network_option
from medrecon.cli.progress import progress_bar
from medrecon.cli.samples import Samples
from medrecon.cli.session import Outcome, Session
from medrecon.errors import UsageError

if TYPE_CHECKING:
    from medrecon.atlas.marks import Marks
    from medrecon.evaluation.scores import ScanScores
    from medrecon.io.scan import Found, Scan

_finding = partial(option, panel="Is this finding still there?")
_PAIR = "name two bundles with INPUT and OUTPUT, or the outputs of two atlas runs with OUTPUT"


@dataclass(frozen=True)
class Findings:
    """What is looked at for itself."""

    roi: Annotated[
        list[str] | None,
        _finding(
            "--roi [NAME=]MASK",
            "Look at the labels of this mask for themselves: errors, contrast to the surroundings, edge "
            "and size, by layer. On the scan's grid or a part of it; also a segmentation of 3D Slicer "
            "(.seg.nrrd). For several scans: a folder of masks named like the scans. May be repeated.",
        ),
    ] = None
    at: Annotated[
        list[str] | None,
        _finding(
            "--at [NAME=]R,A,S",
            "The same around this point, in mm to the patient's right, front and head, as the viewer "
            "shows it. May be repeated.",
        ),
    ] = None
    radius: Annotated[float, _finding("--radius MM", "Around a point.", min=0.1)] = 5.0
    labels: Annotated[
        Path | None,
        _finding(
            "--labels JSON", 'Names of labels: {"1": "liver"}, {"liver": 1}, or a dataset.json of nnU-Net.'
        ),
    ] = None


@dataclass(frozen=True)
class Shown:
    """What the pages and scenes show."""

    viewer: Annotated[
        bool, option("--viewer/--no-viewer", "Put the interactive viewer into report.html.")
    ] = True
    full_scene: Annotated[bool, option("--full-scene", "All layers and their errors in review.mrb.")] = False
    own_output: Annotated[
        bool,
        network_option(
            "--own-output",
            "Run the network of --encoder to its end on the scan and each reconstruction, and compare "
            "what it finds: Dice by label, and the distance of its outputs.",
        ),
    ] = False
    features: Annotated[
        bool | None,
        network_option(
            "--features/--no-features",
            "Show each layer's features, as colours and strongest channels, in report.html and review.mrb. "
            "Default: where the network is one of --encoder.",
        ),
    ] = None


@dataclass(frozen=True)
class _Asked:
    """What is asked of each scan."""

    layers: str | None
    marks: Marks
    shown: Shown
    drawn: Samples
    device: str


@dataclass
class _Run:
    """What became of the scans under one bundle."""

    bundle: str
    version: str
    outputs: dict[str, Path]
    scores: list[ScanScores]
    failures: list[Fault]
    summary: dict[str, Any] | None = None

    @property
    def failed(self) -> list[dict[str, object]]:
        """The failures, for `--json`."""
        return [fault.data() for fault in self.failures]


@verb(
    "medrecon atlas CT_SERIES/ CT_atlas/",
    "medrecon atlas t1.nii.gz out/ -l level3,level4 --roi lesion=mask.nii.gz",
    "medrecon atlas t1.nii.gz out/ -l level4,level5 --samples 8",
    "medrecon atlas chest/ out/ --at nodule=-42.5,10,118 --radius 6",
    "medrecon atlas study/ out/ --compare volume_autoencoder slice_autoencoder",
    "medrecon atlas out/ --compare atlas_a/ atlas_b/",
    "medrecon atlas CT_SERIES/ out/ --encoder vgg16 --weights vgg16.safetensors \\\n"
    "      --layers relu2_2,relu4_3",
    takes="24 s of a CPU core for a CT of 122x101x112 and five layers, 90 s for 512x512x100.",
)
def atlas(
    session: Session,
    *,
    reading: ManyScans,
    network: AnyNetwork,
    drawn: Samples,
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="INPUT", help="One scan, or a folder of scans. Left out to compare two earlier outputs."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUTPUT",
            help="A new folder: metrics.json, metrics.csv, report.html, figures/, review.mrb. For several "
            "scans one such folder each, and summary/index.html.",
        ),
    ] = None,
    layers: EachLayer = None,
    findings: Findings,
    compare: Annotated[
        tuple[str, str] | None,
        option(
            "--compare A B",
            "Two bundles on the scans of INPUT, or the outputs of two earlier runs: paired differences "
            "with bootstrap intervals.",
        ),
    ] = None,
    shown: Shown,
) -> Outcome:
    """Measure what each layer kept of a scan, with pictures.

    Errors in HU or source units over the body, tissues and a mask; by spatial frequency; bits per voxel
    beside JPEG 2000, HTJ2K and JPEG-LS; each score beside its controls; a calibrated interval for each voxel.
    """
    from medrecon.atlas.marks import Marks
    from medrecon.atlas.output import is_atlas

    if compare is not None and source is not None and all(is_atlas(name) for name in compare):
        from medrecon.atlas.compare import compare_folders

        if output is not None:
            raise UsageError("the outputs of two runs need no INPUT", remedy="give OUTPUT alone")
        content = compare_folders(Path(compare[0]), Path(compare[1]), source)
        return Outcome({"output": str(source), **content}, lambda console: show_pair(console, content))
    if source is None or output is None:
        raise UsageError("INPUT or OUTPUT is missing", remedy=_PAIR if compare else "medrecon atlas --help")
    network.check()
    start = time.perf_counter()
    if compare is not None and (network.encoder is not None or network.channels):
        raise UsageError("--compare names two bundles", remedy="leave --encoder and its channels out")
    marks = Marks(tuple(findings.roi or ()), tuple(findings.at or ()), findings.labels, findings.radius)
    drawn.beside(network.encoder)
    asked = _Asked(layers, marks, shown, drawn, network.device)
    found = find_asked(session, source, reading)
    found = replace(found, scans=as_told(session, found.scans, output, source))
    if compare is not None:
        say_notes(session, found)
        return _compare_bundles(session, found, output, compare, network.weights, asked)
    chosen = network.choose(session, found, reading, layers)
    say_notes(session, found)
    run = _run(session, chosen, output, asked)
    data = {**_run_data(run, output), "seconds": round(time.perf_counter() - start, 1)}
    return Outcome(
        data, lambda console: show_run(console, data, run.scores), exit_code(bool(run.scores), run.failures)
    )


def _compare_bundles(
    session: Session, found: Found, output: Path, pair: tuple[str, str], weights: Path | None, asked: _Asked
) -> Outcome:
    """Set two bundles side by side on the same scans; `output` gets their atlases in `a/` and `b/`.

    Raises:
        UsageError: the pair does not fit.
        ScanError, ModelError, OutputError: as for one bundle.
    """
    from medrecon.atlas.compare import compare_atlases, write_comparison
    from medrecon.atlas.output import is_atlas, refuse_taken
    from medrecon.atlas.summary import patient_numbers
    from medrecon.bundle.config import Bundle as OpenBundle
    from medrecon.io import publish

    if any(is_atlas(name) for name in pair):
        raise UsageError(f"cannot compare {pair[0]} with {pair[1]}", remedy=_PAIR)
    refuse_taken(output)
    runs = []
    for letter, name in zip("ab", pair, strict=True):
        takes = weights is not None and "encoder_weights" in OpenBundle.open(name).parser
        chosen = Chosen(found, name, {"encoder_weights": weights} if takes else {})
        runs.append(_run(session, chosen, output / letter, asked))
    names = (runs[0].bundle, runs[1].bundle)
    if names[0] == names[1]:
        names = pair
    content = compare_atlases(
        runs[0].scores, runs[1].scores, names=names, patients=patient_numbers(found.scans)
    )
    with publish(output / "comparison") as folder:
        folder.mkdir()
        write_comparison(folder, content)
    faults = [fault for run in runs for fault in run.failures]
    data = {"output": str(output / "comparison"), "failed": [fault.data() for fault in faults], **content}
    return Outcome(
        data, lambda console: show_pair(console, content), exit_code(any(run.scores for run in runs), faults)
    )


def _run(session: Session, chosen: Chosen, output: Path, asked: _Asked) -> _Run:
    from medrecon.atlas.network import AtlasNetwork
    from medrecon.atlas.output import refuse_taken
    from medrecon.atlas.run import measure_scan, write_overview
    from medrecon.io.files.names import scan_label

    found, shown = chosen.found, asked.shown
    scans = found.scans
    if not scans:
        raise found.refused[0] if found.refused else UsageError("no scan to work on", remedy="name a scan")
    single = len(scans) == 1 and not found.refused
    places = {scan.key: output if single else output / scan_label(scan) for scan in scans}
    refuse_taken(output)
    engine = AtlasNetwork(
        chosen.bundle,
        scans,
        output=output,
        layers=asked.layers,
        device=asked.device,
        overrides=chosen.overrides,
        own_output=shown.own_output,
        features=shown.features,
        samples=asked.drawn.samples,
        seed=asked.drawn.drawn_with,
    )

    def one(scan: Scan, label: str) -> ScanScores:
        with progress_bar(session, label) as tick:
            scores = measure_scan(
                engine,
                scan,
                places[scan.key],
                marks=asked.marks,
                viewer=shown.viewer,
                full_scene=shown.full_scene,
                progress=tick,
            )
        for note in scores.warnings:
            if note not in scan.notes:  # those were said at once
                say_note(session, scan, note)
        return scores

    done, failures = one_by_one(session, found, one)
    outputs = {scores.key: places[scores.key] for scores in done}
    run = _Run(engine.bundle.name, engine.bundle.version, outputs, done, failures)
    if not single and run.scores:
        run.summary = write_overview(output / "summary", scans, run.scores, outputs, run.failed)
    tell_sources(found, output)
    return run


def _run_data(run: _Run, output: Path) -> dict[str, Any]:
    from medrecon.evaluation.scores_json import to_json

    return {
        "bundle": run.bundle,
        "version": run.version,
        "output": str(output),
        "scans": [{"output": str(run.outputs[s.key]), **to_json(s)} for s in run.scores],
        "summary": run.summary,
        "failed": run.failed,
    }
