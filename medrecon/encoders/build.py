"""An encoder by its name: a short one, the dotted path of a class or function, or the folder of a bundle."""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medrecon.contract import Encoder, Features, LayerInfo
from medrecon.encoders.adapt import IMAGENET, ChannelMeanStd, intensity_map
from medrecon.encoders.frozen import Frozen, FrozenEncoder
from medrecon.encoders.naming import resolve_layers
from medrecon.encoders.tapped.tap import TappedEncoder
from medrecon.errors import MedreconError, ModelError, in_short, ran_out_of

SHORT_NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "vgg16": ("medrecon.encoders.vgg.VGGEncoder", {"depth": 16}),
    "vgg19": ("medrecon.encoders.vgg.VGGEncoder", {"depth": 19}),
    **{f"resnet{n}": ("medrecon.encoders.resnet.ResNetEncoder", {"depth": n}) for n in (18, 34, 50)},
    **{
        f"medicalnet{n}": ("medrecon.encoders.medicalnet.MedicalNetEncoder", {"depth": n})
        for n in (10, 18, 34, 50)
    },
    "deepbet": ("medrecon.encoders.deepbet.DeepbetEncoder", {}),
}
"""Own classes, whose keys are those of published weights: where they are, and what the name stands for."""

_TAP_OPTIONS = ("layers", "spatial_dims", "in_channels", "intensity", "window")
_WINDOW_NAMES = ("img_size", "image_size", "input_size")


def build_encoder(
    what: str | Path,
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
) -> Encoder:
    """A frozen encoder: `layers()` says what it offers, `forward(image, names)` gives the features.

    A dotted path and a bundle run code: name only those that you trust.

    Args:
        what: a name of `SHORT_NAMES`; a dotted path such as "monai.networks.nets.SegResNet",
            "torchvision.models.resnet18" or "timm.create_model"; or the folder of a MONAI bundle.
        weights: a file with all of its tensors. None: random ones, those that the arguments ask for, or the
            bundle's own.
        sha256: expected SHA-256 of that file, None for any.
        arguments: of the class or function, as a mapping or as JSON; for a bundle, configuration ids and
            their values. The options below may stand in it too, as "_window_", "_intensity_" and so on.
        layers: the layers to offer, names or patterns; all when None.
        spatial_dims: 2 or 3, where the network does not say.
        in_channels: channels that the network takes, where trying does not tell.
        intensity: a module, or a description of `adapt.intensity_map`; None: what the network is known to
            expect (a bundle's own preprocessing; ImageNet's mean for torchvision and timm), or nothing.
        window: the spatial size that the network must or should be given.
        network: which network of a bundle with several, or the configuration and fold of an nnU-Net model.
        inputs: what the network takes beside the image (`TappedEncoder`).

    Raises:
        ModelError: it does not exist, cannot be built or tapped, or the weights do not fit.
    """
    given = parse_arguments(arguments)
    options = {
        "layers": layers,
        "spatial_dims": spatial_dims,
        "in_channels": in_channels,
        "intensity": intensity,
        "window": window,
    }
    for name in _TAP_OPTIONS:
        within = given.pop(f"_{name}_", None)
        options[name] = within if options[name] is None else options[name]
    options["intensity"] = intensity_map(options["intensity"])
    options["inputs"] = inputs or given.pop("_inputs_", None)
    path, preset = SHORT_NAMES.get(str(what), (str(what), {}))
    own = {"weights": weights, "sha256": sha256} if str(what) in SHORT_NAMES else {}
    folder = Path(what).expanduser()
    if not own and folder.is_dir():
        return _of_folder(folder, given, weights=weights, sha256=sha256, network=network, **options)
    made = _construct(path, {**preset, **given, **own})
    if isinstance(made, Encoder):
        if weights is not None and not own:
            raise ModelError(
                f"{what} is an encoder of its own", remedy='give its weights as an argument: {"weights": ...}'
            )
        return _offering(made, options["layers"])
    known = _known_of(path, made, given)
    options = {name: known.get(name) if value is None else value for name, value in options.items()}
    return TappedEncoder(made, weights=weights, sha256=sha256, **options)


