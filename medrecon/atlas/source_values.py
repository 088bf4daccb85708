"""From the network's scale to the values that the source's file holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def as_stored(values: np.ndarray, source: np.ndarray) -> np.ndarray:
    """A result in the precision of its source: whole numbers for whole numbers, else float32.

    Raises:
        ValueError: it holds NaN or infinity.
    """
    if not np.isfinite(values).all():
        raise ValueError("the network's result holds NaN or infinity")
    if source.dtype.kind not in "iu":
        return np.ascontiguousarray(values, dtype=np.float32)
    kind: type[np.signedinteger[Any]] = np.int16 if np.can_cast(source.dtype, np.int16) else np.int32
    info = np.iinfo(kind)
    return np.clip(np.rint(values), info.min, info.max).astype(kind)


def in_units(values: torch.Tensor, low: float, width: float) -> np.ndarray:
    """Values in [0, 1] as source units, from the value of 0 and the width of the range."""
    return np.asarray(values.float().cpu().numpy() * np.float32(width) + np.float32(low))


def range_of(image: Any) -> tuple[float, float]:
    """The source values that the network sees as 0 and 1."""
    steps = image.applied_operations
    for step in reversed(steps[0] if steps and isinstance(steps[0], list) else steps):
        extra = step.get("extra_info", {})
        if isinstance(extra, dict) and "low" in extra and "high" in extra:
            return float(extra["low"]), float(extra["high"])
    return 0.0, 1.0
