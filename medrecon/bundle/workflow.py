"""What the configurations of the bundles call: where they are, their scans, their network, its provenance."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from medrecon import __version__
from medrecon.blocks.weights import digest, fingerprint, fit_weights, read_weights
from medrecon.contract import Encoder
from medrecon.encoders import build_encoder
from medrecon.errors import ModelError, UsageError
from medrecon.io import Derivation, Scan, find_scans
from medrecon.io.choices import refuse_mixed, with_hu
from medrecon.io.files.names import scan_label
from medrecon.reconstructor import INPUT, Reconstructor, parse_layers

Network = TypeVar("Network", bound=nn.Module)
_log = logging.getLogger("medrecon")


def locate(name: str) -> str:
    """The folder of the bundle that is running, so that its configuration works from any directory.

    MONAI does not tell a configuration where it lies. The bundle of this name is the one whose files the
    command names (`--config_file`), else one on `sys.path`, where MONAI puts it when a workflow runs and not
    before, else the current folder. No other is guessed: a copy has the name of its original.

    Args:
        name: `name` in metadata.json.

    Raises:
        ModelError: none of them has this name.
    """
    places: list[str | Path] = [*_named_by_command(sys.argv), *sys.path, "."]
    for place in places:
        meta = Path(place) / "configs" / "metadata.json"
        with contextlib.suppress(OSError, ValueError):
            if json.loads(meta.read_text("utf-8")).get("name") == name:
                return str(meta.parents[1])
    raise ModelError(
        f"the bundle '{name}' does not know where it lies before it runs",
        remedy="say so: bundle_root=FOLDER (on a command line --bundle_root FOLDER)",
    )


def _named_by_command(arguments: Sequence[str]) -> list[Path]:
    """The bundles whose configurations a command line of MONAI's names: one file, or a list in brackets."""
    text = " ".join(arguments)
    named = re.search(r"--config_file[= ]\s*(\[.*?\]|\S+)", text)
    files = re.findall(r"[^\s\[\]'\",]+", named[1]) if named else []
    return [Path(file).absolute().parents[1] for file in files]


def all_scans(source: str | Path, all_series: bool = False) -> tuple[Scan, ...]:
    """Every scan of a folder, a file or a list; what must be said of them is logged.

    Args:
        source: a series folder, a folder of series or files, one file.
        all_series: take series that lie side by side in one folder; else they are refused as a mistake.

    Raises:
        ScanError: a scan is there but refused, or series are mixed: none is dropped in silence.
    """
    found = find_scans(source)
    if found.refused:
        raise found.refused[0]
    scans = (found if all_series else refuse_mixed(found)).scans
    for scan in scans:
        for note in scan.notes:
            _warn(f"note: {scan_label(scan)}: {note}")
    if found.left_out:
        _warn(f"left out: {len(found.left_out)} file(s) that are no part of a scan (medrecon scans)")
    return scans


def _warn(text: str) -> None:
    """Log a line that a terminal can show as it is, whatever a file is called."""
    _log.warning("%s", "".join(char if char.isprintable() else "?" for char in text))


def take_as_hu(scans: Sequence[Scan], patterns: Sequence[str]) -> tuple[Scan, ...]:
    """The same scans; those whose file name matches a pattern are taken for CT in HU.

    Args:
        scans: as `all_scans` gives them.
        patterns: of file names (`*` and `?`), for NIfTI, NRRD and MHA, which cannot say what their units are.

    Raises:
        UsageError: a pattern matches nothing, or a file that says otherwise.
    """
    for pattern in patterns:
        if not any(fnmatch(scan.path.name, pattern) for scan in scans):
            raise UsageError(f"no scan matches '{pattern}'", remedy="mend hu")
    return tuple(
        with_hu(scan) if any(fnmatch(scan.path.name, pattern) for pattern in patterns) else scan
        for scan in scans
    )


def load_network(network: Network, weights: str | Path, device: str | torch.device = "cpu") -> Network:
    """Put trained weights into a network, ready for inference on a device.

    Args:
        network: as `network_def` builds it.
        weights: its state_dict, a torch checkpoint or safetensors.
        device: where it will run.

    Raises:
        ModelError: the file is missing or unsafe, or a tensor does not fit.
    """
    fit_weights(network, read_weights(weights), weights)
    return channels_last(network.to(device)).eval()


def begin_at(network: Network, weights: str | Path | None) -> Network:
    """Put weights into a network that is to be trained on; without a file it stays as it is.

    Args:
        network: as `network_def` builds it.
        weights: a state_dict, a torch checkpoint or safetensors.

    Raises:
        ModelError: the file is missing or unsafe, or a tensor does not fit.
    """
    if weights is not None:
        fit_weights(network, read_weights(weights), weights)
    return network


