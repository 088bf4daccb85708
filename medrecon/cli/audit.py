"""The command `audit`: what may leave the hospital, and at which depth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medrecon.cli.batch import as_told, find_asked, say_notes, tell_sources
from medrecon.cli.command import verb
from medrecon.cli.declare import option
from medrecon.cli.linear import AnyNetwork, refuse_channels
from medrecon.cli.options import EachLayer, ManyScans
from medrecon.cli.progress import progress_bar
from medrecon.cli.session import Outcome, Session
from medrecon.cli.tables import print_table
from medrecon.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from medrecon.atlas.audit.asked import Asked

_attack = partial(option, panel="The attack")
_defence = partial(option, panel="What else is measured")


@dataclass(frozen=True)
class Attack:
    """How patients are looked for, and what else is measured."""

    ranks: Annotated[
        str, _attack("--ranks K,K", "Count how often the right patient is among the first K.")
    ] = "1,5"
    views: Annotated[
        str,
        _attack(
            "--views NAMES",
            "Make second views of each scan, to be found by: noise, crop, resample, shift, intensity. "
            "Where nobody was scanned twice there is no audit without.",
        ),
    ] = ""
    compare: Annotated[
        str,
        _attack(
            "--match whitened|correlation",
            "How features are compared: by the cosine after whitening on the gallery, or without.",
        ),
    ] = "whitened"
    size: Annotated[
        int,
        _attack(
            "--size N", "Voxels along each side of the common grid that each scan is put on.", min=16, max=256
        ),
    ] = 64
    spacing: Annotated[float, _attack("--spacing MM", "Between them.", min=0.1, max=20.0)] = 4.0
    seed: Annotated[int, _attack("--seed N", "Of all that is drawn.")] = 0
    defences: Annotated[
        str,
        _defence(
            "--defences LIST",
            "Done to the features before they leave: noise:S (standard deviations), bits:N, drop:P "
            "(share of channels), pool:N (positions along each axis); or none.",
        ),
    ] = "noise:1,bits:2,drop:0.9,pool:1"
    members: Annotated[
        str | None,
        _defence(
            "--members LIST",
            "The scans that the network was trained on: a text file of names or keys, one a line; or "
            "'provenance', for those that the bundle's own provenance names.",
        ),
    ] = None
    face: Annotated[
        str | None,
        _defence(
            "--face auto|MASK",
            "For heads: how much of the face comes back, also of the defaced head. A mask (for several "
            "scans a folder of masks named like the scans), or a rough box at the front.",
        ),
    ] = None

    def asked(self) -> Asked:
        """The same, checked.

        Raises:
            UsageError: an option is malformed.
        """
        from medrecon.atlas.audit.asked import Asked
        from medrecon.atlas.audit.defences import parse_defences
        from medrecon.atlas.audit.grid import check_views

        if self.compare not in ("whitened", "correlation"):
            raise UsageError(f"--match '{self.compare}'", remedy="give whitened or correlation")
        return Asked(
            ranks=_ranks(self.ranks),
            views=tuple(check_views([name.strip() for name in self.views.split(",") if name.strip()])),
            defences=tuple(parse_defences(self.defences)),
            members=self.members,
            face=self.face,
            size=self.size,
            spacing=self.spacing,
            compare=self.compare,
            seed=self.seed,
        )


def _ranks(text: str) -> tuple[int, ...]:
    """The ranks, rising.

    Raises:
        UsageError: no whole numbers above 0.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 0 < int(part) <= 10_000 for part in parts):
        raise UsageError(f"--ranks '{text}'", remedy="write whole numbers such as 1,5")
    return tuple(sorted({int(part) for part in parts}))


