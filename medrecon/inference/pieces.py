"""Pieces of an image, encoded as parts of the whole."""

from __future__ import annotations

import contextlib
from typing import Any

import torch


def statistics_of(
    network: Any, image: torch.Tensor, device: torch.device
) -> contextlib.AbstractContextManager[object]:
    """Within: an encoder that looks at its whole image (statistics, a price) looks at this one.

    Pieces are then encoded as parts of the whole. What is held already stays: a part of an image that is cut
    in turn belongs to the whole.

    Args:
        network: a `Reconstructor`, or what stands in for one.
        image: (B, 1, *spatial); a volume also for a network of slices.
        device: where the encoder runs.
    """
    encoder = unwrapped(getattr(network, "encoder", None))
    dims = getattr(encoder, "spatial_dims", None)
    known = image.shape[0] == 1 and hasattr(encoder, "normalised_by")
    if not known or getattr(encoder, "normalised", False):
        return contextlib.nullcontext()
    if getattr(encoder, "shares_budget", False):
        image = slices_first(image) if dims == image.ndim - 3 else image
    elif dims == image.ndim - 2:
        image = image.to(device, torch.float32)
    else:
        return contextlib.nullcontext()
    whole: contextlib.AbstractContextManager[object] = encoder.normalised_by(image)
    return whole


def unwrapped(encoder: Any) -> Any:
    """The encoder within those that only freeze it or keep what it gave (`wrapped`)."""
    while getattr(encoder, "wrapped", None) is not None:
        encoder = encoder.wrapped
    return encoder


def slices_first(image: torch.Tensor) -> torch.Tensor:
    """(1, C, X, Y, slices) -> (slices, C, X, Y): a volume as a network of slices takes it."""
    return image[0].movedim(-1, 0)
