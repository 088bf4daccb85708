"""Modules that run on one slab of an image after the other, to save memory: none of them sees it whole."""

from __future__ import annotations

import re
from collections.abc import Mapping

from medrecon.encoders.tapped.layout import Layout

_CALL = re.compile(r"(:[0-9]+)?")


def slabs(modules: Mapping[str, str], layouts: Mapping[str, Layout]) -> dict[str, str]:
    """The tensors that are slabs of the image, and why they are no layers.

    Such a module is called several times, and its result has fewer positions along one axis than that of the
    module that holds it and joins the slabs (MAISI's convolutions).

    Args:
        modules: name of each tensor that was seen -> name of the module that returned it.
        layouts: of those that could be layers.
    """
    calls: dict[str, list[str]] = {}
    for key, module in modules.items():
        if _CALL.fullmatch(key.removeprefix(module)):
            calls.setdefault(module, []).append(key)
    found: dict[str, str] = {}
    for module, keys in calls.items():
        if len(keys) < 2:
            continue
        whole = next((name for name in _holders(module) if len(calls.get(name, ())) == 1), None)
        if whole is None or whole not in layouts:
            continue
        if any(key in layouts and _is_slab(layouts[key], layouts[whole]) for key in keys):
            reason = f"it is one slab of the image, taken one after the other; {whole} is all of it"
            found |= dict.fromkeys(keys, reason)
    return found


def _holders(module: str) -> list[str]:
    """The modules that hold a module, the nearest first."""
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]


def _is_slab(part: Layout, whole: Layout) -> bool:
    """Whether a grid is coarser than another of as many channels along one axis, and along no other."""
    if part.kind != "grid" or whole.kind != "grid" or part.channels != whole.channels:
        return False
    apart = [(a, b) for a, b in zip(part.stride, whole.stride, strict=True) if a != b]
    return len(apart) == 1 and apart[0][0] > apart[0][1]
