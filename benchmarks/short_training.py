"""Short trainings by a bundle's own train.yaml, under one budget, and what they reach on other scans."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow
from scoring import Volume, reconstruct, score

from medrecon.bundle.config import Bundle, find_bundle
from medrecon.training.checkpoints import keep_checkpoints


@dataclass
class Budget:
    """Ends a training after so many steps or seconds, and anneals its learning rate to nothing by then.

    The schedule is that of train.yaml (one cycle, cosine) over the share of the budget that is spent, so that
    trainings of unlike cost per step can be given the same time.

    Attributes:
        steps: or None.
        seconds: or None; the first two steps, which warm up, do not count.
        clock: of what; `time.process_time` where other work shares the machine.
        spent: steps that were made.
        took: seconds that they took.
    """

    optimizer: torch.optim.Optimizer
    steps: int | None = None
    seconds: float | None = None
    clock: Callable[[], float] = time.perf_counter
    warm_up: float = 0.06
    spent: int = 0
    took: float = 0.0
    _start: float | None = field(default=None, init=False)

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"spent": self.spent, "took": self.took}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from what was spent before."""
        self.spent, self.took = int(state["spent"]), float(state["took"])

    def attach(self, trainer: Engine) -> None:
        """Take over a trainer."""
        self.peak = float(self.optimizer.defaults["lr"])
        trainer.add_event_handler(Events.ITERATION_STARTED, self._begin)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._end)

    def _share(self) -> float:
        if self.steps is not None:
            return self.spent / self.steps
        return self.took / float(self.seconds or 1)

    def _begin(self, engine: Engine) -> None:
        if self._start is None:
            self._start = self.clock() - self.took
        share = min(1.0, self._share())
        if share < self.warm_up:
            rate = 0.2 + 0.8 * share / self.warm_up
        else:
            rate = 0.5 * (1 + math.cos(math.pi * (share - self.warm_up) / (1 - self.warm_up)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.peak * rate

    def _end(self, engine: Engine) -> None:
        self.spent += 1
        now = self.clock()
        if self._start is None or self.spent == 2:
            self._start = now
        self.took = now - self._start if self.spent >= 2 else 0.0
        if self._share() >= 1:
            engine.terminate()


@dataclass(frozen=True)
class Trained:
    """A network that a short training made.

    Attributes:
        network: in evaluation mode.
        steps: how many it took.
        seconds: how long.
        parameters: how many of them were trained.
    """

    network: Any
    steps: int
    seconds: float
    parameters: int


def train(
    bundle: str,
    scans: Path,
    held_out: Sequence[str],
    overrides: Mapping[str, Any],
    *,
    steps: int | None = None,
    seconds: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
    weights: Path | None = None,
    folder: Path | None = None,
    report: Callable[[Engine, Budget], None] | None = None,
) -> Trained:
    """Train by the bundle's train.yaml, overridden, for some steps or seconds.

    Args:
        bundle: name or folder.
        scans: folder of scans to train on.
        held_out: patterns of those that are left out.
        overrides: id -> value, such as {"training_results": {"level3": 1}}.
        steps: the budget, or
        seconds: the budget.
        clock: that counts them.
        weights: where to start; from the beginning when None.
        folder: for checkpoints, from which the next call goes on, and `model.pt`; nothing is kept when None.
        report: called at the end of each epoch.
    """
    root = find_bundle(bundle)
    with tempfile.TemporaryDirectory() as scratch, quietly():
        workflow = ConfigWorkflow(
            config_file=str(root / "configs" / "train.yaml"),
            workflow_type="train",
            logging_file=False,
            **{
                "bundle_root": str(root),
                "dataset_dir": str(scans),
                "output_dir": str(folder or scratch),
                "held_out": list(held_out),
                "max_epochs": 1_000_000,
                "initialize": fits_only(root) if weights is None and "network_def" not in overrides else [],
                "train#handlers": seeds_only(root),
                **overrides,
            },
        )
        torch.manual_seed(0)
        workflow.initialize()
        network = workflow.parser.get_parsed_content("network")
        if weights is not None:
            from medrecon.encoders import fit_weights, read_weights

            fit_weights(network, read_weights(weights), weights)
        budget = Budget(workflow.parser.get_parsed_content("optimizer"), steps, seconds, clock)
        trainer = workflow.parser.get_parsed_content("train#trainer")
        budget.attach(trainer)
        if folder is not None:
            parts = {"network": network, "optimizer": budget.optimizer, "budget": budget}
            keep_checkpoints(trainer, network, folder, parts, resume=True)
        if report is not None:
            trainer.add_event_handler(Events.EPOCH_COMPLETED, report, budget)
        workflow.run()
    parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return Trained(network.eval(), budget.spent, budget.took, parameters)


def seeds_only(root: Path) -> list[dict[str, Any]]:
    """Of the handlers of train.yaml those that seed the random streams: the data are the same for all."""
    from monai.bundle import ConfigParser

    handlers = ConfigParser.load_config_file(root / "configs" / "train.yaml")["train"]["handlers"]
    return [handler for handler in handlers if "SeedEachEpoch" in handler["_target_"]]


def fits_only(root: Path) -> list[str]:
    """Of what train.yaml does before its first step that which fits the encoder, where it has such."""
    from monai.bundle import ConfigParser

    lines = ConfigParser.load_config_file(root / "configs" / "train.yaml")["initialize"]
    return [line for line in lines if "fit_encoder(" in line]


@contextlib.contextmanager
def quietly() -> Any:
    """Without the lines that trainers print."""
    before = logging.root.manager.disable
    path = list(sys.path)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        sys.path[:] = path


def results_of(bundle: str) -> dict[str, float]:
    """What the bundle's training draws from: result -> weight."""
    from monai.bundle import ConfigParser

    config = ConfigParser.load_config_file(find_bundle(bundle) / "configs" / "train.yaml")
    return {str(result): float(weight) for result, weight in config["training_results"].items()}


def psnr_of(bundle: str, network: Any, volumes: Sequence[Volume], result: str) -> list[float]:
    """PSNR in dB of one result on each scan, tiled as the bundle tiles."""
    inferer = Bundle.open(bundle).build("inferer")
    found = []
    for volume in volumes:
        (_, recon), *_ = reconstruct(volume, network, inferer, [result])
        found.append(score(volume, recon).psnr)
    return found
