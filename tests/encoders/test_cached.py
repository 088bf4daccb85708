"""Features kept for images seen before: the same, computed once, bounded, never in the way of gradients."""

from __future__ import annotations

import torch

from medrecon.encoders import AdaptiveEncoder, CachedEncoder, FrozenEncoder, PlainEncoder, fingerprint
from medrecon.inversion import AdaptiveDecoder
from medrecon.reconstructor import Reconstructor


def build(most_bytes: float = 1e9) -> tuple[CachedEncoder, FrozenEncoder, list[int]]:
    torch.manual_seed(0)
    frozen = FrozenEncoder(PlainEncoder(2, channels=(4, 6)))
    runs: list[int] = []
    frozen.register_forward_pre_hook(lambda module, given: runs.append(len(given[0])))
    return CachedEncoder(frozen, most_bytes), frozen, runs


def test_each_image_is_encoded_once_whatever_its_company() -> None:
    cached, frozen, runs = build()
    a, b, c = torch.rand(3, 1, 1, 16, 16)
    cached(torch.cat([a, b]), ["level1", "level2"])
    made = cached(torch.cat([b, c, a]), ["level2"])
    assert runs == [2, 1]
    assert (cached.hits, cached.misses) == (2, 3)
    torch.testing.assert_close(
        made["level2"], frozen(torch.cat([b, c, a]), ["level2"])["level2"], rtol=1e-2, atol=1e-3
    )
    cached(c, ["level1"])  # a layer that was not asked for before
    assert runs[-1] == 1


def test_memory_is_bounded() -> None:
    cached, _, runs = build(most_bytes=4 * 8 * 8 * 2)
    images = torch.rand(2, 1, 16, 16)
    for _ in range(2):
        cached(images, ["level1"])
    assert cached.used_bytes == 4 * 8 * 8 * 2
    assert runs == [2, 1]


def test_gradients_reach_the_image_and_nothing_is_kept() -> None:
    cached, _, runs = build()
    image = torch.rand(1, 1, 16, 16, requires_grad=True)
    for _ in range(2):
        cached(image, ["level1"])["level1"].sum().backward()
    assert image.grad is not None
    assert runs == [1, 1]
    assert cached.used_bytes == 0


def test_frozen_and_the_same_weights() -> None:
    cached, frozen, _ = build()
    before = fingerprint(frozen)
    cached.train()
    assert not frozen.training
    assert not any(p.requires_grad for p in cached.parameters())
    assert fingerprint(frozen) == before
    assert fingerprint(cached) == before == fingerprint(frozen.encoder)


def test_parts_of_a_whole_are_not_taken_for_images_of_their_own() -> None:
    whole = torch.rand(1, 1, 32, 64)
    whole[..., :32] *= 0.01
    cached = CachedEncoder(AdaptiveEncoder(2).eval())
    network = Reconstructor(cached, AdaptiveDecoder(cached.layers(), (4, 4), 1, 1))
    part = whole[..., :32]
    alone = cached(part, ["level4"])["level4"]
    with network.conditioned_on(whole):
        assert cached.is_conditioned
        of_whole = cached(part, ["level4"])["level4"]
        with network.conditioned_on(part):  # cut again: still of the whole
            assert torch.equal(cached(part, ["level4"])["level4"], of_whole)
    assert not torch.equal(alone != 0, of_whole != 0)
    assert torch.equal(cached(part, ["level4"])["level4"] != 0, alone != 0)
    assert not cached.is_conditioned
