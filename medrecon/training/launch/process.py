"""What each process of a training runs: `monai.bundle`, and its error written where torchrun looks for it."""

from __future__ import annotations

import contextlib
import json
import os
import runpy
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import ErrorHandler, record

from medrecon.errors import OutputError
from medrecon.io.files.atomic import PRIVATE, write_whole
from medrecon.training.launch.cause import describe


class CauseHandler(ErrorHandler):
    """Writes the error of ours that an exception comes from; an `ErrorHandler` writes the outermost alone."""

    def initialize(self) -> None:
        """Nothing: no dump of all threads when it ends."""

    def record_exception(self, e: BaseException) -> None:
        """Write the file of this process, if it has one."""
        file = os.environ.get("TORCHELASTIC_ERROR_FILE")
        if file:
            with contextlib.suppress(OutputError):
                # whole or not at all: torchrun fails itself on the half of a file of a process that it ended
                write_whole(Path(file), json.dumps(describe(e)), mode=PRIVATE)


def main() -> None:
    """Run it as `python -m medrecon.training.launch.process run --config_file ...`."""
    runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    record(main, error_handler=CauseHandler())()
