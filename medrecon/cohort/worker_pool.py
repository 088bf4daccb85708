"""Parsl's pool of workers on this machine; it ends with the run at once, where Parsl's own waits for 20 s."""

from __future__ import annotations

import os
import runpy
import sys
import threading
import time

import psutil

_LOOK = 1.0


def watch(process: int, born: float) -> None:
    """End this process and all of its children once the run's process is gone."""
    while _lives(process, born):
        time.sleep(_LOOK)
    for child in psutil.Process().children(recursive=True):
        child.kill()
    os._exit(0)


def _lives(process: int, born: float) -> bool:
    try:
        return psutil.Process(process).create_time() == born
    except psutil.Error:
        return False


def main() -> None:
    """Run it as a script: `python worker_pool.py PROCESS BORN`, then what Parsl's pool takes."""
    process, born = int(sys.argv[1]), float(sys.argv[2])
    del sys.argv[1:3]
    threading.Thread(target=watch, args=(process, born), daemon=True, name="medrecon-run").start()
    runpy.run_module(
        "parsl.executors.high_throughput.process_worker_pool", run_name="__main__", alter_sys=True
    )


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    sys.path[:] = [place for place in sys.path if place != here]  # its modules are no libraries
    main()
