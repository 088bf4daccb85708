"""A results folder of nnU-Net (version 2), and so TotalSegmentator's weights, as an encoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medrecon.encoders.located import locate
from medrecon.encoders.tapped.folders import checkpoint_of, named, read_names, which_model
from medrecon.encoders.tapped.nnunet_grid import Rule, how_seen
from medrecon.encoders.tapped.tap import TappedEncoder
from medrecon.errors import ModelError, in_short, near

_LIBRARY = "dynamic_network_architectures"
_CLASSES = {
    "PlainConvUNet": f"{_LIBRARY}.architectures.unet.PlainConvUNet",
    "ResidualEncoderUNet": f"{_LIBRARY}.architectures.unet.ResidualEncoderUNet",
}
"""What plans of older releases call the networks."""

_SPLINES = ("resample_data_or_seg_to_shape",)


def nnunet_encoder(
    folder: str | Path,
    *,
    network: str | None = None,
    weights: str | Path | None = None,
    window: Sequence[int] | None = None,
    intensity: nn.Module | None = None,
    layers: str | Iterable[str] | None = None,
    in_common_scale: bool = False,
    **options: Any,
) -> TappedEncoder:
    """The network of a trained model of nnU-Net, frozen, with its weights, grid, normalisation and patch.

    Reads plans.json, dataset.json and fold_N/checkpoint_final.pth; none of their code is run. The scan is
    transposed, cropped, normalised and resampled as nnU-Net does it (`PlansGrid`), and a result comes back to
    the scan's own grid.

    Args:
        folder: `Trainer__Plans__configuration`, a fold of it, or the data set's folder, where `network` says
            which configuration.
        network: "3d_fullres", "fold_1", "3d_fullres/fold_all"; the only configuration and the first fold when
            None.
        weights: another checkpoint of the same plans.
        window: instead of the plans' patch size.
        intensity: instead of the plans' normalisation: after it, from [0, 1].
        in_common_scale: normalise images in the scale of every scan, for decoders: after resampling, which
            nnU-Net does before it. Nothing changes where that cannot be (masks, several schemes).
        layers: as for `TappedEncoder`.
        options: further ones of `TappedEncoder`.

    Raises:
        ModelError: no such model, configuration or fold; plans that cannot be honoured; weights of others.
    """
    model, configuration, fold = which_model(Path(folder), network)
    plans, dataset = read_names(model / "plans.json"), read_names(model / "dataset.json")
    settings = _settings(plans, configuration or named(model), model)
    if "previous_stage" in settings or settings.get("previous_stage_name"):
        raise ModelError(
            "this configuration takes the first stage's segmentation beside the scan",
            path=model,
            remedy="name the first stage: 3d_lowres",
        )
    names = tuple(map(str, (dataset.get("channel_names") or dataset.get("modality") or {"0": ""}).values()))
    rule = _rule(plans, settings, len(names), model)
    built = _network(settings, len(names), _heads(dataset), model)
    file = weights if weights is not None else checkpoint_of(model, fold)
    grid, mapped, scale, notes = how_seen(rule, intensity, in_common_scale)
    options["notes"] = [*(options.get("notes") or ()), *notes]
    return TappedEncoder(
        built,
        layers,
        spatial_dims=len(rule.patch),
        in_channels=len(names),
        intensity=mapped,
        window=window if window is not None else rule.patch,
        weights=file,
        geometry=[grid],
        scale=scale,
        units="HU" if set(rule.schemes) == {"CTNormalization"} else "",
        channel_names=names if len(set(map(str.casefold, names))) == len(names) else (),
        **{name: value for name, value in options.items() if name not in ("spatial_dims", "in_channels")},
    )


def _settings(plans: Mapping[str, Any], name: str, model: Path) -> dict[str, Any]:
    """What the plans say of a configuration, with what it inherits."""
    known = plans.get("configurations")
    known = known if isinstance(known, dict) else {}
    if not name and len(known) == 1:
        name = next(iter(known))
    seen: list[dict[str, Any]] = []
    while name:
        if name not in known:
            raise ModelError(
                f"its plans have no configuration '{name}'" + near(name, known),
                path=model / "plans.json",
                remedy=f"name one with --network: {', '.join(known)}",
            )
        seen.append(known[name])
        name = str(known[name].get("inherits_from") or "")
        if len(seen) > len(known):
            raise ModelError("its configurations inherit in a circle", path=model, remedy="get it again")
    if not seen:
        raise ModelError(
            "which configuration it is, its folder's name does not say",
            path=model,
            remedy=f"name one with --network: {', '.join(known)}",
        )
    return {key: value for each in reversed(seen) for key, value in each.items()}


def _rule(plans: Mapping[str, Any], settings: Mapping[str, Any], channels: int, model: Path) -> Rule:
    try:
        splines = dict(settings.get("resampling_fn_data_kwargs") or {})
        known = plans.get("foreground_intensity_properties_per_channel") or plans.get(
            "foreground_intensity_properties_by_modality", {}
        )
        if settings.get("resampling_fn_data", _SPLINES[0]) not in _SPLINES:
            raise ModelError(
                f"its plans resample by {settings['resampling_fn_data']}", path=model, remedy=_OWN_GRID
            )
        return Rule(
            axes=tuple(int(axis) for axis in plans["transpose_forward"]),
            spacing=tuple(float(mm) for mm in settings["spacing"]),
            patch=tuple(int(n) for n in settings["patch_size"]),
            schemes=tuple(str(name) for name in settings["normalization_schemes"])[:channels],
            masked=tuple(bool(each) for each in settings["use_mask_for_norm"])[:channels],
            intensities=tuple(dict(known.get(str(k), {})) for k in range(channels)),
            order=int(splines.get("order", 3)),
            order_between=int(splines.get("order_z", 0)),
            separately=splines.get("force_separate_z"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"its plans lack {in_short(error)}", path=model / "plans.json", remedy="get it again"
        ) from None


_OWN_GRID = "export it with nnU-Net's default resampling"


def _heads(dataset: Mapping[str, Any]) -> int:
    """Channels of the output: one for each label, or for each region."""
    labels = dict(dataset.get("labels") or {})
    labels = {name: value for name, value in labels.items() if name != "ignore"}
    if any(isinstance(value, list | tuple) and len(value) > 1 for value in labels.values()):
        return len([value for value in labels.values() if value not in (0, [0], "0")])
    return len(labels)


def _network(settings: Mapping[str, Any], channels: int, heads: int, model: Path) -> nn.Module:
    try:
        import dynamic_network_architectures  # noqa: F401
    except ImportError:
        raise ModelError(
            "networks of nnU-Net need dynamic-network-architectures",
            path=model,
            remedy="pip install 'medrecon[nnunet]'",
        ) from None
    described = settings.get("architecture") or _older(settings, model)
    arguments = dict(described.get("arch_kwargs") or {})
    for name in described.get("_kw_requires_import") or ():
        if arguments.get(name) is not None:
            arguments[name] = _class(str(arguments[name]), ("torch.nn", _LIBRARY), model)
    arguments["deep_supervision"] = False
    make = _class(str(described["network_class_name"]), (_LIBRARY,), model)
    try:
        made = make(input_channels=channels, num_classes=heads, **arguments)
    except Exception as error:
        raise ModelError(
            f"its network cannot be built ({type(error).__name__}: {in_short(error)})",
            path=model / "plans.json",
            remedy="use the release of dynamic-network-architectures that it was trained with",
        ) from error
    return torch.nn.Module.eval(made)


def _class(path: str, rooms: Sequence[str], model: Path) -> Any:
    """A class that plans name, of torch's layers or of the library of networks; no other."""
    if not any(path.startswith(f"{room}.") for room in rooms):
        raise ModelError(
            f"its plans name {path}, a network of the trainer's own", path=model, remedy="name its class"
        )
    name = path.rpartition(".")[2]
    try:
        return locate(path)
    except ModelError:
        if name in _CLASSES:
            return locate(_CLASSES[name])
        raise


def _older(settings: Mapping[str, Any], model: Path) -> dict[str, Any]:
    """The network that plans of older releases describe."""
    try:
        kind = str(settings["UNet_class_name"])
        blocks = "n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage"
        stages = len(settings["n_conv_per_stage_encoder"])
        dims = len(settings["patch_size"])
        widths = [
            min(settings["UNet_base_num_features"] * 2**k, settings["unet_max_num_features"])
            for k in range(stages)
        ]
        return {
            "network_class_name": _CLASSES.get(kind, kind),
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": widths,
                "conv_op": f"torch.nn.Conv{dims}d",
                "kernel_sizes": settings["conv_kernel_sizes"],
                "strides": settings["pool_op_kernel_sizes"],
                blocks: settings["n_conv_per_stage_encoder"],
                "n_conv_per_stage_decoder": settings["n_conv_per_stage_decoder"],
                "conv_bias": True,
                "norm_op": f"torch.nn.InstanceNorm{dims}d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ("conv_op", "norm_op", "nonlin"),
        }
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"its plans lack {in_short(error)}", path=model / "plans.json", remedy="get it again"
        ) from None
