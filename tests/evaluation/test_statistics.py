"""Intervals by patient, and scans that stand out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medrecon.evaluation.statistics import outliers, summarise


def test_the_mean_and_its_interval():
    values = np.random.default_rng(0).normal(30, 2, 60).tolist()
    found = summarise(values, range(60))
    assert (found.scans, found.patients) == (60, 60)
    assert found.mean == pytest.approx(np.mean(values))
    error = np.std(values, ddof=1) / math.sqrt(60)
    assert found.low == pytest.approx(found.mean - 1.96 * error, abs=0.1)
    assert found.high == pytest.approx(found.mean + 1.96 * error, abs=0.1)
    assert summarise(values, range(60)) == found


def test_scans_of_one_patient_do_not_count_as_independent():
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(8), 10)
    values = (rng.normal(30, 2, 8)[patients] + rng.normal(0, 0.1, 80)).tolist()
    by_patient, by_scan = summarise(values, patients.tolist()), summarise(values, range(80))
    assert by_patient.patients == 8
    assert by_patient.high - by_patient.low > 2 * (by_scan.high - by_scan.low)


def test_a_patient_with_many_scans_weighs_no_more_than_another():
    assert summarise([10.0] * 9 + [20.0], ["a"] * 9 + ["b"]).mean == 15.0


def test_what_is_not_finite_is_left_out():
    found = summarise([1.0, None, math.inf, math.nan, 3.0], "abcde")
    assert (found.scans, found.mean, found.median) == (2, 2.0, 2.0)
    nothing = summarise([None, math.inf], "ab")
    assert nothing.scans == 0
    assert math.isnan(nothing.mean)
    assert math.isnan(summarise([1.0, 2.0], "aa").low)


def test_what_stands_out():
    values = [30.0, 30.5, 29.8, 30.2, 12.0, None, 30.1]
    assert outliers(values) == [4]
    assert outliers(values[:4]) == []
    assert outliers([5.0] * 9 + [1.0]) == []
