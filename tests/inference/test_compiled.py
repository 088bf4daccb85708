"""torch.compile gives what the network gives."""

from __future__ import annotations

import shutil
import sys

import pytest
import torch

from medrecon.encoders import AdaptiveEncoder
from medrecon.inversion import AdaptiveDecoder
from medrecon.reconstructor import Reconstructor

compiler = pytest.mark.skipif(
    sys.platform == "win32" or not (shutil.which("g++") or shutil.which("clang++")),
    reason="torch.compile wants a C++ compiler",
)


@compiler
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_decoder_gives_what_it_gave() -> None:
    torch.manual_seed(0)
    encoder = AdaptiveEncoder(2, orders=2)
    network = Reconstructor(encoder, AdaptiveDecoder(encoder.layers(), (6, 8), 1, 1), mixed_precision=False)
    network.eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.1)
    images = [torch.rand(1, 1, 48, 40), torch.rand(1, 1, 70, 33)]
    with torch.inference_mode():
        plain = [network(image, "level4") for image in images]
        network.inversion.compile(dynamic=True)
        compiled = [network(image, "level4") for image in images]
    counters = torch._dynamo.utils.counters["stats"]
    assert counters["unique_graphs"] > 0, "nothing was compiled"
    for one, other in zip(plain, compiled, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
