"""Validation in pictures: the source, what came back, and the difference, in TensorBoard."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.handlers.tensorboard_handlers import TensorBoardHandler

GAIN = 5.0


class TensorBoardReconstructions(TensorBoardHandler):
    """Show the first images of each validation, beside their reconstruction and its error.

    MONAI's `TensorBoardImageHandler` shows the last batch alone, and no error.

    Args:
        log_dir: TensorBoard's folder.
        count: how many images.
    """

    def __init__(self, log_dir: str = "./runs", count: int = 4) -> None:
        super().__init__(log_dir=log_dir)
        self.count = int(count)

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator whose output is dictionaries with `image` and `pred`."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._flush)

    def __call__(self, engine: Engine) -> None:
        """Show the first image of a batch."""
        number = engine.state.iteration
        if number <= self.count:
            output: Any = engine.state.output
            shown = output[0]
            picture = side_by_side(shown["image"][0], shown["pred"][0])
            self._writer.add_image(f"validation/{number}", picture, engine.state.epoch, dataformats="HW")

    def _flush(self, engine: Engine) -> None:
        self._writer.flush()


def side_by_side(image: torch.Tensor, pred: torch.Tensor, gain: float = GAIN) -> torch.Tensor:
    """(H, W) in [0, 1]: source, reconstruction and error from left to right; a volume's middle planes.

    Args:
        image: (*spatial), 2D or 3D, about [0, 1].
        pred: the same shape.
        gain: of the error, which is grey where it is zero.
    """
    source, recon = (torch.as_tensor(part).detach().float().cpu() for part in (image, pred))
    error = 0.5 + gain * (recon - source)
    rows = []
    for axis in reversed(range(source.ndim)) if source.ndim == 3 else [None]:
        planes = [
            part if axis is None else part.select(axis, part.shape[axis] // 2)
            for part in (source, recon, error)
        ]
        rows.append(torch.cat([plane.T for plane in planes], dim=1))
    width = max(row.shape[1] for row in rows)
    rows = [torch.nn.functional.pad(row, (0, width - row.shape[1])) for row in rows]
    return torch.cat(rows).clamp(0, 1)
