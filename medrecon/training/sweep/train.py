"""One variant's training by the bundle's own train.yaml; killed, it goes on where it was."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.bundle import ConfigParser, ConfigWorkflow

from medrecon.bundle.config import read_training
from medrecon.contract import Progress
from medrecon.errors import OutputError
from medrecon.io.files.atomic import write_whole
from medrecon.training.run_bundle import write_bundle
from medrecon.training.sweep.budget import Budget, adversarial_start, epochs_for
from medrecon.training.sweep.variants import Variant

PLAN, TIMES = "variant.json", "times.json"
_NAMES = ("dataset_dir", "held_out")
_WARM_UP, _TIMED = 2, 6
"""Steps that a speed is taken from: the first ones are slow."""

_SHARED = ("train#preprocessing", "train#scans")
"""Parts of train.yaml that hold the scans in memory: variants whose images are alike use one."""


@dataclass
class Trainer:
    """Trains the variants of one sweep.

    Attributes:
        root: the bundle.
        settings: overrides that all share: dataset_dir, held_out, device, encoder_weights.
        budget: of each.
    """

    root: Path
    settings: Mapping[str, Any]
    budget: Budget
    _images: dict[Any, dict[str, Any]] = field(default_factory=dict)

    def plan(self, variant: Variant, run: Path) -> dict[str, Any]:
        """What a run is: read back if it was begun, made (and timed, for a budget of minutes) if not.

        Raises:
            OutputError: the folder holds a run of other settings.
        """
        made: dict[str, Any] = {
            "bundle": str(self.root),
            "settings": {key: _told(key, value) for key, value in sorted(self.settings.items())},
            "overrides": {key: variant.overrides[key] for key in sorted(variant.overrides)},
            "overlays": list(variant.overlays),
            "configuration": self._digest(variant),
            "budget": self.budget.facts(),
        }
        file = run / PLAN
        if file.exists():
            before = json.loads(file.read_text("utf-8"))
            changed = [key for key in made if before.get(key) != json.loads(json.dumps(made[key]))]
            if not changed:
                return {**made, "epochs": before["epochs"], "steps": before["steps"]}
            if (run / TIMES).exists():  # else nothing was trained yet that could be mixed
                raise OutputError(
                    f"holds a training with other {' and '.join(changed)}",
                    path=run,
                    remedy="repeat the command as it was, or name another OUTPUT",
                )
        steps = self.budget.steps or self._steps_in_time(variant)
        made["epochs"] = epochs_for(steps, read_training(self.root, variant.overlays))
        made["steps"] = math.prod(made["epochs"].values())
        write_whole(file, json.dumps(made, indent=2) + "\n")
        return made

    def train(
        self, variant: Variant, run: Path, plan: Mapping[str, Any], tick: Progress | None = None
    ) -> float:
        """Train, or go on training, until RUN is a bundle.

        Args:
            variant: what is trained.
            run: its folder.
            plan: as `plan` made it.
            tick: called with (steps done, steps in all).

        Returns:
            Seconds that the steps took, those before a kill included.
        """
        if (run / "configs" / "metadata.json").is_file():
            return Clock(run / TIMES).total
        config = read_training(self.root, variant.overlays)
        late = adversarial_start(plan["steps"], config)
        changes = {k: v for k, v in late.items() if k not in variant.overrides} | plan["epochs"]
        workflow = self._workflow(
            variant, {**changes, "output_dir": str(run), "resume": True, "val_interval": 10**9}
        )
        with _aside():
            workflow.initialize()
            parts = workflow.parser.get_parsed_content
            clock = Clock(run / TIMES, tick, plan["steps"])
            clock.attach(parts("train#trainer"))
            workflow.run()
            if not (run / "configs" / "metadata.json").is_file():  # its train.yaml does not do so itself
                write_bundle(workflow.parser, parts("network"), run, self.root)
        self._keep_images(variant, workflow.parser)
        for checkpoint in run.glob("checkpoint_epoch=*.pt"):
            checkpoint.unlink()
        return clock.total

    def _digest(self, variant: Variant) -> str:
        """Of the files that say what is trained: variants of a bundle that was edited do not compare."""
        files = ("metadata.json", "train.yaml", *variant.overlays)
        texts = [(self.root / "configs" / name).read_bytes() for name in files]
        return hashlib.sha256(b"\0".join(texts)).hexdigest()

    def _steps_in_time(self, variant: Variant) -> int:
        """As many steps as fit into the minutes, by the speed of a few."""
        seconds = 60 * float(self.budget.minutes or 0)
        with tempfile.TemporaryDirectory() as folder:
            late = dict.fromkeys(adversarial_start(2, read_training(self.root, variant.overlays)), 0)
            free = {"output_dir": folder, "max_epochs": 10**6, "initialize": [], "val_interval": 10**9}
            workflow = self._workflow(variant, {**free, **late})
            begun: list[float] = []

            def step(engine: Engine) -> None:
                begun.append(time.perf_counter())
                done = len(begun) - 1 - _WARM_UP
                if done >= _TIMED and begun[-1] - begun[_WARM_UP] >= min(20.0, 0.05 * seconds):
                    engine.terminate()

            with _aside():
                workflow.initialize()
                trainer = workflow.parser.get_parsed_content("train#trainer")
                trainer.add_event_handler(Events.ITERATION_COMPLETED, step)
                workflow.run()
            self._keep_images(variant, workflow.parser)
        each = (begun[-1] - begun[_WARM_UP]) / (len(begun) - 1 - _WARM_UP)
        return max(1, math.floor(seconds / each))

    def _workflow(self, variant: Variant, changes: Mapping[str, Any]) -> ConfigWorkflow:
        files = [str(self.root / "configs" / name) for name in ("train.yaml", *variant.overlays)]
        config = read_training(self.root, variant.overlays)
        given = {**self.settings, **variant.overrides, **changes, **self._images.get(self._key(variant), {})}
        known = {key: value for key, value in given.items() if key == "initialize" or key in config}
        overrides: dict[str, Any] = {"bundle_root": str(self.root), **_without_tensorboard(config), **known}
        with _aside():
            workflow = ConfigWorkflow(
                config_file=files,
                workflow_type="train",
                logging_file=False,
                **overrides,
            )
        workflow.parser["configuration"] = workflow.parser
        return workflow

    def _key(self, variant: Variant) -> Any:
        """Variants with the same key see the same images."""
        turned = {k: v for k, v in variant.overrides.items() if not k.startswith(("_meta_", "decoder_"))}
        return json.dumps([turned, variant.overlays], sort_keys=True, default=str)

    def _keep_images(self, variant: Variant, parser: ConfigParser) -> None:
        if all(name in parser for name in _SHARED):
            self._images = {self._key(variant): {name: parser.get_parsed_content(name) for name in _SHARED}}


class Clock:
    """Adds up the time of the steps, epoch by epoch, on disk: a resumed run knows what it took before.

    Args:
        file: where.
        tick: called with (steps done, steps in all).
        steps: in all.
    """

    def __init__(self, file: Path, tick: Progress | None = None, steps: int = 0) -> None:
        self.file, self.tick, self.steps = file, tick, steps
        self.epochs: list[float] = json.loads(file.read_text("utf-8")) if file.is_file() else []

    @property
    def total(self) -> float:
        """Seconds of all steps."""
        return sum(self.epochs)

    def attach(self, trainer: Engine) -> None:
        """Register with a trainer."""
        trainer.add_event_handler(Events.STARTED, self._start)
        trainer.add_event_handler(Events.EPOCH_STARTED, self._begin)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._step)

    def _start(self, engine: Engine) -> None:
        done = engine.state.epoch  # of the checkpoint, loaded by now
        usual = self.total / len(self.epochs) if self.epochs else 0.0
        self.epochs = (self.epochs + [usual] * done)[:done]

    def _begin(self, engine: Engine) -> None:
        self._since = time.perf_counter()

    def _step(self, engine: Engine) -> None:
        if self.tick is not None:
            self.tick(engine.state.iteration, self.steps)
        if engine.state.iteration % (engine.state.epoch_length or 1) == 0:
            # before the checkpoint of this epoch: a kill between the two leaves too many entries, never few
            self.epochs.append(time.perf_counter() - self._since)
            write_whole(self.file, json.dumps([round(seconds, 3) for seconds in self.epochs]))


def _told(key: str, value: Any) -> str:
    """A setting as it is remembered beside the run; names of scans and folders as a hash."""
    text = str(value)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest() if key in _NAMES else text


def _without_tensorboard(config: ConfigParser) -> dict[str, bool]:
    """Switch off the handlers that need TensorBoard where it is not installed."""
    if find_spec("tensorboard") is not None:
        return {}
    lists = [f"{part}#handlers" for part in ("train", "validate") if f"{part}#handlers" in config]
    return {
        f"{name}#{place}#_disabled_": True
        for name in lists
        for place, handler in enumerate(config[name])
        if "TensorBoard" in str(handler.get("_target_"))
    }


@contextlib.contextmanager
def _aside() -> Iterator[None]:
    """Leave `sys.path` as it was, where MONAI puts each bundle's root, and keep its trainers from talking."""
    before, level = list(sys.path), logging.root.manager.disable
    logging.disable(max(level, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(level)
        sys.path[:] = before
