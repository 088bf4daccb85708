"""The command `sweep`: plan, train, measure, write the table and draw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medrecon.cli.command import verb
from medrecon.cli.declare import option
from medrecon.cli.faults import PARTIAL, Fault, fault_of
from medrecon.cli.linear import decoders_for
from medrecon.cli.networks import OtherNetwork
from medrecon.cli.options import Bundle, Device, HeldOut, Scans, Set
from medrecon.cli.progress import progress_bar
from medrecon.cli.session import Outcome, Session
from medrecon.cli.tables import print_table
from medrecon.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from medrecon.training.sweep.budget import Budget
    from medrecon.training.sweep.variants import Variant


@dataclass(frozen=True)
class Variants:
    """What is trained, in how many ways, and for how long each."""

    layer: Annotated[str, option("--layer -l NAME", "What each decoder is trained for, e.g. relu3_3 or a+b.")]
    widths: Annotated[
        str,
        option(
            "--widths N,N,...",
            "Channels of the decoder: its first entry of widths, the others keep their proportion.",
        ),
    ] = ""
    depths: Annotated[str, option("--depths N,N,...", "The decoder's depths.")] = ""
    recipes: Annotated[
        str,
        option(
            "--recipes NAME,NAME,...",
            "Losses: 'pixel' is train.yaml alone, any other name an overlay beside it (perceptual, "
            "adversarial), a plus joins overlays.",
        ),
    ] = ""
    vary: Annotated[
        list[str] | None,
        option("--vary ID=V,V,...", "Vary any id of train.yaml, as YAML values; repeatable."),
    ] = None
    fixed: Set = None
    minutes: Annotated[
        float | None,
        option(
            "--minutes N",
            "Equal time: as many steps as fit, by the speed of the first ones. Default: 2 minutes.",
        ),
    ] = None
    steps: Annotated[int | None, option("--steps N", "Equal steps instead.", min=1)] = None

    def result(self) -> str:
        """What each decoder is trained for.

        Raises:
            UsageError: more than one result is named.
        """
        from medrecon.bundle.results import parse_results

        results = parse_results(self.layer)
        if len(results) > 1:
            raise UsageError(
                f"--layer {self.layer} names several results",
                remedy="sweep one at a time, or join layers by a plus",
            )
        return results[0]

    def budget(self) -> Budget:
        """How long each trains.

        Raises:
            UsageError: steps and minutes are both given, or are none.
        """
        from medrecon.training.sweep.budget import Budget

        return Budget(self.steps, 2.0 if self.steps is None and self.minutes is None else self.minutes)

    def plan(self, root: Path, network: Mapping[str, Any]) -> list[Variant]:
        """The variants of a bundle.

        Args:
            root: the bundle's folder.
            network: what any network fills in, alike for all.

        Raises:
            UsageError: an option is malformed.
            ModelError: the bundle has no such thing to vary.
        """
        from medrecon.training.sweep.variants import (
            parse_assignments,
            parse_value,
            parse_values,
            plan_variants,
        )

        return plan_variants(
            root,
            layer=self.result(),
            widths=_numbers(self.widths, "--widths", 1),
            depths=_numbers(self.depths, "--depths", 0),
            recipes=[name.strip() for name in self.recipes.split(",")] if self.recipes else [],
            vary=parse_assignments(self.vary, "--vary", parse_values),
            fixed={**network, **parse_assignments(self.fixed, "--set", parse_value)},
        )


def _numbers(text: str, option: str, least: int) -> list[int]:
    from medrecon.training.sweep.variants import parse_values

    values = parse_values(text) if text else []
    if any(not isinstance(value, int) or isinstance(value, bool) or value < least for value in values):
        raise UsageError(
            f"{option} {text} are not whole numbers from {least} up", remedy=f"such as {option} 16,32,64"
        )
    return values


_DEFAULT = "slice_autoencoder"


@verb(
    "medrecon sweep SCANS/ OUT/ --layer relu3_3 --held-out 'ct_chest*' \\\n"
    "      --bundle frozen_encoder_inversion --encoder-weights vgg16.safetensors \\\n"
    "      --widths 16,32,64 --depths 1,2,4",
    "medrecon sweep SCANS/ OUT/ --layer down_layers.2 --held-out 'ct_chest*' \\\n"
    "      --encoder net.py:Net --weights net.pt --widths 16,32,64",
    "medrecon sweep SCANS/ OUT/ --layer level4 --recipes pixel,adversarial \\\n"
    "      --steps 2000 --held-out t1.nii.gz",
    takes="--minutes for each variant, and some seconds to measure each.",
)
def sweep(
    session: Session,
    scans: Scans,
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT",
            help="Folder for the table, the pictures and a bundle for each variant. The same command again "
            "goes on where it was stopped.",
        ),
    ],
    kinds: Variants,
    other: OtherNetwork,
    held_out: HeldOut = None,
    slices: Annotated[
        int,
        option(
            "--slices N",
            "Slices of each scan to measure on, evenly spaced; a 3D network gets a block instead.",
            min=1,
        ),
    ] = 4,
    bundle: Bundle = _DEFAULT,
    device: Device = "auto",
) -> Outcome:
    """Train a decoder many ways under one budget, and compare.

    A table and plots set what each variant keeps of other scans against its cost. The same command again
    goes on where it was stopped. With --encoder, or a bundle that `train --encoder` made, the decoders are
    for a layer of that network.
    """
    other.check()
    other.check_scans(())
    result = kinds.result()
    network = decoders_for(other, bundle, result, default=_DEFAULT)
    import torch

    from medrecon.bundle.config import ANY_NETWORK, find_bundle, layers_of, read_training
    from medrecon.bundle.config import Bundle as OpenBundle
    from medrecon.bundle.results import check_results, encoder_setting
    from medrecon.compute.devices import pick_device
    from medrecon.training.sweep.pictures import draw_side_by_side, draw_table
    from medrecon.training.sweep.run import Examiner, Watch, run_variants
    from medrecon.training.sweep.samples import split_scans
    from medrecon.training.sweep.table import write_table
    from medrecon.training.sweep.train import Trainer

    budget = kinds.budget()
    root = find_bundle(ANY_NETWORK if network else bundle)
    variants = kinds.plan(root, network)
    config = read_training(root)
    weights = {} if network else encoder_setting(config, other.weights, root)
    asked = {name: value for name, value in network.items() if name.startswith("encoder")}
    opened = OpenBundle.open(root, {**asked, **weights})
    check_results([result], [info.name for info in layers_of(opened)], where=root)
    kept_out = held_out or list(config.get("held_out") or [])
    trained_on, measured_on, refused = split_scans(scans, kept_out, network.get("channels"))
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

    def facts() -> dict[str, Any]:
        return {
            "bundle": str(other.encoder or bundle) if network else root.name,
            "version": opened.version,
            "layer": result,
            "budget": budget.facts(),
            "device": str(chosen),
            "threads": torch.get_num_threads(),
            "image": "block" if examiner.samples["held_out"][0].volumetric else "slice",
            "slices_per_scan": slices,
            "failed": [fault.data() for fault in failures],
        }

    def measured(rows: list[dict[str, Any]]) -> list[Path]:
        return write_table(output, facts(), rows)

    watch = Watch(session.say, lambda label: progress_bar(session, label), failed, measured)
    session.say(f"{len(variants)} variants, {budget.words()}; {output} keeps what is done")
    rows = run_variants(Trainer(root, settings, budget), examiner, variants, output, watch)
    files = measured(rows)  # once more: the last variant may have failed
    files += draw_table(rows, facts(), budget, output)
    files += draw_side_by_side(rows, variants, examiner, output)
    data = {**facts(), "variants": rows, "files": [str(file) for file in files]}
    return Outcome(data, lambda console: _show(console, rows, budget, files), PARTIAL if failures else 0)


def _show(console: Console, rows: Sequence[Mapping[str, Any]], budget: Budget, files: Sequence[Path]) -> None:
    from medrecon.report.sweep import amount

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
    print_table(
        console,
        columns,
        lines,
        right=columns[1:11],
        spare=("MS-SSIM", "steps", "trained on", "ms/image", "parameters", "train (s)", "perceptual"),
    )
    console.print(f"Equal for all: {budget.words()}. SSIM, MS-SSIM and perceptual distance: held out.")
    console.print("Gap: trained on - held out (dB); other scans are a part of it, so look at how it grows.")
    for file in files:
        console.print(f"  {file}")


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
