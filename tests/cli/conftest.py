"""What tests of the command line share: the command run in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from medrecon.cli.app import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def medrecon(capsys: pytest.CaptureFixture[str]) -> Run:
    """`medrecon("scans", folder, "--json")` -> exit code, stdout, stderr of the command in this process."""

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run
