"""A trainer of a few steps on images of one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.engines import SupervisedTrainer
from torch import nn

from medrecon.training.data import image_is_target


def trainer_of(
    network: nn.Module, epochs: int, images: Sequence[torch.Tensor], *, rate: float, **options: Any
) -> SupervisedTrainer:
    """Plain gradient descent towards the image itself: one step an image."""
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=[{"image": image} for image in images],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=rate),
        loss_function=nn.MSELoss(),
        prepare_batch=image_is_target,
        **options,
    )
