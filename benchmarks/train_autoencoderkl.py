"""Trains MONAI's AutoencoderKL on the scans that a bundle trained on, for as long: what quality.py compares.

    python benchmarks/train_autoencoderkl.py SCANS RUN --minutes 75 --held-out PATTERN ...

MAISI's plan, 1/16 value per voxel (four latent channels, two residual blocks a level, group norms, no
attention), narrower. In 3D three levels, so stride 4: `--channels 16 32 64` where MAISI has 64 128 256, which
take a minute for a step on two CPU cores. In 2D, for a bundle of slices, four levels, stride 8. Data,
augmentation, loss (PSNR), optimiser and clipping are those of the bundle's train.yaml; the learning rate
(--learning-rate) warms up and falls to nothing over the time given. Patches are of 32 voxels (in 2D of 64)
by default, so that there are more steps. It is trained as a plain autoencoder, on the mean of its latent
distribution: that favours its PSNR.

The time is processor time (on a GPU time by the clock) of steps of training alone. It is kept in RUN's
checkpoints (one an epoch), and the same command goes on from the last of them. RUN then holds model.pt and
autoencoderkl.json, for `quality.py --autoencoderkl RUN`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import HELD_OUT
from ignite.engine import Engine
from machine import describe
from scoring import open_network
from short_training import Budget, train

FACTS = "autoencoderkl.json"
CHANNELS = {3: [16, 32, 64], 2: [16, 32, 64, 128]}
PATCH = {3: [32, 32, 32], 2: [64, 64]}
BATCH = {3: 4, 2: 16}


def told(engine: Engine, budget: Budget) -> None:
    """A line for each epoch."""
    loss = engine.state.output[-1]["loss"] if isinstance(engine.state.output, list) else None
    print(f"{budget.took / 60:.1f} min, {budget.spent} steps, loss {float(loss or 0):.2f}", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, or go on; write the weights and how they were made."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scans", type=Path, help="folder of scans, searched to the bottom")
    parser.add_argument("run", type=Path, help="folder for checkpoints and weights")
    parser.add_argument("--minutes", type=float, required=True, help="of training, all runs together")
    parser.add_argument("--held-out", nargs="+", default=list(HELD_OUT), metavar="PATTERN")
    parser.add_argument("--bundle", default="volume_autoencoder", help="whose train.yaml is followed")
    parser.add_argument("--channels", nargs="+", type=int, help="of the levels")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--patch", nargs="+", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--epoch", type=int, default=50, help="steps between checkpoints")
    args = parser.parse_args(argv)
    dims = len(open_network(args.bundle)[0].layers()[0].stride)
    channels, patch = args.channels or CHANNELS[dims], args.patch or PATCH[dims]
    batch = args.batch or BATCH[dims]
    overrides: dict[str, Any] = {
        "patch_size": patch,
        "batch_size": batch,
        "network_def": {"_target_": "peers.MaisiLike", "channels": channels, "dims": dims},
        "learning_rate": args.learning_rate,
        "iterations_per_epoch": args.epoch,
        "training_results": {"level4": 1},
    }
    done = train(
        args.bundle,
        args.scans,
        args.held_out,
        overrides,
        seconds=60 * args.minutes,
        clock=time.perf_counter if torch.cuda.is_available() else time.process_time,
        folder=args.run,
        report=told,
    )
    facts = {
        "channels": channels,
        "dims": dims,
        "values_per_voxel": 1 / 16,
        "minutes": done.seconds / 60,
        "steps": done.steps,
        "parameters": done.parameters,
        "patch": patch,
        "batch": batch,
        "learning_rate": args.learning_rate,
        "held_out": args.held_out,
        "machine": describe(),
    }
    (args.run / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(f"{done.steps} steps in {done.seconds / 60:.1f} minutes: {args.run / 'model.pt'}")


if __name__ == "__main__":
    main()
