"""What a network itself makes of each reconstruction, beside what it makes of the scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from monai.data import MetaTensor

from medrecon.bundle.config import Bundle
from medrecon.bundle.workflow import encoder_of
from medrecon.errors import ModelError, UsageError
from medrecon.evaluation.own_output import output_kept
from medrecon.evaluation.scores import OutputKept
from medrecon.features.maps.compute import grid_shape, visit_features

_OUTPUT = "output*"
"""The network's own result, or the parts of it (`medrecon.encoders.tapped`)."""


class OwnOutput:
    """Runs the network that a bundle looks into to its end.

    Attributes:
        kept: result -> how near its output comes to that of the scan.

    Args:
        bundle: one over any network (`medrecon train --encoder`, or a linear inverse).
        device: where it runs.

    Raises:
        UsageError: the bundle's network is not such a one.
        ModelError: its output is no image.
    """

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        recipe = bundle.parser.get("encoder", None)
        if not isinstance(recipe, Mapping):
            raise UsageError(
                f"the network of {bundle.name} has no output of its own",
                path=bundle.root,
                remedy="leave --own-output out, or name a network with --encoder",
            )
        weights = str(bundle.parser.get("encoder_weights", ""))
        try:
            encoder = encoder_of({**recipe, "layers": [_OUTPUT]}, weights)
        except ModelError as error:
            raise ModelError(
                f"the network's output is no image: {error.message}",
                path=error.path,
                remedy="leave --own-output out",
            ) from error
        self.device, self.encoder = device, encoder.to(device).eval()
        self.layer = encoder.layers()[0]
        self.kept: dict[str, OutputKept] = {}
        self._of_scan = torch.empty(0)
        self._beside = torch.empty(0)

    def see(self, image: torch.Tensor) -> None:
        """Take the scan, (1, C, X, Y, Z) in [0, 1] on the network's grid; forget what was before."""
        self._of_scan = self._run(image[0])
        self._beside = _plain(image)[0, 1:]
        self.kept = {}

    def add(self, results: Sequence[str], made: torch.Tensor) -> None:
        """Compare reconstructions (1, results, X, Y, Z) on the same grid with the scan that was seen."""
        for channel, result in enumerate(results):
            one = _plain(made)[0, channel : channel + 1]
            given = torch.cat([one, self._beside.to(one)])
            self.kept[result] = output_kept(self._of_scan, self._run(given))

    def _run(self, image: torch.Tensor) -> torch.Tensor:
        made = torch.zeros(self.layer.channels, *grid_shape(self.layer, image.shape[1:]))

        def take(name: str, where: tuple[slice, ...], values: torch.Tensor) -> None:
            made[(slice(None), *where)] = values

        visit_features(self.encoder, torch.as_tensor(image).float(), [self.layer], self.device, take)
        return made


def _plain(image: torch.Tensor) -> torch.Tensor:
    return image.as_tensor() if isinstance(image, MetaTensor) else image
