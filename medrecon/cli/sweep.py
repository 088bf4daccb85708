"""The verb `sweep`: plan, train, measure, write the table and draw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medrecon.bundle.config import Bundle, find_bundle, layers_of, read_training
from medrecon.bundle.results import check_results, encoder_setting, parse_results
from medrecon.cli.faults import PARTIAL, Fault, fault_of
from medrecon.cli.progress import progress_bar
from medrecon.cli.session import Outcome, Session
from medrecon.cli.tables import table
from medrecon.compute.devices import pick_device
from medrecon.errors import UsageError
from medrecon.io import publish
from medrecon.io.files.names import safe_name
from medrecon.report.sweep import amount, sweep_figure, variants_figure
from medrecon.training.sweep.budget import Budget
from medrecon.training.sweep.run import PICTURES, Examiner, Watch, run_variants
from medrecon.training.sweep.samples import split_scans
from medrecon.training.sweep.table import write_table
from medrecon.training.sweep.train import Trainer
from medrecon.training.sweep.variants import (
    Variant,
    parse_assignment,
    parse_value,
    parse_values,
    plan_variants,
)

if TYPE_CHECKING:
    from rich.console import Console

MOST_COLUMNS = 5
"""Variants side by side in a picture; more would be stamps."""


def run_sweep(
    session: Session,
    scans: Path,
    output: Path,
    *,
    bundle: str,
    layer: str,
    held_out: Sequence[str],
    widths: str,
    depths: str,
    recipes: str,
    vary: Sequence[str],
    fixed: Sequence[str],
    minutes: float | None,
    steps: int | None,
    encoder_weights: Path | None,
    slices: int,
    device: str,
) -> Outcome:
    """Train every variant, measure it on the scans held out and on some trained on, and draw the result.

    Raises:
        UsageError: the options do not make sense together.
        ModelError: the bundle, its layer or a recipe cannot be used.
        ScanError: a scan that is measured cannot be read.
        OutputError: OUTPUT holds another sweep, or cannot be written.
    """
    root = find_bundle(bundle)
    budget = Budget(steps, 2.0 if steps is None and minutes is None else minutes)
    (result,) = _single(layer)
    turned = dict(parse_assignment(text, "--vary") for text in vary)
    variants = plan_variants(
        root,
        layer=result,
        widths=_numbers(widths, "--widths", 1),
        depths=_numbers(depths, "--depths", 0),
        recipes=[name.strip() for name in recipes.split(",")] if recipes else [],
        vary={name: parse_values(text) for name, text in turned.items()},
        fixed={name: parse_value(text) for name, text in (parse_assignment(one, "--set") for one in fixed)},
    )
    config = read_training(root)
    weights = encoder_setting(config, encoder_weights, root)
    opened = Bundle.open(root, weights)
    check_results([result], [info.name for info in layers_of(opened)], where=root)
    kept_out = list(held_out) or list(config.get("held_out") or [])
    trained_on, measured_on, refused = split_scans(scans, kept_out)
    for refusal in refused:
        session.say(f"not used: {refusal}")
    chosen = pick_device(device)
    settings = {"dataset_dir": str(scans.absolute()), "held_out": kept_out, "device": chosen, **weights}
    examiner = Examiner(result, chosen, measured_on, trained_on, slices)
    failures: list[Fault] = []

    def failed(name: str, error: Exception) -> bool:
        fault = fault_of(error)
        failures.append(Fault(name, fault.message, fault.remedy, fault.exit_code))
        session.complain(failures[-1], error)
        return True

    files: list[Path] = []

    def facts() -> dict[str, Any]:
        return {
            "bundle": root.name,
            "version": opened.version,
            "layer": result,
            "budget": budget.facts(),
            "device": str(chosen),
            "threads": torch.get_num_threads(),
            "image": "block" if examiner.samples["held_out"][0].volumetric else "slice",
            "slices_per_scan": slices,
            "failed": [fault.data() for fault in failures],
        }

    def measured(rows: list[dict[str, Any]]) -> None:
        files[:] = write_table(output, facts(), rows) + _draw(rows, facts(), budget, output)

    watch = Watch(session.say, lambda label: progress_bar(session, label), failed, measured)
    session.say(f"{len(variants)} variants, {budget.words()}; {output} keeps what is done")
    rows = run_variants(Trainer(root, settings, budget), examiner, variants, output, watch)
    measured(rows)  # once more: the last variant may have failed
    files += _side_by_side(rows, variants, examiner, output)
    data = {**facts(), "variants": rows, "files": [str(file) for file in files]}
    return Outcome(data, lambda console: _show(console, rows, budget, files), PARTIAL if failures else 0)


def _single(layer: str) -> list[str]:
    results = parse_results(layer)
    if len(results) > 1:
        raise UsageError(
            f"--layer {layer} names several results", remedy="sweep one at a time, or join layers by a plus"
        )
    return results


def _numbers(text: str, option: str, least: int) -> list[int]:
    values = parse_values(text) if text else []
    if any(not isinstance(value, int) or isinstance(value, bool) or value < least for value in values):
        raise UsageError(
            f"{option} {text} are not whole numbers from {least} up", remedy=f"such as {option} 16,32,64"
        )
    return values


def _draw(
    rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], budget: Budget, output: Path
) -> list[Path]:
    if all(row["held_out"]["psnr"] is None for row in rows):
        return []
    title = f"{facts['bundle']}, {facts['layer']}: {budget.words()}"
    written = []
    for suffix in (".png", ".svg"):
        with publish(output / f"sweep{suffix}", overwrite=True) as hidden:
            (drawn,) = sweep_figure(rows, hidden.with_suffix(suffix), title=title, image=facts["image"])
            drawn.rename(hidden)
        written.append(output / f"sweep{suffix}")
    return written


def _side_by_side(
    rows: Sequence[Mapping[str, Any]], variants: Sequence[Variant], examiner: Examiner, output: Path
) -> list[Path]:
    """One picture for the first held-out scan of each modality: its middle slice from each variant."""
    shown = {variant.name for variant in variants[:MOST_COLUMNS]}
    chosen = [row for row in rows if row["variant"] in shown]
    found: dict[str, int] = {}
    for index, sample in enumerate(examiner.samples["held_out"]):
        found.setdefault(sample.modality, index)
    written = []
    for index in found.values():
        sample = examiner.samples["held_out"][index]
        middle = slice(sample.image.shape[-1] // 2, sample.image.shape[-1] // 2 + 1)
        results = {}
        for row in chosen:
            with np.load(output / row["bundle"] / PICTURES) as pictures:
                image = torch.from_numpy(pictures[str(index)])[None]
            results[row["variant"]] = sample.stored(image)[..., middle]
        psnr = {row["variant"]: row["scans"]["held_out"][index]["psnr"] for row in chosen}
        target = output / f"slice_{safe_name(sample.label)}.png"
        with publish(target, overwrite=True) as hidden:
            (drawn,) = variants_figure(
                sample.stored(sample.image)[..., middle],
                results,
                sample.affine,
                sample.units,
                hidden.with_suffix(".png"),
                psnr=psnr,
            )
            drawn.rename(hidden)
        written.append(target)
    return written


def _show(console: Console, rows: Sequence[Mapping[str, Any]], budget: Budget, files: Sequence[Path]) -> None:
    columns = (
        "variant", "parameters", "steps", "train (s)", "ms/image", "PSNR held out", "trained on", "gap",
        "SSIM", "MS-SSIM", "perceptual", "Pareto",
    )  # fmt: skip
    lines = [
        (
            row["variant"],
            amount(row["parameters"]),
            row["steps"],
            f"{row['train_seconds']:.0f}",
            f"{1000 * row['inference_seconds']:.0f}",
            _number(row["held_out"]["psnr"], 2),
            _number(row["training"]["psnr"], 2),
            _number(row["gap_db"], 2),
            _number(row["held_out"]["ssim"], 4),
            _number(row["held_out"]["ms_ssim"], 4),
            _number(row["held_out"]["perceptual"], 4),
            ", ".join(name for name, mark in row["pareto"].items() if mark),
        )
        for row in rows
    ]
    console.print(table(columns, lines, right=columns[1:11]))
    console.print(f"Equal for all: {budget.words()}. SSIM, MS-SSIM and perceptual distance: held out.")
    console.print("Gap: trained on - held out (dB); other scans are a part of it, so look at how it grows.")
    for file in files:
        console.print(f"  {file}")


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
