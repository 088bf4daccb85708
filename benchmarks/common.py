"""What the benchmarks share: which scans, tables, JSON. Imports nothing heavy: peak memory is measured."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medrecon.io.scan import Scan, ScanError

HERE = Path(__file__).resolve().parent
PYTHON = (sys.executable, "-W", "ignore")
"""What a child process is started with."""

HELD_OUT = (
    "ct_abdomen_*",
    "ct_heart_*",
    "ct_torso_*",
    "*_stroke_*",
    "mr_t1_sag_head_*",
    "mr_t2s_neck_*",
    "mr_t1_spine_*",
    "mr_t2_spine_*",
    "mr_pd_fse_*",
    "mr_pd_head_chris*",
    "mr_t1gd_brain_skullstripped*",
)
"""The scans that the shipped weights were not trained on."""


LOSSLESS = 135.0
"""dB from which on a difference is the rounding of float32: 24 bits are 144 dB, less a few operations."""


def parser_for(doc: str, name: str) -> argparse.ArgumentParser:
    """A parser that has `--json`; its text is the script's docstring."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = HERE / "results" / f"{name}.json"
    parser.add_argument("--json", type=Path, default=where, help=f"default: benchmarks/results/{name}.json")
    return parser


def add_scan_options(parser: argparse.ArgumentParser, held_out: Sequence[str]) -> None:
    """The options that say which scans are measured, and how they are read."""
    parser.add_argument("scans", type=Path, help="folder of scans, searched to the bottom")
    parser.add_argument(
        "--held-out", nargs="+", default=list(held_out), metavar="PATTERN", help="of file or folder names"
    )
    parser.add_argument(
        "--hu", nargs="+", default=["ct_*"], metavar="PATTERN", help="NIfTI, NRRD and MHA files that hold HU"
    )
    parser.add_argument(
        "--crop", nargs=3, type=int, metavar=("X", "Y", "Z"), help="measure the middle of each scan only"
    )


def add_weights_option(parser: argparse.ArgumentParser) -> None:
    """The option that measures other weights than those in a bundle."""
    parser.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="BUNDLE=FILE",
        help="weights to measure instead of the bundle's own",
    )


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name fits one of the patterns."""
    return any(fnmatch(name, pattern) for pattern in patterns)


def pick_scans(
    folder: Path, patterns: Sequence[str], hu: Sequence[str]
) -> tuple[list[Scan], list[ScanError]]:
    """The scans of a folder that match, those that `hu` names taken as HU; and the ones that are refused.

    Args:
        folder: searched to the bottom.
        patterns: of file or series-folder names; all where there is none.
        hu: patterns of files that hold HU and cannot say so.

    Raises:
        SystemExit: a pattern matches nothing.
    """
    from medrecon.io import find_scans
    from medrecon.io.choices import with_hu

    found = find_scans(folder)
    names = [scan.path.name for scan in found.scans]
    names += [error.path.name for error in found.refused if error.path is not None]
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in names):
            raise SystemExit(f"nothing in {folder} matches --held-out '{pattern}'")
    scans = [s for s in found.scans if not patterns or matches(s.path.name, patterns)]
    scans = [with_hu(s) if s.format != "dicom" and matches(s.path.name, hu) else s for s in scans]
    refused = [e for e in found.refused if not patterns or (e.path and matches(e.path.name, patterns))]
    return sorted(scans, key=lambda scan: scan.path.name), refused


def short_name(path: Path) -> str:
    """The name of a scan in a table: without the endings of its file."""
    name = path.name
    for ending in (".gz", ".nii", ".nrrd", ".mha", "_dicom"):
        name = name.removesuffix(ending)
    return name


def markdown(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; all but the first column to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def decibels(value: float | None) -> str:
    """A PSNR as text; "exact" where nothing was lost, or nothing but the rounding of float32."""
    return "exact" if is_exact(value) else f"{value:.1f}"


def is_exact(value: float | None) -> bool:
    """Whether a PSNR (infinite ones are None in JSON) says that nothing but rounding was lost."""
    return value is None or value > LOSSLESS


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write results where they were asked for, and their picture beside them."""
    from plots import draw

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_plain(content), indent=1) + "\n", encoding="utf-8")
    print("\nwritten:", *(str(each) for each in (path, *draw(path))))


def _plain(value: Any) -> Any:
    """JSON has neither infinity nor NaN: both become null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
