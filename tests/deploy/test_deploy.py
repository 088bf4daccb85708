"""What is in deploy/ says what is so: its commands exist, its limits are there, its scripts run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer.main

from medrecon.cli.app import app
from medrecon.pacs.node.settings import read_settings

Make = Callable[..., np.ndarray]


@pytest.fixture
def deploy(repo: Path) -> Path:
    return repo / "deploy"


def test_the_example_of_a_node_is_read(deploy: Path) -> None:
    settings = read_settings(deploy / "node.toml")
    assert settings.is_local
    assert settings.calling_aets == ("CT1",)


def test_the_container_has_no_root_and_a_health_check(deploy: Path) -> None:
    lines = (deploy / "Containerfile").read_text("utf-8").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if re.match(r"[A-Z]+ ", line)]
    last = max(number for number, step in enumerate(steps) if step[0] == "FROM")
    said = {step[0]: step[1] for step in steps[last:]}
    assert said["USER"] == "10001:10001"
    assert said["EXPOSE"] == "11112"
    assert "HEALTHCHECK" in said
    assert "ADD" not in {step[0] for step in steps}


def test_the_commands_and_options_exist(deploy: Path) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for path in deploy.iterdir():
        said = path.read_text("utf-8")
        for verb, rest in re.findall(r"medrecon (?:--log-json )?(reconstruct|serve|cohort) ([^\n]*)", said):
            known = {flag for option in commands[verb].params for flag in option.opts}
            assert set(re.findall(r"(?<![\w-])--[a-z-]+", rest.split("`")[0])) <= known, path


def test_lock_and_components_are_of_these_versions(repo: Path, deploy: Path) -> None:
    lines = (deploy / "requirements.lock").read_text("utf-8").splitlines()[1:]
    locked = [re.fullmatch(r"([\w.-]+)==(\S+) --hash=sha256:[0-9a-f]{64}", line) for line in lines]
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (repo / "constraints.txt").read_text("utf-8"), re.M))
    plain = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    versions = {match[1].lower().replace("_", "-"): match[2] for match in locked if match}
    assert len(versions) == len(lines) > 40
    assert {name for name, version in versions.items() if version != plain.get(name, version)} == set()
    components = json.loads((deploy / "sbom.json").read_text("utf-8"))["components"]
    assert {each["purl"].rpartition("/")[2] for each in components} == {
        f"{name}@{version}" for name, version in {**versions, "torch": plain["torch"]}.items()
    }


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_unit(deploy: Path) -> None:
    checked = subprocess.run(
        ["systemd-analyze", "verify", deploy / "medrecon.service"], capture_output=True, text=True
    )
    faults = [line for line in checked.stderr.splitlines() if "not executable" not in line]
    assert not [line for line in faults if "medrecon.service" in line and "Unknown" in line]


def test_the_unit_shuts_the_node_in(deploy: Path) -> None:
    unit = (deploy / "medrecon.service").read_text("utf-8")
    asked = ("User=medrecon", "ProtectSystem=strict", "NoNewPrivileges=yes", "UMask=0077")
    assert not [line for line in (*asked, "CapabilityBoundingSet=") if f"\n{line}\n" not in unit]


def fake_medrecon(folder: Path, *more: str) -> dict[str, str]:
    """An environment in which `medrecon` is this checkout's, called with some more words."""
    script = folder / "bin" / "medrecon"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m medrecon "$@" --device cpu {" ".join(more)}\n')
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{script.parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_the_slurm_script_takes_its_study(deploy: Path, tmp_path: Path, make_ct: Make) -> None:
    for name in ("a study", "b"):
        make_ct(tmp_path / "studies" / name)
    environment = {
        **fake_medrecon(tmp_path, "--dry-run"),
        "SLURM_ARRAY_TASK_ID": "0",
        "SLURM_CPUS_PER_TASK": "1",
    }
    done = subprocess.run(
        ["bash", deploy / "slurm.sh", tmp_path / "studies", tmp_path / "out", "input"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "task0" in done.stdout
    wrong = subprocess.run(["bash", deploy / "slurm.sh"], capture_output=True, text=True, env=environment)
    assert wrong.returncode == 2


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("snakemake") is None, reason="no Snakemake here")
def test_snakemake_runs_each_study_once(deploy: Path, tmp_path: Path, make_ct: Make) -> None:
    for name in ("a study", "b"):
        make_ct(tmp_path / "studies" / name)
    environment = fake_medrecon(tmp_path, "--bundle", "slice_transform_code")
    config = [f"studies={tmp_path / 'studies'}", f"out={tmp_path / 'out'}", "layers=input"]
    command = ["snakemake", "-s", deploy / "Snakefile", "--cores", "1", "--config", *config]
    for said in ("2 of 3 steps", "Nothing to be done"):
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout + done.stderr
    assert {path.parent.name for path in (tmp_path / "out").rglob("*.dcm")} >= {"a study", "b"}
