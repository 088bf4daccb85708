"""Linear inverses in closed form: exact where they can be, of bounded memory, never fitted to what judges."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from medrecon.contract import Features, LayerInfo
from medrecon.errors import ModelError
from medrecon.inversion import LinearDecoder, linear
from medrecon.inversion.linear import LinearInverse, Standardised, fit_inverses, measure_scales
from medrecon.inversion.moments import Moments, best_ridge
from medrecon.inversion.upsample import unshuffle

BLOCKS = LayerInfo("blocks", 16, (4, 4))
COARSE = LayerInfo("coarse", 3, (8, 8))


def images(count: int = 12) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(1, 1, 64, 64, generator=generator) for _ in range(count)]


def batches(count: int = 12) -> list[tuple[Features, torch.Tensor]]:
    """`blocks` is an invertible mixture of each block's voxels, `coarse` three numbers for each 8 x 8."""
    generator = torch.Generator().manual_seed(2)
    mix, few = torch.randn(16, 16, generator=generator), torch.randn(3, 64, generator=generator)
    made = []
    for image in images(count):
        blocks = torch.einsum("oc,bcxy->boxy", mix, unshuffle(image, (4, 4))) + 1000
        coarse = torch.einsum("oc,bcxy->boxy", few, unshuffle(image, (8, 8)))
        made.append(({"blocks": blocks, "coarse": coarse}, image))
    return made


def error(decoder: LinearDecoder, names: list[str], pairs: list[tuple[Features, torch.Tensor]]) -> float:
    made = [decoder({n: f[n] for n in names}, i.shape[2:]) - i for f, i in pairs]
    return float(torch.cat(made).square().mean())


def test_a_layer_that_keeps_all_comes_back_and_one_that_keeps_less_does_not() -> None:
    pairs = batches()
    decoder = LinearDecoder([BLOCKS, COARSE])
    decoder.fit(pairs)
    assert error(decoder, ["blocks"], pairs) < 1e-6
    assert 0.98 / 12 > error(decoder, ["coarse"], pairs) > 0.5 / 12, "a twelfth is the variance of noise"
    joined = error(decoder, ["blocks", "coarse"], pairs)
    assert joined < 1e-6, "a layer that adds nothing does no harm"


def test_layers_together_are_better_than_each_where_each_holds_a_part() -> None:
    halves = [LayerInfo("left", 8, (4, 4)), LayerInfo("right", 8, (4, 4))]
    pairs = [
        ({"left": (b := unshuffle(image, (4, 4)))[:, :8], "right": b[:, 8:]}, image) for image in images()
    ]
    decoder = LinearDecoder(halves)
    decoder.fit(pairs)
    alone = [error(decoder, [name], pairs) for name in decoder.names]
    assert error(decoder, ["left", "right"], pairs) < 0.2 * min(alone)


def test_moments_give_what_least_squares_gives_and_the_free_constant() -> None:
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(500, 7, generator=generator) + 3, torch.randn(500, 4, generator=generator) + 5
    seen, aside = Moments(7, 4, x.device), Moments(7, 4, x.device)
    for part in range(0, 400, 100):
        seen.add(x[part : part + 100], y[part : part + 100])
    aside.add(x[400:], y[400:])
    weight, bias = best_ridge(seen, aside)
    rows = torch.cat([x[400:], torch.ones(100, 1)], 1).double()
    solution = torch.cat([weight, bias[None]])
    apart = (rows @ solution - y[400:].double()).square().mean()
    assert aside.error(solution) == pytest.approx(float(apart), rel=1e-3)
    exact = torch.linalg.lstsq(torch.cat([x[:400], torch.ones(400, 1)], 1).double(), y[:400].double())[0]
    assert aside.error(solution) <= aside.error(exact) + 1e-3


