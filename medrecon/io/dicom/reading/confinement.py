"""Run a program without what decoding pixels does not need: no network, no new files, no new processes.

`python -I confinement.py PROGRAM LIMITS` sets limits of time and memory, on Linux a filter of system calls
(seccomp; x86-64 and ARM64), and runs the program. Where there is no such filter, it says so on stderr. It
imports nothing of the package. The filter forbids what is listed here and allows the rest: what Python and
its libraries need differs from system to system, what does harm does not.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import platform
import runpy
import struct
import sys
from typing import Any

UNCONFINED = "no filter of system calls"
NO_NEW_PRIVILEGES, SECCOMP, FILTER, DEATH_SIGNAL, SIGKILL = 38, 22, 2, 1, 9
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7), "arm64": (1, 0xC00000B7)}
"""Machine -> its column in the tables, and what the kernel calls it (linux/audit.h)."""

FORBIDDEN = """
    socket 41 198, socketpair 53 199, connect 42 203, bind 49 200, listen 50 201, accept 43 202,
    accept4 288 242, sendto 44 206, sendmsg 46 211, sendmmsg 307 269, fork 57 -, vfork 58 -, execve
    59 221, execveat 322 281, creat 85 -, mknod 133 -, mknodat 259 33, mkdir 83 -, mkdirat 258 34,
    rmdir 84 -, unlink 87 -, unlinkat 263 35, rename 82 -, renameat 264 38, renameat2 316 276, link
    86 -, linkat 265 37, symlink 88 -, symlinkat 266 36, truncate 76 45, chmod 90 -, fchmod 91 52,
    fchmodat 268 53, fchmodat2 452 452, chown 92 -, fchown 93 55, lchown 94 -, fchownat 260 54,
    setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7, removexattr 197 14, lremovexattr 198 15,
    fremovexattr 199 16, utime 132 -, utimes 235 -, futimesat 261 -, utimensat 280 88, ptrace 101
    117, process_vm_readv 310 270, process_vm_writev 311 271, pidfd_getfd 438 438, pidfd_send_signal
    424 424, kill 62 129, tkill 200 130, rt_sigqueueinfo 129 138, mount 165 40, umount2 166 39,
    unshare 272 97, setns 308 268, chroot 161 51, pivot_root 155 41, bpf 321 280, perf_event_open
    298 241, io_uring_setup 425 425, io_uring_enter 426 426, io_uring_register 427 427, keyctl 250
    219, add_key 248 217, request_key 249 218, userfaultfd 323 282, open_by_handle_at 304 265,
    mq_open 240 180, shmget 29 194, msgget 68 186, semget 64 190, open_tree 428 428, move_mount 429
    429, fsopen 430 430, fsconfig 431 431, fsmount 432 432, fspick 433 433, mount_setattr 442 442,
    init_module 175 105, finit_module 313 273, delete_module 176 106, kexec_load 246 104,
    kexec_file_load 320 294, reboot 169 142, swapon 167 224, swapoff 168 225, sethostname 170 161,
    setdomainname 171 162, settimeofday 164 170, clock_settime 227 112, acct 163 89
"""
"""System calls that always fail, with their numbers on x86-64 and ARM64; the last ones are root's."""
ABSENT = "clone3 435 435, openat2 437 437"
"""Calls that are said to be unknown, because their arguments stay hidden: the older ones are used instead."""
OPEN, OPENAT, CLONE, IOCTL, TGKILL = (2, -1), (257, 56), (56, 220), (16, 29), (234, 131)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
THREAD = 0x10000  # CLONE_THREAD
PUSH_INPUT = 0x5412  # TIOCSTI: type into the user's terminal

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
KILL, ALLOW, DENY, UNKNOWN = 0x80000000, 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
NUMBER, MACHINE, ARGUMENTS = 0, 4, (16, 24, 32)  # places in struct seccomp_data


def _numbers(table: str, column: int) -> list[int]:
    found = (entry.split()[1 + column] for entry in table.split(","))
    return [int(number) for number in found if number != "-"]


def _program(column: int, machine: int) -> list[tuple[int, int, int, int]]:
    """The filter as instructions (code, jump if true, jump if false, value)."""
    steps = [(LOAD, 0, 0, MACHINE), (EQUAL, 1, 0, machine), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER)]
    if column == 0:
        steps += [(AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, DENY)]  # the same calls by other numbers (x32)
    for number in _numbers(FORBIDDEN, column):
        steps += [(EQUAL, 0, 1, number), (RETURN, 0, 0, DENY)]
    for number in _numbers(ABSENT, column):
        steps += [(EQUAL, 0, 1, number), (RETURN, 0, 0, UNKNOWN)]
    for call, argument, test, value, if_so, if_not in (
        (OPEN, 1, ANY_BIT, WRITING, DENY, ALLOW),
        (OPENAT, 2, ANY_BIT, WRITING, DENY, ALLOW),
        (CLONE, 0, ANY_BIT, THREAD, ALLOW, DENY),
        (IOCTL, 1, EQUAL, PUSH_INPUT, DENY, ALLOW),
        (TGKILL, 0, EQUAL, os.getpid(), ALLOW, DENY),
    ):
        number = call[column]
        if number >= 0:
            steps += [(EQUAL, 0, 4, number), (LOAD, 0, 0, ARGUMENTS[argument])]
            steps += [(test, 0, 1, value), (RETURN, 0, 0, if_so), (RETURN, 0, 0, if_not)]
    return [*steps, (RETURN, 0, 0, ALLOW)]


def confine() -> str:
    """Install the filter in this process, for good; returns why that could not be done, "" if it was."""
    if sys.platform != "linux" or platform.machine() not in MACHINES:
        return f"{sys.platform} on {platform.machine()} has none that is known here"
    steps = _program(*MACHINES[platform.machine()])
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    header = struct.pack("@HP", len(steps), ctypes.addressof(code))
    control = ctypes.CDLL(None, use_errno=True).prctl
    control.argtypes = [ctypes.c_int] + [ctypes.c_void_p] * 4
    control(DEATH_SIGNAL, SIGKILL, 0, 0, 0)
    if control(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or control(
        SECCOMP, FILTER, ctypes.cast(ctypes.create_string_buffer(header), ctypes.c_void_p), 0, 0
    ):
        return os.strerror(ctypes.get_errno())
    return ""


def main(program: str, limits: dict[str, Any]) -> None:
    """Set the limits and run the program.

    Args:
        program: the Python file.
        limits: "seconds" of CPU time, "bytes" of address space, "output" bytes in any file, and "path", the
            module search path.
    """
    for name, most in (("CORE", 0), ("CPU", "seconds"), ("AS", "bytes"), ("FSIZE", "output")):
        with contextlib.suppress(ImportError, ValueError):  # not on this system, or tighter already
            import resource

            soft = limits[most] if isinstance(most, str) else most
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (soft, soft + (name == "CPU")))
    why = confine()
    if why:
        sys.stderr.write(f"{UNCONFINED}: {why}\n")
    sys.path[:] = limits["path"]
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
