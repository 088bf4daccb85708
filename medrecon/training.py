"""What a bundle's train.yaml needs beside MONAI's own parts: its scans, their mixture, exact resume."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver
from monai.engines import AdversarialTrainer, Trainer
from monai.engines.utils import IterationEvents
from monai.handlers import CheckpointLoader
from monai.inferers import Inferer
from monai.utils import AdversarialIterationEvents

from medrecon.errors import ModelError
from medrecon.io import find_scans
from medrecon.reconstructor import parse_layers

_log = logging.getLogger("medrecon")


def training_items(dataset_dir: str | Path, held_out: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Every scan of a folder but the held-out ones, as MONAI data items; what is refused is logged.

    Args:
        dataset_dir: DICOM and NIfTI, mixed and nested.
        held_out: patterns (`*` and `?`) of file or series-folder names to leave for evaluation.

    Raises:
        ModelError: a pattern that matches nothing, so that a typing error cannot train on a test scan.
    """
    found = find_scans(dataset_dir)
    for refusal in found.refused:
        _log.warning("not used for training: %s", refusal)
    everything = [scan.path.name for scan in found.scans]
    everything += [error.path.name for error in found.refused if error.path is not None]
    for pattern in held_out:
        if not any(fnmatch(name, pattern) for name in everything):
            raise ModelError(
                f"nothing matches the held-out '{pattern}'", path=dataset_dir, remedy="mend held_out"
            )
    kept = [s for s in found.scans if not any(fnmatch(s.path.name, pattern) for pattern in held_out)]
    if not kept:
        raise ModelError("no scan is left for training", path=dataset_dir, remedy="hold out fewer")
    return [{"image": scan} for scan in kept]


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
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """(B, 1, *spatial) -> its reconstruction, of the same shape."""
        drawn = self.results[int(torch.multinomial(self.weights, 1))]
        image: torch.Tensor = network(inputs, layers=drawn)
        return image


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
            if hasattr(stream, "set_epoch"):
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


class SaveWhole:
    """Write checkpoints and, at the end, the network's weights: each file whole or not at all.

    MONAI's CheckpointSaver writes in place, so that a killed run can leave a broken file behind.

    Args:
        folder: where to; made when missing.
        parts: what a checkpoint holds, by name.
        network: its state_dict, floating point in half precision, becomes `model.pt` in the end.
        interval: epochs between checkpoints; the two newest are kept.
    """

    def __init__(
        self, folder: str | Path, parts: dict[str, Any], network: torch.nn.Module, interval: int = 1
    ) -> None:
        self.folder = Path(folder)
        self.parts = parts
        self.network = network
        self.interval = int(interval)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        saver = Checkpoint(
            self.parts,
            DiskSaver(str(self.folder), atomic=True, require_empty=False, create_dir=True),
            n_saved=2,
            score_name="epoch",
            score_function=lambda engine: engine.state.epoch,
        )
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), saver)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _finish(self, engine: Engine) -> None:
        if idist.get_rank() > 0:
            return
        network = getattr(self.network, "module", self.network)  # without what distributes it
        partial = self.folder / f".model.{os.getpid()}.pt"
        state = network.state_dict()
        halves = {key: v.half() if v.is_floating_point() else v for key, v in state.items()}
        torch.save(halves, partial)
        partial.replace(self.folder / "model.pt")


def keep_checkpoints(
    trainer: Trainer,
    network: torch.nn.Module,
    folder: str | Path,
    parts: Mapping[str, Any],
    *,
    interval: int = 1,
    resume: bool = False,
) -> None:
    """Have a trainer write checkpoints and, where asked, go on from the newest one.

    Args:
        trainer: its epoch and iteration are kept with the parts.
        network: its weights are the result.
        folder: where checkpoints and `model.pt` are written.
        parts: what else has a state: network, optimizer, scheduler.
        interval: epochs between checkpoints.
        resume: go on from the newest checkpoint, if there is one.

    Raises:
        ModelError: there are checkpoints of another run, which a later resume would take for this one's.
    """
    everything = {**parts, "trainer": trainer}
    # MONAI's adversarial trainer puts whole networks in its state: no safe load takes them back, and they
    # are among the parts already.
    state, keys = trainer.state, trainer.state_dict_user_keys
    keys[:] = [key for key in keys if not hasattr(getattr(state, key, None), "state_dict")]
    SaveWhole(folder, everything, network, interval).attach(trainer)
    written = sorted(Path(folder).glob("checkpoint_epoch=*.pt"), key=lambda p: int(p.stem.rsplit("=", 1)[1]))
    if written and not resume:
        raise ModelError(
            f"holds checkpoints of a run before, up to {written[-1].name}",
            path=folder,
            remedy="go on with --resume true, or name another --output_dir",
        )
    if written:
        _log.info("going on from %s", written[-1].name)
        cpu: Any = "cpu"  # MONAI's annotation knows mappings only
        CheckpointLoader(str(written[-1]), everything, map_location=cpu).attach(trainer)
        trainer.add_event_handler(Events.STARTED, _wake, [*parts.values()])


def _wake(engine: Engine, parts: Sequence[Any]) -> None:
    """Give each parameter that an optimizer has moved before a gradient of zero.

    MONAI's trainers set gradients to zero, not to None: layers that a step leaves out still move by their
    momentum, once they were used. Without this they would rest after a resume until they are used again.
    """
    for optimizer in (part for part in parts if isinstance(part, torch.optim.Optimizer)):
        for parameter in optimizer.state:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)


def image_is_target(
    batch: Mapping[str, torch.Tensor], device: torch.device | None, non_blocking: bool = False, **kwargs: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """`prepare_batch` of MONAI's engines: the image is its own target."""
    image = batch["image"].to(device, non_blocking=non_blocking, **kwargs)
    return image, image
