"""A bundle opened once and its own components joined, for scans that are known already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Compose

from medrecon.bundle.config import Bundle, layers_of
from medrecon.bundle.results import check_results, parse_results
from medrecon.compute.devices import pick_device
from medrecon.errors import ModelError, UsageError
from medrecon.inference.sample_files import check_request
from medrecon.inference.samples import SaveSamplesd
from medrecon.inference.tiling import ResultsInferer
from medrecon.io import SaveReconstructiond
from medrecon.io.scan import Scan
from medrecon.reconstructor import Reconstructor

_SETTINGS = ("dataset_dir", "output_dir", "layers", "device", "output_format", "overwrite", "scans")
_PARTS = ("network_def", "network", "targets", "preprocessing", "inferer", "postprocessing")
"""What a bundle's inference configuration must have."""

Transform = Callable[[Any], Any]


@dataclass(frozen=True)
class Parts:
    """What `python -m monai.bundle run` builds from the same configuration; only its loop is left out.

    Attributes:
        bundle: as it was opened, settings applied.
        scans: what will be run.
        results: such as ["level3", "level2+level4"].
        device: where the network runs.
        network: with its weights, on the device.
        targets: (scan key, result) -> where it is to be written.
        preprocessing: {"image": scan} -> the image as the network wants it.
        inferer: applies the network to it.
        home: steps that bring "pred" back to the scan's grid and units.
        saver: writes it.
        sampling: draws and writes samples; None where none are asked for.
    """

    bundle: Bundle
    scans: tuple[Scan, ...]
    results: list[str]
    device: torch.device
    network: Reconstructor
    targets: Mapping[tuple[str, str], Path]
    preprocessing: Transform
    inferer: ResultsInferer
    home: tuple[Transform, ...]
    saver: SaveReconstructiond
    sampling: SaveSamplesd | None


def open_parts(
    bundle: str | Path,
    *,
    scans: Sequence[Scan],
    output: str | Path,
    layers: str | Sequence[str] | None = None,
    each_layer: bool = False,
    device: str = "auto",
    output_format: str = "same",
    overwrite: bool = False,
    overrides: Mapping[str, Any] | None = None,
    revision: str = "",
    samples: int | None = None,
    seed: int = 0,
) -> Parts:
    """Build everything that can fail before the first voxel is read.

    Args:
        each_layer: where no layers are named, take each of the network's instead.

    The others, and what is raised, are those of `Pipeline.from_bundle`.
    """
    if not scans:
        raise UsageError("no scan to work on", remedy="name a scan")
    chosen = pick_device(device)
    made = {key: value for key, value in (overrides or {}).items() if key == "network_def"}
    described = Bundle.open(bundle, made)
    described.require(*_SETTINGS, *_PARTS)
    known = [layer.name for layer in layers_of(described)]
    if layers is None:
        layers = known if each_layer else described.parser["layers"]
    results = parse_results(layers)
    check_results(results, known, where=described.root)
    settings: dict[str, Any] = {
        "dataset_dir": scans[0].path,
        "output_dir": Path(output),
        "layers": results,
        "device": str(chosen),
        "output_format": str(output_format),
        "overwrite": overwrite,
        "scans": tuple(scans),
        **_sampling(described, samples, seed),
        **(overrides or {}),
    }
    opened = Bundle.open(described.root, settings)
    return _built(opened, scans, results, chosen, revision, bool(samples))


def parts_for_others(parts: Parts, *, scans: Sequence[Scan], output: str | Path, revision: str = "") -> Parts:
    """The same bundle and network for other scans, all else as it was; no file of the bundle is read again.

    Args:
        parts: which are done with.

    The others, and what is raised, are those of `Pipeline.from_bundle`.
    """
    if not scans:
        raise UsageError("no scan to work on", remedy="name a scan")
    others = {"dataset_dir": scans[0].path, "output_dir": Path(output), "scans": tuple(scans)}
    for key, value in {**others, "network": parts.network}.items():
        parts.bundle.parser[key] = value
    return _built(parts.bundle, scans, parts.results, parts.device, revision, parts.sampling is not None)


def _built(
    opened: Bundle,
    scans: Sequence[Scan],
    results: list[str],
    chosen: torch.device,
    revision: str,
    samples: bool,
) -> Parts:
    """All parts of a bundle whose settings are made."""
    targets = opened.build("targets")
    network = opened.network(chosen)
    inferer = opened.build("inferer")
    if not isinstance(inferer, ResultsInferer):
        raise ModelError(
            f"its inferer is a {type(inferer).__name__}, which does not know of results",
            path=opened.root,
            remedy="use medrecon.inference.tiling.VolumeInferer, or SliceInferer",
        )
    postprocessing = opened.build("postprocessing")
    steps = postprocessing.transforms if isinstance(postprocessing, Compose) else (postprocessing,)
    sampling = next((step for step in steps if isinstance(step, SaveSamplesd)), None)
    saver = next((step for step in steps if isinstance(step, SaveReconstructiond)), None)
    if saver is None:
        raise ModelError(
            "its postprocessing writes nothing", path=opened.root, remedy="add SaveReconstructiond"
        )
    saver.revise(revision)
    return Parts(
        bundle=opened,
        scans=tuple(scans),
        results=results,
        device=chosen,
        network=network,
        targets=targets,
        preprocessing=opened.build("preprocessing"),
        inferer=inferer,
        home=tuple(step for step in steps if step not in (saver, sampling)),
        saver=saver,
        sampling=sampling if samples else None,
    )


def _sampling(bundle: Bundle, samples: int | None, seed: int) -> dict[str, int]:
    """The settings that ask a bundle for samples; none where nobody does.

    Raises:
        UsageError: too few samples.
        ModelError: the bundle has nothing that draws them.
    """
    if samples is None:
        return {}
    check_request(samples, seed)
    if "samples" not in bundle.parser:
        raise ModelError(
            "it has no generative decoder, so no samples can be drawn",
            path=bundle.root,
            remedy="use one that has, such as --bundle slice_autoencoder or volume_autoencoder",
        )
    return {"samples": samples, "seed": seed}
