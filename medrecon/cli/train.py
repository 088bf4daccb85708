"""The verb `train`: check, start, show how far it is, and say what came of it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrecon.bundle.config import find_bundle, read_training
from medrecon.bundle.results import encoder_setting
from medrecon.cli.progress import long_work
from medrecon.cli.session import Outcome, Session
from medrecon.cohort.progress import duration
from medrecon.compute.clusters import LOCAL, Place, check_cluster, count_cores, parse_options
from medrecon.compute.devices import pick_gpus
from medrecon.errors import ModelError, UsageError, near
from medrecon.training.data import training_items
from medrecon.training.launch import Launched, Training, held, launch, plan_training
from medrecon.training.launch.attempts import Runner
from medrecon.training.launch.batch import Batch
from medrecon.training.launch.local import Here
from medrecon.training.sweep.variants import parse_assignment, parse_value

if TYPE_CHECKING:
    from rich.console import Console

_LINE_EVERY = 60.0
_BEST = re.compile(rb"Key metric: (\w+) best value: (-?[\d.]+)")


@dataclass(frozen=True)
class Asked:
    """The options of `train` that say where and how, not what: see its help."""

    processes: int | None = None
    cluster: str = LOCAL
    nodes: int = 1
    gpus: int | None = None
    cluster_options: tuple[str, ...] = ()
    restarts: int = 3
    device: str = "auto"


def train_bundle(
    session: Session,
    scans: Path,
    run: Path,
    *,
    bundle: str,
    held_out: Sequence[str],
    overlays: Sequence[str],
    fixed: Sequence[str],
    encoder_weights: Path | None,
    asked: Asked,
) -> Outcome:
    """Train a bundle, or go on.

    Raises:
        UsageError: the options do not make sense together.
        ScanError: there is no scan to train on.
        ModelError: the bundle or a configuration cannot be used.
        OutputError: RUN holds something else, or cannot be written.
    """
    root = find_bundle(bundle)
    files = [_overlay(root, name) for name in overlays]
    settings = {name: parse_value(text) for name, text in (parse_assignment(one, "--set") for one in fixed)}
    config = read_training(root, files)
    settings |= {key: str(file) for key, file in encoder_setting(config, encoder_weights, root).items()}
    kept_out = list(held_out) or list(config.get("held_out") or [])
    share = float(settings.get("phantom_share", config.get("phantom_share", 0.0)))
    used = training_items(scans, kept_out, share)
    runner, processes = runner_of(asked)
    with held(run):
        training = plan_training(
            root,
            run,
            scans,
            held_out=kept_out,
            overlays=files,
            settings=settings,
            processes=processes,
            nodes=asked.nodes,
        )
        ended = _watched(session, training, runner, asked, len(used))
    data: dict[str, Any] = {
        "run": str(run),
        "bundle": root.name,
        "epochs": training.epochs,
        "from_epoch": ended.begun,
        "attempts": ended.attempts,
        "seconds": round(ended.seconds, 1),
        **_figures(run),
    }

    def tell(console: Console) -> None:
        said = "was done already" if not ended.attempts else f"trained in {duration(ended.seconds)}"
        console.print(f"{run}: {said}" + (f", {ended.attempts} attempts" if ended.attempts > 1 else ""))
        for name, value in data.get("best", {}).items():
            console.print(f"best {name} of its validations: {value:.2f}")
        console.print(f"use it:  medrecon reconstruct INPUT OUTPUT --bundle {run}")

    return Outcome(data, tell)


def _watched(session: Session, training: Training, runner: Runner, asked: Asked, scans: int) -> Launched:
    """Run it, and show how far it is."""
    machines = f" on each of {asked.nodes} machines" if asked.nodes > 1 else ""
    session.say(
        f"{scans} scan(s), {training.processes} process(es){machines}, {training.epochs} epochs; "
        f"{training.log}"
    )
    words = partial(_words, training, training.epoch, time.monotonic())
    with long_work(session, training.epochs, every=_LINE_EVERY, first="starting") as show:

        def tick() -> None:
            show(training.epoch, words)

        return launch(training, runner, restarts=asked.restarts, tick=tick, say=session.say)


def runner_of(asked: Asked) -> tuple[Runner, int]:
    """What runs the training, and how many processes it has on each machine.

    Raises:
        UsageError: options that do not make sense together.
    """
    check_cluster(asked.cluster)
    options = parse_options(asked.cluster_options, asked.cluster, asked.nodes)
    here = asked.cluster == LOCAL
    gpus = pick_gpus(asked.device, asked.gpus, here=here)
    on_cpu = asked.device == "cpu" or asked.gpus == 0
    processes = asked.processes or max(1, len(gpus))
    if gpus and processes > len(gpus):
        raise UsageError(f"{processes} processes for {len(gpus)} GPU(s)", remedy="each has a GPU of its own")
    if here:
        return Here(",".join(gpus[:processes]), count_cores()), processes
    return Batch(Place(asked.cluster, asked.nodes, 1, gpus, options), on_cpu=on_cpu), processes


def _overlay(root: Path, name: str) -> str:
    """The file of an overlay: "adversarial" and "adversarial.yaml" both name one."""
    file = name if name.endswith((".yaml", ".yml", ".json")) else f"{name}.yaml"
    if not (root / "configs" / file).is_file():
        there = sorted(path.stem for path in (root / "configs").glob("*.yaml"))
        raise ModelError(
            f"has no configuration '{name}'" + near(name, there),
            path=root,
            remedy=f"there are {', '.join(there)}",
        )
    return file


def _figures(run: Path) -> dict[str, Any]:
    """The best of each figure that the validations gave."""
    try:
        figures = json.loads((run / "docs" / "provenance.json").read_text("utf-8"))["figures"]
    except (OSError, ValueError, KeyError):
        return {}
    names = sorted({name for figure in figures for name in figure if name != "epoch"})
    return {"best": {name: max(figure[name] for figure in figures if name in figure) for name in names}}


def _words(training: Training, begun: int, start: float) -> str:
    """How far it is, and how long it will take."""
    epoch, best = training.epoch, _best(training.log)
    text = f"epoch {epoch} of {training.epochs}" + (f", best {best}" if best else "")
    if epoch > begun:
        left = (time.monotonic() - start) / (epoch - begun) * (training.epochs - epoch)
        text += f", {duration(left)} left"
    return text


def _best(log: Path) -> str:
    """The best figure of the validations so far, from the end of the log."""
    if not log.is_file():
        return ""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - (1 << 16)))
        found = _BEST.findall(stream.read())
    return f"{found[-1][0].decode()} {float(found[-1][1]):.2f}" if found else ""
