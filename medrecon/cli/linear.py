"""A network without decoders before the verbs that need them: its linear inverse, fitted when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from medrecon.cli.networks import OtherNetwork, named_pairs
from medrecon.cli.options import Bundle, Device, OneScan, network_option
from medrecon.cli.progress import progress_bar
from medrecon.errors import ScanError, UsageError

if TYPE_CHECKING:
    from medrecon.cli.session import Session
    from medrecon.contract import Encoder as Network
    from medrecon.io.scan import Found

DEFAULT = "volume_autoencoder"


@dataclass(frozen=True)
class Chosen:
    """The scans and the bundle to run on them.

    Attributes:
        found: the scans; the one with those that are channels beside it, where such are named.
        bundle: the one named, or the linear inverse of --encoder.
        overrides: what it must be told.
    """

    found: Found
    bundle: str | Path
    overrides: dict[str, Any]


@dataclass(frozen=True)
class AnyNetwork(OtherNetwork):
    """A bundle, or any other network with its linear inverse, and where it runs."""

    bundle: Bundle = DEFAULT
    fit_on: Annotated[
        Path | None,
        network_option(
            "--fit-on SCANS",
            "With --encoder: a folder of scans to fit its linear inverse to, beside generated ones; not "
            "those of INPUT. Without it only generated scans are used.",
        ),
    ] = None
    fit_channels: Annotated[
        list[str] | None,
        network_option(
            "--fit-channels NAME=PATTERN",
            "With --encoder-channels and --fit-on: a pattern of file names for each channel "
            "(T1=*_t1.nii.gz); repeat it for each.",
        ),
    ] = None
    device: Device = "auto"

    def choose(self, session: Session, found: Found, reading: OneScan, layers: str | None) -> Chosen:
        """The scans and the bundle to run: the one named, or the linear inverse of --encoder.

        Raises:
            UsageError: the options do not make sense together.
            ModelError: the network cannot be built, or a layer cannot be tapped.
            ScanError: a channel cannot be read, or lies on another grid.
        """
        if self.encoder is None:
            if self.fit_on is not None:
                raise UsageError("--fit-on is for a network named with --encoder", remedy="name one")
            overrides = {} if self.weights is None else {"encoder_weights": self.weights}
            if self.channels:
                from medrecon.bundle.config import Bundle as OpenBundle

                encoder = OpenBundle.open(self.bundle, overrides).architecture().encoder
                found, _ = with_channels(session, self, encoder, found, reading)
            return Chosen(found, self.bundle, overrides)
        self.instead_of(self.bundle, DEFAULT)
        self.layers(layers)
        patterns = named_pairs(self.fit_channels, "--fit-channels")
        self.check_scans(found.scans)
        from medrecon.bundle.workflow import encoder_of
        from medrecon.reconstructor import INPUT, layers_in

        asked = self.layers(layers, but=INPUT)
        recipe = self.recipe()
        weights = recipe.pop("weights")
        built = encoder_of({**recipe, "layers": layers_in(asked)}, weights or "")
        first = None
        if self.channels:
            from medrecon.encoders import ScansBeside

            found, first = with_channels(session, self, built, found, reading)
            built = ScansBeside(built, first)
        from medrecon.bundle.channels import sets_to_fit
        from medrecon.io import find_scans
        from medrecon.io.choices import check_any_units
        from medrecon.training.linear import linear_inverse

        scans = () if self.fit_on is None else find_scans(session.folder_of(self.fit_on)).scans
        scans = sets_to_fit(built, scans, patterns)
        with progress_bar(session, "fitting the linear inverse", "images") as tick:
            folder = linear_inverse(
                self.recipe(first),
                asked,
                scans=scans,
                check=lambda network: check_any_units(network.units, found.scans),
                built=built,
                device=self.device,
                progress=tick,
            )
        return Chosen(found, folder, {})


def with_channels(
    session: Session, other: OtherNetwork, network: Network, found: Found, reading: OneScan
) -> tuple[Found, str]:
    """The one scan that was found with the others beside it that are channels too, and its channel's name.

    Raises:
        UsageError: there are several scans, the channels are not the network's, or its decoders give back
            another channel.
        ScanError: one of them cannot be read, or lies on another grid.
    """
    from medrecon.bundle.channels import set_beside

    if len(found.scans) != 1:
        raise UsageError(
            f"--encoder-channels goes with one scan, not {len(found.scans)}",
            remedy="run them one by one",
        )
    (scan,) = found.scans
    channels = other.scans(network, scan, session, reading)
    scan, name = set_beside(network, scan, dict(zip(network.channel_names, channels, strict=True)))
    return replace(found, scans=(scan,)), name


def refuse_channels(other: OtherNetwork, why: str) -> None:
    """Refuse several scans as channels where nothing can be made of them.

    Raises:
        UsageError: they are named.
    """
    if other.channels:
        raise UsageError(why, remedy="leave --encoder-channels out: the one scan is given to each channel")


def decoders_for(other: OtherNetwork, bundle: str, layer: str, *, default: str) -> dict[str, Any]:
    """What any network fills into the training of its decoders; nothing where a bundle trains its own.

    Args:
        other: what --encoder names.
        bundle: what --bundle names: one that trains, or one that `train --encoder` made.
        layer: the result that is trained for.
        default: of --bundle.

    Raises:
        UsageError: the options do not make sense together.
        ModelError: the network cannot be built, or a layer cannot be tapped; no such channel.
        ScanError: a channel is missing.
    """
    named = other.named_channels()
    if other.encoder is not None:
        other.instead_of(bundle, default)
        recipe = other.recipe()
        weights = recipe.pop("weights")
    else:
        from medrecon.bundle.config import Bundle as OpenBundle
        from medrecon.bundle.config import find_bundle

        root = find_bundle(bundle)
        if (root / "configs" / "train.yaml").is_file():
            refuse_channels(other, "this bundle trains on single scans")
            return {}
        parser = OpenBundle.open(root).parser
        found = parser.get("encoder", None)
        if not isinstance(found, Mapping):
            return {}  # it has no training: that is told where it is looked for
        recipe = {name: value for name, value in found.items() if name != "layers"}
        if recipe.pop("first_channel", None) is not None and not named:
            raise ScanError(
                "its network takes several scans",
                path=root,
                remedy="name them by patterns with --encoder-channels, as for train",
            )
        weights = other.weights or parser.get("encoder_weights", "") or None
    from medrecon.training.any_network import network_settings

    settings = network_settings(recipe, layer, weights, named)
    settings.pop("training_results")  # a sweep trains each for its one layer
    return settings
