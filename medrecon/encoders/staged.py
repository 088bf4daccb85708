"""What frozen networks that are one chain of stages share: they stop at the deepest layer asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from medrecon.contract import Features
from medrecon.encoders.frozen import Frozen
from medrecon.encoders.naming import resolve_layers
from medrecon.errors import ModelError


class StagedEncoder(Frozen):
    """Base of frozen encoders whose layers follow one another.

    Subclasses say what an image must look like to the network, and which stage follows which. Nothing is
    padded: each stage of stride s gives ceil(n / s) positions, as convolutions padded by half a kernel do.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels that an image may have.
    """

    def __init__(self, spatial_dims: int, in_channels: tuple[int, ...]) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels

    @abstractmethod
    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """The image, scaled to [0, 1] or so, as the weights expect it."""

    @abstractmethod
    def stages(self) -> Iterator[tuple[tuple[str, ...], nn.Module]]:
        """Each stage with the names of the layers that it ends (none: a step between two)."""

    def forward(self, image: torch.Tensor, names: Iterable[str] | None = None) -> Features:
        """Features of `image`; computes nothing beyond the deepest layer asked for.

        Args:
            image: (B, C, *spatial), scaled to [0, 1] (values beyond are allowed), of any size.
            names: layers, all when None.

        Returns:
            name -> (B, channels, *ceil(spatial / stride)).

        Raises:
            ModelError: a layer that does not exist, or an image of another form.
        """
        wanted = resolve_layers(names, [info.name for info in self.layers()])
        if image.ndim != self.spatial_dims + 2 or image.shape[1] not in self.in_channels:
            axes = ", ".join("XYZ"[: self.spatial_dims])
            channels = " or ".join(map(str, self.in_channels))
            raise ModelError(
                f"{type(self).__name__} takes (B, {channels}, {axes}), not {tuple(image.shape)}",
                remedy="give it an image of that form",
            )
        x, found = self.normalise(image), Features()
        for labels, stage in self.stages():
            x = stage(x)
            found.update({label: x for label in labels if label in wanted})
            if len(found) == len(wanted):
                break
        return {name: found[name] for name in wanted}


def z_score(image: torch.Tensor, chosen: torch.Tensor | None = None, correction: int = 1) -> torch.Tensor:
    """Each image less its mean, over its standard deviation (1 where that is 0), in float32.

    Args:
        image: (B, C, *spatial).
        chosen: voxels whose statistics count, of the same shape; all when None.
        correction: 1 for the deviation of a sample (n - 1), 0 for that of a population (n).
    """
    with torch.autocast(image.device.type, enabled=False):
        x = image if image.dtype == torch.float64 else image.float()
        weight = torch.ones_like(x) if chosen is None else chosen.to(x.dtype)
        axes = tuple(range(1, x.ndim))
        count = weight.sum(axes, keepdim=True)
        centred = x - (x * weight).sum(axes, keepdim=True) / count.clamp_min(1)
        variance = (centred.square() * weight).sum(axes, keepdim=True) / (count - correction).clamp_min(1)
        # A floor under the root would magnify rounding, and its gradient is infinite at 0.
        return centred / torch.where(variance > 1e-12, variance, 1.0).sqrt()
