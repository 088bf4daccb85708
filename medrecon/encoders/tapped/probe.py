"""What a network is like, found by running it on shapes alone: layers, strides, the sizes it takes."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from medrecon.encoders.tapped.dryrun import BATCH, MODES, Seen, ShapeRunner
from medrecon.encoders.tapped.first import channel_choices, dims_of, row_of
from medrecon.encoders.tapped.inputs import NOTHING, Inputs
from medrecon.encoders.tapped.layout import Layout, Shape, Unfit, layout_by_growth, layout_by_size, times
from medrecon.encoders.tapped.slabs import slabs
from medrecon.errors import ModelError, in_short

_FREE = (13440, 960, 192)  # 13440 = 2**7 * 3 * 5 * 7: a multiple of nearly every stride; attention needs less
_COSTLY = {2: 64, 3: 32}
_PATIENCE = 20.0
"""Seconds after which no more sizes are truly tried."""

_USUAL = (224, 96, 128, 64, 256, 32, 512, 160, 192, 384, 299, 48, 80, 336, 448, 28, 16)
_NAMES = ("img_size", "image_size", "input_size", "in_shape", "roi_size", "spatial_size")


@dataclass(frozen=True)
class Tap:
    """A tensor of a network that is a feature map.

    Attributes:
        module: the module that returns it.
        layout: where its channels and positions are.
        period: voxels along each axis after which the layers up to this one repeat themselves.
        overwritten: the network changes it in place later on.
    """

    module: str
    layout: Layout
    period: Shape
    overwritten: bool


@dataclass(frozen=True)
class Survey:
    """What was found of a network.

    Attributes:
        spatial_dims: axes of its images.
        in_channels: channels of its images.
        taps: its feature maps by name, in the order in which they are computed.
        refused: the other tensors, and why each is no feature map.
        window: the only size that it takes; None where it takes any multiple of `multiple`.
        multiple: sizes that it takes are multiples of this, along each axis.
        least: the least size along each axis that surely works.
        random: it draws random numbers, as the sampling of a variational autoencoder does.
        mode: how it was run, see `MODES`.
        inputs: what it was given beside the image.
        operations: functions that it calls are tapped too (`watch`).
    """

    spatial_dims: int
    in_channels: int
    taps: dict[str, Tap]
    refused: dict[str, str]
    window: Shape | None
    multiple: Shape
    least: Shape
    random: bool
    mode: str
    inputs: Inputs = NOTHING
    operations: bool = False

    def runner(self, network: nn.Module) -> ShapeRunner:
        """Runs this network for its shapes again."""
        return ShapeRunner(network, self.mode, self.in_channels, self.inputs, self.operations)


def survey(
    network: nn.Module,
    spatial_dims: int | None = None,
    in_channels: int | None = None,
    window: Sequence[int] | None = None,
    inputs: Inputs = NOTHING,
    operations: bool = False,
) -> Survey:
    """Find a network's feature maps, their channels and strides, and the sizes of image that it takes.

    The network runs on the meta device, where a tensor has a shape and no values: on one size, and with one
    axis after the other doubled. Axes that follow an axis of the image are space, the one that does not is
    the channel; the ratio is the stride. A network that takes one size alone is told by that size: the axes
    are then those that give the most even strides.

    Args:
        network: any module that maps an image (B, C, *spatial) to anything.
        spatial_dims: 2 or 3; that of its first convolution when None.
        in_channels: channels that it takes; found by trying when None.
        window: the size that it will be given, where it must be one; found by trying when None.
        inputs: what it takes beside the image.
        operations: tap the functions that it calls too.

    Raises:
        ModelError: the network does not run on an image alone, of any size tried.
    """
    network.eval()
    inputs.check(network)
    dims = spatial_dims or dims_of(network)
    if window is not None and len(window) != dims:
        raise ModelError(
            f"a window of {tuple(window)} does not suit a {dims}D network", remedy=f"give {dims}"
        )
    failures: dict[str, str] = {}
    ends = time.monotonic() + _PATIENCE
    for mode, channels in itertools.product(MODES, channel_choices(network, in_channels)):
        runner = ShapeRunner(network, mode, channels, inputs, operations)
        real = mode == "real"
        for size in (_COSTLY[dims],) if real else _FREE:
            found = _flexible(runner, size, dims, window)
            if found is not None:
                return found
        failures.setdefault(mode, runner.failure)
        for fixed in [tuple(window)] if window else _fixed_sizes(network, dims):
            if real and time.monotonic() > ends:
                continue
            found = _fixed(runner, fixed)
            if found is not None:
                return found
    said = in_short(failures[MODES[-1]])
    row = row_of(network)
    if row is not None and "cannot be multiplied" in said:  # the linear layer refused the image
        raise ModelError(
            f"{type(network).__name__} takes rows of {row} numbers, no image",
            remedy="name the network that sees the images",
        )
    wanted = "" if window is None else f" of {times(window)}"
    raise ModelError(
        f"{type(network).__name__} does not run on a {dims}D image{wanted} alone ({said})",
        remedy='give the size that it needs as an argument, {"_window_": [96, 96, 96]}, the channels, '
        '{"_in_channels_": 2}, or what else it takes with --encoder-inputs; or name a function of yours '
        "that returns the part that takes an image: net.py:part",
    )


def _flexible(runner: ShapeRunner, size: int, dims: int, window: Sequence[int] | None) -> Survey | None:
    """The survey of a network that takes any size, by doubling one axis after the other."""
    base_size = (size,) * dims
    base = runner.shapes(base_size)
    if base is None:
        return None
    grown = []
    for axis in range(dims):
        longer = runner.shapes([size * (2 if a == axis else 1) for a in range(dims)])
        if longer is None:
            return None
        grown.append(longer)
    more = runner.shapes(base_size, BATCH + 1) or {}

    def layout(key: str) -> Layout:
        shapes = [each[key].shape for each in grown if key in each]
        if len(shapes) < dims or key not in more:
            raise Unfit("it is not there at every size")
        if more[key].shape[:1] != (BATCH + 1,):
            raise Unfit("its first axis is not the batch")
        try:
            return layout_by_growth(base[key].shape, shapes, BATCH, size, dims)
        except Unfit:
            if window is not None:
                found = layout_by_size(base[key].shape, BATCH, base_size)
                if found.kind == "vector":
                    return Layout("vector", found.order, 0, found.channels, tuple(window))
            raise

    taps, refused = _sort(base, layout)
    grids = [tap.layout.stride for tap in taps.values() if tap.layout.kind != "vector"]
    strides = tuple(math.lcm(*(s[axis] for s in grids)) if grids else 1 for axis in range(dims))
    multiple = _multiple(runner, strides, base_size)
    if multiple is None:
        return None  # it takes hardly any size
    least = next(
        (tuple(m * q for m in multiple) for q in range(1, 9) if runner.takes([m * q for m in multiple])),
        base_size,
    )
    found = (taps, refused, None, multiple, least)
    return Survey(dims, runner.channels, *found, *runner.ways)


def _multiple(runner: ShapeRunner, strides: Shape, base: Shape) -> Shape | None:
    """The least multiple of the strides that sizes must be multiples of; None where none was found."""
    for factor in (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 64):
        step = [s * factor for s in strides]
        # Odd multiples, and more than one position: some norms refuse a single one.
        sizes = [[s * odd for s in step] for odd in (3, 5)]
        if runner.mode == "real":  # truly run: one axis at a time, the others as they were taken
            sizes = [
                [n if a == axis else side for a, side in enumerate(base)]
                for size in sizes
                for axis, n in enumerate(size)
            ]
        if all(runner.takes(size) for size in sizes):
            return tuple(step)
    return None


def _fixed(runner: ShapeRunner, size: Shape) -> Survey | None:
    """The survey of a network that takes this size only."""
    base = runner.shapes(size)
    more = runner.shapes(size, BATCH + 1)
    if base is None or more is None:
        return None
    hints: list[Shape] = []

    def layout(key: str) -> Layout:
        if key not in more or more[key].shape[:1] != (BATCH + 1,):
            raise Unfit("its first axis is not the batch: windows or tokens are mixed into it")
        found = layout_by_size(base[key].shape, BATCH, size, hints)
        if found.kind == "grid" and found.stride not in hints:
            hints.append(found.stride)
        return found

    taps, refused = _sort(base, layout)
    found = (taps, refused, size, size, size)
    return Survey(len(size), runner.channels, *found, *runner.ways)


def _sort(seen: dict[str, Seen], layout: Callable[[str], Layout]) -> tuple[dict[str, Tap], dict[str, str]]:
    layouts: dict[str, Layout] = {}
    refused: dict[str, str] = {}
    for key, each in seen.items():
        try:
            if not each.floating:
                raise Unfit("its values are no floating point numbers")
            found = layout(key)
            if each.drawn and found.kind == "tokens":
                raise Unfit("its tokens are drawn at random: they make no grid of the image")
        except Unfit as reason:
            refused[key] = str(reason)
            continue
        layouts[key] = found
    refused |= slabs({key: each.module for key, each in seen.items()}, layouts)
    taps: dict[str, Tap] = {}
    period: Shape | None = None
    for key, found in layouts.items():
        if key in refused:
            continue
        if found.kind != "vector":
            period = tuple(map(math.lcm, period or found.stride, found.stride))
        taps[key] = Tap(seen[key].module, found, period or found.stride, seen[key].overwritten)
    return taps, refused


def _fixed_sizes(network: nn.Module, dims: int) -> list[Shape]:
    """Sizes worth trying: those that a module mentions, then the usual ones."""
    found: list[Shape] = []
    for module in network.modules():
        for name in _NAMES:
            value = vars(module).get(name)
            sizes = (value,) * dims if isinstance(value, int) else value
            if isinstance(sizes, list | tuple) and all(isinstance(n, int) and n > 0 for n in sizes):
                found.append(tuple(sizes[-dims:]))
        patches, side = vars(module).get("feat_size"), vars(module).get("patch_size")
        if isinstance(patches, tuple) and isinstance(side, tuple) and len(patches) == len(side):
            found.append(tuple(n * s for n, s in zip(patches, side, strict=True)))
    found += [(side,) * dims for side in _USUAL]
    return list(dict.fromkeys(size for size in found if len(size) == dims))
