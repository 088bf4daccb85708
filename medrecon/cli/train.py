"""The command `train`: check, start, show how far it is, and say what came of it."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medrecon.cli.command import verb
from medrecon.cli.declare import option
from medrecon.cli.linear import DEFAULT, refuse_channels
from medrecon.cli.machines import Machines, machine_option
from medrecon.cli.networks import OtherNetwork
from medrecon.cli.options import Bundle, Device, DryRun, HeldOut, Scans, Set, layers_option
from medrecon.cli.progress import long_work
from medrecon.cli.session import Outcome, Session
from medrecon.errors import ModelError, UsageError, near

if TYPE_CHECKING:
    from rich.console import Console

    from medrecon.training.launch import Training
    from medrecon.training.launch.attempts import Launched

_LINE_EVERY = 60.0
_BEST = re.compile(rb"Key metric: (\w+) best value: (-?[\d.]+)")


@verb(
    "medrecon train SCANS/ RUN/ --held-out 'ct_abdomen*'",
    "medrecon train SCANS/ RUN/ --bundle slice_autoencoder \\\n"
    "      --overlay adversarial --set max_epochs=20",
    "medrecon train SCANS/ RUN/ --encoder vgg16 --weights vgg16.safetensors \\\n"
    "      --layers relu2_2,relu3_3 --held-out 'ct_abdomen*'",
    "medrecon train SCANS/ RUN/ --cluster slurm --gpus 4 \\\n"
    "      --cluster-option partition=gpu --cluster-option walltime=12:00:00",
    takes="36 to 59 minutes on two CPU cores for the bundles whose pages say so; see each bundle's page.",
)
def train(
    session: Session,
    scans: Scans,
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="Folder for checkpoints, train.log and tensorboard/; in the end it is a bundle: --bundle "
            "RUN. The same command again goes on from the last checkpoint.",
        ),
    ],
    machines: Machines,
    other: OtherNetwork,
    held_out: HeldOut = None,
    layers: Annotated[
        str | None,
        layers_option(
            "With --encoder: the layers to train a decoder for, by comma. It inverts each, and any of "
            "them joined.",
        ),
    ] = None,
    overlay: Annotated[
        list[str] | None,
        option(
            "--overlay NAME",
            "A configuration of the bundle to merge after train.yaml, such as adversarial; repeatable.",
        ),
    ] = None,
    fixed: Set = None,
    processes: Annotated[
        int | None,
        machine_option(
            "--processes -n N",
            "On each machine, joined by torchrun: N times the batch. Default: one for each GPU, else 1.",
            min=1,
        ),
    ] = None,
    restarts: Annotated[
        int,
        option(
            "--restarts N",
            "How often in a row it may die without a new checkpoint: a killed process, a lost machine "
            "or a time limit starts it again from the last one.",
            min=0,
        ),
    ] = 3,
    dry_run: DryRun = False,
    bundle: Bundle = DEFAULT,
    device: Device = "auto",
) -> Outcome:
    """Train a bundle, or decoders for any network.

    Here or on a cluster; what dies goes on from its last checkpoint. With --encoder the network stays as it
    is, and RUN becomes a bundle with decoders for the layers named.
    """
    other.check()
    network = _network_settings(other, layers, bundle)
    from medrecon.bundle.config import ANY_NETWORK, find_bundle, read_training
    from medrecon.bundle.results import encoder_setting
    from medrecon.io.files.lock import held
    from medrecon.training.data import training_items
    from medrecon.training.launch import launch, plan_training
    from medrecon.training.launch.runner import choose_runner
    from medrecon.training.sweep.variants import parse_assignments, parse_value

    root = find_bundle(ANY_NETWORK if network else bundle)
    files = [_overlay(root, name) for name in overlay or []]
    settings = network | parse_assignments(fixed, "--set", parse_value)
    config = read_training(root, files)
    settings |= {
        key: str(file)
        for key, file in encoder_setting(config, None if network else other.weights, root).items()
    }
    kept_out = held_out or list(config.get("held_out") or [])
    share = float(settings.get("phantom_share", config.get("phantom_share", 0.0)))
    used = training_items(scans, kept_out, share, settings.get("channels"))
    runner, count = choose_runner(device, processes=processes, **machines.given)
    with contextlib.nullcontext() if dry_run else held(run):
        training = plan_training(
            root,
            run,
            scans,
            held_out=kept_out,
            overlays=files,
            settings=settings,
            processes=count,
            nodes=machines.nodes,
            write=not dry_run,
        )
        on_each = f" on each of {machines.nodes} machines" if machines.nodes > 1 else ""
        session.say(
            f"{len(used)} scan(s), {count} process(es){on_each}, {training.epochs} epochs; {training.log}"
        )
        if dry_run:
            return _planned(training, used, kept_out)
        words = partial(_words, training, training.epoch, time.monotonic())
        with long_work(session, training.epochs, every=_LINE_EVERY, first="starting") as show:
            ended = launch(
                training,
                runner,
                restarts=restarts,
                tick=lambda: show(training.epoch, words),
                say=session.say,
            )
    return _trained(run, root.name, training.epochs, ended)


def _trained(run: Path, bundle: str, epochs: int, ended: Launched) -> Outcome:
    """What came of it."""
    from medrecon.cohort.progress import duration

    data: dict[str, Any] = {
        "run": str(run),
        "bundle": bundle,
        "epochs": epochs,
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


def _network_settings(other: OtherNetwork, layers: str | None, bundle: str) -> dict[str, Any]:
    """What --encoder and --layers fill in; nothing where a bundle is trained as it is.

    Raises:
        UsageError: the options do not make sense together.
        ModelError: the network cannot be built, or a layer cannot be tapped.
    """
    if other.encoder is None:
        refuse_channels(other, "--encoder-channels is for a network named with --encoder")
        if layers is not None:
            raise UsageError(
                "--layers is for a network named with --encoder",
                remedy="--set training_results=... for a bundle",
            )
        return {}
    other.instead_of(bundle, DEFAULT)
    named = other.layers(layers)
    other.check_scans(())
    from medrecon.training.any_network import network_settings

    recipe = other.recipe()
    return network_settings(recipe, named, recipe.pop("weights"), other.named_channels())


def _planned(training: Training, used: Sequence[Mapping[str, Any]], kept_out: Sequence[str]) -> Outcome:
    """What would be done."""
    data = {
        "run": str(training.run),
        "scans": len(used),
        "held_out": list(kept_out),
        "configurations": [str(file) for file in training.files],
        "processes": training.processes,
        "nodes": training.nodes,
        "epochs": training.epochs,
        "from_epoch": training.epoch,
    }

    def tell(console: Console) -> None:
        console.print(f"{len(used)} scan(s) to train on; held out: {', '.join(kept_out) or 'none'}")
        console.print(f"epochs {training.epoch} to {training.epochs}, in {training.run}")
        files = ", ".join(str(file) for file in training.files)
        console.print(f"configurations, one merged after the other: {files}")
        console.print("nothing was written")

    return Outcome(data, tell)


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
    from medrecon.cohort.progress import duration

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
