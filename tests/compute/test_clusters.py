"""Where workers come from."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from medrecon.compute.clusters import Place, check_cluster, pool_command, provider_of
from medrecon.errors import UsageError


@pytest.fixture
def batch_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of Slurm and PBS, which do nothing."""
    for name in ("sbatch", "squeue", "sacct", "scancel", "qsub", "qstat"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_a_cluster_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    check_cluster("local")
    check_cluster("kubernetes")
    with pytest.raises(UsageError, match="did you mean 'slurm'"):
        check_cluster("slrum")
    for cluster, command in (("slurm", "sbatch"), ("pbs", "qsub")):
        with pytest.raises(UsageError, match=f"needs the command '{command}'"):
            check_cluster(cluster)


@pytest.mark.usefixtures("batch_system")
def test_each_node_is_a_job_and_options_go_to_the_provider() -> None:
    check_cluster("slurm")
    place = Place("slurm", 3, 4, ("0", "1"), {"partition": "gpu", "walltime": "01:00:00"})
    provider = provider_of(place)
    assert (provider.init_blocks, provider.max_blocks, provider.nodes_per_block) == (3, 3, 1)
    assert (provider.partition, provider.walltime) == ("gpu", "01:00:00")
    assert "gpus-per-node=2" in provider.scheduler_options
    provider = provider_of(Place("pbs", 2, 1, ("0",), {"queue": "long"}))
    assert (provider.queue, provider.select_options, provider.walltime) == ("long", "ngpus=1", "04:00:00")
    local = provider_of(Place())
    assert (local.init_blocks, local.max_blocks) == (1, 1)


@pytest.mark.usefixtures("batch_system")
def test_options_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match=r"no such option: did you mean 'partition'"):
        provider_of(Place("slurm", options={"partitoin": "x"}))
    with pytest.raises(UsageError, match="cannot be used"):
        provider_of(Place("kubernetes"))  # no image, or no module kubernetes


def test_containers_bring_their_own_python() -> None:
    assert pool_command(Place("kubernetes")).startswith("python3 -m parsl.")
    words = shlex.split(pool_command(Place("slurm")))
    assert len(words) == 2
    assert all(Path(word).is_absolute() and Path(word).is_file() for word in words)
