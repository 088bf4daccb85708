"""The filter of system calls for each kind of machine: by the kernel's headers, and carried out by steps."""

from __future__ import annotations

import errno
import os
import re
import struct
from pathlib import Path

import pytest

from medrecon.io.dicom.reading import confinement as filter_of

HEADERS = {
    "x86_64": (
        "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
        "/usr/include/asm/unistd_64.h",
    ),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),  # ARM64 takes the numbers that new machines share
}
ARCHITECTURES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}
THREADS, FILES = 0x3D0F00, os.O_RDONLY | os.O_CLOEXEC


def numbers_in(text: str) -> dict[str, int]:
    found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)
    return {name: int(number) for name, number in found}


def listed(column: int) -> dict[str, int]:
    entries = [entry.split() for entry in (filter_of.FORBIDDEN + "," + filter_of.ABSENT).split(",")]
    special = {"open": filter_of.OPEN, "openat": filter_of.OPENAT, "clone": filter_of.CLONE,
               "ioctl": filter_of.IOCTL, "tgkill": filter_of.TGKILL}  # fmt: skip
    numbers = {name: found[column] for name, *found in entries if found[column] != "-"}
    numbers |= {name: str(found[column]) for name, found in special.items() if found[column] >= 0}
    return {name: int(number) for name, number in numbers.items()}


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_are_the_kernels(machine: str) -> None:
    place = next((Path(path) for path in HEADERS[machine] if Path(path).is_file()), None)
    if place is None:
        pytest.skip("no headers of the kernel here: install linux-libc-dev")
    kernels = numbers_in(place.read_text())
    assert len(kernels) > 250
    column, _ = filter_of.MACHINES[machine]
    unknown = {"fchmodat2"}  # younger than some headers
    ours = {name: number for name, number in listed(column).items() if name in kernels or name not in unknown}
    assert ours == {name: kernels.get(name) for name in ours}
    absent = set(listed(1 - column)) - set(listed(column)) - {"open"}
    assert machine == "x86_64" or not absent & set(kernels), "left out, but there is such a call"


@pytest.mark.parametrize("machine", HEADERS)
def test_the_machines_are_the_kernels(machine: str) -> None:
    place = Path("/usr/include/linux/elf-em.h")
    if not place.is_file():
        pytest.skip("no headers of the kernel here: install linux-libc-dev")
    number = int(re.search(rf"#define {ARCHITECTURES[machine]}\s+(\d+)", place.read_text())[1])
    assert filter_of.MACHINES[machine][1] == 0xC0000000 | number, "of 64 bits, little endian (linux/audit.h)"


def decide(machine: str, number: int, *arguments: int, audit: int | None = None) -> int:
    """What the filter answers: its instructions carried out one by one (linux/bpf_common.h)."""
    column, ours = filter_of.MACHINES[machine]
    data = struct.pack(
        "<iIQ6Q", number, ours if audit is None else audit, 0, *arguments, *[0] * (6 - len(arguments))
    )
    steps = filter_of._program(column, ours)
    held, at = 0, 0
    while True:
        code, yes, no, value = steps[at]
        at += 1
        if code == filter_of.LOAD:
            (held,) = struct.unpack_from("<I", data, value)
        elif code == filter_of.RETURN:
            return value
        else:
            holds = {filter_of.EQUAL: held == value, filter_of.AT_LEAST: held >= value,
                     filter_of.ANY_BIT: bool(held & value)}[code]  # fmt: skip
            at += yes if holds else no


@pytest.mark.parametrize("machine", HEADERS)
def test_what_is_forbidden_and_what_is_not(machine: str) -> None:
    column, _ = filter_of.MACHINES[machine]
    for number in filter_of._numbers(filter_of.FORBIDDEN, column):
        assert decide(machine, number) == 0x50000 | errno.EPERM
    for number in filter_of._numbers(filter_of.ABSENT, column):
        assert decide(machine, number) == 0x50000 | errno.ENOSYS
    openat, clone, ioctl, tgkill = (
        call[column] for call in (filter_of.OPENAT, filter_of.CLONE, filter_of.IOCTL, filter_of.TGKILL)
    )
    assert decide(machine, openat, 0, 0, FILES) == filter_of.ALLOW
    for flag in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_APPEND):
        assert decide(machine, openat, 0, 0, FILES | flag) == filter_of.DENY
    assert decide(machine, clone, THREADS) == filter_of.ALLOW
    assert decide(machine, clone, 17) == filter_of.DENY, "a new process"
    assert decide(machine, ioctl, 0, filter_of.PUSH_INPUT) == filter_of.DENY
    assert decide(machine, ioctl, 0, 0x5401) == filter_of.ALLOW
    assert decide(machine, tgkill, os.getpid(), 1, 6) == filter_of.ALLOW, "abort()"
    assert decide(machine, tgkill, 1, 1, 9) == filter_of.DENY
    known = set(listed(column).values())
    assert all(decide(machine, number) == filter_of.ALLOW for number in range(512) if number not in known)
    assert decide(machine, openat, 0, 0, FILES, audit=0x40000003) == filter_of.KILL, "the same by 32 bits"
