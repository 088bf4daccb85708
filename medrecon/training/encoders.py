"""What training needs before its first step where an encoder is fitted, not descended."""

from __future__ import annotations

import ignite.distributed as idist
import torch

from medrecon.reconstructor import Reconstructor
from medrecon.training.sampling import DrawnSamples


def fit_encoder(network: Reconstructor, samples: DrawnSamples, count: int = 160) -> None:
    """Fit the sets of coefficients of an `AdaptiveEncoder` to patches of the training data.

    Several processes end with the sets of the first one.

    Args:
        network: most encoders have nothing to fit, and stay as they are.
        samples: {"image": (1, *spatial)}; its epoch 0, which no training step sees, is looked at.
        count: patches to look at.
    """
    samples.set_epoch(0)
    images = (torch.as_tensor(samples.sample(place)["image"]).float() for place in range(count))
    network.encoder.fit((image.reshape(1, 1, *image.shape[1:]) for image in images), samples.seed)
    if idist.get_world_size() > 1:
        for buffer in network.encoder.buffers():
            buffer.copy_(torch.as_tensor(idist.broadcast(buffer.to(torch.float32))))
