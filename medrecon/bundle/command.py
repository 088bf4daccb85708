"""What a command line of `python -m monai.bundle run` asks for, read as MONAI reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fire
from monai.bundle import ConfigParser, update_kwargs

from medrecon.errors import ModelError

_MONAI = ("monai", "bundle", "__main__.py")
_OPTIONS = ("run_id", "init_id", "final_id", "logging_file", "tracking")
"""What `run` takes besides files and overrides."""


def configuration_of(arguments: Sequence[str]) -> ConfigParser:
    """The configuration that a command runs, its files merged, overrides included; nothing of it is built.

    MONAI hands its own parser to no expression of a configuration, so a `train.yaml` reads its command again.
    A Python program has the parser and passes it: `workflow.parser["configuration"] = workflow.parser`.

    Args:
        arguments: of the process, `sys.argv`.

    Raises:
        ModelError: it is no such command.
    """
    program = Path(arguments[0]).parts[-len(_MONAI) :] if arguments else ()
    if program != _MONAI or list(arguments[1:2]) != ["run"]:
        raise ModelError(
            "a training that a program starts must be told its own configuration",
            remedy="before initialize: workflow.parser['configuration'] = workflow.parser (None: no bundle)",
        )
    given: dict[str, Any] = {}

    def take(run_id: str | None = None, args_file: str | None = None, **options: Any) -> None:
        given.update(update_kwargs(args_file, **options))

    fire.Fire(take, command=list(arguments[2:]), name="run")
    files, meta = given.pop("config_file"), given.pop("meta_file", None)
    first = Path(files if isinstance(files, str) else files[0])
    parser = ConfigParser()
    parser.read_config(files)
    parser.read_meta(meta or first.with_name("metadata.json"))
    parser.update({key: value for key, value in given.items() if key not in _OPTIONS})
    parser.parse()
    return parser
