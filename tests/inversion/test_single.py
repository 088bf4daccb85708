from __future__ import annotations

import pytest
import torch

from medrecon.contract import LayerInfo
from medrecon.encoders import PlainEncoder
from medrecon.errors import ModelError
from medrecon.inversion import PlainDecoder, TransposedDecoder
from medrecon.inversion.single import fit_to, stages
from medrecon.reconstructor import Reconstructor

both = pytest.mark.parametrize("decoder_class", [PlainDecoder, TransposedDecoder])


def test_stages_undo_any_stride() -> None:
    assert stages((8, 8)) == [(2, 2), (2, 2), (2, 2)]
    assert stages((4, 6, 1)) == [(2, 2, 1), (2, 3, 1)]
    assert stages((1, 1)) == [(1, 1)]
    assert stages((7,)) == [(7,)]


@both
@pytest.mark.parametrize("stride", [(2, 2), (3, 5), (12, 7), (1, 1), (4, 4, 1), (2, 2, 2)])
def test_every_position_becomes_one_stride_of_the_image(decoder_class: type, stride: tuple[int, ...]) -> None:
    layer = LayerInfo("a", 3, stride, stride)
    decoder = decoder_class([layer], width=4)
    size = (3, 4, 5)[: len(stride)]
    shape = tuple(n * s for n, s in zip(size, stride, strict=True))
    features = torch.randn(1, 3, *size)
    assert decoder.up(features).shape[2:] == shape, "nothing to cut off"
    assert decoder({"a": features}, shape).shape == (1, 1, *shape)


@both
def test_a_latent_vector_is_a_map_of_one_position(decoder_class: type) -> None:
    decoder = decoder_class([LayerInfo("latent", 32, (16, 16, 8), (16, 16, 8))], width=4, max_width=16)
    vector = torch.randn(2, 32)
    image = decoder({"latent": vector}, (16, 15, 8))
    assert image.shape == (2, 1, 16, 15, 8)
    assert torch.equal(image, decoder({"latent": vector[:, :, None, None, None]}, (16, 15, 8)))


@both
def test_result_lies_between_0_and_1_with_the_resolution_of_float32(decoder_class: type) -> None:
    torch.manual_seed(0)
    decoder = decoder_class([LayerInfo("a", 8, (4, 4), (4, 4))], width=8)
    with torch.autocast("cpu", torch.bfloat16):
        image = decoder({"a": 50 * torch.randn(1, 8, 16, 16)}, (64, 64))
    assert image.dtype == torch.float32
    assert image.min() >= 0
    assert image.max() <= 1


@both
def test_refusals(decoder_class: type) -> None:
    layers = [LayerInfo("a", 8, (4, 4), (4, 4)), LayerInfo("b", 8, (8, 8), (8, 8))]
    with pytest.raises(ModelError, match="no layer 'c' to invert; its layers: a, b"):
        decoder_class(layers, "c")
    decoder = decoder_class(layers, "a")
    a, b = torch.randn(1, 8, 4, 4), torch.randn(1, 8, 2, 2)
    with pytest.raises(ModelError, match="inverts a; 'b' was given"):
        decoder({"a": a, "b": b}, (16, 16))
    with pytest.raises(ModelError, match=r"8 channels and 2 axes, these have shape \(1, 7, 4, 4\)"):
        decoder({"a": a[:, 1:]}, (16, 16))
    with pytest.raises(ModelError, match=r"make an image of \(16, 16\), not \(16, 20\)"):
        decoder({"a": a}, (16, 20))


def test_fit_to_cuts_and_repeats_far_ends() -> None:
    image = torch.arange(12.0).view(1, 1, 3, 4)
    assert torch.equal(fit_to(image, (2, 3), (1, 1)), image[..., :2, :3])
    longer = fit_to(image, (3, 6), (4, 4))
    assert torch.equal(longer[..., :4], image)
    assert torch.equal(longer[..., 5], image[..., 3])


@pytest.mark.parametrize(("dims", "decoder_class"), [(2, PlainDecoder), (3, TransposedDecoder)])
def test_the_plain_autoencoder_learns(dims: int, decoder_class: type) -> None:
    """A hundred steps on one smooth picture bring the error well under that of the mean image."""
    torch.manual_seed(0)
    encoder = PlainEncoder(dims, channels=(8, 16))
    network = Reconstructor(encoder, decoder_class(encoder.layers(), width=8))
    axes = torch.meshgrid(*(torch.linspace(0, 3, 16),) * dims, indexing="ij")
    image = (0.5 + 0.4 * torch.stack([torch.sin(axis) for axis in axes]).prod(0))[None, None]
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(100):
        loss = (network(image) - image).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 * image.var().item()
