"""What the plans of a trained model of nnU-Net say, from its files alone: without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medrecon.encoders.tapped.folders import named, read_names, which_model
from medrecon.errors import ModelError, in_short, near

LIBRARY = "dynamic_network_architectures"
"""The package of its networks."""

CT = "CTNormalization"
SCHEMES = (CT, "ZScoreNormalization", "RescaleTo01Normalization", "RGBTo01Normalization", "NoNormalization")
"""Of normalisation, that nnU-Net has."""

_SPLINES = ("resample_data_or_seg_to_shape",)


@dataclass(frozen=True)
class Rule:
    """How a configuration of nnU-Net's plans wants its scans.

    Attributes:
        axes: the order of the array's axes, out of nnU-Net's (slices, rows, columns).
        spacing: mm along these axes; two numbers where slices keep their distance.
        patch: voxels along them; two numbers for a network of slices.
        schemes: normalisation of each channel.
        masked: of each channel, whether only what is not zero counts.
        intensities: mean, std and percentiles of each channel's foreground.
        order: of the spline within slices, or along all axes.
        order_between: of the spline between slices, where these are resampled one by one.
        separately: whether they are; None where the spacings decide.
    """

    axes: tuple[int, ...]
    spacing: tuple[float, ...]
    patch: tuple[int, ...]
    schemes: tuple[str, ...]
    masked: tuple[bool, ...]
    intensities: tuple[Mapping[str, float], ...]
    order: int = 3
    order_between: int = 0
    separately: bool | None = None

    @property
    def flat(self) -> bool:
        """Whether the network takes slices, which then come last."""
        return len(self.patch) == 2


@dataclass(frozen=True)
class Plans:
    """A trained model as its files describe it.

    Attributes:
        folder: of the model.
        fold: "" for the first.
        settings: of the configuration, with what it inherits.
        rule: how it wants its scans.
        channels: their names.
        heads: channels of the output.
    """

    folder: Path
    fold: str
    settings: dict[str, Any]
    rule: Rule
    channels: tuple[str, ...]
    heads: int

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The names of the channels where they tell them apart; none of one channel."""
        apart = len(set(map(str.casefold, self.channels))) == len(self.channels) > 1
        return self.channels if apart else ()

    @property
    def units(self) -> str:
        """ "HU" where its normalisation takes nothing else."""
        return "HU" if set(self.rule.schemes) == {CT} else ""


def read_plans(folder: Path, network: str | None) -> Plans:
    """The plans and the data set of a trained model.

    Args:
        folder: the model's, a fold's, or the data set's.
        network: which configuration and fold, where there are several.

    Raises:
        ModelError: no such model or configuration; plans that cannot be honoured; its library is missing.
    """
    model, configuration, fold = which_model(folder, network)
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
    if find_spec(LIBRARY) is None:
        raise ModelError(
            "networks of nnU-Net need dynamic-network-architectures",
            path=model,
            remedy="pip install 'medrecon[nnunet]'",
        )
    return Plans(model, fold, settings, rule, names, _heads(dataset))


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
        schemes = tuple(str(name) for name in settings["normalization_schemes"])[:channels]
        unknown = [name for name in schemes if name not in SCHEMES]
        if unknown:
            raise ModelError(
                f"its plans normalise by {unknown[0]}, which is no scheme of nnU-Net's own",
                path=model,
                remedy=f"there are {', '.join(SCHEMES)}",
            )
        return Rule(
            axes=tuple(int(axis) for axis in plans["transpose_forward"]),
            spacing=tuple(float(mm) for mm in settings["spacing"]),
            patch=tuple(int(n) for n in settings["patch_size"]),
            schemes=schemes,
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
