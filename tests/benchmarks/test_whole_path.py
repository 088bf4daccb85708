"""One scan's whole way beside other networks, at toy size."""

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


OURS = ["medrecon", "medrecon, float32", "medrecon, no network"]
PEERS = ["AutoencoderKL, bfloat16", "AutoencoderKL, float32", "MedVAE, bfloat16", "MedVAE, float32"]
TOY_PEER = ["--crop", "16", "16", "4", "--roi", "16", "16", "4", "--channels", "4", "4", "4"]


@pytest.fixture
def whole_path(
    benchmark: Callable[[str], ModuleType],
    toy_bundle: Callable[[str], Path],
    scans: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[dict[str, Any], str]]:
    """Runs the benchmark in this process, with these options -> its JSON, what it printed after the runs."""
    script, out = benchmark("whole_path"), tmp_path / "whole.json"

    def here(command: list[str | Path]) -> dict[str, Any]:
        """Run a child in this process: each would take ten seconds to import what it needs."""
        parts = [str(part) for part in command][len(script.PYTHON) :]
        capfd.readouterr()
        start = time.perf_counter()
        if parts[0] == "-m":
            from medrecon.cli.app import app

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
    toy = [*TOY_PEER, "--patch", "32", "--rounds", "1", "--json", str(out), "--bundle", bundle]

    def run(*more: str) -> tuple[dict[str, Any], str]:
        script.main([str(scans / "ct_chest"), *toy, *more])
        return result(out), capfd.readouterr().out

    return run


@pytest.mark.slow
@pytest.mark.usefixtures("medvae_stand_in")
def test_whole_path_compares_its_contestants(
    whole_path: Callable[..., tuple[dict[str, Any], str]],
) -> None:
    content, printed = whole_path()
    runs = {run["name"]: run for run in content["runs"]}
    assert list(runs) == [*OURS, *PEERS]
    seen = 1 / (3 * 3 * 2)  # windows of 16 and of 4 voxels, 12 and 3 apart
    for name in PEERS:
        assert runs[name]["share"] == pytest.approx(seen)
        # the network's part is scaled by the windows, the rest is not
        scaled = runs[name]["walls"][0] + runs[name]["network"] * (1 - seen)
        assert runs[name]["wall"] == pytest.approx(scaled)
        assert f"| {name} (from 1 of 18 windows) |" in printed
    assert runs["MedVAE, float32"]["source"] == "medvae 0.0"
    assert content["shape"] == [32, 36, 6]
    assert set(content["stages"]) == {"import", "find", "build", "read", "network", "write"}
    assert content["floor"]["arithmetic"] > 0
    assert "medrecon : AutoencoderKL, bfloat16 = " in printed
    assert "medrecon, float32 : MedVAE, float32 = " in printed
    assert "not measured" not in printed


def test_a_network_that_is_not_installed_is_said_in_one_line(
    whole_path: Callable[..., tuple[dict[str, Any], str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "medvae", None)
    content, printed = whole_path("--peers", "medvae")
    assert [run["name"] for run in content["runs"]] == OURS
    (line,) = (line for line in printed.splitlines() if "MedVAE" in line)
    assert "not measured, needs pip install --no-deps medvae==0.1.7 einops" in line


def test_the_float32_run_uses_the_same_weights_in_float32(
    benchmark: Callable[[str], ModuleType], toy_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    from medrecon.bundle.config import Bundle

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
    assert benchmark("sliding_window").count_windows(shape, (16, 16, 4), overlap) == len(seen)


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
    toy = [
        *TOY_PEER,
        "--peers",
        "autoencoderkl",
        "--seconds",
        "0.01",
        "--patch",
        "32",
        "--rounds",
        "1",
        "--json",
        str(out),
    ]
    command = [sys.executable, ROOT / "benchmarks" / "whole_path.py", scans / "ct_chest", *toy]
    subprocess.run([*command, "--bundle", toy_bundle("volume_autoencoder")], check=True)
    content = result(out)
    assert [run["name"] for run in content["runs"]] == [*OURS, *PEERS[:2]]
    assert all(0.1 < run["peak_gib"] < 2 for run in content["runs"])


def test_the_parent_of_measured_processes_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import whole_path; print(*sorted(sys.modules))"
    command = [sys.executable, "-c", code, str(ROOT / "benchmarks")]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "monai", "numpy", "pydicom"} & set(loaded)
