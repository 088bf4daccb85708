"""Parsl's go-between of run and workers; it ends when the run is killed, where Parsl's own waits for ever."""

from __future__ import annotations

import os
import runpy
import sys
import threading
import time

_LOOK = 1.0


def main() -> None:
    """Run it as a script and a child of the run: `python interchange.py`."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK)
        os._exit(0)

    threading.Thread(target=watch, daemon=True, name="medrecon-parent").start()
    runpy.run_module("parsl.executors.high_throughput.interchange", run_name="__main__")


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    sys.path[:] = [place for place in sys.path if place != here]  # its modules are no libraries
    main()
