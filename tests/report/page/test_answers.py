"""What the first screen says, from figures that are known."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from medrecon.evaluation.scores import Finding, FindingKept
from medrecon.report.answers import answers, layer_line, lost
from medrecon.report.finding_words import finding_answers as answers_of
from medrecon.report.finding_words import finding_table

sys.path.insert(0, str(Path(__file__).parent))
import made


def region(mae: float, rmse: float | None = None) -> made.RegionError:
    return made.RegionError(1000, mae, mae * 1.5 if rmse is None else rmse, 0.0)


def test_the_headline_is_of_the_body_not_of_the_air() -> None:
    scores = made.scan(made.layer("level4", mae=25.0, regions={"body": region(59.2)}))
    said = dict(answers(scores))
    assert said["How much is lost?"] == "level4: 59.2 HU on average in the body."
    assert lost(scores, "level4") == "±59 HU"
    assert "25" not in layer_line(scores, "level4")


def test_the_error_that_is_held_against_the_noise_is_said_beside_it() -> None:
    line = layer_line(made.scan(made.layer("level4", regions={"body": region(20, 48)}), noise=12.0), "level4")
    assert line.startswith("level4: 20.0 HU off on average in the body (root mean square 48.0 HU, 4.0 times")


def test_where_names_tissues_and_the_mask_apart() -> None:
    regions = {
        "body": region(20),
        "bone": region(90),
        "fat": region(10),
        "lung": region(40),
        "nodule": region(5),
    }
    said = dict(answers(made.scan(made.layer("level4", regions=regions))))
    assert said["Where?"] == (
        "At level4 most in bone (90.0 HU), least in fat (10.0 HU); in the mask: nodule (5.00 HU)."
    )


def test_the_limit_of_use_is_the_noise_and_the_detail() -> None:
    layers = [
        made.layer("level1", regions={"body": region(8, 11.9)}, spectrum=made.Spectrum((), (), None)),
        made.layer("level2", regions={"body": region(9, 12.1)}, spectrum=made.Spectrum((0.1,), (1.0,), 0.25)),
        made.layer("level3", regions={"body": region(30)}, spectrum=made.Spectrum((0.1,), (1.0,), 0.1)),
    ]
    said = dict(answers(made.scan(*layers, noise=12.0)))["Down to which layer is it of use?"]
    assert said.startswith("Down to level1 errors stay within the scan's own noise (12.0 HU).")
    assert "thinner than 2.0 mm from level2 on, thinner than 5.0 mm from level3 on" in said
    assert "flat image" not in said


def test_a_layer_that_knows_nothing_is_said_to() -> None:
    flat = made.Control("mean image", 20.0, 0.1, 400.0)
    layers = [
        made.layer("deep", there=made.Control("deep", 20.5, 0.2, 390.0), controls=(flat,)),
        made.layer("shallow", there=made.Control("shallow", 30.0, 0.2, 50.0), controls=(flat,)),
    ]
    said = dict(answers(made.scan(*layers)))["Down to which layer is it of use?"]
    assert "From deep on it is hardly better than a flat image." in said


def test_trust_is_the_control_and_the_intervals() -> None:
    said = dict(answers(made.scan()))["Can I trust it?"]
    assert "alone change nothing" in said
    assert "held 88 % of voxels" in said
    lossy = (made.Control("identity", 55.0, 1.0, 1.0),)
    said = dict(answers(made.scan(made.layer("a", controls=lossy))))["Can I trust it?"]
    assert "cost something (PSNR 55.0 dB)" in said


def test_without_units_an_error_is_a_share_of_the_range() -> None:
    layer = made.layer("level4", regions={"body": region(50)}, data_range=1000.0)
    scores = made.scan(layer, units="", noise=math.nan)
    assert lost(scores, "level4") == "±5.0 %"
    assert "50.0 (5.0 % of the scan's range)" in layer_line(scores, "level4")


def test_nothing_is_said_of_a_layer_without_controls() -> None:
    scores = made.scan(made.layer("bare", controls=()))
    assert answers(scores) == []
    assert "no score is shown" in layer_line(scores, "bare")
    assert lost(scores, "bare") == ""


def kept(share: float, low: float | None = None, high: float | None = None) -> FindingKept:
    return FindingKept(50 * share, share, low, high, 3.0, 8.0)


def found(shares: list[float], reach: float = 0.03) -> str:
    layers = [
        made.layer(f"level{n}", findings={"nodule": kept(s, s - reach * s, s + reach * s)})
        for n, s in enumerate(shares, start=1)
    ]
    finding = Finding("nodule", 120, (1.0, 2.0, 3.0), 50.0, 9.0, 3.0)
    return dict(answers_of(made.scan(*layers, findings=(finding,))))["Is nodule still there?"]


def test_one_sentence_says_down_to_which_layer_a_finding_is_kept() -> None:
    assert found([1.0, 0.95, 0.83, 0.6, 0.2]) == (
        "Down to level3 it keeps 83 % of its contrast (95 % interval 81 to 85 %); at level4 it keeps 60 % "
        "(95 % interval 58 to 62 %); at level5 it keeps 20 % (95 % interval 19 to 21 %)."
    )
    assert found([1.0, 0.9]).startswith("Down to level2 it keeps 90 % of its contrast")
    assert found([0.5, 0.9]).startswith("Already at level1 it keeps 50 % of its contrast")
    assert found([0.9, 3.0], reach=0.4) == (
        "Down to level1 it keeps 90 % of its contrast (95 % interval 54 to 126 %); at level2 it cannot be "
        "told: errors there are as large as its contrast of 50.0 HU."
    )


def test_findings_are_a_table_with_the_source_first() -> None:
    layer = made.layer("level3", findings={"nodule": kept(0.8, 0.7, 0.9)})
    finding = Finding("nodule", 120, (1.0, 2.0, 3.0), 50.0, 9.0, 3.0)
    table = finding_table(made.scan(layer, findings=(finding,)))
    ((head, source, first),) = table["groups"]
    assert head[1] == "nodule (120 voxels about 1.0, 2.0, 3.0 mm)"
    assert source[1:] == ("source", ["+50.0", "", "3.0", "9.0"])
    assert first[1:] == ("level3", ["+40.0", "80 % (70 to 90 %)", "3.0", "8.0"])
    assert set(table["columns"][1:]) == set(table["terms"])
