"""An encoder by its name: a short one, the dotted path of a class or function, or the folder of a bundle."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medrecon.contract import Encoder, Features, LayerInfo
from medrecon.encoders.adapt import IMAGENET, ChannelMeanStd, intensity_map
from medrecon.encoders.beside import ScansBeside
from medrecon.encoders.channels import ChannelsEncoder, find_channels
from medrecon.encoders.frozen import Frozen, FrozenEncoder
from medrecon.encoders.given import read_arguments
from medrecon.encoders.located import SHORT_NAMES, construct, locate
from medrecon.encoders.naming import resolve_layers
from medrecon.encoders.tapped.checkpoint import RANDOM
from medrecon.encoders.tapped.folders import is_bundle, is_nnunet
from medrecon.encoders.tapped.tap import TappedEncoder
from medrecon.encoders.tapped.told import told_by
from medrecon.errors import ModelError

__all__ = ["SHORT_NAMES", "build_encoder", "locate", "read_arguments"]

_TAP_OPTIONS = ("layers", "spatial_dims", "in_channels", "intensity", "window")
_WINDOW_NAMES = ("img_size", "image_size", "input_size")


def build_encoder(
    what: str | Path | nn.Module,
    *,
    weights: str | Path | None = None,
    sha256: str | None = None,
    arguments: str | Mapping[str, Any] | None = None,
    layers: str | Iterable[str] | None = None,
    spatial_dims: int | None = None,
    in_channels: int | None = None,
    intensity: Any = None,
    window: Sequence[int] | None = None,
    network: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    in_common_scale: bool = False,
    first_channel: str | None = None,
) -> Encoder:
    """A frozen encoder: `layers()` says what it offers, `forward(image, names)` gives the features.

    A dotted path and a bundle run code: name only those that you trust.

    Args:
        what: a name of `SHORT_NAMES`; a dotted path such as "monai.networks.nets.SegResNet",
            "torchvision.models.resnet18" or "timm.create_model"; the folder of a MONAI bundle; or a network
            itself, which is frozen in place.
        weights: a file with all of its tensors. None: random ones, those that the arguments ask for, or the
            bundle's own.
        sha256: expected SHA-256 of that file, None for any.
        arguments: of the class or function, as a mapping or as JSON; for a bundle, configuration ids and
            their values. The options below may stand in it too, as "_window_", "_intensity_" and so on.
        layers: the layers to offer, names or patterns, or single channels (`conv[3]`); all when None.
        spatial_dims: 2 or 3, where the network does not say.
        in_channels: channels that the network takes, where trying does not tell.
        intensity: a module, or a description of `adapt.intensity_map`; None: what the network is known to
            expect (a bundle's own preprocessing; ImageNet's mean for torchvision and timm), or nothing.
        window: the spatial size that the network must or should be given.
        network: which network of a bundle with several, or the configuration and fold of an nnU-Net model.
        inputs: what the network takes beside the image (`TappedEncoder`).
        in_common_scale: for decoders: where the network wants values in units of its own, take images in the
            scale of every scan and map them, if that can be (models of nnU-Net).
        first_channel: where several scans are its channels: the one that images begin with (`ScansBeside`).

    Raises:
        ModelError: it does not exist, cannot be built or tapped, or the weights do not fit.
    """
    options = {
        "layers": layers,
        "spatial_dims": spatial_dims,
        "in_channels": in_channels,
        "intensity": intensity,
        "window": window,
        "inputs": inputs,
    }
    made = _build(what, read_arguments(arguments), weights, sha256, options, network, in_common_scale)
    asked = _listed(options["layers"])
    if find_channels(asked, made.layers()):
        made = _offering(made, asked)
    return made if first_channel is None else ScansBeside(made, first_channel)


def _build(
    what: str | Path | nn.Module,
    given: dict[str, Any],
    weights: str | Path | None,
    sha256: str | None,
    options: dict[str, Any],
    network: str | None,
    in_common_scale: bool,
) -> Encoder:
    """The encoder, as `build_encoder` says; options may stand in the arguments that are given."""
    for name in _TAP_OPTIONS:
        within = given.pop(f"_{name}_", None)
        options[name] = within if options[name] is None else options[name]
    options["intensity"] = intensity_map(options["intensity"])
    options["inputs"] = options["inputs"] or given.pop("_inputs_", None)
    options["weights_key"] = given.pop("_weights_key_", None)
    options["operations"] = given.pop("_operations_", None) or None
    if isinstance(what, nn.Module):
        if any(not name.startswith("_") for name in given):
            raise ModelError("the network is made already", remedy="leave its arguments out")
        return _wrapped(
            what, f"{type(what).__module__}.{type(what).__qualname__}", given, weights, sha256, options
        )
    path, preset = SHORT_NAMES.get(str(what), (str(what), {}))
    given_file = None if str(weights) == RANDOM else weights
    own = {"weights": given_file, "sha256": sha256} if str(what) in SHORT_NAMES else {}
    folder = Path(what).expanduser()
    if not own and folder.is_dir():
        options |= {"weights": weights, "sha256": sha256, "network": network}
        return _of_folder(folder, given, in_common_scale=in_common_scale, **options)
    made = construct(path, {**preset, **given, **own})
    return _wrapped(made, path, given, None if own else weights, sha256, options)


def _wrapped(
    made: nn.Module,
    path: str,
    given: Mapping[str, Any],
    weights: str | Path | None,
    sha256: str | None,
    options: dict[str, Any],
) -> Encoder:
    """A network as an encoder; `path` leads to its class."""
    if isinstance(made, Encoder):
        if weights is not None:
            raise ModelError(
                f"{path} is an encoder of its own", remedy='give its weights as an argument: {"weights": ...}'
            )
        unused = [name for name, value in options.items() if value is not None and name != "layers"]
        if unused:
            raise ModelError(
                f"{path} is an encoder of its own, which knows its {unused[0]}",
                remedy=f"leave _{unused[0]}_ out",
            )
        return _offering(made, options["layers"])
    known = _known_of(path, made, given)
    options = {name: known.get(name) if value is None else value for name, value in options.items()}
    notes = [] if options["intensity"] is not None else known.get("notes", [])
    return TappedEncoder(made, weights=weights, sha256=sha256, notes=notes, **options)


def _of_folder(folder: Path, given: dict[str, Any], *, in_common_scale: bool, **options: Any) -> Encoder:
    """The network in a folder: a bundle's, or a trained model's of nnU-Net."""
    told_by(folder, options.get("network"), given, options.get("weights") is not None)
    if is_bundle(folder):
        from medrecon.encoders.tapped.monai_bundle import bundle_encoder

        return bundle_encoder(folder, overrides=given, **options)
    if is_nnunet(folder):
        from medrecon.encoders.tapped.nnunet import nnunet_encoder

        return nnunet_encoder(folder, in_common_scale=in_common_scale, **options)
    from medrecon.encoders.tapped.pretrained import pretrained_encoder

    return pretrained_encoder(folder, **options)


def _known_of(path: str, network: nn.Module, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a network beside its shapes: a size in its arguments, the colours of its training."""
    known: dict[str, Any] = {}
    size = next((arguments[name] for name in _WINDOW_NAMES if name in arguments), None)
    if isinstance(size, list | tuple):
        known["window"] = tuple(size)
    trained = vars(network).get("pretrained_cfg") or vars(network).get("default_cfg")
    if isinstance(trained, Mapping) and "mean" in trained and "std" in trained:
        known["intensity"] = ChannelMeanStd(trained["mean"], trained["std"])  # timm
    elif path.startswith("torchvision."):
        known["intensity"] = ChannelMeanStd(*IMAGENET)
    elif type(network).__module__.startswith(("transformers.", "diffusers.", "segmentation_models_pytorch.")):
        known["notes"] = [
            "its class does not say which mean and deviation it was trained with: it gets the scan in [0, 1] "
            '({"_intensity_": "imagenet"} or another says more)'
        ]
    return known


