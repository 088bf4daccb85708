"""The record of a run: what went in, what was done, what came out, and nothing that names a patient."""

from __future__ import annotations

import json
import platform
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from medrecon.io.derivation import Derivation
from medrecon.io.files.names import hiding, scan_label
from medrecon.io.files.outputs import Written, hash_file
from medrecon.io.files.publish import publish
from medrecon.io.formats import split_ending
from medrecon.io.scan import LeftOut, Scan, ScanError

SCHEMA = "medrecon.manifest/1"
_READERS = 4  # files hashed at a time
_PACKAGES = ("medrecon", "torch", "monai", "numpy", "pydicom", "nibabel", "SimpleITK", "imagecodecs", "isal")


def manifest_path(output: str | Path, targets: Iterable[str | Path]) -> Path:
    """Where a run's manifest goes: `manifest.json` in a folder of outputs.

    A single series folder or file keeps its own contents alone; its manifest is `<output>.manifest.json`
    beside it.
    """
    output = Path(output)
    if [Path(target) for target in targets] != [output]:
        return output / "manifest.json"
    return output.with_name(f"{split_ending(output.name)[0]}.manifest.json")


def write_manifest(
    path: str | Path,
    *,
    scans: Sequence[Scan] = (),
    outputs: Sequence[Written] = (),
    left_out: Sequence[LeftOut] = (),
    refused: Sequence[ScanError] = (),
    derivation: Mapping[str, Derivation] | None = None,
    config: Mapping[str, Any] | None = None,
    device: str = "",
    seeds: Mapping[str, int] | None = None,
    layers: Sequence[str] = (),
    warnings: Sequence[str] = (),
    overwrite: bool = True,
) -> Path:
    """Write the manifest of a run as JSON, whole or not at all.

    No text of a source's header goes into it, and names of files and folders are taken out of every text:
    sources are told apart by label and hash.

    Args:
        path: the file, see `manifest_path`.
        scans: the sources that were used; their files are hashed here.
        outputs: what was written.
        left_out: files that are no part of a scan, and why; `refused` are scans that are broken.
        derivation: result -> how it was made.
        config: the run's settings, JSON values.
        device: where it ran, such as "cpu".
        seeds: name -> seed.
        layers: what the user asked for.
        warnings: what was said during the run.
        overwrite: replace a manifest that is there.

    Returns:
        The path.

    Raises:
        OutputError: it cannot be written.
    """
    sources = [path for scan in scans for path in scan.files]
    sources += [item.path for item in left_out] + [item.path for item in refused if item.path is not None]
    hide = hiding(sources)
    reasons = Counter(hide(item.reason) for item in left_out)
    record = {
        "schema": SCHEMA,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "inputs": [{**_input(scan), "notes": [hide(note) for note in scan.notes]} for scan in scans],
        "left_out": [{"files": count, "reason": reason} for reason, count in reasons.items()],
        "refused": [{"reason": hide(item.message)} for item in refused],
        "layers": list(layers),
        "derivation": {name: _derivation(value) for name, value in (derivation or {}).items()},
        "config": dict(config or {}),
        "device": device,
        "seeds": dict(seeds or {}),
        "versions": _versions(),
        "warnings": [hide(warning) for warning in warnings],
        "outputs": [
            {**_output(item), "warnings": [hide(said) for said in item.warnings]} for item in outputs
        ],
    }
    text = json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n"
    path = Path(path)
    with publish(path, overwrite) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path


def _input(scan: Scan) -> dict[str, Any]:
    with ThreadPoolExecutor(_READERS) as pool:
        hashes = list(pool.map(hash_file, scan.files))
    return {
        "scan": scan_label(scan),
        "key": scan.key,
        "format": scan.format,
        "modality": scan.modality,
        "units": scan.units,
        "shape": list(scan.shape),
        "spacing_mm": [round(v, 6) for v in scan.spacing],
        "affine_ras": scan.affine.tolist(),
        "volume": scan.volume,
        "sop_instances": len(scan.files) if scan.format == "dicom" else 0,
        "sha256": {f"{number:05d}": digest for number, digest in enumerate(hashes, start=1)},
    }


def _derivation(value: Derivation) -> dict[str, Any]:
    return {key: fact for key, fact in vars(value).items() if key != "drawn"}


def _output(item: Written) -> dict[str, Any]:
    return {
        "path": item.path.name,
        "scan": item.scan_key,
        "result": item.result,
        "format": item.format,
        "encoding": item.encoding,
        "clipped_voxels": item.clipped,
        "sha256": item.sha256,
        **({} if item.feature_distance is None else {"feature_distance": item.feature_distance}),
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": sys.platform}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
