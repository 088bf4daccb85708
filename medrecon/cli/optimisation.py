"""The options of the command `invert` that say how an image is optimised, and for which network."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from medrecon.cli.declare import option
from medrecon.cli.networks import OtherNetwork
from medrecon.cli.options import network_option
from medrecon.errors import UsageError

if TYPE_CHECKING:
    import torch

    from medrecon.inference.optimised import Model, Settings


class Optimiser(str, Enum):
    """How the image is changed."""

    lbfgs = "lbfgs"
    adam = "adam"


class Parameterisation(str, Enum):
    """What is changed in the place of the image."""

    fourier = "fourier"
    multiscale = "multiscale"
    pixels = "pixels"
    prior = "prior"


@dataclass(frozen=True)
class Optimisation:
    """How an image is optimised."""

    steps: Annotated[
        int,
        option("--steps N", "At most so many evaluations of the encoder, a slice or a volume each.", min=1),
    ] = 300
    optimiser: Annotated[
        Optimiser | None,
        option(
            "--optimiser lbfgs|adam", "Default: adam for the parameterisation prior, lbfgs for all others."
        ),
    ] = None
    parameterisation: Annotated[
        Parameterisation,
        option(
            "--parameterisation fourier|multiscale|pixels|prior",
            "The spectrum (low frequencies first), a Laplacian pyramid, the voxels, or "
            "a small network (deep image prior).",
        ),
    ] = Parameterisation.fourier
    tv: Annotated[
        float | None, option("--tv X", "Weight of the total variation; more is smoother.", min=0.0)
    ] = None
    tolerance: Annotated[
        float | None,
        option(
            "--tolerance X",
            "Stop when the loss fell by less than this share over 20 steps; 0 takes every step.",
            min=0.0,
        ),
    ] = None
    seed: Annotated[int, option("--seed N", "Of the deep image prior.")] = 0
    start: Annotated[
        str | None,
        network_option(
            "--start NAME|DIR",
            "Decode, then refine: begin at what this bundle's decoder makes, and use its encoder, which "
            "--encoder-weights gives its weights. Without it each image begins as even grey.",
        ),
    ] = None

    def settings(self) -> Settings:
        """The same, as the optimisation takes it."""
        from medrecon.inference.optimised import Settings

        return Settings(
            steps=self.steps,
            optimiser=None if self.optimiser is None else self.optimiser.value,
            parameterisation=self.parameterisation.value,
            seed=self.seed,
            tv=self.tv,
            tolerance=self.tolerance,
        )


def open_model(other: OtherNetwork, how: Optimisation, device: torch.device, layers: str) -> Model:
    """Build the encoder, or take a bundle's with the decoder to begin with.

    Raises:
        UsageError: both or none of them is named; a single channel, of which a decoder makes no image.
        ModelError: one of them cannot be used, or there is no such layer.
    """
    start = how.start
    if (other.encoder is None) == (start is None):
        raise UsageError(
            "which network? --encoder names one, --start a bundle with an encoder and a decoder",
            remedy="give one of the two",
        )
    from medrecon.bundle.results import check_results, parse_results
    from medrecon.encoders.channels import ChannelsEncoder, find_channels
    from medrecon.reconstructor import Reconstructor, has_native_bfloat16, parse_layers

    decoder = None
    if start is not None:
        from medrecon.bundle.config import Bundle

        overrides: dict[str, Any] = {"device": device}
        if other.weights is not None:
            overrides["encoder_weights"] = other.weights
        bundle = Bundle.open(start, overrides)
        built = bundle.network(device)
        looked_into, decoder = built.encoder, built.inversion
        name = f"{bundle.name} {bundle.version}".strip() + " from its decoder's image"
    else:
        looked_into = other.build(seed=how.seed)
        name = f"{other.encoder} from grey"
    known = looked_into.layers()
    results = parse_results(layers, [layer.name for layer in known])
    channels = find_channels([name for result in results for name in parse_layers(result)], known)
    if channels and decoder is not None:
        raise UsageError(
            f"{next(iter(channels))} is one channel, and the decoder of --start needs the whole layer",
            remedy="leave --start out and name the network with --encoder",
        )
    if channels:
        looked_into = ChannelsEncoder(looked_into, channels)
    check_results(
        results, [each.name for each in looked_into.layers()], where=Path(start or other.encoder or "")
    )
    from medrecon.inference.optimised import Model
    from medrecon.inversion import ImageOptimiser

    settings = how.settings()
    looked_into = looked_into.to(device).eval()
    # oneDNN's bfloat16 gradients are wrong for some 3D images
    mixed = looked_into.spatial_dims == 2 and has_native_bfloat16(device)
    given = settings.given() | {"mixed_precision": mixed}
    inversion = ImageOptimiser(looked_into, start=decoder, **given).to(device)
    return Model(Reconstructor(looked_into, inversion, mixed_precision=False), name, settings, other.weights)
