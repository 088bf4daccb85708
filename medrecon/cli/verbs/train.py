"""The verb `train`: what it takes, and what its help says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from medrecon.cli.options import (
    Bundle,
    ClusterOption,
    Device,
    EncoderWeights,
    Gpus,
    HeldOut,
    Json,
    Nodes,
)
from medrecon.cli.session import Outcome, Session

EXAMPLES = (
    "Examples:  medrecon train SCANS/ RUN/ --held-out 'ct_abdomen*'  |  medrecon train SCANS/ RUN/ "
    "--bundle slice_autoencoder --overlay adversarial --set max_epochs=20  |  medrecon train SCANS/ RUN/ "
    "--cluster slurm --gpus 4 --cluster-option partition=gpu --cluster-option walltime=12:00:00"
)


def train(
    ctx: typer.Context,
    scans: Annotated[Path, typer.Argument(metavar="SCANS", help="Folder of scans, searched to the bottom.")],
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="Folder for checkpoints, train.log and tensorboard/; in the end it is a bundle: --bundle "
            "RUN. The same command again goes on from the last checkpoint.",
        ),
    ],
    held_out: HeldOut = None,
    bundle: Bundle = "volume_autoencoder",
    overlay: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer evaluates this at run time, also on Python 3.10
        typer.Option(
            metavar="NAME",
            help="A configuration of the bundle to merge after train.yaml, such as adversarial; repeatable.",
        ),
    ] = None,
    fixed: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--set", metavar="ID=V", help="Set an id of train.yaml, such as max_epochs=20; repeatable."
        ),
    ] = None,
    encoder_weights: EncoderWeights = None,
    processes: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            "--processes",
            "-n",
            min=1,
            metavar="N",
            help="On each machine, joined by torchrun: N times the batch. Default: one for each GPU, else 1.",
        ),
    ] = None,
    cluster: Annotated[str, typer.Option(metavar="local|slurm|pbs", help="Where it runs.")] = "local",
    nodes: Nodes = 1,
    gpus: Gpus = None,
    cluster_option: ClusterOption = None,
    restarts: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="How often in a row it may die without a new checkpoint: a killed process, a lost machine "
            "or a time limit starts it again from the last one.",
        ),
    ] = 3,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a bundle on your scans, here or on a cluster; what dies goes on from its last checkpoint."""
    session: Session = ctx.obj
    session.json = as_json

    def work() -> Outcome:
        from medrecon.cli.train import Asked, train_bundle

        asked = Asked(
            processes=processes,
            cluster=cluster,
            nodes=nodes,
            gpus=gpus,
            cluster_options=tuple(cluster_option or ()),
            restarts=restarts,
            device=device,
        )
        return train_bundle(
            session,
            scans,
            run,
            bundle=bundle,
            held_out=held_out or [],
            overlays=overlay or [],
            fixed=fixed or [],
            encoder_weights=encoder_weights,
            asked=asked,
        )

    session.run(work)
