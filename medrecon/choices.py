"""What a user may ask for, checked before any work: results, devices, which of the scans found."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from medrecon.bundle import near
from medrecon.errors import ModelError, UsageError
from medrecon.io.scan import Found, Scan, ScanError
from medrecon.reconstructor import INPUT, parse_layers


def parse_results(layers: str | Sequence[str]) -> list[str]:
    """The results that a user asks for: "level3+level4,level2" -> ["level3+level4", "level2"].

    A comma separates results, a plus joins layers into one result.

    Raises:
        ModelError: an empty name, a layer twice in one result, "input" joined with a layer.
        UsageError: a result asked for twice.
    """
    asked = layers.split(",") if isinstance(layers, str) else list(layers)
    results = ["+".join(parse_layers(result)) for result in asked]
    if len(set(results)) < len(results):
        raise UsageError(f"--layers {','.join(results)} repeats a result", remedy="name each result once")
    return results


def check_results(results: Sequence[str], known: Sequence[str], *, where: Path) -> None:
    """Refuse results that name a layer the network does not have.

    Raises:
        ModelError: an unknown layer; the message names the near ones.
    """
    for name in (name for result in results for name in parse_layers(result)):
        if name != INPUT and name not in known:
            raise ModelError(
                f"no layer '{name}'" + near(name, [*known, INPUT]),
                path=where,
                remedy=f"use {', '.join(known)} or {INPUT}",
            )


def pick_device(name: str) -> torch.device:
    """The device that a user means: "auto" takes a GPU where there is one.

    Raises:
        UsageError: not a device, or not one of this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"no device '{name}'", remedy="use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device '{name}' is not supported", remedy="use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"there is no '{name}' on this machine", remedy="use --device cpu or auto")
    return device


def visible_gpus() -> list[str]:
    """The names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named or [str(number) for number in range(torch.cuda.device_count())]


def pick_gpus(device: str, count: int | None, *, here: bool) -> tuple[str, ...]:
    """The GPUs of each machine that are to be used, as CUDA_VISIBLE_DEVICES names them.

    Args:
        device: what `--device` says.
        count: what `--gpus` says; None takes all there are here, on a cluster one where `device` is "cuda".
        here: on this machine, not on a cluster.

    Raises:
        UsageError: more than there are, some with `--device cpu`, or a number of one on a cluster.
    """
    if device == "cpu" and count:
        raise UsageError(f"--gpus {count} with --device cpu", remedy="leave one of them out")
    if device == "cpu" or count == 0:
        return ()
    if not here:
        if device.startswith("cuda:"):
            raise UsageError(f"--device {device} on a cluster", remedy="use --device cuda and --gpus N")
        return tuple(str(number) for number in range(int(device == "cuda") if count is None else count))
    chosen = pick_device(device)
    if chosen.type != "cuda":
        if count:
            raise UsageError(f"--gpus {count}, but there is none here", remedy="leave --gpus out")
        return ()
    there = visible_gpus()
    if chosen.index is not None:
        return (there[chosen.index],)
    if (count or 0) > len(there):
        raise UsageError(f"--gpus {count}, but there are {len(there)}", remedy="ask for fewer")
    return tuple(there[: count or len(there)])


def encoder_setting(config: Any, file: Path | None, root: Path) -> dict[str, Any]:
    """What a bundle's train.yaml must be told of `--encoder-weights`.

    Args:
        config: the configuration.
        file: the weights that were named.
        root: the bundle.

    Raises:
        ModelError: the bundle needs weights, and none were named.
        UsageError: weights were named, and the bundle takes none.
    """
    if file is None:
        if "encoder_weights" in config and config["encoder_weights"] is None:
            raise ModelError(
                "the bundle does not hold the weights of the network that it looks into",
                path=root,
                remedy="name their file with --encoder-weights",
            )
        return {}
    if "encoder_weights" not in config:
        raise UsageError(
            "the bundle trains its own encoder: it takes no --encoder-weights",
            path=root,
            remedy="leave it out",
        )
    return {"encoder_weights": file.absolute()}


def with_hu(scan: Scan) -> Scan:
    """The same scan, its values taken as HU where its file cannot say so: NIfTI, NRRD and MHA of a CT.

    Raises:
        UsageError: the file does say, and says otherwise.
    """
    if scan.units == "HU":
        return scan
    if scan.format == "dicom":
        raise UsageError(
            f"--hu does not suit a DICOM series of modality {scan.modality or 'unknown'}",
            path=scan.path,
            remedy="leave --hu out: DICOM says what its units are",
        )
    return replace(scan, modality="CT", units="HU")


def refuse_mixed(found: Found) -> Found:
    """Refuse several DICOM series that lie in one folder: they may be mixed by mistake, even of two patients.

    Returns:
        What was given.

    Raises:
        ScanError: the choices, and the options that settle it.
    """
    places: dict[Path, list[Scan]] = {}
    for scan in found.scans:
        if scan.format == "dicom":
            for folder in {file.parent for file in scan.files}:
                places.setdefault(folder, []).append(scan)
    for folder, scans in places.items():
        if len(scans) > 1:
            listed = [f"{s.key} ({s.modality} {s.description[:40]!r}, {s.series_uid})" for s in scans[:8]]
            more = f" and {len(scans) - 8} more" if len(scans) > 8 else ""
            raise ScanError(
                f"holds {len(scans)} series: {', '.join(listed)}{more}",
                path=folder,
                remedy=f"choose one, such as --series {scans[0].key}, or take them all with --all-series",
            )
    return found
