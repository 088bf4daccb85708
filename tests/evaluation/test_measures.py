"""Each measure of the atlas is declared once, and stands wherever measures stand."""

from __future__ import annotations

from dataclasses import fields

import pytest

from medrecon.atlas.compare import compare_atlases
from medrecon.atlas.output import rows_of
from medrecon.atlas.summary import summary_rows
from medrecon.evaluation.measures import BY_KEY, MEASURES, SOURCE
from medrecon.evaluation.scores import LayerScore
from medrecon.report.rows import score_table
from medrecon.report.scene_words import attributes, metrics

from ..report.page import made

NO_MEASURES = {"channels", "data_range", "seconds"}
"""Numbers of a `LayerScore` that say how it was measured."""


def test_every_figure_of_a_layer_is_declared_and_nothing_else() -> None:
    kinds = ("float", "float | None", "int | None")
    figures = {field.name for field in fields(LayerScore) if field.type in kinds} - NO_MEASURES
    assert {measure.key for measure in MEASURES if not measure.path} == figures
    assert len(BY_KEY) == len(MEASURES)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.key)
def test_a_measure_stands_wherever_measures_stand(measure) -> None:
    scores = made.scan(made.layer("level3"))
    row = rows_of(scores)[0]
    assert row[measure.key] == measure.of(scores.layers[0])
    if measure.of(scores.layers[0]) is not None:
        assert measure.key in attributes(scores.layers[0])
    assert measure.title(scores.units) in metrics(scores)[0]
    page = [column.lower() for column in score_table(scores)["columns"]]
    assert (measure.title().lower() in page) == measure.scored
    rows = [{"patient": 1, **row}]
    assert (measure.key in {line["measure"] for line in summary_rows(rows)}) == measure.summarised
    compared = {line["measure"] for line in compare_atlases([scores], [scores], names=("a", "b"))["results"]}
    assert (measure.key in compared) == measure.compared


def test_units_are_those_of_the_source_where_they_are() -> None:
    assert BY_KEY["mae"].unit == SOURCE
    assert BY_KEY["mae"].title("HU") == "MAE (HU)"
    assert BY_KEY["mae"].title() == "MAE"
    assert BY_KEY["psnr"].title("HU") == "PSNR (dB)"
