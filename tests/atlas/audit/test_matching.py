"""What is matched to what: the attacker repeats a defence where he can, and pictures meet scans."""

from __future__ import annotations

import numpy as np
import pytest

from medrecon.atlas.audit.asked import Asked
from medrecon.atlas.audit.cohort import FEATURES, LINEAR, PLAIN, RECONSTRUCTION, SCAN, Cohort
from medrecon.atlas.audit.defences import parse_defences
from medrecon.atlas.audit.matching import OTHER, match_rows

PATIENTS = np.repeat(np.arange(12), 2)


def cohort() -> Cohort:
    rng = np.random.default_rng(0)
    made = Cohort(PATIENTS, 40)
    own = rng.normal(size=(12, 40))[PATIENTS] + 0.1 * rng.normal(size=(24, 40))
    nothing = rng.normal(size=(24, 40))
    for view in (PLAIN, "noise"):
        values = {
            ("", SCAN, ""): own,
            ("a", FEATURES, ""): own,
            ("a", RECONSTRUCTION, ""): own + 0.1 * rng.normal(size=own.shape),
            ("a", LINEAR, ""): nothing if view == PLAIN else rng.normal(size=own.shape),
            ("a", FEATURES, "noise:1"): own + 0.5 * rng.normal(size=own.shape),
            ("a", FEATURES, "drop:0.9"): np.where(np.arange(40) < 12, own, 0),
        }
        for (layer, matched, defence), each in values.items():
            made.vectors[view, layer, matched, defence] = each.astype(np.float32)
    return made


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, str, str], float]:
    asked = Asked(views=("noise",), defences=tuple(parse_defences("noise:1,drop:0.9")), ranks=(1,))
    found = match_rows(cohort(), [OTHER, "noise"], ["a"], asked)
    assert all(row["shuffled"] == pytest.approx(1 / 12, abs=0.06) for row in found)
    return {(row["condition"], row["matched"], row["defence"]): row["rate"] for row in found}


@pytest.mark.parametrize("condition", [OTHER, "noise"])
def test_whoever_leaves_is_found_and_what_says_nothing_is_not(
    condition: str, rows: dict[tuple[str, str, str], float]
) -> None:
    for matched in (SCAN, FEATURES, RECONSTRUCTION):
        assert rows[condition, matched, ""] > 0.9
    assert rows[condition, LINEAR, ""] < 0.3


@pytest.mark.parametrize("condition", [OTHER, "noise"])
def test_channels_that_are_left_out_are_left_out_of_the_gallery_too(
    condition: str, rows: dict[tuple[str, str, str], float]
) -> None:
    """An attacker who does not would miss what is still there, and the defence would look safe."""
    assert rows[condition, FEATURES, "drop:0.9"] > 0.9
    assert rows[condition, FEATURES, "noise:1"] > 0.7
