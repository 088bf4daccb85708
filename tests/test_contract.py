"""The base classes: what is declared has a default, what wraps passes it on, what is neither is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

import pytest
import torch
from torch import nn

from medrecon.contract import Allocation, Decoder, Encoder, Features, LayerInfo, Progress
from medrecon.encoders import CachedEncoder, FrozenEncoder, fingerprint
from medrecon.encoders.build import _Chosen
from medrecon.errors import ModelError
from medrecon.reconstructor import Reconstructor


class Least(Encoder):
    """As little as an encoder can be."""

    def layers(self) -> list[LayerInfo]:
        return [LayerInfo("half", 1, (2, 2, 2), (2, 2, 2))]

    def forward(self, image: torch.Tensor, names: Iterable[str] | None = None) -> Features:
        return {"half": nn.functional.avg_pool3d(image, 2, ceil_mode=True)}


class Back(Decoder):
    """As little as a decoder can be."""

    def forward(
        self, features: Features, shape: Sequence[int], progress: Progress | None = None
    ) -> torch.Tensor:
        (layer,) = features.values()
        return nn.functional.interpolate(layer, scale_factor=2)[..., : shape[0], : shape[1], : shape[2]]


class Most(Least):
    """Every optional thing said."""

    window, multiple, geometry = (8, 8, 8), (4, 4, 4), ("a transform",)
    refused, notes = {"odd": "because"}, ("a note",)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.whole: torch.Tensor | None = None

    def measure(self) -> list[LayerInfo]:
        return [LayerInfo("half", 1, (2, 2, 2), (6, 6, 6))]

    @contextlib.contextmanager
    def conditioned_on(self, whole: torch.Tensor) -> Iterator[None]:
        self.whole = whole
        yield
        self.whole = None

    @property
    def is_conditioned(self) -> bool:
        return self.whole is not None

    def allocations(self) -> dict[str, Allocation]:
        return {"half": Allocation(torch.ones(1, 1, dtype=torch.bool), 0.5)}


def test_two_methods_make_an_encoder_and_one_a_decoder() -> None:
    encoder, decoder = Least(), Back()
    network = Reconstructor(encoder, decoder, mixed_precision=False)
    image = torch.rand(1, 1, 5, 6, 7)
    assert network(image).shape == image.shape
    assert (encoder.spatial_dims, encoder.window, encoder.multiple) == (3, None, ())
    assert encoder.measure() == encoder.layers()
    assert not encoder.is_conditioned
    assert (encoder.allocations(), encoder.unwrapped) == ({}, encoder)
    assert (network.stride, network.halo, network.window) == (2, None, None)
    assert (decoder.names, decoder.reach, decoder.lossless, decoder.encoder_fingerprint) == (
        None,
        None,
        frozenset(),
        "",
    )
    encoder.fit([image])
    decoder.fit([(encoder(image), image)])
    decoder.remember("ab" * 32)
    with network.conditioned_on(image):
        assert not encoder.is_conditioned


@pytest.mark.parametrize("wrap", [FrozenEncoder, CachedEncoder, lambda inner: _Chosen(inner, ["half"])])
def test_what_wraps_an_encoder_passes_everything_on(wrap) -> None:
    inner = Most()
    outer = wrap(inner)
    declared = attrgetter("window", "multiple", "geometry", "refused", "notes", "spatial_dims")
    assert declared(outer) == declared(inner)
    assert outer.measure() == inner.measure()
    assert outer.allocations() == inner.allocations()
    assert outer.unwrapped is inner
    assert wrap(outer).unwrapped is inner
    assert fingerprint(outer) == fingerprint(inner)
    with outer.conditioned_on(torch.ones(1, 1, 8, 8, 8)):
        assert outer.is_conditioned
    assert not inner.is_conditioned


@pytest.mark.parametrize(
    ("encoder", "decoder", "wrong"), [(nn.Identity(), Back(), "encoder"), (Least(), nn.Identity(), "decoder")]
)
def test_what_derives_from_neither_is_refused_in_one_line(encoder, decoder, wrong: str) -> None:
    with pytest.raises(ModelError, match=f"Identity is no {wrong}; derive it from medrecon.contract") as said:
        Reconstructor(encoder, decoder)
    assert said.value.exit_code == 4
    assert "\n" not in str(said.value)


def test_a_subclass_without_its_methods_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        type("NoLayers", (Encoder,), {"forward": lambda self, image, names=None: {}})()
    with pytest.raises(TypeError, match="abstract"):
        type("NoForward", (Decoder,), {})()


def test_progress_reaches_the_decoder() -> None:
    class Tells(Back):
        def forward(
            self, features: Features, shape: Sequence[int], progress: Progress | None = None
        ) -> torch.Tensor:
            if progress is not None:
                progress(1, 1)
            return super().forward(features, shape)

    told: list[tuple[int, int]] = []
    network = Reconstructor(Least(), Tells(), mixed_precision=False)
    list(network.reconstruct(torch.rand(1, 1, 4, 4, 4), ["half"], lambda done, of: told.append((done, of))))
    assert told == [(1, 1)]
