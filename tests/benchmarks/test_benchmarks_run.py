"""Each benchmark runs at toy size and says what it measured; no figure is asserted but the exact ones."""

from __future__ import annotations

import json
import subprocess
import sys
import time
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


NAMES = [
    "medrecon",
    "medrecon, float32",
    "medrecon, no network",
    "AutoencoderKL, bfloat16",
    "AutoencoderKL, float32",
]
TOY_PEER = ["--crop", "16", "16", "4", "--roi", "16", "16", "4", "--channels", "4", "4", "4"]


def test_whole_path_compares_its_contestants(
    benchmark: Callable[[str], ModuleType],
    toy_bundle: Callable[[str], Path],
    scans: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script, out = benchmark("whole_path"), tmp_path / "whole.json"
    ran: list[list[str]] = []

    def here(command: list[str | Path]) -> dict[str, Any]:
        """Run a child in this process: five of them would take a minute to import what they need."""
        parts = [str(part) for part in command][len(script.PYTHON) :]
        ran.append(parts)
        capfd.readouterr()
        start = time.perf_counter()
        if parts[0] == "-m":
            from medrecon.cli import app

            app(parts[2:], standalone_mode=False)
        else:
            benchmark(Path(parts[0]).stem).main(parts[1:])
        told = json.loads(capfd.readouterr().out)
        return {"wall": time.perf_counter() - start, "peak_gib": 1.0, "told": told}

    ceilings = {"float32_gflops": 50.0, "bfloat16_gflops": 200.0, "copy_gbs": 10.0, "disk_mbs": 500.0}
    machine = {"machine": benchmark("machine").describe(), "ceilings": ceilings}
    monkeypatch.setattr(script, "measured", here)
    monkeypatch.setattr(script, "machine_of", lambda folder, seconds: machine)
    bundle = str(toy_bundle("volume_autoencoder"))
    toy = [*TOY_PEER, "--patch", "32", "--rounds", "1", "--json", str(out)]
    script.main([str(scans / "ct_chest"), "--bundle", bundle, *toy])
    content = result(out)
    runs = {run["name"]: run for run in content["runs"]}
    assert list(runs) == NAMES
    assert len(ran) == 6
    peer = runs["AutoencoderKL, float32"]
    seen = 1 / (3 * 3 * 2)  # windows of 16 and of 4 voxels, 12 and 3 apart
    assert peer["share"] == pytest.approx(seen)
    # the network's part is scaled by the windows, the rest is not
    assert peer["wall"] == pytest.approx(peer["walls"][0] + peer["network"] * (1 - seen))
    assert content["shape"] == [32, 36, 6]
    assert set(content["stages"]) == {"import", "find", "build", "read", "network", "write"}
    assert content["floor"]["arithmetic"] > 0
    assert "medrecon : AutoencoderKL, bfloat16 = " in capfd.readouterr().out


def test_the_float32_run_uses_the_same_weights_in_float32(
    benchmark: Callable[[str], ModuleType], toy_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    from medrecon.bundle import Bundle

    source = toy_bundle("volume_autoencoder")
    place = source / "configs" / "metadata.json"
    place.write_text(place.read_text("utf-8").replace('"mixed_precision": false', '"mixed_precision": true'))
    assert Bundle.open(source).build("network").mixed_precision is True
    copy = benchmark("whole_path").float32_copy(str(source), tmp_path / "copies")
    network = Bundle.open(copy).build("network")
    assert network.mixed_precision is False
    expected = Bundle.open(source).build("network").state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("shape", [(16, 16, 4), (32, 36, 6), (64, 17, 5), (29, 40, 9)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
def test_windows_are_counted_as_monai_cuts_them(
    benchmark: Callable[[str], ModuleType], shape: tuple[int, int, int], overlap: float
) -> None:
    from monai.inferers import SlidingWindowInferer

    seen = []
    inferer = SlidingWindowInferer((16, 16, 4), sw_batch_size=1, overlap=overlap)
    inferer(torch.zeros(1, 1, *shape), lambda window: seen.append(1) or window)
    assert benchmark("autoencoderkl").count_windows(shape, (16, 16, 4), overlap) == len(seen)


def test_a_measured_process_tells_its_own_peak(benchmark: Callable[[str], ModuleType]) -> None:
    measured = benchmark("whole_path").measured
    code = "import json; block = bytearray(700 << 20); print(json.dumps(len(block)))"
    run = measured([sys.executable, "-c", code])
    assert run["told"] == 700 << 20
    assert run["peak_gib"] > 0.68
    assert run["wall"] > 0
    with pytest.raises(SystemExit, match="exit code 3"):
        measured([sys.executable, "-c", "raise SystemExit(3)"])


@pytest.mark.slow
def test_whole_path_as_it_is_run(toy_bundle: Callable[[str], Path], scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "whole.json"
    toy = [*TOY_PEER, "--seconds", "0.01", "--patch", "32", "--rounds", "1", "--json", str(out)]
    command = [sys.executable, ROOT / "benchmarks" / "whole_path.py", scans / "ct_chest", *toy]
    subprocess.run([*command, "--bundle", toy_bundle("volume_autoencoder")], check=True)
    content = result(out)
    assert [run["name"] for run in content["runs"]] == NAMES
    assert all(0.1 < run["peak_gib"] < 2 for run in content["runs"])


def test_throughput_counts_the_arithmetic(
    benchmark: Callable[[str], ModuleType], toy_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "throughput.json"
    bundles = [str(toy_bundle(name)) for name in ("volume_autoencoder", "slice_autoencoder")]
    toy = ["--seconds", "0.01", "--side", "32", "--matrix", "64", "--json", str(out)]
    peer = ["--peer-channels", "4", "4", "4", "--peer-side", "16"]
    benchmark("throughput").main(["--bundles", *bundles, *toy, *peer])
    rows = result(out)["networks"]
    assert {row["level"] for row in rows} == {*(f"level{k}" for k in range(1, 6)), "1/16"}
    assert {row["times_autoencoderkl"] for row in rows if row["bundle"] == "AutoencoderKL"} == {1}
    assert all(row["megavoxels_per_second"] > 0 for row in rows)
    deep = next(row for row in rows if row["level"] == "level4" and row["bundle"] == "slice_autoencoder")
    shallow = next(row for row in rows if row["level"] == "level1" and row["bundle"] == "slice_autoencoder")
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


def test_the_parent_of_measured_processes_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import whole_path; print(*sorted(sys.modules))"
    command = [sys.executable, "-c", code, str(ROOT / "benchmarks")]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "monai", "numpy", "pydicom"} & set(loaded)


def test_scaling_fits_slopes(
    benchmark: Callable[[str], ModuleType],
    toy_bundle: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, scaling = tmp_path / "scaling.json", benchmark("scaling")
    assert scaling.slope([(x, 3 * x**1.5) for x in (1, 2, 8, 30)]) == pytest.approx(1.5)
    arguments = ["--sides", "24", "40", "--bundle", str(toy_bundle("volume_autoencoder")), "--repeats", "1"]
    scaling.main([*arguments, "--most", "40000", "--json", str(out)])
    told, content = capsys.readouterr().out, result(out)
    assert "time grows as voxels **" in told
    assert [row["voxels"] for row in content["rows"]] == [24**3, 40**3]
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
