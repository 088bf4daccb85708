"""What a training is: a bundle's configuration files, settings merged after them, and a folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrecon.bundle.config import read_training
from medrecon.compute.safe_path import RUN_MODULE, module_command
from medrecon.errors import ModelError, OutputError, UsageError, near
from medrecon.io.files.atomic import PRIVATE, write_whole

SETTINGS = "settings.json"
LOG = "train.log"
MULTI = "multi_gpu.yaml"
_ASKED = ("dataset_dir", "output_dir", "held_out", "resume", "max_epochs")
"""What a train.yaml must have: `medrecon train` sets the first four and counts up to the last."""

_MAY_CHANGE = ("dataset_dir", "output_dir")
"""Settings that a run may go on without: folders move."""

_PATTERNS = ("held_out", "validation_scans", "licences")
"""Settings that hold names of scans, which may be patients'."""

_HASHED = "sha256:"


@dataclass(frozen=True)
class Training:
    """A training that can be started.

    Attributes:
        run: its folder: checkpoints, log, and the bundle that it becomes.
        files: configuration files, merged in this order.
        processes: on each machine.
        nodes: machines.
        epochs: how many it has.
    """

    run: Path
    files: tuple[Path, ...]
    processes: int
    nodes: int
    epochs: int

    @property
    def log(self) -> Path:
        """What its processes say."""
        return self.run / LOG

    @property
    def errors(self) -> Path:
        """Where, while it runs, each machine's error goes."""
        return self.run / "errors"

    @property
    def done(self) -> bool:
        """Whether it has ended: its folder is a bundle."""
        return (self.run / "configs" / "metadata.json").is_file()

    @property
    def epoch(self) -> int:
        """Up to where it can be gone on from; 0 where there is no checkpoint."""
        found = self.run.glob("checkpoint_epoch=*.pt")
        return max((int(path.stem.rsplit("=", 1)[1]) for path in found), default=0)

    def seal(self) -> None:
        """Take names of scans and folders out of the settings: a finished run needs their hashes alone.

        Raises:
            OutputError: they cannot be written.
        """
        file = self.run / SETTINGS
        with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
            write_whole(file, json.dumps(_sealed(json.loads(file.read_text("utf-8"))), indent=1) + "\n")

    def command(self, meeting: str = "--standalone") -> list[str]:
        """The words that start it on one machine.

        Args:
            meeting: how the processes of all machines find each other: options of torchrun.
        """
        files = repr([str(file) for file in self.files])
        run = ["medrecon.training.launch.process", "run", "--config_file", files]
        if self.processes * self.nodes == 1:
            return [*module_command(run[0]), *run[1:]]
        shares = [f"--nnodes={self.nodes}", f"--nproc-per-node={self.processes}"]
        return [*module_command("torch.distributed.run"), *meeting.split(), *shares, str(RUN_MODULE), *run]


def plan_training(
    root: Path,
    run: Path,
    scans: Path,
    *,
    held_out: Sequence[str] = (),
    overlays: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    processes: int = 1,
    nodes: int = 1,
    write: bool = True,
) -> Training:
    """Check what can be checked without starting, and write the settings into the run's folder.

    Args:
        root: the bundle.
        run: made where it is missing. A run that was begun there goes on.
        scans: folder of scans.
        held_out: patterns (`*` and `?`) of file or series-folder names that do not take part.
        overlays: names of files in the bundle's configs, merged after train.yaml in this order.
        settings: id of the configuration -> value.
        processes: on each machine.
        nodes: machines.
        write: write the settings; False only checks.

    Raises:
        ModelError: the bundle cannot be trained, or lacks an overlay.
        UsageError: a setting that the configuration does not have.
        OutputError: the folder holds a run of other settings, or something else, or cannot be written.
    """
    several = [MULTI] if processes * nodes > 1 and MULTI not in overlays else []
    names = [*overlays, *several]
    config = read_training(root, names)
    for key in _ASKED:
        if key not in config:
            raise ModelError(
                f"its train.yaml has no '{key}'", path=root, remedy="start it by python -m monai.bundle run"
            )
    given = dict(settings or {})
    known = list(dict(config.get()))
    for key in given:
        if key not in config:
            raise UsageError(f"--set {key}: the configuration has no such id" + near(key, known), path=root)
    for text in (str(scans), str(run), *held_out):
        if text[:1] in "$@%":
            raise UsageError(
                f"'{text}' begins with '{text[:1]}', which configurations take for code", remedy="rename it"
            )
    made = {
        **given,
        "dataset_dir": str(scans.absolute()),
        "output_dir": str(run.absolute()),
        "held_out": list(held_out),
        "resume": True,
        "overlays": names,
        "processes": processes * nodes,
    }
    _refuse_others(run, made)
    last = run / SETTINGS
    if write:
        write_whole(last, json.dumps(made, indent=1) + "\n", mode=PRIVATE)
    files = (*(root / "configs" / name for name in ("train.yaml", *names)), last)
    epochs = int(given.get("max_epochs", config["max_epochs"]))
    return Training(run, tuple(file.absolute() for file in files), processes, nodes, epochs)


def _refuse_others(run: Path, made: Mapping[str, Any]) -> None:
    """Refuse a folder that holds another run, or something else."""
    if run.exists() and not run.is_dir():
        raise OutputError("is a file, but a folder is needed", path=run, remedy="choose another RUN")
    file = run / SETTINGS
    if not file.is_file():
        if run.is_dir() and any(run.iterdir()):
            raise OutputError(
                "is a folder that holds something else", path=run, remedy="choose a new or empty folder"
            )
        return
    try:
        old, new = _sealed(json.loads(file.read_text("utf-8"))), _sealed(json.loads(json.dumps(made)))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise OutputError("holds a run that cannot be read", path=run, remedy="choose another RUN") from error
    changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    if changed:
        raise OutputError(
            f"holds a run with other {' and '.join(changed)}",
            path=run,
            remedy="repeat the command as it was, or choose another RUN",
        )


def _sealed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without folders, and with a hash in the place of what names scans."""
    kept = {key: value for key, value in settings.items() if key not in _MAY_CHANGE}
    for key in kept.keys() & set(_PATTERNS):
        if not str(kept[key]).startswith(_HASHED):
            kept[key] = _HASHED + hashlib.sha256(json.dumps(kept[key], sort_keys=True).encode()).hexdigest()
    return kept
