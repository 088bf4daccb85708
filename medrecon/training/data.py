"""What a bundle's train.yaml needs beside MONAI's own parts: its scans, their mixture, its steps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import AdversarialTrainer
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer
from monai.utils import AdversarialIterationEvents

from medrecon.errors import ModelError
from medrecon.io import find_scans
from medrecon.io.choices import in_sets
from medrecon.reconstructor import parse_layers
from medrecon.training.sampling import CountsEpochs

_log = logging.getLogger("medrecon")


def training_items(
    dataset_dir: str | Path,
    held_out: Sequence[str] = (),
    phantom_share: float = 0.0,
    channels: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Every scan of a folder but the held-out ones, as MONAI data items; what is refused is logged.

    Args:
        dataset_dir: DICOM and NIfTI, mixed and nested.
        held_out: patterns (`*` and `?`) of file or series-folder names to leave for evaluation.
        phantom_share: share of the training that is generated; at 1 no scan is looked for.
        channels: which scans belong together (`medrecon.io.choices.in_sets`); each by itself when None. A
            set is held out as a whole.

    Raises:
        ModelError: a pattern that matches nothing, so that a typing error cannot train on a test scan.
    """
    if phantom_share >= 1:
        return []
    kept = _scans_of(dataset_dir, held_out, others=True, channels=channels)
    if not kept:
        raise ModelError("no scan is left for training", path=dataset_dir, remedy="hold out fewer")
    return kept


def validation_items(dataset_dir: str | Path, names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The scans of a folder that a training is judged on, and does not see; none where none is named.

    Args:
        dataset_dir: as for `training_items`.
        names: patterns (`*` and `?`) of file or series-folder names; hold the same ones out of training.

    Raises:
        ModelError: a pattern that matches nothing.
    """
    return _scans_of(dataset_dir, names, others=False) if names else []


def _scans_of(
    dataset_dir: str | Path,
    patterns: Sequence[str],
    others: bool,
    channels: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """The scans whose name matches a pattern, or the others."""
    found = find_scans(dataset_dir)
    for refusal in found.refused:
        _log.warning("not used for training: %s", refusal)
    everything = [scan.path.name for scan in found.scans]
    everything += [error.path.name for error in found.refused if error.path is not None]
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in everything):
            raise ModelError(
                f"nothing matches the held-out '{pattern}'",
                path=dataset_dir,
                remedy="mend held_out or validation_scans",
            )
    return [
        {"image": scan}
        for scan in in_sets(found.scans, channels or {})
        if any(fnmatch(one.path.name, p) for one in (scan, *scan.beside) for p in patterns) != others
    ]


def mixture_weights(items: Sequence[dict[str, Any]], phantoms: int, phantom_share: float) -> list[float]:
    """Sampling weights over real scans followed by phantoms.

    A real scan weighs as the square root of its voxels: large ones have more to show.

    Args:
        items: as `training_items` gives them.
        phantoms: number of phantoms.
        phantom_share: share of the draws that are phantoms, 0 to 1.
    """
    sizes = np.sqrt([float(np.prod(item["image"].shape)) for item in items])
    real = (1 - phantom_share) * sizes / sizes.sum() if len(items) else sizes
    return [*real.tolist(), *([phantom_share / phantoms] * phantoms if phantoms else [])]


class LeaveLayersOut(Inferer):
    """While training, each call reconstructs from layers drawn by weight: one decoder learns all.

    Drawn from torch's global generator.

    Args:
        results: result -> weight, such as {"level4": 2, "level2+level4": 1}.
    """

    def __init__(self, results: Mapping[str, float]) -> None:
        self.results = [parse_layers(result) for result in results]
        self.weights = torch.tensor([float(weight) for weight in results.values()])

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """(B, 1, *spatial) -> its reconstruction, of the same shape."""
        drawn = self.results[int(torch.multinomial(self.weights, 1))]
        return network(inputs, layers=drawn)


class SeedEachEpoch:
    """Derive every random stream from (seed, epoch), so that a resumed run repeats the undisturbed one.

    Args:
        seed: of the run.
        streams: transforms (`set_random_state`) and datasets (`set_epoch`) that draw on their own.
    """

    def __init__(self, seed: int, streams: Sequence[Any] = ()) -> None:
        self.seed = int(seed)
        self.streams = list(streams)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Reseed for the epoch that starts."""
        state = int(np.random.SeedSequence([self.seed, engine.state.epoch]).generate_state(1)[0])
        torch.manual_seed(state)
        for stream in self.streams:
            if isinstance(stream, CountsEpochs):
                stream.set_epoch(engine.state.epoch)
            else:
                stream.set_random_state(seed=state)


class ClipGradients:
    """Bound the norm of the gradients of a step, so that one odd batch cannot throw the network off.

    Args:
        network: whose parameters.
        max_norm: largest norm over all of them.
    """

    def __init__(self, network: torch.nn.Module, max_norm: float) -> None:
        self.parameters = list(network.parameters())
        self.max_norm = float(max_norm)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, once it knows its events: an adversarial one adds its own after this."""
        engine.add_event_handler(Events.STARTED, self._listen)

    def _listen(self, engine: Engine) -> None:
        adversarial = isinstance(engine, AdversarialTrainer)
        event = AdversarialIterationEvents.GENERATOR_BACKWARD_COMPLETED
        engine.add_event_handler(event if adversarial else IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Clip, between the backward pass and the optimizer's step.

        Raises:
            ModelError: a gradient is not finite: the step would spoil every weight.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.max_norm)
        if not torch.isfinite(norm):
            raise ModelError(
                f"the gradients of iteration {engine.state.iteration} are not finite",
                # oneDNN's bfloat16 gradient of a 3D convolution is wrong where an axis has two positions
                remedy="train in patches of 64 or more, in float32 (mixed_precision), or more slowly",
            )


def image_is_target(
    batch: Mapping[str, torch.Tensor], device: torch.device | None, non_blocking: bool = False, **kwargs: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """`prepare_batch` of MONAI's engines: the image is its own target, the first of several channels."""
    image = batch["image"].to(device, non_blocking=non_blocking, **kwargs)
    return image, image[:, :1]
