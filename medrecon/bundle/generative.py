"""The generative decoder of a bundle, loaded beside its network."""

from __future__ import annotations

from pathlib import Path

from medrecon.blocks.weights import fingerprint, fit_weights, read_weights
from medrecon.bundle.workflow import channels_last
from medrecon.contract import Generative
from medrecon.errors import ModelError
from medrecon.reconstructor import Reconstructor


def load_generative(generative: Generative, weights: str | Path, network: Reconstructor) -> Generative:
    """Put trained weights into a generative decoder, ready beside the network that it was trained for.

    Args:
        generative: as `generative_def` builds it.
        weights: its state_dict, a torch checkpoint or safetensors.
        network: with its weights, on the device where both will run.

    Raises:
        ModelError: there is no such file, it is unsafe, a tensor does not fit, or the network has other
            weights than the one that it was trained beside.
    """
    if not Path(weights).is_file():
        raise ModelError(
            "the bundle has no generative decoder, so no samples can be drawn",
            path=weights,
            remedy="train one: medrecon train SCANS RUN --bundle BUNDLE --overlay generative",
        )
    fit_weights(generative, read_weights(weights), weights)
    made_for = generative.network_fingerprint
    if made_for and fingerprint(network) != made_for:
        raise ModelError(
            "the generative decoder was trained beside a network of other weights",
            path=weights,
            remedy="train it for this one: medrecon train SCANS RUN --bundle BUNDLE --overlay generative",
        )
    device = next(network.parameters()).device
    return channels_last(generative.to(device)).eval()
