"""The command `layers`: what can be tapped of a bundle's network, or of any other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

from medrecon.cli.command import verb
from medrecon.cli.declare import option
from medrecon.cli.linear import refuse_channels
from medrecon.cli.networks import OtherNetwork
from medrecon.cli.options import Bundle
from medrecon.cli.session import Outcome
from medrecon.cli.tables import print_table
from medrecon.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from medrecon.contract import LayerInfo

_BYTES = 4  # float32


@verb(
    "medrecon layers --bundle slice_autoencoder",
    "medrecon layers --encoder vgg16",
    "medrecon layers --encoder monai.networks.nets.SegResNet \\\n"
    "      --encoder-arguments '{\"spatial_dims\": 3}' --weights model.pt \\\n"
    "      --layers 'down_layers.?' --size 96,96,96",
    "medrecon layers --encoder spleen_ct_segmentation/",
)
def layers(
    other: OtherNetwork,
    chosen: Annotated[
        str | None, option("--layers -l NAMES", "Only these: names or patterns (encoder*), by comma.")
    ] = None,
    size: Annotated[
        str | None, option("--size X,Y,Z", "Size of the image that shapes and bytes are given for.")
    ] = None,
    receptive_fields: Annotated[
        bool,
        option("--fields/--no-fields", "Measure receptive fields of a tapped network, which takes seconds."),
    ] = True,
    bundle: Bundle = "volume_autoencoder",
) -> Outcome:
    """List the layers of a bundle, or of any network.

    Of each: channels, stride, values per voxel, receptive field; of a network that --encoder names, also
    the shape and the bytes that it holds of an image.
    """
    refuse_channels(other, "layers reads no scan")
    other.check()
    if other.encoder is None:
        return _of_bundle(bundle)
    return _of_encoder(other, chosen, size, receptive_fields)


def _of_bundle(bundle: str) -> Outcome:
    """The layers that a bundle's network declares.

    Raises:
        ModelError: no such bundle, or it cannot be built.
    """
    from medrecon.bundle.config import Bundle, layers_of

    opened = Bundle.open(bundle)
    rows = [_row(layer) for layer in layers_of(opened)]

    def show(console: Console) -> None:
        numbers = ("channels", "stride", "values per voxel", "receptive field")
        print_table(console, ("layer", *numbers), [_cells(row) for row in rows], right=numbers)
        console.print("A result may join layers (level2+level4); 'input' uses none.")

    return Outcome({"bundle": opened.name, "version": opened.version, "layers": rows}, show)


def _of_encoder(other: OtherNetwork, layers: str | None, size: str | None, fields: bool) -> Outcome:
    """Every layer of a network that can be tapped, and what each would hold of an image.

    Raises:
        ModelError: it cannot be built or tapped.
        UsageError: the size does not suit it.
    """
    chosen = None if layers is None else [name.strip() for name in layers.split(",")]
    built = other.build(chosen)
    infos = built.measure() if fields else built.layers()
    dims = len(infos[0].stride)
    window = built.window
    shape = parse_size(size, dims) if size else tuple(window or ((256, 256) if dims == 2 else (96,) * 3))
    rows = [{**_row(info), **_held(info, shape)} for info in infos]
    refused = [{"name": name, "reason": reason} for name, reason in built.refused.items()]
    notes = list(built.notes)
    data = {
        "encoder": other.encoder,
        "size": list(shape),
        "window": None if window is None else list(window),
        "layers": rows,
        "not_tappable": refused,
        "geometry": [type(step).__name__ for step in built.geometry],
        "channels": list(built.channel_names),
        "notes": notes,
    }

    def show(console: Console) -> None:
        numbers = ("channels", "stride", "values per voxel", "receptive field", "shape", "bytes")
        cells = [(*_cells(row, fields), _times(row["shape"]), f"{row['bytes']:,}") for row in rows]
        print_table(console, ("layer", *numbers), cells, right=numbers)
        console.print(
            f"{len(rows)} layers of {other.encoder} for an image of {_times(shape)}"
            + ("" if window is None else f"; it is given windows of {_times(window)}")
        )
        if refused:
            listed = [(row["name"], row["reason"]) for row in refused]
            print_table(console, ("not tappable", "why"), listed)
        if built.channel_names:
            console.print(f"channels: {', '.join(built.channel_names)}")
        for note in notes:
            console.print(f"note: {note}")

    return Outcome(data, show)


def parse_size(text: str, dims: int) -> tuple[int, ...]:
    """The sides of an image: "96,96,64", "96x96x64", or one for all of them.

    Raises:
        UsageError: no whole numbers above 0, or another number of axes.
    """
    try:
        sides = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        sides = ()
    if len(sides) == 1:
        sides = sides * dims
    if len(sides) != dims or min(sides) < 1:
        example = ",".join(["96"] * dims)
        raise UsageError(f"--size {text} is no size of a {dims}D image", remedy=f"write it as {example}")
    return sides


def _row(layer: LayerInfo) -> dict[str, Any]:
    return {
        "name": layer.name,
        "channels": layer.channels,
        "stride": list(layer.stride),
        "values_per_voxel": layer.values_per_voxel,
        "receptive_field": None if layer.receptive_field is None else list(layer.receptive_field),
    }


def _held(layer: LayerInfo, size: tuple[int, ...]) -> dict[str, Any]:
    positions = [math.ceil(n / s) for n, s in zip(size, layer.stride, strict=True)]
    shape = [layer.channels, *positions]
    return {"shape": shape, "bytes": math.prod(shape) * _BYTES}


def _cells(row: dict[str, Any], measured: bool = True) -> tuple[str, ...]:
    unknown = "whole image" if measured else "not measured"
    field = _times(row["receptive_field"]) if row["receptive_field"] else unknown
    return row["name"], str(row["channels"]), _times(row["stride"]), f"{row['values_per_voxel']:.4g}", field


def _times(sides: Any) -> str:
    return "x".join(str(side) for side in sides)
