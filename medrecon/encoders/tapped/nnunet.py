"""A results folder of nnU-Net (version 2), and so TotalSegmentator's weights, as an encoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medrecon.encoders.located import locate
from medrecon.encoders.tapped.asked import check_asked
from medrecon.encoders.tapped.checkpoint import load_checkpoint
from medrecon.encoders.tapped.folders import checkpoint_of
from medrecon.encoders.tapped.plans import LIBRARY, Plans, read_plans
from medrecon.encoders.tapped.tap import TappedEncoder
from medrecon.errors import ModelError, in_short

_CLASSES = {
    "PlainConvUNet": f"{LIBRARY}.architectures.unet.PlainConvUNet",
    "ResidualEncoderUNet": f"{LIBRARY}.architectures.unet.ResidualEncoderUNet",
}
"""What plans of older releases call the networks."""


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
        intensity: instead of the plans' normalisation; of images in the scale of every scan.
        in_common_scale: normalise images in the scale of every scan, for decoders: after resampling, which
            nnU-Net does before it. Nothing changes where that cannot be (masks, several schemes).
        layers: as for `TappedEncoder`.
        options: further ones of `TappedEncoder`.

    Raises:
        ModelError: no such model, configuration or fold; plans that cannot be honoured; weights of others.
    """
    plans = read_plans(Path(folder), network)
    model, rule, names = plans.folder, plans.rule, plans.channels
    built = _network(plans)
    file = weights if weights is not None else checkpoint_of(model, plans.fold)
    check_asked(built, layers)
    said = load_checkpoint(built, file, options.pop("sha256", None), options.pop("weights_key", None))
    from medrecon.encoders.tapped.nnunet_grid import how_seen  # brings MONAI: only for what is sound

    grid, mapped, scale, notes = how_seen(rule, intensity, in_common_scale)
    options["notes"] = [*(options.get("notes") or ()), *notes, *said]
    return TappedEncoder(
        built,
        layers,
        spatial_dims=len(rule.patch),
        in_channels=len(names),
        intensity=mapped,
        window=window if window is not None else rule.patch,
        geometry=[grid],
        scale=scale,
        units=plans.units if intensity is None else "",
        channel_names=plans.channel_names,
        **{name: value for name, value in options.items() if name not in ("spatial_dims", "in_channels")},
    )


def _network(plans: Plans) -> nn.Module:
    settings, model = plans.settings, plans.folder
    described = settings.get("architecture") or _older(settings, model)
    arguments = dict(described.get("arch_kwargs") or {})
    for name in described.get("_kw_requires_import") or ():
        if arguments.get(name) is not None:
            arguments[name] = _class(str(arguments[name]), ("torch.nn", LIBRARY), model)
    arguments["deep_supervision"] = False
    make = _class(str(described["network_class_name"]), (LIBRARY,), model)
    try:
        made = make(input_channels=len(plans.channels), num_classes=plans.heads, **arguments)
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
