"""Values to stored integers: the source's form where they fit, and what happens where they do not."""

from __future__ import annotations

import numpy as np
import pytest

from medrecon.errors import OutputError
from medrecon.io.dicom.writing.stored_values import StoredForm, encode


def form(
    bits: int = 12, signed: bool = False, slope: float = 1, intercept: float = -1024, count: int = 3
) -> StoredForm:
    return StoredForm(bits, signed, np.full(count, float(slope)), np.full(count, float(intercept)))


def volume(low: float, high: float, dtype: type = np.float32) -> np.ndarray:
    values = np.linspace(low, high, 4 * 5 * 3).reshape(4, 5, 3)
    return values.astype(dtype)


def decoded(encoded) -> np.ndarray:
    return np.stack([encoded.values(k) for k in range(len(encoded.stored))]).transpose(2, 1, 0)


def test_the_source_form_is_reused_where_values_fit():
    values = volume(-1024, 3071)
    encoded = encode(values, form())
    assert encoded.as_source
    assert encoded.stored.dtype == np.uint16
    assert encoded.stored.shape == (3, 5, 4)
    assert encoded.stored.max() == 4095
    assert np.abs(decoded(encoded) - values).max() <= 0.5


@pytest.mark.parametrize(("low", "high"), [(-1025, 3000), (-1000, 3072)])
def test_one_unit_outside_becomes_int16_of_the_same_values(low, high):
    values = volume(low, high)
    encoded = encode(values, form())
    assert not encoded.as_source
    assert (encoded.form.bits, encoded.form.signed, encoded.clipped) == (16, True, 0)
    assert set(encoded.form.slopes) == {1.0}
    assert set(encoded.form.intercepts) == {0.0}
    assert np.array_equal(decoded(encoded), np.rint(values))


def test_rounding_decides_whether_a_value_fits():
    assert encode(volume(-1024.4, 3071.4), form()).as_source
    assert not encode(volume(-1024.6, 3071.4), form()).as_source


def test_large_positive_values_become_uint16():
    encoded = encode(volume(0, 60000), form(12, False, 1, 0))
    assert encoded.stored.dtype == np.uint16
    assert np.array_equal(decoded(encoded), np.rint(volume(0, 60000)))


def test_a_few_voxels_beyond_16_bits_are_clipped_and_counted():
    values = np.zeros((20, 20, 3), np.float32)
    values[0, 0, 0], values[0, 1, 0], values[1, 1, 1] = -40000, -7, 60000
    encoded = encode(values, form(16, True, 1, 0))
    assert encoded.clipped == 2
    assert sorted({int(v) for v in encoded.stored.ravel()}) == [-32768, -7, 0, 32767]


def test_many_voxels_beyond_16_bits_get_one_slope():
    values = volume(-90000, 90000)
    encoded = encode(values, form(16, True, 1, 0))
    slope = encoded.form.slopes[0]
    assert encoded.clipped == 0
    assert len(str(slope)) <= 16
    assert np.abs(decoded(encoded) - values).max() <= slope / 2 + 1e-3


def test_slopes_of_each_slice_are_kept_exactly():
    slopes, intercepts = np.array([0.5, 0.25, 3.7]), np.zeros(3)
    stored = np.arange(4 * 5 * 3).reshape(4, 5, 3)
    values = (stored * slopes).astype(np.float32)
    encoded = encode(values, StoredForm(15, False, slopes, intercepts))
    assert encoded.as_source
    assert np.array_equal(encoded.stored.transpose(2, 1, 0), stored)


def test_a_scaled_source_that_overflows_gets_a_finer_or_equal_step_than_16_bits_allow():
    encoded = encode(volume(-3, 5000), form(12, False, 0.5, 0))
    assert encoded.form.signed
    assert encoded.form.slopes[0] == pytest.approx(5000 / 32767, rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    values = volume(0, 10)
    values[1, 2, 1] = bad
    with pytest.raises(OutputError, match="1 voxels of the result are not finite"):
        encode(values, form())


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint16, np.int64, np.float64])
@pytest.mark.parametrize("intercept", [0, -1024, 5])
def test_integers_of_any_type_come_back_exactly(dtype, intercept):
    values = np.arange(60).reshape(4, 5, 3).astype(dtype) + (0 if intercept <= 0 else 5)
    encoded = encode(values.astype(dtype), form(12, False, 1, intercept))
    assert np.array_equal(decoded(encoded), values)


def test_memory_order_does_not_matter():
    values = volume(-900, 900, np.int16)
    one = encode(np.ascontiguousarray(values), form())
    other = encode(np.asfortranarray(values), form())
    assert np.array_equal(one.stored, other.stored)
    assert other.stored.flags.c_contiguous


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.float64])
@pytest.mark.parametrize("start", [(1 << 24) + 1, 3_000_000_001])
def test_a_narrow_range_far_from_zero_is_exact(start: int, dtype: type):
    values = (
        min(start, np.iinfo(np.int32).max - 60_000 if dtype is np.int32 else start)
        + np.arange(60).reshape(4, 5, 3) * 1000
    ).astype(dtype)
    encoded = encode(values, form(32, False, 1, 0))
    assert (encoded.form.slopes[0], encoded.clipped, encoded.coarse) == (1, 0, False)
    assert np.array_equal(decoded(encoded), values)
    assert set(encode(values, form(32, False, 1, 0), shift=False).form.intercepts) == {0}, "as in PET"


def test_a_range_wider_than_16_bits_is_stored_in_coarser_steps_and_said_so():
    values = volume(0, 1e6, np.float64)
    encoded = encode(values, form(32, False, 1, 0))
    assert encoded.coarse
    assert np.abs(decoded(encoded) - values).max() <= encoded.form.slopes[0] / 2 + 1e-6
    assert not encode(volume(0, 1, np.float64), form(12, False, 0.5, 0)).coarse
