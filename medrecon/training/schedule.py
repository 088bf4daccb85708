"""The learning rate of a training that can be made longer: warm up, hold, decay."""

from __future__ import annotations


def warm_hold_decay(epoch: int, *, max_epochs: int, warm_up: int, decay: int) -> float:
    """The share of the learning rate in an epoch, as `torch.optim.lr_scheduler.LambdaLR` takes it.

    It rises over `warm_up` epochs, stays at 1, and falls to 0 over the last `decay` of `max_epochs`. While it
    holds it depends on neither, so that a training goes on from a checkpoint of that time with more epochs
    as if they had been meant from the start.

    Args:
        epoch: counted from 0.
        max_epochs, warm_up, decay: epochs.
    """
    return max(0.0, min(1.0, (epoch + 1) / (warm_up + 1), (max_epochs - epoch) / (decay + 1)))
