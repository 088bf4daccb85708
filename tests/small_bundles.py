"""The own networks, alone and in their bundles, with few channels: for tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from medrecon.blocks.weights import fingerprint
from medrecon.encoders import HierarchicalEncoder
from medrecon.inversion import HierarchicalDecoder
from medrecon.reconstructor import Reconstructor

_LEVELS = {2: (4, 8, 12, 16), 3: (8, 32, 96, 256)}
_SMALL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "AdaptiveEncoder": (
        {"orders": 4, "steps": 6},
        {"widths": [4, 4], "depth": 1, "coarse_depth": 1},
    ),
    "HierarchicalEncoder": (
        {"widths": [4, 4, 4, 4]},
        {"widths": [4, 4, 4, 4], "depths": [1, 1, 1, 1]},
    ),
}
"""Encoder -> what changes of it and of the decoder."""

LAST = ("out.weight", "guess.weight")
"""Ends of names of parameters that start at zero, and so hide what lies before them."""


def shrink(meta: dict[str, Any]) -> dict[str, Any]:
    """The same metadata.json, changed in place: its network is small, and computes in full precision."""
    network = meta["network_def"]
    encoder, inversion = _SMALL[network["encoder"]["_target_"].rsplit(".", 1)[-1]]
    network["encoder"].update(encoder)
    network["inversion"].update(inversion)
    network["mixed_precision"] = False
    return meta


def starts_at_zero(parameter: str) -> bool:
    """Whether the parameter of that name is zero in an untrained network."""
    return parameter.endswith(LAST) or "heads." in parameter or "outs." in parameter


def small_network(
    dims: int, depth: int = 1, width: int = 4, mixed_precision: bool | None = False
) -> Reconstructor:
    """The own network in 2D or 3D, untrained: `level1` to `level4`, few channels.

    Args:
        dims: 2 or 3.
        depth: residual blocks of the decoder at stride 4.
        width: channels of the convolutions.
        mixed_precision: see `Reconstructor`.
    """
    encoder = HierarchicalEncoder(dims, _LEVELS[dims], widths=(width,) * 3)
    decoder = HierarchicalDecoder(encoder.layers(), widths=(width,) * 3, depths=(depth, 1, 1))
    return Reconstructor(encoder, decoder, mixed_precision=mixed_precision)


def write_generative_bundle(source: Path, target: Path) -> Path:
    """Copy a bundle's configurations with small networks, a generative decoder too, and weights for them."""
    shutil.copytree(source / "configs", target / "configs")
    place = target / "configs" / "metadata.json"
    meta = shrink(json.loads(place.read_text("utf-8")))
    meta["generative_def"] |= {"widths": [4, 4], "depths": [1, 1], "scale_width": 4}
    place.write_text(json.dumps(meta), encoding="utf-8")
    parser = ConfigParser({"_meta_": meta})
    torch.manual_seed(0)
    network: Any = parser.get_parsed_content("_meta_#network_def")
    flow: Any = parser.get_parsed_content("_meta_#generative_def")
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if starts_at_zero(name):
                parameter.normal_(std=0.01)
        for parameter in flow.parameters():
            parameter.normal_(std=0.1)
    flow.remember(fingerprint(network), [0.02] * len(flow.results))
    (target / "models").mkdir()
    torch.save(network.state_dict(), target / "models" / "model.pt")
    torch.save(flow.state_dict(), target / "models" / "generative.pt")
    return target
