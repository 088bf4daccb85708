"""The benchmark of the ways to invert runs at toy size, goes on where it stopped, and flags what is odd."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

METHODS = {
    *("decoder", "optimisation", "decode, then refine"),
    *("random weights", "other features", "mean image"),
}


def test_every_method_and_control_is_measured_once(
    benchmark: Callable[[str], ModuleType],
    toy_bundle: Callable[[str], Path],
    scans: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script, out = benchmark("inversion_methods"), tmp_path / "methods.json"
    sizes = ["--size", "16", "--slices", "2", "--steps", "3", "--refining", "2"]
    arguments = [str(scans), "--bundle", str(toy_bundle("slice_autoencoder")), "--layers", "level3", *sizes]
    arguments += ["--held-out", "ct_chest", "mr_head*", "--json", str(out)]
    script.main(arguments)
    told, content = capsys.readouterr().out, json.loads(out.read_text("utf-8"))
    assert "| level3 | decode, then refine |" in told
    rows = content["rows"]
    assert len(rows) == 2 * 2 * len(METHODS)
    assert {row["method"] for row in rows} == METHODS
    assert {row["modality"] for row in rows} == {"CT", "MR"}
    for row in rows:
        assert row["seconds"] > 0
        assert row["mae"] > 0
        assert row["normalised_error"] > 0
        assert row.get("steps", 0) <= 3
    by_place = {(row["scan"], row["index"], row["method"]): row["psnr"] for row in rows}
    for (scan, index, method), psnr in by_place.items():
        if method == "decoder":
            assert psnr > by_place[scan, index, "other features"]

    def never(*arguments: object) -> None:
        raise RuntimeError("measured again")

    monkeypatch.setattr(script, "measure", never)
    script.main(arguments)
    with pytest.raises(RuntimeError, match="measured again"):
        script.main([*arguments, "--steps", "4"])


def test_without_a_decoder_the_rest_is_measured(
    benchmark: Callable[[str], ModuleType], toy_bundle: Callable[[str], Path], scans: Path, tmp_path: Path
) -> None:
    out = tmp_path / "methods.json"
    arguments = [str(scans), "--bundle", str(toy_bundle("volume_autoencoder")), "--layers", "level3+level4"]
    arguments += ["--size", "16", "--steps", "2", "--refining", "2", "--no-decoder", "--json", str(out)]
    benchmark("inversion_methods").main([*arguments, "--held-out", "mr_head*"])
    rows = json.loads(out.read_text("utf-8"))["rows"]
    assert {row["method"] for row in rows} == METHODS - {"decoder", "decode, then refine"}
    assert len(rows) == len(METHODS) - 2


def test_controls_that_come_too_near_are_flagged(benchmark: Callable[[str], ModuleType]) -> None:
    figures = {"decoder": 25.0, "optimisation": 20.4, "decode, then refine": 24.0}
    controls = {"random weights": 19.0, "other features": 15.0, "mean image": 20.0}
    rows = [{"layer": "a", "method": name, "psnr": psnr} for name, psnr in (figures | controls).items()]
    said = benchmark("inversion_methods").flags(rows, ["a"])
    assert said == [
        "a: optimisation is not 1 dB above mean image",
        "a: refining made the decoder's image worse",
    ]
