"""Who comes first, and what chance gives: the right one is found, no scan by itself, shuffles at chance."""

from __future__ import annotations

import numpy as np
import pytest

from medrecon.evaluation.identification import Question, auc, hits, rates, similarity, wilson

PATIENTS = np.repeat(np.arange(20), 2)


def vectors(apart: float, seed: int = 0, patients: np.ndarray = PATIENTS, size: int = 30) -> np.ndarray:
    """Features of scans: what each patient's share, `apart` times as strong as what they do not."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(int(patients.max()) + 1, size))
    return (apart * shared[patients] + rng.normal(size=(len(patients), size))).astype(np.float32)


def found(alike: np.ndarray, question: Question, draws: int = 20) -> np.ndarray:
    return hits(alike, question, (1, 5), np.random.default_rng(3), draws).mean(0)


def others(patients: np.ndarray = PATIENTS) -> Question:
    return Question(patients, np.arange(len(patients)), itself=False)


def test_the_interval_of_a_share_is_that_of_wilson():
    some = wilson(0.1, 50)
    assert (some.low, some.high) == (pytest.approx(0.0435, abs=1e-4), pytest.approx(0.2136, abs=1e-4))
    sure = wilson(1.0, 10)
    assert (sure.low, sure.high) == (pytest.approx(0.7225, abs=1e-4), pytest.approx(1.0))
    assert np.isnan(wilson(0.5, 0).low)


@pytest.mark.parametrize("compare", ["whitened", "correlation"])
def test_patients_are_found_by_what_their_scans_share(compare):
    features = vectors(3.0)
    assert found(similarity(features, features, compare), others()).min() > 0.95


@pytest.mark.parametrize("compare", ["whitened", "correlation"])
def test_what_patients_do_not_share_finds_them_at_chance(compare):
    shares = np.mean(
        [
            found(similarity(features, features, compare), others(), draws=5)
            for features in (vectors(0.0, seed) for seed in range(20))
        ],
        axis=0,
    )
    assert shares == pytest.approx([1 / 20, 5 / 20], abs=0.04)


def test_no_scan_is_found_by_itself():
    """Scans that are like themselves alone would all come first, were they in their own gallery."""
    assert found(np.eye(40), others()) == pytest.approx([1 / 20, 5 / 20], abs=1e-9)


def test_scans_that_are_all_alike_share_their_places():
    assert found(np.zeros((40, 40)), others()) == pytest.approx([1 / 20, 5 / 20])


def test_a_patient_with_many_scans_is_found_no_more_often_by_chance():
    patients = np.concatenate([np.zeros(30, int), np.repeat(np.arange(1, 10), 2)])
    alike = np.random.default_rng(0).normal(size=(48, 48))
    shares = np.mean(
        [found(np.random.default_rng(k).permutation(alike), others(patients)) for k in range(20)], 0
    )
    assert shares == pytest.approx([1 / 10, 5 / 10], abs=0.03)


@pytest.mark.parametrize("itself", [True, False])
def test_shuffled_patients_come_out_at_chance_where_the_right_ones_are_found(itself):
    features = vectors(4.0)
    alike = similarity(features + 0.1 * vectors(0.0, 1), features)
    question = Question(PATIENTS, np.arange(40), itself)
    assert found(alike, question)[0] > 0.95
    rng = np.random.default_rng(0)
    shuffled = np.mean([found(alike, question.shuffled(rng), draws=2) for _ in range(60)], axis=0)
    assert shuffled == pytest.approx([1 / 20, 5 / 20], abs=0.03)


def test_views_of_patients_with_many_scans_come_out_at_chance_too():
    patients = np.array([0, 0, 0, 1, 2, 3])
    question = Question(patients, np.arange(6), itself=True)
    alike = np.eye(6)
    assert found(alike, question)[0] == 1.0
    rng = np.random.default_rng(0)
    shuffled = [found(alike, question.shuffled(rng), draws=2)[0] for _ in range(400)]
    assert np.mean(shuffled) == pytest.approx(1 / 4, abs=0.04)


def test_only_patients_with_a_second_scan_are_asked_for_and_all_are_in_the_gallery():
    patients = np.array([0, 1, 1, 2, 3])
    question = others(patients)
    assert question.asked.tolist() == [1, 2]
    alike = np.zeros((5, 5))
    alike[1:3, 3] = 1.0  # somebody with one scan comes before the right one
    assert found(alike, question)[0] == 0.0
    assert Question(patients, np.arange(5), itself=True).asked.tolist() == [0, 1, 2, 3, 4]


def test_whitening_sees_beyond_what_all_scans_share():
    """A strong direction in which scans of one patient differ as much as others do, as contrast does."""
    features = vectors(1.5, size=200)
    rng = np.random.default_rng(5)
    features += (40 * rng.normal(size=(40, 1)) * rng.normal(size=200)).astype(np.float32)
    plain = found(similarity(features, features, "correlation"), others())[0]
    assert found(similarity(features, features, "whitened"), others())[0] > plain + 0.2


def test_another_way_of_comparing_is_refused():
    with pytest.raises(ValueError, match="whitened"):
        similarity(np.zeros((2, 3)), np.zeros((2, 3)), "cosine")


def test_features_that_hold_nothing_are_alike():
    assert not similarity(np.ones((4, 3), np.float32), np.ones((4, 3), np.float32)).any()


def test_a_patient_is_one_case_whatever_the_number_of_scans():
    hit = np.array([[1.0]] * 30 + [[0.0]] * 2)
    share = rates(hit, np.array([0] * 30 + [1, 2]))[0]
    assert share.value == pytest.approx(1 / 3)
    assert share.high - share.low > 0.5


def test_the_area_under_the_curve_and_its_interval():
    rng = np.random.default_rng(0)
    same = auc(rng.normal(size=40), rng.normal(size=40))
    assert same.low < 0.5 < same.high
    apart = auc([0.1, 0.2, 0.3], [1.0, 2.0, 3.0])
    assert (apart.value, apart.high) == (1.0, 1.0)
    assert 0.2 < apart.low < 0.8, "three and three scans prove little"
    assert auc([1.0, 2.0, 3.0], [0.1, 0.2, 0.3]).value == 0.0
    assert auc([1.0, 1.0], [1.0, 1.0]).value == 0.5
    with pytest.raises(ValueError, match="two groups"):
        auc([], [1.0])


def test_the_interval_of_the_area_holds_it_as_often_as_it_says():
    rng = np.random.default_rng(1)
    truth = 0.76025  # of normal numbers that lie one deviation apart
    held = [
        share.low <= truth <= share.high
        for share in (auc(rng.normal(size=15), 1 + rng.normal(size=25)) for _ in range(200))
    ]
    assert 0.9 <= np.mean(held) <= 0.99
