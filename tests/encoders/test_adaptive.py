"""The own encoder beyond what every encoder promises: its budget, its masks, no absolute intensity."""

from __future__ import annotations

import pytest
import torch

from medrecon.encoders import AdaptiveEncoder
from medrecon.errors import ModelError

RATES = {"level1": 1, "level2": 1 / 2, "level3": 3 / 16, "level4": 1 / 16, "level5": 1 / 64}
SHAPES = {2: (133, 90), 3: (40, 53, 38)}


def picture(dims: int, seed: int = 0, shape: tuple[int, ...] | None = None) -> torch.Tensor:
    """Smooth with busy places and an empty margin, as scans are."""
    torch.manual_seed(seed)
    image = torch.randn(1, 1, *(shape or SHAPES[dims]))
    for axis in range(2, dims + 2):
        image = image.cumsum(axis) / 3
    image[:, :, : image.shape[2] // 4] = 0
    return image + 0.02 * torch.randn_like(image)


def values_kept(features: torch.Tensor) -> int:
    """Coefficients other than means, and two values for each block: its mean and its mask's number."""
    return int((features[:, 1:] != 0).sum()) + 2 * features[:, 0].numel()


@pytest.mark.parametrize("dims", [2, 3])
def test_each_level_keeps_as_many_values_as_it_says(dims: int) -> None:
    encoder, image = AdaptiveEncoder(dims).eval(), picture(dims)
    assert {info.name: info.values_per_voxel for info in encoder.layers()} == RATES
    features = encoder(image)
    assert int((features["level1"] != 0).sum()) > 0.9 * features["level1"].numel()
    for name, rate in list(RATES.items())[1:]:
        kept = values_kept(features[name]) / image.numel()
        assert kept <= rate, "the budget, of the voxels that the image has, padding not counted"
        assert kept > 0.93 * rate, "a budget is there to be spent"


@pytest.mark.parametrize("dims", [2, 3])
def test_what_is_kept_are_the_coefficients_and_more_in_busy_places(dims: int) -> None:
    encoder, image = AdaptiveEncoder(dims).eval(), picture(dims)
    everything, some = encoder(image, ["level1"])["level1"], encoder(image, ["level4"])["level4"]
    kept = some != 0
    assert torch.equal(some[kept], everything[kept])
    counts = kept.sum(1).flatten()
    energy = everything[:, 1:].square().sum(1).flatten()
    quiet = energy < energy.quantile(0.2)
    assert counts[quiet].float().mean() < 2 < 8 < counts[~quiet].float().mean()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("gain", "offset"), [(3.0, 0.0), (0.01, 0.0), (1.0, 5.0), (4095.0, -1024.0)])
def test_it_follows_any_change_of_window(dims: int, gain: float, offset: float) -> None:
    encoder, image = AdaptiveEncoder(dims).eval(), picture(dims).double()
    encoder.basis = encoder.basis.double()
    plain, changed = encoder(image), encoder(gain * image + offset)
    for name in RATES:
        expected = gain * plain[name]
        expected[:, 0] += offset * encoder.size ** (dims / 2)
        # the shift leaves rounding in every coefficient, where there was next to nothing
        near = 1e-6 * max(gain, abs(offset))
        assert (changed[name] - expected).abs().max() < near, name


@pytest.mark.parametrize("dims", [2, 3])
def test_pieces_of_an_image_at_the_multiplier_of_the_whole_are_its_features(dims: int) -> None:
    encoder, image = AdaptiveEncoder(dims).eval(), picture(dims, shape=(96, 64, 48)[:dims])
    whole = encoder(image)
    with encoder.conditioned_on(image):
        first, second = encoder(image[:, :, :48]), encoder(image[:, :, 48:])
    for name in RATES:
        torch.testing.assert_close(torch.cat([first[name], second[name]], dim=2), whole[name])
    alone = encoder(image[:, :, :48])["level4"]
    assert values_kept(alone) != values_kept(first["level4"]), "a piece alone spends its own budget"
    assert encoder._multipliers is None


def test_slices_of_a_volume_share_one_budget() -> None:
    encoder = AdaptiveEncoder(2).eval()
    volume = picture(3, shape=(64, 80, 6))
    volume[..., :3] *= 1e-3
    slices = volume[0].movedim(-1, 0)
    assert slices.shape == (6, 1, 64, 80)
    with encoder.conditioned_on(slices):
        features = encoder(slices, ["level4"])["level4"]
    kept = (features[:, 1:] != 0).flatten(1).sum(1)
    assert kept[3:].min() > 5 * kept[:3].max()
    assert 0.93 / 16 < values_kept(features) / volume.numel() <= 1 / 16


def test_multipliers_of_large_images_come_from_a_part_of_their_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder, image = AdaptiveEncoder(3).eval(), picture(3, shape=(128, 128, 96))
    full = encoder.multipliers(image)
    monkeypatch.setattr("medrecon.encoders.adaptive.MOST_BLOCKS", 1024)
    part = encoder.multipliers(image)
    for name, multiplier in full.items():
        assert float(part[name] / multiplier) == pytest.approx(1, abs=0.25)
    with encoder.conditioned_on(image):
        kept = values_kept(encoder(image, ["level4"])["level4"]) / image.numel()
    assert kept == pytest.approx(1 / 16, rel=0.1)


@pytest.mark.parametrize("dims", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_fitted_masks_leave_out_less(dims: int) -> None:
    """On images that are busy along one axis only; other images than it was fitted to, turned another way."""

    def striped(seed: int, axis: int) -> torch.Tensor:
        image = picture(dims, seed, (96, 64, 48)[:dims])
        wave = (torch.randn(image.shape[axis + 2]) * 3).reshape([-1 if a == axis else 1 for a in range(dims)])
        return image + wave

    encoder = AdaptiveEncoder(dims, orders=8).eval()
    image = striped(99, 1)

    def lost() -> float:
        features = encoder(image)
        return float((features["level4"] - features["level1"]).square().sum())

    before = lost()
    encoder.fit(striped(seed, 0) for seed in range(4))
    assert lost() < 0.7 * before
    assert not encoder.masks[0].any()
    assert encoder.masks[-1].all()
    again = AdaptiveEncoder(dims, orders=8)
    again.fit(striped(seed, 0) for seed in range(4))
    assert torch.equal(again.masks, encoder.masks), "the same seed gives the same masks"


def test_training_varies_the_budget_and_evaluation_does_not() -> None:
    encoder, image = AdaptiveEncoder(2), picture(2)
    counts = {values_kept(encoder(image, ["level4"])["level4"]) for _ in range(6)}
    assert max(counts) > 1.2 * min(counts)
    encoder.eval()
    assert len({values_kept(encoder(image, ["level4"])["level4"]) for _ in range(3)}) == 1


def test_wrong_names_are_answered_with_near_ones() -> None:
    with pytest.raises(ModelError, match=r"there is no layer 'levle3'; did you mean .*level3"):
        AdaptiveEncoder(2)(torch.rand(1, 1, 16, 16), ["levle3"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"spatial_dims": 1},
        {"spatial_dims": 2, "orders": 0},
        {"spatial_dims": 2, "values_per_voxel": ()},
        {"spatial_dims": 2, "values_per_voxel": (0.5, 0.5)},
        {"spatial_dims": 3, "values_per_voxel": (2, 1)},
        {"spatial_dims": 3, "values_per_voxel": (1, 0.001)},
    ],
)
def test_numbers_that_make_no_encoder_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"AdaptiveEncoder wants|values_per_voxel"):
        AdaptiveEncoder(**wrong)
