"""An encoder of several scans as channels, one of them first: the one that a decoder gives back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import torch

from medrecon.contract import Encoder, Features
from medrecon.encoders.frozen import FrozenEncoder
from medrecon.encoders.naming import known_channel
from medrecon.errors import ModelError


class ScansBeside(FrozenEncoder):
    """A frozen encoder whose images begin with a channel of choice; the others follow in their order.

    So whatever comes of an image, be it cut, compared or given back, its first channel is the scan in
    question, and those beside it are what the network is told of it besides.

    Args:
        encoder: of several `channel_names`; frozen in place, not copied.
        first: the name of the channel to come first, in any case.

    Raises:
        ModelError: it has no such channel.
    """

    def __init__(self, encoder: Encoder, first: str) -> None:
        super().__init__(encoder)
        names = list(encoder.channel_names)
        place = known_channel(first, names)
        self._order = [place, *(k for k in range(len(names)) if k != place)]
        self._back = [self._order.index(k) for k in range(len(names))]
        self.channel_names, self.channels_needed = tuple(names[k] for k in self._order), True

    def forward(self, image: torch.Tensor, names: Iterable[str] | None = None) -> Features:
        """Features of `image` (B, C, *spatial); raises what the encoder raises, and where channels miss."""
        return super().forward(self._as_trained(image), names)

    def conditioned_on(self, whole: torch.Tensor) -> contextlib.AbstractContextManager[None]:
        """Within: images are taken as parts of this whole, its channels in the same order."""
        return super().conditioned_on(self._as_trained(whole))

    def _as_trained(self, image: torch.Tensor) -> torch.Tensor:
        if image.shape[1] != len(self._back):
            raise ModelError(
                f"this encoder takes {len(self._back)} scans as channels, not {image.shape[1]}",
                remedy=f"give one for each of {', '.join(self.channel_names)}",
            )
        return image[:, self._back]
