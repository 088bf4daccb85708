"""Own networks of a few channels whose guesses are there, as training would make them."""

from __future__ import annotations

import torch

from medrecon.encoders import AdaptiveEncoder
from medrecon.inversion import AdaptiveDecoder
from medrecon.reconstructor import Reconstructor

SHAPE = (140, 22, 17)
RESULTS = ["level3", "input", "level4+level5"]


def build(dims: int = 3, mixed_precision: bool = False) -> Reconstructor:
    torch.manual_seed(0)
    encoder = AdaptiveEncoder(dims, orders=2)
    decoder = AdaptiveDecoder(encoder.layers(), widths=(6, 8), depth=1, coarse_depth=1)
    network = Reconstructor(encoder, decoder, mixed_precision=mixed_precision)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            last = name.endswith(("out.weight", "guess.weight"))
            parameter.normal_(std=(0.3 if last else 2) / max(1, parameter[0].numel()) ** 0.5)
    return network.eval()


def picture(shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(3)).cumsum(2) / 10 % 1
