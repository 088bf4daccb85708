"""The options that name any other network than a bundle of medrecon's, and what is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from medrecon.cli.batch import find_one_asked
from medrecon.cli.options import Encoder, EncoderArguments, EncoderWeights, OneScan, network_option
from medrecon.encoders.given import read_arguments
from medrecon.errors import ModelError, UsageError

if TYPE_CHECKING:
    from medrecon.cli.session import Session
    from medrecon.contract import Encoder as Network
    from medrecon.encoders.tapped.told import Told
    from medrecon.io import Scan


NetworkId = Annotated[
    str | None,
    network_option(
        "--network ID",
        "Which network of a bundle that has several, by its id in the configuration "
        "(autoencoder_def); or the configuration and fold of an nnU-Net model (3d_fullres, "
        "3d_fullres/fold_1).",
    ),
]
EncoderInputs = Annotated[
    str | None,
    network_option(
        "--encoder-inputs JSON",
        "What the network takes beside the image, by the names of its parameters, as JSON: a number for "
        'each image, or nested lists; "image" stands for the image itself. Such as \'{"timesteps": 10}\'.',
    ),
]
EncoderChannels = Annotated[
    list[str] | None,
    network_option(
        "--encoder-channels NAME=PATH",
        "A scan for each channel of the network, INPUT among them; repeat it for each. The names are "
        "the network's: `medrecon layers` lists them. Without it the one scan is given to every channel. To "
        "train: NAME=PATTERN of the scans' names; what is named first is given back.",
    ),
]


@dataclass(frozen=True)
class OtherNetwork:
    """Any network, by name, path or folder."""

    encoder: Encoder = None
    weights: EncoderWeights = None
    arguments: EncoderArguments = None
    network: NetworkId = None
    inputs: EncoderInputs = None
    channels: EncoderChannels = None

    def check(self) -> None:
        """Refuse what the options and files alone tell, before torch is imported.

        Raises:
            UsageError: the channels are not NAME=PATH.
            ModelError: the folder holds no network, or no such one, or the weights are not there.
        """
        self.named_channels()
        if self.encoder is None:
            return  # the bundle says whether it takes weights
        self._told()
        if self.weights is not None and str(self.weights) != "random" and not self.weights.is_file():
            raise ModelError(
                "there is no such weight file", path=self.weights, remedy="give the path of a weight file"
            )

    def check_scans(self, scans: Sequence[Scan]) -> None:
        """Refuse scans that do not suit the network as far as its files tell, before torch is imported.

        Raises:
            ModelError: the network does not have a channel of that name.
            ScanError: a channel is missing, or the network takes HU, and no scan has any.
        """
        from medrecon.encoders.naming import in_order
        from medrecon.io.choices import check_any_units

        told = self._told()
        named = self.named_channels()
        if named and told.channel_names is not None:
            in_order(told.channel_names, named)
        check_any_units(told.units, scans)

    def _told(self) -> Told:
        from medrecon.encoders.tapped.told import Told, told_by

        folder = Path(self.encoder or "").expanduser()
        if self.encoder is None or not folder.is_dir():
            return Told()
        given = read_arguments(self.arguments)
        return told_by(folder, self.network, given, self.weights is not None)

    def recipe(self, first_channel: str | None = None) -> dict[str, Any]:
        """What `medrecon.encoders.build_encoder` makes the same network of, as plain values.

        Args:
            first_channel: of several scans as channels, the one that decoders give back.

        Raises:
            UsageError: no network is named.
            ModelError: what should be JSON is none.
        """
        if self.encoder is None:
            raise UsageError("no network is named", remedy="name one with --encoder")
        place = Path(self.encoder).expanduser()
        return {
            "what": str(place.absolute()) if place.exists() else self.encoder,
            "weights": _absolute(self.weights),
            "arguments": read_arguments(self.arguments),
            "network": self.network,
            "inputs": read_arguments(self.inputs, "inputs") or None,
            **({} if first_channel is None else {"first_channel": first_channel}),
        }

    def build(self, layers: str | Iterable[str] | None = None, seed: int = 0) -> Network:
        """The network as a frozen encoder, on the CPU.

        Args:
            layers: names or patterns; all when None.
            seed: of random weights, where none are given.

        Raises:
            UsageError: no network is named.
            ModelError: it cannot be built or tapped.
        """
        import torch

        from medrecon.encoders.build import build_encoder

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build_encoder(**self.recipe(), layers=layers)

    def scans(self, network: Network, scan: Scan, session: Session, reading: OneScan) -> tuple[Scan, ...]:
        """The scans that are the channels of a network; `scan` alone where none are named.

        Args:
            network: as `build` gives it.
            scan: what INPUT is.
            session: opens archives.
            reading: how all of them are read.

        Raises:
            UsageError: not NAME=PATH, a name twice, or INPUT is none of them.
            ModelError: a channel that the network does not have.
            ScanError: a channel is missing, or one of them cannot be read.
        """
        from medrecon.bundle.channels import refuse_twice
        from medrecon.encoders.naming import in_order

        given: dict[str, Scan] = {}
        named = self.named_channels()
        if named:
            in_order(network.channel_names, named)  # before a scan is looked for
        for name, text in named.items():
            path = Path(text)
            same = path.absolute() == scan.path.absolute()
            given[name] = scan if same else find_one_asked(session, path, reading)
        if not given:
            return (scan,)
        if not any(each is scan for each in given.values()):
            raise UsageError("INPUT is none of the channels", remedy="name it with --encoder-channels too")
        refuse_twice(given)
        return in_order(network.channel_names, given)

    def layers(self, text: str | None, *, but: str = "") -> list[str]:
        """The names in --layers, all `but` one: a network of so many layers needs some.

        Raises:
            ModelError: there are none.
        """
        names = [name.strip() for name in (text or "").split(",") if name.strip() not in ("", but)]
        if not names:
            raise ModelError(
                f"{self.encoder} has many layers: which of them?",
                remedy=f"name some with --layers; medrecon layers --encoder {self.encoder} lists them",
            )
        return names

    def instead_of(self, bundle: str, default: str) -> None:
        """Refuse a bundle that is named beside the network.

        Raises:
            UsageError: it is.
        """
        if self.encoder is not None and bundle != default:
            raise UsageError(
                "--encoder and --bundle name a network each",
                remedy="give --encoder, or a bundle trained for it",
            )

    def named_channels(self) -> dict[str, str]:
        """What --encoder-channels says: name -> the path, or the pattern, behind it.

        Raises:
            UsageError: not NAME=PATH, or a name twice.
        """
        return named_pairs(self.channels, "--encoder-channels")


def named_pairs(given: Sequence[str] | None, option: str) -> dict[str, str]:
    """What an option says that is repeated as NAME=PATH, or NAME=PATTERN.

    Raises:
        UsageError: not of that form, or a name twice.
    """
    named: dict[str, str] = {}
    for text in given or []:
        name, equals, what = text.partition("=")
        if not equals or not name or not what or name in named:
            kind = "PATH" if option == "--encoder-channels" else "PATTERN"
            raise UsageError(f"{option} '{text}'", remedy=f"write NAME={kind}, each name once")
        named[name] = what
    return named


def _absolute(file: Path | None) -> str | None:
    return None if file is None else str(file.absolute() if file.exists() else file)
