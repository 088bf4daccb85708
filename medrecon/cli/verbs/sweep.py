"""The verb `sweep`: what it takes, and what its help says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from medrecon.cli.options import Bundle, Device, EncoderWeights, HeldOut, Json
from medrecon.cli.session import Outcome, Session

EXAMPLES = (
    "Examples:  medrecon sweep SCANS/ OUT/ --bundle frozen_encoder_inversion --encoder-weights "
    "vgg16.safetensors --layer relu3_3 --widths 16,32,64 --depths 1,2,4 --held-out 'ct_chest*'  |  "
    "medrecon sweep SCANS/ OUT/ --layer level4 --recipes pixel,adversarial --steps 2000 --held-out t1.nii.gz"
)


def sweep(
    ctx: typer.Context,
    scans: Annotated[Path, typer.Argument(metavar="SCANS", help="Folder of scans, searched to the bottom.")],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT",
            help="Folder for the table, the pictures and a bundle for each variant. The same command again "
            "goes on where it was stopped.",
        ),
    ],
    layer: Annotated[
        str,
        typer.Option(
            "--layer", "-l", metavar="NAME", help="What each decoder is trained for, e.g. relu3_3 or a+b."
        ),
    ],
    held_out: HeldOut = None,
    bundle: Bundle = "slice_autoencoder",
    widths: Annotated[
        str,
        typer.Option(
            metavar="N,N,...",
            help="Channels of the decoder: its first entry of widths, the others keep their proportion.",
        ),
    ] = "",
    depths: Annotated[str, typer.Option(metavar="N,N,...", help="The decoder's depths.")] = "",
    recipes: Annotated[
        str,
        typer.Option(
            metavar="NAME,NAME,...",
            help="Losses: 'pixel' is train.yaml alone, any other name an overlay beside it (perceptual, "
            "adversarial), a plus joins overlays.",
        ),
    ] = "",
    vary: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer evaluates this at run time, also on Python 3.10
        typer.Option(metavar="ID=V,V,...", help="Vary any id of train.yaml, as YAML values; repeatable."),
    ] = None,
    fixed: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="ID=V", help="Set an id of train.yaml alike for all; repeatable."),
    ] = None,
    minutes: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            help="Equal time: as many steps as fit, by the speed of the first ones. Default: 2 minutes."
        ),
    ] = None,
    steps: Annotated[Optional[int], typer.Option(help="Equal steps instead.")] = None,  # noqa: UP045
    encoder_weights: EncoderWeights = None,
    slices: Annotated[
        int,
        typer.Option(
            min=1,
            help="Slices of each scan to measure on, evenly spaced; a 3D network gets a block instead.",
        ),
    ] = 4,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a decoder many ways under one budget, and plot what it keeps of other scans against its cost."""
    session: Session = ctx.obj
    session.json = as_json

    def work() -> Outcome:
        from medrecon.cli.sweep import run_sweep

        return run_sweep(
            session,
            scans,
            output,
            bundle=bundle,
            layer=layer,
            held_out=held_out or [],
            widths=widths,
            depths=depths,
            recipes=recipes,
            vary=vary or [],
            fixed=fixed or [],
            minutes=minutes,
            steps=steps,
            encoder_weights=encoder_weights,
            slices=slices,
            device=device,
        )

    session.run(work)
