"""Which encoder's features a decoder is for: kept among its weights."""

from __future__ import annotations

import torch

from medrecon.contract import Decoder


class MadeFor(Decoder):
    """A decoder that remembers the fingerprint of one encoder, as a buffer of its state."""

    made_for: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("made_for", torch.zeros(32, dtype=torch.uint8))

    @property
    def encoder_fingerprint(self) -> str:
        """Of the weights whose features it inverts (`medrecon.encoders.fingerprint`); "" before."""
        return bytes(self.made_for.tolist()).hex() if bool(self.made_for.any()) else ""

    def remember(self, encoder_fingerprint: str) -> None:
        """Keep, with the weights, which encoder's features they are for."""
        self.made_for.copy_(torch.tensor(list(bytes.fromhex(encoder_fingerprint)), dtype=torch.uint8))
