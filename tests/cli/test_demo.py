"""The verb `demo`, with a small bundle on small scans."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medrecon.cli.demo import _control
from medrecon.evaluation import dct_code

from .conftest import Run

Make = Callable[..., np.ndarray]


@pytest.fixture
def samples(tmp_path: Path, make_ct: Make, make_nifti: Make, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "sample_data"
    make_ct(folder / "ct_small", (40, 44, 10))
    make_nifti(folder / "mr_small.nii.gz", (30, 28, 26))
    (folder / "README.md").write_text("about the samples")
    monkeypatch.setattr("medrecon.cli.demo._PLACES", (folder,))
    return folder


@pytest.fixture
def run(medrecon: Run, tiny_bundle: Path, coarse_pictures: None) -> Run:
    """Runs `medrecon demo ... --bundle tiny`, whose pictures are coarse: exit code, stdout, stderr."""
    return lambda *words: medrecon("demo", *words, "--bundle", tiny_bundle, "--device", "cpu")


def test_the_demo(run: Run, samples: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    code, out, err = run(output, "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    names = ["input", "coarse2", "coarse4", "linear DCT"]
    assert [row["result"] for row in data["results"]] == names * 2
    ct = {row["result"]: row for row in data["results"] if row["scan"] == "ct_small"}
    assert ct["input"]["mae"] == 0
    assert ct["input"]["psnr"] is None
    assert ct["coarse2"]["psnr"] > ct["coarse4"]["psnr"] > 10
    assert ct["coarse4"]["values_per_voxel"] == ct["linear DCT"]["values_per_voxel"] == 1 / 64
    assert ct["coarse2"]["units"] == "HU"
    assert json.loads((output / "demo.json").read_text())["results"] == data["results"]
    for picture in data["pictures"]:
        assert Path(picture).read_bytes().startswith(b"\x89PNG")
    assert len(list((output / "ct_small" / "coarse2").glob("*.dcm"))) == 10
    assert (output / "mr_small" / "coarse4.nii.gz").is_file()

    assert run(output)[0] == 5
    code, out, _ = run(output, "--overwrite")
    assert code == 0
    assert "linear DCT" in out
    assert str(output / "ct_small.png") in out


def test_a_bundle_that_names_a_code_is_shown_beside_it(
    run: Run, samples: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    code = shutil.copytree(tiny_bundle, tmp_path / "code")
    with (tiny_bundle / "configs" / "inference.yaml").open("a", encoding="utf-8") as stream:
        stream.write(f"code: {code}\n")
    ended, out, _ = run(tmp_path / "out", "--json")
    assert ended == 0
    rows = {row["result"]: row for row in json.loads(out)["results"] if row["scan"] == "ct_small"}
    assert list(rows) == ["input", "coarse2", "coarse4", "transform code", "linear DCT"]
    assert rows["transform code"]["psnr"] == rows["coarse4"]["psnr"], "the same network under another name"
    assert len(list((tmp_path / "out" / "ct_small" / "transform-code").glob("*.dcm"))) == 10


def test_the_control_gets_what_a_network_gets() -> None:
    values = np.full((16, 16, 16), -3024, np.int16)
    values[4:12] = 50
    assert np.array_equal(_control(values, "HU", 1 / 16), dct_code(np.maximum(values, -1024), 1 / 16))
    assert np.array_equal(_control(values, "", 1 / 16), dct_code(values, 1 / 16))
