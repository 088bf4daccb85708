"""The sweep itself: each variant trained and measured, or taken from the run before."""

from __future__ import annotations

import contextlib
import gc
import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medrecon.bundle.config import Bundle, layers_of
from medrecon.contract import Progress
from medrecon.io import Scan, publish
from medrecon.io.files.atomic import write_whole
from medrecon.training.sweep.measure import averages, measure, parameters_of, perceptual_of, reconstruct
from medrecon.training.sweep.samples import MOST_TRAINING_SCANS, Sample, evenly, take_samples
from medrecon.training.sweep.table import mark_fronts
from medrecon.training.sweep.train import Trainer
from medrecon.training.sweep.variants import Variant

RESULT, PICTURES = "result.json", "slices.npz"


@dataclass
class Watch:
    """Where the progress of a sweep is told.

    Attributes:
        say: takes a line.
        bar: label -> a context that yields what is called with (steps done, steps in all), or None.
        failed: takes a variant's name and its error; returns whether to go on with the others.
        measured: takes all rows so far, after each variant.
    """

    say: Callable[[str], None]
    bar: Callable[[str], AbstractContextManager[Progress | None]]
    failed: Callable[[str, Exception], bool]
    measured: Callable[[list[dict[str, Any]]], object]


@dataclass
class Examiner:
    """Measures trained variants, all on the same slices.

    Attributes:
        layer: the result that is measured.
        device: where.
        held_out: scans that no variant is trained on.
        trained_on: scans that all are trained on.
        slices: of each scan.
    """

    layer: str
    device: torch.device
    held_out: Sequence[Scan]
    trained_on: Sequence[Scan]
    slices: int
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def prepare(self, run: Path) -> None:
        """Read the scans, once, as a run does: the pictures need them too."""
        if not self.samples:
            bundle = Bundle.open(run)
            volumetric = len(layers_of(bundle)[0].stride) == 3
            chosen = {"held_out": self.held_out, "training": evenly(self.trained_on, MOST_TRAINING_SCANS)}
            self.samples = {
                part: take_samples(bundle, scans, self.slices, volumetric) for part, scans in chosen.items()
            }

    def examine(self, run: Path) -> dict[str, Any]:
        """The figures of a run, measured or read back if they were measured in the same way before."""
        how = {
            "layer": self.layer,
            "slices": self.slices,
            "device": str(self.device),
            "scans": [scan.key for scan in self.held_out],
        }
        file = run / RESULT
        self.prepare(run)
        with contextlib.suppress(OSError, ValueError, KeyError):
            before = json.loads(file.read_text("utf-8"))
            if before["how"] == how and (run / PICTURES).is_file():
                figures: dict[str, Any] = before["figures"]
                return figures
        figures = self._measure(run)
        write_whole(file, json.dumps({"how": how, "figures": figures}, indent=2) + "\n")
        return figures

    def _measure(self, run: Path) -> dict[str, Any]:
        opened = Bundle.open(run, {"layers": [self.layer], "device": str(self.device)})
        network = opened.network(self.device)
        inferer, perceptual = opened.build("inferer"), perceptual_of(network)
        figures: dict[str, Any] = {"parameters": parameters_of(network, self.layer), "scans": {}}
        for part, samples in self.samples.items():
            images, seconds = reconstruct(network, inferer, samples)
            rows = [measure(s, image, perceptual) for s, image in zip(samples, images, strict=True)]
            figures[part] = averages(rows)
            figures["scans"][part] = rows
            if part == "held_out":
                figures["inference_seconds"] = seconds
                shown = {str(i): image.half().numpy()[0] for i, image in enumerate(images)}
                with publish(run / PICTURES, overwrite=True) as hidden, hidden.open("wb") as stream:
                    np.savez_compressed(stream, **shown)
        return figures


def run_variants(
    trainer: Trainer, examiner: Examiner, variants: Sequence[Variant], output: Path, watch: Watch
) -> list[dict[str, Any]]:
    """Train and measure each variant in turn; those that are done already are read back.

    Args:
        trainer: of the sweep.
        examiner: of the sweep.
        variants: what is trained.
        output: gets a folder for each, OUTPUT/variants/NAME, which is a bundle.
        watch: where progress is told.

    Returns:
        A row for each variant that went well: its knobs, parameters, steps, seconds, fidelity on scans held
        out and trained on, Pareto marks.

    Raises:
        MedreconError: of the first variant, or whatever `watch.failed` does not take.
    """
    rows: list[dict[str, Any]] = []
    begin, worked = time.perf_counter(), 0
    for number, variant in enumerate(variants, start=1):
        run = output / "variants" / variant.name
        label = f"{number}/{len(variants)} {variant.name}"
        done = (run / RESULT).is_file()
        try:
            row = _one(trainer, examiner, variant, run, label, watch)
        except Exception as error:
            if number == 1 or not watch.failed(variant.name, error):
                raise
            continue
        finally:
            if not done:
                gc.collect()
        rows.append(row)
        mark_fronts(rows)
        watch.measured(rows)
        worked += not done
        left = (time.perf_counter() - begin) / max(worked, 1) * (len(variants) - number)
        watch.say(
            f"{label}: {_decibels(row, 'held_out')} held out, {_decibels(row, 'training')} trained on"
            + (f"; about {left / 60:.0f} min left" if worked and number < len(variants) else "")
        )
    return rows


def _one(
    trainer: Trainer, examiner: Examiner, variant: Variant, run: Path, label: str, watch: Watch
) -> dict[str, Any]:
    plan = trainer.plan(variant, run)
    if not (run / RESULT).is_file():
        watch.say(f"{label}: {plan['steps']} steps of training")
    with watch.bar(f"{label}: training") as tick:
        seconds = trainer.train(variant, run, plan, tick)
    figures = examiner.examine(run)
    held_out, training = figures["held_out"]["psnr"], figures["training"]["psnr"]
    return {
        "variant": variant.name,
        "knobs": variant.knobs,
        "parameters": figures["parameters"],
        "steps": plan["steps"],
        "train_seconds": round(seconds, 2),
        "inference_seconds": round(figures["inference_seconds"], 4),
        "held_out": figures["held_out"],
        "training": figures["training"],
        "gap_db": None if None in (held_out, training) else training - held_out,
        "scans": figures["scans"],
        "bundle": str(Path("variants") / variant.name),
    }


def _decibels(row: dict[str, Any], part: str) -> str:
    psnr = row[part]["psnr"]
    return "identical" if psnr is None else f"{psnr:.2f} dB"
