"""Scans as channels, one of them first: the network sees them in its own order."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medrecon.encoders import ScansBeside, TappedEncoder, build_encoder
from medrecon.encoders.naming import in_order
from medrecon.encoders.offsets import measure_offsets
from medrecon.errors import ModelError, ScanError

NAMES = ("T1", "T2", "FLAIR")


def tapped() -> TappedEncoder:
    torch.manual_seed(0)
    return TappedEncoder(nn.Conv3d(3, 4, 3, padding=1), intensity="zscore", channel_names=NAMES)


@pytest.mark.parametrize(("first", "order"), [("T1", (0, 1, 2)), ("t2", (1, 0, 2)), ("FLAIR", (2, 0, 1))])
def test_the_network_sees_its_own_order(first: str, order: tuple[int, ...]) -> None:
    encoder, image = tapped(), torch.rand(1, 3, 8, 8, 8)
    beside = ScansBeside(encoder, first)
    assert beside.channel_names == tuple(NAMES[k] for k in order)
    assert beside.channels_needed
    turned = image[:, list(order)]
    assert torch.equal(beside(turned)["output"], encoder(image)["output"])
    part, whole = turned[..., :4], turned
    with beside.conditioned_on(whole):
        held = beside(part)["output"]
    with encoder.conditioned_on(image):
        assert torch.equal(held, encoder(image[..., :4])["output"])
    assert measure_offsets(beside, beside.layers()) == measure_offsets(encoder, encoder.layers())


def test_all_channels_are_needed() -> None:
    with pytest.raises(ModelError, match="takes 3 scans as channels, not 1"):
        ScansBeside(tapped(), "T1")(torch.rand(1, 1, 8, 8, 8))


def test_names_that_are_none_of_its_own() -> None:
    with pytest.raises(ModelError, match="no channel 'T3'"):
        ScansBeside(tapped(), "T3")
    with pytest.raises(ModelError, match="no channel 'a'"):
        build_encoder("medrecon.encoders.PlainEncoder", first_channel="a")
    encoder = tapped()
    assert in_order(encoder.channel_names, {"flair": 3, "T2": 2, "t1": 1}) == (1, 2, 3)
    for given, kind, said in (
        ({"T1": 1, "T2": 2}, ScanError, "'FLAIR' is missing"),
        ({"T1": 1, "T3": 2}, ModelError, "no channel 'T3'"),
    ):
        with pytest.raises(kind, match=said):
            in_order(encoder.channel_names, given)
    with pytest.raises(ModelError, match="takes one scan"):
        in_order(TappedEncoder(nn.Conv2d(1, 2, 3)).channel_names, {"a": 1})
