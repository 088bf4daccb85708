"""Names of layers that no module of a network can have, refused before it is run."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable

from torch import nn

from medrecon.encoders.tapped.watch import OUTPUT
from medrecon.errors import ModelError

_PARTS = re.compile(r"(:\d+)?(\[[^\[\]]*\])*$")
"""What follows a module's name in that of a layer: its second call, a part of its result, a channel."""

_MOST = 12


def check_asked(network: nn.Module, layers: str | Iterable[str] | None) -> None:
    """Refuse names that no module has; that a module's result is a layer, only running it tells.

    Args:
        network: whose modules are tapped, not its functions.
        layers: names or patterns; all when None.

    Raises:
        ModelError: a name that can be none of its layers; it tells the near ones.
    """
    modules = dict(network.named_modules())
    known = {*modules, OUTPUT}
    for name in [layers] if isinstance(layers, str) else list(layers or ()):
        if {name, _PARTS.sub("", name, count=1)} & known or fnmatch.filter(known, name):
            continue
        runs = [each for each, module in modules.items() if each and not isinstance(module, _HOLDERS)]
        alike = difflib.get_close_matches(name, runs, n=3, cutoff=0.5)
        more = f" ... ({len(runs)}; medrecon layers lists what can be tapped)" if len(runs) > _MOST else ""
        some = f"choose from {', '.join(runs[:_MOST])}{more}"
        raise ModelError(
            f"there is no layer {name!r}", remedy=f"did you mean {' or '.join(alike)}" if alike else some
        )


_HOLDERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
"""Modules that only hold others: they are never run."""
