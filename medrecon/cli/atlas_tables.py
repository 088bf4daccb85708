"""What the command `atlas` prints: tables of layers, and of two runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medrecon.cli.tables import print_table

if TYPE_CHECKING:
    from rich.console import Console

    from medrecon.evaluation.scores import ScanScores


def show_run(console: Console, data: Mapping[str, Any], scans: Sequence[ScanScores]) -> None:
    """One line for each scan and layer; then what stands out, and what failed."""
    from medrecon.atlas.output import INDEX, METRICS, PAGE, SCENE
    from medrecon.report.finding_words import finding_sentence

    columns = ("scan", "layer", "bits/voxel", "PSNR (dB)", "SSIM", "MAE", "as JPEG 2000", "90 % held")
    rows = [
        (
            scores.label if number == 0 else "",
            layer.layer,
            _number(layer.bits_per_voxel, ".3f"),
            _number(layer.psnr, ".2f"),
            f"{layer.ssim:.4f}",
            f"{layer.mae:.3g} {scores.units}".strip(),
            _number(layer.codecs.get("JPEG 2000"), ".3f"),
            _number(layer.coverage, ".1%"),
        )
        for scores in scans
        for number, layer in enumerate(scores.layers)
    ]
    if rows:
        print_table(console, columns, rows, right=columns[2:], spare=("90 % held", "as JPEG 2000"))
        console.print(f"controls, regions, spectrum and maps: {data['output']} ({METRICS}, {PAGE}, {SCENE})")
    for scores in scans:
        for finding in scores.findings:
            console.print(f"{scores.label}: {finding.name}: {finding_sentence(scores, finding)}")
    if data["summary"]:
        console.print(f"all scans: {data['output']}/summary/{INDEX}")
    for item in (data["summary"] or {}).get("outliers", []):
        console.print(f"stands out: {item['scan']} {item['layer']}: {item['measures']}")
    if data["failed"]:
        print_table(
            console, ("failed", "why"), [(fault["path"], fault["message"]) for fault in data["failed"]]
        )


def show_pair(console: Console, content: Mapping[str, Any]) -> None:
    """One line for each layer and measure of a comparison."""
    columns = ("layer", "measure", "first", "second", "difference", "95 % interval", "scans")
    rows = [
        (
            row["layer"],
            f"{row['measure']} {row['units']}".strip(),
            *(_number(row[name], ".4g") for name in ("first", "second", "difference")),
            f"{_number(row['low'], '.3g')} to {_number(row['high'], '.3g')}",
            row["scans"],
        )
        for row in content["results"]
    ]
    console.print(f"first: {content['first']}; second: {content['second']}")
    print_table(console, columns, rows, right=columns[2:])
    for note in content["notes"]:
        console.print(note)


def _number(value: float | None, form: str) -> str:
    if value is None:
        return "-"
    from medrecon.atlas.output import finite

    return "identical" if finite(value) is None else format(value, form)
