"""Features computed once for each image: for training a decoder on the same patches over and over."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch

from medrecon.contract import Encoder, Features
from medrecon.encoders.frozen import FrozenEncoder
from medrecon.encoders.naming import resolve_layers


class CachedEncoder(FrozenEncoder):
    """A frozen encoder that keeps the features of images it has seen, in half precision, in main memory.

    Images are told apart by their values. Where gradients must reach the image, or the encoder takes it as a
    part of a whole (`conditioned_on`), nothing is kept or looked up. When the memory is used up the encoder
    goes on without keeping more.

    Args:
        encoder: frozen in place, not copied.
        most_bytes: memory for features.

    Attributes:
        hits: images whose features were there.
        misses: images that the encoder was run for.
    """

    def __init__(self, encoder: Encoder, most_bytes: float = 4e9) -> None:
        super().__init__(encoder)
        self.most_bytes = int(most_bytes)
        self.used_bytes = self.hits = self.misses = 0
        self._kept: dict[tuple[str, str], torch.Tensor] = {}

    def forward(self, image: torch.Tensor, names: Iterable[str] | None = None) -> Features:
        """Features of `image` (B, C, *spatial), as the encoder gives them to half precision.

        Raises:
            ModelError: what the encoder raises.
        """
        if image.requires_grad or self.is_conditioned:
            return super().forward(image, names)
        wanted = resolve_layers(names, [info.name for info in self.layers()])
        keys = [hashlib.sha256(one.contiguous().cpu().numpy().tobytes()).hexdigest() for one in image.float()]
        new = [k for k, key in enumerate(keys) if any((key, name) not in self._kept for name in wanted)]
        self.hits += len(keys) - len(new)
        self.misses += len(new)
        made = self.encoder(image[new], wanted) if new else {}
        found: Features = {}
        for name in wanted:
            fresh = dict(zip(new, made[name].unbind(), strict=True)) if new else {}
            rows = [fresh[k] if k in fresh else self._kept[key, name] for k, key in enumerate(keys)]
            found[name] = torch.stack([row.to(image.device, torch.float32) for row in rows])
            for k, value in fresh.items():
                self._keep((keys[k], name), value)
        return found

    def _keep(self, key: tuple[str, str], value: torch.Tensor) -> None:
        # bfloat16 has the range of float32: features can be far beyond what float16 holds.
        half = value.detach().to("cpu", torch.bfloat16).clone()
        if key not in self._kept and self.used_bytes + half.nbytes <= self.most_bytes:
            self._kept[key] = half
            self.used_bytes += half.nbytes
