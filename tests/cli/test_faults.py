"""From exceptions to one line and an exit code."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from medrecon.cli.faults import Fault, fault_of, one_line
from medrecon.errors import MedreconError, ModelError, OutOfMemoryError, OutputError, UsageError
from medrecon.io.scan import ScanError


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (MedreconError, 7),
        (UsageError, 2),
        (ScanError, 3),
        (ModelError, 4),
        (OutputError, 5),
        (OutOfMemoryError, 6),
    ],
)
def test_our_errors_keep_their_parts(kind: type[MedreconError], code: int) -> None:
    fault = fault_of(kind("is broken", path="scan.nii", remedy="mend it"))
    assert fault == Fault("scan.nii", "is broken", "mend it", code)
    assert fault.line() == "scan.nii: is broken; mend it"


def test_our_error_is_found_in_what_a_library_made_of_it() -> None:
    ours = ScanError("has a gap", path=Path("series"))
    wrapped = RuntimeError("applying transform LoadImaged")
    wrapped.__cause__ = ours
    twice = RuntimeError("instantiating Dataset")
    twice.__cause__ = wrapped
    assert fault_of(twice) == Fault("series", "has a gap", "", 3)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), 6),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), 6),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"), 6),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 6),
        (OSError(errno.ENOSPC, "No space left on device", "out/a.dcm"), 5),
        (OSError(errno.EROFS, "Read-only file system"), 5),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("division by zero"), 7),
        (RuntimeError("the shapes differ"), 7),
    ],
)
def test_other_exceptions(error: BaseException, code: int) -> None:
    fault = fault_of(error)
    assert fault.exit_code == code
    assert "\n" not in fault.line()
    assert fault.line()


def test_a_line_cannot_steer_the_terminal() -> None:
    assert one_line("a\nb\tc \x1b[31mred\u202e") == "a b c ?[31mred?"
