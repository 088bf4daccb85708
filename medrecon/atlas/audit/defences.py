"""What may be done to features before they leave: noise, few bits, fewer channels or positions."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from medrecon.errors import UsageError

DEFAULT = ("noise:1", "bits:2", "drop:0.9", "pool:1")

_KINDS = {
    "noise": "Gaussian noise of {0:g} standard deviations of each channel",
    "bits": "{0:g} bits a value, in even steps between each channel's ends",
    "drop": "{0:.0%} of the channels left out, the same ones of every scan",
    "pool": "means over all but {0:g} positions along each axis",
}


@dataclass(frozen=True)
class Defence:
    """One defence and its strength.

    Attributes:
        kind: "noise", "bits", "drop" or "pool".
        strength: standard deviations; bits; share of the channels; positions along each axis.
    """

    kind: str
    strength: float

    @property
    def name(self) -> str:
        """As it is typed: "noise:1"."""
        return f"{self.kind}:{self.strength:g}"

    @property
    def words(self) -> str:
        """What it does."""
        return _KINDS[self.kind].format(self.strength)

    @property
    def repeatable(self) -> bool:
        """Whether the attacker can do the same to the scans that he holds: all but noise."""
        return self.kind != "noise"

    def on(self, layer: str, field: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """A layer's features (C, x, y, z) as they leave.

        Args:
            layer: its name decides which channels are dropped.
            field: its features, float32.
            generator: of the noise.
        """
        flat = field.flatten(1)
        if self.kind == "noise":
            width = flat.std(1, correction=0).view(-1, 1, 1, 1)
            return field + self.strength * width * torch.randn(field.shape, generator=generator)
        if self.kind == "bits":
            low, high = (end.view(-1, 1, 1, 1) for end in (flat.amin(1), flat.amax(1)))
            step = ((high - low) / (2**self.strength - 1)).clamp(min=1e-12)
            return low + ((field - low) / step).round() * step
        if self.kind == "pool":
            x, y, z = (min(n, int(self.strength)) for n in field.shape[1:])
            few = functional.adaptive_avg_pool3d(field[None], (x, y, z))
            return functional.interpolate(few, size=field.shape[1:])[0]
        kept = max(1, round(len(field) * (1 - self.strength)))
        chosen = torch.Generator().manual_seed(zlib.crc32(layer.encode()))
        mask = torch.zeros(len(field), 1, 1, 1)
        mask[torch.randperm(len(field), generator=chosen)[:kept]] = 1
        return field * mask


def parse_defences(text: str | Sequence[str]) -> list[Defence]:
    """Defences as they are typed: "noise:1,bits:2,drop:0.9"; "none" is none.

    Raises:
        UsageError: one is unknown, or its strength makes no sense.
    """
    names = text.split(",") if isinstance(text, str) else list(text)
    made = []
    for name in (part.strip() for part in names):
        if name in ("", "none"):
            continue
        kind, _, strength = name.partition(":")
        try:
            value = float(strength)
        except ValueError:
            value = -1.0
        fits: dict[str, Callable[[float], bool]] = {
            "noise": lambda v: 0 < v < 1e6,
            "bits": lambda v: v in range(1, 17),
            "drop": lambda v: 0 < v < 1,
            "pool": lambda v: v in range(1, 257),
        }
        if kind not in fits or not fits[kind](value):
            raise UsageError(
                f"'{name}' is no defence",
                remedy="write noise:1 (standard deviations), bits:2 (1 to 16), drop:0.9 (of channels) or "
                "pool:1 (positions along each axis)",
            )
        made.append(Defence(kind, value))
    return list(dict.fromkeys(made))
