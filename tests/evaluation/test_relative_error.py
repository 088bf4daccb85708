from __future__ import annotations

import importlib
import math

import numpy as np
import pytest

from medrecon.errors import UsageError
from medrecon.evaluation import normalised_error

MODULE = importlib.import_module("medrecon.evaluation.relative_error")


@pytest.mark.parametrize("slab", [1, 700, 1 << 22])
@pytest.mark.parametrize("shape", [(9, 8, 7), (30, 20)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_formula(shape: tuple[int, ...], order: str, slab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "_SLAB", slab)
    rng = np.random.default_rng(0)
    source = rng.normal(500, 100, shape)
    recon = source + rng.normal(5, 30, shape)
    wanted = np.linalg.norm((source - recon).ravel()) / np.linalg.norm((source - source.mean()).ravel())
    assert normalised_error(np.asarray(source, order=order), recon) == pytest.approx(wanted)
    scaled = normalised_error(3 * source - 1000, 3 * recon - 1000)
    assert scaled == pytest.approx(wanted), "no unit matters"


def test_from_nothing_lost_to_the_mean_image() -> None:
    source = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    assert normalised_error(source, source.astype(np.float32)) == 0
    assert normalised_error(source, np.full(source.shape, source.mean())) == pytest.approx(1)
    assert normalised_error(source, source[::-1, ::-1, ::-1]) == pytest.approx(2)


def test_integers_do_not_wrap() -> None:
    source = np.array([[0, 65535], [0, 65535]], np.uint16)
    assert normalised_error(source, 65535 - source) == pytest.approx(2)


def test_a_constant_source() -> None:
    flat = np.full((3, 3), 7.0)
    assert normalised_error(flat, flat.copy()) == 0
    assert normalised_error(flat, flat + 1) == math.inf


def test_refusals() -> None:
    with pytest.raises(UsageError, match="cannot compare"):
        normalised_error(np.zeros((3, 3)), np.zeros((3, 4)))
    with pytest.raises(UsageError, match="cannot compare"):
        normalised_error(np.zeros(3), np.zeros(3))
