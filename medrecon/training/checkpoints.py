"""Checkpoints: written whole or not at all, and gone on from to the last bit."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver
from monai.engines import Trainer
from monai.handlers import CheckpointLoader
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from medrecon.errors import ModelError
from medrecon.io.files.atomic import replacing

_log = logging.getLogger("medrecon")


_UNFINISHED = re.compile(r"tmp[a-z0-9_]{8}")
"""Names that Python's tempfile gives."""


class SaveWhole:
    """Write checkpoints and, at the end, the network's weights: each file whole or not at all.

    MONAI's CheckpointSaver writes in place, so that a killed run can leave a broken file behind.

    Args:
        folder: where to; made when missing.
        parts: what a checkpoint holds, by name.
        network: its state_dict, floating point in half precision, becomes `model.pt` in the end.
        interval: epochs between checkpoints; the two newest are kept.
    """

    def __init__(
        self, folder: str | Path, parts: dict[str, Any], network: torch.nn.Module, interval: int = 1
    ) -> None:
        self.folder = Path(folder)
        self.parts = parts
        self.network = network
        self.interval = int(interval)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        _remove_unfinished(self.folder)
        saver = Checkpoint(
            self.parts,
            DiskSaver(str(self.folder), atomic=True, require_empty=False, create_dir=True),
            n_saved=2,
            score_name="epoch",
            score_function=lambda engine: engine.state.epoch,
        )
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), saver)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _finish(self, engine: Engine) -> None:
        if idist.get_rank() > 0:
            return
        state = undistributed(self.network).state_dict()
        halves = {key: v.half() if v.is_floating_point() else v for key, v in state.items()}
        with replacing(self.folder / "model.pt") as part, part.open("wb") as stream:
            torch.save(halves, stream)


def _remove_unfinished(folder: Path) -> None:
    """Remove what ignite's `DiskSaver` leaves of a checkpoint when it is killed or the disk is full."""
    if idist.get_rank() == 0:
        for file in folder.glob("tmp*"):
            if _UNFINISHED.fullmatch(file.name) and file.is_file() and not file.is_symlink():
                file.unlink(missing_ok=True)


def undistributed(network: nn.Module) -> nn.Module:
    """The network without what distributes it over processes or devices."""
    return network.module if isinstance(network, DistributedDataParallel | nn.DataParallel) else network


def checkpoints_in(folder: str | Path) -> list[Path]:
    """The checkpoints of a run, the newest last."""
    found = Path(folder).glob("checkpoint_epoch=*.pt")
    return sorted(found, key=lambda path: int(path.stem.rsplit("=", 1)[1]))


def keep_checkpoints(
    trainer: Trainer,
    network: torch.nn.Module,
    folder: str | Path,
    parts: Mapping[str, Any],
    *,
    interval: int = 1,
    resume: bool = False,
) -> None:
    """Have a trainer write checkpoints and, where asked, go on from the newest one.

    Args:
        trainer: its epoch and iteration are kept with the parts.
        network: its weights are the result.
        folder: where checkpoints and `model.pt` are written.
        parts: what else has a state: network, optimizer, scheduler.
        interval: epochs between checkpoints.
        resume: go on from the newest checkpoint, if there is one.

    Raises:
        ModelError: there are checkpoints of another run, which a later resume would take for this one's.
    """
    everything = {**parts, "trainer": trainer}
    # MONAI's adversarial trainer puts whole networks in its state: no safe load takes them back, and they
    # are among the parts already.
    state, keys = trainer.state, trainer.state_dict_user_keys
    keys[:] = [key for key in keys if not hasattr(vars(state).get(key), "state_dict")]
    SaveWhole(folder, everything, network, interval).attach(trainer)
    written = checkpoints_in(folder)
    if written and not resume:
        raise ModelError(
            f"holds checkpoints of a run before, up to {written[-1].name}",
            path=folder,
            remedy="go on with --resume true, or name another --output_dir",
        )
    if written:
        _log.info("going on from %s", written[-1].name)
        cpu: Any = "cpu"  # MONAI's annotation knows mappings only
        CheckpointLoader(str(written[-1]), everything, map_location=cpu).attach(trainer)
        trainer.add_event_handler(Events.STARTED, _wake, [*parts.values()])


def _wake(engine: Engine, parts: Sequence[Any]) -> None:
    """Give each parameter that an optimizer has moved before a gradient of zero.

    MONAI's trainers set gradients to zero, not to None: layers that a step leaves out still move by their
    momentum, once they were used. Without this they would rest after a resume until they are used again.
    """
    for optimizer in (part for part in parts if isinstance(part, torch.optim.Optimizer)):
        for parameter in optimizer.state:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