def _of_folder(folder: Path, given: dict[str, Any], **options: Any) -> Encoder:
    """The network in a folder: a bundle's, or a trained model's of nnU-Net."""
    from medrecon.encoders.tapped.monai_bundle import bundle_encoder, is_bundle
    from medrecon.encoders.tapped.nnunet import is_nnunet, nnunet_encoder

    if is_bundle(folder):
        return bundle_encoder(folder, overrides=given, **options)
    if is_nnunet(folder):
        return nnunet_encoder(folder, **options)
    raise ModelError(
        "it is neither a MONAI bundle (configs/inference.json or .yaml) nor a trained model of nnU-Net "
        "(plans.json)",
        path=folder,
        remedy="name one of these",
    )


def parse_arguments(arguments: str | Mapping[str, Any] | None, what: str = "arguments") -> dict[str, Any]:
    """Arguments, or inputs, as a dictionary.

    Raises:
        ModelError: no JSON object.
    """
    if arguments is None or isinstance(arguments, Mapping):
        return dict(arguments or {})
    try:
        given = json.loads(arguments)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ModelError(f"the encoder's {what} are not JSON ({error})", remedy=_HOW) from None
    if not isinstance(given, dict):
        raise ModelError(f"the encoder's {what} are no JSON object", remedy=_HOW)
    return given


_HOW = """write them like {"spatial_dims": 3, "in_channels": 1}"""


def locate(path: str) -> Any:
    """The class or function at a dotted path.

    Raises:
        ModelError: there is none; the message names the near ones.
    """
    parts = path.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        near = difflib.get_close_matches(path, SHORT_NAMES, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}" if near else f"use one of {', '.join(SHORT_NAMES)}"
        raise ModelError(
            f"there is no encoder {path!r}", remedy=f"{hint}, a dotted path, or the folder of a MONAI bundle"
        )
    found, missing = None, None
    for end in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:end])
        try:
            found = importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name
            if missing is None or not (name == missing or name.startswith(f"{missing}.")):
                raise ModelError(f"{name} needs {missing}", remedy=f"install {missing}") from None
            continue
        except Exception as error:
            raise ModelError(
                f"{name} cannot be imported ({type(error).__name__}: {error})", remedy="mend it"
            ) from error
        for place, part in enumerate(parts[end:], start=end):
            if not hasattr(found, part):
                near = difflib.get_close_matches(part, dir(found), n=3, cutoff=0.5)
                hint = f"did you mean {' or '.join(near)}" if near else "see its documentation"
                raise ModelError(f"{'.'.join(parts[:place])} has no {part!r}", remedy=hint)
            found = getattr(found, part)
        return found
    raise ModelError(f"{parts[0]} is not installed", remedy=f"install {parts[0]}, or check the name {path}")


def _construct(path: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Call what is at a dotted path and check that a network comes of it."""
    make = locate(path)
    try:
        made = make(**arguments)
    except MedreconError:
        raise
    except Exception as error:
        if ran_out_of(error):
            raise
        raise ModelError(
            f"{path} cannot be built ({type(error).__name__}: {in_short(error, 200)})",
            remedy=f"give its arguments as JSON: {_signature(make)}",
        ) from error
    if not isinstance(made, nn.Module):
        raise ModelError(f"{path} makes a {type(made).__name__}, no network", remedy="name a torch.nn.Module")
    return made


def _signature(make: Any) -> str:
    try:
        names = list(inspect.signature(make).parameters)
    except (TypeError, ValueError):
        return "see its documentation"
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


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
    known = [info.name for info in encoder.layers()]
    chosen: set[str] = set()
    for name in (layers,) if isinstance(layers, str) else layers:
        chosen.update(fnmatch.filter(known, name) or resolve_layers(name, known))
    return _Chosen(encoder, [name for name in known if name in chosen])
