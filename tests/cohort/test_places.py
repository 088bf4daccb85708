"""Where the workers of a cohort run, and how many there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from medrecon.cohort import places
from medrecon.cohort.places import plan_workers
from medrecon.errors import UsageError


@pytest.fixture
def _slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine from which jobs may be submitted."""
    (tmp_path / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("_slurm")
def test_on_a_cluster() -> None:
    place, cores = plan_workers("auto", cluster="slurm", nodes=3, workers=7, gpus=4)
    assert (place.nodes, place.workers, place.accelerators, cores) == (3, 3, ("0", "1", "2"), 0)
    assert plan_workers("cuda", cluster="slurm", nodes=3)[0].accelerators == ("0",)
    assert plan_workers("cpu", cluster="slurm", nodes=3)[0].workers == 1
    options = ("max_cpu=6", "image=lab/medrecon:1", "address=10.0.0.1", "walltime=1:30:00")
    place, cores = plan_workers("cpu", cluster="kubernetes", cluster_options=options)
    assert cores == 6
    assert place.address == "10.0.0.1"
    assert place.options == {"max_cpu": 6, "image": "lab/medrecon:1", "walltime": "1:30:00"}
    with pytest.raises(UsageError, match="GPU of its own"):
        plan_workers("cuda", cluster="slurm", workers=3, gpus=2)
    with pytest.raises(UsageError, match="use --device cuda"):
        plan_workers("cuda:1", cluster="slurm")


def test_here_they_fit_cores_memory_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "count_cores", lambda: 64)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("M", (), {"available": 9 << 30}))
    assert plan_workers("cpu")[0].workers == 2
    assert plan_workers("cpu", workers=5)[0].workers == 5
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    place, _ = plan_workers("auto")
    assert (place.workers, place.accelerators) == (4, ("0", "1", "2", "3"))
    assert plan_workers("cuda", gpus=2)[0].accelerators == ("0", "1")
    assert plan_workers("auto", workers=1)[0].accelerators == ("0",)
    assert plan_workers("cuda:2")[0].accelerators == ("2",)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7,8,9")
    assert plan_workers("cuda:1")[0].accelerators == ("7",)