class _Chosen(FrozenEncoder):
    """An encoder that offers some of its layers."""

    def __init__(self, encoder: Encoder, layers: Sequence[str]) -> None:
        super().__init__(encoder)
        self._names = tuple(layers)

    def layers(self) -> list[LayerInfo]:
        """The layers offered, shallow to deep."""
        return [info for info in super().layers() if info.name in self._names]

    def measure(self) -> list[LayerInfo]:
        """The same, with their receptive fields."""
        return [info for info in super().measure() if info.name in self._names]

    def forward(self, image: torch.Tensor, names: Iterable[str] | None = None) -> Features:
        """Features of `image`; raises what the encoder raises."""
        return super().forward(image, resolve_layers(names, self._names))


def _offering(encoder: Encoder, layers: str | Iterable[str] | None) -> Encoder:
    """An encoder of its own, frozen, with the layers that were asked for."""
    if layers is None:
        return encoder if isinstance(encoder, Frozen) else FrozenEncoder(encoder)
    single = find_channels(_listed(layers), encoder.layers())
    if single:
        encoder = ChannelsEncoder(encoder, single)
    known = [info.name for info in encoder.layers()]
    chosen: set[str] = set()
    for name in _listed(layers):
        matching = [] if name in known else fnmatch.filter(known, name)
        chosen.update(matching or resolve_layers(name, known))
    return _Chosen(encoder, [name for name in known if name in chosen])


def _listed(layers: str | Iterable[str] | None) -> list[str]:
    return [] if layers is None else [layers] if isinstance(layers, str) else list(layers)
