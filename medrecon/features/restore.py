"""The way back from the network's scale and grid to the source's, with no source at hand."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, InvertibleTransform, Transform
from monai.transforms.utils import allow_missing_keys_mode
from monai.utils import TraceKeys

from medrecon.errors import ModelError
from medrecon.features.file import FeatureFile
from medrecon.features.metadata import MASK, VALUES

_INTENSITY = "ScanIntensity"
_TRACE = ("low", "high", "wide")


def traces(image: MetaTensor) -> dict[str, Any]:
    """What was done to an image on its way to the network, as `FeatureFacts` keeps it.

    Returns:
        `intensity`, `padding`, `geometry`, and `tensors`: `MASK` and `VALUES` where there is padding.

    Raises:
        ModelError: the intensities were not mapped last, or a transform left what no file can keep.
    """
    done = [dict(step) for step in image.applied_operations]
    if not done or done[-1].get(TraceKeys.CLASS_NAME) != _INTENSITY or image.pending_operations:
        raise ModelError(
            "its preprocessing does not end with ScanIntensityd: features as files need that",
            remedy="put every other transform before it",
        )
    info = dict(done.pop()[TraceKeys.EXTRA_INFO])
    below = info.get("below") or {}
    return {
        "intensity": {name: _plain(info[name]) for name in _TRACE},
        "padding": {"shape": list(below["shape"]), "dtype": below["dtype"]} if below else {},
        "geometry": tuple(_plain({**step, TraceKeys.ID: TraceKeys.NONE}) for step in done),
        "tensors": {MASK: below["mask"].numpy(), VALUES: below["values"].numpy()} if below else {},
    }


def restore(image: torch.Tensor, file: FeatureFile, preprocessing: Any) -> np.ndarray:
    """A decoded volume in the source's units on the source's grid; padding below the window put back.

    Args:
        image: (X, Y, Z) in the network's scale.
        file: the features that it was decoded from.
        preprocessing: the bundle's, whose inverse is applied.

    Raises:
        ModelError: the preprocessing is another one, or the file's record of it is broken.
    """
    facts = file.facts
    intensity = {
        TraceKeys.CLASS_NAME: _INTENSITY,
        TraceKeys.ID: TraceKeys.NONE,
        TraceKeys.DO_TRANSFORM: True,
        TraceKeys.EXTRA_INFO: {**facts.intensity, "below": _tensors(file.padding())},
    }
    try:
        steps = [*(_revived(step) for step in facts.geometry), intensity]
    except (TypeError, ValueError, OverflowError) as error:
        raise ModelError(
            f"its record of the geometry is broken ({error})", path=file.path, remedy="get the file again"
        ) from None
    known = _classes(preprocessing)
    strange = [str(s.get(TraceKeys.CLASS_NAME)) for s in steps if s.get(TraceKeys.CLASS_NAME) not in known]
    if strange:
        raise ModelError(
            f"its volume went through {strange[0][:40]}, which the bundle does not have",
            path=file.path,
            remedy="name the bundle that encoded it, configured as it was then",
        )
    affine = torch.from_numpy(facts.image_affine)
    pred = MetaTensor(image[None], affine=affine, applied_operations=steps)
    try:
        with allow_missing_keys_mode(preprocessing):
            back = preprocessing.inverse({"image": pred})["image"]
        left = back.applied_operations if isinstance(back, MetaTensor) else []
    except (RuntimeError, ValueError, KeyError, TypeError, IndexError) as error:
        why = f"{type(error).__name__}: {error}"
    else:
        values: np.ndarray = back[0].detach().cpu().numpy()
        if not left and values.shape == facts.shape:
            return values
        why = f"{values.shape} came back, not {facts.shape}"
    raise ModelError(
        f"the way back to the source's grid failed ({why})",
        path=file.path,
        remedy="name the bundle that encoded it, configured as it was then",
    )


def _tensors(padding: Mapping[str, Any]) -> dict[str, Any]:
    return {k: torch.from_numpy(v.copy()) if isinstance(v, np.ndarray) else v for k, v in padding.items()}


def _classes(transform: Any) -> set[str]:
    """Names of the classes whose records the inverse of a transform can read: its own, and its parts'."""
    parts = transform.flatten().transforms if isinstance(transform, Compose) else [transform]
    found: set[str] = set()
    for part in parts:
        if isinstance(part, InvertibleTransform):
            found |= {type(part).__name__, *(n for v in vars(part).values() for n in _within(v))}
    return found


def _within(value: Any) -> set[str]:
    if not isinstance(value, Transform):
        return set()
    return {type(value).__name__, *(n for v in vars(value).values() for n in _within(v))}


def _plain(value: Any) -> Any:
    """A record of a transform as JSON types.

    Raises:
        ModelError: it holds what JSON cannot.
    """
    if isinstance(value, Enum):
        return _plain(value.value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (torch.Tensor, np.ndarray)):
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
        return {"array": array.tolist(), "dtype": array.dtype.name, "torch": isinstance(value, torch.Tensor)}
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    raise ModelError(
        f"a transform of its preprocessing left a {type(value).__name__}, which no file can keep",
        remedy="use transforms whose records are numbers and text",
    )


def _revived(value: Any) -> Any:
    """The inverse of `_plain`."""
    if isinstance(value, dict):
        if set(value) == {"array", "dtype", "torch"}:
            array = np.array(value["array"], str(value["dtype"]))
            return torch.from_numpy(array) if value["torch"] else array
        return {key: _revived(item) for key, item in value.items()}
    return [_revived(item) for item in value] if isinstance(value, list) else value
