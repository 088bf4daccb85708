"""The scores of a scan survive JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from medrecon.evaluation.scores import (
    Control,
    Finding,
    FindingKept,
    LayerScore,
    RegionError,
    ScanScores,
    Spectrum,
    Told,
)
from medrecon.evaluation.scores_json import from_json, to_json

LAYER = LayerScore(
    layer="level3",
    channels=16,
    stride=(4, 4, 4),
    values_per_voxel=0.25,
    bits_per_voxel=1.2,
    mae=10.0,
    rmse=14.0,
    bias=-0.5,
    psnr=49.0,
    ssim=0.97,
    ms_ssim=0.99,
    normalised_error=0.05,
    data_range=4095.0,
    regions={"lung": RegionError(10, 5.0, 6.0, 1.0)},
    spectrum=Spectrum((0.1, 0.2), (0.0, 0.6), 0.2),
    there=Control("level3", math.inf, 1.0, 0.0),
    controls=(Control("mean image", 12.0, 0.2, 400.0), Control("identity", math.inf, 1.0, 0.0)),
    codecs={"JPEG 2000": 0.5, "JPEG-LS": None},
    consistency=0.1,
    coverage=0.9,
    interval=20.0,
    seconds=1.0,
    findings={"nodule": FindingKept(40.0, 0.8, 0.7, 0.9, None, 8.0)},
    told=Told(0.8, 0.7, None, 0.5, 0.5, 2, 900),
)
SCAN = ScanScores(
    key="abc123",
    label="CT chest",
    modality="CT",
    units="HU",
    shape=(4, 5, 6),
    spacing=(0.7, 0.7, 2.5),
    window=(-160.0, 240.0),
    noise=12.5,
    layers=(LAYER,),
    codec_curves={"JPEG 2000": ((0.1, 30.0), (1.0, 45.0))},
    facts={"model": "m 1"},
    warnings=("one",),
    findings=(Finding("nodule", 12, (1.0, 2.0, 3.0), 50.0, 9.0, 3.0),),
)


def test_scores_come_back_from_json():
    text = json.dumps(to_json(SCAN), allow_nan=False)
    assert from_json(json.loads(text)) == SCAN


def test_what_json_cannot_hold_is_null_and_comes_back():
    layer = replace(LAYER, psnr=math.inf, ms_ssim=math.nan)
    text = json.dumps(to_json(replace(SCAN, layers=(layer,))), allow_nan=False)
    assert json.loads(text)["layers"][0]["psnr"] is None
    back = from_json(json.loads(text)).layers[0]
    assert back.psnr == math.inf
    assert math.isnan(back.ms_ssim)


@pytest.mark.parametrize("broken", [{"format": "other"}, {"layers": [{"layer": "x"}]}, {"layers": None}])
def test_what_is_no_scan_is_refused(broken):
    with pytest.raises(ValueError, match=r"format|not the scores"):
        from_json({**to_json(SCAN), **broken})