@verb(
    "medrecon audit STUDIES/ OUT/",
    "medrecon audit BIDS/ OUT/ --patients 'sub-*' --layers level4,level5",
    "medrecon audit HEADS/ OUT/ --patients who.csv --views noise,crop --face auto",
    "medrecon audit STUDIES/ OUT/ --encoder vgg16 --weights vgg16.safetensors \\\n      --layers relu4_3",
    takes="about a second of a CPU core for each scan and each second view of it.",
)
def audit(
    session: Session,
    reading: ManyScans,
    network: AnyNetwork,
    attack: Attack,
    source: Annotated[
        Path, typer.Argument(metavar="SCANS", help="The cohort: a folder, searched to the bottom.")
    ],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT", help="A new folder: report.html, metrics.json, metrics.csv, figures/."
        ),
    ],
    patients: Annotated[
        str | None,
        option(
            "--patients CSV|PATTERN",
            "Whose each scan is, where DICOM's PatientID does not say it: a CSV file with the columns "
            "scan (path, file name or key) and patient, or a pattern of folder or file names, such as "
            "'sub-*'. It is never guessed.",
        ),
    ] = None,
    layers: EachLayer = None,
) -> Outcome:
    """Measure how well each layer's features identify a patient.

    Each scan is put on a common grid. Its features, and its reconstruction from them, are matched to the
    other scans of the same patient among those of all patients. Beside it stand chance, the scan itself and
    a code that has learned nothing. It is a lower bound of what an attacker can do.
    """
    from medrecon.atlas.output import refuse_taken

    refuse_taken(output)
    folder = session.folder_of(source)
    found = find_asked(session, folder, reading)
    if found.refused:
        raise found.refused[0]
    from medrecon.atlas.audit.asked import refuse_too_few
    from medrecon.atlas.audit.network import AuditNetwork
    from medrecon.atlas.audit.patients import patients_of
    from medrecon.atlas.audit.run import run_audit

    asked = attack.asked()
    scans = as_told(session, found.scans, output, source)
    say_notes(session, found)
    refuse_channels(network, "an audit compares single scans")
    whose = patients_of(scans, folder, patients)
    refuse_too_few(whose, asked, source)
    chosen = network.choose(session, found, reading, layers)
    engine = AuditNetwork(
        chosen.bundle,
        scans,
        output=output,
        layers=layers,
        device=network.device,
        overrides=chosen.overrides,
    )
    with progress_bar(session, "features", "volumes") as tick:
        content = run_audit(engine, scans, whose, output, asked, source, progress=tick)
    tell_sources(found, output)
    session.note(*content["notes"])
    return Outcome({"output": str(output), **content}, lambda console: _show(console, content, output))


def _show(console: Console, content: dict[str, Any], output: Path) -> None:
    from medrecon.atlas.output import PAGE

    ranks = content["ranks"]
    columns = ("condition", "layer", "matched", "defence", *(f"rank {k}" for k in ranks), "chance")
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in content["results"]:
        key = (row["condition"], row["layer"] or "-", row["matched"], row["defence"] or "-")
        groups.setdefault(key, []).append(row)
    rows = [(*key, *(_share(each) for each in some), _chance(some)) for key, some in groups.items()]
    console.print(
        f"{content['scans']} scans of {content['patients']} patients; shares in % with 95 % intervals"
    )
    print_table(console, columns, rows, right=columns[4:], spare=("defence",))
    for row in content["membership"]["rows"]:
        if row["by"] == "error":
            ends = f"{row['low']:.2f} to {row['high']:.2f}"
            console.print(f"membership by {row['layer']}: AUC {row['auc']:.2f} ({ends}); chance is 0.5")
    for row in (content["face"] or {}).get("rows", []):
        others = "" if row["others"] is None else f", others' {row['others']:.2f}"
        called = row["layer"] or "scan itself"
        console.print(f"face, {row['head']} head, {called}: surface Dice {row['own']:.2f}{others}")
    console.print(f"what it means, and the limits: {output / PAGE}")


def _share(row: dict[str, Any]) -> str:
    return f"{100 * row['rate']:.0f} ({100 * row['low']:.0f}-{100 * row['high']:.0f})"


def _chance(rows: list[dict[str, Any]]) -> str:
    return "/".join(f"{100 * row['chance']:.3g}" for row in rows)
