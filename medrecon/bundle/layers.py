"""The layers of any network, by name."""

from __future__ import annotations

from pathlib import Path

from medrecon.bundle.config import Bundle, layers_of
from medrecon.contract import LayerInfo
from medrecon.encoders import build_encoder


def layers(
    bundle: str | Path = "volume_autoencoder",
    *,
    encoder: str | None = None,
    encoder_weights: str | Path | None = None,
    encoder_arguments: str | None = None,
) -> list[LayerInfo]:
    """What can be turned back into an image: each layer with its channels, stride and receptive field.

    Args:
        bundle: name of a bundle that comes with medrecon, or a bundle's folder.
        encoder: any other network in its place; see `medrecon.encoders.build_encoder`.
        encoder_weights: file of the encoder's weights.
        encoder_arguments: of the encoder's class, as JSON.

    Raises:
        ModelError: it cannot be built or tapped.
    """
    if encoder is None:
        return list(layers_of(Bundle.open(bundle)))
    built = build_encoder(encoder, weights=encoder_weights, arguments=encoder_arguments)
    return list(built.layers())