def test_the_strength_is_chosen_on_what_was_kept_aside() -> None:
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(140, 60, generator=generator)
    y = x[:, :1] + 2 * torch.randn(140, 1, generator=generator)
    seen, aside, none = (Moments(60, 1, x.device) for _ in range(3))
    seen.add(x[:70], y[:70])
    aside.add(x[70:], y[70:])
    chosen, _ = best_ridge(seen, aside)
    weakest = torch.linalg.lstsq(x[:70], y[:70])[0]
    assert chosen.norm() < 0.7 * weakest.norm()
    alone, _ = best_ridge(seen, none)
    assert alone.norm() < 0.9 * weakest.norm(), "cross-validated where nothing is aside"


class Counted:
    """Batches that are made anew in each pass, and count the passes."""

    def __init__(self) -> None:
        self.passes = 0

    def __iter__(self) -> Iterator[tuple[Features, torch.Tensor]]:
        self.passes += 1
        yield from batches()


def test_more_passes_for_many_layers_and_the_same_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    made, passes = [], []
    for most in (1 << 29, 1):
        monkeypatch.setattr(linear, "MOST_BYTES", most)
        inverses = {info.name: LinearInverse(info) for info in (BLOCKS, COARSE)}
        counted = Counted()
        fit_inverses(inverses, counted, lambda name, value: value - 1000 * (name == "blocks"))
        made.append(torch.cat([inverse.weight.flatten() for inverse in inverses.values()]))
        passes.append(counted.passes)
    assert torch.equal(*made)
    assert passes == [1, 2]


def test_of_very_many_channels_mixtures_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "MOST_INPUTS", 40)
    wide = LayerInfo("wide", 64, (4, 4))
    generator = torch.Generator().manual_seed(5)
    mix = torch.randn(64, 16, generator=generator)
    pairs = [({"wide": torch.einsum("oc,bcxy->boxy", mix, unshuffle(i, (4, 4)))}, i) for i in images()]
    decoder = LinearDecoder([wide])
    decoder.fit(pairs)
    assert decoder.linear[0].weight.shape[1] == 40
    assert error(decoder, ["wide"], pairs) < 1e-5, "40 mixtures hold 16 numbers"


@pytest.mark.parametrize("info", [LayerInfo("a", 2, (4, 2)), LayerInfo("deep", 2, (64, 64))])
def test_the_reach_is_what_it_says(info: LayerInfo) -> None:
    torch.manual_seed(0)
    inverse = LinearInverse(info)
    for buffer in inverse.buffers():
        buffer.normal_()
    x = torch.randn(1, 2, 9, 9)
    changed = x.clone()
    changed[:, :, 4, 4] += 1
    moved = (inverse(x) != inverse(changed))[0, 0].nonzero()
    for axis, stride in enumerate(info.stride):
        low, high = 4 * stride - int(moved[:, axis].min()), int(moved[:, axis].max()) + 1 - 5 * stride
        assert max(low, high) <= inverse.reach
    assert inverse.reach <= 2 * max(info.stride)


def test_scales_are_exact_far_from_zero_and_a_dead_channel_is_not_blown_up() -> None:
    values = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(6))
    values = values * torch.tensor([1.0, 5.0, 1e-9]).view(1, 3, 1, 1) + 1e4
    scale = Standardised(LayerInfo("x", 3, (1, 1)))
    measure_scales({"x": scale}, [({"x": values[:1]}, values[:1]), ({"x": values[1:]}, values[1:])])
    flat = values.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(scale.mean.flatten().double(), flat.mean(1), rtol=1e-6, atol=0)
    torch.testing.assert_close(1 / scale.scale.flatten()[:2].double(), flat.std(1)[:2], rtol=1e-3, atol=0)
    assert float(scale.standardise(values)[:, 2].abs().max()) < 1


def test_nothing_to_fit_to_and_features_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ModelError, match="no features"):
        LinearDecoder([BLOCKS]).fit([])
    broken = [({"blocks": f["blocks"] * float("nan")}, i) for f, i in batches(2)]
    with pytest.raises(ModelError, match="not finite"):
        LinearDecoder([BLOCKS]).fit(broken)
    with pytest.raises(ModelError, match="no layer 'x'"):
        LinearDecoder([BLOCKS], ["x"])
