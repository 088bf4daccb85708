"""The verb `layers`: what it takes, and what its help says."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from medrecon.cli.options import Bundle, Encoder, EncoderArguments, EncoderWeights, Json
from medrecon.cli.session import Outcome, Session

EXAMPLES = (
    "Examples:  medrecon layers --bundle slice_autoencoder  |  medrecon layers --encoder vgg16  |  "
    "medrecon layers --encoder monai.networks.nets.SegResNet --encoder-arguments '{\"spatial_dims\": 3}' "
    "--weights model.pt --layers 'down_layers.?' --size 96,96,96  |  "
    "medrecon layers --encoder spleen_ct_segmentation/"
)


def layers(
    ctx: typer.Context,
    bundle: Bundle = "volume_autoencoder",
    encoder: Encoder = None,
    weights: EncoderWeights = None,
    arguments: EncoderArguments = None,
    chosen: Annotated[
        Optional[str],  # noqa: UP045 - typer evaluates this at run time, also on Python 3.10
        typer.Option(
            "--layers", "-l", metavar="NAMES", help="Only these: names or patterns (encoder*), by comma."
        ),
    ] = None,
    size: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--size", metavar="X,Y,Z", help="Size of the image that shapes and bytes are given for."
        ),
    ] = None,
    fields: Annotated[
        bool,
        typer.Option(
            "--fields/--no-fields", help="Measure receptive fields of a tapped network, which takes seconds."
        ),
    ] = True,
    as_json: Json = False,
) -> None:
    """List the layers of a bundle, or all that can be tapped of any network: shape, stride, bytes, field."""
    session: Session = ctx.obj
    session.json = as_json

    def work() -> Outcome:
        from medrecon.cli.layers import list_bundle, list_encoder

        if encoder is None:
            return list_bundle(bundle)
        return list_encoder(
            encoder, weights=weights, arguments=arguments, layers=chosen, size=size, fields=fields
        )

    session.run(work)
