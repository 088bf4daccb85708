"""Is a decoder of any subset of the levels as good as one that is trained for a single level?

    python benchmarks/subset_vs_single.py SCANS                       # a quarter of an hour on two cores
    python benchmarks/subset_vs_single.py SCANS --weights bundles/slice_autoencoder/models/model.pt

Without --weights: from the same start, on the same patches, by the bundle's train.yaml, three networks: one
for any subset (`training_results` as configured), one for the single level with as many steps in all, and
one with as many steps as the first spent on that level alone. The second has the easier task by far. With
--weights: the given network; one that goes on from the same weights for some minutes as it was trained; and
two that go on as long with that level alone, one in its decoder, one in encoder and decoder.
Compared is PSNR at that level on scans that none of them saw; aim: within 0.5 dB.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import HELD_OUT, add_scan_options, markdown, parser_for, pick_scans, write_json
from machine import describe
from scoring import control, load, open_network, score
from short_training import psnr_of, results_of, train

from medrecon.bundle.config import Bundle, layers_of


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, print the table, write JSON."""
    parser = parser_for(__doc__ or "", "subset_vs_single")
    add_scan_options(parser, HELD_OUT)
    parser.set_defaults(crop=[192, 192, 64])
    parser.add_argument("--bundle", default="slice_autoencoder")
    parser.add_argument("--level", default="level3")
    parser.add_argument("--steps", type=int, default=250, help="of the network for any subset")
    parser.add_argument("--weights", type=Path, help="compare these with networks that go on from them")
    parser.add_argument("--minutes", type=float, default=5, help="of each fine-tuning, with --weights")
    parser.add_argument("--learning-rate", type=float, help="overrides train.yaml's")
    parser.add_argument("--patch", nargs="+", type=int, help="overrides patch_size")
    parser.add_argument("--batch", type=int, help="overrides batch_size")
    args = parser.parse_args(argv)
    begin = time.perf_counter()
    scans, refused = pick_scans(args.scans, args.held_out, args.hu)
    volumes = [load(scan, args.crop) for scan in scans]
    given = {"learning_rate": args.learning_rate, "patch_size": args.patch, "batch_size": args.batch}
    overrides: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    single = overrides | {"training_results": {args.level: 1}}
    weights = results_of(args.bundle)
    share = weights.get(args.level, 0.0) / sum(weights.values())
    rows: dict[str, list[float]] = {}
    notes: dict[str, str] = {}

    def measure(name: str, network: Any, note: str) -> None:
        rows[name], notes[name] = psnr_of(args.bundle, network, volumes, args.level), note
        print(f"{name}: {statistics.mean(rows[name]):.2f} dB ({note})", flush=True)

    common = (args.bundle, args.scans, args.held_out)
    if args.weights:
        network, _ = open_network(args.bundle, [f"{Path(args.bundle).name}={args.weights}"])
        measure("any subset", network, "the given weights")
        decoder_only = {**single, "optimizer#params": "$@network_def.inversion.parameters()"}
        for name, changes in (
            ("any subset, trained on", overrides),
            (f"{args.level} alone, decoder", decoder_only),
            (f"{args.level} alone, encoder and decoder", single),
        ):
            done = train(*common, changes, seconds=60 * args.minutes, weights=args.weights)
            measure(name, done.network, f"fine-tuned, {done.steps} steps, {done.seconds:.0f} s")
    else:
        plans: dict[str, tuple[dict[str, Any], int]] = {
            "any subset": (overrides, args.steps),
            f"{args.level} alone, same steps": (single, args.steps),
            f"{args.level} alone, same steps of that level": (single, max(1, round(args.steps * share))),
        }
        for name, (changes, steps) in plans.items():
            done = train(*common, changes, steps=steps)
            measure(name, done.network, f"{done.steps} steps, {done.seconds:.0f} s")
    layers = layers_of(Bundle.open(args.bundle))
    linear = [score(v, control(v, layers, args.level)).psnr for v in volumes]
    head = ["scan", "linear control", *rows]
    lines = [
        [volume.name, f"{linear[i]:.2f}", *(f"{values[i]:.2f}" for values in rows.values())]
        for i, volume in enumerate(volumes)
    ]
    means = [statistics.mean(values) for values in (linear, *rows.values())]
    lines.append(["mean", *(f"{value:.2f}" for value in means)])
    print(f"\nPSNR in dB at {args.level}, {Path(args.bundle).name}, middle {args.crop} of each scan:\n")
    print(markdown(head, lines))
    gaps = {}
    for ours in (name for name in rows if name.startswith("any subset")):
        for theirs in (name for name in rows if name.startswith(args.level)):
            differences = [a - b for a, b in zip(rows[ours], rows[theirs], strict=True)]
            gaps[f"{ours} - {theirs}"] = mean = statistics.mean(differences)
            print(f"\n{ours} - {theirs}: {mean:+.2f} dB on average, {min(differences):+.2f} at worst")
    if refused:
        print("\nRefused: " + ", ".join(str(error.path and error.path.name) for error in refused))
    minutes = (time.perf_counter() - begin) / 60
    print(f"\n{minutes:.1f} minutes in all; {notes}")
    content = {
        "machine": describe(),
        "bundle": Path(args.bundle).name,
        "level": args.level,
        "crop": args.crop,
        "overrides": overrides,
        "scans": [volume.name for volume in volumes],
        "linear": linear,
        "psnr": rows,
        "notes": notes,
        "gap_db": gaps,
        "minutes": minutes,
    }
    write_json(args.json, content)


if __name__ == "__main__":
    main()
