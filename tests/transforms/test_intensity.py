"""The intensity map comes back exactly, whatever the stored values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, Invertd, SpatialPadd

from medrecon.transforms import ScanIntensity, ScanIntensityd

SHAPE = (1, 12, 11, 7)
INTEGERS = (np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32)


def scan(array: np.ndarray, units: str = "") -> MetaTensor:
    meta = {"units": units, "affine": torch.eye(4, dtype=torch.float64)}
    return MetaTensor(torch.from_numpy(array), meta=meta)


def full_range(dtype: type, seed: int = 0) -> np.ndarray:
    """Values over all that the type can hold, both ends included."""
    info = np.iinfo(dtype)
    values = np.random.default_rng(seed).integers(info.min, info.max, SHAPE, dtype=dtype, endpoint=True)
    values.flat[:2] = info.min, info.max
    return values


def ct(dtype: type = np.int16, seed: int = 0) -> np.ndarray:
    """HU beyond both ends of the window, with two kinds of padding."""
    values = np.random.default_rng(seed).integers(-1024, 3500, SHAPE).astype(dtype)
    values[:, :2], values[:, -1, 0] = -3024, -2000
    values[0, 5, 5, 5] = -1025
    return values


@pytest.mark.parametrize("units", ["", "HU"])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_come_back_exactly(dtype: type, units: str) -> None:
    source = full_range(dtype)
    transform = ScanIntensity()
    image = transform(scan(source, units))
    assert image.dtype == (torch.float32 if np.dtype(dtype).itemsize <= 2 else torch.float64)
    back = transform.inverse(image).numpy().round()
    np.testing.assert_array_equal(back, source.astype(np.float64))


@pytest.mark.parametrize(("dtype", "eps"), [(np.float32, 2**-22), (np.float64, 2**-50)])
@pytest.mark.parametrize("units", ["", "HU"])
def test_floats_come_back_to_rounding(dtype: type, eps: float, units: str) -> None:
    source = (np.random.default_rng(1).normal(200, 900, SHAPE)).astype(dtype)
    transform = ScanIntensity()
    image = transform(scan(source, units))
    assert image.numpy().dtype == dtype
    np.testing.assert_allclose(transform.inverse(image).numpy(), source, rtol=0, atol=eps * 4096)


def test_a_narrow_range_far_from_zero_keeps_each_integer() -> None:
    source = (2_000_000_000 + np.arange(np.prod(SHAPE)) % 100).reshape(SHAPE).astype(np.int32)
    transform = ScanIntensity()
    image = transform(scan(source))
    assert 0 <= image.max() <= 1.1
    result = MetaTensor(torch.full(SHAPE, 0.5)).copy_meta_from(image.clone())
    np.testing.assert_array_equal(transform.inverse(image).numpy(), source)
    assert transform.inverse(result).dtype == torch.float64, "a float32 result must not be offset in float32"


def test_hu_window_is_linear_and_not_clipped_above() -> None:
    source = np.array([-1024, 3071, 0, 7166], np.int16).reshape(1, 4, 1)
    image = ScanIntensity()(scan(source, "HU"))
    np.testing.assert_allclose(image.numpy().ravel(), [0, 1, 1024 / 4095, 2], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_padding_enters_as_the_low_end_and_comes_back_in_each_channel(dtype: type) -> None:
    source = ct(dtype)
    below = source < -1024
    preprocessing = Compose([ScanIntensityd("image")])
    item = preprocessing({"image": scan(source, "HU")})
    assert item["image"].min() == 0
    assert item["image"].numpy()[below].max() == 0
    pred = torch.full((3, *SHAPE[1:]), 0.5)
    pred[1] = 0.25
    item["pred"] = MetaTensor(pred)
    out = Invertd(keys="pred", transform=preprocessing, orig_keys="image")(item)["pred"].numpy()
    assert out.shape == pred.shape
    for channel, value in zip(out, (0.5, 0.25, 0.5), strict=True):
        np.testing.assert_array_equal(channel[below[0]], source[below])
        np.testing.assert_allclose(channel[~below[0]], value * 4095 - 1024, rtol=1e-6)
    np.testing.assert_array_equal(pred[0], 0.5, err_msg="the network's own output must stay as it was")


def test_padding_of_several_channels_comes_back_to_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medrecon.transforms.padding._CHUNK", 100)
    source = np.concatenate([ct(seed=1), ct(seed=2)[:, ::-1]])
    transform = ScanIntensity()
    image = transform(scan(source, "HU"))
    np.testing.assert_array_equal(transform.inverse(image).numpy().round(), source)


@pytest.mark.parametrize("order", ["C", "F"])
def test_padding_is_cut_into_slabs(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medrecon.transforms.padding._CHUNK", 2 * 11 * 7 + 3)
    source = np.asarray(ct(), order=order)
    transform = ScanIntensity()
    np.testing.assert_array_equal(transform.inverse(transform(scan(source, "HU"))).numpy().round(), source)


def test_padding_is_small_in_the_trace() -> None:
    x, y = np.ogrid[-1:1:128j, -1:1:128j]
    source = np.where((x**2 + y**2 < 1)[..., None], 40, -3024) * np.ones((1, 1, 1, 64), np.int16)
    operation = ScanIntensity()(scan(source.astype(np.int16), "HU")).applied_operations[-1]
    kept = operation["extra_info"]["below"]
    assert kept["mask"].numel() + kept["values"].numel() < source.size / 250
    whole = ScanIntensity()(scan(np.zeros(SHAPE, np.int16), "HU")).applied_operations[-1]
    assert "below" not in whole["extra_info"]


def test_padding_needs_the_source_grid() -> None:
    transform = ScanIntensity()
    image = transform(scan(ct(), "HU"))
    with pytest.raises(ValueError, match="undo the spatial transforms"):
        transform.inverse(image[:, 1:])


@pytest.mark.parametrize("units", ["", "HU", "BQML"])
@pytest.mark.parametrize("value", [0, 1, -1024, 32767])
def test_constant_image(value: int, units: str) -> None:
    transform = ScanIntensity()
    source = np.full(SHAPE, value, np.int16)
    image = transform(scan(source, units))
    assert torch.isfinite(image).all()
    np.testing.assert_array_equal(transform.inverse(image).numpy().round(), source)


def test_input_is_not_changed() -> None:
    source = np.random.default_rng(0).normal(0, 900, SHAPE).astype(np.float32)
    kept = source.copy()
    transform = ScanIntensity()
    image = transform(scan(source, "HU"))
    mapped = image.numpy().copy()
    transform.inverse(image.clone())
    np.testing.assert_array_equal(source, kept)
    np.testing.assert_array_equal(image.numpy(), mapped)


@pytest.mark.parametrize("workers", [0, 2])
def test_survives_loader_and_decollate(workers: int) -> None:
    sources = [ct(seed=0), ct(seed=1), np.abs(ct(seed=2)), ct(seed=3)]
    preprocessing = Compose([ScanIntensityd("image"), SpatialPadd("image", (16, 16, 8))])
    data = CacheDataset([{"image": scan(s, "HU")} for s in sources], preprocessing, progress=False)
    invert = Invertd("pred", preprocessing, orig_keys="image")
    seen = 0
    for batch in DataLoader(data, batch_size=2, num_workers=workers, collate_fn=list_data_collate):
        batch["pred"] = torch.cat([batch["image"], batch["image"] + 0], dim=1)
        for item in decollate_batch(batch):
            back = invert(item)["pred"].numpy().round()
            for channel in back:
                np.testing.assert_array_equal(channel[None], sources[seen])
            seen += 1
    assert seen == len(sources)


def test_units_overrule_the_metadata_and_plain_arrays_work() -> None:
    plain = ScanIntensity(units="HU")(np.array([[-1024.0, 3071.0]], np.float32))
    np.testing.assert_allclose(plain, [[0, 1]], atol=1e-7)
    twice = ScanIntensityd(["a", "b"], units="HU", allow_missing_keys=True)({"a": scan(ct(), "")})
    assert twice["a"].min() == 0


def test_traceless_inverse_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        ScanIntensity().inverse(scan(np.zeros(SHAPE, np.float32)))


@pytest.mark.parametrize(
    ("name", "ends"), [("window", (10, 10)), ("percentiles", (99, 1)), ("percentiles", (-1, 50))]
)
def test_impossible_ranges_are_refused(name: str, ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=name):
        ScanIntensity(**{name: ends})


def test_in_place_the_inverse_takes_no_memory_and_gives_the_same() -> None:
    source = scan(ct(), "HU")
    plain, saving = ScanIntensity(), ScanIntensity(in_place=True)
    mapped = saving(source)
    address = mapped.data_ptr()
    back = saving.inverse(mapped)
    assert back.data_ptr() == address
    assert torch.equal(back.as_tensor(), plain.inverse(plain(source)).as_tensor())
    assert torch.equal(source.as_tensor(), torch.from_numpy(ct())), "the source is never changed"
