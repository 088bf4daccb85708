"""The heap of a worker, asked of the C library itself."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT = """
import ctypes, sys, threading
if sys.argv[1] == "shared":
    from medrecon.cohort.work import share_cores
    share_cores(1)
together = threading.Barrier(8)
def work():
    together.wait()
    kept = [bytes(1000 + n) for n in range(1000)]
    together.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(file))
libc.fclose(ctypes.c_void_p(file))
print(open(sys.argv[2]).read().count("<heap "))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has a heap for each thread")
def test_threads_of_a_worker_share_one_heap(tmp_path: object) -> None:
    heaps = {}
    for how in ("apart", "shared"):
        words = [sys.executable, "-W", "ignore", "-c", COUNT, how, f"{tmp_path}/{how}.xml"]
        heaps[how] = int(subprocess.run(words, capture_output=True, check=True, text=True).stdout.split()[-1])
    assert heaps["apart"] > 2, "the C library gives threads no heaps of their own here"
    assert heaps["shared"] <= 2
