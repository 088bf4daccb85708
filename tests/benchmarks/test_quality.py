"""The table of quality runs at toy size; what it is made of gives the figures that it must."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from medrecon.encoders import DeepbetEncoder

Script = Callable[[str], ModuleType]


@pytest.fixture
def readable(scans: Path) -> Path:
    """The scans without the one that is refused."""
    for file in (scans / "ct_gap").iterdir():
        file.unlink()
    return scans


def run(script: ModuleType, out: Path, arguments: list[str]) -> dict[str, Any]:
    script.main([*arguments, "--output", str(out)])
    content: dict[str, Any] = json.loads((out / "quality.json").read_text("utf-8"))
    return content


@pytest.mark.slow
def test_one_command_makes_every_table(
    benchmark: Script, toy_bundle: Callable[[str], Path], readable: Path, tmp_path: Path
) -> None:
    bundles = [str(toy_bundle(name)) for name in ("volume_autoencoder", "slice_autoencoder")]
    codes = [str(toy_bundle(name)) for name in ("volume_transform_code", "slice_transform_code")]
    peers, out = [str(tmp_path / "peer_3d"), str(tmp_path / "peer_2d")], tmp_path / "out"
    training = ["--minutes", "0.002", "--epoch", "2", "--batch", "1", "--held-out", "mr_*"]
    for peer, bundle, dims in zip(peers, bundles, (3, 2), strict=True):
        plan = ["--channels", *["4"] * (6 - dims), "--patch", *["16"] * dims, "--bundle", bundle]
        benchmark("train_autoencoderkl").main([str(readable), peer, *training, *plan])
    judge = tmp_path / "judge.pt"
    torch.save(DeepbetEncoder().state_dict(), judge)
    twin = f"volume_autoencoder={bundles[0]}/models/model.pt"
    arguments = [str(readable), "--bundles", *bundles, "--held-out", "mr_*", "ct_said*", "--codes", *codes]
    arguments += ["--autoencoderkl", *peers, "--no-throughput", "--twin", twin, "--judge", str(judge)]
    content = run(benchmark("quality"), out, arguments)
    assert content["klt_fitted_on"] == ["ct_chest"]
    assert {row["scan"]: row["modality"] for row in content["rows"]} == {
        "ct_said_by_name": "CT",
        "mr_head": "MR",
    }
    rows = {(row["scan"], row["dims"], row["code"], row["result"]): row for row in content["rows"]}
    # the input and five levels of each; start, DCT, KLT, code and its linear part of four; a twin; the peers
    assert len(rows) == len(content["rows"]) == 2 * (2 * (6 + 5 * 4) + 4 + 2)
    for (scan, dims, code, result), row in rows.items():
        if code == "medrecon" and result in ("input", "level1"):
            assert row["max_error"] == 0
            assert row["psnr"] is None  # infinite
            continue
        assert 0 <= row["ms_ssim"] <= 1
        assert result == "input" or 0 <= row["perceptual"] < 2
        assert row["psnr"] < 120
        if code == "adaptive linear code":
            assert row["measured"] <= row["values_per_voxel"] * 1.3  # whole blocks of small scans
            # the decoder is untrained: it adds nothing
            assert row["psnr"] == pytest.approx(rows[scan, dims, "transform code", result]["psnr"], abs=0.02)
        if code in ("linear start", "pixels alone"):
            # nor does the network of the hierarchy; the twin has the very same weights
            ours = rows[scan, dims, "medrecon", result]
            assert row["psnr"] == pytest.approx(ours["psnr"], abs=0.02)
            assert row["perceptual"] == pytest.approx(ours["perceptual"], rel=0.05)
    assert {(row["level"], row["bundle"]) for row in content["bits"]} == {
        (level, Path(bundle).name) for level in ("level4", "level5") for bundle in bundles
    }
    # level5 of the hierarchy is a single position of these scans
    assert all(row["bits_per_voxel"] > 0 for row in content["bits"] if row["level"] == "level4")
    assert len(content["worst"]) == 4
    told = (out / "quality.md").read_text("utf-8")
    for heading in ("Aims", "Means", "level5, scan by scan", "same bits per voxel", "Noise"):
        assert heading in told
    assert not any("not exact" in flag for flag in content["flags"])
    for bundle in bundles:
        picture = out / f"worst_{Path(bundle).name}_level4.png"
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_scans_can_be_chosen_and_cropped_and_a_pattern_that_matches_nothing_is_refused(
    benchmark: Script, toy_bundle: Callable[[str], Path], scans: Path, tmp_path: Path
) -> None:
    quality, out = benchmark("quality"), tmp_path / "out"
    bundle = str(toy_bundle("slice_autoencoder"))
    arguments = [str(scans), "--bundles", bundle, "--crop", "16", "16", "4", "--no-throughput", "--no-klt"]
    content = run(quality, out, [*arguments, "--held-out", "*", "--only", "mr_*", "ct_gap"])
    assert {row["scan"] for row in content["rows"]} == {"mr_head"}
    assert {tuple(row["shape"]) for row in content["rows"]} == {(16, 16, 4)}
    assert len(content["refused"]) == 1
    assert "ct_gap" in content["refused"][0]
    with pytest.raises(SystemExit, match=r"matches --held-out 'nothing_\*'"):
        quality.main([*arguments, "--held-out", "nothing_*"])


def test_flags_what_needs_an_explanation(benchmark: Script) -> None:
    flags = benchmark("quality").flags
    row = {"code": "medrecon", "dims": 3, "scan": "s", "units": "HU", "max_error": 1.0}
    rows = [
        {**row, "result": "input", "psnr": 90.0},
        {**row, "result": "level1", "psnr": None},
        {**row, "result": "level2", "psnr": 40.0},
        {**row, "result": "level3", "psnr": 41.0},
        {**row, "result": "level3", "psnr": 41.5, "code": "DCT"},
        {
            **row,
            "result": "level3",
            "psnr": 40,
            "code": "adaptive linear code",
            "measured": 0.2,
            "values_per_voxel": 0.1,
        },
    ]
    assert [text.split(": ")[1] for text in flags(rows)] == [
        "input is not exact (largest error 1 HU)",
        "level3 is below the DCT",
        "level3 keeps more than level2",
        "level3 spends 2.00 times its values",
    ]


def test_error_by_frequency_is_where_it_was_put(benchmark: Script) -> None:
    scoring = benchmark("scoring")
    rng = np.random.default_rng(0)
    values = rng.normal(size=(64, 64, 32)).astype(np.float32)
    volume = scoring.Volume("noise", "MR", "", values, (1.0, 1.0, 1.0))
    wave = np.cos(2 * np.pi * 12 / 64 * np.arange(64))[:, None, None]  # 0.19 cycles per voxel
    lost = scoring.error_by_frequency(volume, values + 3 * wave, 3)
    assert lost[3] > 100 * max(lost[:3] + lost[4:])
    assert scoring.error_by_frequency(volume, values, 3) == [0.0] * 5
    nothing = scoring.error_by_frequency(volume, np.zeros_like(values), 2)
    assert nothing[1:] == pytest.approx([1.0] * 4, abs=0.01)


def test_noise_is_found_under_structure_and_beside_a_flat_background(benchmark: Script) -> None:
    chance = np.random.default_rng(0)
    x, y, z = np.meshgrid(*[np.linspace(0, 6, n) for n in (60, 50, 41)], indexing="ij")
    clean = 300 * np.sin(x) * np.cos(y) + 50 * z
    estimate = benchmark("bounds").estimate_noise
    found = estimate(np.rint(clean + chance.normal(0, 7, clean.shape)))
    assert found.sigma == pytest.approx(7, rel=0.03)
    assert found.share == 1
    half = clean + chance.normal(0, 7, clean.shape)
    half[:30] = 0
    found = estimate(half)
    assert found.sigma == pytest.approx(7, rel=0.03)
    assert found.share == pytest.approx(0.5, abs=0.01)
    one = estimate(half[30:, :, :1])
    assert one.sigma == pytest.approx(7, rel=0.1)
    assert estimate(np.zeros((8, 8, 8))).share == 0
    noise = benchmark("bounds").Noise
    assert noise(10, 1).bound(1000, 0) == pytest.approx(40)
    assert noise(10, 1).bound(1000, 0.9) == pytest.approx(50)
    assert math.isinf(noise(10, 0.5).bound(1000, 0.5))


def test_no_low_frequencies_beat_the_bound_on_pure_noise(benchmark: Script) -> None:
    from medrecon.evaluation import dct_code

    noise = np.random.default_rng(0).normal(0, 10, (64, 64, 64))
    error = noise - dct_code(noise, 1 / 16, 16)
    bound = benchmark("bounds").estimate_noise(noise).bound(1000, 1 / 16)
    assert 10 * math.log10(1e6 / np.square(error).mean()) == pytest.approx(bound, abs=0.1)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_klt_beats_the_dct_on_what_it_was_fitted_on_and_all_of_it_is_exact(
    benchmark: Script, dims: int
) -> None:
    peers, scoring = benchmark("peers"), benchmark("scoring")
    chance = np.random.default_rng(0)
    texture = np.cumsum(chance.normal(size=(48, 50, 32)), axis=0) + chance.normal(size=(1, 50, 1)) * 3
    volume = scoring.Volume("a", "MR", "", texture.astype(np.float32), (1.0, 1.0, 1.0))
    klt = peers.KLT(dims, [volume.values])
    assert klt.basis[0].std() < 1e-6  # the mean

    def error(recon: np.ndarray) -> float:
        return float(np.square(recon - volume.values).mean())

    assert error(klt.code(volume, 1)) < 1e-6
    assert error(klt.code(volume, 1 / 16)) < error(scoring.low_frequencies(volume, dims, 1 / 16))


def test_psnr_of_a_codec_at_a_rate(benchmark: Script) -> None:
    psnr_at = benchmark("bits").psnr_at
    curve = ((0.1, 30.0), (0.4, 40.0), (0.8, 45.0))
    assert psnr_at(curve, 0.2) == pytest.approx(35)
    assert psnr_at(curve, 0.8) == pytest.approx(45)
    assert psnr_at(curve, 0.05) is None
    assert psnr_at((), 0.2) is None


def test_what_was_not_kept_stays_zero_at_8_bits(benchmark: Script) -> None:
    code = benchmark("bits").KeepsZeros()
    features = {"level4": torch.tensor([[[0.0, -3.0, 5.0, 0.01]]])}
    code.take_range(features)
    rounded = code.quantise(features)["level4"]
    assert rounded[0, 0, 0] == 0
    assert torch.allclose(rounded, features["level4"], atol=8 / 255)


def test_the_worst_place_is_where_the_error_is(benchmark: Script, tmp_path: Path) -> None:
    scoring, worst = benchmark("scoring"), benchmark("worst")
    source = np.zeros((120, 110, 30), np.float32)
    recon = source.copy()
    recon[80:90, 20:30, 12] = 5
    volume = scoring.Volume("a", "MR", "", source, (1.0, 1.0, 3.0))
    for dims in (2, 3):
        place = worst.find_worst(volume, recon, dims, 10.0, (0.0, 10.0))
        within = tuple(slice(a, b) for a, b in zip(place.start, place.stop, strict=True))
        assert (recon[within] == 5).sum() == 100
        assert place.recon.shape == (96, 96)
        assert (place.recon == 5).sum() == 100
        left, top = place.corner
        assert (place.recon[left : left + 24, top : top + 24] == 5).sum() == 100
    worst.draw([place], "title", tmp_path / "worst.png")


def test_autoencoderkl_goes_on_from_its_checkpoint(
    benchmark: Script, toy_bundle: Callable[[str], Path], readable: Path, tmp_path: Path
) -> None:
    script, run_folder = benchmark("train_autoencoderkl"), tmp_path / "run"
    arguments = [str(readable), str(run_folder), "--bundle", str(toy_bundle("volume_autoencoder"))]
    arguments += ["--channels", "4", "4", "4", "--epoch", "1", "--patch", "16", "16", "16", "--batch", "1"]
    arguments += ["--held-out", "mr_*"]
    script.main([*arguments, "--minutes", "0.002"])
    before = json.loads((run_folder / "autoencoderkl.json").read_text("utf-8"))
    more = before["minutes"] + 0.01  # on a busy machine the first two steps alone may take long
    script.main([*arguments, "--minutes", str(more)])
    after = json.loads((run_folder / "autoencoderkl.json").read_text("utf-8"))
    assert after["steps"] > before["steps"]
    assert after["minutes"] >= more
    assert (run_folder / "model.pt").is_file()
