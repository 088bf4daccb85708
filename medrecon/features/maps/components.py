"""Principal components of a layer's channels as colour; kept in a file, the same for every scan."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from medrecon.errors import ModelError
from medrecon.io.files.atomic import write_whole

COLOURS = 3
_ENDS = (1.0, 99.0)
"""Percentiles of a component that are dark and bright."""

_KIND = "medrecon-components-1"


@dataclass
class Components:
    """Of layers of one network: what is subtracted, the directions, and the values that are 0 and 255.

    Attributes:
        fingerprint: of the network's weights (`medrecon.encoders.fingerprint`).
        tensors: "LAYER mean" (C,), "LAYER vectors" (3, C), "LAYER ends" (2, 3).
        shares: layer -> share of the variance in each component, where it was fitted here.
    """

    fingerprint: str
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    shares: dict[str, list[float]] = field(default_factory=dict)

    def fit(self, name: str, count: int, total: torch.Tensor, square: torch.Tensor) -> None:
        """Take the directions of the most variance from sums over positions.

        The sign of each is such that its largest entry is positive: the same features, the same colours.

        Args:
            name: the layer.
            count: positions.
            total: (C,) sum of the features, float64.
            square: (C, C) sum of their products, float64.
        """
        mean = total / count
        values, vectors = torch.linalg.eigh(square / count - mean[:, None] * mean)
        chosen = vectors[:, -COLOURS:].flip(1).T
        if len(chosen) < COLOURS:  # fewer channels than colours
            chosen = torch.cat([chosen, torch.zeros(COLOURS - len(chosen), len(mean)).to(chosen)])
        largest = chosen.gather(1, chosen.abs().argmax(1, keepdim=True))
        chosen = chosen * torch.where(largest < 0, -1.0, 1.0)
        spread = values.clamp(min=0)
        self.shares[name] = (spread.flip(0)[:COLOURS] / spread.sum().clamp(min=1e-30)).tolist()
        self.tensors |= {f"{name} mean": mean.float(), f"{name} vectors": chosen.float().contiguous()}

    def project(self, name: str, values: torch.Tensor) -> torch.Tensor:
        """(C, x, y, z) -> (3, x, y, z)."""
        mean, vectors = self.tensors[f"{name} mean"], self.tensors[f"{name} vectors"]
        return torch.einsum("kc,cxyz->kxyz", vectors, values - mean[:, None, None, None])

    def colour(self, name: str, projected: np.ndarray) -> np.ndarray:
        """(3, x, y, z) -> the same as uint8; where no ends are known yet they are those of this volume."""
        key = f"{name} ends"
        if key not in self.tensors:
            ends = np.percentile(projected.reshape(COLOURS, -1), _ENDS, axis=1)
            self.tensors[key] = torch.from_numpy(ends.astype(np.float32))
        low, high = self.tensors[key].numpy()[:, :, None, None, None]
        scaled = (projected - low) / np.maximum(high - low, 1e-12)
        return np.rint(255 * scaled.clip(0, 1)).astype(np.uint8)

    def save(self, path: Path) -> None:
        """Write them.

        Raises:
            OutputError: they cannot be written.
        """
        write_whole(path, save(self.tensors, {"kind": _KIND, "fingerprint": self.fingerprint}))

    @classmethod
    def load(cls, path: Path, fingerprint: str, channels: dict[str, int]) -> Components:
        """Read those of a file, for layers of a network.

        Raises:
            ModelError: it holds something else, or another network's.
        """
        try:
            content = path.read_bytes()  # not mapped: a file that is cut meanwhile would end the process
            tensors = load(content)
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            meta = header.get("__metadata__", {})
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"holds no components ({error})", path=path, remedy="name another file, or a new one"
            ) from None
        if meta.get("kind") != _KIND or meta.get("fingerprint") != fingerprint:
            wrong = "of another network or other weights" if meta.get("kind") == _KIND else "something else"
            raise ModelError(f"holds {wrong}", path=path, remedy="name the file of this network's components")
        for name, count in channels.items():
            shapes = {"mean": (count,), "vectors": (COLOURS, count), "ends": (2, COLOURS)}
            found = {part: tensors.get(f"{name} {part}") for part in shapes}
            if any(value is None or tuple(value.shape) != shapes[part] for part, value in found.items()):
                raise ModelError(f"holds no components of {name}", path=path, remedy="name a new file for it")
        return cls(fingerprint, tensors)
