"""Each benchmark runs at toy size and says what it measured; no figure is asserted but the exact ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def result(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def test_throughput_counts_the_arithmetic(
    benchmark: Callable[[str], ModuleType], toy_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "throughput.json"
    bundles = [str(toy_bundle(name)) for name in ("volume_transform_code", "slice_transform_code")]
    toy = ["--seconds", "0.01", "--side", "32", "--matrix", "64", "--json", str(out)]
    peer = ["--peer-channels", "4", "4", "4", "--peer-side", "16"]
    benchmark("throughput").main(["--bundles", *bundles, *toy, *peer])
    rows = result(out)["networks"]
    assert {row["level"] for row in rows} == {*(f"level{k}" for k in range(1, 6)), "1/16"}
    assert {row["times_autoencoderkl"] for row in rows if row["bundle"] == "AutoencoderKL"} == {1}
    assert all(row["megavoxels_per_second"] > 0 for row in rows)
    deep = next(row for row in rows if row["level"] == "level4" and row["bundle"] == "slice_transform_code")
    shallow = next(
        row for row in rows if row["level"] == "level1" and row["bundle"] == "slice_transform_code"
    )
    # level1 is an orthonormal transform of blocks of 256 pixels, and its inverse
    assert shallow["flop_per_voxel"] == 2 * (256 + 256)
    assert deep["flop_per_voxel"] > shallow["flop_per_voxel"]


def test_arithmetic_is_that_of_the_convolution(benchmark: Callable[[str], ModuleType]) -> None:
    class Network(torch.nn.Conv2d):
        def forward(self, image: torch.Tensor, layers: str) -> torch.Tensor:
            return super().forward(image)

    network = Network(1, 5, 3, padding=1, bias=False)
    flops = benchmark("throughput").count_flops(network, torch.zeros(1, 1, 8, 8), "any")
    assert flops == 2 * 5 * 9 * 64


@pytest.mark.slow
def test_scaling_fits_slopes(
    benchmark: Callable[[str], ModuleType],
    toy_bundle: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, scaling = tmp_path / "scaling.json", benchmark("scaling")
    points = [(x, 3 * x**1.5) for x in (1, 2, 8, 30)]
    assert scaling.slope(points) == pytest.approx(1.5)
    assert scaling.slope([(0.5, 0), *points]) == pytest.approx(1.5)  # no memory beyond that of the start
    assert math.isnan(scaling.slope(points[:1]))
    arguments = [
        "--sizes",
        "24x24x24",
        "32x40x48",
        "--bundle",
        str(toy_bundle("volume_autoencoder")),
        "--repeats",
        "1",
    ]
    scaling.main([*arguments, "--most", "40000", "--json", str(out)])
    told, content = capsys.readouterr().out, result(out)
    assert "time grows as voxels **" in told
    assert [row["voxels"] for row in content["rows"]] == [24**3, 32 * 40 * 48]
    assert [row["size"] for row in content["rows"]] == [[24, 24, 24], [32, 40, 48]]
    assert "| 32x40x48 | 0.06 |" in told
    assert all(row["seconds"] > 0 for row in content["rows"])
    assert set(content["slopes"]) == {"seconds", "processor_seconds", "peak_gib"}


def test_everything_runs_each_once_and_says_which_failed(
    benchmark: Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script, out = benchmark("everything"), tmp_path / "out"
    plans = script.plan(tmp_path, tmp_path / "ct", out, 40)
    for name, words in plans.items():
        source = (ROOT / "benchmarks" / words[0]).read_text()
        for option in (word for word in words if word.startswith("--")):
            assert f'"{option}"' in source or (option == "--json" and "parser_for(" in source), name
    monkeypatch.setattr(script, "HERE", tmp_path)
    (tmp_path / "good.py").write_text("print('| found | 7 |')")
    (tmp_path / "bad.py").write_text("raise SystemExit(3)")
    toys = {"good": ["good.py"], "bad": ["bad.py"]}
    monkeypatch.setattr(script, "plan", lambda *_: toys)
    words = [str(tmp_path), str(tmp_path / "ct"), "--output", str(out)]
    with pytest.raises(SystemExit) as failed:
        script.main(words)
    assert failed.value.code == 1
    assert {name: each["exit_code"] for name, each in result(out / "summary.json").items()} == {
        "good": 0,
        "bad": 3,
    }
    assert "| found | 7 |" in (out / "summary.md").read_text()
    (tmp_path / "good.py").write_text("raise SystemExit(4)")
    (tmp_path / "bad.py").write_text("print('mended')")
    script.main(words)
    page = (out / "summary.md").read_text()
    assert "mended" in page
    assert "| found | 7 |" in page, "what was done stays"
    with pytest.raises(SystemExit):
        script.main([*words, "--only", "nothing"])
    assert "no benchmark nothing" in capsys.readouterr().err
