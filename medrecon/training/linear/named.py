"""A network in whatever form a caller of Python has it, before the functions that need decoders."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from medrecon.bundle.channels import set_beside, sets_to_fit
from medrecon.bundle.workflow import encoder_of
from medrecon.compute.devices import pick_device
from medrecon.encoders.beside import ScansBeside
from medrecon.encoders.located import locate
from medrecon.errors import MedreconError, UsageError
from medrecon.inversion import LinearDecoder
from medrecon.io import Scan, find_scans
from medrecon.reconstructor import INPUT, Reconstructor, layers_in
from medrecon.training.linear.bundle import fitted, linear_inverse

Named = str | Path | Mapping[str, Any] | nn.Module | Callable[..., nn.Module]
"""A short name, a dotted path, `net.py:Net` or a folder; all arguments of `build_encoder` as a mapping; a
class or function that makes a network; or a network."""


DEFAULT = "volume_autoencoder"
"""The bundle that is taken where none is named."""


@dataclass(frozen=True)
class Inverse:
    """A bundle that inverts layers of a network.

    Attributes:
        bundle: its folder.
        scan: that in question, with those beside it that are further channels.
        overrides: of its configuration: the network itself, where it has no name that a file could hold.
    """

    bundle: Path
    scan: Scan
    overrides: dict[str, Any] = field(default_factory=dict)


def inverse_of(
    encoder: Named,
    scan: Scan,
    layers: str | Sequence[str] | None,
    bundle: str | Path,
    weights: str | Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    channels: Mapping[str, Scan] | None = None,
    fit_on: str | Path | Sequence[Scan] = (),
    fit_channels: Mapping[str, str] | None = None,
    device: str = "auto",
) -> Inverse:
    """The linear inverse of layers of a network, fitted or taken from the cache.

    Args:
        encoder: see `Named`. A network is copied, and stays as it is.
        scan: that in question.
        layers: results, as text or list; "input" is no layer, and left out.
        bundle: what is named beside it: only the default may be.
        weights: a file of the network's weights.
        arguments: of its class, or options of `build_encoder` as "_intensity_".
        channels: name of a channel -> its scan, that in question among them; none: it is given to each.
        fit_on: scans, or a folder of them, to fit to beside generated ones.
        fit_channels: name of a channel -> pattern of the names of those scans.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        UsageError: no layer is named, the arguments are given twice, or a bundle is named too.
        ModelError: the network cannot be built, or a layer cannot be tapped; no such channel.
        ScanError: a channel is missing, or lies on another grid.
    """
    if str(bundle) != DEFAULT:
        raise UsageError("encoder and bundle name a network each", remedy="give one of the two")
    asked = layers.split(",") if isinstance(layers, str) else list(layers or ())
    names = [name for name in asked if name.strip() != INPUT]
    if not names:
        raise UsageError("the network has many layers: which of them?", remedy="name some as `layers`")
    scans = find_scans(fit_on).scans if isinstance(fit_on, str | Path) else tuple(fit_on)
    told = dict(arguments or {})
    what = encoder if isinstance(encoder, str | Path | Mapping | nn.Module) else _path_of(encoder)
    if not isinstance(what, str | Path | Mapping | nn.Module):
        options = {name for name in told if name.startswith("_")}
        what = what(**{name: value for name, value in told.items() if name not in options})
        told = {name: told[name] for name in options}
    if not isinstance(what, nn.Module):
        recipe = dict(what) if isinstance(what, Mapping) else {"what": str(what)}
        if told and recipe.get("arguments"):
            raise UsageError("arguments of the network are given twice", remedy="give them once")
        recipe |= {"arguments": told} if told else {}
        file = weights or recipe.pop("weights", None)
        recipe.pop("weights", None)
    else:
        file, recipe = weights, {"arguments": told, "what": copy.deepcopy(what)}
    built = encoder_of(recipe | {"layers": layers_in(names)}, file or "")
    if channels:
        scan, recipe["first_channel"] = set_beside(built, scan, channels)
        built = ScansBeside(built, recipe["first_channel"])
    scans = sets_to_fit(built, scans, fit_channels or {})
    if not isinstance(what, nn.Module):
        folder = linear_inverse(recipe, names, weights=file, scans=scans, built=built, device=device)
        return Inverse(folder, scan)
    recipe |= {"what": type(what).__qualname__, "layers": layers_in(names)}
    folder = fitted(built, recipe, weights, scans, pick_device(device))
    network = Reconstructor(built.to("cpu"), LinearDecoder(built.layers()))
    return Inverse(folder, scan, {"network_def": network})


def _path_of(make: Callable[..., nn.Module]) -> Any:
    """The dotted path of a class or function, where that leads to it again; else itself."""
    path = f"{make.__module__}.{getattr(make, '__qualname__', '')}"
    with contextlib.suppress(MedreconError):
        if not path.startswith("__main__.") and locate(path) is make:
            return path
    return make
