"""Any network as an encoder: its layers tapped while it runs, their strides measured, no code for each."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from medrecon.contract import Features, LayerInfo
from medrecon.encoders.adapt import ChannelMeanStd, Statistic, intensity_map
from medrecon.encoders.channels import find_channels
from medrecon.encoders.frozen import Frozen
from medrecon.encoders.naming import resolve_layers
from medrecon.encoders.tapped.asked import check_asked
from medrecon.encoders.tapped.checkpoint import load_checkpoint
from medrecon.encoders.tapped.dryrun import seeded
from medrecon.encoders.tapped.fields import measure_fields
from medrecon.encoders.tapped.first import initialise_lazy
from medrecon.encoders.tapped.inputs import Inputs
from medrecon.encoders.tapped.layout import Shape, times
from medrecon.encoders.tapped.probe import Survey, survey
from medrecon.encoders.tapped.sizes import Sizes
from medrecon.encoders.tapped.watch import watch
from medrecon.errors import ModelError

RGB = 3
"""Channels of a colour image, each of which a grey one stands for."""


class TappedEncoder(Frozen):
    """Any network, frozen, tapped at any of its layers.

    A layer is a tensor that a module of the network returns: `layer1.0.conv2`, `relu:2` for what `relu`
    returns when it is called the second time, `vit[1][3]` for a part of a tuple, list or dictionary, and
    `output` for the network's own result. Grids with channels first or last and rows of tokens (B, N, C),
    with or without class tokens, all come out as (B, C, *positions). How the axes lie, the strides and the
    sizes that the network takes are measured when it is wrapped (`medrecon.encoders.tapped.probe`).

    The network runs up to the deepest layer asked for. Hooks are on it only while it runs. Gradients reach
    the image; the weights never change. A network that draws random numbers draws the same ones each time.

    Args:
        network: maps an image (B, C, *spatial) to anything; frozen in place, not copied.
        layers: the layers to offer: names or patterns (`encoder*.conv?`); all that can be tapped when None.
            For `conv[3]`, a channel, the whole layer is offered (`ChannelsEncoder` gives the channel).
        spatial_dims: 2 or 3; as in the network's first convolution when None.
        in_channels: channels that the network takes; found by trying when None. A grey image is repeated.
        intensity: maps images in [0, 1] to what the weights expect: a module of `medrecon.encoders.adapt`, or
            its short form (`intensity_map`) such as {"hu": [-160, 240]}; applied
            before a grey image is repeated; nothing when None.
        window: the spatial size that the network is to be given. Needed where it is a fixed size that is not
            found by trying; wanted where the network has norms over space and was used on windows of that
            size, and to tap layers that are one vector for the whole image.
        weights: a safetensors or torch file with all of the network's tensors (`load_checkpoint`); None or
            "random" leaves it as it is.
        sha256: expected SHA-256 of that file, None for any.
        geometry: transforms of the grid that the network expects (`Encoder`).
        notes: what must be said of it.
        scale: see `Encoder`.
        units: see `Encoder`.
        channel_names: of the images that it takes as channels; numbers where it takes several without names.
        inputs: what the network takes beside the image, by the names of `forward`'s parameters: a number (one
            for each image of a batch), nested lists (the same for each), or "image", the image itself.
        weights_key: which weights of a checkpoint that holds several (`load_checkpoint`).
        empty: channels that get zeros, since they are for what a user draws.
        operations: tap functions too: `layer1.0/add` is the sum that the forward pass of `layer1.0` computes.

    Attributes:
        window: the size that it must or should be given, None where any will do.
        multiple: the image is padded to a multiple of this along each axis, its far end repeated; volumes are
            to be cut on multiples of it.
        refused: what cannot be tapped, by name, and why.

    Raises:
        ModelError: the network does not run on an image alone, weights that do not fit, unknown layers.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: str | Iterable[str] | None = None,
        spatial_dims: int | None = None,
        in_channels: int | None = None,
        intensity: Any = None,
        window: Sequence[int] | None = None,
        weights: str | Path | None = None,
        sha256: str | None = None,
        geometry: Sequence[Any] = (),
        notes: Sequence[str] = (),
        scale: tuple[float, float] | None = None,
        units: str = "",
        channel_names: Sequence[str] = (),
        inputs: Mapping[str, Any] | None = None,
        weights_key: str | None = None,
        empty: Sequence[int] = (),
        operations: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.intensity = intensity_map(intensity) or nn.Identity()
        if not operations:
            check_asked(network, layers)
        initialise_lazy(network, spatial_dims, in_channels, Inputs(inputs or {}))
        said = load_checkpoint(network, weights, sha256, weights_key)
        self.freeze()
        given = Inputs(inputs or {})
        self._survey: Survey = survey(network, spatial_dims, in_channels, window, given, operations)
        self.spatial_dims = self._survey.spatial_dims
        self.in_channels = self._survey.in_channels
        self.window = self._survey.window or (None if window is None else tuple(window))
        self.multiple: Shape = self._survey.multiple
        self.refused = dict(self._survey.refused)
        self.geometry, self.notes = list(geometry), [*notes, *said]
        self.scale, self.units = scale, units
        self.empty = tuple(empty)
        self.channel_names = self._named(channel_names)
        for module in self.intensity.modules():
            if isinstance(module, ChannelMeanStd) and (note := module.suit(self.in_channels)):
                self.notes.append(note)
        self._taps = {name: self._survey.taps[name] for name in self._choose(layers)}
        self._fields: dict[str, Shape | None] = {}
        self._sizes = Sizes(network, self._survey, self._taps)

    def layers(self) -> list[LayerInfo]:
        """The layers offered, in the order in which they are computed.

        Their receptive fields are None (unknown) until `measure` has been called.
        """
        return [
            LayerInfo(name, tap.layout.channels, tap.layout.stride, self._fields.get(name))
            for name, tap in self._taps.items()
        ]

    def measure(self) -> list[LayerInfo]:
        """The layers with their receptive fields, measured once: seconds (`measure_fields` says how)."""
        missing = [name for name in self._taps if name not in self._fields]
        if missing and any(isinstance(module, Statistic) for module in self.intensity.modules()):
            self._fields.update(dict.fromkeys(missing))  # the image's statistics reach everywhere
        elif missing:
            self._fields.update(measure_fields(self.network, self._survey, missing))
        return self.layers()

    def forward(self, image: torch.Tensor, names: Iterable[str] | None = None) -> Features:
        """Features of an image.

        Args:
            image: (B, 1 or in_channels, *spatial), [0, 1], of any size unless the network takes one size
                only; a smaller image is padded to that, its far ends repeated.
            names: layers, all that are offered when None.

        Returns:
            name -> (B, channels, *ceil(spatial / stride)).

        Raises:
            ModelError: a layer that is not offered, an image of another form or too large.
        """
        wanted = resolve_layers(names, self._taps)
        size = tuple(image.shape[2:])
        padded = self._sizes.pad(self._prepare(image))
        shape = tuple(padded.shape[2:])
        found: Features = {}

        def see(key: str, module: str, tensor: torch.Tensor) -> bool:
            if key in wanted and key not in found:
                last = len(found) + 1 == len(wanted)
                found[key] = tensor.clone() if self._taps[key].overwritten and not last else tensor
            return len(found) == len(wanted)

        modules = {self._taps[name].module for name in wanted}
        with seeded(padded.device, self._survey.random):
            watch(
                self.network,
                lambda: self._survey.inputs.run_or_refuse(self.network, padded),
                see,
                modules,
                self._survey.operations,
            )
        missing = [name for name in wanted if name not in found]
        if missing:
            raise ModelError(
                f"layer {missing[0]} was not computed for an image of {times(size)}",
                remedy="choose another layer, or give a larger image",
            )
        return {name: self._fit(found[name], name, size, shape) for name in wanted}

    @property
    def is_conditioned(self) -> bool:
        """Whether statistics of a whole image are held."""
        return any(module.held for module in self.intensity.modules() if isinstance(module, Statistic))

    @contextmanager
    def conditioned_on(self, whole: torch.Tensor) -> Iterator[None]:
        """Take the statistics that the intensity map needs (z-score, percentiles) from this whole image.

        Without it each call takes them from the image that it is given, which may be one window of a volume.
        Each slice of a volume is a whole image of its own.
        """
        statistics = [module for module in self.intensity.modules() if isinstance(module, Statistic)]
        if len(whole) > 1:
            yield
            return
        try:
            # Gradients will flow past what is held: it must not be made by `torch.inference_mode`.
            with torch.inference_mode(False), torch.no_grad():
                for module in statistics:
                    module.hold()
                self.intensity(_plain(whole).to(self._like(whole).device, torch.float32))
            yield
        finally:
            for module in statistics:
                module.release()

    def _named(self, names: Sequence[str]) -> tuple[str, ...]:
        count = self.in_channels - len(self.empty)
        colour = count == RGB and self.spatial_dims == 2
        if len(names) == count > 1:
            return tuple(names)
        return () if count == 1 or colour else tuple(map(str, range(1, count + 1)))

    def _like(self, image: torch.Tensor) -> torch.Tensor:
        """A tensor of the type and on the device that the network works with."""
        return next(self.network.parameters(), image)

    def _choose(self, layers: str | Iterable[str] | None) -> list[str]:
        known = list(self._survey.taps)
        if not known:
            raise ModelError(
                f"no layer of {type(self.network).__name__} follows an image alone",
                remedy="give what else it takes (a class, a prompt) with --encoder-inputs",
            )
        if layers is None:
            return known
        chosen: set[str] = set()
        asked = [layers] if isinstance(layers, str) else list(layers)
        single = find_channels(
            asked,
            [LayerInfo(name, t.layout.channels, t.layout.stride) for name, t in self._survey.taps.items()],
        )
        for name in [single[name][0] if name in single else name for name in asked]:
            matching = [] if name in known else fnmatch.filter(known, name)
            if name in self.refused:
                raise ModelError(
                    f"layer {name} cannot be tapped: {self.refused[name]}", remedy="choose another"
                )
            chosen.update(matching or resolve_layers(name, known))
        return [name for name in known if name in chosen] or list(resolve_layers((), known))

    def _prepare(self, image: torch.Tensor) -> torch.Tensor:
        """The image as the weights expect it, with the channels that the network takes."""
        full = self.in_channels - len(self.empty)
        if image.ndim != self.spatial_dims + 2 or image.shape[1] not in (1, full):
            axes = ", ".join("XYZ"[: self.spatial_dims])
            channels = "1" if full == 1 else f"1 or {full}"
            raise ModelError(
                f"this encoder takes (B, {channels}, {axes}), not {tuple(image.shape)}",
                remedy="give it an image of that form",
            )
        mapped = self.intensity(_plain(image))
        if mapped.shape[1] != self.in_channels:
            mapped = self._filled(mapped)
        like = self._like(mapped)
        return mapped.to(like.dtype) if like.is_floating_point() else mapped

    def _filled(self, image: torch.Tensor) -> torch.Tensor:
        """The channels that the network takes: a grey image repeated, those that are drawn empty."""
        parts, given = [], iter(image.unbind(1))
        for channel in range(self.in_channels):
            if channel in self.empty:
                parts.append(torch.zeros_like(image[:, 0]))
            else:
                parts.append(image[:, 0] if image.shape[1] == 1 else next(given))
        return torch.stack(parts, dim=1)

    def _fit(self, tensor: torch.Tensor, name: str, size: Shape, padded: Shape) -> torch.Tensor:
        """A layer's tensor as (B, C, *positions), cut to the positions that cover the image."""
        layout = self._taps[name].layout
        try:
            grid = layout.arrange(tensor, padded)
        except RuntimeError:
            raise ModelError(
                f"layer {name} has shape {tuple(tensor.shape)} at {times(size)}, which is off its stride",
                remedy="choose another layer, or give another size",
            ) from None
        wanted = layout.positions(size) if layout.kind != "vector" else (1,) * len(size)
        for axis, n in enumerate(wanted, start=2):
            grid = grid.narrow(axis, 0, min(n, grid.shape[axis]))
        missing = [
            p for n, h in zip(reversed(wanted), reversed(grid.shape), strict=False) for p in (0, n - h)
        ]
        return functional.pad(grid, missing, mode="replicate") if any(missing) else grid


def _plain(image: torch.Tensor) -> torch.Tensor:
    return image if type(image) is torch.Tensor else image.as_subclass(torch.Tensor)
