"""A job over the tiny bundle, for this process and for workers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from medrecon.cohort.heartbeat import Lease
from medrecon.cohort.records import Ledger
from medrecon.cohort.settings import Settings, examine, fingerprint
from medrecon.cohort.studies import Study, plan_studies
from medrecon.cohort.work import Job

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def settings(tiny_bundle: Path) -> Settings:
    """The tiny bundle, one layer."""
    return Settings(bundle=str(tiny_bundle), layers="coarse2", device="cpu")


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[[Settings], Job]:
    """A job in `tmp_path/out`, held by this process."""

    def make(settings: Settings) -> Job:
        settings = examine(settings)
        ledger = Ledger(tmp_path / "out", fingerprint(settings))
        ledger.state.mkdir(parents=True, exist_ok=True)
        return Job(settings, ledger.output, ledger.settings, Lease.of_this_process(ledger.state))

    return make


@pytest.fixture
def one_study(tmp_path: Path) -> Callable[[str], Study]:
    """The study of a path in `tmp_path`."""
    return lambda name: plan_studies(_list_of(tmp_path, [name]), tmp_path / "out").studies[0]


def _list_of(folder: Path, names: list[str]) -> Path:
    place = folder / "list.txt"
    place.write_text("\n".join(names))
    return place


@pytest.fixture
def workers_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let worker processes import tests/tiny_parts.py and this checkout's package."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
