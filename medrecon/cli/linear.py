"""A network without decoders before the verbs that need them: its linear inverse, fitted when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medrecon.cli.networks import OtherNetwork
from medrecon.cli.progress import progress_bar
from medrecon.errors import ModelError, UsageError

if TYPE_CHECKING:
    from medrecon.cli.session import Session

FitOn = Annotated[
    Path | None,
    typer.Option(
        "--fit-on",
        metavar="SCANS",
        rich_help_panel="Network",
        help="With --encoder: a folder of scans to fit its linear inverse to, beside generated ones; not "
        "those of INPUT. Without it only generated scans are used.",
    ),
]

OwnOutput = Annotated[
    bool,
    typer.Option(
        "--own-output",
        rich_help_panel="Network",
        help="Run the network of --encoder to its end on the scan and each reconstruction, and compare "
        "what it finds: Dice by label, and the distance of its outputs.",
    ),
]

Features = Annotated[
    bool | None,
    typer.Option(
        "--features/--no-features",
        rich_help_panel="Network",
        help="Show each layer's features, as colours and strongest channels, in report.html and review.mrb. "
        "Default: where the network is one of --encoder.",
    ),
]

DEFAULT = "volume_autoencoder"


def chosen_bundle(
    session: Session,
    other: OtherNetwork,
    bundle: str,
    layers: str | None,
    fit_on: Path | None,
    device: str,
) -> tuple[str | Path, dict[str, Any]]:
    """The bundle to run, and what it must be told: the one named, or the linear inverse of --encoder.

    Raises:
        UsageError: the options do not make sense together.
        ModelError: the network cannot be built, or a layer cannot be tapped.
    """
    if other.encoder is None:
        if fit_on is not None:
            raise UsageError("--fit-on is for a network named with --encoder", remedy="name one")
        return bundle, {} if other.weights is None else {"encoder_weights": other.weights}
    from medrecon.io import find_scans
    from medrecon.reconstructor import INPUT
    from medrecon.training.linear import linear_inverse

    refuse_channels(other)
    if bundle != DEFAULT:
        raise UsageError(
            "--encoder and --bundle name a network each", remedy="give --encoder, or a bundle trained for it"
        )
    asked = [] if layers is None else [name for name in layers.split(",") if name.strip() != INPUT]
    if not asked:
        raise ModelError(
            f"{other.encoder} has many layers: which of them?",
            remedy=f"name some with --layers; medrecon layers --encoder {other.encoder} lists them",
        )
    scans = () if fit_on is None else find_scans(session.folder_of(fit_on)).scans
    with progress_bar(session, "fitting the linear inverse", "images") as tick:
        folder = linear_inverse(other.recipe(), asked, scans=scans, device=device, progress=tick)
    return folder, {}


def refuse_channels(other: OtherNetwork) -> None:
    """Refuse what only `invert` and `features` do.

    Raises:
        UsageError: several scans are named.
    """
    if other.channels:
        raise UsageError(
            "decoders give back one scan: --encoder-channels is for invert and features",
            remedy="leave it out: the one scan is given to each channel",
        )


def decoders_for(other: OtherNetwork, bundle: str, layer: str, *, default: str) -> dict[str, Any]:
    """What any network fills into the training of its decoders; nothing where a bundle trains its own.

    Args:
        other: what --encoder names.
        bundle: what --bundle names: one that trains, or one that `train --encoder` made.
        layer: the result that is trained for.
        default: of --bundle.

    Raises:
        UsageError: the options do not make sense together.
        ModelError: the network cannot be built, or a layer cannot be tapped.
    """
    from medrecon.bundle.config import Bundle as OpenBundle
    from medrecon.bundle.config import find_bundle
    from medrecon.training.any_network import network_settings

    if other.encoder is not None:
        refuse_channels(other)
        if bundle != default:
            raise UsageError("--encoder and --bundle name a network each", remedy="give one of the two")
        recipe = other.recipe()
        weights = recipe.pop("weights")
    else:
        root = find_bundle(bundle)
        if (root / "configs" / "train.yaml").is_file():
            return {}
        parser = OpenBundle.open(root).parser
        found = parser.get("encoder", None)
        if not isinstance(found, Mapping):
            return {}  # it has no training: that is told where it is looked for
        recipe = {name: value for name, value in found.items() if name != "layers"}
        weights = other.weights or parser.get("encoder_weights", "") or None
    settings = network_settings(recipe, layer, weights)
    settings.pop("training_results")  # a sweep trains each for its one layer
    return settings
