"""An atlas with samples: what is measured, written and shown."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medrecon.atlas.output import read_scores
from medrecon.atlas.run import make_atlas
from medrecon.errors import ModelError
from medrecon.evaluation.sample_intervals import CALIBRATED, CONFORMAL, DRAWN

from ..small_bundles import write_generative_bundle


@pytest.mark.slow
def test_what_samples_tell_stands_in_metrics_and_page(
    repo: Path, tmp_path: Path, make_nifti: Callable[..., np.ndarray]
) -> None:
    bundle = write_generative_bundle(
        repo / "bundles" / "slice_autoencoder", tmp_path / "b" / "slice_autoencoder"
    )
    make_nifti(tmp_path / "t1.nii.gz")
    options = {"bundle": bundle, "samples": 3, "device": "cpu", "viewer": False, "full_scene": True}
    made = make_atlas(tmp_path / "t1.nii.gz", tmp_path / "out", ["level2", "level4"], **options)
    plain, sampled = made.layers
    assert plain.samples is None, "level2 has no generative decoder"
    drawn = sampled.samples
    assert drawn is not None
    assert {each.way for each in drawn.intervals} == {DRAWN, CALIBRATED, CONFORMAL}
    conformal = next(each for each in drawn.intervals if (each.way, each.level) == (CONFORMAL, 0.9))
    assert conformal.coverage == sampled.coverage
    assert (drawn.count, drawn.seed) == (3, 0)
    assert 0 <= drawn.shared <= 1
    (again,) = read_scores(tmp_path / "out")
    assert again.layers[1].samples == drawn
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["layers"][0]["samples"] is None
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    section = page.split('id="samples"')[1].split("</section>")[0]
    assert section.count("<img") == 7
    for words in ("sample 1", "sample 2", "mean of all", "agreed on", "made up", "decoder, calibrated"):
        assert words in section
    with zipfile.ZipFile(tmp_path / "out" / "review.mrb") as scene:
        files = " ".join(scene.namelist())
    for words in ("level4_sample_1", "level4_sample_2", "level4_mean", "level4_standard_deviation"):
        assert words in files.replace(" ", "_")
    assert "level2_sample" not in files.replace(" ", "_")
    with pytest.raises(ModelError, match="no generative decoder"):
        make_atlas(tmp_path / "t1.nii.gz", tmp_path / "other", "level2", **options)
    assert not (tmp_path / "other").exists()