def require_encoder(network: Reconstructor, encoder_weights: str | Path | None) -> Reconstructor:
    """Refuse to look into an encoder that was not given its weights, or was given others than expected.

    Args:
        network: over a frozen encoder; its inversion, where it is trained, knows for which weights.
        encoder_weights: the file that the encoder's weights came from.

    Returns:
        What was given.

    Raises:
        ModelError: no file, or other weights.
    """
    if encoder_weights is None:
        raise ModelError(
            "the bundle does not hold the weights of the network that it looks into",
            remedy="name their file with --encoder-weights (monai.bundle: --encoder_weights); the bundle's "
            "docs/README.md says where to get it",
        )
    made_for = network.inversion.encoder_fingerprint
    if made_for and fingerprint(network.encoder) != made_for:
        raise ModelError(
            "these are other weights than those that the bundle's decoders were trained for",
            path=encoder_weights,
            remedy="get the file that the bundle's docs/README.md names, or train decoders for this one",
        )
    return network


def encoder_of(recipe: Mapping[str, Any] | None, weights: str | Path = "") -> Encoder:
    """The network that a configuration names, frozen.

    Built twice it is the same: where it draws its weights, it draws the same ones.

    Args:
        recipe: what `medrecon.encoders.build_encoder` takes, such as {"what": "vgg16", "layers": [...]}.
        weights: the file of its weights; "" for those that it is built with.

    Raises:
        ModelError: none is named, or it cannot be built.
    """
    if not recipe:
        raise ModelError(
            "no network is named", remedy="medrecon train SCANS RUN --encoder NAME --layers a,b names one"
        )
    given = dict(recipe)
    if isinstance(given.get("arguments"), str):
        given["arguments"] = given["arguments"].replace("::", "#")  # MONAI rewrites each # in a text
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = build_encoder(**given, weights=str(weights) or None, in_common_scale=True)
    if encoder.scale is not None:
        raise ModelError(
            "the network takes values as they are stored, which decoders do not give back",
            remedy="use medrecon invert or features, or say what it expects: "
            '--encoder-arguments \'{"_intensity_": "minmax"}\'',
        )
    return encoder


def check_encoder(network: Reconstructor) -> Reconstructor:
    """Refuse an encoder of other weights than those that the inversion was made for.

    Args:
        network: over a frozen encoder; its inversion, where it is trained or fitted, knows for which weights.

    Returns:
        What was given.

    Raises:
        ModelError: other weights.
    """
    made_for = network.inversion.encoder_fingerprint
    if made_for and fingerprint(network.encoder) != made_for:
        raise ModelError(
            "the network has other weights than those that the decoder was made for",
            remedy="name the same weights (--encoder-weights), or make decoders for these",
        )
    return network


def load_inversion(
    network: Reconstructor, weights: str | Path, device: str | torch.device = "cpu"
) -> Reconstructor:
    """Put trained weights into the inversion of a network whose encoder has its own already.

    Args:
        network: as `network_def` builds it.
        weights: state_dict of the inversion alone, a torch checkpoint or safetensors.
        device: where it will run.

    Raises:
        ModelError: the file is missing or unsafe, or a tensor does not fit.
    """
    fit_weights(network.inversion, read_weights(weights), weights)
    return channels_last(network.to(device)).eval()


def channels_last(network: Network) -> Network:
    """Lay the weights out channels last: what the own blocks produce, and the fastest on CPU and GPU."""
    for parameter in network.parameters():
        if parameter.ndim in (4, 5):
            order = torch.channels_last if parameter.ndim == 4 else torch.channels_last_3d
            parameter.data = parameter.data.contiguous(memory_format=order)
    return network


def rates_of(network: Reconstructor, results: Sequence[str]) -> dict[str, float | None]:
    """Values that each result keeps for each voxel, over all of its layers; None for the image itself."""
    rates = {layer.name: layer.values_per_voxel for layer in network.layers()}
    return {
        result: None if result == INPUT else sum(rates.get(name, 0.0) for name in parse_layers(result))
        for result in results
    }


def scan_labels(scans: Sequence[Scan]) -> dict[str, str]:
    """Scan key -> what a table calls the scan: modality, body part and key, see `scan_label`."""
    return {scan.key: scan_label(scan) for scan in scans}


def describe_results(
    network: Reconstructor, results: Sequence[str], *, model: str, version: str, weights: str | Path
) -> dict[str, Derivation]:
    """The provenance of each result, for the files it is written to.

    Args:
        network: says the rate of its layers, and which of them lose nothing.
        results: "level3", "level2+level4", "input".
        model: the bundle's name.
        version: the bundle's version.
        weights: the file whose hash names the model.
    """
    rates = rates_of(network, results)
    lossless = network.inversion.lossless | {INPUT}
    sha256 = digest(Path(weights))
    described = {}
    for result in results:
        names = parse_layers(result)
        described[result] = Derivation(
            model=f"{model} {version}".strip(),
            version=__version__,
            weights_sha256=sha256,
            layers=result,
            lossy=not lossless.intersection(names),
            values_per_voxel=rates[result],
        )
    return described
