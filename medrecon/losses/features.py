"""Distances between what a frozen network sees in two images."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from medrecon.contract import LayerInfo
from medrecon.errors import ModelError
from medrecon.losses.slices import slice_batches


class FeatureLoss(ABC, nn.Module):
    """Weighted mean over layers of a distance between the features of two images.

    A 2D encoder sees a volume by slices along all three axes: random ones while training, evenly spaced ones
    in evaluation. Subclasses say what the distance is.

    Args:
        encoder: frozen, with `layers()` and `forward(image, names)`; it stays in evaluation mode.
        layers: names, or names with weights.
        slices_per_axis: how many slices of a volume a 2D encoder sees along each axis.
        window: while training, look at a part of each image with as many pixels a side, drawn by chance; at
            all of it when None.
        mixed_precision: run the encoder in bfloat16 (autocast).

    Raises:
        ModelError: an encoder that would be trained along, a layer it does not have, or weights below zero.
    """

    def __init__(
        self,
        encoder: nn.Module,
        layers: Sequence[str] | Mapping[str, float],
        slices_per_axis: int = 4,
        window: int | None = None,
        mixed_precision: bool = False,
    ) -> None:
        super().__init__()
        self.window = window
        self.mixed_precision = mixed_precision
        if any(parameter.requires_grad for parameter in encoder.parameters()):
            raise ModelError(
                "a loss needs a frozen encoder: this one could be trained to see no difference",
                remedy="wrap it in medrecon.encoders.FrozenEncoder",
            )
        infos: dict[str, LayerInfo] = {info.name: info for info in encoder.layers()}  # type: ignore[operator]
        weights = dict(layers) if isinstance(layers, Mapping) else dict.fromkeys(layers, 1.0)
        unknown = [name for name in weights if name not in infos]
        if unknown or not weights:
            wrong = f"the encoder has no layer {unknown[0]!r}" if unknown else "no layer was asked for"
            raise ModelError(wrong, remedy=f"choose from {', '.join(infos)}")
        if min(weights.values()) < 0 or sum(weights.values()) <= 0:
            raise ModelError(f"layer weights must be positive, got {weights}", remedy="give positive weights")
        self.encoder = encoder.eval()
        self.layers: dict[str, float] = weights
        self.slices_per_axis = slices_per_axis
        self._infos = infos

    def train(self, mode: bool = True) -> FeatureLoss:
        """Switch between random and evenly spaced slices; the encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    @abstractmethod
    def distance(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Scalar distance of two feature maps (B, C, *positions), float32."""

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Scalar loss of two images (B, C, *spatial) of one shape; gradients flow to `pred` only.

        Raises:
            ModelError: images of other dimensions than the encoder takes.
        """
        dims = len(next(iter(self._infos.values())).stride)
        axes = pred.ndim - 2
        if axes == dims:
            return self._compare(pred, target)
        if (axes, dims) != (3, 2):
            raise ModelError(
                f"a {dims}D encoder cannot compare {axes}D images",
                remedy="use an encoder of their dimensions",
            )
        smallest = max(max(self._infos[name].stride) for name in self.layers)
        batches = slice_batches(
            (pred, target), self.slices_per_axis, shuffled=self.training, smallest=smallest
        )
        return torch.stack([self._compare(*batch) for batch in batches]).mean()

    def _compare(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        names: Iterable[str] = tuple(self.layers)
        if self.training and self.window is not None:
            pred, target = _window((pred, target), self.window)
        kind = pred.device.type
        with torch.autocast(kind, torch.bfloat16) if self.mixed_precision else contextlib.nullcontext():
            seen = self.encoder(pred, names)
            with torch.no_grad():
                wanted = self.encoder(target, names)
        total = pred.new_zeros((), dtype=torch.float32)
        with torch.autocast(pred.device.type, enabled=False):
            for name, weight in self.layers.items():
                total = total + weight * self.distance(seen[name].float(), wanted[name].float())
        return total / sum(self.layers.values())


class PerceptualLoss(FeatureLoss):
    """Squared distance of feature vectors scaled to unit length, mean over positions.

    As LPIPS without its learned weights (Zhang et al. 2018, arXiv:1801.03924): each layer gives 0 to 4 (0 to
    2 after a ReLU), whatever the scale of its features. Unlike there, vectors much shorter than is usual in
    the target's layer count for little: in air a scaled-up vector is noise, and its gradient is huge.

    Args:
        encoder, layers, slices_per_axis, window, mixed_precision: see `FeatureLoss`.
        eps: length below which a vector counts for little, relative to the root mean square length.
    """

    def __init__(
        self,
        encoder: nn.Module,
        layers: Sequence[str] | Mapping[str, float],
        slices_per_axis: int = 4,
        eps: float = 0.1,
        window: int | None = None,
        mixed_precision: bool = False,
    ) -> None:
        super().__init__(encoder, layers, slices_per_axis, window, mixed_precision)
        self.eps = eps

    def distance(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean over positions of |p/|p| - t/|t||^2."""
        power = target.square().sum(1, keepdim=True)
        usual = power.flatten(1).mean(1).view(-1, *(1,) * (target.ndim - 1))
        floor = self.eps**2 * usual + 1e-6  # the constant is for layers that see nothing at all
        scaled = target / (power + floor).sqrt()
        return (pred / (pred.square().sum(1, keepdim=True) + floor).sqrt() - scaled).square().sum(1).mean()


class FeatureConsistencyLoss(FeatureLoss):
    """Does the result, encoded again, give the features that it was made from?

    Squared error over the squared norm of the target's features, per image: the normalised representation
    error of Mahendran & Vedaldi (2015, arXiv:1412.0035); 1 is what features of zero would give.

    Args:
        encoder, layers, slices_per_axis: see `FeatureLoss`.
        eps: mean square below which the target's features count as nothing.
    """

    def __init__(
        self,
        encoder: nn.Module,
        layers: Sequence[str] | Mapping[str, float],
        slices_per_axis: int = 4,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(encoder, layers, slices_per_axis)
        self.eps = eps

    def distance(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean over images of |p - t|^2 / |t|^2."""
        error = (pred - target).square().flatten(1).mean(1)
        return (error / (target.square().flatten(1).mean(1) + self.eps)).mean()


def _window(images: tuple[torch.Tensor, ...], side: int) -> list[torch.Tensor]:
    """The same part of each image (B, C, *spatial), at most `side` pixels a side, drawn by chance."""
    for axis, size in enumerate(images[0].shape[2:], start=2):
        if size > side:
            start = int(torch.randint(size - side + 1, ()))
            images = tuple(image.narrow(axis, start, side) for image in images)
    return list(images)
