"""Where each result goes: settled, and refused, before any work is done."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from medrecon.errors import OutputError, UsageError
from medrecon.io.dicom.writing.source import check_derivable
from medrecon.io.files.names import result_names, scan_label
from medrecon.io.files.publish import check_free
from medrecon.io.formats import ENDINGS, format_named
from medrecon.io.scan import Scan

_LONGEST_NAME = 255
FORMATS = ("same", "dicom", *ENDINGS)
_FILE_NAME = re.compile(r"\.([a-z]{2,4}|h5|jp2|mp4|7z|dicom)(\.(gz|bz2|xz|zst|zip))?$", re.IGNORECASE)


def plan_outputs(
    scans: Sequence[Scan],
    results: Sequence[str],
    output: str | Path,
    *,
    output_format: str = "same",
    overwrite: bool = False,
) -> dict[tuple[str, str], Path]:
    """The final path of each result of each scan.

    One scan and one result go to `output` itself: a series folder, or a file named `.nii.gz`, `.nii`, `.nrrd`
    or `.mha` (for these formats an `output` of another name is a folder that gets `<result>.nii.gz`). One
    scan and several results make a folder with an entry for each result; several scans a folder with
    `<label>_<result>` entries (see `scan_label`).

    Args:
        scans: what will be read; their keys must differ.
        results: names of results, such as "level3" or "level2+level4".
        output: what the user named.
        output_format: "dicom", "nifti", "nrrd", "mha" or "same": what the name of `output` says, else DICOM
            for DICOM and NIfTI for all else.
        overwrite: whether existing outputs may be replaced.

    Returns:
        (scan key, result) -> path, in the order of the scans and results.

    Raises:
        UsageError: the format is unknown or does not suit the source or the output's name.
        OutputError: an output exists, lies in the input or cannot be written.
    """
    output = Path(output)
    named = "" if os.path.lexists(output) and output.is_dir() else format_named(output)
    formats = {scan.key: _format(scan, output_format, named) for scan in scans}
    _check_request(scans, results, output, formats, named)
    names = result_names(results)
    single = len(scans) == 1 and len(results) == 1
    for scan in scans:
        if formats[scan.key] == "dicom":
            check_derivable(scan)
    targets: dict[tuple[str, str], Path] = {}
    for scan in scans:
        label = "" if len(scans) == 1 else f"{scan_label(scan)}_"
        ending = ENDINGS[formats[scan.key]][0] if formats[scan.key] in ENDINGS else ""
        for result in results:
            inside = output / f"{label}{names[result]}{ending}"
            target = output if single and (named or not ending) else inside
            targets[scan.key, result] = target
    check_places(scans, list(targets.values()), output, overwrite)
    return targets


def _format(scan: Scan, wanted: str, named: str) -> str:
    if wanted not in FORMATS:
        raise UsageError(f"unknown output format {wanted!r}", remedy=f"choose {', '.join(FORMATS)}")
    if wanted == "dicom" and scan.format != "dicom":
        raise UsageError(
            f"DICOM cannot be made from a {scan.format} file",
            path=scan.path,
            remedy="--format dicom needs a DICOM source; leave it out to get NIfTI",
        )
    if wanted == "same":
        return named or ("dicom" if scan.format == "dicom" else "nifti")
    return wanted


def _check_request(
    scans: Sequence[Scan], results: Sequence[str], output: Path, formats: dict[str, str], named: str
) -> None:
    if not scans or not results:
        raise UsageError("nothing to write: no scan or no result was given", path=output)
    if len(formats) < len(scans) or len(set(results)) < len(results):
        raise UsageError("a scan or a result is given twice", path=output, remedy="name each once")
    ending = "".join(output.suffixes[-2:] if output.suffix.lower() == ".gz" else output.suffixes[-1:])
    if named and len(scans) * len(results) > 1:
        raise UsageError(
            f"{len(scans) * len(results)} outputs do not fit one {ending} file",
            path=output,
            remedy="name a folder",
        )
    if named and "dicom" in formats.values():
        raise UsageError(
            f"a DICOM series is a folder, not a {ending} file",
            path=output,
            remedy="name a folder, or leave --format dicom out",
        )
    if named and set(formats.values()) != {named}:
        raise UsageError(
            f"--format {next(iter(formats.values()))} does not suit a {ending} file",
            path=output,
            remedy="leave --format out, or change the ending",
        )
    if not named and _FILE_NAME.search(output.name) and not os.path.lexists(output):
        known = ", ".join(ending for endings in ENDINGS.values() for ending in endings)
        raise UsageError(
            f"{ending} files are not written", path=output, remedy=f"name a folder, or a file as {known}"
        )


def check_places(scans: Sequence[Scan], targets: list[Path], output: Path, overwrite: bool) -> None:
    """Refuse places that are taken, lie in the input or cannot be written.

    Args:
        scans: what will be read.
        targets: final paths of what will be written.
        output: what the user named.
        overwrite: whether existing outputs may be replaced.

    Raises:
        OutputError: which place, and why.
    """
    try:
        places = {target.resolve(): target for target in targets}
        for scan in scans:
            source = scan.path.resolve()
            used = {file.resolve() for file in scan.files}
            for place in (output.resolve(), *places):
                if place in used or place == source or (scan.path.is_dir() and source in place.parents):
                    raise OutputError(
                        f"the output is, or lies in, the input {scan.path}",
                        path=output,
                        remedy="choose an output outside of the input",
                    )
        if output not in targets and os.path.lexists(output) and not output.is_dir():
            raise OutputError(
                "is a file, but a folder is needed", path=output, remedy="choose another output"
            )
        for target in targets:
            check_free(target, overwrite)
            _check_writable(target)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot be used: {error}", path=output, remedy="choose another output") from error


def _check_writable(target: Path) -> None:
    long = next((part for part in target.parts if len(os.fsencode(part)) > _LONGEST_NAME), None)
    if long is not None:
        raise OutputError(f"the name {long[:20]}... is too long", path=target.parent, remedy="shorten it")
    parent = target.parent
    while not os.path.lexists(parent):
        parent = parent.parent
    if not parent.is_dir():
        raise OutputError(f"{parent} is not a folder", path=target, remedy="choose another output")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"no right to write in {parent}", path=target, remedy="choose another output")
