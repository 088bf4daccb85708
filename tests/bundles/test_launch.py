"""`medrecon train`: as the bundle trains by itself, and one of its processes may be killed."""

from __future__ import annotations

import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from medrecon.cli.app import main

from .names import MakeBundle, Scans
from .test_kill import different

KILL = """
+imports:
  - $import os
  - $import signal
  - $from ignite.engine import Events
  - $from pathlib import Path
+initialize:
  - "$@train#trainer.add_event_handler(Events.ITERATION_COMPLETED(once=5), lambda _: (@rank == 1 and not Path('{marker}').exists() and (Path('{marker}').touch() or os.kill(os.getpid(), signal.SIGKILL))))"
"""  # noqa: E501

Run = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def train(capsys: pytest.CaptureFixture[str], small_bundle: MakeBundle, scans: Scans) -> Run:
    """`train(run, words, settings)` -> exit code, data, stderr."""
    bundle = small_bundle("slice_autoencoder")

    def call(run: Path, *words: str, overlay: str = "", **settings: Any) -> tuple[int, dict[str, Any], str]:
        if overlay:
            (bundle / "configs" / "overlay.yaml").write_text(overlay)
        small = {
            "iterations_per_epoch": 2,
            "batch_size": 1,
            "patch_size": [16, 16],
            "val_interval": 2,
            "checkpoint_interval": 1,
            "validate#phantoms#length": 2,
            "phantom_count": 50,
            "max_epochs": 4,
            **settings,
        }
        given = [
            "train",
            str(scans["folder"]),
            str(run),
            "--bundle",
            str(bundle),
            "--device",
            "cpu",
            "--json",
        ]
        given += [word for key, value in small.items() for word in ("--set", f"{key}={json.dumps(value)}")]
        with pytest.raises(SystemExit) as ended:
            main([*given, *(["--overlay", "multi_gpu", "--overlay", "overlay"] if overlay else []), *words])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), json.loads(out), err

    return call


@pytest.mark.slow
def test_a_process_that_is_killed_costs_nothing_but_time(
    train: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    code, data, err = train(tmp_path / "straight", "-n", "2")
    assert code == 0, err
    assert data["attempts"] == 1
    overlay = KILL.format(marker=tmp_path / "killed")
    code, cut, err = train(tmp_path / "cut", "-n", "2", overlay=overlay)
    assert code == 0, err
    assert (tmp_path / "killed").exists()
    assert (cut["attempts"], cut["epochs"], cut["from_epoch"]) == (2, 4, 0)
    assert cut["best"] == data["best"]
    weights = [torch.load(tmp_path / run / "model.pt", weights_only=True) for run in ("straight", "cut")]
    assert different(*weights) == []
    log = (tmp_path / "cut" / "train.log").read_text()
    assert "Epoch: 4/4" in log

    code, again, _ = train(tmp_path / "cut", "-n", "2", overlay=overlay)
    assert (code, again["attempts"], again["from_epoch"]) == (0, 0, 4)
    with pytest.raises(SystemExit) as ended:
        main(["layers", "--bundle", str(tmp_path / "cut")])
    assert not ended.value.code


@pytest.mark.slow
def test_a_run_that_is_handed_on_names_no_scan(train: Run, scans: Scans, tmp_path: Path) -> None:
    (scans["folder"] / "mr.nii.gz").rename(scans["folder"] / "Qwixel_19470131.nii.gz")
    (scans["folder"] / "series").rename(scans["folder"] / "Zorgblatt")
    run = tmp_path / "run"
    settings = {"validation_scans": ["Qwixel*"], "licences": {"Zorgblatt": "MIT"}, "max_epochs": 2}
    for _ in range(2):  # the same command again, on a run that is done
        code, _, err = train(run, "--held-out", "Qwixel*", **settings)
        assert code == 0, err
        for path in (path for path in run.rglob("*") if path.is_file()):
            data = path.read_bytes()
            if data[:2] == b"PK":
                with zipfile.ZipFile(path) as archive:
                    data = b"".join(archive.read(name) for name in archive.namelist())
            for word in (b"qwixel", b"zorgblatt", str(scans["folder"]).encode()):
                assert word not in data.lower(), (path.name, word)
    for name in ("train.log", "settings.json"):
        assert stat.S_IMODE((run / name).stat().st_mode) & 0o077 == 0 or name == "settings.json"
    code, data, _ = train(run, "--held-out", "Zorgblatt", **settings)
    assert code == 5
    assert "other held_out" in data["error"]["message"]


@pytest.mark.slow
def test_its_own_fault_is_one_line(train: Run, tmp_path: Path) -> None:
    code, data, err = train(tmp_path / "run", training_results={"level9": 1})
    assert code == 4
    assert "level9" in data["error"]["message"]
    assert str(tmp_path / "run" / "train.log") in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "run" / "model.pt").exists()


def test_refusals_before_anything_is_started(train: Run, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for words, expected, said in (
        (["--held-out", "nobody*"], 4, "nothing matches the held-out 'nobody*'"),
        (["--overlay", "adversaril"], 4, "did you mean 'adversarial'"),
        (["--set", "max_epoch=3"], 2, "did you mean 'max_epochs'"),
        (["--gpus", "1"], 2, "with --device cpu"),
        (["--nodes", "2"], 2, "need a --cluster"),
        (["--cluster", "slrum"], 2, "did you mean 'slurm'"),
        (["--encoder-weights", "x.pt"], 2, "takes no --encoder-weights"),
    ):
        code, data, _ = train(run, *words)
        assert code == expected, data
        assert said in f"{data['error']['message']} {data['error']['remedy']}", data
        assert not run.exists()
